"""The frozen record of one run: all that `build` resolved, and all that `loop` knows."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from gaxn.data import Source
from gaxn.evaluations import Plan
from gaxn.grids import Grid
from gaxn.mesh import Placement
from gaxn.population import Member
from gaxn.state import GanState
from gaxn.step import Step, Turn
from gaxn.translation import Translator
from gaxn.types import Batch, PRNGKey, Subject, require


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run.

    Attributes:
        name: of the config file.
        config: resolved, ready for JSON.
        key: the root key; one a member of several.
        train: the training split.
        test: the test split.
        conditional: whether the players take labels.
        game: the players and their losses.
        turns: the moves of one step.
        create: key -> the state at step 0, jitted.
        step: one training step.
        feed: step -> its placed batches.
        placement: how the step runs on the devices.
        subject: host state (and the number of a member) -> what pictures are drawn from, the
            running mean: a `Subject`, or a `Translator` where images are translated.
        grid: (subject, host state, columns) -> the picture of a state.
        evaluation: what is measured, when and of which checkpoint.
        watch: host state -> what tells of a collapse, whenever samples are drawn.
        members: the runs that are trained at once; one, but for a population.
        batch: examples a turn.
        steps: length of the run.
        log_every, sample_every, checkpoint_every: in steps.
        keep: how many checkpoints stay.
        sample_columns: images in a row of the sample grid.
        stuck_after: seconds without the end of a step, an evaluation or a save, after which the
            process ends (exit status 18).
    """

    name: str
    config: Mapping[str, Any]
    key: PRNGKey
    train: Source
    test: Source
    conditional: bool
    game: nn.Module
    turns: tuple[Turn, ...]
    create: Callable[[PRNGKey], GanState]
    step: Step
    feed: Callable[[int], Batch]
    placement: Placement
    subject: Callable[..., Subject | Translator]
    grid: Grid
    evaluation: Plan
    watch: Callable[[GanState], dict[str, float]]
    members: tuple[Member, ...]
    batch: int
    steps: int
    log_every: int
    sample_every: int
    checkpoint_every: int
    keep: int
    sample_columns: int
    stuck_after: float = 3600.0

    def __post_init__(self):
        for field in ("log_every", "sample_every", "checkpoint_every", "keep", "sample_columns"):
            value = getattr(self, field)
            require(field, value, value >= 1, "1 or more")
        require("stuck_after", self.stuck_after, self.stuck_after > 0, "above 0, in seconds")
