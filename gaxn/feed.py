"""The batches of step n: a pure function of the run's key and n."""

import dataclasses
import functools
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence

import grain
import jax
import numpy as np
from absl import flags

from gaxn import keys
from gaxn.data import Source, Stream, Unpaired
from gaxn.mesh import Placement
from gaxn.population import Member
from gaxn.types import Batch, PRNGKey, require

THREADS = 4
"""Steps that one process reads at a time."""

AHEAD = 2
"""Steps that each worker process keeps ready."""

FOREVER = 2**40


def make_feed(
    source: Source, members: Sequence[Member], turns: int, batch: int, placement: Placement
) -> Callable[[int], Batch]:
    """step -> its placed batches, [turns, batch, ...] each; [members, ...] of several.

    All batches together are one stream of examples: the source in a new order each epoch,
    without gaps or repeats at the seams. They are the same whether the source's table lives
    on the devices or its examples are read ahead, by however many workers and processes.

    Raises:
        InputError: several members cannot share examples that are read ahead.
    """
    data_keys = [keys.stream(member.key, "data") for member in members]
    if source.table is None:
        valid = "1 where the images do not fit data.resident_bytes"
        require("config.population", len(members), len(members) == 1, valid)
        (data_key,) = data_keys
        rows = placement.rows(batch)
        own = _Rows(source, np.asarray(jax.random.key_data(data_key)), turns, batch, rows)
        read = _read_ahead(own, source.workers)
        return lambda step: placement.assemble(read(step))
    asked = [make_indices(data_key, source, turns, batch) for data_key in data_keys]
    draw = placement.source(source.look_up, source.table)

    def feed(step: int) -> Batch:
        indices = [of_step(step) for of_step in asked]
        return draw(indices[0] if len(members) == 1 else np.stack(indices))

    return feed


def make_indices(
    key: PRNGKey, source: Source, turns: int, batch: int
) -> Callable[[int], np.ndarray]:
    """step -> its examples, int32 [turns, batch]; [turns, batch, domains] of unpaired ones."""
    if not isinstance(source, Unpaired):
        order = make_order(key, len(source))
        return lambda step: indices_of_step(order, len(source), step, turns, batch)
    domains = [
        (make_order(keys.stream(key, f"domain {place}"), size), size)
        for place, size in enumerate(source.sizes)
    ]

    def of_step(step: int) -> np.ndarray:
        each = [indices_of_step(order, size, step, turns, batch) for order, size in domains]
        return np.stack(each, axis=-1)

    return of_step


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


@dataclasses.dataclass(frozen=True, eq=False)
class _Rows:
    """step -> this process's rows of its batches, NumPy arrays [turns, rows, ...].

    Can be sent to another process as long as it was not called.

    Attributes:
        source: where examples come from.
        key: the data of the stream's key.
        turns: batches a step.
        batch: rows of a global batch.
        rows: which of them are read, int [rows].
    """

    source: Stream
    key: np.ndarray
    turns: int
    batch: int
    rows: np.ndarray

    def __call__(self, step: int) -> Batch:
        indices = self._indices(step)[:, self.rows]
        turns, rows, *domains = indices.shape
        examples = self.source.read(indices.reshape(-1, *domains))
        return jax.tree.map(lambda x: x.reshape(turns, rows, *x.shape[1:]), examples)

    @functools.cached_property
    def _indices(self) -> Callable[[int], np.ndarray]:
        key = jax.random.wrap_key_data(self.key)
        return make_indices(key, self.source, self.turns, self.batch)


def _read_ahead(read: Callable[[int], Batch], workers: int) -> Callable[[int], Batch]:
    """`read`, running ahead for as long as each step that is asked for follows the last."""
    steps, upcoming = None, None

    def of_step(step: int) -> Batch:
        nonlocal steps, upcoming
        if step != upcoming:
            if steps is not None:
                steps.close()
            steps = iter(_pipeline(read, step, workers))
        upcoming = None
        # What a worker sends lies in shared memory, which is scarce: it goes back at once.
        rows = jax.tree.map(np.array, next(steps)) if workers else next(steps)
        upcoming = step + 1
        return rows

    return of_step


def _pipeline(read: Callable[[int], Batch], first: int, workers: int) -> grain.IterDataset:
    """`read` of the steps from `first` on, one an element, in threads or in worker processes."""
    steps = grain.MapDataset.range(first, first + FOREVER).map(read)
    if not workers:
        return steps.to_iter_dataset(grain.ReadOptions(THREADS, prefetch_buffer_size=THREADS))
    if not flags.FLAGS.is_parsed():
        # Grain asks absl's flags, which are not ours, how to start a process.
        flags.FLAGS.mark_as_parsed()
    alone = steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
    return alone.mp_prefetch(grain.MultiprocessingOptions(workers, AHEAD), _begin_worker)


def _begin_worker(index: int, count: int) -> None:
    """What a worker process does first.

    It keeps off the devices, which are its parent's; leaves signals to its parent, which
    stops it after saving; and ends when the parent does, however that comes.
    """
    jax.config.update("jax_platforms", "cpu")
    logging.getLogger("absl").setLevel(logging.ERROR)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)
