"""Unrolled: the generator sees how the discriminator will answer (Metz et al., 2017, eq. 6-11).

Its gradient goes through some more steps of the discriminator, on the same batch; of those the
discriminator itself takes the first.
"""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn

from gaxn.state import GanState
from gaxn.turns import Turn, gradient_by, loss_of, move
from gaxn.types import Batch, PRNGKey, PyTree, Scalars, require
from gaxn.updates import of_turn, require_one_turn_each


@dataclasses.dataclass(frozen=True)
class Update:
    """One turn a player.

    Attributes:
        steps: of the discriminator that the generator looks ahead, 1 or more.
    """

    steps: int = 5

    def __post_init__(self):
        require("steps", self.steps, self.steps >= 1, "1 or more")

    def __call__(
        self, game: nn.Module, turns: Sequence[Turn], state: GanState, batches: Batch, key: PRNGKey
    ) -> tuple[GanState, Scalars]:
        require_one_turn_each(turns)
        critic, maker = turns
        require("config.accumulate", critic.parts, critic.parts == 1, "1 with unrolled")

        def answered(state: GanState) -> tuple[GanState, Scalars]:
            """One step of the discriminator."""
            found = gradient_by(
                lambda own: loss_of(game, critic, state, own, *of_turn(batches, key, 0)),
                critic,
                state,
            )
            return move(critic, state, found), found.scalars

        def looking_ahead(own: PyTree):
            ahead = state.replace(params={**state.params, maker.player: own})
            for _ in range(self.steps):
                ahead, _ = answered(ahead)
            return loss_of(game, maker, ahead, own, *of_turn(batches, key, 1))

        found = gradient_by(looking_ahead, maker, state)
        state, scalars = answered(state)
        return move(maker, state, found), {**scalars, **found.scalars}
