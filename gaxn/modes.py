"""What the command line can do with a run in a directory; each mode gives an exit status."""

import contextlib
import inspect
import itertools
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from gaxn import liveness, outputs, processes, provenance, sinks
from gaxn.checkpoint import Checkpoints
from gaxn.evaluations import ALL, BEST, LAST
from gaxn.experiment import Experiment
from gaxn.extractors import classifier
from gaxn.fitting import FITS
from gaxn.games.cyclegan import CycleGan
from gaxn.games.image_gan import ImageGan
from gaxn.labs import LabRun
from gaxn.loop import Signals, advance
from gaxn.state import GanState, steps_done
from gaxn.types import InputError, require

FREE = {
    "steps",
    "parallel",
    "shards",
    "evaluation",
    "run",
    *(
        f"{data}.{field}"
        for data in ("data", "data.a", "data.b")
        for field in ("directory", "workers")
    ),
}
"""Fields of a config that leave the trajectory alone: a run may go on under other values."""

STATUS = {signal.SIGTERM: 42, signal.SIGINT: 130}
"""Exit status of a run that a signal stopped, after it saved."""


def train(experiment: Experiment, workdir: Path) -> int:
    """Trains, going on from the last good checkpoint if there is one; evaluates and draws."""
    experiment.evaluation.check()
    keeps_best = experiment.evaluation.every > 0
    record = {"name": experiment.name, **provenance.record()}
    sinks.open_run(workdir, experiment.config, FREE, record)
    with (
        _checkpoints(experiment, workdir) as checkpoints,
        Checkpoints(workdir / BEST, 1) if keeps_best else contextlib.nullcontext() as best,
    ):
        state = checkpoints.restore(_blank(experiment))
        if state is None:
            state = jax.device_get(experiment.create(experiment.key))
        done = steps_done(state)
        if done >= experiment.steps and outputs.is_evaluated(workdir, done):
            print(f"{workdir} is done: {done} steps, evaluated")
            return 0
        with Signals() as signals, liveness.over_steps(experiment.stuck_after) as watchdog:
            state = advance(experiment, workdir, state, checkpoints, best, signals, watchdog)
    if signals.caught:
        print(f"stopped and saved at step {steps_done(state)}; the same command goes on")
        return STATUS[signals.caught]
    processes.end_by_sigterm()
    if processes.is_first():
        outputs.draw_training(workdir)
    outputs.evaluate(experiment, workdir, state)
    if processes.is_first():
        outputs.draw_evaluations(workdir)
    return 0


def evaluate(experiment: Experiment, workdir: Path) -> int:
    """Evaluates the checkpoint that `config.evaluation.checkpoint` names, or all of them."""
    which = experiment.evaluation.checkpoint
    if which != ALL:
        chosen = experiment.evaluation.best if which == BEST else ""
        outputs.evaluate(experiment, workdir, _restored(experiment, workdir, which), chosen)
        return 0
    _refuse_strangers(experiment, workdir)
    with _checkpoints(experiment, workdir) as checkpoints:
        steps = checkpoints.steps()
    for step in steps:
        print(f"step {step}")
        outputs.evaluate(experiment, workdir, _restored(experiment, workdir, str(step)))
    outputs.draw_evaluations(workdir)
    return 0


def sample(experiment: Experiment, workdir: Path) -> int:
    """Draws sample.png, the grid of the last good checkpoint as it is evaluated; prints where."""
    state = _restored(experiment, workdir, LAST)
    subject = experiment.evaluation.subject
    picture = experiment.grid(subject, state, experiment.sample_columns)
    sinks.write_picture(workdir / "sample.png", picture)
    print(workdir / "sample.png")
    return 0


def interpolate(experiment: Experiment, workdir: Path) -> int:
    """Draws the ways between latents, and between classes, of the last good checkpoint."""
    pictured = len(experiment.train.image_shape) == 3
    require("--mode", "interpolate", pictured, "another with points, which are no pictures")
    state = _restored(experiment, workdir, LAST)
    print(*outputs.draw_interpolation(experiment, workdir, state), sep="\n")
    return 0


def translate(
    experiment: Experiment,
    workdir: Path,
    *,
    input: Path,
    output: Path,
    direction: str,
    fit: str = "whole",
    cycle: bool = False,
) -> int:
    """Translates pictures of any size with the last good checkpoint; prints where they are.

    Args:
        experiment: the run.
        workdir: its directory.
        input: a picture, or a folder or a .zip of them.
        output: the folder for NAME.png of each; made if it is not there.
        direction: "a2b" or "b2a".
        fit: a name in `fitting.FITS`.
        cycle: whether NAME_cycle.png is drawn too: the picture, its translation, and the way
            back.
    """
    images = outputs.translations_of(input, output, cycle)
    state = _restored(experiment, workdir, LAST)
    outputs.translate(experiment, state, images, direction, FITS[fit])
    return 0


def train_classifier(experiment: Experiment, workdir: Path) -> int:
    """Trains the classifier of the data set afresh, into the run's directory."""
    learnt, held_out = experiment.evaluation.labelled
    params, accuracy = classifier.train(learnt, held_out)
    path = workdir / "classifier.npz"
    card = classifier.save(path, learnt, params, accuracy)
    print(f"{path}: test accuracy {accuracy:.4f}, SHA-256 {card['sha256']}")
    return 0


def make_visible(run: LabRun, workdir: Path) -> int:
    """Does all of a lab, once; writes its pictures and evaluation.json."""
    sinks.open_run(workdir, run.config, set(), {"name": run.name, **provenance.record()})
    path = workdir / "evaluation.json"
    if path.exists():
        print(f"{workdir} is done")
        return 0
    report = run.lab()
    for name, picture in report.pictures.items():
        sinks.write_picture(workdir / f"{name}.png", picture)
    for name, figure in report.figures.items():
        print(f"{name}: {figure:.4f}")
    # Last: where it is, the pictures are.
    sinks.write_json(
        path,
        {
            "name": run.name,
            "figures": report.figures,
            "tables": report.tables,
            "protocol": report.protocol,
        },
    )
    return 0


MODES_OF: Mapping[type, Mapping[str, Callable[..., int]]] = {
    Experiment: {
        "train": train,
        "evaluate": evaluate,
        "sample": sample,
        "classifier": train_classifier,
    },
    ImageGan: {"interpolate": interpolate},
    CycleGan: {"translate": translate},
    LabRun: {"train": make_visible},
}
"""The modes of a kind of run, and under the class of a game those that the game adds.

A mode takes the run, its directory and, by keyword, the options that only it has.
"""

MODES = tuple(dict.fromkeys(name for modes in MODES_OF.values() for name in modes))


def start(
    mode: str,
    run: Experiment | LabRun,
    workdir: Path,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> int:
    """Does with a run what a mode is for.

    Raises:
        InputError: runs of this kind have no such mode, or the mode no such option, or it
            lacks one.
    """
    kinds = (type(run), type(getattr(run, "game", None)))
    known = {name: does for kind in kinds for name, does in MODES_OF.get(kind, {}).items()}
    require("--mode", mode, mode in known, f"{', '.join(known)} with the config {run.name}")
    does = known[mode]
    takes = dict(itertools.islice(inspect.signature(does).parameters.items(), 2, None))
    for name in options:
        if name not in takes:
            raise InputError(f"--{name} is not understood by --mode {mode}")
    for name, parameter in takes.items():
        if name not in options and parameter.default is parameter.empty:
            raise InputError(f"--{name} is missing; --mode {mode} needs it")
    return does(run, workdir, **options)


def _restored(experiment: Experiment, workdir: Path, which: str) -> GanState:
    """The state of a checkpoint: "last", "best" or a step.

    Raises:
        InputError: there is no run, another one, or no such checkpoint.
    """
    _refuse_strangers(experiment, workdir)
    only = int(which) if which.isdecimal() else None
    if which == BEST and not (workdir / BEST).is_dir():
        raise InputError(
            f"config.evaluation.checkpoint is {BEST!r}; --workdir {workdir} has kept none; valid "
            "is last, all or a step, or training with config.evaluation.every above 0"
        )
    with (
        Checkpoints(workdir / BEST, 1)
        if which == BEST
        else _checkpoints(experiment, workdir) as checkpoints
    ):
        there = checkpoints.steps()
        state = checkpoints.restore(_blank(experiment), only)
    if state is None and there and (only in there or which == BEST):
        raise InputError(
            f"config.evaluation.checkpoint is {which!r}; that one is damaged, and was set aside"
        )
    if state is None and there and only is not None:
        raise InputError(
            f"config.evaluation.checkpoint is {which!r}; --workdir {workdir} has the steps "
            f"{', '.join(map(str, there))}"
        )
    if state is None:
        raise InputError(f"--workdir {workdir} holds no checkpoint; train first")
    return state


def _refuse_strangers(experiment: Experiment, workdir: Path) -> None:
    if not (workdir / "config.json").exists():
        raise InputError(f"--workdir {workdir} holds no run; train one first")
    sinks.refuse_another(workdir, experiment.config, FREE)


def _checkpoints(experiment: Experiment, workdir: Path) -> Checkpoints:
    return Checkpoints(workdir / "checkpoints", experiment.keep)


def _blank(experiment: Experiment) -> GanState:
    return jax.eval_shape(experiment.create, experiment.key)
