"""How long an evaluation takes, and how much memory, against the number of images.

    python benchmarks/evaluation.py [COUNT ...]

Noise of 28x28 stands for both sets; the classifier is that of MNIST. Each count runs in a process
of its own, once with every metric and once with those that stream; peak memory is that of the
process.
"""

import resource
import subprocess
import sys
import time

import numpy as np

STREAMING = ("frechet", "inception_score", "confusion", "modes", "intra_frechet")
COUNTS = (2_500, 10_000, 40_000)


def drawn(count: int, seed: int):
    """Images of 28x28 with labels, each from its number alone."""
    from gaxn.measure import ImageSet

    def read(numbers):
        random = np.random.default_rng([seed, int(numbers[0])])
        return random.integers(0, 256, (len(numbers), 28, 28, 1), np.uint8), numbers % 10

    return ImageSet(count, (28, 28, 1), 10, read)


def run(count: int, names: tuple[str, ...]) -> None:
    """Prints seconds and MB of one evaluation of so many images against as many."""
    from gaxn import evaluations, measure, mesh
    from gaxn.extractors import classifier

    mesh.use_cores(measure.BATCH)
    extractor = classifier.load("mnist")
    metrics = evaluations.choose(names, "names")
    look = measure.looking(extractor)
    sets = [drawn(count, seed) for seed in (0, 1)]
    look(sets[0].read(np.arange(measure.BATCH))[0])
    started = time.perf_counter()
    found, reference = (measure.observe(one, extractor, metrics, look, "set") for one in sets)
    looked = time.perf_counter()
    measure.compute(metrics, found, reference)
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{count:>7,}  {'all' if not names else 'streaming':<9}  {ended - started:6.1f} s "
        f"({looked - started:.1f} to look, {ended - looked:.1f} to compute)  {peak:6.0f} MB"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        run(int(sys.argv[2]), tuple(sys.argv[3:]))
    else:
        for count in map(int, sys.argv[1:] or COUNTS):
            for names in ((), STREAMING):
                command = [sys.executable, __file__, "--one", str(count), *names]
                subprocess.run(command, check=True)
