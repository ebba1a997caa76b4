"""Measures how a train step would scale, from its compiled program: nothing is trained.

    python -m benchmarks.scaling [--configs NAME ...] [--tiny] [--devices 1 2 4 8]
        [--parallel auto sharded] [--compute_ms 5] [--json FILE]

Each row is a config, a number of CPU devices that JAX is made to show, in a process of its own, and
a value of `config.parallel`: "auto" (each device has a copy of the state) or "sharded" (devices
share one). Data are described, not read. The batch of a config is rounded up to a multiple of the
largest number of devices, and a population is one member.

    work        floating-point operations a device, times the devices, over those of one device: 1
                where the devices share all work, and as many as there are devices where each does
                all of it; as XLA counts them in the compiled program;
    state MB    of a device: parameters, statistics, moving average and optimizer;
    memory MB   of a device: state, batch, results, and the temporary memory of the program;
    all-reduce  operations and MB of their results: gradients and batch statistics;
    all-gather  the same;
    others      the number of other operations of communication, by kind.

A row is a problem, and the exit status is 1, if a step has an all-to-all, which changes what is
split; if a device does more than 1.2 times its share of the work; if all-reduces have more bytes
than the state; or if all-gathers have more bytes than a shared state, or any where each device has
a copy. Then activations are sent. Only the generated images that a CycleGAN's history takes may be
gathered: it is a sequence.

The last table is the efficiency on accelerators that do not exist here: see `efficiency`. It is on
paper, for the bytes and operations of the largest number of devices above with "auto", a step that
takes `--compute_ms` on one accelerator, and as large a batch on each accelerator.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import record
from gaxn import config as configs
from gaxn.data import batch_spec
from gaxn.experiment import make_experiment
from gaxn.experiment.settings import defaults_of
from gaxn.nn import history
from gaxn.training import cost

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = ("dcgan_mnist", "ring:gan", "attn_cgan_shapes", "sagan_folder", "attn_cyclegan_shapes")
PARALLEL = ("auto", "sharded")
MOST_WORK = 1.2
"""Largest work of a row, in shares: little is done on every device."""

FAST_COMPILATION = {"xla_backend_optimization_level": 0}
"""Of the machine code only: the operations of the program are the same."""


class Link(NamedTuple):
    """A connection of one accelerator.

    Attributes:
        bandwidth: bytes a second in one direction.
        latency: seconds of one step of a ring.
    """

    bandwidth: float
    latency: float


class Cluster(NamedTuple):
    """Machines with several accelerators each.

    Attributes:
        group: accelerators of a machine.
        within: the connection of an accelerator to those of its machine.
        between: its connection to other machines.
    """

    group: int
    within: Link
    between: Link


DGX_H100 = Cluster(8, Link(450e9, 3.4e-6), Link(50e9, 9.6e-6))
"""Machines with eight H100.

Bandwidth, by the data sheet of NVIDIA DGX H100: NVLink has 900 GB/s of an accelerator in both
directions together, and each has a network card of 400 Gb/s. Latency of a step of a ring, by NCCL's
model of its own speed (src/graph/tuning.cc at commit 01afd20, table hwLat, ring, protocol Simple):
3.4 microseconds by NVLink and 9.6 between machines.
"""


def ring_all_reduce(size: float, operations: float, devices: int, link: Link) -> float:
    """Returns the seconds of all-reduces by a ring (Patarasuk & Yuan, 2009).

    Each device sends every part of its array but one to its neighbor twice, in 2 (n - 1) steps:

        2 (n - 1) / n * size / bandwidth + operations * 2 (n - 1) * latency

    Args:
        size: bytes of all operations together.
        operations: all-reduces, one after the other.
        devices: n.
        link: between neighbors.
    """
    steps = 2 * (devices - 1)
    return steps / devices * size / link.bandwidth + operations * steps * link.latency


def all_reduce(size: float, operations: float, devices: int, cluster: Cluster) -> float:
    """Returns the seconds of all-reduces by rings within machines, and rings between them.

    The devices of a machine reduce an array such that each has the sum of one part, which it then
    reduces with its counterparts in the other machines; at last the machine gathers all parts. The
    first and the last together are one all-reduce within the machine.

    Raises:
        ValueError: the devices do not fill machines.
    """
    group = min(devices, cluster.group)
    if devices % group:
        raise ValueError(f"devices must be a multiple of {group}, got {devices}")
    within = ring_all_reduce(size, operations, group, cluster.within)
    between = ring_all_reduce(size / group, operations, devices // group, cluster.between)
    return within + between


def efficiency(
    compute: float, size: float, operations: float, devices: int, cluster: Cluster
) -> float:
    """Returns the speed on many accelerators over that of as many alone, in [0, 1].

        compute / (compute + seconds of `all_reduce`)

    The batch of each accelerator stays as it is (weak scaling), and nothing is computed while
    something is sent, which is the worst case.

    Args:
        compute: seconds of a step on one accelerator.
        size: bytes that a step reduces.
        operations: all-reduces of a step.
        devices: accelerators.
        cluster: their connections.
    """
    return compute / (compute + all_reduce(size, operations, devices, cluster))


HEADER = (
    f"{'config':24} {'parallel':8} {'devices':>7} {'work':>5} {'state MB':>9} {'memory MB':>9}"
    f" {'all-reduce':>13} {'all-gather':>13}  others"
)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=list(NAMES), help="with a variant")
    parser.add_argument("--tiny", action="store_true", help="the smallest form of each config")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--parallel", nargs="+", choices=PARALLEL, default=list(PARALLEL))
    parser.add_argument("--accelerators", type=int, nargs="+", default=[8, 256])
    parser.add_argument("--compute_ms", type=float, default=5.0, help="of a step on one")
    parser.add_argument("--json", help="path of the file of results")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(argv[1:])
    if options.one:
        name, parallel, multiple = options.one
        print(json.dumps(measure(name, parallel, int(multiple))))
        return 0
    print(HEADER, flush=True)
    names = [with_tiny(name) if options.tiny else name for name in options.configs]
    rows = [row for name in names for row in measure_config(name, options)]
    papers = [
        expect(row, options.accelerators, options.compute_ms / 1e3)
        for row in rows
        if row["parallel"] == "auto" and row["devices"] == max(options.devices)
    ]
    print(f"\non paper: DGX H100, a step of {options.compute_ms:g} ms on one accelerator")
    for paper in papers:
        print(describe_paper(paper))
    if options.json:
        facts = {"record": record.record("gaxn"), "compute_ms": options.compute_ms}
        record.write(options.json, {**facts, "rows": rows, "on_paper": papers})
    return int(any(row["problems"] for row in rows))


def with_tiny(name: str) -> str:
    """Returns the name of a config with the variant `tiny`."""
    return f"{name}+tiny" if ":" in name else f"{name}:tiny"


def measure_config(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Prints and returns the rows of a config."""
    multiple, rows = max(options.devices), []
    alone = None
    for parallel in options.parallel:
        for devices in options.devices:
            row = run_process(name, parallel, devices, multiple)
            alone = row["flops"] if devices == 1 else alone
            row["work"] = devices * row["flops"] / alone if alone else None
            row["problems"] = find_problems(row)
            rows.append(row)
            print(describe(row), flush=True)
    return rows


def run_process(name: str, parallel: str, devices: int, multiple: int) -> dict[str, Any]:
    """Returns what `measure` returns in a process that has a number of CPU devices."""
    module = [sys.executable, "-m", "benchmarks.scaling"]
    variables = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    process = subprocess.run(
        [*module, "--one", name, parallel, str(multiple)],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])


def measure(name: str, parallel: str, multiple: int) -> dict[str, Any]:
    """Compiles a train step over all devices.

    Args:
        name: of a file in configs/, with its variant.
        parallel: `config.parallel`.
        multiple: the batch size is rounded up to a multiple of it.

    Returns:
        What the program is made of, ready for JSON. Bytes and operations are of one device, but
        for "state_bytes", and for "history_bytes" of the images that a step puts into histories.
    """
    config = load_config(name)
    batch_size = -(-config.batch_size // multiple) * multiple
    config.update({"parallel": parallel, "batch_size": batch_size, "population": 1})
    experiment = make_experiment(config, name, data_record=describe_data(config))
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), experiment.state_spec)
    state = experiment.parallelism.place(blank)
    batches = batch_spec(experiment.train_source, (len(experiment.updates), batch_size))
    key = jax.ShapeDtypeStruct((), experiment.key.dtype)
    lowered = experiment.compiled_step.lower(state, batches, key)
    program = lowered.compile(compiler_options=FAST_COMPILATION)
    memory = program.memory_analysis()
    leaves = jax.tree.leaves(state)
    return {
        "config": name,
        "parallel": parallel,
        "devices": len(jax.devices()),
        "batch_size": batch_size,
        "updates": len(experiment.updates),
        "flops": program.cost_analysis()["flops"],
        "state_bytes": sum(leaf.nbytes for leaf in leaves),
        "state_bytes_a_device": sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves),
        "memory_bytes": memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes,
        "history_bytes": sum(
            batch_size * leaf.nbytes // len(leaf)
            for leaf in jax.tree.leaves(state.collections.get(history.COLLECTION, {}))
            if leaf.ndim > 1
        ),
        "collectives": count_collectives(program.as_text()),
    }


def load_config(name: str) -> ConfigDict:
    """Returns a config of the folder configs/, by its file's name and its variant."""
    file, _, variant = name.partition(":")
    return configs.parse(["scaling", f"--config={CONFIGS / file}.py:{variant}"], defaults_of).config


def describe_data(config: ConfigDict) -> dict[str, Any] | None:
    """Returns an `Experiment.data_record` of data that would have to be read; None of others."""
    images = {"identity": "described", "examples": [60_000, 10_000]}
    if config.data.name == "folder":
        return {**images, "image_shape": [config.data.size, config.data.size, 3], "classes": []}
    if config.data.name == "idx":
        return {**images, "image_shape": [28, 28, 1], "classes": list("0123456789")}
    return None


def count_collectives(program: str) -> dict[str, dict[str, int]]:
    """Returns the operations of each kind in a compiled program, and the bytes of their results."""
    kinds, lines_of_program = {}, program.splitlines()
    for kind in cost.COLLECTIVES:
        lines = (line for line in lines_of_program if re.search(rf" {kind}(-start)?\(", line))
        counts, size = cost.collectives("\n".join(lines))
        kinds[kind] = {"operations": counts[kind], "bytes": size}
    return kinds


def find_problems(row: Mapping[str, Any]) -> list[str]:
    """Returns what a row must not have; see the top of this file."""
    collectives, problems = row["collectives"], []
    if collectives["all-to-all"]["operations"]:
        problems.append("an all-to-all")
    if row["work"] is not None and row["work"] > MOST_WORK:
        problems.append(f"a device does {row['work']:.1f} times its share of the work")
    gathered = row["state_bytes"] if row["parallel"] == "sharded" else row["history_bytes"]
    for kind, limit in (("all-reduce", row["state_bytes"]), ("all-gather", gathered)):
        if collectives[kind]["bytes"] > limit:
            problems.append(f"{kind}s of more than {limit / 1e6:.2f} MB")
    return problems


def describe(row: Mapping[str, Any]) -> str:
    """Returns a row as it is printed."""
    collectives = row["collectives"]
    sums = (
        f"{collectives[kind]['operations']:4} {collectives[kind]['bytes'] / 1e6:8.2f}"
        for kind in ("all-reduce", "all-gather")
    )
    others = ", ".join(
        f"{kind} {counts['operations']}"
        for kind, counts in collectives.items()
        if kind not in ("all-reduce", "all-gather") and counts["operations"]
    )
    work = "-" if row["work"] is None else f"{row['work']:.2f}"
    problems = f"  PROBLEM: {'; '.join(row['problems'])}" if row["problems"] else ""
    return (
        f"{row['config']:24} {row['parallel']:8} {row['devices']:7} {work:>5}"
        f" {row['state_bytes_a_device'] / 1e6:9.2f} {row['memory_bytes'] / 1e6:9.2f}"
        f" {' '.join(sums)}  {others or '-'}{problems}"
    )


def expect(row: Mapping[str, Any], counts: Sequence[int], compute: float) -> dict[str, Any]:
    """Returns what `efficiency` says of a step by numbers of accelerators, ready for JSON."""
    reduced = row["collectives"]["all-reduce"]
    size, operations = reduced["bytes"], reduced["operations"]
    return {
        "config": row["config"],
        "bytes": size,
        "operations": operations,
        "accelerators": {
            count: {
                "all_reduce_ms": 1e3 * all_reduce(size, operations, count, DGX_H100),
                "efficiency": efficiency(compute, size, operations, count, DGX_H100),
            }
            for count in counts
        },
    }


def describe_paper(paper: Mapping[str, Any]) -> str:
    cells = (
        f"{count} accelerators: {figures['all_reduce_ms']:.3f} ms, {figures['efficiency']:.1%}"
        for count, figures in paper["accelerators"].items()
    )
    return f"{paper['config']:24} {'   '.join(cells)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv))
