"""The directory of a run: its config.json, and the logs that a resumed run continues."""

import importlib.metadata
import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict

from gaxn.distributed import multihost
from gaxn.io import files
from gaxn.types import InputError

FORMAT = 3
"""Version of what a run directory holds: a change that older code cannot read raises it."""


def open_run(
    workdir: Path, config: Mapping[str, Any], free: Set[str], record: Mapping[str, Any]
) -> None:
    """Starts or re-opens a run directory.

    Args:
        workdir: the directory; made if it does not exist.
        config: the resolved config.
        free: names of fields, or of groups of fields, that may differ from the run's config.
        record: versions, devices and the like, stored beside the config.

    Raises:
        InputError: the directory holds a run of another config or format, or cannot be written.
    """
    path = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            check_same_config(workdir, config, free)
            files.remove_temporaries(workdir)
        multihost.barrier("config")
        files.write_json(path, {"format": FORMAT, "config": config, **record})
    except OSError as error:
        raise InputError(
            f"--workdir {workdir} cannot be written ({error.strerror}); name another"
        ) from error


def read_run_record(workdir: Path) -> dict[str, Any]:
    """Returns the content of config.json: "config", "format" and the record of `open_run`.

    Raises:
        InputError: there is no run, config.json is damaged, or it is of another format.
    """
    path = workdir / "config.json"
    try:
        record = files.read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{workdir} holds no run; train one first") from None
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


def check_same_config(workdir: Path, config: Mapping[str, Any], free: Set[str]) -> None:
    """Compares a config with that of the run in `workdir`.

    Raises:
        InputError: they differ outside the `free` fields (the message names the fields and both
            values), or there is no such run.
    """
    old, new = (
        flatten_dict(tree, is_leaf=lambda path, leaf: path and not leaf, sep=".")
        for tree in (read_run_record(workdir)["config"], json.loads(json.dumps(config)))
    )
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
