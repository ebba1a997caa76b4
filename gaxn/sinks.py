"""A run's directory: with checkpoints, all that is ever written, each file whole or not at all.

Of several processes the first alone writes.
"""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from gaxn import processes
from gaxn.types import InputError, require


def _replace(path: Path, write) -> None:
    """Writes beside `path`, then renames: a reader never sees half a file; a link stays one."""
    if not processes.is_first():
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def writable(path: Path, field: str, kept: Iterable[Path] = ()) -> None:
    """Refuses, before any work, a place where a file cannot be written.

    Args:
        path: of the file.
        field: what named it.
        kept: what must not be written over.

    Raises:
        InputError: it is a directory or a device, lies in no directory, or is kept.
    """
    real = Path(os.path.realpath(path))
    given = str(path) if path != Path() else ""
    require(field, given, not real.exists() or real.is_file(), "the path of a file")
    parents = [parent for parent in real.parents if parent.exists()]
    require(field, given, parents[0].is_dir(), "the path of a file in a directory")
    require(field, given, os.access(parents[0], os.W_OK), "a place that can be written")
    others = {Path(os.path.realpath(other)) for other in kept}
    require(field, given, real not in others, "another path than that of a set")


def _dumped(value: Any, indent: int | None = None) -> str:
    """JSON, with null for what is no finite number: NaN is none that others can read."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def write_json(path: Path, value: Any) -> None:
    """Indented JSON; null for what is no finite number."""
    text = _dumped(value, 2) + "\n"
    _replace(path, lambda temporary: temporary.write_text(text))


def write_bytes(path: Path, content: bytes) -> None:
    """The content as it is."""
    _replace(path, lambda temporary: temporary.write_bytes(content))


def read_json(path: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(path.read_text())


def write_picture(path: Path, picture: np.ndarray) -> None:
    """RGB pixels as PNG."""
    _replace(path, Image.fromarray(picture).save)


def read_picture(path: Path) -> np.ndarray:
    """The RGB pixels of a PNG file, uint8 [height, width, 3]."""
    return np.asarray(Image.open(path).convert("RGB"))


def write_gif(
    path: Path, frames: Sequence[np.ndarray], seconds: float = 6.0, lingers: float = 1.5
) -> None:
    """RGB frames, uint8 [height, width, 3], as an animation of about so many seconds.

    The last frame lingers for some more.
    """
    shown = [Image.fromarray(frame) for frame in frames]
    duration = max(40, int(1000 * seconds / len(shown)))
    durations = [duration] * (len(shown) - 1) + [duration + int(1000 * lingers)]
    _replace(
        path,
        lambda temporary: shown[0].save(
            temporary, save_all=True, append_images=shown[1:], duration=durations, loop=0
        ),
    )


def append(path: Path, record: Mapping[str, Any]) -> None:
    """One line of JSON at the end of a .jsonl file."""
    if processes.is_first():
        with path.open("a") as file:
            file.write(_dumped(record) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a .jsonl file; a last line that a crash cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1]]


def rewind(path: Path, step: int) -> None:
    """Drops the records after `step`, which a resumed run will write again."""
    if path.exists():
        kept = [json.dumps(row) + "\n" for row in read_lines(path) if row["step"] <= step]
        _replace(path, lambda temporary: temporary.write_text("".join(kept)))


def open_run(
    workdir: Path, config: Mapping[str, Any], free: Set[str], record: Mapping[str, Any]
) -> None:
    """Starts or re-opens a run directory.

    Args:
        workdir: the directory; made if it is not there.
        config: the resolved config.
        free: fields, some with all that is in them, that may differ from those of the run
            that is there.
        record: versions, devices and the like, kept beside the config.

    Raises:
        InputError: the directory holds a run of another config, or cannot be written.
    """
    path = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            refuse_another(workdir, config, free)
        processes.meet("config")
        write_json(path, {"config": config, **record})
    except OSError as error:
        raise InputError(
            f"--workdir {workdir} cannot be written ({error.strerror}); name another"
        ) from error


def refuse_another(workdir: Path, config: Mapping[str, Any], free: Set[str]) -> None:
    """Holds a config against that of the run in `workdir`.

    Raises:
        InputError: they differ outside the `free` fields; names the fields and both values.
    """
    path = workdir / "config.json"
    try:
        there = _flat(read_json(path)["config"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is not a run's config; name another --workdir") from None
    here = _flat(json.loads(json.dumps(config)))
    differing = [
        f"{name} ({there.get(name, 'absent')} there, {here.get(name, 'absent')} here)"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name) and free.isdisjoint((name, name.partition(".")[0]))
    ]
    if differing:
        raise InputError(
            f"{workdir} holds a run of another config: {', '.join(differing)}; "
            "name another --workdir"
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        inner = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat


class Progress:
    """A bar on a terminal, with steps a second and the time left; plain lines elsewhere."""

    def __init__(self, first: int, steps: int, batch: int):
        self._steps, self._batch = steps, batch
        self._since = time.perf_counter(), first
        terminal = sys.stderr.isatty()
        self._bar = tqdm(initial=first, total=steps, unit="step", disable=not terminal)

    def update(self, step: int) -> None:
        """Notes that so many steps are done."""
        self._bar.update(step - self._bar.n)

    def log(self, step: int, scalars: Mapping[str, float]) -> float:
        """Shows the scalars; returns images a second since the last call."""
        now = time.perf_counter()
        then, before = self._since
        self._since = now, step
        rate = (step - before) / max(now - then, 1e-9)
        speed = rate * self._batch
        shown = {name: f"{scalars[name]:.3f}" for name in ("d/loss", "g/loss") if name in scalars}
        if self._bar.disable:
            left = (self._steps - step) / max(rate, 1e-9)
            losses = "  ".join(f"{name} {value}" for name, value in shown.items())
            text = f"step {step}/{self._steps}  {losses}  {speed:.0f} images/s  {left:.0f} s left"
            print(text, flush=True)
        else:
            self._bar.set_postfix({**shown, "images/s": f"{speed:.0f}"})
        return speed

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """What goes on inside counts for no speed."""
        started = time.perf_counter()
        yield
        then, before = self._since
        self._since = then + time.perf_counter() - started, before

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()
