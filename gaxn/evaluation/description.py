"""The description of a run before it starts: data, networks, cost, memory and intervals, as text.

All of it comes from shapes and from the files of the data. Nothing is compiled, trained or written.
"""

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import PartitionSpec
from tabulate import tabulate

from gaxn.data import Captioned, Counted, ImageFiles, Source, Unpaired, batch_spec, printable
from gaxn.data.sentences import Sentences
from gaxn.distributed import sharding
from gaxn.experiment import Experiment
from gaxn.labs import LabRun
from gaxn.objectives import schedules
from gaxn.training import cost
from gaxn.training.growing import at_last_stage
from gaxn.training.state import TrainState
from gaxn.training.step import make_train_step
from gaxn.training.update_rules import alternating
from gaxn.types import Batch, PyTree

WIDTH = 100
"""The most columns of a line."""

NAME_WIDTH, BAR_WIDTH = 24, 40
"""The most columns of a name in the first column, and of a bar of the class histogram."""

MODULE_WIDTHS = (34, 30, 18, 12)
"""The most columns of the path, type, output and parameters of a module."""

MAX_MODULES = 24
"""Rows of a network beyond which the modules within its modules are not listed."""

MAX_CLASSES = 20
"""Classes that are listed; others are counted."""

ModulePath = tuple[str, ...]


class Call(NamedTuple):
    """The first call of a module.

    Attributes:
        type: name of the module's class.
        output: shapes of all arrays that the call returned.
    """

    type: str
    output: list[tuple[int, ...]]


class ModuleRow(NamedTuple):
    """A line of a network's table.

    Attributes:
        path: of the module, within its network; empty for the network.
        call: its first call.
        parameters: their number, without those of other rows.
    """

    path: ModulePath
    call: Call
    parameters: int


def describe(run: Experiment | LabRun, title: str = "") -> str:
    """Returns a description of a run in tables of at most 100 columns.

    Args:
        run: of a config.
        title: one line on the config; "" for none.
    """
    head = textwrap.fill(f"{run.name}: {title}" if title else run.name, WIDTH)
    if isinstance(run, LabRun):
        lab = f"The lab {run.config['lab']}, without a GAN and without data"
        fields = {name: value for name, value in run.config.items() if name != "lab"}
        return "\n\n".join([head, _section(lab, fields.items())])
    state = run.state_spec
    sections = [
        head,
        _describe_data(run.train_source, run.test_source),
        *_describe_networks(run),
        _section("Objective and optimizers", _objective_lines(run)),
        _section("Cost" + " of one run" * (len(run.members) > 1), _cost_lines(run)),
        _describe_memory(run, state),
        _describe_intervals(run, _count_bytes(state)),
    ]
    return "\n\n".join(sections)


def count_flops(experiment: Experiment) -> float | None:
    """Returns the floating-point operations of a training step, as `Experiment.cost` counts them.

    Of several equal updates of the alternating rule only one is traced: tracing takes longest.
    Then a few operations per update are counted that a step does not need, those of scalars that
    a later update replaces.
    """
    repeats = Counter(experiment.updates)
    settings = experiment.settings
    if max(repeats.values()) == 1 or settings.update_rule["name"] != "alternating":
        return experiment.cost()["flops_a_step"]
    state, gan = experiment.member_spec, at_last_stage(experiment.gan)

    def of_updates(*updates) -> float | None:
        step = make_train_step(gan, updates, 0.0, alternating().step)
        batches = batch_spec(experiment.train_source, (len(updates), settings.batch_size))
        key = jax.ShapeDtypeStruct((), experiment.key.dtype)
        return cost.flops(jax.jit(step), state, batches, key)

    # The moving average, which each of the programs has.
    fixed = of_updates()
    if fixed is None:
        return None
    return fixed + sum(count * (of_updates(update) - fixed) for update, count in repeats.items())


def trace_calls(gan: nn.Module, batch: Batch, key: jax.ShapeDtypeStruct) -> dict[ModulePath, Call]:
    """Returns the first call of each module when a GAN's variables are made, by path, in order.

    Args:
        gan: the networks and their losses.
        batch: shapes and dtypes of a batch.
        key: shape and dtype of a key.
    """
    calls: dict[ModulePath, Call] = {}

    def record(method, args, kwargs, context):
        path = context.module.path
        is_first = context.method_name == "__call__" and path not in calls
        if is_first:
            # Before the modules that it calls.
            calls[path] = Call(type(context.module).__name__, [])
        output = method(*args, **kwargs)
        if is_first:
            calls[path].output.extend(leaf.shape for leaf in jax.tree.leaves(output))
        return output

    def initialize(batch: Batch, key: jax.Array) -> PyTree:
        with nn.intercept_methods(record):
            return gan.init({"params": key, "dropout": key}, batch, key)

    jax.eval_shape(initialize, batch, key)
    return calls


def list_modules(
    network: ModulePath, calls: Mapping[ModulePath, Call], params: Mapping[ModulePath, int]
) -> list[ModuleRow]:
    """Returns the modules of a network that have parameters, to the depth at which they are few.

    Args:
        network: path of the network.
        calls: as of `trace_calls`.
        params: sizes of the network's parameters, by path.
    """
    prefixes = {leaf[:length] for leaf in params for length in range(len(leaf))} | {network}
    within = [path for path in calls if path in prefixes and path[: len(network)] == network]
    depths = [len(path) - len(network) for path in within]
    fits = [depth for depth in set(depths) if sum(d <= depth for d in depths) <= MAX_MODULES]
    depth = max([1, *fits])
    paths = [path for path, d in zip(within, depths, strict=True) if d <= depth]
    sizes = Counter()
    for leaf, size in params.items():
        sizes[max((path for path in paths if leaf[: len(path)] == path), key=len)] += size
    return [ModuleRow(path[len(network) :], calls[path], sizes[path]) for path in paths]


def _describe_networks(experiment: Experiment) -> list[str]:
    """Returns a table of modules for each player."""
    spec = batch_spec(experiment.train_source, (experiment.settings.batch_size,))
    key = jax.ShapeDtypeStruct((), experiment.key.dtype)
    calls = trace_calls(experiment.gan, spec, key)
    params = _member_params(experiment)
    return [_describe_player(player, calls, params[player]) for player in params]


def _member_params(experiment: Experiment) -> dict[str, dict[ModulePath, int]]:
    """Returns the sizes of all parameters of one member, by player and by path."""
    return {
        player: {
            (player, *path): math.prod(leaf.shape) for path, leaf in flatten_dict(tree).items()
        }
        for player, tree in experiment.member_spec.params.items()
    }


def _describe_player(
    player: str, calls: Mapping[ModulePath, Call], params: Mapping[ModulePath, int]
) -> str:
    within = [path for path in calls if path[:1] == (player,)]
    networks = [path for path in within if not any(path[:n] in within for n in range(1, len(path)))]
    rows, before = [], {}
    for network in networks:
        sizes = {path: n for path, n in params.items() if path[: len(network)] == network}
        modules = list_modules(network, calls, sizes)
        twin = next((path for path, others in before.items() if others == modules), None)
        before[network] = modules
        if twin:
            output = _shapes(modules[0].call.output)
            rows.append(("/".join(network), f"as {'/'.join(twin)}", output, sum(sizes.values())))
            continue
        rows += [
            (
                "/".join(module.path or network),
                module.call.type,
                _shapes(module.call.output),
                module.parameters or "",
            )
            for module in modules
        ]
    listed = sum(row[-1] or 0 for row in rows)
    total = sum(params.values())
    if listed < total:
        rows.append((player, "in no network", "", total - listed))
    cells = [(*row[:-1], f"{row[-1]:,}" if row[-1] else "") for row in rows]
    heads = ("module", "type", "output", "parameters")
    table = _table(cells, heads, ("left", "left", "left", "right"), MODULE_WIDTHS)
    return f"Player {player}: {total:,} parameters\n{table}"


def _describe_data(train: Source, test: Source) -> str:
    """Returns the lines on the data set, and its class histogram."""
    lines = {
        "data set": train.identity,
        "example": _example(train, test),
        "training": f"{len(train):,} examples",
        "tests": f"{len(test):,} examples",
        **({"notes": "; ".join(train.notes)} if train.notes else {}),
    }
    captions = [text for text in train.captions if text] if isinstance(train, Captioned) else []
    if captions:
        share = "different ones" if isinstance(train, Sentences) else f"of {len(train):,}"
        lines["captions"] = f"{len(captions):,} {share}, such as {printable(captions[0])!r}"
    counts = [_count_classes(source) for source in (train, test)]
    if counts[0] is None and train.class_names:
        names = ", ".join(train.class_names[:MAX_CLASSES])
        more = ", ..." if len(train.class_names) > MAX_CLASSES else ""
        lines["classes"] = f"{len(train.class_names):,}, not counted: {names}{more}"
    section = _section("Data", lines.items())
    return section if counts[0] is None else f"{section}\n\n{_histogram(*counts)}"


def _example(train: Source, test: Source) -> str:
    """Returns the shape and the type of an example."""
    if len(train.image_shape) == 1:
        return f"{train.image_shape[0]} numbers, float32"
    sizes = [" x ".join(map(str, source.image_shape[-3:])) for source in (train, test)]
    if not isinstance(train, Unpaired):
        return f"{sizes[0]}, uint8"
    return f"one image of A and one of B: {sizes[0]} ({sizes[1]} in tests), uint8"


def _count_classes(source: Source) -> Mapping[str, int] | None:
    """Returns the examples of each class or domain, if it takes no image to know them."""
    if isinstance(source, Counted):
        is_one = not source.class_names and not isinstance(source, Unpaired)
        return None if is_one else source.counts
    # Files of the test split are not read yet.
    is_read = source.split == "train" or not isinstance(source, ImageFiles)
    if not source.class_names or not is_read:
        return None
    labels = source.table.labels if isinstance(source.table, Batch) else None
    if labels is None:
        return None
    counts = np.bincount(labels, minlength=len(source.class_names)).tolist()
    return dict(zip(source.class_names, counts, strict=True))


def _histogram(train: Mapping[str, int], test: Mapping[str, int] | None) -> str:
    most = max(train.values())
    rows = [
        (
            name,
            f"{count:,}",
            "" if test is None else f"{test[name]:,}",
            "#" * round(BAR_WIDTH * count / (most or 1)),
        )
        for name, count in list(train.items())[:MAX_CLASSES]
    ]
    heads, alignment = ("class", "training", "tests", ""), ("left", "right", "right", "left")
    table = _table(rows, heads, alignment, (NAME_WIDTH, WIDTH, WIDTH, BAR_WIDTH))
    others = len(train) - len(rows)
    return f"{table}\nand {others:,} more classes" if others > 0 else table


def _objective_lines(experiment: Experiment) -> Iterable[tuple[str, str]]:
    """Yields the parts of the losses and the optimizers, as name and text."""
    settings = experiment.settings
    yield "GAN", _spec(settings.gan)
    if settings.text:
        yield "labels", f"sentences, encoded by {_spec(settings.text)}"
    else:
        yield "labels", "given to the networks" if settings.conditional else "not used"
    yield "loss", _spec(settings.loss)
    for kind in ("penalties", "regularizers", "augmentations"):
        parts = [
            f"{name} ({_spec(options)})" if options else name
            for name, options in getattr(settings, kind).items()
        ]
        yield kind, "; ".join(parts) or "none"
    if settings.objective:
        yield "objective", _spec(settings.objective)
    if experiment.gan.growing is not None:
        yield "growing", _spec(settings.growing)
    updates = Counter(update.player for update in experiment.updates)
    yield "update rule", _spec(settings.update_rule)
    yield "updates a step", ", ".join(f"{player} {n}" for player, n in updates.items())
    for player in updates:
        yield f"optimizer of {player}", _spec(settings.optimizers[player])
    decay = f"decay {_value(settings.ema_decay)}"
    halflife = f"half-life {_value(settings.ema_halflife_kimg)} kimg"
    yield "EMA of the generator", halflife if settings.ema_halflife_kimg else decay
    yield "activations", settings.dtype


def _cost_lines(experiment: Experiment) -> Iterable[tuple[str, str]]:
    """Yields parameters, images and operations of one run, as name and text."""
    settings, examples = experiment.settings, len(experiment.train_source)
    by_player = {player: sum(n.values()) for player, n in _member_params(experiment).items()}
    players = ", ".join(f"{player} {n:,}" for player, n in by_player.items())
    yield "parameters", f"{sum(by_player.values()):,} ({players})"
    steps, batch = settings.num_train_steps, settings.batch_size
    yield "training steps", f"{steps:,}"
    micro = f", in {settings.accumulation_steps} micro-batches" * (settings.accumulation_steps > 1)
    yield "batch size", f"{batch:,}{micro}"
    kind = {4: "pairs of images", 1: "points"}.get(
        len(experiment.train_source.image_shape), "images"
    )
    updates = Counter(update.player for update in experiment.updates)
    for name, count in (
        ("of the discriminator", updates["discriminator"]),
        ("of all updates", len(experiment.updates)),
    ):
        total = steps * batch * count
        product = f"{steps:,} steps x {batch:,} x {count} a step"
        epochs = f"{total / examples:,.4g} epochs of {examples:,}"
        yield f"real {kind} {name}", f"{total:,} ({product}), {epochs}"
    flops = count_flops(experiment)
    yield (
        "GFLOP a training step",
        "not known: JAX has no CPU backend"
        if flops is None
        else (f"{_figure(flops / 1e9)}, {_figure(steps * flops / 1e12)} TFLOP in all steps"),
    )
    if len(experiment.members) > 1:
        seeds = [member.seed for member in experiment.members]
        yield "population", f"{len(seeds)} such runs at once, of seeds {seeds[0]} to {seeds[-1]}"


def _describe_memory(experiment: Experiment, state: TrainState) -> str:
    """Returns the sizes of the parts of a state, in all and on a device if it is split."""
    settings, devices = experiment.settings, jax.devices()
    is_split = settings.parallel == "sharded" and len(experiment.members) == 1
    shards = (settings.shards or len(devices)) if is_split else 1
    parts = {
        "parameters": state.params,
        "optimizer state": state.opt_state,
        "EMA of the generator": state.ema,
        **{f"collection {name}": tree for name, tree in state.collections.items()},
        "state": state,
    }
    heads = ["", "MB"] + ["MB on a device"] * is_split
    rows = [
        [name, *(f"{_count_bytes(tree, n) / 1e6:,.3f}" for n in dict.fromkeys((1, shards)))]
        for name, tree in parts.items()
    ]
    alignment = ["left"] + ["right"] * (len(rows[0]) - 1)
    table = _table(rows, heads[: len(rows[0])], alignment)
    place = f"{len(devices)} {devices[0].platform} device{'s' * (len(devices) > 1)}"
    if len(experiment.members) > 1:
        text = f"all {len(experiment.members)} runs, which {place} share"
    elif shards > 1:
        text = f"{shards} of {place} share a copy"
    else:
        text = f"{place}, with a copy each" if len(devices) > 1 else place
    return f"Memory of the state ({text}), without activations\n{table}"


def _count_bytes(tree: PyTree, shards: int = 1) -> int:
    """Returns the bytes of all arrays, on one of the devices that share a copy."""
    return sum(
        math.prod(leaf.shape)
        * leaf.dtype.itemsize
        // (1 if sharding.split(leaf.shape, shards) == PartitionSpec() else shards)
        for leaf in jax.tree.leaves(tree)
    )


def _describe_intervals(experiment: Experiment, state_bytes: int) -> str:
    """Returns how often a run logs, draws, saves and evaluates."""
    run, plan = experiment.run, experiment.evaluation
    steps = experiment.settings.num_train_steps
    options = experiment.config["evaluation"]

    def times(interval: int) -> int:
        return -(-steps // interval)

    saves = times(run.checkpoint_every)
    copies = min(saves, run.keep)
    disk = f"about {_figure(copies * state_bytes / 1e6)} MB on the disk"
    rows = [
        ("log", run.log_every, steps // run.log_every, "lines of metrics.jsonl"),
        ("samples", run.sample_every, times(run.sample_every) + 1, "pictures, one of step 0"),
        ("checkpoints", run.checkpoint_every, saves, f"the last {copies} stay, {disk}"),
    ]
    if plan.every:
        samples = f"{options['interim_samples']:,} samples each"
        text = f"{samples}; the checkpoint of the {plan.best} stays"
        rows.append(("interim evaluations", plan.every, steps // plan.every, text))
    cells = [(name, f"{every:,}", f"{count:,}", text) for name, every, count, text in rows]
    metrics = ", ".join(options["metrics"]) or "all metrics that apply"
    features = [name for name in ("classifier", "inception") if options[name]]
    by = f", by features of {' and '.join(features)}" if features else ""
    cells.append(
        ("evaluation", "at the end", "1", f"{options['samples']:,} samples: {metrics}{by}")
    )
    heads, alignment = ("", "steps between", "times", ""), ("left", "right", "right", "left")
    table = _table(cells, heads, alignment, (WIDTH, WIDTH, WIDTH, 54))
    return f"Intervals\n{table}"


def _section(head: str, lines: Iterable[tuple[str, Any]]) -> str:
    """Returns a head and a table of names and texts."""
    rows = [(name, str(text)) for name, text in lines]
    longest = max(len(name) for name, _ in rows)
    return f"{head}\n{_table(rows, (), ('left', 'left'), (WIDTH, WIDTH - 2 - longest))}"


def _table(
    rows: Sequence[Sequence[str]],
    heads: Sequence[str],
    alignment: Sequence[str],
    widths: Sequence[int] = (),
) -> str:
    """Returns a table; texts wider than their column go on in the next line."""
    cells = [
        [
            textwrap.fill(text, width, break_on_hyphens=False)
            for text, width in zip(row, widths or [WIDTH] * len(row), strict=True)
        ]
        for row in rows
    ]
    return tabulate(cells, heads, "simple", disable_numparse=True, colalign=alignment)


def _spec(spec: Mapping[str, Any]) -> str:
    """Returns the name of a part and its fields in one line."""
    fields = [f"{name} {_value(value)}" for name, value in spec.items() if name != "name"]
    return ", ".join([*([spec["name"]] if "name" in spec else []), *fields])


def _value(value: Any) -> str:
    """Returns a field of a config: a number, a schedule or anything else."""
    if schedules.is_spec(value):
        unit = value.get("unit", schedules.SHARE)
        points = [
            f"{number:g} at {f'{when:g}' if unit == schedules.KIMG else f'{100 * when:.4g}%'}"
            for when, number in value["points"]
        ]
        end = " kimg" if unit == schedules.KIMG else " of the run"
        return f"{value['name']} {' -> '.join(points)}{end}"
    if isinstance(value, Mapping):
        return f"({_spec(value)})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return "; ".join(str(list(shape)) for shape in shapes)


def _figure(number: float) -> str:
    """Returns a number with four digits, or all of those before the point."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"
