"""The smaller parts that a config names: losses, penalties, regularisers, optimisers and so on.

Each function raises InputError where a name or an option is wrong.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gaxn import transforms
from gaxn.augmentations import Augment
from gaxn.losses import Loss
from gaxn.objective import Objective
from gaxn.penalties import Term
from gaxn.regularizers import Base
from gaxn.schema import bind, instance, nearest, resolve
from gaxn.types import Images, InputError, require

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


def make_penalty(name: str, spec: Any) -> Term:
    """A penalty, by its weight or by a dict of its weight, `every` and its own options."""
    field = f"config.penalties.{name}"
    penalty = resolve("penalties", name, field).penalty
    spec = dict(spec) if isinstance(spec, Mapping) else {"weight": spec}
    weight, every = spec.pop("weight", None), spec.pop("every", 1)
    number = isinstance(weight, int | float) and weight >= 0
    require(field, weight, number, "a weight, 0 or more, or a dict with one")
    require(f"{field}.every", every, isinstance(every, int) and every >= 1, "1 step or more")
    parameters = inspect.signature(penalty).parameters.values()
    options = [item.name for item in parameters if item.kind is item.KEYWORD_ONLY]
    for option in spec.keys() - set(options):
        valid = nearest(option, ("weight", "every", *options))
        raise InputError(f"{field}.{option} is unknown; {name} takes {valid}")
    bound = functools.partial(penalty, **spec)
    points = jax.ShapeDtypeStruct((1, 1), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    try:
        jax.eval_shape(lambda *of: bound(lambda x: x.sum(axis=1), *of), points, points, keys)
    except (InputError, TypeError) as error:
        raise InputError(f"{field}.{error}") from None
    return Term(name, bound, float(weight), every)


def make_regularizer(name: str, spec: Any) -> tuple[str, Callable[[], Base]]:
    """A regulariser's name, and what makes it afresh: a discriminator has its own.

    Args:
        name: of its file.
        spec: a dict of its options; those of an `augmentations` of its own as in a config.
    """
    field = f"config.regularizers.{name}"
    require(field, spec, isinstance(spec, Mapping), "a dict of options")
    options = dict(spec)
    make = resolve("regularizers", f"{name}.Regularizer", field)
    derived = {}
    if "augment" in inspect.signature(make).parameters:
        chosen = options.pop("augmentations", None)
        valid = "a dict of augmentations, one or more"
        holds = isinstance(chosen, Mapping) and bool(chosen)
        require(f"{field}.augmentations", chosen, holds, valid)
        derived["augment"] = in_turn([make_augmentation(own, of) for own, of in chosen.items()])
    bound = functools.partial(bind, make, options, field, **derived)
    bound()
    return name, bound


def in_turn(augmentations: Sequence[Augment]) -> Callable[[Images, jax.Array], Images]:
    """Several augmentations as one, (images, keys) -> images, as they are at step 0."""

    def augment(images: Images, keys: jax.Array) -> Images:
        for place, augmentation in enumerate(augmentations):
            own = jax.vmap(lambda key, place=place: jax.random.fold_in(key, place))(keys)
            images = augmentation(images, own, jnp.int32(0))
        return images

    return augment


def make_augmentation(name: str, options: Any) -> Augment:
    """An augmentation with its options."""
    field = f"config.augmentations.{name}"
    require(field, options, isinstance(options, dict), "a dict of options")
    return instance("augmentations", {**options, "name": name}, field, "Augmentation")


def make_objective(
    loss: Loss,
    penalties: tuple[Term, ...],
    regularizers: tuple[tuple[str, Callable[[], Base]], ...],
    augmentations: tuple[Augment, ...],
    *,
    packing: int = Objective.packing,
    top_share: float = Objective.top_share,
    top_until: int = Objective.top_until,
    ada_target: float = Objective.ada_target,
    ada_images: int = Objective.ada_images,
) -> Callable[[nn.Module], Objective]:
    """discriminator -> its objective; the keyword parameters are the fields of a config."""
    return functools.partial(
        Objective,
        loss=loss,
        penalties=penalties,
        regularizers=regularizers,
        augmentations=augmentations,
        packing=packing,
        top_share=top_share,
        top_until=top_until,
        ada_target=ada_target,
        ada_images=ada_images,
    )


def make_optimizer(optimizers: Mapping[str, Any], player: str) -> optax.GradientTransformation:
    """The optimiser of one player, by its name in optax.

    `clip` bounds its weights after each update, `orthogonal` is the weight of orthogonal
    regularisation, `decay` lowers its rate.
    """
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
    schedule = (
        rate if decay is None else bind(transforms.decayed, decay, f"{field}.decay", rate=rate)
    )
    clip, weight = spec.pop("clip", None), spec.pop("orthogonal", None)
    chain = [bind(getattr(optax, name), spec, field, learning_rate=schedule)]
    if weight is not None:
        holds = isinstance(weight, int | float) and weight >= 0
        require(f"{field}.orthogonal", weight, holds, "a weight, 0 or more")
        chain = [transforms.orthogonal(weight), *chain]
    if clip is not None:
        holds = isinstance(clip, int | float) and clip > 0
        require(f"{field}.clip", clip, holds, "a number above 0")
        chain = [*chain, transforms.clip_weights(clip)]
    return chain[0] if len(chain) == 1 else optax.chain(*chain)
