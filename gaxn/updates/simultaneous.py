"""Both players move at once, from the same state (Mescheder et al., 2017, algorithm 1)."""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn

from gaxn.state import GanState
from gaxn.turns import Turn, move
from gaxn.types import Batch, PRNGKey, Scalars
from gaxn.updates import gradients


@dataclasses.dataclass(frozen=True)
class Update:
    """One turn a player."""

    def __call__(
        self, game: nn.Module, turns: Sequence[Turn], state: GanState, batches: Batch, key: PRNGKey
    ) -> tuple[GanState, Scalars]:
        scalars: Scalars = {}
        for turn, found in zip(turns, gradients(game, turns, state, batches, key), strict=True):
            state = move(turn, state, found)
            scalars |= found.scalars
        return state, scalars
