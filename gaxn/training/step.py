"""The training step: player updates in the order of an update rule, then the moving average.

Only `compute_gradients` differentiates losses, and only `apply_gradients` changes parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gaxn import keys
from gaxn.distributed import axis
from gaxn.nn import growing
from gaxn.objectives.schedules import ScalarOrSchedule, value_at
from gaxn.training.state import TrainState, owner
from gaxn.types import Batch, Indices, PRNGKey, PyTree, Scalars


class PlayerUpdate(NamedTuple):
    """One gradient step of one player.

    Attributes:
        player: the player, under whose name its parameters and optimizer state are kept.
        loss: a method of the GAN, (gan, batch, examples, key, step) -> (loss, scalars), see
            `gaxn.gans.BaseGAN.losses`.
        optimizer: of the player.
        accumulation_steps: micro-batches per batch; memory is that of one micro-batch.
    """

    player: str
    loss: Callable[[nn.Module, Batch, Indices, PRNGKey, jax.Array], tuple[jax.Array, Scalars]]
    optimizer: optax.GradientTransformation
    accumulation_steps: int = 1


class Gradients(NamedTuple):
    """The gradient of a player's loss over the global batch; collections and scalars after it."""

    gradient: PyTree
    collections: dict[str, Any]
    scalars: Scalars


PREFIXES = {"discriminator": "d", "generator": "g"}
"""Prefixes of the names of players' scalars; of any further player, its name."""


def prefix_of(player: str) -> str:
    """Returns the prefix of the names of a player's scalars."""
    return PREFIXES.get(player, player)


def make_train_step(
    gan: nn.Module,
    updates: Sequence[PlayerUpdate],
    ema_decay: ScalarOrSchedule,
    update_step: Callable,
    first_steps: PyTree | None = None,
) -> Callable[[TrainState, Batch, PRNGKey], tuple[TrainState, Scalars]]:
    """Returns the training step, (state, batches, root key) -> (state, scalars).

    Batches are stacked along a leading axis, one per player update: each sees fresh images.

    Args:
        gan: the networks and their losses.
        updates: the player updates of a step, in order.
        ema_decay: of the moving average of the generator's parameters, or a schedule of it.
        update_step: of an update rule (gaxn/training/update_rules.py).
        first_steps: of a generator that grows, the step from which on each parameter is there.
    """

    def train_step(state: TrainState, batches: Batch, key: PRNGKey) -> tuple[TrainState, Scalars]:
        chex.assert_tree_shape_prefix(batches, (len(updates),))
        step_key = jax.random.fold_in(key, state.step)
        # Networks that grow read the step from a collection; others have none.
        collections = growing.with_step(state.collections, state.step)
        state_at_step = state.replace(collections=collections)
        new_state, scalars = update_step(gan, updates, state_at_step, batches, step_key)
        ema = moving_average(
            new_state.params["generator"], state.ema, state.step, ema_decay, first_steps
        )
        new_state = new_state.replace(step=state.step + 1, ema=ema)
        chex.assert_trees_all_equal_shapes_and_dtypes(new_state, state)
        return new_state, scalars

    return train_step


def moving_average(
    params: PyTree,
    ema: PyTree,
    step: jax.Array,
    ema_decay: ScalarOrSchedule,
    first_steps: PyTree | None = None,
) -> PyTree:
    """Returns the moving average of parameters after a step.

    It warms up: its decay is min(ema_decay, (1 + n) / (10 + n)) after n steps in which a parameter
    was there. That of a parameter that is not there yet does not change.

    Args:
        params: after the step.
        ema: before the step.
        step: training steps before this one.
        ema_decay: number or schedule.
        first_steps: the step from which on each parameter is there; None for 0.
    """

    def average(new: PyTree, old: PyTree, first: int) -> PyTree:
        count = jnp.maximum(step - first, 0)
        decay = jnp.minimum(value_at(ema_decay, step), (1 + count) / (10 + count))
        return optax.incremental_update(new, old, jnp.where(step < first, 0, 1 - decay))

    if first_steps is None:
        return average(params, ema, 0)
    return jax.tree.map(average, params, ema, first_steps)


def update_player(
    gan: nn.Module, update: PlayerUpdate, state: TrainState, batch: Batch, key: PRNGKey
) -> tuple[TrainState, Scalars]:
    """Moves one player by one gradient step; its rival's parameters and statistics do not change.

    Args:
        gan: the networks and their losses.
        update: which player moves, by which loss, with which optimizer.
        state: before the update.
        batch: images uint8 [batch, height, width, channels], labels int32 [batch] or None.
        key: of this step and update.

    Returns:
        The state after the update, and scalars for the log.
    """
    gradients = compute_gradients(gan, update, state, batch, key)
    return apply_gradients(update, state, gradients), gradients.scalars


def compute_loss(
    gan: nn.Module,
    update: PlayerUpdate,
    state: TrainState,
    params: PyTree,
    batch: Batch,
    key: PRNGKey,
    examples: Indices,
    micro_batch: int,
) -> tuple[jax.Array, tuple[Scalars, dict[str, Any]]]:
    """Computes a player's loss.

    Args:
        gan: the networks and their losses.
        update: the player and its loss.
        state: the variables, but for the parameters of the player.
        params: of the player, by which the loss is differentiated.
        batch: one micro-batch.
        key: of this step and update.
        examples: global index of each example, int32 [micro-batch].
        micro_batch: its number, 0 to accumulation_steps - 1; dropout depends on it.

    Returns:
        The loss, and (scalars for the log, collections after the loss).
    """
    (loss, scalars), collections = gan.apply(
        {"params": {**state.params, update.player: params}, **state.collections},
        batch,
        examples,
        key,
        state.step,
        method=update.loss,
        mutable=list(state.collections),
        rngs={"dropout": jax.random.fold_in(keys.stream(key, "dropout"), micro_batch)},
    )
    return loss, (scalars, collections)


def compute_gradients(
    gan: nn.Module,
    update: PlayerUpdate,
    state: TrainState,
    batch: Batch,
    key: PRNGKey,
    loss_fn: Callable = compute_loss,
) -> Gradients:
    """Returns the gradient of a player's loss, the mean over its micro-batches and over devices.

    Micro-batch k of n has every n-th example, from the k-th on. It starts from the collections
    that the one before left; batch statistics are those of a micro-batch.
    """
    count, total = update.accumulation_steps, None
    inputs = batch, axis.example_indices(batch.images.shape[0])
    value_and_grad = jax.value_and_grad(loss_fn, argnums=3, has_aux=True)
    for index in range(count):
        micro_batch = inputs
        if count > 1:
            # Every n-th example: of a sharded batch each device has its share of every one.
            micro_batch = jax.tree.map(
                lambda x, k=index: x.reshape(-1, count, *x.shape[1:])[:, k], inputs
            )
        if total is not None:
            # Without a barrier XLA may compute all micro-batches before it adds any.
            micro_batch, total = jax.lax.optimization_barrier((micro_batch, total))
        params, (images, examples) = state.params[update.player], micro_batch
        (loss, (scalars, collections)), gradient = value_and_grad(
            gan, update, state, params, images, key, examples, index
        )
        state = _keep_collections(update, state, collections)
        terms = gradient, {"loss": loss, **scalars}
        total = terms if total is None else jax.tree.map(jnp.add, total, terms)
    gradient, scalars = jax.tree.map(lambda leaf: leaf / count, total)
    gradient = axis.mean_over_devices(gradient)
    scalars = axis.mean_over_devices({**scalars, "gradient_norm": optax.tree.norm(gradient)})
    prefix = prefix_of(update.player)
    named = {f"{prefix}/{name}": value for name, value in scalars.items()}
    return Gradients(gradient, state.collections, named)


def apply_gradients(update: PlayerUpdate, state: TrainState, gradients: Gradients) -> TrainState:
    """Moves a player by its gradient; its rival's parameters and statistics stay bit-equal."""
    params, opt_state = state.params[update.player], state.opt_state[update.player]
    updates, opt_state = update.optimizer.update(gradients.gradient, opt_state, params)
    state = _keep_collections(update, state, gradients.collections)
    return state.replace(
        params={**state.params, update.player: optax.apply_updates(params, updates)},
        opt_state={**state.opt_state, update.player: opt_state},
    )


def _keep_collections(
    update: PlayerUpdate, state: TrainState, collections: Mapping[str, dict[str, PyTree]]
) -> TrainState:
    """Returns the state with the player's new variables and the old ones of all others."""
    merged = {}
    for collection, variables in state.collections.items():
        of_player = [name for name in variables if owner(name, state.params) == update.player]
        merged[collection] = variables | {name: collections[collection][name] for name in of_player}
    return state.replace(collections=merged)
