"""Times several sides of a comparison in turn, so that a busy machine disturbs all alike."""

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
