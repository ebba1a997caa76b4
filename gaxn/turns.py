"""A turn moves one player by one gradient, its rival holding still."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax

from gaxn import axis
from gaxn.state import GanState
from gaxn.types import Batch, PRNGKey, PyTree, Scalars


class Turn(NamedTuple):
    """One move.

    Attributes:
        player: who moves; names parameters and optimiser state.
        loss: a method of the game, (game, batch, key, step) -> (loss, scalars).
        optimizer: the mover's optimiser.
    """

    player: str
    loss: Callable[[nn.Module, Batch, PRNGKey, jax.Array], tuple[jax.Array, Scalars]]
    optimizer: optax.GradientTransformation


class Found(NamedTuple):
    """What a turn finds before it moves.

    Attributes:
        gradient: of the mover's loss in its parameters, over the global batch.
        changed: the mutable collections as the loss left them.
        scalars: for the log, over the global batch.
    """

    gradient: PyTree
    changed: dict[str, Any]
    scalars: Scalars


def loss_of(
    game: nn.Module, turn: Turn, state: GanState, own: PyTree, batch: Batch, key: PRNGKey
) -> tuple[jax.Array, tuple[Scalars, dict[str, Any]]]:
    """A player's loss under parameters of its own; scalars, and the collections as it left them."""
    variables = {"params": {**state.params, turn.player: own}, **state.collections}
    (loss, scalars), changed = game.apply(
        variables, batch, key, state.step, method=turn.loss, mutable=list(state.collections)
    )
    return loss, (scalars, changed)


def gradient_by(objective: Callable[[PyTree], Any], turn: Turn, state: GanState) -> Found:
    """The gradient of an objective, like `loss_of`, in a player's parameters."""
    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    (loss, (scalars, changed)), gradient = value_and_grad(state.params[turn.player])
    gradient = axis.mean_over_devices(gradient)
    scalars = {"loss": loss, **scalars, "gradient_norm": optax.tree.norm(gradient)}
    prefix = turn.player[0]
    means = axis.mean_over_devices(scalars)
    named = {f"{prefix}/{name}": value for name, value in means.items()}
    return Found(gradient, changed, named)


def gradient_of(game: nn.Module, turn: Turn, state: GanState, batch: Batch, key: PRNGKey) -> Found:
    """The gradient by which a player would move."""
    return gradient_by(lambda own: loss_of(game, turn, state, own, batch, key), turn, state)


def move(turn: Turn, state: GanState, found: Found) -> GanState:
    """Moves one player; the rival's parameters and statistics stay bit-equal."""
    mover = state.params[turn.player]
    updates, opt_state = turn.optimizer.update(found.gradient, state.opt_state[turn.player], mover)
    collections = {
        name: {
            owner: (found.changed[name] if _belongs(owner, turn.player) else held)[owner]
            for owner in held
        }
        for name, held in state.collections.items()
    }
    return state.replace(
        params={**state.params, turn.player: optax.apply_updates(mover, updates)},
        collections=collections,
        opt_state={**state.opt_state, turn.player: opt_state},
    )


def take_turn(
    game: nn.Module, turn: Turn, state: GanState, batch: Batch, key: PRNGKey
) -> tuple[GanState, Scalars]:
    """Finds a player's gradient and moves it."""
    found = gradient_of(game, turn, state, batch, key)
    return move(turn, state, found), found.scalars


def _belongs(owner: str, player: str) -> bool:
    """Whether what a collection holds is a player's: its own, or the game's by such a name."""
    return owner == player or owner.startswith(f"{player}_")
