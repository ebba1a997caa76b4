"""One side of a row in a process of its own, which makes steps on demand.

    python -m benchmarks.race.worker ROW SIDE DEVICE FOLDER [--tiny]

It reads lines from its standard input, a number of steps each, makes them, and answers each with
the seconds of one of them. Its first line describes the start.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

SIDES = ("gaxn", "eager", "compiled", "graphs", "bfloat16")
"""gaxn, and the forms of the PyTorch side; the last is "eager" with bfloat16 products."""


class Steps(Protocol):
    """Makes a number of training steps or a few more; returns how many when they are done."""

    def __call__(self, count: int) -> int: ...


class Side(NamedTuple):
    """A side that is ready to run.

    Attributes:
        run: makes steps.
        peak_bytes: () -> the most memory that it had in use, in bytes; on a CPU that of the
            process, on a GPU that of its arrays.
        multiply: side length -> seconds of one product of two square matrices.
        flops: of a step, as XLA counts them; None on a side that cannot tell.
    """

    run: Steps
    peak_bytes: Any
    multiply: Any
    flops: float | None = None


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("row")
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("device", choices=("cpu", "gpu"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(argv)
    start = time.perf_counter()
    # The answers are for the parent alone: what libraries print goes to the error stream.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    side = make_side(options)
    before_call = time.perf_counter()
    side.run(1)
    after_call = time.perf_counter()

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    times = {"make_s": before_call - start, "first_call_s": after_call - before_call}
    answer({**times, "flops": side.flops})
    side.run(2)
    for line in sys.stdin:
        task, number = line.split()
        if task == "steps":
            start = time.perf_counter()
            steps = side.run(int(number))
            answer((time.perf_counter() - start) / steps)
        elif task == "multiply":
            answer(side.multiply(int(number)))
        else:
            answer(side.peak_bytes())
    return 0


def peak_memory() -> int:
    """Returns the most memory that this process had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make_side(options: argparse.Namespace) -> Side:
    """Returns the side of a row; imports what it needs and no more."""
    if options.side == "gaxn":
        from benchmarks.race import gaxn_side

        return gaxn_side.make(options.row, options.device, options.folder, options.tiny)
    from benchmarks.race import pytorch_side

    return pytorch_side.make(
        options.row, options.side, options.device, options.folder, options.tiny
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
