"""The training state: arrays only, so that the state is the checkpoint."""

from collections.abc import Iterable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from gaxn import keys
from gaxn.types import Batch, PRNGKey, PyTree, check


class TrainState(struct.PyTreeNode):
    """The training state.

    Attributes:
        step: training steps done, int32.
        params: parameters by player.
        collections: every mutable Flax collection. The names within begin with the player that
            the variables belong to.
        opt_state: optimizer state by player.
        ema: exponential moving average of the generator's parameters.
    """

    step: jax.Array
    params: dict[str, PyTree]
    collections: dict[str, dict[str, PyTree]]
    opt_state: dict[str, PyTree]
    ema: PyTree


def owner(name: str, players: Iterable[str]) -> str:
    """Returns the player whose name a variable's begins with, the longest; "" for none."""
    owners = (player for player in players if f"{name}_".startswith(f"{player}_"))
    return max(owners, key=len, default="")


def steps_done(state: TrainState) -> int:
    """Returns the number of training steps of a host state, equal for all members."""
    return int(np.ravel(state.step)[0])


def create_state(
    gan: nn.Module,
    optimizers: Mapping[str, optax.GradientTransformation],
    batch: Batch,
    key: PRNGKey,
) -> TrainState:
    """Returns the state at step 0. Run it under jit: made eagerly, `ema` aliases the parameters.

    Args:
        gan: the networks and their losses.
        optimizers: by player.
        batch: any batch; only its shapes matter.
        key: the root key.
    """
    variables = gan.init(
        {"params": keys.stream(key, "parameters"), "dropout": keys.stream(key, "first dropout")},
        batch,
        keys.stream(key, "first latents"),
        mutable=nn.DenyList("intermediates"),
    )
    params = variables.pop("params")
    known = ", ".join(optimizers)
    expected = f"those with a loss, {known} (each runs in __call__, and has a loss in losses)"
    check("the GAN's players", tuple(params), params.keys() == optimizers.keys(), expected)
    for name in {name for collection in variables.values() for name in collection}:
        check("a variable's name", name, bool(owner(name, params)), f"PLAYER_..., of {known}")
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=variables,
        opt_state={player: optimizers[player].init(params[player]) for player in params},
        ema=jax.tree.map(jnp.copy, params["generator"]),
    )
