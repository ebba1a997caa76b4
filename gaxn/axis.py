"""The data axis of a program written per device (pmap); identity under jit's global view."""

import jax
import jax.numpy as jnp

from gaxn.types import Indices, PyTree

DATA, MODEL = "data", "model"
"""Axes of devices: those that share a batch, and those that also share a state."""


def bound() -> bool:
    """Whether the data axis is bound here, that is, whether this is a per-device program."""
    try:
        jax.lax.axis_index(DATA)
    except NameError:
        return False
    return True


def name() -> str | None:
    """The axis that a layer with batch statistics has to average over."""
    return DATA if bound() else None


def mean_over_devices(tree: PyTree) -> PyTree:
    """Averages a tree of per-device means into the mean of the global batch."""
    return jax.lax.pmean(tree, DATA) if bound() else tree


def gather(values: jax.Array) -> jax.Array:
    """The values of the global batch, [batch, ...], on every device."""
    return jax.lax.all_gather(values, DATA, tiled=True) if bound() else values


def example_indices(batch: int) -> Indices:
    """The global indices of this program's examples: int32, shape [batch]."""
    first = jax.lax.axis_index(DATA) * batch if bound() else 0
    return first + jnp.arange(batch, dtype=jnp.int32)


def own_rows(values: jax.Array, batch: int) -> jax.Array:
    """What of `gather`'s values is of this program's examples: [batch, ...]."""
    if not bound():
        return values
    return jax.lax.dynamic_slice_in_dim(values, jax.lax.axis_index(DATA) * batch, batch)
