"""A population: runs of one config under several seeds, trained at once by one program.

With one member a state is as it is; with more, every leaf has a leading axis of members.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gaxn.types import PRNGKey, PyTree


class Member(NamedTuple):
    """One run.

    Attributes:
        seed: what its key comes from.
        key: its root key, that of the run of this seed alone.
    """

    seed: int
    key: PRNGKey


def members(seed: int, count: int) -> tuple[Member, ...]:
    """As many runs, of seed, seed + 1, ..."""
    return tuple(Member(own, jax.random.key(own)) for own in range(seed, seed + count))


def together(members: Sequence[Member]) -> jax.Array:
    """The key of a program over all of them: one, or one a member."""
    return members[0].key if len(members) == 1 else jnp.stack([each.key for each in members])


def member_of(tree: PyTree, count: int, index: int) -> PyTree:
    """What belongs to one of `count` members."""
    return tree if count == 1 else jax.tree.map(lambda leaf: leaf[index], tree)
