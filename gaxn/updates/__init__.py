"""How the players of a game move within one step, one way a file, each with an `Update`.

An update is a frozen dataclass; called with a game, its turns, a state, batches stacked along
a leading axis (one a turn) and the step's key, it gives the next state and scalars.
"""

import operator
from collections.abc import Sequence

import flax.linen as nn
import jax

from gaxn.state import GanState
from gaxn.turns import Found, Turn, gradient_of
from gaxn.types import Batch, PRNGKey, require


def gradients(
    game: nn.Module, turns: Sequence[Turn], state: GanState, batches: Batch, key: PRNGKey
) -> list[Found]:
    """Every player's gradient at one and the same state.

    Raises:
        InputError: a player has more than one turn.
    """
    require_one_turn_each(turns)
    return [
        gradient_of(game, turn, state, *of_turn(batches, key, index))
        for index, turn in enumerate(turns)
    ]


def require_one_turn_each(turns: Sequence[Turn]) -> None:
    """Refuses several turns of one player.

    Raises:
        InputError: there are.
    """
    valid = "2 with this config.updates, one a player, or another number with alternating"
    require("config.critic_turns + config.generator_turns", len(turns), len(turns) == 2, valid)


def of_turn(batches: Batch, key: PRNGKey, index: int) -> tuple[Batch, PRNGKey]:
    """The batch and the key of one turn."""
    batch = jax.tree.map(operator.itemgetter(index), batches)
    return batch, jax.random.fold_in(key, index)
