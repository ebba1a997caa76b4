"""Calls of the training step: one step a call of a compiled program, or several.

A call costs the host some tenths of a millisecond, which is more than a small step takes on an
accelerator. So several steps are one call there: a loop on the device, with the table of the
examples there and the indices of the steps. On CPUs the same is a little faster for networks of
dense layers (1.1 times for the Transformer GAN).
"""

import bisect
import functools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from gaxn.data.pipeline import Batches
from gaxn.distributed.sharding import Parallelism
from gaxn.objectives.penalties import Penalty
from gaxn.training.state import TrainState
from gaxn.types import Batch, PRNGKey, Scalars, check

TrainStep = Callable[[TrainState, Batch, PRNGKey], tuple[TrainState, Scalars]]

MAX_STEPS_PER_CALL = 32
"""Most steps of a call by default: a signal waits for the end of a call."""


class StagePrograms(NamedTuple):
    """The programs of one stage: of all steps from `first` to the next stage.

    Attributes:
        first: the first step of the stage.
        train_step: the step that suits them all, not compiled.
        compiled_step: the same, compiled.
        step_at: step -> the compiled program of one step that suits it.
    """

    first: int
    train_step: TrainStep
    compiled_step: TrainStep
    step_at: Callable[[int], TrainStep]


class Dispatch(NamedTuple):
    """The calls that make up a run.

    Attributes:
        calls: first step -> the steps of each call from there to the end of the run.
        advance: (placed state (donated), steps of a call, placed key) -> the state after
            them, and scalars, which have a leading axis of steps if there are several.
    """

    calls: Callable[[int], Iterator[range]]
    advance: Callable[[TrainState, range, PRNGKey], tuple[TrainState, Scalars]]


def make_dispatch(
    programs: Sequence[StagePrograms],
    batches: Batches,
    parallelism: Parallelism,
    has_convolutions: bool,
    steps_per_call: int,
    num_train_steps: int,
    intervals: Sequence[int],
) -> Dispatch:
    """Returns the calls of a run, and what makes them.

    Args:
        programs: of each stage, in order; the first begins at step 0.
        batches: of the run.
        parallelism: how the step runs on the devices.
        has_convolutions: whether a network has.
        steps_per_call: steps of a call; 0 for those that suit the backend.
        num_train_steps: steps of the run.
        intervals: the state is needed after each multiple of each; one or more.

    Raises:
        InputError: examples are read ahead, and a call has several steps.
    """
    resident = batches.resident
    valid = steps_per_call <= 1 or resident is not None
    expected = "0 or 1 where the images exceed data.resident_bytes"
    check("config.steps_per_call", steps_per_call, valid, expected)
    if steps_per_call == 0:
        is_resident = resident is not None
        steps_per_call = choose_steps_per_call(
            jax.default_backend(), is_resident, has_convolutions, num_train_steps, intervals
        )

    firsts = [each.first for each in programs]

    @functools.cache
    def several_steps(stage: int) -> Callable:
        train_step = programs[stage].train_step
        return parallelism.compile_steps(train_step, resident.look_up, resident.table)

    def advance(state: TrainState, steps: range, key: PRNGKey) -> tuple[TrainState, Scalars]:
        stage = bisect.bisect_right(firsts, steps[0]) - 1
        if len(steps) == 1:
            return programs[stage].step_at(steps[0])(state, batches(steps[0]), key)
        indices = np.stack([resident.indices(step) for step in steps])
        return several_steps(stage)(state, indices, key)

    return Dispatch(
        calls=lambda first: split_steps(first, num_train_steps, steps_per_call, intervals, firsts),
        advance=advance,
    )


def choose_by_penalties(
    penalties: Mapping[str, Penalty],
    program: TrainStep,
    compile_with: Callable[[Mapping[str, Penalty]], TrainStep],
) -> Callable[[int], TrainStep]:
    """Returns a function from a step to the program of one step that suits it.

    Without lazy penalties one program suits all steps. With them the host chooses between programs
    with the penalties that are due: a choice by the device would be a `lax.cond`, within which
    XLA's CPU backend compiles a convolution's filter gradient to slow code, as within a loop.

    Args:
        penalties: of the objective.
        program: of any step.
        compile_with: penalties, each due or not -> the program of a step with these.
    """
    if all(penalty.interval == 1 for penalty in penalties.values()):
        return lambda step: program

    @functools.cache
    def compile_due(due: tuple[bool, ...]) -> TrainStep:
        fixed = zip(penalties.items(), due, strict=True)
        return compile_with(
            {name: penalty._replace(due=is_due) for (name, penalty), is_due in fixed}
        )

    return lambda step: compile_due(tuple(p.is_due(step) for p in penalties.values()))


def split_steps(
    first: int,
    num_train_steps: int,
    steps_per_call: int,
    intervals: Sequence[int],
    borders: Collection[int] = (),
) -> Iterator[range]:
    """Yields the steps of each call from the first step on.

    A call has `steps_per_call` steps, the first of them a multiple of it; or else one, if its
    steps would go beyond the end of the run, beyond a step after which the state is needed, or
    beyond a border, a step from which on other programs run. So the steps of a call do not depend
    on where a run was resumed.
    """
    step = first
    while step < num_train_steps:
        end = step + steps_per_call
        # The state is needed after a multiple of an interval: after the last step of a call.
        passes = any((end - 1) // interval > step // interval for interval in intervals)
        passes = passes or any(step < border < end for border in borders)
        is_full = step % steps_per_call == 0 and end <= num_train_steps and not passes
        yield range(step, end if is_full else step + 1)
        step = end if is_full else step + 1


def choose_steps_per_call(
    backend: str,
    is_resident: bool,
    has_convolutions: bool,
    num_train_steps: int,
    intervals: Sequence[int],
) -> int:
    """Returns the steps of a call that suit a run.

    It is the largest divisor of all intervals that is at most `MAX_STEPS_PER_CALL` and a tenth of
    the run, since a second program delays the start. It is 1 if examples are read ahead; and on
    CPUs for networks with convolutions, as XLA's CPU backend compiles the filter gradient of a
    convolution within a loop to code that is 50 to 100 times slower (jax 0.10.2).

    Args:
        backend: of JAX.
        is_resident: whether the examples are on the devices.
        has_convolutions: whether a network has.
        num_train_steps: steps of the run.
        intervals: the state is needed after each multiple of each.
    """
    every = math.gcd(*intervals)
    most = min(MAX_STEPS_PER_CALL, num_train_steps // 10)
    steps = max((n for n in range(1, most + 1) if every % n == 0), default=1)
    return 1 if not is_resident or (backend == "cpu" and has_convolutions) else steps
