"""Measures whether training waits for its images: every kind of source against a step's time.

    python -m benchmarks.input [--configs NAME ...] [--kinds KIND ...] [--step_ms MS ...] [--real]
        [--files 1000] [--side 256] [--seconds 5] [--rounds 3] [--json FILE]

The images are made first, in a temporary folder: `--files` pictures of `--side` x `--side` pixels
in three classes, smooth with a little noise, as JPEG of quality 90, PNG and .npz. They are still in
the memory of the system, so a slow disk is not measured. KIND is

    shapes               drawn on the device;
    idx                  MNIST in `GAXN_DATA`, a table on the device; for configs of MNIST, and
                         left out without the files;
    npz                  a table on the device, as a .npz always is: it has no `resident_bytes`;
    folder               JPEGs that are decoded once, a table on the device;
    jpeg, png, zip       pictures that are read during training (`resident_bytes=0`), by threads of
                         the process; zip has JPEGs in a .zip;
    jpeg_2, png_2, zip_2 the same by two worker processes;
    jpeg_flip, npz_flip  the same mirrored at random; not for a config of two domains, in which
                         each domain has the same pictures.

A row is a config and a kind, with the size, batch and updates of the config:

    images/s  through `gaxn.data.pipeline.make_batches`, if nothing else is done;
    ms        of one core to read a picture; a dash for a table;
    step ms   of the config, by `--step_ms` (one for each of `--configs`) or by the table below,
              which names the machine;
    needs/s   images that the step takes a second;
    cores     that read as many;
    waits     the share of the time in which the devices would wait, were a step to take its time
              and do nothing else; it must be below 3%, else the row ends in "above".

As in training, the host gets the batches of the next step while a step runs, and is at most one
step ahead. So the devices wait if the batches come late, and while they place the batches, or look
them up in a table. The step itself is a pause here: it leaves all cores to the input, as a step of
an accelerator does. What the devices do is true only if the step is theirs.

With `--real` the compiled step runs instead, on these devices: rounds with the batches of each step
alternate with rounds on one batch, and the share is that of the time that one batch saves. On a CPU
the threads of the input then share the cores with the step.
"""

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from benchmarks import record
from benchmarks.timing import alternate
from gaxn import config as configs
from gaxn.data import Source, Unpaired, idx
from gaxn.distributed import sharding
from gaxn.experiment import Experiment, make_experiment
from gaxn.experiment.settings import defaults_of
from gaxn.io import compilation_cache
from gaxn.types import Batch

CONFIGS = Path(__file__).parents[1] / "configs"

TARGET = 0.03
"""Largest share of a step that may be spent waiting."""

CLASSES = ("a", "b", "c")
WARM_UP = 20
"""Steps that do not count: more than the input pipeline prepares ahead."""

MIN_STEPS = 40
READ = 64
"""Pictures by which the time of reading one is measured."""

HEADER = (
    f"{'config':20} {'kind':9} {'images/s':>9} {'ms':>6}"
    f" {'step ms':>8} {'needs/s':>8} {'cores':>6} {'waits':>7}"
)


class StepTime(NamedTuple):
    """The time of a config's step on some machine.

    Attributes:
        milliseconds: of one step.
        machine: on which it was measured.
    """

    milliseconds: float
    machine: str


STEP_TIMES = {
    "attn_cgan_shapes": StepTime(106, "2 CPU cores, docs/results.md"),
    "dcgan_mnist": StepTime(65, "one CPU core, benchmarks/results/times.json"),
    "attn_cyclegan_shapes": StepTime(296, "2 CPU cores, 27 images of 8 a second, its config"),
    "sagan_folder": StepTime(5, "one H100, 20,000 steps in 100 s, its config"),
}
"""By the name of a file in configs/."""

PLACES = {"folder": "jpeg", "jpeg": "jpeg", "png": "png", "zip": "jpeg.zip"}
"""By kind, the folder or file with the pictures."""

WORKERS = {"": 0, "flip": 0, "2": 2}
"""Processes, by the ending of a kind."""

KINDS = (
    *("shapes", "idx", "npz", "npz_flip", "folder"),
    *("jpeg", "jpeg_2", "jpeg_flip", "png", "png_2", "zip", "zip_2"),
)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=list(STEP_TIMES), help="with a variant")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--step_ms", type=float, nargs="+", help="of each config")
    parser.add_argument("--real", action="store_true", help="run the compiled steps")
    parser.add_argument("--files", type=int, default=1_000, help="pictures")
    parser.add_argument("--side", type=int, default=256, help="of a picture, in pixels")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of each real step")
    parser.add_argument("--json", help="path of the file of results")
    options = parser.parse_args(argv[1:])
    times = step_times(options.configs, options.step_ms)
    fields = {name: load_config(name) for name in options.configs}
    sharding.use_cores_for(fields[options.configs[0]])
    compilation_cache.enable()
    print(f"{len(jax.devices())} devices: {jax.devices()[0].device_kind}")
    print(HEADER, flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), options.files, options.side)
        for name, config in fields.items():
            for kind in options.kinds:
                data = make_data(config, kind, Path(folder))
                if data is not None:
                    experiment = open_experiment(config, data, name)
                    rows.append(measure(experiment, kind, times[name], options))
                    print(describe(rows[-1]), flush=True)
    if options.json:
        facts = record.record("gaxn", "grain", "pillow")
        sizes = {"files": options.files, "side": options.side, "real": options.real}
        record.write(options.json, {"record": facts, **sizes, "rows": rows})
    return 0


def step_times(
    names: Sequence[str], milliseconds: Sequence[float] | None
) -> dict[str, StepTime | None]:
    """Returns the time of each config's step, given or from the table; None if it is in neither.

    Raises:
        SystemExit: the numbers of configs and times differ.
    """
    if milliseconds is None:
        return {name: STEP_TIMES.get(name) for name in names}
    if len(milliseconds) != len(names):
        raise SystemExit(f"--step_ms must have {len(names)} times, got {len(milliseconds)}")
    return {name: StepTime(ms, "given") for name, ms in zip(names, milliseconds, strict=True)}


def load_config(name: str) -> ConfigDict:
    """Returns a config of the folder configs/, by its file's name and its variant."""
    file, _, variant = name.partition(":")
    return configs.parse(["input", f"--config={CONFIGS / file}.py:{variant}"], defaults_of).config


def make_files(folder: Path, count: int, side: int) -> None:
    """Writes pictures as JPEG and as PNG, a folder for each class, and the JPEGs in a .zip."""
    random = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        noisy = smooth + 5 * random.standard_normal(smooth.shape, np.float32)
        picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        for ending, quality in (("jpeg", {"quality": 90}), ("png", {})):
            path = folder / ending / CLASSES[index % len(CLASSES)] / f"{index}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, **quality)
    with zipfile.ZipFile(folder / "jpeg.zip", "w") as archive:
        for path in sorted((folder / "jpeg").rglob("*.jpeg")):
            archive.write(path, path.relative_to(folder / "jpeg"))


def make_data(config: ConfigDict, kind: str, folder: Path) -> dict[str, Any] | None:
    """Returns `config.data` of a kind at the size of the config's images; None if it has none."""
    data = config.data.to_dict()
    name, _, ending = kind.partition("_")
    if name == "idx":
        has_files = "GAXN_DATA" in os.environ
        return data if data["name"] == "idx" and has_files else None
    is_pair = data["name"] == "unpaired"
    if is_pair and ending == "flip":
        return None
    size = data.get("size", idx.SIDE)
    flip = {"flip": True} if ending == "flip" else {}
    if name == "shapes":
        spec = {"name": "shapes", "size": size}
    elif name == "npz":
        spec = {"name": "npz", "path": write_npz(folder, size), **flip}
    else:
        streams = {} if name == "folder" else {"resident_bytes": 0, "workers": WORKERS[ending]}
        spec = {
            "name": "folder",
            "path": str(folder / PLACES[name]),
            "size": size,
            **streams,
            **flip,
        }
    if not is_pair:
        return spec
    return {"name": "unpaired", "a": spec, "b": spec, "size": size, "enlarge": 1.0}


def write_npz(folder: Path, size: int) -> str:
    """Writes the JPEGs at one size, with their classes, unless it is done; returns the path."""
    path = folder / f"{size}.npz"
    if not path.exists():
        files = sorted((folder / "jpeg").rglob("*.jpeg"))
        images = [np.asarray(Image.open(file).resize((size, size))) for file in files]
        labels = [CLASSES.index(file.parent.name) for file in files]
        np.savez(path, images=np.stack(images), labels=np.array(labels))
    return str(path)


def open_experiment(config: ConfigDict, data: Mapping[str, Any], name: str) -> Experiment:
    """Returns the experiment of a config with other data."""
    config = ConfigDict({**config.to_dict(), "data": data})
    with contextlib.redirect_stdout(io.StringIO()):
        return make_experiment(config, name)


def measure(
    experiment: Experiment, kind: str, step_time: StepTime | None, options: argparse.Namespace
) -> dict[str, Any]:
    """Returns a row, ready for JSON."""
    images = images_per_step(experiment)
    speed = measure_speed(experiment, options.seconds)
    read_ms = measure_read(experiment.train_source)
    if options.real:
        milliseconds, share = measure_real(experiment, options.seconds, options.rounds)
        machine = "this one"
    else:
        if step_time is None:
            raise SystemExit(f"the time of a step of {experiment.name} must be given by --step_ms")
        milliseconds, machine = step_time
        total, waiting = time_steps(experiment.batches, milliseconds / 1e3, options.seconds)
        share = waiting / total
    needs = images / milliseconds * 1e3
    return {
        "config": experiment.name,
        "kind": kind,
        "batch_size": experiment.settings.batch_size,
        "updates": len(experiment.updates),
        "image_shape": list(experiment.train_source.image_shape),
        "images_per_second": speed,
        "read_ms": read_ms,
        "step_ms": milliseconds,
        "step_machine": machine,
        "needed_per_second": needs,
        "needed_cores": None if read_ms is None else needs * read_ms / 1e3,
        "waiting_share": share,
    }


def images_per_step(experiment: Experiment) -> int:
    """Returns the images of all updates of a step; an example of two domains has two."""
    domains = 2 if isinstance(experiment.train_source, Unpaired) else 1
    return len(experiment.updates) * experiment.settings.batch_size * domains


def measure_speed(experiment: Experiment, seconds: float) -> float:
    """Returns the images a second of a loop that does nothing but get batches."""
    total, _ = time_steps(experiment.batches, 0.0, seconds)
    return images_per_step(experiment) / total


def time_steps(batches: Callable[[int], Batch], step: float, seconds: float) -> tuple[float, float]:
    """Returns the mean seconds of a step, and those in which the devices wait.

    Args:
        batches: step -> its batches.
        step: seconds for which a step keeps the devices busy.
        seconds: of the measurement, about; at least `MIN_STEPS` steps.
    """
    for number in range(WARM_UP):
        jax.block_until_ready(batches(number))
    # The last step of the warm-up runs.
    first = free = time.perf_counter() + step
    waiting, done = 0.0, 0
    while done < MIN_STEPS or free - first < seconds:
        placed = batches(WARM_UP + done)
        returned = time.perf_counter()
        jax.block_until_ready(placed)
        on_devices = time.perf_counter() - returned
        # Until then the step before keeps the devices busy.
        start = max(returned, free)
        waiting += start - free + on_devices
        free = start + on_devices + step
        time.sleep(max(0.0, start - time.perf_counter()))
        done += 1
    return (free - first) / done, waiting / done


def measure_read(source: Source) -> float | None:
    """Returns milliseconds of one core to read a picture; None of a table."""
    source = source.domains[0] if isinstance(source, Unpaired) else source
    if source.table is not None:
        return None
    indices = np.arange(min(READ, len(source)))
    source.read(indices)
    # Time of this thread on a core, which other programs do not lengthen much.
    started = time.thread_time()
    source.read(indices)
    return (time.thread_time() - started) * 1e3 / len(indices)


def measure_real(experiment: Experiment, seconds: float, rounds: int) -> tuple[float, float]:
    """Returns milliseconds of a step on one batch, and the share that batches of each step add."""
    parallelism = experiment.parallelism
    state = parallelism.place(jax.device_get(experiment.create_state(experiment.key)))
    key = parallelism.place_key(experiment.key)
    one_batch = experiment.batches(0)
    done = 0

    def run(calls: int, batches: Callable[[int], Batch]) -> None:
        nonlocal state, done
        for _ in range(calls):
            state, _ = experiment.compiled_step(state, batches(done), key)
            done += 1
        jax.block_until_ready(state)

    def on_one_batch(calls: int) -> None:
        run(calls, lambda _: one_batch)

    def on_new_batches(calls: int) -> None:
        run(calls, experiment.batches)

    on_one_batch(2)
    started = time.perf_counter()
    on_one_batch(5)
    step = (time.perf_counter() - started) / 5
    calls = max(MIN_STEPS, int(seconds / step))
    times = alternate({"one": on_one_batch, "new": on_new_batches}, rounds, calls)
    one, new = (statistics.median(values) for values in times.values())
    return one, 1 - one / new


def describe(row: Mapping[str, Any]) -> str:
    """Returns a row as it is printed."""
    read = "-" if row["read_ms"] is None else f"{row['read_ms']:.2f}"
    cores = "-" if row["needed_cores"] is None else f"{row['needed_cores']:.1f}"
    verdict = "" if row["waiting_share"] < TARGET else "  above"
    return (
        f"{row['config']:20} {row['kind']:9} {row['images_per_second']:9,.0f} {read:>6}"
        f" {row['step_ms']:8.1f} {row['needed_per_second']:8,.0f} {cores:>6}"
        f" {row['waiting_share']:7.1%}{verdict}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv))
