"""The directory of a run: its config.json, and the logs that a resumed run continues."""

import contextlib
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict

from gaxn.distributed import multihost
from gaxn.io import files, shipped
from gaxn.types import InputError

log = logging.getLogger(__name__)

SHAPE_FIELDS = {"image_shape", "classes"}
"""Parts of a description of data on which the shapes of networks depend."""

MOST_SHOWN = 200
"""Characters of a value in a message."""

FORMAT = 3
"""Version of what a run directory holds: a change that older code cannot read raises it."""


@contextlib.contextmanager
def open_run(
    workdir: Path,
    config: Mapping[str, Any],
    free: Set[str],
    record: Mapping[str, Any],
    accepts_new_data: bool = False,
    defaults: Mapping[str, Any] = {},
) -> Iterator[None]:
    """Returns a context in which this process alone trains in a run directory, new or not.

    Args:
        workdir: the directory; made if it does not exist.
        config: the resolved config.
        free: names of fields, or of groups of fields, that may differ from the run's config.
        record: versions, devices and the like, stored beside the config; its "data" describes
            the data.
        accepts_new_data: whether the run goes on with other data of the same shapes.
        defaults: as for `check_same_config`.

    Raises:
        InputError: the directory holds a run of another config, format or data, another process
            trains there, or it cannot be written.
    """
    path = workdir / "config.json"
    with _name_workdir(workdir), contextlib.ExitStack() as stack:
        if path.exists():
            check_same_config(workdir, config, free, defaults)
            check_same_data(workdir, record.get("data"), accepts_new_data)
        workdir.mkdir(parents=True, exist_ok=True)
        if multihost.is_first():
            stack.enter_context(_lock(workdir))
            files.remove_temporaries(workdir)
        multihost.barrier("config")
        files.write_json(path, {"format": FORMAT, "config": config, **record})
        lock = stack.pop_all()
    with lock:
        yield


@contextlib.contextmanager
def _lock(workdir: Path) -> Iterator[None]:
    """Locks a directory by the system's lock, which ends with the process, however that ends."""
    with (workdir / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(
                f"--workdir {workdir} is in use: {file.read().strip() or 'another process'} trains "
                "there; wait for its end, or name another"
            ) from None
        except OSError as error:
            log.warning("warning: %s cannot be locked (%s)", workdir, error.strerror)
        file.truncate(0)
        file.write(f"process {os.getpid()} of {platform.node()}")
        file.flush()
        yield


@contextlib.contextmanager
def _name_workdir(workdir: Path) -> Iterator[None]:
    """Turns errors of the operating system into one line that names the directory."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"--workdir {workdir} cannot be written ({error.strerror}); name another"
        ) from error


def read_run_record(workdir: Path) -> dict[str, Any]:
    """Returns the content of config.json: "config", "format" and the record of `open_run`.

    Args:
        workdir: the directory, or the name of a run that the package ships.

    Raises:
        InputError: there is no run, config.json is damaged, or it is of another format.
    """
    path = workdir / "config.json"
    try:
        record = (
            shipped.read_card(str(workdir))
            if shipped.is_shipped(workdir)
            else (files.read_json(path))
        )
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{workdir} holds no run; train one first (runs that are shipped, to generate or "
            f"export: {', '.join(shipped.names())})"
        ) from None
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise InputError(f"{path} is not the config of a run; name another --workdir")
    if record.get("format") != FORMAT:
        versions = record.get("versions")
        version = versions.get("gaxn") if isinstance(versions, dict) else None
        raise InputError(
            f"{workdir} was written in format {record.get('format', 1)}"
            f"{f' of gaxn {version}' if version else ''}; "
            f"this is gaxn {importlib.metadata.version('gaxn')}, which reads format {FORMAT}; "
            "use the version that wrote it, or another --workdir"
        )
    return record


def check_same_data(
    workdir: Path, data: Mapping[str, Any] | None, accepts_new_data: bool = False
) -> None:
    """Compares data with those that the run in `workdir` was trained on.

    Args:
        workdir: the directory.
        data: description of the data, ready for JSON; None for no data.
        accepts_new_data: whether other examples of the same shapes and classes are accepted.

    Raises:
        InputError: they differ; the message names what was and what is.
    """
    before = read_run_record(workdir).get("data")
    if before is None or data is None:
        return
    now = json.loads(json.dumps(data))
    # An older record may lack a part.
    common = [name for name in now if name in before]
    changed = {name: (before[name], now[name]) for name in common if before[name] != now[name]}
    has_same_shapes = not changed.keys() & SHAPE_FIELDS
    if not changed or (has_same_shapes and accepts_new_data):
        return
    texts = (
        f"{name} was {_shorten(was)}, is {_shorten(new)}" for name, (was, new) in changed.items()
    )
    remedy = "; --config.run.accept_new_data=True goes on with them" if has_same_shapes else ""
    raise InputError(
        f"--workdir {workdir} was trained on other data: {'; '.join(texts)}; name another "
        f"directory{remedy}"
    )


def _shorten(value: Any) -> str:
    """Returns the start of a value's text; the captions of a test split are thousands."""
    text = str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]} ..."


def check_same_config(
    workdir: Path, config: Mapping[str, Any], free: Set[str], defaults: Mapping[str, Any] = {}
) -> None:
    """Compares a config with that of the run in `workdir`.

    Args:
        workdir: the directory.
        config: the resolved config.
        free: names of fields, or of groups of fields, that may differ.
        defaults: of fields that an older version, in which the run was begun, did not have.

    Raises:
        InputError: they differ outside the `free` fields (the message names the fields and both
            values), or there is no such run.
    """
    old, new = (
        flatten_dict(tree, is_leaf=lambda path, leaf: path and not leaf, sep=".")
        for tree in (read_run_record(workdir)["config"], json.loads(json.dumps(config)))
    )
    optional = flatten_dict(
        json.loads(json.dumps(defaults)), is_leaf=lambda path, leaf: path and not leaf, sep="."
    )
    # A dict that had fields has no default beside them.
    groups = {name.partition(".")[0] for name in old if "." in name}
    old = {name: value for name, value in optional.items() if name not in groups} | old
    differences = [
        f"{name} ({old.get(name, 'absent')} there, {new.get(name, 'absent')} here)"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and free.isdisjoint((name, name.partition(".")[0]))
    ]
    if differences:
        raise InputError(
            f"{workdir} holds a run of another config: {', '.join(differences)}; "
            "name another --workdir"
        )


def rewind(path: Path, step: int) -> None:
    """Drops the records of a .jsonl file after `step`, which a resumed run will write again."""
    if path.exists():
        files.write_lines(path, [row for row in files.read_lines(path) if row["step"] <= step])
