"""Schedules of learning rates, weights and probabilities: values at points, and lines between them.

A config gives a number, or a dict: the name of a function of this file, and its parameters. Its
points are (when, value), `when` as a share of the run or in thousands of real images:

    {"name": "linear", "points": ((0.25, 2e-3), (1.0, 1e-4))}
    {"name": "cosine", "points": ((0, 0.9), (10_000, 0.99)), "unit": "kimg"}

Before the first point and after the last one the value does not change.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gaxn.types import check

SHARE, KIMG = "share", "kimg"
Points = tuple[tuple[float, float], ...]


class RelativeSchedule(NamedTuple):
    """A schedule whose points are in shares of the run or in kimg, not yet in steps.

    Attributes:
        segment: (value, next value, steps between them, first step) -> a schedule of optax.
        points: (when, value), `when` ascending.
        unit: of `when`, "share" (of the run) or "kimg" (thousands of real images).
    """

    segment: Callable[[float, float, int, int], optax.Schedule]
    points: Points
    unit: str


class RunLength(NamedTuple):
    """The length of a run, in steps and images.

    Attributes:
        num_train_steps: of the run.
        batch_size: real images per player update.
    """

    num_train_steps: int
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A function from a step to a value.

    Attributes:
        segment: as of `RelativeSchedule`.
        points: (step, value), ascending.
    """

    segment: Callable[[float, float, int, int], optax.Schedule]
    points: tuple[tuple[int, float], ...]

    def __call__(self, step: jax.Array) -> jax.Array:
        """Returns the value at a step."""
        value = jnp.float32(self.points[0][1])
        for index, ((start, first), (end, last)) in enumerate(pairwise(self.points)):
            segment = self.segment(first, last, end - start, start)(step)
            # Within its bounds and beyond them a segment is constant, so the first covers all.
            value = segment if index == 0 else jnp.where(step >= start, segment, value)
        return value


@dataclasses.dataclass(frozen=True)
class Transformed(Schedule):
    """A function of the value of a schedule.

    Attributes:
        transform: of the value.
    """

    transform: Callable[[jax.Array], jax.Array]

    def __call__(self, step: jax.Array) -> jax.Array:
        """Returns the value at a step."""
        return self.transform(super().__call__(step))


@dataclasses.dataclass(frozen=True)
class Shifted(Schedule):
    """A schedule that begins in the middle of another.

    Attributes:
        steps: of the other that are left out.
    """

    steps: int

    def __call__(self, step: jax.Array) -> jax.Array:
        """Returns the value at a step."""
        return super().__call__(step + self.steps)


ScalarOrSchedule = float | Schedule
"""A number, or a schedule of it."""


def transform(value: ScalarOrSchedule, function: Callable) -> ScalarOrSchedule:
    """Returns a function of a number, or a schedule of it."""
    if isinstance(value, Schedule):
        return Transformed(value.segment, value.points, function)
    return function(value)


def skip(value: Any, steps: int) -> Any:
    """Returns a schedule without its first steps; anything else as it is."""
    is_skipped = steps and isinstance(value, Schedule)
    return Shifted(value.segment, value.points, steps) if is_skipped else value


def constant(points: Points, unit: str = SHARE) -> RelativeSchedule:
    """Jumps from value to value, at each point.

    Args:
        points: (when, value), `when` ascending.
        unit: of `when`: "share" of the run, or "kimg", thousands of real images.
    """
    return _relative_schedule(_jump, points, unit)


def linear(points: Points, unit: str = SHARE) -> RelativeSchedule:
    """Goes from value to value in lines.

    Args:
        points: (when, value), `when` ascending.
        unit: of `when`: "share" of the run, or "kimg", thousands of real images.
    """
    return _relative_schedule(optax.linear_schedule, points, unit)


def cosine(points: Points, unit: str = SHARE) -> RelativeSchedule:
    """Goes from value to value in halves of a cosine (Loshchilov & Hutter, 2017, eq. 5).

    Args:
        points: (when, value), `when` ascending.
        unit: of `when`: "share" of the run, or "kimg", thousands of real images.
    """
    return _relative_schedule(_half_cosine, points, unit)


def make_schedule(
    relative: RelativeSchedule, run_length: RunLength, updates_per_step: int = 1
) -> Schedule:
    """Returns a schedule in steps of a run.

    Args:
        relative: the same in shares of the run or in kimg.
        run_length: of the run.
        updates_per_step: updates of a player per training step, if its updates are counted.
    """
    steps = run_length.num_train_steps if relative.unit == SHARE else 1_000 / run_length.batch_size
    points = [(round(when * steps) * updates_per_step, value) for when, value in relative.points]
    valid = all(first < second for (first, _), (second, _) in pairwise(points))
    check("points", relative.points, valid, f"at different steps of the run, got {points}")
    return Schedule(relative.segment, tuple(points))


def is_spec(value: Any) -> bool:
    """Returns whether a field of a config has a schedule."""
    return isinstance(value, Mapping) and "points" in value


def shared_fields(config: Any, path: str = "config") -> list[str]:
    """Returns the fields whose schedule is in shares of the run, which fixes its length."""
    if is_spec(config):
        return [path] if config.get("unit", SHARE) == SHARE else []
    if not isinstance(config, Mapping):
        return []
    return [
        field for name, each in config.items() for field in shared_fields(each, f"{path}.{name}")
    ]


def value_at(value: ScalarOrSchedule, step: jax.Array) -> jax.Array | float:
    """Returns a number as it is, or the value of a schedule at a step."""
    return value(step) if isinstance(value, Schedule) else value


def check_values(
    name: str, value: ScalarOrSchedule, valid: Callable[[float], bool], expected: str
) -> None:
    """Raises an InputError unless a number, or every value of a schedule, is valid."""
    values = [each for _, each in value.points] if isinstance(value, Schedule) else [value]
    for each in values:
        check(name, each, valid(each), expected)


def _relative_schedule(
    segment: Callable, points: Sequence[Sequence[float]], unit: str
) -> RelativeSchedule:
    check("unit", unit, unit in (SHARE, KIMG), f"{SHARE} or {KIMG}")
    valid = len(points) > 0 and all(len(point) == 2 for point in points)
    check("points", points, valid, "pairs (when, value)")
    times = [when for when, _ in points]
    valid = all(first < second for first, second in pairwise(times)) and times[0] >= 0
    valid = valid and (unit == KIMG or times[-1] <= 1)
    expected = "in ascending order, from 0" + (" to 1, the share of the run" * (unit == SHARE))
    check("points", points, valid, expected)
    return RelativeSchedule(segment, tuple((when, value) for when, value in points), unit)


def _jump(first: float, last: float, steps: int, start: int) -> optax.Schedule:
    return lambda step: jnp.where(step >= start + steps, last, first)


def _half_cosine(first: float, last: float, steps: int, start: int) -> optax.Schedule:
    def schedule(step: jax.Array) -> jax.Array:
        share = jnp.clip((step - start) / steps, 0, 1)
        return last + (first - last) * (1 + jnp.cos(jnp.pi * share)) / 2

    return schedule
