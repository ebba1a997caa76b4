"""Random keys, all folded from the root: by step, player update, named stream and example."""

import zlib

import jax

from gaxn.types import Indices, PRNGKey


def stream(key: PRNGKey, name: str) -> PRNGKey:
    """Returns the key of a named stream, the same on every machine and in every process."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def per_example(key: PRNGKey, indices: Indices) -> jax.Array:
    """Returns one key per example, by its global index: shape of `indices`."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)
