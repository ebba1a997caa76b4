"""Extragradient: the step from here, by the gradients of where it leads (Gidel et al., 2019).

A whole simultaneous step is taken to look ahead; the players then go from where they were,
their optimisers from where that step left them, as in ExtraAdam (algorithm 4).
"""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn

from gaxn.state import GanState
from gaxn.turns import Turn, move
from gaxn.types import Batch, PRNGKey, Scalars
from gaxn.updates import gradients, simultaneous


@dataclasses.dataclass(frozen=True)
class Update:
    """One turn a player, two gradients each, of the same batches and keys."""

    def __call__(
        self, game: nn.Module, turns: Sequence[Turn], state: GanState, batches: Batch, key: PRNGKey
    ) -> tuple[GanState, Scalars]:
        ahead, _ = simultaneous.Update()(game, turns, state, batches, key)
        scalars: Scalars = {}
        found_ahead = gradients(game, turns, ahead, batches, key)
        state = state.replace(opt_state=ahead.opt_state)
        for turn, found in zip(turns, found_ahead, strict=True):
            state = move(turn, state, found)
            scalars |= found.scalars
        return state, scalars
