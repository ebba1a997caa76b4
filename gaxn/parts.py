"""The smaller parts that a config names: losses, penalties, augmentations, optimisers.

Each function raises InputError where a name or an option is wrong.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gaxn.losses import Loss
from gaxn.penalties import Penalty
from gaxn.schema import bind, instance, nearest, resolve
from gaxn.types import InputError, require

PLAYERS = ("discriminator", "generator")


def make_loss(spec: Mapping[str, Any]) -> Loss:
    """The two sides of a loss; each gets those of the options that it takes."""
    options = dict(spec)
    name = options.pop("name", "")
    module = resolve("losses", name, "config.loss.name")
    sides = (module.discriminator, module.generator)
    takes = [inspect.signature(side).parameters.keys() - {"real", "fake"} for side in sides]
    for option in options.keys() - takes[0] - takes[1]:
        valid = nearest(option, takes[0] | takes[1])
        raise InputError(f"config.loss.{option} is unknown; {name} takes {valid}")
    loss = Loss(
        *(
            functools.partial(side, **{key: options[key] for key in options.keys() & taken})
            for side, taken in zip(sides, takes, strict=True)
        )
    )
    try:
        jax.eval_shape(loss.discriminator, jnp.zeros(1), jnp.zeros(1))
    except (InputError, TypeError) as error:
        raise InputError(f"config.loss.{error}") from None
    return loss


def make_penalty(name: str, weight: Any) -> tuple[Penalty, float]:
    """A penalty and its weight."""
    field = f"config.penalties.{name}"
    require(field, weight, isinstance(weight, int | float) and weight >= 0, "a weight, 0 or more")
    return resolve("penalties", name, field).penalty, float(weight)


def make_augmentation(name: str, options: Any) -> Callable:
    """An augmentation with its options."""
    field = f"config.augmentations.{name}"
    require(field, options, isinstance(options, dict), "a dict of options")
    return instance("augmentations", {**options, "name": name}, field, "Augmentation")


def make_optimizer(optimizers: Mapping[str, Any], player: str) -> optax.GradientTransformation:
    """The optimiser of one player, by its name in optax."""
    field = f"config.optimizers.{player}"
    for name in optimizers.keys() - set(PLAYERS):
        raise InputError(f"config.optimizers.{name} is unknown; players are {', '.join(PLAYERS)}")
    spec = dict(optimizers.get(player, {}))
    name = spec.pop("name", "")
    require(f"{field}.name", name, callable(getattr(optax, name, None)), "an optimizer of optax")
    rate = spec.pop("learning_rate", None)
    holds = isinstance(rate, int | float) and rate > 0
    require(f"{field}.learning_rate", rate, holds, "a number above 0")
    for beta in spec.keys() & {"b1", "b2"}:
        holds = isinstance(spec[beta], int | float) and 0 <= spec[beta] < 1
        require(f"{field}.{beta}", spec[beta], holds, "0 or more and below 1")
    decay = spec.pop("decay", None)
    schedule = rate if decay is None else bind(_decayed, decay, f"{field}.decay", rate=rate)
    return bind(getattr(optax, name), spec, field, learning_rate=schedule)


def _decayed(rate: float, *, begin: int, end: int, to: float) -> optax.Schedule:
    """`rate` until step `begin`, then a line down to `to * rate` at step `end`.

    The steps are the player's own, and absolute: a longer run has the same beginning.
    """
    require("begin", begin, begin >= 0, "0 or more")
    require("end", end, end > begin, f"above begin, {begin}")
    require("to", to, 0 <= to <= 1, "0 to 1")
    return optax.linear_schedule(rate, to * rate, end - begin, begin)
