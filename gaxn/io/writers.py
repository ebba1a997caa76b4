"""Writers: where a run's scalars and pictures go while it trains.

`JsonLines` is metrics.jsonl, which every run has. The functions here are the further writers that
`config.run.writers` names; one from elsewhere is a function, or a class derived from `Writer`, with
the same three arguments:

    workdir: the directory of the run.
    name: of the run.
    step: the last step that stays; what was written of later ones is written again. -1 for none.
"""

import importlib.util
import json
import logging
import os
import struct
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from flax.traverse_util import flatten_dict

from gaxn.io import files, run_directory
from gaxn.io.plots import Picture
from gaxn.types import InputError

log = logging.getLogger(__name__)


class Writer:
    """A place for scalars and pictures; a method that a derived class lacks does nothing.

    Steps never decrease. Several calls may be of one step.
    """

    def config(self, values: Mapping[str, Any]) -> None:
        """Writes the config of the run, ready for JSON."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars of a step."""

    def picture(self, step: int, name: str, pixels: Picture) -> None:
        """Writes a picture of a step."""

    def close(self) -> None:
        """Writes what has not been written, and ends."""


Maker = Callable[[Path, str, int], Writer]


class JsonLines(Writer):
    """A .jsonl file with a record of scalars per line.

    Args:
        path: of the file.
        step: the last step that stays.
    """

    def __init__(self, path: Path, step: int):
        run_directory.rewind(path, step)
        self._path = path

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        files.append_line(self._path, {"step": step, **values})


class Writers(Writer):
    """Optional writers as one; a writer that fails is switched off, with one warning.

    As a context it closes them at the end.

    Args:
        makers: functions that make the writers, by name.
        workdir: the directory of the run.
        name: of the run.
    """

    def __init__(self, makers: Mapping[str, Maker], workdir: Path, name: str):
        self._makers, self._workdir, self._name = makers, workdir, name
        self._open: dict[str, Writer] = {}

    def __enter__(self) -> "Writers":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def open(self, step: int, config: Mapping[str, Any]) -> None:
        """Opens the writers.

        Args:
            step: the last step that was done; 0 for a new run.
            config: of the run.

        Raises:
            InputError: a package is missing, or a writer cannot be opened. The latter is only a
                warning if the run goes on, since nobody may be there to mend it.
        """
        for name, make in self._makers.items():
            try:
                # A new run writes step 0 too.
                self._open[name] = make(self._workdir, self._name, step or -1)
            except InputError:
                raise
            except Exception as error:
                if not step:
                    raise InputError(
                        f"config.run.writers: {name} cannot be opened ({_describe(error)})"
                    ) from error
                _warn(name, error)
        self.config(config)

    def config(self, values: Mapping[str, Any]) -> None:
        self._call_each(lambda writer: writer.config(values))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._call_each(lambda writer: writer.scalars(step, values))

    def picture(self, step: int, name: str, pixels: Picture) -> None:
        self._call_each(lambda writer: writer.picture(step, name, pixels))

    def close(self) -> None:
        self._call_each(lambda writer: writer.close())
        self._open = {}

    def _call_each(self, call: Callable[[Writer], None]) -> None:
        for name, writer in list(self._open.items()):
            try:
                call(writer)
            except Exception as error:  # noqa: BLE001
                _warn(name, error)
                del self._open[name]


NO_WRITERS = Writers({}, Path(), "")


def _warn(name: str, error: Exception) -> None:
    log.warning("warning: the writer %s is switched off (%s)", name, _describe(error))


def _describe(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def tensorboard(workdir: Path, name: str, step: int) -> Writer:
    """Writes event files for TensorBoard into WORKDIR/tensorboard, by tensorboardX."""
    return _TensorBoard(workdir / "tensorboard", step)


def wandb(workdir: Path, name: str, step: int) -> Writer:
    """Writes a run of Weights & Biases; its environment variables, such as WANDB_MODE, rule."""
    return _WeightsAndBiases(workdir, name)


class _TensorBoard(Writer):
    """Event files in a folder, a new one at every start; each step is in one of them.

    tensorboardX's SummaryWriter would write in a thread, and wait for it forever if the disk is
    full; its parts write at once, or raise the error here.
    """

    def __init__(self, folder: Path, step: int):
        self._events = _import("tensorboardX.proto.event_pb2")
        self._summary = _import("tensorboardX.summary")
        writer = _import("tensorboardX.event_file_writer")
        folder.mkdir(parents=True, exist_ok=True)
        _rewind_events(folder, step, self._events.Event.FromString)
        # The name has also the time in seconds, in which another start may have been.
        self._file = writer.EventsWriter(str(folder / "events"), f".{step + 1:08d}.gaxn")

    def config(self, values: Mapping[str, Any]) -> None:
        lines = json.dumps(values, indent=2).splitlines()
        # Four spaces make a block of code.
        self._write(0, self._summary.text(_CONFIG_TAG, "".join(f"    {line}\n" for line in lines)))
        fields = flatten_dict(values, is_leaf=lambda _, leaf: not leaf, sep=".")
        plain = {k: v if isinstance(v, str | int | float) else str(v) for k, v in fields.items()}
        # Without a list of hyperparameters and metrics TensorBoard takes those of all runs.
        _, start, _ = self._summary.hparams(plain, {})
        self._write(0, start)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        summaries = [self._summary.scalar(name, value) for name, value in values.items()]
        self._write(step, *summaries)

    def picture(self, step: int, name: str, pixels: Picture) -> None:
        self._write(step, self._summary.image(name, pixels, dataformats="HWC"))

    def close(self) -> None:
        self._file.close()

    def _write(self, step: int, *summaries: Any) -> None:
        event = self._events.Event(step=step, wall_time=time.time())
        for summary in summaries:
            event.summary.value.extend(summary.value)
        self._file.write_event(event)
        self._file.flush()


_CONFIG_TAG = "config"


def _rewind_events(folder: Path, step: int, parse: Callable[[bytes], Any]) -> None:
    """Drops events after a step, and those of the config, which every start writes again."""
    files.remove_temporaries(folder)
    for path in folder.glob("*.tfevents.*"):
        content, records = path.read_bytes(), []
        for record in _split_records(content):
            event = parse(record[12:-4])
            tags = {value.tag.partition("/")[0] for value in event.summary.value}
            if event.step <= step and tags.isdisjoint((_CONFIG_TAG, "_hparams_")):
                records.append(record)
        valid = b"".join(records)
        if not valid:
            path.unlink()
        elif valid != content:
            files.write_bytes(path, valid)


def _split_records(content: bytes) -> Iterator[bytes]:
    """Splits a TFRecord file into its records, but for a last one that a crash cut short.

    A record is the length of its data (8 bytes), a checksum (4), the data, and a checksum (4).
    """
    start = 0
    while start + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        end = start + 12 + length + 4
        if end > len(content):
            return
        yield content[start:end]
        start = end


class _WeightsAndBiases(Writer):
    """A run of Weights & Biases, the same one at every start.

    Its steps cannot be written again. So a resumed run, which repeats the same trajectory, leaves
    out those that were written before: by wandb's server, or, offline, by gaxn.json.
    """

    def __init__(self, workdir: Path, name: str):
        self._package = _import("wandb")
        self._path = workdir / "wandb" / "gaxn.json"
        record = files.read_json(self._path) if self._path.exists() else {}
        self._id = record.get("id") or uuid.uuid4().hex[:8]
        self._store(record.get("step", -1))
        self._run = self._package.init(
            project=os.environ.get("WANDB_PROJECT", "gaxn"),
            name=name,
            id=self._id,
            resume="allow",
            dir=str(workdir),
        )
        self._written = record.get("step", -1)
        if not self._run.offline:
            self._written = self._run.starting_step - 1
        self._last = self._written

    def config(self, values: Mapping[str, Any]) -> None:
        self._run.config.update(values, allow_val_change=True)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._log(step, values)

    def picture(self, step: int, name: str, pixels: Picture) -> None:
        self._log(step, {name: self._package.Image(pixels)})

    def close(self) -> None:
        self._store(self._last)
        self._run.finish()

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        if step <= self._written:
            return
        if step > self._last:
            # The first call of a step ends the one before.
            self._store(self._last)
            self._last = step
        self._run.log(values, step=step)

    def _store(self, step: int) -> None:
        files.write_json(self._path, {"id": self._id, "step": step})


def _import(module: str) -> ModuleType:
    """Imports a module of an optional package.

    Raises:
        InputError: the package is not installed.
    """
    package = module.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise InputError(f"config.run.writers needs the package {package}: pip install {package}")
    return importlib.import_module(module)
