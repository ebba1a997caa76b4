"""A step is a tuple of turns; a turn moves one player by one gradient, its rival holding still."""

import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gaxn import axis
from gaxn.state import GanState
from gaxn.types import Batch, PRNGKey, PyTree, Scalars

Step = Callable[[GanState, Batch, PRNGKey], tuple[GanState, Scalars]]


class Turn(NamedTuple):
    """One move.

    Attributes:
        player: who moves; names parameters and optimiser state.
        loss: a method of the game, (game, batch, key) -> (loss, scalars).
        optimizer: the mover's optimiser.
    """

    player: str
    loss: Callable[[nn.Module, Batch, PRNGKey], tuple[jax.Array, Scalars]]
    optimizer: optax.GradientTransformation


def take_turn(
    game: nn.Module, turn: Turn, state: GanState, batch: Batch, key: PRNGKey
) -> tuple[GanState, Scalars]:
    """Moves one player; the rival's parameters and statistics stay bit-equal."""

    def objective(mover: PyTree):
        variables = {"params": {**state.params, turn.player: mover}, **state.collections}
        (loss, scalars), changed = game.apply(
            variables, batch, key, method=turn.loss, mutable=list(state.collections)
        )
        return loss, (scalars, changed)

    mover = state.params[turn.player]
    (loss, (scalars, changed)), gradient = jax.value_and_grad(objective, has_aux=True)(mover)
    gradient = axis.mean_over_devices(gradient)
    updates, opt_state = turn.optimizer.update(gradient, state.opt_state[turn.player], mover)
    rivals = state.params.keys() - {turn.player}
    collections = {
        name: {owner: (held if owner in rivals else changed[name])[owner] for owner in held}
        for name, held in state.collections.items()
    }
    state = state.replace(
        params={**state.params, turn.player: optax.apply_updates(mover, updates)},
        collections=collections,
        opt_state={**state.opt_state, turn.player: opt_state},
    )
    scalars = {"loss": loss, **scalars, "gradient_norm": optax.tree.norm(gradient)}
    prefix = turn.player[0]
    means = axis.mean_over_devices(scalars)
    return state, {f"{prefix}/{name}": value for name, value in means.items()}


def make_step(game: nn.Module, turns: Sequence[Turn], ema_decay: float) -> Step:
    """The whole step: every turn in order, each on its own batch, then the running mean.

    The step takes batches stacked along a leading axis, one a turn, and the run's root
    key. The mean warms up: its decay is min(ema_decay, (1 + step) / (10 + step)).
    """

    def step(state: GanState, batches: Batch, key: PRNGKey) -> tuple[GanState, Scalars]:
        step_key = jax.random.fold_in(key, state.step)
        scalars: Scalars = {}
        for index, turn in enumerate(turns):
            batch = jax.tree.map(operator.itemgetter(index), batches)
            state, found = take_turn(game, turn, state, batch, jax.random.fold_in(step_key, index))
            scalars |= found
        decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(state.params["generator"], state.ema, 1 - decay)
        return state.replace(step=state.step + 1, ema=ema), scalars

    return step
