"""The values of --mode: what the command line does with a run; each returns an exit status."""

import contextlib
import inspect
import itertools
import signal
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gaxn import config as configs
from gaxn.data.sentences import Sentences
from gaxn.distributed import multihost, watchdog
from gaxn.evaluation import generation, run_evaluation
from gaxn.evaluation.description import describe
from gaxn.evaluation.export import export_run
from gaxn.evaluation.plan import ALL, BEST, LAST
from gaxn.evaluation.report import DONE, State, write_report
from gaxn.experiment import Experiment
from gaxn.experiment.settings import complete
from gaxn.features import classifier
from gaxn.io import files, provenance, run_directory, shipped
from gaxn.io.checkpoints import Checkpoints
from gaxn.io.writers import Writers
from gaxn.labs import LabRun
from gaxn.training import fine_tuning, loop, restore
from gaxn.training.state import TrainState, steps_done
from gaxn.types import InputError, Sampler, check

NEED_NO_DATA = {"sample", "interpolate", "generate", "export", "translate"}
"""Modes for which it is enough to know the shapes and classes of images."""

WRITE_ELSEWHERE = {"generate", "export"}
"""Modes that write nothing into the directory of the run, so that it may be a shipped one."""

STATUS = {signal.SIGTERM: 42, signal.SIGINT: 130}
"""Exit status of a run that a signal stopped, after it saved."""


def train(experiment: Experiment, workdir: Path) -> int:
    """Trains, from the last good checkpoint if there is one; evaluates and draws."""
    record = {"name": experiment.name, "data": experiment.data_record, **experiment.origin}
    record |= {"started": provenance.started(workdir), **provenance.record()}
    match = None
    if experiment.settings.start.get("run"):
        record["start"] = restore.read_start_record(workdir)
        if record["start"] is None or not restore.has_checkpoint(workdir):
            match = restore.read_start(experiment, workdir)
            record["start"] = restore.start_record(match)
    free_fields = restore.free_fields(experiment, workdir)
    # After what is quick: it may train a classifier.
    experiment.evaluation.check()
    if not (workdir / "config.json").exists():
        # A run that has a directory cannot correct its config.
        experiment.check_steps()
    writers = loop.make_writers(experiment, workdir)
    lock = run_directory.open_run(
        workdir,
        experiment.config,
        free_fields,
        record,
        accepts_new_data=experiment.run.accept_new_data,
        defaults=complete({}),
    )
    with lock, writers:
        if isinstance(experiment.train_source, Sentences) and multihost.is_first():
            for name, content in experiment.train_source.conditioner.encoder.copies.items():
                files.write_bytes(workdir / name, content)
        return _train(experiment, workdir, writers, match)


def _train(
    experiment: Experiment, workdir: Path, writers: Writers, match: fine_tuning.VariableMatch | None
) -> int:
    with (
        Checkpoints(workdir / restore.CHECKPOINTS, experiment.run.keep) as checkpoints,
        Checkpoints(workdir / BEST, 1)
        if experiment.evaluation.every
        else contextlib.nullcontext() as best,
    ):
        state = checkpoints.restore(experiment.state_spec)
        if state is None:
            last = max(best.steps(), default=0) if best else 0
            # It was saved after a checkpoint of its step.
            if last:
                raise InputError(
                    f"{workdir} has no checkpoint that can be read, but a best one of step {last}, "
                    f"which a new start would delete; name another --workdir, or move "
                    f"{workdir / BEST} away to begin anew here"
                )
            state = jax.device_get(experiment.create_state(experiment.key))
            if experiment.settings.start.get("run"):
                # All checkpoints may be damaged.
                match = match or restore.read_start(experiment, workdir)
                state = fine_tuning.take_over(state, match)
        done = steps_done(state)
        if done >= experiment.settings.num_train_steps and run_evaluation.is_evaluated(
            workdir, done
        ):
            print(f"{workdir} is done: {done} steps, evaluated")
            return 0
        with (
            loop.Signals() as signals,
            watchdog.step_watchdog(experiment.run.stuck_after) as step_watchdog,
        ):
            state = loop.train(
                experiment, workdir, state, checkpoints, best, signals, step_watchdog, writers
            )
    if signals.received:
        print(f"stopped and saved at step {steps_done(state)}; the same command goes on")
        return STATUS[signals.received]
    multihost.end_on_sigterm()
    if multihost.is_first():
        run_evaluation.draw_training(workdir)
    run_evaluation.evaluate(experiment, workdir, state, writers=writers)
    if multihost.is_first():
        run_evaluation.draw_evaluations(workdir)
    write_report(workdir, State(DONE, steps_done(state)))
    return 0


def evaluate(experiment: Experiment, workdir: Path) -> int:
    """Evaluates the checkpoint that `config.evaluation.checkpoint` names, or all of them."""
    which = experiment.evaluation.checkpoint
    files.check_writable(workdir / "evaluation.json", "--workdir")
    if which != ALL:
        chosen_by = experiment.evaluation.best if which == BEST else ""
        state = restore.restore_state(experiment, workdir, which)
        run_evaluation.evaluate(experiment, workdir, state, chosen_by)
        write_report(workdir)
        return 0
    restore.check_same_run(experiment, workdir)
    with Checkpoints(workdir / restore.CHECKPOINTS) as checkpoints:
        steps = checkpoints.steps()
    for step in steps:
        print(f"step {step}")
        run_evaluation.evaluate(
            experiment, workdir, restore.restore_state(experiment, workdir, str(step))
        )
    run_evaluation.draw_evaluations(workdir)
    write_report(workdir)
    return 0


def sample(experiment: Experiment, workdir: Path) -> int:
    """Draws sample.png, the sample grid of the last good checkpoint by `config.evaluation`."""
    state = restore.restore_state(experiment, workdir, LAST)
    picture = experiment.draw_samples(experiment.evaluation.sampler, state)
    files.write_png(workdir / "sample.png", picture)
    print(workdir / "sample.png")
    return 0


def generate(
    experiment: Experiment,
    workdir: Path,
    *,
    output: Path,
    count: int = 0,
    seeds: str = "",
    labels: str = "",
    captions: Sequence[str] = (),
    truncation: float = 0.0,
    class_folders: bool = False,
    real: int = 0,
) -> int:
    """Writes generated images, one of each seed, or of each seed and label.

    Args:
        experiment: the run.
        workdir: its directory; the checkpoint is `config.evaluation.checkpoint`.
        output: a folder, or FILE.npz or FILE.zip; nothing may be there yet.
        count: the seeds are 0 to count - 1; 0 if `seeds` are given.
        seeds: such as "0-63" or "1,4,9".
        labels: such as "3", "0,1,2" or names of classes: every label for every seed; "" for one
            label a seed, seed % classes.
        captions: sentences, every one for every seed, in place of labels.
        truncation: bound of a latent's absolute values; 0 for that of `config.evaluation`.
        class_folders: whether images are in a folder per class.
        real: if above 0, `output` gets two folders, `generated` and `real`, the latter with so
            many test images.
    """
    check_generates(experiment)
    check("--count", count, count >= 0, "1 or more")
    if bool(count) == bool(seeds):
        given = "both" if count else "neither"
        raise InputError(f"--mode generate takes either --count or --seeds, got {given}")
    class_names = class_names_of(experiment)
    numbers = generation.parse_seeds(seeds) if seeds else np.arange(count)
    if captions:
        check("--labels", labels, not labels, "left out with --captions")
        class_names = tuple(captions)
        requests = generation.request_captions(numbers, captions, experiment.test_source)
    else:
        chosen = generation.find_labels(labels.split(","), class_names) if labels else None
        requests = generation.make_requests(numbers, chosen, len(class_names))
    generation.check_output(output)
    target = output
    if real:
        is_folder = output.suffix not in generation.ARCHIVES
        check("--output", str(output), is_folder, "a folder with --real")
        generation.check_real(experiment.test_source, real)
        target = output / "generated"
    state = restore.restore_chosen_state(experiment, workdir, "generate")
    sampler = make_sampler(experiment, state, truncation)
    with generation.removed_on_failure(output) if real else contextlib.nullcontext():
        generation.write(target, sampler, requests, class_names, class_folders)
        if real:
            generation.write_real(output / "real", experiment.test_source, real)
    print(f"{target}: {len(requests.seeds):,} images")
    return 0


def export(experiment: Experiment, workdir: Path, *, output: Path) -> int:
    """Writes the networks for other programs, a program without gaxn, a card and samples.

    Args:
        experiment: the run.
        workdir: its directory; the checkpoint is `config.evaluation.checkpoint`.
        output: a folder, new or empty.
    """
    state = restore.restore_chosen_state(experiment, workdir, "export")
    print(*export_run(experiment, state, output, _evaluation_of(workdir)), sep="\n")
    return 0


def _evaluation_of(workdir: Path) -> dict[str, Any] | None:
    """Returns the last evaluation of a run, or that on the card of a shipped one."""
    if shipped.is_shipped(workdir):
        card = shipped.read_card(str(workdir))
        return {"step": card["step"], **card["evaluation"]}
    path = workdir / "evaluation.json"
    return files.read_json(path) if path.exists() else None


def describe_run(run: Experiment | LabRun, workdir: Path) -> int:
    """Prints what a config would do; writes nothing."""
    if multihost.is_first():
        origin = run.origin if isinstance(run, Experiment) else {}
        print(describe(run, origin.get("sentence", "").removesuffix(".")))
    return 0


def check_generates(experiment: Experiment) -> None:
    """Raises an InputError unless a run generates single images from latents."""
    shape = experiment.train_source.image_shape
    name = experiment.settings.gan["name"]
    valid, expected = len(shape) == 3, "of single images, not of points or two domains"
    check("the data", f"{name} of shape {list(shape)}", valid, expected)


def class_names_of(experiment: Experiment) -> tuple[str, ...]:
    """Returns the classes or captions by label, of a conditional run; () of another one."""
    if isinstance(experiment.test_source, Sentences):
        return experiment.test_source.captions
    return tuple(experiment.train_source.class_names) if experiment.settings.conditional else ()


def make_sampler(
    experiment: Experiment, state: TrainState, truncation: float = 0.0, member: int = 0
) -> Sampler:
    """Returns the sampler of a state by `config.evaluation`, perhaps with another truncation."""
    options = experiment.evaluation.sampling
    check("truncation", truncation, truncation >= 0, "above 0, or 0 for that of the config")
    if truncation:
        options = options._replace(truncation=truncation)
    return experiment.make_sampler(options)(state, member)


def train_classifier(experiment: Experiment, workdir: Path) -> int:
    """Trains the classifier of the data set anew, into the run's directory."""
    train_source, test_source = experiment.evaluation.labeled
    path = workdir / "classifier.npz"
    files.check_writable(path, "--workdir")
    params, accuracy = classifier.train(train_source, test_source)
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
    "generate": generate,
    "export": export,
    "describe": describe_run,
    "classifier": train_classifier,
}
"""Commands of every GAN: (run, directory) -> exit status. Its hooks may add others."""


def run(mode: str, run: Experiment | LabRun, workdir: Path, options: Mapping[str, str] = {}) -> int:
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
        commands, further = {"train": run_lab, "describe": describe_run}, {}
    else:
        commands, further = COMMANDS, run.commands
    known = ", ".join([*commands, *further, configs.REPORT, configs.COMPARE])
    valid = mode in {*commands, *further}
    check("--mode", mode, valid, f"one of {known} with the config {run.name}")
    command = commands.get(mode) or further[mode]
    arguments = parse_options(command, mode, options)
    if mode in commands:
        return command(run, workdir, **arguments)
    state = restore.restore_state(run, workdir, LAST)
    status = command(run.evaluation.sampler(state), workdir, **arguments)
    if mode == "interpolate":
        write_report(workdir)
    return status


def data_record(mode: str, workdir: Path, options: Mapping[str, str] = {}) -> dict[str, Any] | None:
    """Returns the description of a run's data, if a mode needs no more; None to read them.

    Raises:
        InputError: the run is a shipped one, and the mode writes into its directory.
    """
    is_shipped = shipped.is_shipped(workdir)
    valid = not is_shipped or mode == "train" or mode in WRITE_ELSEWHERE
    check("--workdir", str(workdir), valid, f"the directory of a run with --mode {mode}")
    if mode not in NEED_NO_DATA or "real" in options:
        return None
    return restore.read_data_record(workdir)


def parse_options(command: Callable, mode: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Returns the options of a command in the types of its parameters."""
    parameters = inspect.signature(command).parameters.items()
    parameters = dict(itertools.islice(parameters, 2, None))
    hints = typing.get_type_hints(command)
    for name in options:
        if name not in parameters:
            takes = ", ".join(f"--{known}" for known in parameters) or "no options"
            field = f"; a field of the config is --config.{name}" * (mode == "train")
            raise InputError(f"--{name} is unknown; --mode {mode} takes {takes}{field}")
    for name, parameter in parameters.items():
        if name not in options and parameter.default is parameter.empty:
            raise InputError(f"--{name} is missing; --mode {mode} needs it")
    return {name: _parse_option(name, text, hints[name]) for name, text in options.items()}


def _parse_option(name: str, text: str, hint: Any) -> Any:
    if hint == Sequence[str]:
        return text.split(configs.SEPARATOR)
    choices = typing.get_args(hint)
    if choices:
        check(f"--{name}", text, text in choices, f"one of {', '.join(choices)}")
        return text
    if hint is bool:
        check(f"--{name}", text, text in ("true", "false"), "true or false")
        return text == "true"
    if hint is Path:
        return files.expand(text)
    try:
        return hint(text)
    except ValueError:
        raise InputError(f"--{name} must be of type {hint.__name__}, got {text!r}") from None
