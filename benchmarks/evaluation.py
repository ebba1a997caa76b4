"""Compares gaxn's evaluation with torch-fidelity's: the same images, features and figures.

    python -m benchmarks.evaluation [--images 1000] [--features 10000] [--width 2048]
        [--metrics frechet kid prdc] [--rounds 3] [--json FILE]

**Inception.** `--images` images of noise, 64x64, through the network of both sides with the same
random weights, in float32, resized by the rule of TensorFlow 1. gaxn works as in an evaluation: in
batches of 200 that are split over all devices. torch-fidelity works by its loop and its defaults:
batches of 64, on one device. Compiling, and a first batch of each side, do not count. The script
stops if the features differ by more than a thousandth of their root mean square.

**Metrics.** Each of `--features` is a number of feature vectors of length `--width` in both sets,
which come in blocks of 8,000; making them does not count. A row is a figure:

    frechet             the Frechet distance alone;
    frechet_with_error  also its standard error, from ten more distances, as gaxn's evaluations
                        have it and torch-fidelity does not;
    kid                 the mean over 100 subsets of 1,000, drawn by the same generator and seed on
                        both sides, so that the figures are equal, not only within their errors;
    kid_with_all_pairs  also the unbiased estimate and its standard error, which torch-fidelity does
                        not have;
    prdc                precision, recall, density and coverage. torch-fidelity has the first two;
                        above 20,000 features with `save_cpu_ram`, without which it needs 16 bytes a
                        pair. The package prdc, by the authors of the last two, has them in plain
                        NumPy with three matrices of all distances, and computes two further
                        figures: no fast opponent, but what others measure with. It is left out
                        above 20,000 features.

gaxn computes figures in float64, torch-fidelity all but the Frechet distance in float32. The script
stops if two figures differ by more than a thousandth.

Each round measures each side in a new process, so that its peak memory, libraries and inputs
included, is its own. Ratios are theirs over ours, of the medians of the seconds, of those that all
cores together work, and of the largest peaks: above 1 where gaxn is faster or smaller. On a busy
machine only the second and the third mean something. `--json` writes all of it, with the machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import record
from benchmarks.evaluation_sides import WEIGHTS, Size

TOLERANCE = 1e-3


class Row(NamedTuple):
    """Figures of gaxn, and the other side that has some of them.

    Attributes:
        metric: name of gaxn's measurement.
        side: module of the other side.
        other_metric: name of its measurement.
        most: features above which the other side is left out; None for any number.
    """

    metric: str
    side: str
    other_metric: str
    most: int | None = None


ROWS = {
    "frechet": (
        Row("frechet", "torch_fidelity", "frechet"),
        Row("frechet_with_error", "torch_fidelity", "frechet"),
    ),
    "kid": (
        Row("kid", "torch_fidelity", "kid"),
        Row("kid_with_all_pairs", "torch_fidelity", "kid"),
    ),
    "prdc": (Row("prdc", "torch_fidelity", "prc"), Row("prdc", "prdc", "prdc", most=20_000)),
}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000, help="images; 0 for no Inception")
    parser.add_argument("--features", type=int, nargs="*", default=[10_000], help="per set")
    parser.add_argument("--width", type=int, default=2048, help="length of a feature vector")
    parser.add_argument("--metrics", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=3, help="processes of each measurement")
    parser.add_argument("--json", help="path of the file of results")
    options = parser.parse_args(argv[1:])
    result: dict[str, Any] = {"rounds": options.rounds}
    if options.images:
        result["inception"] = compare_inception(options.images, options.rounds)
    result["metrics"] = [
        row
        for count in options.features
        for metric in options.metrics
        for row in compare_metric(ROWS[metric], Size(count, options.width), options.rounds)
    ]
    if options.json:
        versions = record.record("gaxn", "torch-fidelity", "prdc", "scikit-learn")
        record.write(options.json, {"record": versions, **result})
    return 0


def compare_inception(count: int, rounds: int) -> dict[str, Any]:
    """Prints images per second of both sides; returns what was measured."""
    sides = "gaxn", "torch_fidelity"
    runs: dict[str, list] = {side: [] for side in sides}
    features = {}
    with tempfile.TemporaryDirectory() as folder:
        run_side("gaxn", "weights", Path(folder) / WEIGHTS)
        for _ in range(rounds):
            for side in sides:
                runs[side].append(measure(side, "inception", count, folder))
                features[side] = np.load(Path(folder) / "features.npy")
    ours, theirs = features.values()
    difference = float(np.abs(ours - theirs).max() / np.sqrt(np.mean(np.square(ours))))
    if not difference <= TOLERANCE:
        raise SystemExit(f"the features differ by {difference:.1e} of their root mean square")
    speeds = {side: count / seconds(runs[side]) for side in sides}
    ratio = speeds["gaxn"] / speeds["torch_fidelity"]
    cells = (f"{side} {speed:,.1f} images/s" for side, speed in speeds.items())
    print(f"inception, {count:,} images: {', '.join(cells)}; ratio {ratio:.2f}", flush=True)
    print(f"largest difference of features: {difference:.1e} of their root mean square", flush=True)
    return {
        "images": count,
        "runs": runs,
        "images_per_second": speeds,
        "ratio": ratio,
        "largest_difference": difference,
    }


def compare_metric(rows: Sequence[Row], size: Size, rounds: int) -> list[dict[str, Any]]:
    """Prints a line for each row that this number of features allows; returns the rows."""
    rows = [row for row in rows if row.most is None or size.count <= row.most]
    ours = [("gaxn", row.metric) for row in rows]
    theirs = [(row.side, row.other_metric) for row in rows]
    runs: dict[tuple[str, str], list] = {key: [] for key in (*ours, *theirs)}
    for _ in range(rounds):
        for side, metric in runs:
            runs[side, metric].append(measure(side, metric, *size))
    return [
        compare_runs(row, size, runs[our], runs[their])
        for row, our, their in zip(rows, ours, theirs, strict=True)
    ]


def compare_runs(
    row: Row, size: Size, ours: Sequence[Mapping], theirs: Sequence[Mapping]
) -> dict[str, Any]:
    """Prints and returns one row: the time, the memory and the common figures of two sides."""
    figures = ours[0]["figures"]
    for name, value in theirs[0]["figures"].items():
        if not abs(figures[name] - value) <= TOLERANCE * abs(value):
            raise SystemExit(f"{name} differs: {figures[name]} of gaxn, {value} of {row.side}")
    sides = ours, theirs
    times, peaks = ([function(runs) for runs in sides] for function in (seconds, peak))
    work = [statistics.median(run["core_seconds"] for run in runs) for runs in sides]
    result = {
        "metric": row.metric,
        "features": size.count,
        "width": size.width,
        "side": row.side,
        "figures": figures,
        "seconds": dict(zip(("gaxn", row.side), times, strict=True)),
        "peak_bytes": dict(zip(("gaxn", row.side), peaks, strict=True)),
        "time_ratio": times[1] / times[0],
        "work_ratio": work[1] / work[0],
        "memory_ratio": peaks[1] / peaks[0],
        "runs": {"gaxn": ours, row.side: theirs},
    }
    print(
        f"{row.metric:18} {size.count:7,}"
        f"  gaxn {times[0]:8.2f} s {peaks[0] / 2**20:7,.0f} MiB"
        f"  {row.side:14} {times[1]:8.2f} s {peaks[1] / 2**20:7,.0f} MiB"
        f"  ratios: time {result['time_ratio']:.2f}, work {result['work_ratio']:.2f},"
        f" memory {result['memory_ratio']:.2f}",
        flush=True,
    )
    return result


def seconds(runs: Sequence[Mapping]) -> float:
    return statistics.median(run["seconds"] for run in runs)


def peak(runs: Sequence[Mapping]) -> int:
    return max(run["peak_bytes"] for run in runs)


def measure(side: str, *arguments: object) -> dict[str, Any]:
    """Returns the result of a side's process."""
    return json.loads(run_side(side, *arguments).splitlines()[-1])


def run_side(side: str, *arguments: object) -> str:
    """Returns what the process of a side prints."""
    command = [sys.executable, "-m", f"benchmarks.evaluation_sides.{side}", *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv))
