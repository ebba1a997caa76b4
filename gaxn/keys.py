"""Every key is folded from the root: by step, by turn, by named stream, by example."""

import zlib

import jax

from gaxn.types import Indices, PRNGKey


def stream(key: PRNGKey, name: str) -> PRNGKey:
    """The key of a named stream, the same on every machine and in every Python process."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def per_example(key: PRNGKey, indices: Indices) -> jax.Array:
    """One key an example, by its global index: shape of `indices`, a key each."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)
