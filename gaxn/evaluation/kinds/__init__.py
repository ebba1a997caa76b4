"""Kinds of GANs: for each, what is sampled, drawn and evaluated of it.

A file here has the name of a file in gaxn/gans; gaxn calls its function `make_hooks` alone, by
keywords. A GAN chooses its hooks by `BaseGAN.HOOKS`; nothing else asks which kind a GAN is. The
keywords are gan, loss, members, train, test, classes and columns, as in kinds/gan.py.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gaxn.data import Source
from gaxn.evaluation.evaluators import Evaluator
from gaxn.evaluation.sampling import SamplingOptions
from gaxn.io.plots import Picture
from gaxn.training.state import TrainState
from gaxn.types import Sampler


class Target(NamedTuple):
    """A set of real images with which generated ones are compared.

    Attributes:
        train: the training split.
        test: the test split.
        name: appended to the names of its parts of an evaluation; "" if there is one target.
        max_samples: generated images that can be had.
        select: what `Hooks.make_sampler` returns for a state -> the sampler for this target.
    """

    train: Source
    test: Source
    name: str = ""
    max_samples: float = math.inf
    select: Callable[[Any], Sampler] = lambda sampler: sampler


class Hooks(NamedTuple):
    """The parts that a kind of GAN brings beside its losses.

    Attributes:
        make_sampler: options -> a function from (host state, member=0, chosen_by="") to a
            `Sampler`, or to another record from which `Target.select` takes one. `chosen_by`
            is the figure by which the state was chosen, for protocols.
        draw_samples: (a function that `make_sampler` returned, host state) -> picture.
        diagnostics: host state -> figures by name (gaxn/evaluation/diagnostics.py).
        targets: real images with which samples are compared.
        labeled: training and test split with the labels that a classifier learns.
        has_modes: whether coverage of the classifier's classes is a goal.
        make_evaluators: (samples, a function that `make_sampler` returned, () -> host state at
            step 0) -> further evaluators, by name.
        make_perceptual_evaluators: (extractor with a distance, then as `make_evaluators`) ->
            evaluators of perceptual distances, by name.
        headlines: figures of these evaluators that a short table names first.
        commands: further values of --mode: (sampler of the last checkpoint, run directory,
            options by keyword) -> exit status.
    """

    make_sampler: Callable[[SamplingOptions], Callable[..., Any]]
    draw_samples: Callable[[Callable[..., Any], TrainState], Picture]
    diagnostics: Callable[[TrainState], dict[str, float]]
    targets: tuple[Target, ...]
    labeled: tuple[Source, Source]
    has_modes: bool = True
    make_evaluators: Callable[..., Mapping[str, Evaluator]] = lambda *_: {}
    make_perceptual_evaluators: Callable[..., Mapping[str, Evaluator]] = lambda *_: {}
    headlines: tuple[str, ...] = ()
    commands: Mapping[str, Callable[..., int]] = {}
