"""Input pipeline: the batches of step n are a pure function of the run's key and n."""

import dataclasses
import functools
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from gaxn import data, keys
from gaxn.distributed.sharding import Parallelism
from gaxn.io import errors
from gaxn.types import Batch, Indices, PRNGKey, PyTree, check

if TYPE_CHECKING:
    # Only examples that are read ahead need it.
    import grain

THREADS = 4
"""Steps that one process reads concurrently."""

WORKER_BUFFER = 2
"""Steps that each worker process keeps ready."""

MAX_STEPS = 2**40


class Resident(NamedTuple):
    """Examples that are on the devices, as a table.

    Attributes:
        look_up: (table, indices) -> examples, see `Source.look_up`.
        table: on every device.
        indices: step -> the indices of its examples, int [updates, batch_size] on the host; with
            several members they have a leading axis.
    """

    look_up: Callable[[PyTree, Indices], Batch]
    table: PyTree
    indices: Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Batches:
    """A function from a step to its batches on the devices.

    Attributes:
        read: step -> batches [updates, batch_size, ...], placed on the devices.
        resident: the table that `read` looks up; None if examples are read ahead.
    """

    read: Callable[[int], Batch]
    resident: Resident | None

    def __call__(self, step: int) -> Batch:
        return self.read(step)


def make_batches(
    source: data.Source,
    root_keys: Sequence[PRNGKey],
    updates: int,
    batch_size: int,
    parallelism: Parallelism,
) -> Batches:
    """Returns the batches of a run, on the devices.

    The batches of all steps together are one stream of examples: the source in a new order each
    epoch, without gaps or repeats between epochs. They are the same whether the source's table
    is on the devices or its examples are read ahead, and for any number of workers, devices and
    processes.

    Args:
        source: of the examples.
        root_keys: of each member; with several, batches have a leading axis of members.
        updates: player updates per step, each with a batch of its own.
        batch_size: examples per batch.
        parallelism: places the batches, [updates, batch_size, ...], on the devices.

    Raises:
        InputError: there are several members, and the examples are read ahead.
    """
    data_keys = [keys.stream(key, "data") for key in root_keys]
    source = _Flipped(source) if source.flip else source
    if source.table is None:
        expected = "1 where the images exceed data.resident_bytes"
        check("config.population", len(root_keys), len(root_keys) == 1, expected)
        key = np.asarray(jax.random.key_data(data_keys[0]))
        local = _LocalBatches(
            source, key, updates, batch_size, parallelism.process_rows(batch_size)
        )
        read = _read_ahead(local, source.workers)
        return Batches(lambda step: parallelism.assemble(read(step)), resident=None)
    indices_by_member = [make_indices(key, source, updates, batch_size) for key in data_keys]

    def indices_of_members(step: int) -> np.ndarray:
        indices = [of_step(step) for of_step in indices_by_member]
        return indices[0] if len(root_keys) == 1 else np.stack(indices)

    table = parallelism.place_table(source.table)
    resident = Resident(source.look_up, table, indices_of_members)
    read = parallelism.compile_reader(resident.look_up, table)
    return Batches(lambda step: read(resident.indices(step)), resident)


def make_indices(
    key: PRNGKey, source: data.Source, updates: int, batch_size: int
) -> Callable[[int], np.ndarray]:
    """Returns a function from a step to the indices of its examples.

    They are int32 [updates, batch_size], or [updates, batch_size, domains] of an unpaired source.
    """
    if isinstance(source, _Flipped):
        indices = make_indices(key, source.source, updates, batch_size)
        flips = make_flips(keys.stream(key, "flip"), updates, batch_size)
        return lambda step: indices(step) + len(source) * flips(step)
    if not isinstance(source, data.Unpaired):
        order = make_order(key, len(source))
        return lambda step: indices_of_step(order, len(source), step, updates, batch_size)
    domains = [
        (make_order(keys.stream(key, f"domain {number}"), size), size)
        for number, size in enumerate(source.sizes)
    ]
    return lambda step: np.stack(
        [indices_of_step(order, size, step, updates, batch_size) for order, size in domains],
        axis=-1,
    )


def make_flips(key: PRNGKey, updates: int, batch_size: int) -> Callable[[int], np.ndarray]:
    """Returns a function from a step to which of its images are mirrored: 0 or 1, int32."""

    @jax.jit
    def draw(step: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(key, step), shape=(updates, batch_size))

    return lambda step: np.asarray(draw(np.uint32(step)), np.int32)


def make_order(key: PRNGKey, size: int) -> Callable[[int], np.ndarray]:
    """Returns a function from an epoch to a permutation of `size` indices, int32; caches two."""

    @jax.jit
    def permute(epoch: jax.Array) -> jax.Array:
        return jax.random.permutation(jax.random.fold_in(key, epoch), size)

    @functools.lru_cache(maxsize=2)
    def order_of_epoch(epoch: int) -> np.ndarray:
        return np.asarray(permute(np.uint32(epoch)), np.int32)

    return order_of_epoch


def indices_of_step(
    order_of_epoch: Callable[[int], np.ndarray], size: int, step: int, updates: int, batch_size: int
) -> np.ndarray:
    """Returns the indices of the examples of one step, int32 [updates, batch_size]."""
    positions = step * updates * batch_size + np.arange(updates * batch_size)
    epochs, offsets = np.divmod(positions, size)
    indices = np.empty(updates * batch_size, np.int32)
    for epoch in np.unique(epochs):
        in_epoch = epochs == epoch
        indices[in_epoch] = order_of_epoch(int(epoch))[offsets[in_epoch]]
    return indices.reshape(updates, batch_size)


@dataclasses.dataclass(frozen=True, eq=False)
class _Flipped:
    """The images of a source, and from its length on their mirror images.

    Attributes:
        source: of single images.
    """

    source: data.Source

    @property
    def table(self) -> PyTree:
        return self.source.table

    @property
    def workers(self) -> int:
        return self.source.workers

    def __len__(self) -> int:
        return len(self.source)

    def look_up(self, table: PyTree, indices: Indices) -> Batch:
        """Returns the examples at `indices`, int [...] in [0, 2 len)."""
        size = len(self)
        images, labels = self.source.look_up(table, indices % size)
        is_flipped = (indices >= size)[..., None, None, None]
        return Batch(jnp.where(is_flipped, jnp.flip(images, -2), images), labels)

    def read(self, indices: np.ndarray) -> Batch:
        """Reads the examples at `indices`, int [n] in [0, 2 len), from files."""
        size = len(self)
        images, labels = self.source.read(indices % size)
        is_flipped = (indices >= size)[:, None, None, None]
        return Batch(np.where(is_flipped, np.flip(images, -2), images), labels)


@dataclasses.dataclass(frozen=True, eq=False)
class _LocalBatches:
    """Reads the rows of a step's batches that are on this process, [updates, rows, ...].

    Can be pickled until it is called.

    Attributes:
        source: of the examples.
        key: data of the stream's key.
        updates: batches per step.
        batch_size: rows of a global batch.
        rows: the rows to read, int [rows].
    """

    source: data.Source
    key: np.ndarray
    updates: int
    batch_size: int
    rows: np.ndarray

    def __call__(self, step: int) -> Batch:
        indices = self._indices(step)[:, self.rows]
        updates, rows, *domains = indices.shape
        examples = self.source.read(indices.reshape(-1, *domains))
        return jax.tree.map(lambda x: x.reshape(updates, rows, *x.shape[1:]), examples)

    @functools.cached_property
    def _indices(self) -> Callable[[int], np.ndarray]:
        key = jax.random.wrap_key_data(self.key)
        return make_indices(key, self.source, self.updates, self.batch_size)


def _read_ahead(read: Callable[[int], Batch], workers: int) -> Callable[[int], Batch]:
    """Returns `read` with prefetching for as long as steps are consecutive."""
    steps, upcoming = None, None

    def of_step(step: int) -> Batch:
        nonlocal steps, upcoming
        if step != upcoming:
            if steps is not None:
                steps.close()
            steps = iter(_pipeline(read, step, workers))
        upcoming = None
        # Workers send arrays in shared memory, which is scarce: copying them frees it at once.
        rows = jax.tree.map(np.array, next(steps)) if workers else next(steps)
        upcoming = step + 1
        return rows

    return of_step


def _pipeline(read: Callable[[int], Batch], first: int, workers: int) -> "grain.IterDataset":
    """Returns `read` of the steps from `first` on, run in threads or in worker processes."""
    import grain

    steps = grain.MapDataset.range(first, first + MAX_STEPS).map(read)
    if not workers:
        return steps.to_iter_dataset(grain.ReadOptions(THREADS, prefetch_buffer_size=THREADS))
    if not flags.FLAGS.is_parsed():
        # Grain reads absl's flags, which gaxn does not use, to start a process.
        flags.FLAGS.mark_as_parsed()
    one_thread = steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
    options = grain.MultiprocessingOptions(workers, WORKER_BUFFER)
    return one_thread.mp_prefetch(options, _initialize_worker)


def _initialize_worker(index: int, count: int) -> None:
    """Prepares a worker process: CPU only, ignores signals, ends with its parent.

    The devices belong to the parent. So do signals: it stops its workers after saving.
    """
    errors.show_warnings()
    jax.config.update("jax_platforms", "cpu")
    logging.getLogger("absl").setLevel(logging.ERROR)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(0)
