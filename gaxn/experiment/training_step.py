"""From a config to the training step; for networks that grow, to one of each stage."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import optax

from gaxn.config import bind, defaults, error_path, instantiate
from gaxn.data import Source, batch_spec
from gaxn.distributed.sharding import Parallelism
from gaxn.experiment.optimizers import check_differentiable, make_optimizers
from gaxn.experiment.schedules import make_ema_decay
from gaxn.experiment.settings import Settings
from gaxn.objectives.objective import Objective, make_objective
from gaxn.objectives.penalties import Penalty
from gaxn.objectives.schedules import RunLength, ScalarOrSchedule
from gaxn.training.dispatch import StagePrograms, TrainStep, choose_by_penalties
from gaxn.training.fine_tuning import DISCRIMINATOR, GENERATOR, StartOptions, frozen_layers
from gaxn.training.growing import find_first_steps, find_parameter_stages, make_stages
from gaxn.training.step import PlayerUpdate, make_train_step
from gaxn.training.update_rules import UpdateRule
from gaxn.types import Batch, PyTree, check


@dataclasses.dataclass(frozen=True)
class TrainingStage:
    """The parts of the training step of a stage; a run that does not grow is one stage.

    Attributes:
        first: the first step of the stage.
        gan: the networks, with the layers of the stage, and their losses.
        updates: the player updates of a step, in order.
        rule: how the updates make up a step.
        ema_decay: of the moving average of the generator's parameters, or a schedule of it.
        first_steps: of a generator that grows, the step from which on each parameter is there.
    """

    first: int
    gan: nn.Module
    updates: tuple[PlayerUpdate, ...]
    rule: UpdateRule
    ema_decay: ScalarOrSchedule
    first_steps: PyTree | None

    @property
    def optimizers(self) -> dict[str, optax.GradientTransformation]:
        """The optimizer of each player."""
        return {update.player: update.optimizer for update in self.updates}

    def make_step(self, gan: nn.Module) -> TrainStep:
        """Returns the training step, (state, batches, root key) -> (state, scalars), of a GAN."""
        return make_train_step(gan, self.updates, self.ema_decay, self.rule.step, self.first_steps)


def make_update_rule(gan: nn.Module, settings: Settings) -> UpdateRule:
    """Returns the update rule of `config.update_rule`.

    Raises:
        InputError: it does not suit the GAN or the optimizers.
    """
    rule = instantiate(
        "training.update_rules", settings.update_rule, "config.update_rule", returns=UpdateRule
    )
    expected = "alternating or simultaneous with a history of images"
    valid = rule.allows_image_history or not gan.history
    check("config.update_rule.name", settings.update_rule["name"], valid, expected)
    if rule.differentiates_optimizer:
        check_differentiable(settings.optimizers.get(DISCRIMINATOR, {}), DISCRIMINATOR)
    return rule


def make_training_stages(
    gan: nn.Module,
    rule: UpdateRule,
    train_source: Source,
    settings: Settings,
    run_length: RunLength,
) -> tuple[TrainingStage, ...]:
    """Returns the stages of a run, in order; one if the networks do not grow.

    Args:
        gan: the networks and their losses.
        rule: of the run.
        train_source: the training split, for shapes.
        settings: of the run.
        run_length: of the run.

    Raises:
        InputError: an optimizer cannot be made, or the networks cannot grow so.
    """
    losses = gan.losses()
    counts = {
        **dict.fromkeys(losses, 1),
        DISCRIMINATOR: settings.discriminator_steps,
        GENERATOR: settings.generator_steps,
    }
    optimizer_updates = {player: n * rule.optimizer_updates for player, n in counts.items()}
    frozen = {DISCRIMINATOR: find_frozen(gan, train_source, settings)}

    def make_optimizers_at(first_step: int) -> dict[str, optax.GradientTransformation]:
        return make_optimizers(
            settings.optimizers, tuple(losses), run_length, optimizer_updates, frozen, first_step
        )

    objective_path = error_path("config.objective", defaults(make_objective))
    with error_path("config.growing", ["resolutions"]), objective_path:
        stages_by_parameter = find_parameter_stages(gan, *example_spec(train_source, settings))
    ema_decay = make_ema_decay(settings, run_length)
    first_steps = find_first_steps(gan, stages_by_parameter, GENERATOR)
    return tuple(
        TrainingStage(
            first=stage.first,
            gan=stage.gan,
            updates=tuple(
                PlayerUpdate(player, loss, stage.optimizers[player], settings.accumulation_steps)
                for player, loss in losses.items()
                for _ in range(counts[player])
            ),
            rule=rule,
            ema_decay=ema_decay,
            first_steps=first_steps,
        )
        for stage in make_stages(gan, stages_by_parameter, make_optimizers_at)
    )


def compile_stage(
    stage: TrainingStage,
    objective: Callable[..., Objective],
    penalties: Mapping[str, Penalty],
    parallelism: Parallelism,
) -> StagePrograms:
    """Returns the programs of a stage; they are compiled when they are first called.

    Args:
        stage: of the run.
        objective: (discriminator, penalties=...) -> the objective of the GAN.
        penalties: of the objective.
        parallelism: how a step runs on the devices.
    """

    def compile_with(fixed: Mapping[str, Penalty]) -> TrainStep:
        gan = stage.gan.clone(objective=functools.partial(objective, penalties=fixed))
        return parallelism.compile_step(stage.make_step(gan))

    train_step = stage.make_step(stage.gan)
    compiled_step = parallelism.compile_step(train_step)
    step_at = choose_by_penalties(penalties, compiled_step, compile_with)
    return StagePrograms(stage.first, train_step, compiled_step, step_at)


def find_frozen(
    gan: nn.Module, train_source: Source, settings: Settings
) -> frozenset[tuple[str, ...]]:
    """Returns the layers of the discriminator that `config.start` freezes, by their paths."""
    start = bind(StartOptions, settings.start, "config.start")
    return frozen_layers(gan, *example_spec(train_source, settings), start.freeze_discriminator)


def example_spec(train_source: Source, settings: Settings) -> tuple[Batch, jax.ShapeDtypeStruct]:
    """Returns shapes and dtypes of a batch and of a key."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return batch_spec(train_source, (settings.batch_size,)), key
