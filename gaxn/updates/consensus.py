"""Consensus optimisation: both players also make both gradients small (Mescheder et al., 2017)."""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import optax

from gaxn import axis
from gaxn.state import GanState
from gaxn.turns import Turn, move
from gaxn.types import Batch, PRNGKey, PyTree, Scalars, require
from gaxn.updates import gradients


@dataclasses.dataclass(frozen=True)
class Update:
    """Simultaneous, with the gradient of weight / 2 |v|^2 added to v (algorithm 2).

    v is the gradient of each player's loss in its own parameters, over the global batch.

    Attributes:
        weight: of the regulariser, 0 or more.
    """

    weight: float = 10.0

    def __post_init__(self):
        require("weight", self.weight, self.weight >= 0, "0 or more")

    def __call__(
        self, game: nn.Module, turns: Sequence[Turn], state: GanState, batches: Batch, key: PRNGKey
    ) -> tuple[GanState, Scalars]:
        def disagreement(params: dict[str, PyTree]):
            found = gradients(game, turns, state.replace(params=params), batches, key)
            value = sum(optax.tree.norm(each.gradient, squared=True) for each in found) / 2
            return value, found

        (value, found), pull = jax.value_and_grad(disagreement, has_aux=True)(state.params)
        pull = axis.mean_over_devices(pull)
        scalars: Scalars = {"g/disagreement": value}
        for turn, each in zip(turns, found, strict=True):
            gradient = optax.tree.add_scale(each.gradient, self.weight, pull[turn.player])
            state = move(turn, state, each._replace(gradient=gradient))
            scalars |= each.scalars
        return state, scalars
