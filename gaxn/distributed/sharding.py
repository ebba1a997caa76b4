"""Placement of arrays on devices, and the compilation of the training step.

A `Parallelism` runs the step that training/step.py writes once: `jit_parallelism` under the global
view, on one device or sharded over several; `pmap_parallelism` under the per-device view;
`population_parallelism` over the members of a population. All give the same trajectory.
"""

import contextlib
import ctypes
import functools
import itertools
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gaxn.distributed import axis, multihost
from gaxn.types import Batch, InputError, PRNGKey, PyTree, check

Program = Callable[..., PyTree]

MIN_ROWS_PER_CORE = 16
"""Smallest share of a batch for which a core is its own device."""

MALLOC_OPTIONS = {-3: 2**30, -1: 2**31 - 1, -2: 2**26}
"""Options of mallopt in bytes: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD."""

MIN_SPLIT_SIZE = 2**14
"""Numbers in the smallest array of a state that is split over devices."""


class Parallelism(NamedTuple):
    """A way to run the training step on the devices.

    Attributes:
        compile_step: train step -> program of a placed state (donated), placed batches
            and a placed key.
        compile_steps: (train step, `Source.look_up`, placed table) -> a function that makes
            several steps in one call: (placed state (donated), the global indices of
            each step, int [steps, updates, batch] on the host, placed key) -> (state, scalars
            with a leading axis of steps).
        compile_reader: (`Source.look_up`, placed table) -> a function from the global indices of
            a step, int [updates, batch] on the host, to the placed batches.
        place_table: puts the table of a source on every device.
        process_rows: batch size -> the rows of a global batch on this process, int [rows],
            ascending.
        assemble: those rows, NumPy arrays [updates, rows, ...] -> the placed batches; every
            process has to call it.
        place: puts a host state on the devices.
        place_key: puts the root key there.
        to_host: returns one copy of what the step returned, as NumPy arrays.
        step_specs: specs of a step's arguments -> the same with their shardings; None if the
            compiled program has other operations than the step.
    """

    compile_step: Callable[[Program], Program]
    compile_steps: Callable[[Program, Program, PyTree], Program]
    compile_reader: Callable[[Program, PyTree], Callable[[np.ndarray], Batch]]
    place_table: Callable[[PyTree], PyTree]
    process_rows: Callable[[int], np.ndarray]
    assemble: Callable[[Batch], Batch]
    place: Callable[[PyTree], PyTree]
    place_key: Callable[[PRNGKey], PRNGKey]
    to_host: Callable[[PyTree], PyTree]
    step_specs: Callable[..., tuple[PyTree, ...]] | None = None


def jit_parallelism(devices: Sequence[jax.Device], shards: int = 1) -> Parallelism:
    """Returns the parallelism of one program that sees the global batch; XLA splits it.

    Args:
        devices: in the order in which they share the batch.
        shards: devices that share one copy of the state, by the rule of `split`; 1 gives every
            device a copy. They are neighbors among the devices, and divide them.
    """
    mesh = jax.make_mesh(
        (len(devices) // shards, shards),
        (axis.DATA, axis.MODEL),
        axis_types=(AxisType.Auto,) * 2,
        devices=devices,
    )
    replicated = NamedSharding(mesh, PartitionSpec())
    by_example = NamedSharding(mesh, PartitionSpec(None, (axis.DATA, axis.MODEL)))
    by_example_of_steps = NamedSharding(mesh, PartitionSpec(None, None, (axis.DATA, axis.MODEL)))

    def state_shardings(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: NamedSharding(mesh, split(leaf.shape, shards)), tree)

    # The shardings of a split state depend on its shapes: `place` has put it so.
    is_split = shards > 1
    state_out = None if is_split else replicated

    def place_step(train_step: Program) -> Program:
        def placed_step(state: PyTree, batches: Batch, key: PRNGKey) -> PyTree:
            # Within, `axis.example_indices` knows the devices.
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return train_step(state, batches, key)

        def split_step(state: PyTree, batches: Batch, key: PRNGKey) -> PyTree:
            # XLA places the examples itself: told where, it moves activations between devices.
            state, scalars = train_step(state, batches, key)
            return jax.lax.with_sharding_constraint(state, state_shardings(state)), scalars

        return split_step if is_split else placed_step

    def compile_step(train_step: Program) -> Program:
        return jax.jit(
            place_step(train_step),
            in_shardings=(None, by_example, replicated),
            out_shardings=(state_out, replicated),
            donate_argnums=0,
        )

    def compile_steps(train_step: Program, look_up: Program, table: PyTree) -> Program:
        program = jax.jit(
            _scan_steps(place_step(train_step), look_up, by_example),
            in_shardings=(None, None, by_example_of_steps, replicated),
            out_shardings=(state_out, replicated),
            donate_argnums=0,
        )
        return _with_indices(program, table, by_example_of_steps)

    def step_specs(state: PyTree, batches: Batch, key: PRNGKey) -> tuple[PyTree, ...]:
        def place(tree: PyTree, sharding: Callable[[PyTree], NamedSharding]) -> PyTree:
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding(x)), tree
            )

        return (
            place(state, state_shardings),
            place(batches, lambda _: by_example),
            place(key, lambda _: replicated),
        )

    return Parallelism(
        compile_step=compile_step,
        step_specs=step_specs if shards == 1 else None,
        compile_steps=compile_steps,
        compile_reader=functools.partial(_compile_reader, by_example),
        place_table=lambda table: jax.device_put(table, replicated),
        process_rows=lambda batch: _process_rows(mesh.devices.flat, batch),
        assemble=lambda batch: jax.make_array_from_process_local_data(by_example, batch),
        place=lambda tree: jax.device_put(tree, state_shardings(tree)),
        place_key=functools.partial(_place_key, replicated),
        to_host=_make_to_host(replicated),
    )


def pmap_parallelism(devices: Sequence[jax.Device]) -> Parallelism:
    """Returns the parallelism of one program per device, on its rows of the batch."""
    local = [device for device in devices if device.process_index == jax.process_index()]
    first = list(devices).index(local[0])

    def compile_step(train_step: Program) -> Program:
        return jax.pmap(
            train_step, axis.DATA, in_axes=(0, 0, None), devices=devices, donate_argnums=0
        )

    def compile_steps(train_step: Program, look_up: Program, table: PyTree) -> Program:
        program = jax.pmap(
            _scan_steps(train_step, look_up),
            axis.DATA,
            in_axes=(0, 0, 0, None),
            devices=devices,
            donate_argnums=0,
        )
        return lambda state, indices, key: program(state, table, local_rows(indices, 2), key)

    def compile_reader(look_up: Program, table: PyTree) -> Callable[[np.ndarray], Batch]:
        read = jax.pmap(look_up, axis.DATA, devices=devices)
        return lambda indices: read(table, local_rows(indices, 1))

    def local_rows(indices: np.ndarray, place: int) -> np.ndarray:
        """Returns the rows along an axis by device: [devices of this process, ...]."""
        parts = np.stack(np.split(indices, len(devices), place))
        return parts[first : first + len(local)]

    def assemble(batch: Batch) -> Batch:
        spread = jax.pmap(lambda tree: tree, axis.DATA, devices=devices)
        return spread(jax.tree.map(by_device, batch))

    def by_device(leaf: np.ndarray) -> np.ndarray:
        updates, rows, *rest = leaf.shape
        return leaf.reshape(updates, len(local), rows // len(local), *rest).swapaxes(0, 1)

    def place(tree: PyTree) -> PyTree:
        copy = jax.pmap(lambda _, tree: tree, in_axes=(0, None), devices=devices)
        return copy(np.arange(len(local)), tree)

    def to_host(tree: PyTree) -> PyTree:
        return jax.device_get(
            jax.tree.map(lambda x: x.addressable_shards[0].data.reshape(x.shape[1:]), tree)
        )

    return Parallelism(
        compile_step=compile_step,
        compile_steps=compile_steps,
        compile_reader=compile_reader,
        place_table=place,
        process_rows=lambda batch: _process_rows(devices, batch),
        assemble=assemble,
        place=place,
        place_key=lambda key: key,
        to_host=to_host,
    )


def population_parallelism(devices: Sequence[jax.Device], members: int) -> Parallelism:
    """Returns the parallelism of one program over a population, each member on one device.

    It uses as many devices of each process as can share the members evenly. States, batches and
    keys have a leading axis of members.

    Args:
        devices: the same number of each process.
        members: a multiple of the processes.
    """
    by_process = [list(group) for _, group in itertools.groupby(devices, lambda d: d.process_index)]
    count = math.gcd(len(by_process[0]), members // len(by_process))
    used = [device for group in by_process for device in group[:count]]
    mesh = jax.make_mesh((len(used),), (axis.DATA,), axis_types=(AxisType.Auto,), devices=used)
    by_member = NamedSharding(mesh, PartitionSpec(axis.DATA))
    by_member_of_steps = NamedSharding(mesh, PartitionSpec(None, axis.DATA))
    replicated = NamedSharding(mesh, PartitionSpec())

    def compile_step(train_step: Program) -> Program:
        return jax.jit(
            jax.vmap(train_step),
            in_shardings=by_member,
            out_shardings=by_member,
            donate_argnums=0,
        )

    def compile_steps(train_step: Program, look_up: Program, table: PyTree) -> Program:
        program = jax.jit(
            _scan_steps(jax.vmap(train_step), look_up, by_member),
            in_shardings=(by_member, None, by_member_of_steps, by_member),
            out_shardings=(by_member, by_member_of_steps),
            donate_argnums=0,
        )
        return _with_indices(program, table, by_member_of_steps)

    def place(tree: PyTree) -> PyTree:
        return jax.device_put(tree, by_member)

    return Parallelism(
        compile_step=compile_step,
        compile_steps=compile_steps,
        compile_reader=functools.partial(_compile_reader, by_member),
        place_table=lambda table: jax.device_put(table, replicated),
        process_rows=np.arange,
        assemble=place,
        place=place,
        place_key=functools.partial(_place_key, by_member),
        to_host=_make_to_host(replicated),
    )


def split(shape: Sequence[int], parts: int) -> PartitionSpec:
    """Returns how an array of a state is split over the devices that share the state.

    It is split along the longest axis that `parts` divides, the last of several. Small arrays,
    and those without such an axis, are replicated.
    """
    divisible = [place for place, side in enumerate(shape) if side and side % parts == 0]
    if parts == 1 or math.prod(shape) < MIN_SPLIT_SIZE or not divisible:
        return PartitionSpec()
    longest = max(divisible, key=lambda place: (shape[place], place))
    return PartitionSpec(*[None] * longest, axis.MODEL)


def _scan_steps(
    train_step: Program, look_up: Program, sharding: NamedSharding | None = None
) -> Program:
    """Returns a program of several steps: (state, table, indices, key) -> (state, scalars).

    Args:
        train_step: (state, batches, key) -> (state, scalars).
        look_up: (table, indices) -> batches.
        sharding: of the batches, under the global view.
    """

    def steps(state: PyTree, table: PyTree, indices: jax.Array, key: PRNGKey) -> PyTree:
        def step(state: PyTree, step_indices: jax.Array) -> PyTree:
            batches = look_up(table, step_indices)
            if sharding is not None:
                batches = jax.lax.with_sharding_constraint(batches, sharding)
            return train_step(state, batches, key)

        return jax.lax.scan(step, state, indices)

    return steps


def _with_indices(program: Program, table: PyTree, sharding: NamedSharding) -> Program:
    """Returns `program` as a function of a state, indices on the host and a key."""
    return lambda state, indices, key: program(state, table, _place_parts(sharding, indices), key)


def _compile_reader(
    sharding: NamedSharding, look_up: Program, table: PyTree
) -> Callable[[np.ndarray], Batch]:
    read = jax.jit(look_up, in_shardings=(None, sharding), out_shardings=sharding)
    return lambda indices: read(table, _place_parts(sharding, indices))


def _place_parts(sharding: NamedSharding, indices: np.ndarray) -> jax.Array:
    return jax.make_array_from_callback(indices.shape, sharding, lambda part: indices[part])


def _place_key(sharding: NamedSharding, key: PRNGKey) -> PRNGKey:
    # A typed key cannot be put on the devices of other processes; its data can.
    data = np.asarray(jax.random.key_data(key))
    return jax.jit(jax.random.wrap_key_data, out_shardings=sharding)(data)


def _make_to_host(replicated: NamedSharding) -> Callable[[PyTree], PyTree]:
    """Returns a function from a tree to one host copy of it; every process has to call it."""
    gather = jax.jit(lambda leaf: leaf, out_shardings=replicated)

    def gather_leaf(leaf: jax.Array) -> jax.Array | np.ndarray:
        if leaf.is_fully_replicated:
            return leaf.addressable_shards[0].data
        if leaf.is_fully_addressable:
            return leaf
        # One at a time: no device ever has more than one complete array of a split state.
        return np.asarray(gather(leaf).addressable_shards[0].data)

    return lambda tree: jax.device_get(jax.tree.map(gather_leaf, tree))


def rows_of_process(device_processes: Iterable[int], process: int, batch: int) -> np.ndarray:
    """Returns the rows of a global batch on one process's devices: int [rows], ascending.

    Args:
        device_processes: the process of each device, in the order in which they share the rows.
        process: the process.
        batch: rows in all, a multiple of the devices.
    """
    is_local = [device_process == process for device_process in device_processes]
    return np.flatnonzero(np.repeat(is_local, batch // len(is_local)))


def _process_rows(devices: Iterable[jax.Device], batch: int) -> np.ndarray:
    processes = (device.process_index for device in devices)
    return rows_of_process(processes, jax.process_index(), batch)


def data_parallel(program: Program, fixed: PyTree) -> Program:
    """Returns `program(fixed, *batches)` with each batch split over this process's devices.

    Args:
        program: jitted; its result for an example must not depend on the other examples.
        fixed: copied to every device, once.

    Returns:
        A function from host arrays of any equal length to host arrays.
    """
    devices = jax.local_devices()
    mesh = jax.make_mesh(
        (len(devices),), (axis.DATA,), axis_types=(AxisType.Auto,), devices=devices
    )
    placed = jax.device_put(fixed, NamedSharding(mesh, PartitionSpec()))
    by_example = NamedSharding(mesh, PartitionSpec(axis.DATA))

    def apply(*batches: PyTree) -> PyTree:
        rows = len(jax.tree.leaves(batches)[0])
        padded = np.minimum(np.arange(rows + -rows % len(devices)), rows - 1)
        batches = jax.tree.map(lambda leaf: np.asarray(leaf)[padded], batches)
        results = jax.device_get(program(placed, *jax.device_put(batches, by_example)))
        return jax.tree.map(lambda leaf: leaf[:rows], results)

    return apply


def rows_on_devices(rows: int) -> int:
    """Returns the rows of a batch of which `data_parallel` puts `rows` on each device."""
    return rows * jax.local_device_count()


PARALLEL: Mapping[str, Callable[[Sequence[jax.Device], int], Parallelism]] = {
    "auto": lambda devices, _: jit_parallelism(devices),
    "pmap": lambda devices, _: pmap_parallelism(devices),
    "sharded": jit_parallelism,
}


def make_parallelism(
    parallel: str,
    batch_size: int,
    population: int = 1,
    accumulation_steps: int = 1,
    shards: int = 0,
    devices: Sequence[jax.Device] | None = None,
) -> Parallelism:
    """Returns the parallelism of a config.

    Args:
        parallel: a name in `PARALLEL`.
        batch_size: rows of a global batch.
        population: members of the population.
        accumulation_steps: micro-batches of each device's share of a batch.
        shards: devices that share one copy of the state if `parallel` is "sharded"; 0 for all.
        devices: that the step uses; None for all.

    Raises:
        InputError: a batch, a population or a number of shards does not suit the devices.
    """
    check("parallel", parallel, parallel in PARALLEL, f"one of {', '.join(PARALLEL)}")
    check("shards", shards, shards == 0 or parallel == "sharded", "0 unless parallel is sharded")
    devices = devices or jax.devices()
    if population > 1:
        check("parallel", parallel, parallel == "auto", "auto with a population")
        divides = population % multihost.count() == 0
        expected = f"1, or a multiple of the {multihost.count()} processes"
        check("population", population, divides, expected)
        return population_parallelism(devices, population)
    if batch_size % (len(devices) * accumulation_steps):
        times = f" times accumulation_steps, {accumulation_steps}" * (accumulation_steps > 1)
        raise InputError(
            f"batch_size must be a multiple of the {len(devices)} devices{times}, got {batch_size}"
        )
    valid = shards >= 0 and len(devices) % (shards or 1) == 0
    check("shards", shards, valid, f"0, or a divisor of the {len(devices)} devices")
    return PARALLEL[parallel](devices, shards or len(devices))


def use_cores_for(config: Mapping[str, Any], processes: int = 1) -> None:
    """Shows a CPU to JAX as several devices, as a config can use them.

    Args:
        config: its fields; a wrong one is noticed later.
        processes: that share a batch; 0 for an unknown number, which uses one device.
    """
    sizes = ("batch_size", 1), ("accumulation_steps", 1), ("population", 1)
    batch_size, micro_batches, members = (config.get(*size) for size in sizes)
    if all(isinstance(size, int) and size > 0 for size in (batch_size, micro_batches, members)):
        # A member of a population deserves a core whatever its batch.
        rows = batch_size // micro_batches if members == 1 else members * MIN_ROWS_PER_CORE
        use_cores(rows // processes if processes else 0)


def use_cores(batch_size: int) -> None:
    """Shows a CPU to JAX as several devices, so that each core works on its own rows.

    XLA runs few of a step's operations on several threads: two devices on two cores take the step
    of configs/attn_cgan_shapes.py 1.1 to 1.3 times as fast as one device on both
    (`python -m benchmarks.race` measures it). It must run before JAX looks for devices. Other
    backends, and a number that the user has set (`JAX_NUM_CPU_DEVICES`), stay.
    """
    _keep_freed_memory()
    if jax.config.jax_num_cpu_devices == -1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        # JAX refuses it once it has devices, which a program may have used before it trains.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices_for_cores(batch_size, cores or 1))


def cpu_devices_for(config: Mapping[str, Any]) -> Sequence[jax.Device] | None:
    """Returns as many CPU devices as possible, in a number that divides the batch of a config.

    The number of CPU devices is fixed once JAX has started: in a program that trains several runs
    it was chosen for the first of them.

    Returns:
        Devices; None for all of them: of other backends, of several processes, of a population, of
        shards, and if the user set their number (`JAX_NUM_CPU_DEVICES`).
    """
    if jax.default_backend() != "cpu" or os.environ.get("JAX_NUM_CPU_DEVICES"):
        return None
    batch_size, micro_batches = config.get("batch_size"), config.get("accumulation_steps", 1)
    sizes = batch_size, micro_batches
    # The members of a population are divided among all devices, and shards are of all.
    needs_all = config.get("population", 1) != 1 or config.get("shards", 0)
    known = all(isinstance(size, int) and size > 0 for size in sizes)
    if multihost.count() > 1 or needs_all or not known:
        return None
    devices = jax.devices()
    divisors = (n for n in range(1, len(devices) + 1) if batch_size % (n * micro_batches) == 0)
    return devices[: max(divisors, default=len(devices))]


def _keep_freed_memory() -> None:
    """Lets the C library keep what is freed, up to 2 GiB at a time, for what is allocated next.

    XLA allocates the arrays of a step anew at every step. glibc would take those of 128 KiB or more
    from the system each time, page by page and zeroed: up to a tenth of a step on a CPU.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "mallopt"):
        for option, value in MALLOC_OPTIONS.items():
            library.mallopt(option, value)


def devices_for_cores(batch_size: int, cores: int) -> int:
    """Returns the most devices, up to one per core, with equal shares of enough rows."""
    counts = (
        n
        for n in range(2, cores + 1)
        if batch_size % n == 0 and batch_size // n >= MIN_ROWS_PER_CORE
    )
    return max(counts, default=1)
