"""Races gaxn against PyTorch: the time of a training step of each experiment.

    python -m benchmarks.race [--rows NAME ...] [--device cpu|gpu] [--sides SIDE ...]
                              [--rounds 5] [--seconds 3] [--json FILE] [--tiny]

Needs gaxn and its extra `benchmarks`. The machine must be idle: a busy core costs PyTorch's threads
far more than XLA's, and the ratio then means nothing.

Each row is an experiment (benchmarks/race/rows.py). Each side of it is a process; they take turns;
a round has as many steps of each side as the slowest makes in `--seconds`. A step looks its images
up in a table on the device, and makes every update of the players and the moving average. The
sides have the same networks, losses, penalties, augmentations, optimizers and batch: tests hold the
losses and gradients of both, from the same weights and batches, to 1e-4
(benchmarks/race/equality.py).

    gaxn      as a run makes its steps
    eager     PyTorch with channels_last, fused Adam and no synchronization
    compiled  the same under torch.compile; a step with a gradient penalty in parts, since it has
              no second derivative
    graphs    CUDA graphs, on GPUs
    bfloat16  "eager" with bfloat16 products

Prints for each side: milliseconds a step, the median over the rounds; the ratio of its time to
gaxn's, above 1 where gaxn is faster, median and range over the rounds; seconds until the networks
are made, of the first call, which compiles, and from the start of the process to the end of the
first step; peak memory; and the utilization: the operations of a step, as XLA counts them for gaxn,
over its time, as a share of the rate of the best matrix product in the same run. Last the geometric
means of the ratios.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.race import rows
from benchmarks.race.worker import SIDES

ROOT = Path(__file__).parents[2]
MATRIX = {"cpu": 2048, "gpu": 8192}
"""Side of the matrices whose product is the ceiling, by device."""

DEFAULT_SIDES = {
    "cpu": ("gaxn", "eager", "compiled"),
    "gpu": ("gaxn", "eager", "compiled", "graphs"),
}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rows", nargs="+", choices=list(rows.ROWS), metavar="NAME")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--sides", nargs="+", choices=SIDES, metavar="SIDE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a round, by side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures are written")
    parser.add_argument("--tiny", action="store_true", help="smallest forms, which say nothing")
    options = parser.parse_args(argv)
    names = options.rows or [
        name for name, row in rows.ROWS.items() if options.device in row.devices
    ]
    sides = ("gaxn", *(s for s in options.sides or DEFAULT_SIDES[options.device] if s != "gaxn"))
    print(f"load average at the start: {os.getloadavg()[0]:.1f}, on {os.cpu_count()} cores")
    print(
        f"{'':32} {'ms':>9} {'ratio':>6} {'range':>14} {'make':>6} {'first':>6} {'start':>6}"
        f" {'MiB':>7} {'use':>5}"
    )
    about: dict[str, Any] = record.record()
    results: dict[str, Any] = {}
    for name in names:
        results[name] = race(name, sides, options)
        print_row(name, results[name])
        if options.json:
            facts = {"record": about, "options": fields_of(options)}
            record.write(options.json, {**facts, "rows": results})
    for side in sides[1:]:
        ratios = [row[side]["ratio"] for row in results.values() if "ratio" in row[side]]
        if ratios:
            print(
                f"{side}: geometric mean {statistics.geometric_mean(ratios):.2f}, "
                f"least {min(ratios):.2f}, of {len(ratios)} rows"
            )
    return 0


def race(name: str, sides: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Returns the figures of a row, by side; a side that fails has the last line of its error."""
    with tempfile.TemporaryDirectory() as folder:
        workers, figures = {}, {}
        for side in sides:
            worker = Worker(name, side, options, folder)
            try:
                figures[side] = worker.start()
                workers[side] = worker
            except ChildProcessError as error:
                figures[side] = {"error": str(error)}
        try:
            return figures | measure(workers, figures, options)
        finally:
            for worker in workers.values():
                worker.end()


def measure(
    workers: Mapping[str, "Worker"],
    starts: Mapping[str, Mapping[str, Any]],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Returns the figures of the sides that run, with those of their starts."""
    size = MATRIX[options.device]
    ceiling = max(2 * size**3 / worker.ask("multiply", size) for worker in workers.values())
    slowest = max(worker.ask("steps", 2) for worker in workers.values())
    steps = max(1, math.ceil(options.seconds / slowest))
    times: dict[str, list[float]] = {side: [] for side in workers}
    for _ in range(options.rounds):
        for side, worker in workers.items():
            times[side].append(worker.ask("steps", steps))
    figures: dict[str, Any] = {"ceiling_flops": ceiling, "steps_a_round": steps}
    for side, worker in workers.items():
        rate = starts["gaxn"]["flops"] / statistics.median(times[side])
        figures[side] = {
            **starts[side],
            **summary(times[side], times["gaxn"]),
            "peak_bytes": worker.ask("peak", 0),
            "utilization": rate / ceiling,
        }
    return figures


def summary(times: Sequence[float], of_gaxn: Sequence[float]) -> dict[str, Any]:
    """Returns the median time of a step, and the ratio to gaxn's over the rounds."""
    ratios = [time / reference for time, reference in zip(times, of_gaxn, strict=True)]
    return {
        "seconds": statistics.median(times),
        "seconds_by_round": list(times),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


class Worker:
    """A side in a process of its own.

    Args:
        row, side: what it runs.
        options: of the command line.
        folder: for its images and its caches, so that every start is a cold one.
    """

    def __init__(self, row: str, side: str, options: argparse.Namespace, folder: str):
        self._command = [
            *(sys.executable, "-m", "benchmarks.race.worker", row, side, options.device, folder),
            *["--tiny"] * options.tiny,
        ]
        cache = Path(folder, side)
        cache.mkdir()
        self._environment = {
            **os.environ,
            "GAXN_CACHE": str(cache),
            "TORCHINDUCTOR_CACHE_DIR": str(cache),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }

    def start(self) -> dict[str, Any]:
        """Starts the process and makes the first steps; returns the times of the start.

        Raises:
            ChildProcessError: the side fails; the message is the last line of its error.
        """
        started = time.perf_counter()
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        description = self._answer()
        ready = time.perf_counter() - started
        return {**description, "first_step_s": ready}

    def ask(self, task: str, number: int) -> Any:
        """Gives the process a task; returns its answer."""
        self._process.stdin.write(f"{task} {number}\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()
        self._errors.close()

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().splitlines() or ["it ended without a message"]
        raise ChildProcessError(lines[-1])


def print_row(name: str, figures: Mapping[str, Any]) -> None:
    """Prints a line per side of a row."""
    print(name)
    for side in SIDES:
        values = figures.get(side)
        if values is None:
            continue
        if "error" in values:
            print(f"  {side:30} {values['error']}")
            continue
        low, high = values["ratio_range"]
        print(
            f"  {side:30} {values['seconds'] * 1e3:9.2f} {values['ratio']:6.2f} "
            f"{f'{low:.2f} to {high:.2f}':>14} {values['make_s']:6.1f} "
            f"{values['first_call_s']:6.1f} {values['first_step_s']:6.1f} "
            f"{values['peak_bytes'] / 2**20:7.0f} {values['utilization']:5.2f}",
            flush=True,
        )


def fields_of(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the options of the command line that bear on the figures."""
    return {name: getattr(options, name) for name in ("device", "rounds", "seconds", "tiny")}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
