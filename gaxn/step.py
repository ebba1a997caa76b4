"""A step is a tuple of turns, moved as an update says; then the running mean."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gaxn.state import GanState
from gaxn.turns import Turn
from gaxn.types import Batch, PRNGKey, Scalars
from gaxn.updates import alternating

Step = Callable[[GanState, Batch, PRNGKey], tuple[GanState, Scalars]]
Update = Callable[[nn.Module, Sequence[Turn], GanState, Batch, PRNGKey], tuple[GanState, Scalars]]


def make_step(
    game: nn.Module,
    turns: Sequence[Turn],
    ema_decay: float,
    update: Update = alternating.Update(),  # noqa: B008 (frozen)
) -> Step:
    """The whole step: every turn on its own batch, then the generator's running mean.

    The step takes batches stacked along a leading axis, one a turn, and the run's root
    key. The mean warms up: its decay is min(ema_decay, (1 + step) / (10 + step)).

    Args:
        game: the players and their losses.
        turns: the moves.
        ema_decay: of the running mean.
        update: how the players move; by default one after the other.
    """

    def step(state: GanState, batches: Batch, key: PRNGKey) -> tuple[GanState, Scalars]:
        step_key = jax.random.fold_in(key, state.step)
        state, scalars = update(game, turns, state, batches, step_key)
        decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(state.params["generator"], state.ema, 1 - decay)
        return state.replace(step=state.step + 1, ema=ema), scalars

    return step
