"""The data axis of a program written per device (pmap); identity under jit's global view."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from gaxn.types import Indices, PyTree

DATA, MODEL = "data", "model"
"""Axes of devices: devices along DATA share a batch, those along MODEL also share a state."""

BY_EXAMPLE = PartitionSpec((DATA, MODEL))
"""Divides the examples of a batch among all devices."""


def is_bound() -> bool:
    """Returns whether the data axis is bound, that is, whether this is a per-device program."""
    try:
        jax.lax.axis_index(DATA)
    except NameError:
        return False
    return True


def name() -> str | None:
    """Returns the axis over which batch statistics have to be averaged, if any."""
    return DATA if is_bound() else None


def mean_over_devices(tree: PyTree) -> PyTree:
    """Averages per-device means into the mean over the global batch."""
    return jax.lax.pmean(tree, DATA) if is_bound() else tree


def gather(values: jax.Array) -> jax.Array:
    """Returns the values of the global batch, [batch, ...], on every device."""
    return jax.lax.all_gather(values, DATA, tiled=True) if is_bound() else values


def example_indices(batch: int) -> Indices:
    """Returns the global indices of this program's examples: int32, shape [batch].

    Under jit they are sharded as the batch is, so that XLA also shards what is drawn from them,
    such as latents: they may be all of the batch that a generator's loss depends on.
    """
    first = jax.lax.axis_index(DATA) * batch if is_bound() else 0
    indices = first + jnp.arange(batch, dtype=jnp.int32)
    if is_bound() or jax.sharding.get_abstract_mesh().empty:
        return indices
    return jax.lax.with_sharding_constraint(indices, BY_EXAMPLE)


def local_rows(values: jax.Array, batch: int) -> jax.Array:
    """Returns this program's part, [batch, ...], of values of the global batch."""
    if not is_bound():
        return values
    return jax.lax.dynamic_slice_in_dim(values, jax.lax.axis_index(DATA) * batch, batch)
