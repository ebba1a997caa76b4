"""Populations: runs of one config under several seeds, trained at once by one program.

A state of several members has a leading axis of members in every leaf; a state of one has none.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gaxn.types import PRNGKey, PyTree


class Member(NamedTuple):
    """One run of a population.

    Attributes:
        seed: of the run.
        key: its root key, equal to that of a run of this seed alone.
    """

    seed: int
    key: PRNGKey


def make_members(seed: int, count: int) -> tuple[Member, ...]:
    """Returns `count` members, of seed, seed + 1, ..."""
    return tuple(Member(s, jax.random.key(s)) for s in range(seed, seed + count))


def root_key(members: Sequence[Member]) -> jax.Array:
    """Returns the key of a program over all members: one key, or one per member of several."""
    return members[0].key if len(members) == 1 else jnp.stack([member.key for member in members])


def member_state(tree: PyTree, count: int, index: int) -> PyTree:
    """Returns one member's part of a tree over `count` members."""
    return tree if count == 1 else jax.tree.map(lambda leaf: leaf[index], tree)
