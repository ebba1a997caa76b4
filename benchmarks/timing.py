"""Times the sides of a comparison alternately, so that slow drifts of the machine cancel.

The load of other programs does not cancel: threads that wait for each other, such as OpenMP's in
PyTorch, lose far more to a busy core than XLA's do, by an order of magnitude.
"""

import statistics
import time
from collections.abc import Callable, Mapping

Side = Callable[[int], None]
"""A function of a number of calls: makes them, and returns when the last one is done."""


def alternate(sides: Mapping[str, Side], rounds: int, calls: int) -> dict[str, list[float]]:
    """Returns milliseconds per call of each side, one value per round, after a warm-up.

    Args:
        sides: by name.
        rounds: how often each side is timed.
        calls: calls per round.
    """
    for side in sides.values():
        side(2)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side(calls)
            times[name].append((time.perf_counter() - start) * 1e3 / calls)
    return times


def report(times: Mapping[str, list[float]]) -> None:
    """Prints a row per side, then the ratio of each other side to the first."""
    width = max(map(len, times))
    print(f"{'side':{width}} {'median ms':>10} {'min ms':>10}")
    for name, values in times.items():
        print(f"{name:{width}} {statistics.median(values):10.1f} {min(values):10.1f}")
    (first, first_times), *others = times.items()
    for name, values in others:
        ratio = statistics.median(values) / statistics.median(first_times)
        ratios = [value / of_first for of_first, value in zip(first_times, values, strict=True)]
        by_round = f"{statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{name} / {first}: {ratio:.2f} of the medians; by round {by_round}")
