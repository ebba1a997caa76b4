"""Training of a GAN that grows: its stages, and which layers move in each.

A stage is steps with the same layers, and has a program of its own. Layers that exist in the same
stages form a group. Each group has an optimizer state of its own, which does not change in the
stages that lack these layers.
"""

import collections
import dataclasses
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from gaxn.nn.growing import Growth
from gaxn.types import Batch, PyTree, check

Optimizers = Mapping[str, optax.GradientTransformation]
VariablePath = tuple[str, ...]
StagesByParameter = Mapping[VariablePath, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class GrowingOptions:
    """The fields of `config.growing`.

    Attributes:
        resolutions: heights and widths of the images in the phases of the run, each twice the one
            before; the last is that of the data. () for networks that do not grow.
        steps: training steps of each phase but the last, which has the others.
        fade_steps: steps at the start of each phase but the first in which its new layers fade in,
            0 for none; at most the steps of these phases.
    """

    resolutions: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    fade_steps: int = 0

    def __post_init__(self):
        count = max(len(self.resolutions) - 1, 0)
        valid = len(self.steps) == count and all(steps >= 1 for steps in self.steps)
        check("steps", self.steps, valid, f"{count} long, one less than resolutions, each above 0")
        most = min(self.steps[1:], default=self.fade_steps)
        expected = f"0 or more, and at most the steps of a phase, {most}"
        check("fade_steps", self.fade_steps, 0 <= self.fade_steps <= most, expected)


def make_growth(options: GrowingOptions, size: int | None, num_train_steps: int) -> Growth | None:
    """Returns the resolutions of a run; None for networks that do not grow.

    Args:
        options: of the run.
        size: height and width of the data's images; None for points.
        num_train_steps: of the run.

    Raises:
        InputError: the run does not reach the resolution of the data.
    """
    if not options.resolutions:
        return None
    last = options.resolutions[-1]
    expected = f"() with these data, or end with {size}, the size of the images"
    check("resolutions", options.resolutions, last == size, expected)
    starts = tuple(accumulate(options.steps, initial=0))
    complete = starts[-1] + options.fade_steps
    expected = f"{complete:,} or more, after which the networks have grown to {last} pixels"
    check("num_train_steps", num_train_steps, num_train_steps >= complete, expected)
    return Growth(options.resolutions, starts, options.fade_steps)


class RunStage(NamedTuple):
    """A stage with what trains in it; all steps of a run that does not grow.

    Attributes:
        first: the first of these steps.
        gan: with the layers of the stage.
        optimizers: by player; they move these layers.
    """

    first: int
    gan: nn.Module
    optimizers: Optimizers


def make_stages(
    gan: nn.Module,
    stages_by_parameter: StagesByParameter,
    make_optimizers: Callable[[int], Optimizers],
) -> list[RunStage]:
    """Returns the stages of a run, whose optimizers all have a state of the same form.

    Args:
        gan: the networks and their losses.
        stages_by_parameter: as of `find_parameter_stages`.
        make_optimizers: a step -> the optimizers of layers that are there from this step on.
    """
    if gan.growing is None:
        return [RunStage(0, gan, make_optimizers(0))]
    firsts = [stage.first for stage in gan.growing.stages]
    group_optimizers = {
        group: make_optimizers(firsts[group[0]]) for group in set(stages_by_parameter.values())
    }

    def make_optimizer(player: str, stage: int) -> optax.GradientTransformation:
        groups = {
            path[1:]: group for path, group in stages_by_parameter.items() if path[0] == player
        }
        parts = {
            group: group_optimizers[group][player]
            if stage in group
            else hold(group_optimizers[group][player])
            for group in sorted(set(groups.values()))
        }
        return by_group(parts, groups)

    return [
        RunStage(
            first,
            at_stage(gan, stage),
            {player: make_optimizer(player, stage) for player in gan.losses()},
        )
        for stage, first in enumerate(firsts)
    ]


def at_stage(gan: nn.Module, stage: int) -> nn.Module:
    """Returns a GAN that grows with the layers of one of its stages."""
    growth = gan.growing.at(stage)
    return gan.clone(
        growing=growth,
        generator=gan.generator.clone(growing=growth),
        discriminator=gan.discriminator.clone(growing=growth),
    )


def at_last_stage(gan: nn.Module) -> nn.Module:
    """Returns a GAN with the layers of its last stage; one that does not grow as it is."""
    return gan if gan.growing is None else at_stage(gan, len(gan.growing.stages) - 1)


def find_parameter_stages(
    gan: nn.Module, batch: Batch, key: jax.ShapeDtypeStruct
) -> StagesByParameter:
    """Returns the stages in which each parameter of a GAN that grows is there, by its path.

    Args:
        gan: the networks and their losses.
        batch: shapes and dtypes of a batch.
        key: shape and dtype of a key.
    """
    stages_by_parameter = collections.defaultdict(list)
    for stage in range(0 if gan.growing is None else len(gan.growing.stages)):
        staged = at_stage(gan, stage)
        rngs = {"params": key, "dropout": key}
        for path in flatten_dict(jax.eval_shape(staged.init, rngs, batch, key)["params"]):
            stages_by_parameter[path].append(stage)
    return {path: tuple(stages) for path, stages in stages_by_parameter.items()}


def find_first_steps(
    gan: nn.Module, stages_by_parameter: StagesByParameter, player: str
) -> PyTree | None:
    """Returns the first step of each parameter of a player; None without growth."""
    if gan.growing is None:
        return None
    firsts = [stage.first for stage in gan.growing.stages]
    return unflatten_dict(
        {
            path[1:]: firsts[stages[0]]
            for path, stages in stages_by_parameter.items()
            if path[0] == player
        }
    )


def hold(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns an optimizer that moves nothing, with the state of another, which does not change."""

    def update(updates: PyTree, state: PyTree, params: PyTree | None = None) -> tuple:
        return jax.tree.map(jnp.zeros_like, updates), state

    return optax.GradientTransformation(optimizer.init, update)


def by_group(
    optimizers: Mapping[tuple[int, ...], optax.GradientTransformation],
    groups: Mapping[VariablePath, tuple[int, ...]],
) -> optax.GradientTransformation:
    """Returns an optimizer of groups of parameters, each with an optimizer and its state.

    Args:
        optimizers: by group, the stages in which its parameters are there.
        groups: of the parameters, by their paths.
    """

    def label(group: tuple[int, ...]) -> str:
        return "_".join(["stages", *map(str, group)])

    def labels(params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: label(groups[tuple(key.key for key in path)]), params
        )

    return optax.multi_transform({label(group): o for group, o in optimizers.items()}, labels)
