"""Schedules of weights and learning rates."""

import optax

from gaxn.types import check


def linear_decay(value: float, *, begin: int, end: int, to: float) -> optax.Schedule:
    """Returns `value` until step `begin`, then a line down to `to * value` at step `end`.

    Steps count a player's own updates and are absolute: a longer run begins as a shorter one.

    Args:
        value: the first value.
        begin: the step at which the value begins to fall, 0 or more; a step of an optimizer is an
            update of its player.
        end: the step from which the value is constant, above begin.
        to: the last value as a share of the first, 0 to 1.
    """
    check("begin", begin, begin >= 0, "0 or more")
    check("end", end, end > begin, f"above begin, {begin}")
    check("to", to, 0 <= to <= 1, "0 to 1")
    return optax.linear_schedule(value, to * value, end - begin, begin)
