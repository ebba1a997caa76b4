"""The only file that places arrays on devices and wraps the step.

A `Placement` runs the one step that `step.py` writes: `jitted` under the global view, on
one device or sharded over several; `pmapped` under the per-device view. Both give the
same trajectory.
"""

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gaxn import axis, processes
from gaxn.types import Batch, InputError, PRNGKey, PyTree, require

Program = Callable[..., PyTree]


class Placement(NamedTuple):
    """How one program runs on the devices.

    Attributes:
        step: wraps a step; the returned one takes a placed state (which it consumes), a
            placed batch and a key.
        source: wraps `Source.look_up` and its table, which it puts on every device; the
            returned one takes the global indices of a step, int [turns, batch], on the
            host, and gives the placed batch.
        rows: which rows of a global batch this process holds: batch -> int [rows], ascending.
        assemble: makes the placed batch of those rows, NumPy arrays [turns, rows, ...], which
            every process has to give.
        place: puts a host state on every device.
        key: puts the run's key there.
        to_host: one copy of what the step returned, as NumPy arrays.
    """

    step: Callable[[Program], Program]
    source: Callable[[Program, PyTree], Callable[[np.ndarray], Batch]]
    rows: Callable[[int], np.ndarray]
    assemble: Callable[[Batch], Batch]
    place: Callable[[PyTree], PyTree]
    key: Callable[[PRNGKey], PRNGKey]
    to_host: Callable[[PyTree], PyTree]


def jitted(devices: Sequence[jax.Device], shards: int = 1) -> Placement:
    """One program that sees the global batch; XLA splits it over the devices.

    Args:
        devices: in the order in which they share the batch.
        shards: how many of them share one copy of the state, by the rule of `split`; 1: each
            has its own. They are neighbours among the devices, and divide them.
    """
    mesh = jax.make_mesh(
        (len(devices) // shards, shards),
        (axis.DATA, axis.MODEL),
        axis_types=(AxisType.Auto,) * 2,
        devices=devices,
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    by_example = NamedSharding(mesh, PartitionSpec(None, (axis.DATA, axis.MODEL)))

    def by_rule(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: NamedSharding(mesh, split(leaf.shape, shards)), tree)

    def wrap_step(step: Program) -> Program:
        def held(state: PyTree, batches: Batch, key: PRNGKey) -> PyTree:
            state, scalars = step(state, batches, key)
            return jax.lax.with_sharding_constraint(state, by_rule(state)), scalars

        # The state comes as `place` has put it.
        return jax.jit(
            held,
            in_shardings=(None, by_example, everywhere),
            out_shardings=(None, everywhere),
            donate_argnames="state",
        )

    def rows(batch: int) -> np.ndarray:
        return _own_rows(mesh.devices.flat, batch)

    def assemble(batch: Batch) -> Batch:
        return jax.make_array_from_process_local_data(by_example, batch)

    def place(tree: PyTree) -> PyTree:
        return jax.device_put(tree, by_rule(tree))

    return Placement(
        wrap_step,
        functools.partial(_source, everywhere, by_example),
        rows,
        assemble,
        place,
        functools.partial(_put_key, everywhere),
        _make_to_host(everywhere),
    )


def pmapped(devices: Sequence[jax.Device]) -> Placement:
    """One program a device, each on its rows of the batch, averaging in `axis.py`."""
    local = [device for device in devices if device.process_index == jax.process_index()]
    first = list(devices).index(local[0])

    def wrap_step(step: Program) -> Program:
        return jax.pmap(step, axis.DATA, in_axes=(0, 0, None), devices=devices, donate_argnums=0)

    def wrap_source(look_up: Program, table: PyTree) -> Callable[[np.ndarray], Batch]:
        draw = jax.pmap(look_up, axis.DATA, devices=devices)
        placed = place(table)

        def of_indices(indices: np.ndarray) -> Batch:
            turns, rows, *domains = indices.shape
            by_device = indices.reshape(turns, len(devices), rows // len(devices), *domains)
            return draw(placed, by_device.swapaxes(0, 1)[first : first + len(local)])

        return of_indices

    def rows(batch: int) -> np.ndarray:
        return _own_rows(devices, batch)

    def assemble(batch: Batch) -> Batch:
        spread = jax.pmap(lambda tree: tree, axis.DATA, devices=devices)
        return spread(jax.tree.map(by_device, batch))

    def by_device(leaf: np.ndarray) -> np.ndarray:
        turns, rows, *rest = leaf.shape
        return leaf.reshape(turns, len(local), rows // len(local), *rest).swapaxes(0, 1)

    def place(tree: PyTree) -> PyTree:
        copy = jax.pmap(lambda _, tree: tree, in_axes=(0, None), devices=devices)
        return copy(np.arange(len(local)), tree)

    def to_host(tree: PyTree) -> PyTree:
        return jax.device_get(
            jax.tree.map(lambda x: x.addressable_shards[0].data.reshape(x.shape[1:]), tree)
        )

    return Placement(wrap_step, wrap_source, rows, assemble, place, lambda own: own, to_host)


def populated(devices: Sequence[jax.Device], members: int) -> Placement:
    """One program over all members of a population, each whole on one device.

    As many devices of each process are used as can share the members evenly. States, batches
    and keys have a leading axis of members.

    Args:
        devices: the same number of each process.
        members: a multiple of the processes.
    """
    own = [list(group) for _, group in itertools.groupby(devices, lambda d: d.process_index)]
    each = math.gcd(len(own[0]), members // len(own))
    used = [device for group in own for device in group[:each]]
    mesh = jax.make_mesh((len(used),), (axis.DATA,), axis_types=(AxisType.Auto,), devices=used)
    by_member = NamedSharding(mesh, PartitionSpec(axis.DATA))
    everywhere = NamedSharding(mesh, PartitionSpec())

    def wrap_step(step: Program) -> Program:
        return jax.jit(
            jax.vmap(step),
            in_shardings=by_member,
            out_shardings=by_member,
            donate_argnums=0,
        )

    def place(tree: PyTree) -> PyTree:
        return jax.device_put(tree, by_member)

    return Placement(
        wrap_step,
        functools.partial(_source, everywhere, by_member),
        np.arange,
        place,
        place,
        functools.partial(_put_key, by_member),
        _make_to_host(everywhere),
    )


WORTH_SPLITTING = 2**14
"""Numbers in the smallest array of a state that the devices share."""


def split(shape: Sequence[int], parts: int) -> PartitionSpec:
    """The rule by which devices share a state: which axis of an array is split over them.

    The longest that so many parts divide, the last of several; none of a small array, or of
    one that has no such axis: every device has it whole.
    """
    fitting = [place for place, side in enumerate(shape) if side and side % parts == 0]
    if parts == 1 or math.prod(shape) < WORTH_SPLITTING or not fitting:
        return PartitionSpec()
    longest = max(fitting, key=lambda place: (shape[place], place))
    return PartitionSpec(*[None] * longest, axis.MODEL)


def _source(
    everywhere: NamedSharding, sharding: NamedSharding, look_up: Program, table: PyTree
) -> Callable[[np.ndarray], Batch]:
    draw = jax.jit(look_up, in_shardings=(everywhere, sharding), out_shardings=sharding)
    placed = jax.device_put(table, everywhere)

    def of_indices(indices: np.ndarray) -> Batch:
        own = jax.make_array_from_callback(indices.shape, sharding, lambda part: indices[part])
        return draw(placed, own)

    return of_indices


def _put_key(sharding: NamedSharding, key: PRNGKey) -> PRNGKey:
    # A typed key cannot be put on the devices of other processes; its data can.
    data = np.asarray(jax.random.key_data(key))
    return jax.jit(jax.random.wrap_key_data, out_shardings=sharding)(data)


def _make_to_host(everywhere: NamedSharding) -> Callable[[PyTree], PyTree]:
    """tree -> one copy of its arrays, whatever they are split over; every process has to ask."""
    gather = jax.jit(lambda leaf: leaf, out_shardings=everywhere)

    def whole(leaf: jax.Array) -> jax.Array | np.ndarray:
        if leaf.is_fully_replicated:
            return leaf.addressable_shards[0].data
        if leaf.is_fully_addressable:
            return leaf
        # One at a time: no device holds more than one whole array of a split state.
        return np.asarray(gather(leaf).addressable_shards[0].data)

    return lambda tree: jax.device_get(jax.tree.map(whole, tree))


def rows_of(owners: Iterable[int], process: int, batch: int) -> np.ndarray:
    """The rows of a global batch that lie on the devices of one process: int [rows], ascending.

    Args:
        owners: the process of each device, in the order in which the devices share the rows.
        process: whose rows.
        batch: rows in all, a multiple of the devices.
    """
    own = [owner == process for owner in owners]
    return np.flatnonzero(np.repeat(own, batch // len(own)))


def _own_rows(devices: Iterable[jax.Device], batch: int) -> np.ndarray:
    return rows_of((device.process_index for device in devices), jax.process_index(), batch)


def spread(program: Program, fixed: PyTree) -> Program:
    """`program(fixed, *batches)`, each batch split over the devices of this process.

    Args:
        program: jitted; what it does with an example has nothing to do with the others.
        fixed: goes to every device, once.

    Returns: a function of host arrays of any one length, which gives host arrays.
    """
    devices = jax.local_devices()
    mesh = jax.make_mesh(
        (len(devices),), (axis.DATA,), axis_types=(AxisType.Auto,), devices=devices
    )
    placed = jax.device_put(fixed, NamedSharding(mesh, PartitionSpec()))
    by_example = NamedSharding(mesh, PartitionSpec(axis.DATA))

    def of_batches(*batches: PyTree) -> PyTree:
        rows = len(jax.tree.leaves(batches)[0])
        places = np.minimum(np.arange(rows + -rows % len(devices)), rows - 1)
        batches = jax.tree.map(lambda leaf: np.asarray(leaf)[places], batches)
        found = jax.device_get(program(placed, *jax.device_put(batches, by_example)))
        return jax.tree.map(lambda leaf: leaf[:rows], found)

    return of_batches


PARALLEL: Mapping[str, Callable[[Sequence[jax.Device], int], Placement]] = {
    "auto": lambda devices, _: jitted(devices),
    "pmap": lambda devices, _: pmapped(devices),
    "sharded": jitted,
}


def placement(
    parallel: str, batch: int, members: int = 1, parts: int = 1, shards: int = 0
) -> Placement:
    """The placement that a config names, over all devices; several members share them.

    Args:
        parallel: a name in `PARALLEL`.
        batch: rows of a global batch.
        members: of a population.
        parts: in how many each device takes its share of a batch.
        shards: how many devices share one copy of the state if `parallel` is "sharded"; 0:
            all of them.

    Raises:
        InputError: no such placement, or a batch, a population or a number of shards that
            does not go with the devices.
    """
    require("config.parallel", parallel, parallel in PARALLEL, ", ".join(PARALLEL))
    holds = shards == 0 or parallel == "sharded"
    require("config.shards", shards, holds, "0 unless config.parallel is sharded")
    devices = jax.devices()
    if members > 1:
        require("config.parallel", parallel, parallel == "auto", "auto with a population")
        valid = f"1, or a multiple of the {processes.count()} processes"
        require("config.population", members, members % processes.count() == 0, valid)
        return populated(devices, members)
    if batch % (len(devices) * parts):
        raise InputError(
            f"config.batch is {batch}; it has to be a multiple of the {len(devices)} devices"
            + f" times config.accumulate, {parts}" * (parts > 1)
        )
    holds = shards >= 0 and len(devices) % (shards or 1) == 0
    require("config.shards", shards, holds, f"0, or a divisor of the {len(devices)} devices")
    return PARALLEL[parallel](devices, shards or len(devices))


ROWS_A_CORE = 16
"""The least share of a batch that is worth a core of its own."""


def use_cores(batch: int) -> None:
    """Shows a CPU to JAX as several devices, so that each core works on its own rows.

    XLA splits few of a step's operations over threads: two devices on two cores take the
    step of configs/attn_cgan_shapes.py 1.1 to 1.3 times as fast as one device on both
    (benchmarks/train_step.py measures it). Has to come before JAX looks for devices;
    other backends, and a number that the user has chosen (`JAX_NUM_CPU_DEVICES`), stay.
    """
    if jax.config.jax_num_cpu_devices == -1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        jax.config.update("jax_num_cpu_devices", devices_of_cores(batch, cores or 1))


def devices_of_cores(batch: int, cores: int) -> int:
    """The most devices, up to one a core, whose equal shares have `ROWS_A_CORE` rows or more."""
    fitting = (n for n in range(2, cores + 1) if batch % n == 0 and batch // n >= ROWS_A_CORE)
    return max(fitting, default=1)
