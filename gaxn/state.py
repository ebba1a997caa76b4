"""The state of a game: arrays only, so the state is the checkpoint."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from gaxn import keys
from gaxn.types import Batch, PRNGKey, PyTree


class GanState(struct.PyTreeNode):
    """All that training changes.

    Attributes:
        step: steps done, int32.
        params: parameters by player.
        collections: every mutable Flax collection, each by player; what the game itself
            keeps belongs to the player whose name it begins with.
        opt_state: optimiser state by player.
        ema: the running mean of the generator's parameters.
    """

    step: jax.Array
    params: dict[str, PyTree]
    collections: dict[str, dict[str, PyTree]]
    opt_state: dict[str, PyTree]
    ema: PyTree


def steps_done(state: GanState) -> int:
    """How many steps a host state has seen; the members of a population are equally far."""
    return int(np.ravel(state.step)[0])


def create(
    game: nn.Module,
    optimizers: Mapping[str, optax.GradientTransformation],
    batch: Batch,
    key: PRNGKey,
) -> GanState:
    """The state at step 0; run it under jit, or `ema` aliases the parameters."""
    variables = game.init(
        {"params": keys.stream(key, "parameters"), "dropout": keys.stream(key, "first dropout")},
        batch,
        keys.stream(key, "first latents"),
        mutable=nn.DenyList("intermediates"),
    )
    params = variables.pop("params")
    return GanState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=variables,
        opt_state={player: optimizers[player].init(params[player]) for player in params},
        ema=jax.tree.map(jnp.copy, params["generator"]),
    )
