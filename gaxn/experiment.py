"""From a config to an `Experiment`: the recipe of a run, read from top to bottom."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gaxn.config import bind, check_part, defaults, error_path, instantiate, resolve
from gaxn.data import (
    Captioned,
    Counted,
    Source,
    Unpaired,
    batch_spec,
    describe_counts,
    make_recorded,
)
from gaxn.data.pipeline import Batches, make_batches
from gaxn.data.sentences import Sentences
from gaxn.distributed.sharding import Parallelism, make_parallelism
from gaxn.evaluation.plan import EvaluationPlan, make_plan
from gaxn.evaluation.sampling import SamplingOptions
from gaxn.features import FeatureExtractor
from gaxn.features.text import make_conditioner, restore_conditioner
from gaxn.io.plots import Picture
from gaxn.labs import LabRun
from gaxn.nn.growing import Growth
from gaxn.objectives import schedules
from gaxn.objectives.augmentations import Augmentation
from gaxn.objectives.losses import Loss
from gaxn.objectives.objective import make_objective
from gaxn.objectives.penalties import Penalty
from gaxn.objectives.regularizers import ImageFeatures, Regularizer
from gaxn.training import cost
from gaxn.training.dispatch import (
    Dispatch,
    Programs,
    TrainStep,
    choose_by_penalties,
    make_dispatch,
)
from gaxn.training.growing import (
    GrowingOptions,
    Stage,
    find_first_steps,
    find_stages,
    make_growth,
    make_stages,
)
from gaxn.training.optimizers import freeze, with_constraints
from gaxn.training.population import Member, make_members, root_key
from gaxn.training.start import DISCRIMINATOR, GENERATOR, StartOptions, frozen_layers
from gaxn.training.state import TrainState, create_state
from gaxn.training.step import PlayerUpdate, make_train_step
from gaxn.training.update_rules import UpdateRule
from gaxn.types import Batch, InputError, PRNGKey, check

MAX_COLUMNS = 50
"""Columns of a sample grid, which may be a square."""

DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}
"""Types of activations by their name in a config; None for that of the parameters."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of an experiment's config.

    A dict with a "name" names a constructor; the other fields are its arguments.

    Attributes:
        seed: seed of all random numbers, 0 to 2^32 - 1.
        num_train_steps: training steps of the run.
        batch_size: real examples per update of a player, over all devices.
        ema_decay: decay of the moving average of the generator's parameters, at least 0 and
            below 1; smaller in the first steps.
        ema_halflife_kimg: the same as a half-life, in thousands of images of a batch; above 0 it
            takes the place of `ema_decay`.
        data: the data set, a module of gaxn/data.
        gan: the kind of GAN, a class of gaxn/gans.
        generator, discriminator: the network of this player, a class of gaxn/models.
        loss: the adversarial loss, a function of gaxn/objectives/losses.py.
        optimizers: by player, an optimizer of optax and its parameters, numbers or schedules;
            besides these `clip` (bound of the weights) and `orthogonal` (weight of orthogonal
            regularization).
        evaluation: samples, metrics and checkpoints of evaluations, arguments of `make_plan` in
            gaxn/evaluation/plan.py.
        run: intervals between logs, samples and checkpoints, fields of `RunOptions`.
        conditional: whether the networks get the labels of the images.
        discriminator_steps, generator_steps: updates of this player per training step, each with
            new images.
        update_rule: the order of the players' updates, a function of
            gaxn/training/update_rules.py.
        networks: by name, networks that a GAN has besides generator and discriminator.
        penalties: by name, gradient penalties of the discriminator, arguments of the functions in
            gaxn/objectives/penalties.py.
        regularizers: by name, further terms of the losses, arguments of the functions in
            gaxn/objectives/regularizers.py.
        augmentations: by name, random changes of all images that the discriminator sees,
            arguments of the functions in gaxn/objectives/augmentations.py.
        objective: packing, top-k training and adaptive augmentation, arguments of
            `make_objective` in gaxn/objectives/objective.py.
        population: number of runs, of seed, seed + 1, ..., that are trained at once.
        accumulation_steps: micro-batches into which a batch is divided to save memory, a divisor
            of batch_size; BatchNorm has the statistics of a micro-batch.
        dtype: type of activations, "float32", or "bfloat16" with networks that have a field
            `dtype`, as all of gaxn do.
        parallel: how the step runs on several devices: "auto" (one program, each device has a
            copy of the state), "sharded" (one program, devices share a state) or "pmap" (one
            program per device).
        shards: devices that share one copy of a state if `parallel` is "sharded"; 0 for all.
        steps_per_call: training steps that one call of the compiled program makes, without the
            host; 0 chooses, up to 32, but 1 for convolutions on CPUs. It changes the trajectory
            by rounding alone.
        start: trained networks that the run starts from, and layers that stay as they are.
        text: the encoder of captions, a module of gaxn/features/text; a conditional run then has
            sentences in place of labels. {} for labels.
        growing: the resolutions with which the networks grow, and when; {} for networks that do
            not.
    """

    seed: int
    num_train_steps: int
    batch_size: int
    ema_decay: float | dict
    data: dict
    gan: dict
    generator: dict
    discriminator: dict
    loss: dict
    optimizers: dict
    evaluation: dict
    run: dict
    ema_halflife_kimg: float | dict = 0.0
    conditional: bool = False
    discriminator_steps: int = 1
    generator_steps: int = 1
    update_rule: dict = dataclasses.field(default_factory=lambda: {"name": "alternating"})
    networks: dict = dataclasses.field(default_factory=dict)
    penalties: dict = dataclasses.field(default_factory=dict)
    regularizers: dict = dataclasses.field(default_factory=dict)
    augmentations: dict = dataclasses.field(default_factory=dict)
    objective: dict = dataclasses.field(default_factory=dict)
    population: int = 1
    accumulation_steps: int = 1
    dtype: str = "float32"
    parallel: str = "auto"
    shards: int = 0
    steps_per_call: int = 0
    start: dict = dataclasses.field(default_factory=dict)
    text: dict = dataclasses.field(default_factory=dict)
    growing: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check("seed", self.seed, 0 <= self.seed < 2**32, "0 to 2^32 - 1")
        for name in (
            *("num_train_steps", "batch_size", "discriminator_steps", "generator_steps"),
            "population",
        ):
            check(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        divides = self.accumulation_steps >= 1 and self.batch_size % self.accumulation_steps == 0
        expected = f"a divisor of config.batch_size, {self.batch_size}"
        check("accumulation_steps", self.accumulation_steps, divides, expected)
        check("steps_per_call", self.steps_per_call, self.steps_per_call >= 0, "0 or more")
        check("dtype", self.dtype, self.dtype in DTYPES, " or ".join(DTYPES))


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The fields of `config.run`.

    Attributes:
        log_every: steps between two lines of metrics.jsonl.
        sample_every: steps between two pictures of samples, each with diagnostics.
        checkpoint_every: steps between two checkpoints.
        keep: how many of the last checkpoints are kept.
        sample_columns: columns of the sample grid; of a CycleGAN, test images of each domain.
        stuck_after: seconds without a finished step after which the process ends with status 18.
        accept_new_data: whether the run goes on if its data have changed, in the same shapes and
            classes.
        writers: where scalars and pictures go besides files: "tensorboard", "wandb".
    """

    log_every: int
    sample_every: int
    checkpoint_every: int
    keep: int
    sample_columns: int
    stuck_after: float = 3600.0
    accept_new_data: bool = False
    writers: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("log_every", "sample_every", "checkpoint_every", "keep", "sample_columns"):
            check(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        most = self.sample_columns <= MAX_COLUMNS
        check("sample_columns", self.sample_columns, most, f"{MAX_COLUMNS} or fewer")
        check("stuck_after", self.stuck_after, self.stuck_after > 0, "above 0, in seconds")


SECTIONS = {
    "evaluation": make_plan,
    "growing": GrowingOptions,
    "objective": make_objective,
    "run": RunOptions,
    "start": StartOptions,
}
"""By the name of a field that holds fields without a name, whose parameters these are."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run: all that training and evaluation need.

    Attributes:
        name: of the config file.
        config: complete, ready for JSON.
        settings: the same, checked.
        run: intervals of the run.
        key: the root key; one per member of several.
        members: the runs that are trained at once; one, but for a population.
        train, test: the splits of the data.
        gan: the networks and their losses.
        updates: the player updates of a training step.
        create_state: root key -> the state at step 0, jitted.
        train_step: (state, batches, key) -> (state, scalars), as written; of networks that grow,
            with all of their layers.
        compiled_step: the same, compiled for the devices.
        batches: step -> its placed batches.
        dispatch: the calls of compiled programs that make up the run.
        parallelism: how the step runs on the devices.
        make_sampler: options -> (host state, member=0, chosen_by="") -> a sampler.
        sampler: the same by the moving average, for pictures.
        draw_samples: (sampler, host state) -> the picture of a state.
        diagnostics: host state -> early signs of a collapse.
        evaluation: what is evaluated, when, and of which checkpoint.
        commands: further values of --mode, of this kind of GAN.
        origin: how the config came about, ready for JSON, see `gaxn.io.provenance.origin`.
    """

    name: str
    config: Mapping[str, Any]
    settings: Settings
    run: RunOptions
    key: PRNGKey
    members: tuple[Member, ...]
    train: Source
    test: Source
    gan: nn.Module
    updates: tuple[PlayerUpdate, ...]
    create_state: Callable[[PRNGKey], TrainState]
    train_step: Callable[[TrainState, Batch, PRNGKey], tuple]
    compiled_step: Callable[[TrainState, Batch, PRNGKey], tuple]
    batches: Batches
    dispatch: Dispatch
    parallelism: Parallelism
    make_sampler: Callable[[SamplingOptions], Callable[..., Any]]
    sampler: Callable[..., Any]
    draw_samples: Callable[..., Picture]
    diagnostics: Callable[[TrainState], dict[str, float]]
    evaluation: EvaluationPlan
    commands: Mapping[str, Callable[..., int]]
    origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def data_record(self) -> dict[str, Any]:
        """Describes the data of the run, ready for JSON."""
        return {
            "identity": self.train.identity,
            "image_shape": list(self.train.image_shape),
            "classes": list(self.train.class_names),
            "examples": [len(self.train), len(self.test)],
            **({"domains": self._domains_record} if isinstance(self.train, Unpaired) else {}),
            **({"text": self._text_record} if isinstance(self.train, Sentences) else {}),
        }

    @property
    def _domains_record(self) -> dict[str, Any]:
        """Describes unpaired data: the sizes of domains by split, and the shape of test images."""
        sizes = [list(source.sizes) for source in (self.train, self.test)]
        return {"sizes": sizes, "test_shape": list(self.test.image_shape)}

    @property
    def _text_record(self) -> dict[str, Any]:
        """Describes how captions become conditions, with the different captions of the tests."""
        return {**self.train.condition.record, "captions": list(self.test.captions)}

    @property
    def state_spec(self) -> TrainState:
        """Shapes and dtypes of the state of all members."""
        return jax.eval_shape(self.create_state, self.key)

    @property
    def member_spec(self) -> TrainState:
        """Shapes and dtypes of the state of one member."""
        if len(self.members) == 1:
            return self.state_spec
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self.state_spec)

    def cost(self) -> dict[str, Any]:
        """Returns parameters by player, and floating-point operations per training step.

        Operations are those on the batches of all devices; of a population, of one member.
        """
        state = self.member_spec
        batches = batch_spec(self.train, (len(self.updates), self.settings.batch_size))
        program = jax.jit(self.train_step)
        specs = state, batches, jax.ShapeDtypeStruct((), self.key.dtype)
        if self.parallelism.step_specs and jax.default_backend() == "cpu":
            # Lowered already, if it was trained.
            program, specs = self.compiled_step, self.parallelism.step_specs(*specs)
        return {
            "parameters": cost.parameters(state.params),
            "flops_a_step": cost.flops(program, *specs),
        }


def make_run(
    config: ConfigDict,
    name: str,
    data_record: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] = {},
) -> Experiment | LabRun:
    """Returns the run of a config: of a lab if it has a field `lab`, else of a GAN.

    Args:
        config: of the run.
        name: of the run.
        data_record: description of the data, if they need not be read.
        origin: how the config came about.
    """
    fields = config.to_dict()
    if "lab" not in fields:
        experiment = make_experiment(config, name, data_record=data_record)
        return dataclasses.replace(experiment, origin=origin)
    lab = resolve("labs", fields["lab"], "config.lab", "Lab")
    options = {field: value for field, value in fields.items() if field != "lab"}
    return LabRun(name, fields, bind(lab, options, "config"))


@error_path("config", [field.name for field in dataclasses.fields(Settings)])
def make_experiment(
    config: ConfigDict,
    name: str,
    parallelism: Parallelism | None = None,
    data_record: Mapping[str, Any] | None = None,
) -> Experiment:
    """Makes every part of a run from its config.

    Args:
        config: the fields of `Settings`.
        name: of the run, by default that of the config's file.
        parallelism: how the step runs, instead of `config.parallel` over all devices.
        data_record: `Experiment.data_record`, if the data need not be read.

    Raises:
        InputError: a field is unknown, missing, of the wrong type or out of range.
    """
    settings = bind(Settings, config.to_dict(), "config")
    run = bind(RunOptions, settings.run, "config.run")
    clock = schedules.Clock(settings.num_train_steps, settings.batch_size)

    # Data.
    train, test = (
        instantiate("data", settings.data, "config.data", "Source", split=split)
        if data_record is None
        else make_recorded(split, data_record)
        for split in ("train", "test")
    )
    if isinstance(train, Counted) and isinstance(test, Counted):
        print(f"{name}: {describe_counts(train, test)}", flush=True)

    if settings.text:
        train, test = with_sentences(train, test, settings, data_record)

    # Networks.
    shape = network_arguments(test, settings.conditional)
    options = bind(GrowingOptions, settings.growing, "config.growing")
    with error_path("config.growing", ["resolutions"]):
        growth = make_growth(options, shape.get("size"), settings.num_train_steps)
    shape = {**shape, "growing": growth}
    dtype = settings.dtype
    check_networks(settings.gan, settings.networks)
    networks = {
        "generator": make_network(settings.generator, "config.generator", dtype, shape),
        "discriminator": make_network(settings.discriminator, "config.discriminator", dtype, shape),
        **{
            network: make_network(spec, f"config.networks.{network}", dtype, shape)
            for network, spec in settings.networks.items()
        },
    }

    # Objective.
    loss = instantiate("objectives.losses", settings.loss, "config.loss", returns=Loss)
    penalties = make_parts(
        "penalties", with_schedules(settings.penalties, "config.penalties", clock), Penalty
    )
    objective = bind(
        make_objective,
        with_schedules(settings.objective, "config.objective", clock),
        "config.objective",
        loss=loss,
        penalties=penalties,
        regularizers=make_regularizers(
            settings.regularizers, None if data_record else test.image_shape[-3:]
        ),
        augmentations=tuple(
            make_parts("augmentations", settings.augmentations, Augmentation).values()
        ),
    )
    gan = instantiate(
        "gans",
        with_schedules(settings.gan, "config.gan", clock),
        "config.gan",
        objective=objective,
        conditional=settings.conditional,
        size=shape.get("size"),
        growing=growth,
        **networks,
    )
    check_grows(gan, settings.gan["name"], growth)

    # Training step.
    rule = instantiate(
        "training.update_rules", settings.update_rule, "config.update_rule", returns=UpdateRule
    )
    expected = "alternating or simultaneous with a history of images"
    valid = rule.evaluates_once or not gan.history
    check("config.update_rule.name", settings.update_rule["name"], valid, expected)
    counts = {
        **dict.fromkeys(gan.losses(), 1),
        "discriminator": settings.discriminator_steps,
        "generator": settings.generator_steps,
    }
    objective_path = error_path("config.objective", defaults(make_objective))
    with error_path("config.growing", ["resolutions"]), objective_path:
        stages_of = find_stages(gan, *example_spec(train, settings))
    frozen = {DISCRIMINATOR: find_frozen(gan, train, settings)}

    def optimizers_from(step: int) -> dict[str, optax.GradientTransformation]:
        players = tuple(gan.losses())
        return make_optimizers(settings.optimizers, players, clock, counts, frozen, step)

    stages = make_stages(gan, stages_of, optimizers_from)
    first_steps = find_first_steps(gan, stages_of, GENERATOR)
    decay = make_ema_decay(settings, clock)

    def make_updates(stage: Stage) -> tuple[PlayerUpdate, ...]:
        return tuple(
            PlayerUpdate(player, player_loss, stage.optimizers[player], settings.accumulation_steps)
            for player, player_loss in gan.losses().items()
            for _ in range(counts[player])
        )

    def make_step(stage: Stage) -> TrainStep:
        return make_train_step(stage.gan, make_updates(stage), decay, rule.step, first_steps)

    # State and batches, on the devices.
    members = make_members(settings.seed, settings.population)
    key = root_key(members)
    create = make_create_state(gan, stages[-1].optimizers, train, settings)
    updates = make_updates(stages[-1])
    with error_path("config.objective", defaults(make_objective)):
        params = jax.eval_shape(create, key).params
    if parallelism is None:
        parallelism = make_parallelism(
            settings.parallel,
            settings.batch_size,
            settings.population,
            settings.accumulation_steps,
            settings.shards,
        )
    root_keys = [member.key for member in members]
    batches = make_batches(train, root_keys, len(updates), settings.batch_size, parallelism)

    # Samples and evaluation.
    make_hooks = resolve("evaluation.kinds", gan.HOOKS, "the GAN's HOOKS", "make_hooks")
    hooks = make_hooks(
        gan=gan,
        loss=loss,
        members=members,
        train=train,
        test=test,
        classes=test.num_conditions if settings.conditional else None,
        columns=run.sample_columns,
    )
    # Samples and evaluations share compiled programs.
    hooks = hooks._replace(make_sampler=functools.cache(hooks.make_sampler))
    evaluation = bind(
        make_plan,
        settings.evaluation,
        "config.evaluation",
        train=train,
        test=test,
        conditional=settings.conditional,
        hooks=hooks,
        initial_state=lambda: jax.device_get(create(key)),
    )

    # Calls of programs.
    intervals = [run.sample_every, run.checkpoint_every, evaluation.every]
    # A kernel of a convolution has four axes, of a population's one more.
    kernel_axes = 4 if len(members) == 1 else 5
    has_convolutions = any(leaf.ndim == kernel_axes for leaf in jax.tree.leaves(params))

    def make_programs(stage: Stage) -> Programs:
        def compile_with(fixed: Mapping[str, Penalty]) -> TrainStep:
            with_fixed = stage.gan.clone(objective=functools.partial(objective, penalties=fixed))
            return parallelism.compile_step(make_step(stage._replace(gan=with_fixed)))

        train_step = make_step(stage)
        compiled_step = parallelism.compile_step(train_step)
        step_at = choose_by_penalties(penalties, compiled_step, compile_with)
        return Programs(stage.first, train_step, compiled_step, step_at)

    programs = [make_programs(stage) for stage in stages]
    dispatch = make_dispatch(
        programs,
        batches,
        parallelism,
        has_convolutions,
        settings.steps_per_call,
        settings.num_train_steps,
        [every for every in intervals if every],
    )
    return Experiment(
        name=name,
        config=complete(config.to_dict()),
        settings=settings,
        run=run,
        key=key,
        members=members,
        train=train,
        test=test,
        gan=gan,
        updates=updates,
        create_state=create,
        train_step=programs[-1].train_step,
        compiled_step=programs[-1].compiled_step,
        batches=batches,
        dispatch=dispatch,
        parallelism=parallelism,
        make_sampler=hooks.make_sampler,
        sampler=hooks.make_sampler(SamplingOptions()),
        draw_samples=hooks.draw_samples,
        diagnostics=hooks.diagnostics,
        evaluation=evaluation,
        commands=hooks.commands,
    )


def with_sentences(
    train: Source, test: Source, settings: Settings, data_record: Mapping[str, Any] | None
) -> tuple[Sentences, Sentences]:
    """Returns both splits with the vectors of their captions as conditions.

    Raises:
        InputError: the data have no captions, or the run is not conditional.
    """
    check("config.conditional", settings.conditional, settings.conditional, "True with config.text")
    for split in (train, test):
        expected = f"{{}} with these data, as {split.identity} has no captions"
        valid = isinstance(split, Captioned) and any(split.captions)
        check("config.text", settings.text, valid, expected)
    encoder = instantiate(
        "features.text", settings.text, "config.text", "load", train=train, test=test
    )
    has_words = bool(settings.generator.get("words_at"))
    if data_record is None:
        conditioner = make_conditioner(encoder, sorted(set(train.captions)), has_words)
    else:
        conditioner = restore_conditioner(encoder, data_record["text"], has_words)
    return tuple(
        Sentences(split.split, flip=split.flip, source=split, condition=conditioner)
        for split in (train, test)
    )


def network_arguments(source: Source, conditional: bool) -> dict[str, int | None]:
    """Returns the arguments of networks that follow from the data."""
    if len(source.image_shape) == 1:
        check("config.conditional", conditional, not conditional, "False with points")
        check("config.data.flip", source.flip, not source.flip, "False with points")
        return {"features": source.image_shape[0], "classes": None}
    height, width, channels = source.image_shape[-3:]
    check("the images' height and width", (height, width), height == width, "equal")
    if isinstance(source, Sentences):
        return {"size": height, "channels": channels, "classes": source.condition.features}
    classes = len(source.class_names)
    if conditional and classes < 2:
        raise InputError(
            "config.conditional must be False, or the data must have 2 classes or more; "
            f"{source.identity} has {classes}"
        )
    return {"size": height, "channels": channels, "classes": classes if conditional else None}


def check_networks(gan: Mapping[str, Any], networks: Mapping[str, Any]) -> None:
    """Raises an InputError unless `config.networks` has the further networks of a GAN."""
    make = resolve("gans", gan.get("name"), "config.gan.name")
    parameters, hints = inspect.signature(make).parameters, typing.get_type_hints(make)
    known = [
        name
        for name in parameters.keys() - {"generator", "discriminator", "parent"}
        if nn.Module in (hints.get(name), *typing.get_args(hints.get(name)))
    ]
    needed = {name for name in known if parameters[name].default is inspect.Parameter.empty}
    valid = needed <= networks.keys() <= set(known)
    expected = f"{', '.join(sorted(known)) or 'none'} with the GAN {gan['name']}"
    check("the names in config.networks", sorted(networks), valid, expected)
    for name, spec in networks.items():
        check(f"config.networks.{name}", spec, isinstance(spec, Mapping), "a dict with a name")


def make_network(
    spec: Mapping[str, Any], field: str, dtype: str, shape: Mapping[str, Any]
) -> nn.Module:
    """Returns a network of gaxn/models that computes in a type, and grows if the run does."""
    network = instantiate("models", spec, field, dtype=DTYPES[dtype], **shape)
    valid = dtype == "float32" or hasattr(network, "dtype")
    check("config.dtype", dtype, valid, f"float32 with the network {spec['name']}")
    check_grows(network, spec["name"], shape["growing"])
    return network


def check_grows(module: nn.Module, name: str, growth: Growth | None) -> None:
    """Raises an InputError if a run grows, and a GAN or a network of it cannot."""
    resolutions = growth.resolutions if growth else ()
    grows = growth is None or getattr(module, "growing", None) == growth
    check("config.growing.resolutions", resolutions, grows, f"() with {name}, which cannot grow")


def with_schedules(
    spec: Mapping[str, Any], field: str, clock: schedules.Clock, updates_per_step: int = 1
) -> dict[str, Any]:
    """Returns fields with a schedule in place of each dict that describes one.

    Args:
        spec: the fields, or dicts of fields.
        field: their place in the config.
        clock: of the run.
        updates_per_step: if the schedule counts a player's updates, how many a step has.
    """
    fields = {}
    for name, value in spec.items():
        path = f"{field}.{name}"
        if schedules.is_spec(value):
            curve = instantiate("objectives.schedules", value, path, returns=schedules.Curve)
            with error_path(path, ["points"]):
                value = schedules.start(curve, clock, updates_per_step)
        elif isinstance(value, Mapping):
            value = with_schedules(value, path, clock, updates_per_step)
        fields[name] = value
    return fields


def make_ema_decay(settings: Settings, clock: schedules.Clock) -> schedules.Weight:
    """Returns the decay of the generator's moving average, or a schedule of it."""
    fields = {"ema_decay": settings.ema_decay, "ema_halflife_kimg": settings.ema_halflife_kimg}
    fields = with_schedules(fields, "config", clock)
    valid, expected = lambda value: 0 <= value < 1, "at least 0 and below 1"
    schedules.check_weight("ema_decay", fields["ema_decay"], valid, expected)
    halflife = fields["ema_halflife_kimg"]
    valid, expected = lambda value: value >= 0, "above 0, or 0 for ema_decay"
    schedules.check_weight("ema_halflife_kimg", halflife, valid, expected)
    if halflife == 0:
        return fields["ema_decay"]
    return schedules.transform(halflife, lambda kimg: 0.5 ** (settings.batch_size / (1_000 * kimg)))


def make_parts(
    kind: str, specs: Mapping[str, Any], returns: Any, field: str = ""
) -> dict[str, Any]:
    """Returns penalties or augmentations by name: what functions of an objectives module make."""
    field, parts = field or f"config.{kind}", {}
    for name, options in specs.items():
        check(f"{field}.{name}", options, isinstance(options, Mapping), "a dict of options")
        make = resolve(f"objectives.{kind}", name, field, returns=returns)
        parts[name] = check_part(bind(make, options, f"{field}.{name}"), returns, field)
    return parts


def make_regularizers(
    specs: Mapping[str, Any], image_shape: tuple[int, ...] | None
) -> dict[str, Callable[[], Regularizer]]:
    """Returns regularizers by name, each with the parts that it has a dict of among its options.

    Args:
        specs: the options of each.
        image_shape: of the images of a feature extractor; None leaves out the regularizers that
            have one, for runs that are only sampled.
    """
    completed = {}
    for name, options in specs.items():
        field = f"config.regularizers.{name}"
        options = dict(options) if isinstance(options, Mapping) else options
        if isinstance(options, dict) and isinstance(options.get("augmentations"), Mapping):
            kind, place = "augmentations", f"{field}.augmentations"
            parts = make_parts(kind, options[kind], Augmentation, place)
            options[kind] = tuple(parts.values())
        if isinstance(options, dict) and "extractor" in options:
            if image_shape is None:
                continue
            place = f"{field}.extractor"
            options["extractor"] = make_image_features(options["extractor"], place, image_shape)
        completed[name] = options
    return make_parts("regularizers", completed, Callable[[], Regularizer])


def make_image_features(spec: Any, field: str, image_shape: tuple[int, ...]) -> ImageFeatures:
    """Returns the features of a module of gaxn/features, for losses.

    Raises:
        InputError: it cannot be loaded, or does not take images of this shape.
    """
    check(field, spec, isinstance(spec, Mapping), "a dict with a name, such as {'name': 'vgg'}")
    extractor = instantiate("features", spec, field, "load", returns=FeatureExtractor)
    expected = "left out with points, which are no images"
    check(field, dict(spec), len(image_shape) == 3, expected)
    extractor.output_spec(image_shape)
    return extractor.for_losses


def make_optimizers(
    specs: Mapping[str, Any],
    players: Sequence[str],
    clock: schedules.Clock,
    counts: Mapping[str, int],
    frozen: Mapping[str, Collection[tuple[str, ...]]] = {},
    first_step: int = 0,
) -> dict[str, optax.GradientTransformation]:
    """Returns the optimizer of each player, by its name in optax.

    Args:
        specs: the fields of each.
        players: all players.
        clock: of the run.
        counts: updates of each player per training step.
        frozen: by player, paths of the layers that are not moved.
        first_step: training step from which on they run.
    """
    for player in specs:
        check("a player of config.optimizers", player, player in players, " or ".join(players))
    optimizers = {
        player: make_optimizer(specs.get(player, {}), player, clock, counts[player], first_step)
        for player in players
    }
    return {
        player: freeze(optimizer, frozen[player]) if frozen.get(player) else optimizer
        for player, optimizer in optimizers.items()
    }


def find_frozen(gan: nn.Module, train: Source, settings: Settings) -> frozenset[tuple[str, ...]]:
    """Returns the layers of the discriminator that `config.start` freezes, by their paths."""
    start = bind(StartOptions, settings.start, "config.start")
    return frozen_layers(gan, *example_spec(train, settings), start.freeze_discriminator)


def example_spec(train: Source, settings: Settings) -> tuple[Batch, jax.ShapeDtypeStruct]:
    """Returns shapes and dtypes of a batch and of a key."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return batch_spec(train, (settings.batch_size,)), key


def make_optimizer(
    spec: Mapping[str, Any],
    player: str,
    clock: schedules.Clock,
    updates_per_step: int = 1,
    first_step: int = 0,
) -> optax.GradientTransformation:
    """Returns the optimizer of one player from a step on; see `Settings.optimizers`."""
    field = f"config.optimizers.{player}"
    options = {
        name: schedules.skip(value, first_step * updates_per_step)
        for name, value in with_schedules(spec, field, clock, updates_per_step).items()
    }
    make = getattr(optax, str(options.pop("name", "")), None)
    check(f"{field}.name", spec.get("name"), callable(make), "the name of an optimizer of optax")
    if "decay" in options:
        raise InputError(
            f"{field}.decay is a part of {field}.learning_rate since gaxn 0.3: a schedule, such as "
            "{'name': 'linear', 'points': ((0.5, 1e-3), (1.0, 0.0))}"
        )
    rate = options.pop("learning_rate", None)
    _check_numbers(f"{field}.learning_rate", rate, lambda value: value > 0, "a number above 0")
    for beta in options.keys() & {"b1", "b2"}:
        valid, expected = lambda value: 0 <= value < 1, "at least 0 and below 1"
        _check_numbers(f"{field}.{beta}", options[beta], valid, expected)
    constraints = {name: options.pop(name, None) for name in ("clip", "orthogonal")}
    scheduled = {k: v for k, v in options.items() if isinstance(v, schedules.Schedule)}
    if scheduled:
        # The optimizer is then made anew at every update, with the values of that update.
        first = {name: schedule.points[0][1] for name, schedule in scheduled.items()}
        bind(make, {**options, **first}, field, learning_rate=rate)
        optimizer = optax.inject_hyperparams(make)(learning_rate=rate, **options)
    else:
        optimizer = bind(make, options, field, learning_rate=rate)
    return bind(with_constraints, constraints, field, optimizer=optimizer)


def _check_numbers(field: str, value: Any, valid: Callable[[float], bool], expected: str) -> None:
    """Raises an InputError unless a number, or all of a schedule but a last 0, are valid."""
    if isinstance(value, schedules.Schedule):
        *values, last = (number for _, number in value.points)
        values += [last] * (last != 0)
        check(field, values, all(map(valid, values)), expected)
    else:
        check(field, value, isinstance(value, int | float) and valid(value), expected)


def make_create_state(
    gan: nn.Module,
    optimizers: Mapping[str, optax.GradientTransformation],
    train: Source,
    settings: Settings,
) -> Callable[[PRNGKey], TrainState]:
    """Returns the jitted function from the root key to the state at step 0."""
    spec = batch_spec(train, (settings.batch_size,))

    def create(key: PRNGKey) -> TrainState:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), spec)
        return create_state(gan, optimizers, zeros, key)

    # On a CPU the random draws of each weight shape compile for a second; for a fifth this way.
    options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    function = create if settings.population == 1 else jax.vmap(create)
    return jax.jit(function, compiler_options=options)


def defaults_of(config: ConfigDict, path: Sequence[str]) -> Mapping[str, Any]:
    """Returns the fields that a config may leave out within one of its fields, with defaults.

    Args:
        config: the config.
        path: of the field; empty for the config itself.
    """
    if "lab" in config:
        return {}
    homes = {
        "data": ("data", "Source"),
        "gan": ("gans", ""),
        "generator": ("models", ""),
        "discriminator": ("models", ""),
        "loss": ("objectives.losses", ""),
        "update_rule": ("training.update_rules", ""),
        **({"text": ("features.text", "load")} if config.get("text") else {}),
    }
    match list(path):
        case []:
            return defaults(Settings)
        case [section] if section in SECTIONS:
            return defaults(SECTIONS[section])
        case [field] if field in homes:
            home, attribute = homes[field]
            return defaults(
                resolve(home, config[field].get("name"), f"config.{field}.name", attribute)
            )
        case ["data", "a" | "b" as domain]:
            spec = config.data[domain]
            return defaults(
                resolve("data", spec.get("name"), f"config.data.{domain}.name", "Source")
            )
        case ["optimizers", player]:
            make = getattr(optax, str(config.optimizers[player].get("name")), None)
            options = defaults(make) if callable(make) else {}
            numbers = {k: v for k, v in options.items() if isinstance(v, int | float)}
            # Zeros stand for their type; an optimizer without them has neither.
            return {"clip": 0.0, "orthogonal": 0.0, **numbers}
        case ["networks", name]:
            return defaults(
                resolve("models", config.networks[name].get("name"), f"config.networks.{name}.name")
            )
        case ["penalties" | "regularizers" | "augmentations" as kind, name]:
            return defaults(resolve(f"objectives.{kind}", name, f"config.{kind}"))
        case ["regularizers", name, "extractor"]:
            spec, field = config.regularizers[name].extractor, "config.regularizers"
            make = resolve("features", spec.get("name"), f"{field}.{name}.extractor.name", "load")
            return defaults(make)
    return {}


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config's fields with the defaults of those that it leaves out; plain dicts."""
    fields = {**defaults(Settings), **config}
    sections = {
        section: {**defaults(make), **fields.get(section, {})} for section, make in SECTIONS.items()
    }
    return fields | sections
