"""The state of a run, as its report shows it, from its process or from its files."""

import fcntl
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gaxn.evaluation.report import curves
from gaxn.io import files

TRAINING, DONE, STOPPED, FAILED = "training", "done", "stopped", "failed"

Json = dict[str, Any]


class State(NamedTuple):
    """A run's state, at the head of its report.

    Attributes:
        kind: "training", "done", "stopped" or "failed".
        step: training steps done; None for that of the last line of the log.
        message: a line on it.
    """

    kind: str
    step: int | None = None
    message: str = ""


def infer_state(workdir: Path) -> State:
    """Returns the state of a run that another process trains, or trained, from its files."""
    if _is_locked(workdir):
        return State(TRAINING)
    config = read_json(workdir / "config.json").get("config", {})
    step = read_json(workdir / "evaluation.json").get("step")
    if "lab" in config or (step is not None and step >= config.get("num_train_steps", math.inf)):
        return State(DONE, step)
    before = read_state(workdir / "report.html")
    # A step before the last one may have been evaluated since.
    was_done = before.kind == DONE and (before.step or 0) >= config.get("num_train_steps", math.inf)
    # A run that was killed has no other report than that of its last interval.
    return before if was_done or before.kind in (STOPPED, FAILED) else State(STOPPED)


def read_state(path: Path) -> State:
    """Returns the state that a report shows; that of training without a readable one."""
    try:
        _, _, data = path.read_text().partition('id="data">')
        _, _, text = data.partition('"state": ')
        value, _ = json.JSONDecoder().raw_decode(text)
        return State(value["kind"], value["step"], value["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return State(TRAINING)


def _is_locked(workdir: Path) -> bool:
    """Returns whether a process trains in a directory, see `run_directory.open_run`."""
    try:
        with (workdir / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def resolve_state(
    state: State, workdir: Path, config: Json, history: Sequence[Mapping[str, Any]]
) -> Json:
    """Returns a state with the speed and the time left."""
    last = history[-1]["step"] if history else 0
    step, steps = last if state.step is None else state.step, config.get("num_train_steps", 0)
    speed, left, message = curves.last_speed(workdir), None, state.message
    if state.kind == TRAINING:
        images = config.get("batch_size", 0) * config.get("population", 1)
        left = (steps - step) * images / speed if speed else None
        if steps and step >= steps:
            message = message or "Training is finished; the evaluation follows."
    return {
        "kind": state.kind,
        "step": step,
        "steps": steps,
        "images_per_second": speed,
        "seconds_left": left,
        "message": message,
    }


def read_json(path: Path) -> Json:
    """Returns the content of a JSON file; {} if it is missing, damaged or of another type."""
    try:
        value = files.read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
