"""The values of --mode: what the command line does with a run; each returns an exit status."""

import contextlib
import inspect
import itertools
import signal
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from gaxn.distributed import multihost, watchdog
from gaxn.evaluation import reports
from gaxn.evaluation.plan import ALL, BEST, LAST
from gaxn.experiment import Experiment
from gaxn.features import classifier
from gaxn.io import files, provenance, run_directory
from gaxn.io.checkpoints import Checkpoints
from gaxn.labs import LabRun
from gaxn.objectives import schedules
from gaxn.training import loop
from gaxn.training.state import TrainState, steps_done
from gaxn.types import InputError, check

FREE_FIELDS = {
    "num_train_steps",
    "parallel",
    "shards",
    "evaluation",
    "run",
    *(
        f"{data}.{field}"
        for data in ("data", "data.a", "data.b")
        for field in ("directory", "path", "resident_bytes", "skip_damaged", "workers")
    ),
}
"""Config fields that do not change the trajectory: a run may be resumed with other values.

The content behind a path is compared by itself.
"""

CHECKPOINTS = "checkpoints"

NEED_NO_DATA = {"sample", "interpolate"}
"""Modes for which it is enough to know the shapes and classes of images."""

STATUS = {signal.SIGTERM: 42, signal.SIGINT: 130}
"""Exit status of a run that a signal stopped, after it saved."""


def free_fields(experiment: Experiment, workdir: Path) -> set[str]:
    """Returns the fields with which a run may be resumed in a directory.

    Raises:
        InputError: it has another length, on which a schedule depends.
    """
    fixed = schedules.shared_fields(experiment.config)
    if fixed and (workdir / "config.json").exists():
        before = run_directory.read_run_record(workdir)["config"].get("num_train_steps")
        length = experiment.settings.num_train_steps
        expected = f"{before} in {workdir}, as {fixed[0]} is a schedule over the run (not in kimg)"
        check("config.num_train_steps", length, length == before, expected)
    return FREE_FIELDS


def train(experiment: Experiment, workdir: Path) -> int:
    """Trains, from the last good checkpoint if there is one; evaluates and draws."""
    experiment.evaluation.check()
    record = {"name": experiment.name, "data": experiment.data_record, **provenance.record()}
    free, accepts = free_fields(experiment, workdir), experiment.run.accept_new_data
    with run_directory.open_run(workdir, experiment.config, free, record, accepts):
        return _train(experiment, workdir)


def _train(experiment: Experiment, workdir: Path) -> int:
    with (
        Checkpoints(workdir / CHECKPOINTS, experiment.run.keep) as checkpoints,
        Checkpoints(workdir / BEST, 1)
        if experiment.evaluation.every
        else contextlib.nullcontext() as best,
    ):
        state = checkpoints.restore(_state_spec(experiment))
        if state is None:
            state = jax.device_get(experiment.create_state(experiment.key))
        done = steps_done(state)
        if done >= experiment.settings.num_train_steps and reports.is_evaluated(workdir, done):
            print(f"{workdir} is done: {done} steps, evaluated")
            return 0
        with (
            loop.Signals() as signals,
            watchdog.over_steps(experiment.run.stuck_after) as step_watchdog,
        ):
            state = loop.train(
                experiment, workdir, state, checkpoints, best, signals, step_watchdog
            )
    if signals.received:
        print(f"stopped and saved at step {steps_done(state)}; the same command goes on")
        return STATUS[signals.received]
    multihost.end_on_sigterm()
    if multihost.is_first():
        reports.draw_training(workdir)
    reports.evaluate(experiment, workdir, state)
    if multihost.is_first():
        reports.draw_evaluations(workdir)
    return 0


def evaluate(experiment: Experiment, workdir: Path) -> int:
    """Evaluates the checkpoint that `config.evaluation.checkpoint` names, or all of them."""
    which = experiment.evaluation.checkpoint
    if which != ALL:
        chosen_by = experiment.evaluation.best if which == BEST else ""
        state = restore_state(experiment, workdir, which)
        reports.evaluate(experiment, workdir, state, chosen_by)
        return 0
    run_directory.check_same_config(workdir, experiment.config, free_fields(experiment, workdir))
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        steps = checkpoints.steps()
    for step in steps:
        print(f"step {step}")
        reports.evaluate(experiment, workdir, restore_state(experiment, workdir, str(step)))
    reports.draw_evaluations(workdir)
    return 0


def sample(experiment: Experiment, workdir: Path, *, count: int = 0, output: Path = Path()) -> int:
    """Draws sample.png, the sample grid of the last good checkpoint by `config.evaluation`.

    Args:
        experiment: the run.
        workdir: its directory.
        count: if above 0, that many samples are written instead, the same as in an evaluation;
            with labels each class equally often.
        output: the folder for them, 000000.png and so on.
    """
    state = restore_state(experiment, workdir, LAST)
    if count or output != Path():
        check("--count", count, count >= 1, "1 or more, with --output")
        check("--output", str(output), output != Path(), "the path of a folder, with --count")
        reports.write_samples(experiment, state, count, output)
        print(f"{output}: {count} samples")
        return 0
    picture = experiment.draw_samples(experiment.evaluation.sampler, state)
    files.write_png(workdir / "sample.png", picture)
    print(workdir / "sample.png")
    return 0


def train_classifier(experiment: Experiment, workdir: Path) -> int:
    """Trains the classifier of the data set anew, into the run's directory."""
    train_source, test_source = experiment.evaluation.labeled
    params, accuracy = classifier.train(train_source, test_source)
    path = workdir / "classifier.npz"
    card = classifier.save(path, train_source, params, accuracy)
    print(f"{path}: test accuracy {accuracy:.4f}, SHA-256 {card['sha256']}")
    return 0


def run_lab(run: LabRun, workdir: Path) -> int:
    """Runs a lab, once; writes its pictures and evaluation.json."""
    record = {"name": run.name, **provenance.record()}
    path = workdir / "evaluation.json"
    with run_directory.open_run(workdir, run.config, set(), record):
        if path.exists():
            print(f"{workdir} is done")
            return 0
        report = run.lab()
        for name, draw in report.pictures.items():
            files.write_png(workdir / f"{name}.png", draw())
        for name, figure in report.figures.items():
            print(f"{name}: {figure:.4f}")
        # Last: a directory with evaluation.json has all pictures.
        document = {
            "name": run.name,
            "figures": report.figures,
            "tables": report.tables,
            "protocol": report.protocol,
        }
        files.write_json(path, document)
    return 0


COMMANDS: Mapping[str, Callable[..., int]] = {
    "train": train,
    "evaluate": evaluate,
    "sample": sample,
    "classifier": train_classifier,
}
"""Commands of every GAN: (run, directory) -> exit status. Its hooks may add others."""


def start(
    mode: str, run: Experiment | LabRun, workdir: Path, options: Mapping[str, str] = {}
) -> int:
    """Runs a command.

    Args:
        mode: its name.
        run: of a config.
        workdir: the directory of the run.
        options: flags of this command, as text.

    Raises:
        InputError: the run has no such command, or the command no such option, or it lacks one.
    """
    if isinstance(run, LabRun):
        commands, further = {"train": run_lab}, {}
    else:
        commands, further = COMMANDS, run.commands
    known = ", ".join([*commands, *further, "compare"])
    valid = mode in {*commands, *further}
    check("--mode", mode, valid, f"one of {known} with the config {run.name}")
    command = commands.get(mode) or further[mode]
    arguments = parse_options(command, mode, options)
    if mode in commands:
        return command(run, workdir, **arguments)
    state = restore_state(run, workdir, LAST)
    return command(run.evaluation.sampler(state), workdir, **arguments)


def data_record(mode: str, workdir: Path) -> dict[str, Any] | None:
    """Returns the description of a run's data, if a mode needs no more; None to read them."""
    if mode not in NEED_NO_DATA or not (workdir / "config.json").exists():
        return None
    record = run_directory.read_run_record(workdir).get("data")
    is_image = record is not None and len(record["image_shape"]) == 3
    return record if is_image else None


def parse_options(command: Callable, mode: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Returns the options of a command in the types of its parameters."""
    parameters = inspect.signature(command).parameters.items()
    parameters = dict(itertools.islice(parameters, 2, None))
    hints = typing.get_type_hints(command)
    for name in options:
        if name not in parameters:
            takes = ", ".join(f"--{known}" for known in parameters) or "no options"
            raise InputError(f"--{name} is unknown; --mode {mode} takes {takes}")
    for name, parameter in parameters.items():
        if name not in options and parameter.default is parameter.empty:
            raise InputError(f"--{name} is missing; --mode {mode} needs it")
    return {name: _parse_option(name, text, hints[name]) for name, text in options.items()}


def _parse_option(name: str, text: str, hint: Any) -> Any:
    choices = typing.get_args(hint)
    if choices:
        check(f"--{name}", text, text in choices, f"one of {', '.join(choices)}")
        return text
    if hint is bool:
        check(f"--{name}", text, text in ("true", "false"), "true or false")
        return text == "true"
    try:
        return hint(text)
    except ValueError:
        raise InputError(f"--{name} must be of type {hint.__name__}, got {text!r}") from None


def restore_state(experiment: Experiment, workdir: Path, which: str) -> TrainState:
    """Returns the state of a checkpoint: "last", "best" or a step.

    Raises:
        InputError: there is no run, another run, or no such checkpoint.
    """
    run_directory.check_same_config(workdir, experiment.config, free_fields(experiment, workdir))
    accepts = experiment.run.accept_new_data
    run_directory.check_same_data(workdir, experiment.data_record, accepts)
    step = int(which) if which.isdecimal() else None
    if which == BEST and not (workdir / BEST).is_dir():
        raise InputError(
            f"config.evaluation.checkpoint is {BEST!r}, but {workdir} has no best checkpoint; "
            "train with config.evaluation.every above 0, or choose last, all or a step"
        )
    with Checkpoints(workdir / (BEST if which == BEST else CHECKPOINTS)) as checkpoints:
        steps = checkpoints.steps()
        state = checkpoints.restore(_state_spec(experiment), step)
    if state is not None:
        return state
    if steps and (step in steps or which == BEST):
        raise InputError(
            f"config.evaluation.checkpoint is {which!r}, but that checkpoint is damaged"
        )
    if steps and step is not None:
        expected = f"a step of {workdir}: {', '.join(map(str, steps))}"
        check("config.evaluation.checkpoint", which, False, expected)
    raise InputError(f"--workdir {workdir} has no checkpoint; train first")


def _state_spec(experiment: Experiment) -> TrainState:
    return jax.eval_shape(experiment.create_state, experiment.key)
