"""Update rules, one function each: in which order, and from which state, players are updated."""

import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import optax

from gaxn.distributed import axis
from gaxn.training.state import TrainState
from gaxn.training.step import (
    Gradients,
    PlayerUpdate,
    apply_gradients,
    compute_gradients,
    compute_loss,
    prefix_of,
    update_player,
)
from gaxn.types import Batch, PRNGKey, PyTree, Scalars, check


class UpdateRule(NamedTuple):
    """An update rule.

    Attributes:
        step: (gan, updates, state, batches, key) -> the state after all updates, and scalars;
            batches are stacked along a leading axis, one per update.
        allows_image_history: whether losses may update an image history: each is evaluated once a
            step, and differentiated once.
        optimizer_updates: how often an update of a player updates the state of its optimizer, by
            which schedules count.
        differentiates_optimizer: whether a gradient goes through an update of the discriminator.
    """

    step: Callable[..., tuple[TrainState, Scalars]]
    allows_image_history: bool
    optimizer_updates: int = 1
    differentiates_optimizer: bool = False


def alternating() -> UpdateRule:
    """Any number of updates, each from the state after the one before (Goodfellow et al., 2014)."""

    def step(gan, updates, state, batches, key) -> tuple[TrainState, Scalars]:
        scalars: Scalars = {}
        for index, update in enumerate(updates):
            state, new = update_player(gan, update, state, *_inputs(batches, key, index))
            scalars |= new
        return state, scalars

    return UpdateRule(step, allows_image_history=True)


def simultaneous(shared: bool = False) -> UpdateRule:
    """One update per player, all from the same state (Mescheder et al., 2017, algorithm 1).

    Args:
        shared: whether all see the same images and latents; then XLA generates once for all.
    """

    def step(gan, updates, state, batches, key) -> tuple[TrainState, Scalars]:
        gradients = _all_gradients(gan, updates, state, batches, key, shared)
        return _apply_all(updates, state, gradients)

    return UpdateRule(step, allows_image_history=True)


def extragradient() -> UpdateRule:
    """A step from here, by the gradients after a simultaneous step (Gidel et al., 2019).

    The simultaneous step only looks ahead. The players then move from where they were, with the
    optimizer states that it left (ExtraAdam, algorithm 4). Both have the same batches and keys.
    What an optimizer itself adds to a gradient, such as weight decay, is at the point of departure.
    """

    def step(gan, updates, state, batches, key) -> tuple[TrainState, Scalars]:
        ahead, _ = simultaneous().step(gan, updates, state, batches, key)
        # Statistics, too, are those of one pass over the batch.
        at_params = state.replace(params=ahead.params)
        gradients = _all_gradients(gan, updates, at_params, batches, key)
        return _apply_all(updates, state.replace(opt_state=ahead.opt_state), gradients)

    return UpdateRule(step, allows_image_history=False, optimizer_updates=2)


def consensus(weight: float = 10.0) -> UpdateRule:
    """Simultaneous, with the gradient of weight / 2 |v|^2 added (Mescheder et al., 2017, alg. 2).

    v is the gradient of each player's loss in its own parameters, over the global batch.

    Args:
        weight: weight of the added gradient, 0 or more.
    """
    check("weight", weight, weight >= 0, "0 or more")

    def step(gan, updates, state, batches, key) -> tuple[TrainState, Scalars]:
        def half_square_norm(params: dict[str, PyTree]):
            gradients = _all_gradients(gan, updates, state.replace(params=params), batches, key)
            value = sum(optax.tree.norm(g.gradient, squared=True) for g in gradients) / 2
            return value, (value, gradients)

        pull, (value, gradients) = jax.grad(half_square_norm, has_aux=True)(state.params)
        pull = axis.mean_over_devices(pull)
        regularized = []
        for update, g in zip(updates, gradients, strict=True):
            gradient = optax.tree.add_scale(g.gradient, weight, pull[update.player])
            # A loop that saves only finite states has to see the sum.
            norm = {f"{prefix_of(update.player)}/gradient_norm": optax.tree.norm(gradient)}
            regularized.append(g._replace(gradient=gradient, scalars={**g.scalars, **norm}))
        state, scalars = _apply_all(updates, state, regularized)
        return state, {"g/disagreement": value, **scalars}

    return UpdateRule(step, allows_image_history=False)


def unrolled(steps: int = 5) -> UpdateRule:
    """The generator's gradient goes through further discriminator steps (Metz et al., 2017).

    They are on the same batch (eq. 6-11); the discriminator itself takes the first of them.

    Args:
        steps: updates of the discriminator through which the generator's gradient goes, 1 or more.
    """
    check("steps", steps, steps >= 1, "1 or more")

    def step(gan, updates, state, batches, key) -> tuple[TrainState, Scalars]:
        _check_players(updates, len(updates) == 2, "one per player of two with the rule unrolled")
        discriminator, generator = updates
        count = discriminator.accumulation_steps
        check("accumulation_steps", count, count == 1, "1 with the update rule unrolled")

        def loss_ahead(gan, update, state, params, *inputs):
            ahead = state.replace(params={**state.params, update.player: params})
            for _ in range(steps):
                ahead, _ = update_player(gan, discriminator, ahead, *_inputs(batches, key, 0))
            return compute_loss(gan, update, ahead, params, *inputs)

        gradients = compute_gradients(gan, generator, state, *_inputs(batches, key, 1), loss_ahead)
        state, scalars = update_player(gan, discriminator, state, *_inputs(batches, key, 0))
        return apply_gradients(generator, state, gradients), {**scalars, **gradients.scalars}

    return UpdateRule(step, allows_image_history=False, differentiates_optimizer=True)


def _all_gradients(
    gan: nn.Module,
    updates: Sequence[PlayerUpdate],
    state: TrainState,
    batches: Batch,
    key: PRNGKey,
    shared: bool = False,
) -> list[Gradients]:
    _check_players(updates, True, "one per player with this rule (alternating takes any number)")
    return [
        compute_gradients(gan, update, state, *_inputs(batches, key, 0 if shared else index))
        for index, update in enumerate(updates)
    ]


def _apply_all(
    updates: Sequence[PlayerUpdate], state: TrainState, gradients: Sequence[Gradients]
) -> tuple[TrainState, Scalars]:
    scalars: Scalars = {}
    for update, player_gradients in zip(updates, gradients, strict=True):
        state = apply_gradients(update, state, player_gradients)
        scalars |= player_gradients.scalars
    return state, scalars


def _inputs(batches: Batch, key: PRNGKey, index: int) -> tuple[Batch, PRNGKey]:
    batch = jax.tree.map(operator.itemgetter(index), batches)
    return batch, jax.random.fold_in(key, index)


def _check_players(updates: Sequence[PlayerUpdate], valid: bool, expected: str) -> None:
    players = [update.player for update in updates]
    valid = valid and len(set(players)) == len(players)
    check("the updates of a step", players, valid, expected)
