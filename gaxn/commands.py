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
import numpy as np

from gaxn import config as configs
from gaxn.distributed import multihost, sharding, watchdog
from gaxn.evaluation import generation, reports
from gaxn.evaluation.description import describe
from gaxn.evaluation.export import export_run
from gaxn.evaluation.plan import ALL, BEST, LAST
from gaxn.evaluation.report import DONE, State, write_report
from gaxn.experiment import Experiment, complete, make_experiment
from gaxn.features import classifier
from gaxn.io import files, provenance, run_directory, shipped
from gaxn.io.checkpoints import Checkpoints
from gaxn.io.writers import Writers
from gaxn.labs import LabRun
from gaxn.objectives import schedules
from gaxn.training import loop
from gaxn.training import start as starting
from gaxn.training.population import member_state
from gaxn.training.state import TrainState, steps_done
from gaxn.types import InputError, Sampler, check

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

START_FIELDS = {"start.run", "start.step", "start.weights"}
"""Further such fields of a run that has a start: what they name is read once, and compared."""

CHECKPOINTS = "checkpoints"

NEED_NO_DATA = {"sample", "interpolate", "generate", "export", "translate"}
"""Modes for which it is enough to know the shapes and classes of images."""

WRITE_ELSEWHERE = {"generate", "export"}
"""Modes that write nothing into the directory of the run, so that it may be a shipped one."""

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
        schedule = f"{fixed[0]} is a schedule over the run (not in kimg)"
        expected = f"{before} in {workdir}, as {schedule}; else name another --workdir"
        check("config.num_train_steps", length, length == before, expected)
    has_start = experiment.settings.start.get("run") and _read_start_record(workdir)
    return FREE_FIELDS | START_FIELDS if has_start else FREE_FIELDS


def train(experiment: Experiment, workdir: Path) -> int:
    """Trains, from the last good checkpoint if there is one; evaluates and draws."""
    record = {"name": experiment.name, "data": experiment.data_record, **experiment.origin}
    record |= {"started": provenance.started(workdir), **provenance.record()}
    fitted = None
    if experiment.settings.start.get("run"):
        record["start"] = _read_start_record(workdir)
        if record["start"] is None or not _has_checkpoint(workdir):
            fitted = read_start(experiment, workdir)
            record["start"] = _start_record(fitted)
    free, accepts = free_fields(experiment, workdir), experiment.run.accept_new_data
    # After what is quick: it may train a classifier.
    experiment.evaluation.check()
    writers = loop.make_writers(experiment, workdir)
    lock = run_directory.open_run(workdir, experiment.config, free, record, accepts, complete({}))
    with lock, writers:
        return _train(experiment, workdir, writers, fitted)


def _train(
    experiment: Experiment, workdir: Path, writers: Writers, fitted: starting.Fit | None
) -> int:
    with (
        Checkpoints(workdir / CHECKPOINTS, experiment.run.keep) as checkpoints,
        Checkpoints(workdir / BEST, 1)
        if experiment.evaluation.every
        else contextlib.nullcontext() as best,
    ):
        state = checkpoints.restore(experiment.state_spec)
        if state is None:
            state = jax.device_get(experiment.create_state(experiment.key))
            if experiment.settings.start.get("run"):
                # All checkpoints may be damaged.
                fitted = fitted or read_start(experiment, workdir)
                state = starting.take_over(state, fitted)
        done = steps_done(state)
        if done >= experiment.settings.num_train_steps and reports.is_evaluated(workdir, done):
            print(f"{workdir} is done: {done} steps, evaluated")
            return 0
        with (
            loop.Signals() as signals,
            watchdog.over_steps(experiment.run.stuck_after) as step_watchdog,
        ):
            state = loop.train(
                experiment, workdir, state, checkpoints, best, signals, step_watchdog, writers
            )
    if signals.received:
        print(f"stopped and saved at step {steps_done(state)}; the same command goes on")
        return STATUS[signals.received]
    multihost.end_on_sigterm()
    if multihost.is_first():
        reports.draw_training(workdir)
    reports.evaluate(experiment, workdir, state, writers=writers)
    if multihost.is_first():
        reports.draw_evaluations(workdir)
    write_report(workdir, State(DONE, steps_done(state)))
    return 0


def evaluate(experiment: Experiment, workdir: Path) -> int:
    """Evaluates the checkpoint that `config.evaluation.checkpoint` names, or all of them."""
    which = experiment.evaluation.checkpoint
    if which != ALL:
        chosen_by = experiment.evaluation.best if which == BEST else ""
        state = restore_state(experiment, workdir, which)
        reports.evaluate(experiment, workdir, state, chosen_by)
        write_report(workdir)
        return 0
    check_same_run(experiment, workdir)
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        steps = checkpoints.steps()
    for step in steps:
        print(f"step {step}")
        reports.evaluate(experiment, workdir, restore_state(experiment, workdir, str(step)))
    reports.draw_evaluations(workdir)
    write_report(workdir)
    return 0


def sample(experiment: Experiment, workdir: Path) -> int:
    """Draws sample.png, the sample grid of the last good checkpoint by `config.evaluation`."""
    state = restore_state(experiment, workdir, LAST)
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
    requests = generation.make_requests(
        generation.parse_seeds(seeds) if seeds else np.arange(count),
        generation.find_labels(labels.split(","), class_names) if labels else None,
        len(class_names),
    )
    generation.check_output(output)
    target = output
    if real:
        is_folder = output.suffix not in generation.ARCHIVES
        check("--output", str(output), is_folder, "a folder with --real")
        generation.check_real(experiment.test, real)
        target = output / "generated"
    state = restore_chosen_state(experiment, workdir, "generate")
    sampler = make_sampler(experiment, state, truncation)
    generation.write(target, sampler, requests, class_names, class_folders)
    if real:
        generation.write_real(output / "real", experiment.test, real)
    print(f"{target}: {len(requests.seeds):,} images")
    return 0


def export(experiment: Experiment, workdir: Path, *, output: Path) -> int:
    """Writes the networks for other programs, a program without gaxn, a card and samples.

    Args:
        experiment: the run.
        workdir: its directory; the checkpoint is `config.evaluation.checkpoint`.
        output: a folder, new or empty.
    """
    state = restore_chosen_state(experiment, workdir, "export")
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
    shape = experiment.train.image_shape
    name = experiment.settings.gan["name"]
    valid, expected = len(shape) == 3, "of single images, not of points or two domains"
    check("the data", f"{name} of shape {list(shape)}", valid, expected)


def class_names_of(experiment: Experiment) -> tuple[str, ...]:
    """Returns the classes by label, of a conditional run; () of an unconditional one."""
    return tuple(experiment.train.class_names) if experiment.settings.conditional else ()


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
    "generate": generate,
    "export": export,
    "describe": describe_run,
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
    state = restore_state(run, workdir, LAST)
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
    has_record = (workdir / "config.json").exists() or is_shipped
    if mode not in NEED_NO_DATA or "real" in options or not has_record:
        return None
    record = run_directory.read_run_record(workdir).get("data")
    # Points are drawn from their index alone; a run without a record of domains is of an older day.
    is_enough = record is not None and (len(record["image_shape"]) == 3 or "domains" in record)
    return record if is_enough else None


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
    check_same_run(experiment, workdir)
    accepts = experiment.run.accept_new_data
    run_directory.check_same_data(workdir, experiment.data_record, accepts)
    if shipped.is_shipped(workdir):
        return _restore_shipped(experiment, str(workdir))
    step = int(which) if which.isdecimal() else None
    if which == BEST and not (workdir / BEST).is_dir():
        raise InputError(
            f"config.evaluation.checkpoint is {BEST!r}, but {workdir} has no best checkpoint; "
            "train with config.evaluation.every above 0, or choose last, all or a step"
        )
    with Checkpoints(workdir / (BEST if which == BEST else CHECKPOINTS)) as checkpoints:
        steps = checkpoints.steps()
        state = checkpoints.restore(experiment.state_spec, step)
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


def restore_chosen_state(experiment: Experiment, workdir: Path, mode: str) -> TrainState:
    """Returns the state of the one checkpoint that `config.evaluation.checkpoint` names."""
    which = experiment.evaluation.checkpoint
    check("config.evaluation.checkpoint", which, which != ALL, f"one checkpoint for --mode {mode}")
    return restore_state(experiment, workdir, which)


def check_same_run(experiment: Experiment, workdir: Path) -> None:
    """Raises an InputError unless the run in a directory has the config of an experiment."""
    free = free_fields(experiment, workdir)
    run_directory.check_same_config(workdir, experiment.config, free, complete({}))


def _restore_shipped(experiment: Experiment, name: str) -> TrainState:
    """Returns the state of a shipped run, with the moving average as the generator's weights."""
    networks = shipped.read_networks(shipped.FOLDER / f"{name}.safetensors")
    params = networks.pop("params")
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), experiment.state_spec)
    step = np.full_like(zeros.step, shipped.read_card(name)["step"])
    return zeros.replace(
        step=step, params=params, ema=params["generator"], collections=zeros.collections | networks
    )


def read_start(experiment: Experiment, workdir: Path) -> starting.Fit:
    """Reads the networks that `config.start` names; prints what a new run takes over.

    Raises:
        InputError: there are no such networks, they do not fit, or they are others than those with
            which the run in `workdir` began.
    """
    options = configs.bind(starting.StartOptions, experiment.settings.start, "config.start")
    like = experiment.member_spec
    fitted = starting.fit(_read_networks(options, like), like)
    starting.check_fit(fitted, options)
    before, now = _read_start_record(workdir), _start_record(fitted)
    if before is not None and before["sha256"] != now["sha256"]:
        raise InputError(
            f"config.start.run must be as it was when {workdir} began, step {before['step']} "
            f"with SHA-256 {before['sha256'][:12]}, but {options.run} has step {now['step']} "
            f"with {now['sha256'][:12]}; set config.start.step, or name another --workdir"
        )
    if multihost.is_first():
        print(f"start: {options.run}, {starting.describe(fitted)}")
    return fitted


def _start_record(fitted: starting.Fit) -> dict[str, Any]:
    return {**fitted.facts, "sha256": fitted.sha256}


def _read_start_record(workdir: Path) -> dict[str, Any] | None:
    """Returns what config.json says of the networks that a run began with; None for none."""
    is_run = (workdir / "config.json").exists()
    return run_directory.read_run_record(workdir).get("start") if is_run else None


def _has_checkpoint(workdir: Path) -> bool:
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        return bool(checkpoints.steps())


def _read_networks(options: starting.StartOptions, like: TrainState) -> starting.Networks:
    """Returns the networks of a run, of a shipped one or of an export.

    Args:
        options: of the start.
        like: spec of the state of one member that takes them over.

    Raises:
        InputError: there are no such networks.
    """
    path, weights = Path(options.run), options.weights
    if shipped.is_shipped(path):
        _check_single("a shipped run", "ema", options)
        card = shipped.read_card(options.run)
        variables = shipped.read_networks(shipped.FOLDER / f"{options.run}.safetensors")
        variables["ema"] = {"generator": variables["params"]["generator"]}
        return starting.Networks(variables, {"name": card["name"], "step": card["step"]})
    if not (path / "config.json").exists():
        exported = shipped.read_export(path)
        if exported:
            arrays = {player: arrays for player, (arrays, _) in exported.items()}
            metadata = {player: metadata for player, (_, metadata) in exported.items()}
            written = metadata.get("generator", {"weights": weights})["weights"]
            _check_single("an export", written, options)
            (first, *_) = metadata.values()
            facts = {"name": first["config"], "step": int(first["step"])}
            return starting.exported_networks(arrays, facts, like)
    try:
        return _read_run_networks(path, options)
    except InputError as error:
        message = str(error).replace("another --workdir", "another run")
        raise InputError(
            message if message.startswith("config.start") else f"config.start.run: {message}"
        ) from None


def _check_single(kind: str, weights: str, options: starting.StartOptions) -> None:
    """Raises an InputError if `config.start` names a step or weights that networks do not have."""
    check("config.start.step", options.step, options.step == LAST, f"{LAST!r} with {kind}")
    valid, expected = options.weights == weights, f"{weights!r} with {options.run}"
    check("config.start.weights", options.weights, valid, expected)


def _read_run_networks(path: Path, options: starting.StartOptions) -> starting.Networks:
    """Returns the networks of a checkpoint; of a population, those of its first member."""
    name, config = configs.read_config(path)
    check("config.start.run", str(path), "lab" not in config, "a run of a GAN, not of a lab")
    one_device = sharding.jitted(jax.local_devices()[:1])
    source = make_experiment(config, name, one_device, data_record("generate", path))
    which = str(options.step)
    if which == BEST and not (path / BEST).is_dir():
        check("config.start.step", which, False, f"last or a step, as {path} has no best one")
    step = int(which) if which.isdecimal() else None
    with Checkpoints(path / (BEST if which == BEST else CHECKPOINTS)) as checkpoints:
        steps = checkpoints.steps()
        state = checkpoints.restore(source.state_spec, step)
    if not steps:
        raise InputError(f"{path} has no checkpoint; train it first")
    expected = f"last, best or a step of {path}: {', '.join(map(str, steps))}"
    check("config.start.step", which, step is None or step in steps, expected)
    if state is None:
        raise InputError(f"{path} has no checkpoint {which!r} that is not damaged")
    state = member_state(state, len(source.members), 0)
    return starting.networks_of(state, options.weights, {"name": name, "step": steps_done(state)})
