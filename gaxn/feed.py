"""The batches of step n: a pure function of the run's key and n."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from gaxn import keys
from gaxn.data import Source
from gaxn.mesh import Placement
from gaxn.types import Batch, PRNGKey


def make_feed(
    source: Source, key: PRNGKey, turns: int, batch: int, placement: Placement
) -> Callable[[int], Batch]:
    """step -> its placed batches, [turns, batch, ...] each.

    All batches together are one stream of examples: the source in a new order each epoch,
    without gaps or repeats at the seams.
    """
    order_of_epoch = make_order(keys.stream(key, "data"), len(source))
    draw = placement.source(source.look_up, source.table)

    def feed(step: int) -> Batch:
        return draw(indices_of_step(order_of_epoch, len(source), step, turns, batch))

    return feed


def make_order(key: PRNGKey, size: int) -> Callable[[int], np.ndarray]:
    """epoch -> a permutation of the `size` indices, int32, kept while it is in use."""

    @jax.jit
    def permute(epoch: jax.Array) -> jax.Array:
        return jax.random.permutation(jax.random.fold_in(key, epoch), size)

    @functools.lru_cache(maxsize=2)
    def order_of_epoch(epoch: int) -> np.ndarray:
        return np.asarray(permute(np.uint32(epoch)), np.int32)

    return order_of_epoch


def indices_of_step(
    order_of_epoch: Callable[[int], np.ndarray], size: int, step: int, turns: int, batch: int
) -> np.ndarray:
    """The examples of one step, int32 [turns, batch]."""
    positions = step * turns * batch + np.arange(turns * batch)
    epochs, places = np.divmod(positions, size)
    indices = np.empty(turns * batch, np.int32)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = order_of_epoch(int(epoch))[places[here]]
    return indices.reshape(turns, batch)
