"""A turn moves one player by one gradient, its rival holding still."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gaxn import axis, keys
from gaxn.state import GanState
from gaxn.types import Batch, Indices, PRNGKey, PyTree, Scalars


class Turn(NamedTuple):
    """One move.

    Attributes:
        player: who moves; names parameters and optimiser state.
        loss: a method of the game, (game, batch, examples, key, step) -> (loss, scalars), where
            `examples` are the places of the batch's in the global one: random numbers go by them.
        optimizer: the mover's optimiser.
        parts: a batch is seen in so many, one after the other; memory is that of one.
    """

    player: str
    loss: Callable[[nn.Module, Batch, Indices, PRNGKey, jax.Array], tuple[jax.Array, Scalars]]
    optimizer: optax.GradientTransformation
    parts: int = 1


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
    game: nn.Module,
    turn: Turn,
    state: GanState,
    own: PyTree,
    batch: Batch,
    key: PRNGKey,
    examples: Indices | None = None,
    part: int = 0,
) -> tuple[jax.Array, tuple[Scalars, dict[str, Any]]]:
    """A player's loss under parameters of its own; scalars, and the collections as it left them.

    The batch is a whole one, or has those `examples` of it, the part of such a number.
    """
    variables = {"params": {**state.params, turn.player: own}, **state.collections}
    if examples is None:
        examples = axis.example_indices(batch.images.shape[0])
    (loss, scalars), changed = game.apply(
        variables,
        batch,
        examples,
        key,
        state.step,
        method=turn.loss,
        mutable=list(state.collections),
        rngs={"dropout": jax.random.fold_in(keys.stream(key, "dropout"), part)},
    )
    return loss, (scalars, changed)


def gradient_by(objective: Callable[[PyTree], Any], turn: Turn, state: GanState) -> Found:
    """The gradient of an objective, like `loss_of`, in a player's parameters."""
    return _over_devices(turn, _differentiated(objective, turn, state))


def gradient_of(game: nn.Module, turn: Turn, state: GanState, batch: Batch, key: PRNGKey) -> Found:
    """The gradient by which a player would move; of several parts, the mean of theirs.

    Part k of n has every n-th example, from the k-th on. It meets the collections as the part
    before left them; what is taken over a batch, such as BatchNorm, is taken over a part.
    """
    held, total = state, None
    whole = batch, axis.example_indices(batch.images.shape[0])
    for index in range(turn.parts):
        part = whole if turn.parts == 1 else _part(whole, index, turn.parts)
        if total is not None:
            # Without this, nothing keeps XLA from computing all parts before it adds any.
            part, total = jax.lax.optimization_barrier((part, total))
        found = _differentiated(
            lambda own, held=held, part=part, index=index: loss_of(
                game, turn, held, own, part[0], key, part[1], index
            ),
            turn,
            held,
        )
        held = held.replace(collections=_kept(turn, held.collections, found.changed))
        sums = found.gradient, found.scalars
        total = sums if total is None else jax.tree.map(jnp.add, total, sums)
    gradient, scalars = jax.tree.map(lambda leaf: leaf / turn.parts, total)
    return _over_devices(turn, Found(gradient, held.collections, scalars))


def _part(whole: PyTree, index: int, parts: int) -> PyTree:
    """Every n-th example: of a batch on several devices, each has its share of every part."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, parts, *leaf.shape[1:])[:, index], whole)


def _differentiated(objective: Callable[[PyTree], Any], turn: Turn, state: GanState) -> Found:
    """The gradient and the scalars of this device."""
    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    (loss, (scalars, changed)), gradient = value_and_grad(state.params[turn.player])
    return Found(gradient, changed, {"loss": loss, **scalars})


def _over_devices(turn: Turn, found: Found) -> Found:
    """The same of the global batch, scalars under their names in the log."""
    gradient = axis.mean_over_devices(found.gradient)
    scalars = {**found.scalars, "gradient_norm": optax.tree.norm(gradient)}
    means = axis.mean_over_devices(scalars)
    named = {f"{turn.player[0]}/{name}": value for name, value in means.items()}
    return Found(gradient, found.changed, named)


def move(turn: Turn, state: GanState, found: Found) -> GanState:
    """Moves one player; the rival's parameters and statistics stay bit-equal."""
    mover = state.params[turn.player]
    updates, opt_state = turn.optimizer.update(found.gradient, state.opt_state[turn.player], mover)
    return state.replace(
        params={**state.params, turn.player: optax.apply_updates(mover, updates)},
        collections=_kept(turn, state.collections, found.changed),
        opt_state={**state.opt_state, turn.player: opt_state},
    )


def _kept(
    turn: Turn, held: Mapping[str, dict[str, PyTree]], changed: Mapping[str, dict[str, PyTree]]
) -> dict[str, dict[str, PyTree]]:
    """The collections with those changes that a turn of this player may make."""
    return {
        name: {
            owner: (changed[name] if _belongs(owner, turn.player) else collection)[owner]
            for owner in collection
        }
        for name, collection in held.items()
    }


def take_turn(
    game: nn.Module, turn: Turn, state: GanState, batch: Batch, key: PRNGKey
) -> tuple[GanState, Scalars]:
    """Finds a player's gradient and moves it."""
    found = gradient_of(game, turn, state, batch, key)
    return move(turn, state, found), found.scalars


def _belongs(owner: str, player: str) -> bool:
    """Whether what a collection holds is a player's: its own, or the game's by such a name."""
    return owner == player or owner.startswith(f"{player}_")
