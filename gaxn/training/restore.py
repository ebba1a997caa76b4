"""States of runs, from checkpoints and shipped files, and the networks that a run starts from."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from gaxn import config as configs
from gaxn.distributed import multihost, sharding
from gaxn.evaluation.plan import ALL, BEST, LAST
from gaxn.experiment import Experiment, make_experiment
from gaxn.experiment.settings import complete
from gaxn.io import files, run_directory, shipped
from gaxn.io.checkpoints import Checkpoints
from gaxn.objectives import schedules
from gaxn.training import fine_tuning
from gaxn.training.population import member_state
from gaxn.training.state import TrainState, steps_done
from gaxn.types import InputError, check

FREE_FIELDS = {
    "num_train_steps",
    "parallel",
    "shards",
    "steps_per_call",
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


def read_data_record(workdir: Path) -> dict[str, Any] | None:
    """Returns the description of a run's data, if its networks can be made from it alone."""
    record = _read_data_record(workdir)
    # Points are drawn from their index alone; a run without a record of domains
    # was made by an older version.
    is_enough = record is not None and (len(record["image_shape"]) == 3 or "domains" in record)
    return record if is_enough else None


def read_text_record(workdir: Path) -> dict[str, Any] | None:
    """Returns how the captions of a run became conditions; None without a run, or without captions.

    Its "folder" is the directory, which may have a copy of the encoder.
    """
    return (_read_data_record(workdir) or {}).get("text")


def _read_data_record(workdir: Path) -> dict[str, Any] | None:
    if not (workdir / "config.json").exists() and not shipped.is_shipped(workdir):
        return None
    record = run_directory.read_run_record(workdir).get("data")
    if record and "text" in record:
        return {**record, "text": {**record["text"], "folder": str(workdir)}}
    return record


def free_fields(experiment: Experiment, workdir: Path) -> set[str]:
    """Returns the config fields that may differ when a run is resumed.

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
    has_start = experiment.settings.start.get("run") and read_start_record(workdir)
    return FREE_FIELDS | START_FIELDS if has_start else FREE_FIELDS


def check_same_run(experiment: Experiment, workdir: Path) -> None:
    """Raises an InputError unless the run in a directory has the config of an experiment."""
    free = free_fields(experiment, workdir)
    run_directory.check_same_config(workdir, experiment.config, free, complete({}))


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


def _restore_shipped(experiment: Experiment, name: str) -> TrainState:
    """Returns the state of a shipped run, with the moving average as the generator's weights."""
    networks = shipped.read_networks(shipped.FOLDER / f"{name}.safetensors")
    params = networks.pop("params")
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), experiment.state_spec)
    step = np.full_like(zeros.step, shipped.read_card(name)["step"])
    return zeros.replace(
        step=step, params=params, ema=params["generator"], collections=zeros.collections | networks
    )


def read_start(experiment: Experiment, workdir: Path) -> fine_tuning.VariableMatch:
    """Reads the networks that `config.start` names; prints what a new run takes over.

    Raises:
        InputError: there are no such networks, they do not fit, or they are others than those with
            which the run in `workdir` began.
    """
    options = configs.bind(fine_tuning.StartOptions, experiment.settings.start, "config.start")
    target = experiment.member_spec
    match = fine_tuning.match_variables(_read_networks(options, target), target)
    fine_tuning.check_match(match, options)
    before, now = read_start_record(workdir), start_record(match)
    if before is not None and before["sha256"] != now["sha256"]:
        raise InputError(
            f"config.start.run must be as it was when {workdir} began, step {before['step']} "
            f"with SHA-256 {before['sha256'][:12]}, but {options.run} has step {now['step']} "
            f"with {now['sha256'][:12]}; set config.start.step, or name another --workdir"
        )
    if multihost.is_first():
        print(f"start: {options.run}, {fine_tuning.describe(match)}")
    return match


def start_record(match: fine_tuning.VariableMatch) -> dict[str, Any]:
    return {**match.facts, "sha256": match.sha256}


def read_start_record(workdir: Path) -> dict[str, Any] | None:
    """Returns what config.json says of the networks that a run began with; None for none."""
    is_run = (workdir / "config.json").exists()
    return run_directory.read_run_record(workdir).get("start") if is_run else None


def has_checkpoint(workdir: Path) -> bool:
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        return bool(checkpoints.steps())


def _read_networks(options: fine_tuning.StartOptions, target: TrainState) -> fine_tuning.Networks:
    """Returns the networks of a run, of a shipped one or of an export.

    Args:
        options: of the start.
        target: spec of the state of one member that takes them over.

    Raises:
        InputError: there are no such networks.
    """
    path, weights = files.expand(options.run), options.weights
    if shipped.is_shipped(path):
        _check_single("a shipped run", "ema", options)
        card = shipped.read_card(options.run)
        variables = shipped.read_networks(shipped.FOLDER / f"{options.run}.safetensors")
        variables["ema"] = {"generator": variables["params"]["generator"]}
        return fine_tuning.Networks(variables, {"name": card["name"], "step": card["step"]})
    if not (path / "config.json").exists():
        exported = shipped.read_export(path)
        if exported:
            arrays = {player: arrays for player, (arrays, _) in exported.items()}
            metadata = {player: metadata for player, (_, metadata) in exported.items()}
            written = metadata.get("generator", {"weights": weights})["weights"]
            _check_single("an export", written, options)
            (first, *_) = metadata.values()
            facts = {"name": first["config"], "step": int(first["step"])}
            return fine_tuning.exported_networks(arrays, facts, target)
    try:
        return _read_run_networks(path, options)
    except InputError as error:
        message = str(error).replace("another --workdir", "another run")
        raise InputError(
            message if message.startswith("config.start") else f"config.start.run: {message}"
        ) from None


def _check_single(kind: str, weights: str, options: fine_tuning.StartOptions) -> None:
    """Raises an InputError if `config.start` names a step or weights that networks do not have."""
    check("config.start.step", options.step, options.step == LAST, f"{LAST!r} with {kind}")
    valid, expected = options.weights == weights, f"{weights!r} with {options.run}"
    check("config.start.weights", options.weights, valid, expected)


def _read_run_networks(path: Path, options: fine_tuning.StartOptions) -> fine_tuning.Networks:
    """Returns the networks of a checkpoint; of a population, those of its first member."""
    name, config = configs.read_config(path)
    check("config.start.run", str(path), "lab" not in config, "a run of a GAN, not of a lab")
    one_device = sharding.jit_parallelism(jax.local_devices()[:1])
    source = make_experiment(config, name, one_device, read_data_record(path))
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
    return fine_tuning.networks_of(
        state, options.weights, {"name": name, "step": steps_done(state)}
    )
