"""Measures the time and memory of an evaluation for several numbers of images.

    python -m benchmarks.evaluation_memory [COUNT ...]

Both sets are noise of 28x28; the classifier is that of MNIST. Each count runs in a separate
process, once with every metric and once with those that stream; the peak memory is that of the
process.
"""

import subprocess
import sys
import time

import numpy as np

from benchmarks.memory import peak_bytes

STREAMING = ("frechet", "inception_score", "confusion", "modes", "intra_frechet")
COUNTS = (2_500, 10_000, 40_000)


def noise(count: int, seed: int):
    """Returns images of 28x28 with labels, which depend on the indices that are read."""
    from gaxn.evaluation.scoring import ImageSet

    def read(indices):
        random = np.random.default_rng([seed, int(indices[0])])
        return random.integers(0, 256, (len(indices), 28, 28, 1), np.uint8), indices % 10

    return ImageSet(count, (28, 28, 1), 10, read)


def run(count: int, names: tuple[str, ...]) -> None:
    """Prints the seconds and MB of one evaluation of two sets of `count` images."""
    from gaxn.distributed import sharding
    from gaxn.evaluation import plan, scoring
    from gaxn.features import classifier

    sharding.use_cores(scoring.BATCH)
    extractor = classifier.load("mnist")
    metrics = plan.resolve_metrics(names, "names")
    extract = scoring.make_extract(extractor)
    sets = [noise(count, seed) for seed in (0, 1)]
    extract(sets[0].read(np.arange(scoring.BATCH))[0])
    started = time.perf_counter()
    statistics, reference = (
        scoring.collect(images, extractor, metrics, extract, "set") for images in sets
    )
    collected = time.perf_counter()
    scoring.compute(metrics, statistics, reference)
    ended = time.perf_counter()
    peak = peak_bytes() / 2**20
    parts = f"({collected - started:.1f} to collect, {ended - collected:.1f} to compute)"
    name = "streaming" if names else "all"
    print(f"{count:>7,}  {name:<9}  {ended - started:6.1f} s {parts}  {peak:6.0f} MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        run(int(sys.argv[2]), tuple(sys.argv[3:]))
    else:
        for count in map(int, sys.argv[1:] or COUNTS):
            for names in ((), STREAMING):
                program = [sys.executable, "-m", "benchmarks.evaluation_memory"]
                subprocess.run([*program, "--one", str(count), *names], check=True)
