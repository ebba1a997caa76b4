"""Turns one after the other, each seeing what those before it did (Goodfellow et al., 2014)."""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn

from gaxn.state import GanState
from gaxn.turns import Turn, take_turn
from gaxn.types import Batch, PRNGKey, Scalars
from gaxn.updates import of_turn


@dataclasses.dataclass(frozen=True)
class Update:
    """Any number of turns."""

    def __call__(
        self, game: nn.Module, turns: Sequence[Turn], state: GanState, batches: Batch, key: PRNGKey
    ) -> tuple[GanState, Scalars]:
        scalars: Scalars = {}
        for index, turn in enumerate(turns):
            state, found = take_turn(game, turn, state, *of_turn(batches, key, index))
            scalars |= found
        return state, scalars
