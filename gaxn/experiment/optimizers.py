"""From a config to optimizers."""

import functools
import inspect
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gaxn.config import bind
from gaxn.experiment.schedules import with_schedules
from gaxn.objectives import schedules
from gaxn.training.optimizers import freeze, with_constraints
from gaxn.types import InputError, check


def make_optimizers(
    specs: Mapping[str, Any],
    players: Sequence[str],
    run_length: schedules.RunLength,
    counts: Mapping[str, int],
    frozen: Mapping[str, Collection[tuple[str, ...]]] = {},
    first_step: int = 0,
) -> dict[str, optax.GradientTransformation]:
    """Returns the optimizer of each player, by its name in optax.

    Args:
        specs: the fields of each.
        players: all players.
        run_length: of the run.
        counts: updates of each player's optimizer per training step.
        frozen: by player, paths of the layers that are not moved.
        first_step: training step from which on they run.
    """
    for player in specs:
        check("a player of config.optimizers", player, player in players, " or ".join(players))
    optimizers = {
        player: make_optimizer(
            specs.get(player, {}), player, run_length, counts[player], first_step
        )
        for player in players
    }
    return {
        player: freeze(optimizer, frozen[player]) if frozen.get(player) else optimizer
        for player, optimizer in optimizers.items()
    }


def make_optimizer(
    spec: Mapping[str, Any],
    player: str,
    run_length: schedules.RunLength,
    updates_per_step: int = 1,
    first_step: int = 0,
) -> optax.GradientTransformation:
    """Returns the optimizer of one player from a step on; see `Settings.optimizers`."""
    field = f"config.optimizers.{player}"
    options = {
        name: schedules.skip(value, first_step * updates_per_step)
        for name, value in with_schedules(spec, field, run_length, updates_per_step).items()
    }
    name = str(options.pop("name", ""))
    make = getattr(optax, name, None)
    parameters = _parameters(make)
    # A part of an optimizer, such as scale_by_adam, would move up the gradient.
    valid = "learning_rate" in parameters and not name.startswith("scale_by")
    check(f"{field}.name", spec.get("name"), valid, "the name of an optimizer of optax")
    if "decay" in options and "decay" not in parameters:
        raise InputError(
            f"{field}.decay is a part of {field}.learning_rate since gaxn 0.3: a schedule, such as "
            "{'name': 'linear', 'points': ((0.5, 1e-3), (1.0, 0.0))}"
        )
    rate = options.pop("learning_rate", None)
    _check_numbers(f"{field}.learning_rate", rate, lambda value: value > 0, "a number above 0")
    for beta in options.keys() & {"b1", "b2"}:
        valid, expected = lambda value: 0 <= value < 1, "at least 0 and below 1"
        _check_numbers(f"{field}.{beta}", options[beta], valid, expected)
    constraints = {name: options.pop(name, None) for name in ("clip", "orthogonal")}
    scheduled = {k: v for k, v in options.items() if isinstance(v, schedules.Schedule)}
    if scheduled:
        # The optimizer is then made anew at every update, with the values of that update.
        first = {name: schedule.points[0][1] for name, schedule in scheduled.items()}
        bind(make, {**options, **first}, field, learning_rate=rate)
        optimizer = optax.inject_hyperparams(make)(learning_rate=rate, **options)
    else:
        optimizer = bind(make, options, field, learning_rate=rate)
    expected = "an optimizer of optax that needs the gradient and nothing else"
    check(f"{field}.name", name, _needs_gradient_alone(optimizer), expected)
    return bind(with_constraints, constraints, field, optimizer=optimizer)


def check_differentiable(spec: Mapping[str, Any], player: str) -> None:
    """Raises an InputError if the derivative of an optimizer's update is infinite.

    That of Adam's square root is, at a parameter whose gradients were all 0.
    """
    parameters = _parameters(getattr(optax, str(spec.get("name")), None))
    if "eps_root" not in parameters:
        return
    root = spec.get("eps_root", parameters["eps_root"].default)
    valid = root != 0
    expected = "above 0, such as 1e-8, with an update rule that differentiates updates"
    check(f"config.optimizers.{player}.eps_root", root, valid, expected)


def _parameters(make: Any) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of a function of optax; none of anything else."""
    is_function = isinstance(make, types.FunctionType | functools.partial)
    return inspect.signature(make).parameters if is_function else {}


def _needs_gradient_alone(optimizer: Any) -> bool:
    """Returns whether an optimizer makes an update of gradient, state and parameters."""
    matrix = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    try:
        jax.eval_shape(lambda x: optimizer.update(x, optimizer.init(x), x), matrix)
    except (AttributeError, TypeError):
        return False
    return True


def _check_numbers(field: str, value: Any, valid: Callable[[float], bool], expected: str) -> None:
    """Raises an InputError unless a number, or all of a schedule but a last 0, are valid."""
    if isinstance(value, schedules.Schedule):
        *values, last = (number for _, number in value.points)
        values += [last] * (last != 0)
        check(field, values, all(map(valid, values)), expected)
    else:
        check(field, value, isinstance(value, int | float) and valid(value), expected)
