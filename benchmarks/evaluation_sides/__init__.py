"""Inputs of `benchmarks.evaluation`, and the process in which one side is measured.

Each side is a module with its imports and a `main`, so that time and peak memory are its own.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.memory import peak_bytes

Blocks = Iterator[np.ndarray]
"""Features, float32 [rows, width] at a time, as an extractor yields them."""


class Size(NamedTuple):
    """A set of features: `count` vectors of length `width`."""

    count: int
    width: int


Metric = Callable[[Blocks, Blocks, Size], Mapping[str, float]]
"""Features of the scored set and of the reference, and the size of each set -> figures."""

Extract = Callable[[np.ndarray, Path], tuple[np.ndarray, float]]
"""Images, and the path of Inception's weights -> features, and seconds after a warm-up."""

BLOCK = 8_000
"""Feature vectors at a time; gaxn's evaluation collects as many before it updates a state."""

RANK, NOISE = 32, 0.3
"""Dimensions in which features vary most, and their deviation in all of them."""

WEIGHTS = "weights.safetensors"
SAVED = 1_000
"""Images whose features are compared."""


def make_images(count: int) -> np.ndarray:
    """Returns noise, uint8 [count, 64, 64, 3]."""
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)


def make_block(seed: int, first: int, rows: int, width: int) -> np.ndarray:
    """Returns features that are at least 0, of the order of 1 and correlated, as Inception's are.

    They vary most in a few dimensions: in thousands of equal ones all distances are alike, and a
    set covers all of another or nothing.
    """
    directions = np.random.default_rng(0).standard_normal((RANK, width), np.float32)
    random = np.random.default_rng([seed, first])
    values = random.standard_normal((rows, RANK), np.float32) * np.float32(1 + 0.1 * seed)
    values = values @ directions / np.float32(RANK**0.5)
    values += np.float32(NOISE) * random.standard_normal((rows, width), np.float32)
    return np.maximum(values + np.float32(0.2), 0)


def run(argv: Sequence[str], metrics: Mapping[str, Metric], extract: Extract | None = None) -> None:
    """Measures what a command line names, and prints the result as JSON.

    Args:
        argv: "inception COUNT FOLDER" or "METRIC COUNT WIDTH", after the program's name.
        metrics: of this side, by name.
        extract: features by Inception, if the side has them.
    """
    name, count, place_or_width = argv[1:]
    if name == "inception":
        result = _measure_inception(extract, int(count), Path(place_or_width))
    else:
        result = _measure_metric(metrics[name], Size(int(count), int(place_or_width)))
    print(json.dumps(result))


def _measure_inception(extract: Extract, count: int, folder: Path) -> dict[str, float]:
    """Returns seconds and peak memory; writes the first features to FOLDER/features.npy."""
    features, seconds = extract(make_images(count), folder / WEIGHTS)
    np.save(folder / "features.npy", features[:SAVED])
    return {"seconds": seconds, "peak_bytes": peak_bytes()}


def _measure_metric(compute: Metric, size: Size) -> dict[str, float | Mapping[str, float]]:
    """Returns figures, peak memory, and seconds without those in which the features are made."""
    # Of the clock, and of all cores together.
    timers = {"seconds": time.perf_counter, "core_seconds": time.process_time}
    excluded = dict.fromkeys(timers, 0.0)

    def blocks(seed: int) -> Blocks:
        for first in range(0, size.count, BLOCK):
            started = {name: timer() for name, timer in timers.items()}
            block = make_block(seed, first, min(BLOCK, size.count - first), size.width)
            for name, timer in timers.items():
                excluded[name] += timer() - started[name]
            yield block

    started = {name: timer() for name, timer in timers.items()}
    figures = compute(blocks(1), blocks(0), size)
    times = {name: timer() - started[name] - excluded[name] for name, timer in timers.items()}
    return {"figures": dict(figures), **times, "peak_bytes": peak_bytes()}
