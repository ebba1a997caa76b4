"""From a config to an `Experiment`: the recipe of a run, read from top to bottom."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gaxn.config import bind, check_finite, defaults, error_path, instantiate, resolve
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
from gaxn.data.sentences import Sentences, check_captions
from gaxn.distributed.sharding import Parallelism, make_parallelism
from gaxn.evaluation.plan import EvaluationPlan, make_plan
from gaxn.evaluation.sampling import SamplingOptions
from gaxn.experiment.networks import check_grows, check_networks, make_network, network_arguments
from gaxn.experiment.objective import make_parts, make_regularizers
from gaxn.experiment.schedules import with_schedules
from gaxn.experiment.settings import RunOptions, Settings, complete
from gaxn.experiment.training_step import compile_stage, make_training_stages, make_update_rule
from gaxn.features.text import make_conditioner, restore_conditioner
from gaxn.io.plots import Picture
from gaxn.labs import LabRun
from gaxn.objectives import schedules
from gaxn.objectives.augmentations import Augmentation
from gaxn.objectives.losses import Loss
from gaxn.objectives.objective import make_objective
from gaxn.objectives.penalties import Penalty
from gaxn.training import cost
from gaxn.training.dispatch import Dispatch, StagePrograms, make_dispatch
from gaxn.training.growing import GrowingOptions, make_growth
from gaxn.training.population import Member, make_members, root_key
from gaxn.training.state import TrainState, create_state
from gaxn.training.step import PlayerUpdate
from gaxn.types import Batch, PRNGKey, check


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
        train_source, test_source: the splits of the data.
        gan: the networks and their losses.
        updates: the player updates of a training step.
        create_state: root key -> the state at step 0, jitted.
        train_step: (state, batches, key) -> (state, scalars), as written; of networks that grow,
            with all of their layers.
        compiled_step: the same, compiled for the devices.
        programs: of the steps of a run, one of each stage of growth.
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
    train_source: Source
    test_source: Source
    gan: nn.Module
    updates: tuple[PlayerUpdate, ...]
    create_state: Callable[[PRNGKey], TrainState]
    train_step: Callable[[TrainState, Batch, PRNGKey], tuple]
    compiled_step: Callable[[TrainState, Batch, PRNGKey], tuple]
    programs: tuple[StagePrograms, ...]
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
            "identity": self.train_source.identity,
            "image_shape": list(self.train_source.image_shape),
            "classes": list(self.train_source.class_names),
            "examples": [len(self.train_source), len(self.test_source)],
            **(
                {"domains": self._domains_record} if isinstance(self.train_source, Unpaired) else {}
            ),
            **({"text": self._text_record} if isinstance(self.train_source, Sentences) else {}),
        }

    @property
    def _domains_record(self) -> dict[str, Any]:
        """Describes unpaired data: the sizes of domains by split, and the shape of test images."""
        sizes = [list(source.sizes) for source in (self.train_source, self.test_source)]
        return {"sizes": sizes, "test_shape": list(self.test_source.image_shape)}

    @property
    def _text_record(self) -> dict[str, Any]:
        """Describes how captions become conditions, with the different captions of the tests."""
        return {**self.train_source.conditioner.record, "captions": list(self.test_source.captions)}

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
        program, specs = jax.jit(self.train_step), self._step_specs
        if self.parallelism.step_specs and jax.default_backend() == "cpu":
            # Lowered already, if it was trained.
            program, specs = self.compiled_step, self.parallelism.step_specs(*specs)
        return {
            "parameters": cost.parameters(self.member_spec.params),
            "flops_a_step": cost.flops(program, *specs),
        }

    @property
    def _step_specs(self) -> tuple[TrainState, Batch, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the inputs of a member's step on all devices."""
        batches = batch_spec(self.train_source, (len(self.updates), self.settings.batch_size))
        return self.member_spec, batches, jax.ShapeDtypeStruct((), self.key.dtype)

    def check_steps(self) -> None:
        """Traces the first step of a run, and of each stage of growth, but runs none.

        Raises:
            InputError: parts of the config do not suit each other, as only a step shows.
        """
        fields = [field.name for field in dataclasses.fields(Settings)]
        with error_path("config", fields), error_path("config.objective", defaults(make_objective)):
            for program in self.programs:
                if self.parallelism.step_specs and len(self.members) == 1:
                    # Training then uses what was traced.
                    specs = self.parallelism.step_specs(*self._step_specs)
                    jax.eval_shape(program.step_at(program.first), *specs)
                else:
                    jax.eval_shape(program.train_step, *self._step_specs)


def make_run(
    config: ConfigDict,
    name: str,
    data_record: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] = {},
    text_record: Mapping[str, Any] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Experiment | LabRun:
    """Returns the run of a config: of a lab if it has a field `lab`, else of a GAN.

    Args:
        config: of the run.
        name: of the run.
        data_record: description of the data, if they need not be read.
        origin: how the config came about.
        text_record: of the run that goes on, see `make_experiment`.
        devices: that the step uses; None for all.
    """
    fields = config.to_dict()
    check_finite(fields)
    if "lab" not in fields:
        experiment = make_experiment(
            config, name, data_record=data_record, text_record=text_record, devices=devices
        )
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
    text_record: Mapping[str, Any] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Experiment:
    """Makes every part of a run from its config.

    Args:
        config: the fields of `Settings`.
        name: of the run, by default that of the config's file.
        parallelism: how the step runs, instead of `config.parallel` over all devices.
        data_record: `Experiment.data_record`, if the data need not be read.
        text_record: `restore.read_text_record` of a run that goes on, whose captions become the
            conditions that they were; None to make conditions anew, or for that of `data_record`.
        devices: of `config.parallel`; None for all.

    Raises:
        InputError: a field is unknown, missing, of the wrong type or out of range.
    """
    settings = bind(Settings, config.to_dict(), "config")
    run = bind(RunOptions, settings.run, "config.run")
    run_length = schedules.RunLength(settings.num_train_steps, settings.batch_size)

    # Data.
    train_source, test_source = (
        instantiate("data", settings.data, "config.data", "Source", split=split)
        if data_record is None
        else make_recorded(split, data_record)
        for split in ("train", "test")
    )
    shapes = train_source.image_shape, test_source.image_shape
    valid = shapes[0] == shapes[1] or isinstance(train_source, Unpaired)
    check("the images of both splits", shapes, valid, "of one shape, or config.data.size above 0")
    if isinstance(train_source, Counted) and isinstance(test_source, Counted):
        print(f"{name}: {describe_counts(train_source, test_source)}", flush=True)

    if settings.text:
        text_record = text_record or (data_record or {}).get("text")
        train_source, test_source = with_sentences(
            train_source, test_source, settings, text_record, run.accept_new_data
        )

    # Networks.
    shape = network_arguments(test_source, settings.conditional)
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
        "penalties", with_schedules(settings.penalties, "config.penalties", run_length), Penalty
    )
    objective = bind(
        make_objective,
        with_schedules(settings.objective, "config.objective", run_length),
        "config.objective",
        loss=loss,
        penalties=penalties,
        regularizers=make_regularizers(
            settings.regularizers, None if data_record else test_source.image_shape[-3:]
        ),
        augmentations=tuple(
            make_parts("augmentations", settings.augmentations, Augmentation).values()
        ),
    )
    gan = instantiate(
        "gans",
        with_schedules(settings.gan, "config.gan", run_length),
        "config.gan",
        objective=objective,
        conditional=settings.conditional,
        size=shape.get("size"),
        growing=growth,
        **networks,
    )
    check_grows(gan, settings.gan["name"], growth)

    # Training step; of networks that grow, one of each stage.
    rule = make_update_rule(gan, settings)
    stages = make_training_stages(gan, rule, train_source, settings, run_length)
    updates = stages[-1].updates

    # State and batches, on the devices.
    members = make_members(settings.seed, settings.population)
    key = root_key(members)
    create = make_create_state(gan, stages[-1].optimizers, train_source, settings)
    with error_path("config.objective", defaults(make_objective)):
        params = jax.eval_shape(create, key).params
    if parallelism is None:
        parallelism = make_parallelism(
            settings.parallel,
            settings.batch_size,
            settings.population,
            settings.accumulation_steps,
            settings.shards,
            devices,
        )
    root_keys = [member.key for member in members]
    batches = make_batches(train_source, root_keys, len(updates), settings.batch_size, parallelism)

    # Samples and evaluation.
    make_hooks = resolve("evaluation.kinds", gan.HOOKS, "the GAN's HOOKS", "make_hooks")
    hooks = make_hooks(
        gan=gan,
        loss=loss,
        members=members,
        train=train_source,
        test=test_source,
        classes=test_source.num_conditions if settings.conditional else None,
        columns=run.sample_columns,
    )
    # Samples and evaluations share compiled programs.
    hooks = hooks._replace(make_sampler=functools.cache(hooks.make_sampler))
    evaluation = bind(
        make_plan,
        settings.evaluation,
        "config.evaluation",
        train=train_source,
        test=test_source,
        conditional=settings.conditional,
        hooks=hooks,
        initial_state=lambda: jax.device_get(create(key)),
    )

    # Compiled programs, and the calls of them.
    intervals = [run.sample_every, run.checkpoint_every, evaluation.every]
    # A kernel of a convolution has four axes, of a population's one more.
    kernel_axes = 4 if len(members) == 1 else 5
    has_convolutions = any(leaf.ndim == kernel_axes for leaf in jax.tree.leaves(params))

    programs = [compile_stage(stage, objective, penalties, parallelism) for stage in stages]
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
        train_source=train_source,
        test_source=test_source,
        gan=gan,
        updates=updates,
        create_state=create,
        train_step=programs[-1].train_step,
        compiled_step=programs[-1].compiled_step,
        programs=tuple(programs),
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
    train: Source,
    test: Source,
    settings: Settings,
    record: Mapping[str, Any] | None,
    accepts_another: bool,
) -> tuple[Sentences, Sentences]:
    """Returns both splits with the vectors of their captions as conditions.

    Args:
        train, test: the splits.
        settings: of the run.
        record: how captions became conditions, of a run that was begun before; None for a new one.
        accepts_another: whether the encoder of such a run may be another one.

    Raises:
        InputError: images have no caption, or the run is not conditional.
    """
    check("config.conditional", settings.conditional, settings.conditional, "True with config.text")
    for split in (train, test):
        expected = f"{{}} with these data, as {split.identity} has no captions"
        valid = isinstance(split, Captioned) and any(split.captions)
        check("config.text", settings.text, valid, expected)
        check_captions(split)
    folder = (record or {}).get("folder", "")
    encoder = instantiate(
        "features.text",
        settings.text,
        "config.text",
        "load",
        train=train,
        test=test,
        run_folder=folder,
    )
    has_words = bool(settings.generator.get("words_at"))
    if record is None:
        conditioner = make_conditioner(encoder, sorted(set(train.captions)), has_words)
    else:
        conditioner = restore_conditioner(encoder, record, has_words, accepts_another)
    return tuple(
        Sentences(split.split, flip=split.flip, source=split, conditioner=conditioner)
        for split in (train, test)
    )


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
