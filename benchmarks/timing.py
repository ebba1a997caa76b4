"""Times several sides of a comparison in turn, so that slow drifts of the machine cancel.

Other programs do not: threads that wait for each other, such as OpenMP's in PyTorch, lose
far more to a busy core than XLA's do, by an order of magnitude.
"""

import statistics
import time
from collections.abc import Callable, Mapping

Side = Callable[[int], None]
"""Does its work so many times, and returns when the last is done."""


def alternate(sides: Mapping[str, Side], rounds: int, calls: int) -> dict[str, list[float]]:
    """Milliseconds a call of each side, one value a round, after a warm-up.

    Args:
        sides: what is compared, by name.
        rounds: how often each side has its turn.
        calls: calls in a turn.
    """
    for side in sides.values():
        side(2)
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side(calls)
            found[name].append((time.perf_counter() - start) * 1e3 / calls)
    return found


def report(found: Mapping[str, list[float]]) -> None:
    """Prints a row a side, then how many times as long as the first each other one takes."""
    width = max(map(len, found))
    print(f"{'side':{width}} {'median ms':>10} {'min ms':>10}")
    for name, values in found.items():
        print(f"{name:{width}} {statistics.median(values):10.1f} {min(values):10.1f}")
    (own_name, ours), *others = found.items()
    for name, theirs in others:
        ratio = statistics.median(theirs) / statistics.median(ours)
        rounds = [other / own for own, other in zip(ours, theirs, strict=True)]
        by_round = f"{statistics.median(rounds):.2f}, {min(rounds):.2f} to {max(rounds):.2f}"
        print(f"{name} / {own_name}: {ratio:.2f} of the medians; by round {by_round}")
