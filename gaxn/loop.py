"""From an `Experiment` and a state to the state at the end of the run."""

import math
import signal
from collections import deque
from pathlib import Path
from typing import Any

from gaxn import outputs, sinks
from gaxn.checkpoint import Checkpoints
from gaxn.experiment import Experiment
from gaxn.state import GanState
from gaxn.types import InputError, Scalars


class Signals:
    """Notes SIGTERM and Ctrl-C, so that the loop can save and leave; a second one ends at once.

    Attributes:
        caught: the signal that came, or None.
    """

    WATCHED = (signal.SIGTERM, signal.SIGINT)

    def __init__(self):
        self.caught: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        self._before = {number: signal.signal(number, self._note) for number in self.WATCHED}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _) -> None:
        self.caught = signal.Signals(number)
        signal.signal(number, self._before[number])


def advance(
    experiment: Experiment,
    workdir: Path,
    state: GanState,
    checkpoints: Checkpoints,
    signals: Signals,
) -> GanState:
    """Runs the steps that are left, or until a signal comes.

    Args:
        experiment: the run.
        workdir: its directory.
        state: where it stands, on the host.
        checkpoints: where states are saved.
        signals: asked after every step.

    Returns: the last state, on the host; its save has begun.

    Raises:
        InputError: a scalar is not finite; checkpoints from before stay.
    """
    placement = experiment.placement
    program = placement.step(experiment.step)
    done = int(state.step)
    log = _Log(experiment, workdir / "metrics.jsonl", done)
    if done == 0:
        outputs.draw_samples(experiment, workdir, state)
    host, state = state, placement.place(state)
    ends = done >= experiment.steps
    while not ends:
        state, scalars = program(state, experiment.feed(done), experiment.key)
        done += 1
        log.add(done, scalars)
        ends = done == experiment.steps or signals.caught is not None
        saves = ends or done % experiment.checkpoint_every == 0
        draws = done == experiment.steps or done % experiment.sample_every == 0
        if saves or draws:
            log.flush()
            host = placement.to_host(state)
        if draws:
            # Before the save: a run that is killed in between draws again.
            outputs.draw_samples(experiment, workdir, host)
        if saves:
            checkpoints.save(done, host)
    log.close()
    return host


class _Log:
    """Scalars, read one step late so that the device never waits, and checked to be finite."""

    def __init__(self, experiment: Experiment, path: Path, first: int):
        sinks.rewind(path, first)
        self._experiment = experiment
        self._path = path
        self._pending: deque[tuple[int, Scalars]] = deque()
        self._progress = sinks.Progress(first, experiment.steps, experiment.batch)

    def add(self, step: int, scalars: Scalars) -> None:
        self._pending.append((step, scalars))
        if len(self._pending) > 1:
            self._read()

    def flush(self) -> None:
        while self._pending:
            self._read()

    def close(self) -> None:
        self.flush()
        self._progress.close()

    def _read(self) -> None:
        step, scalars = self._pending.popleft()
        values = {
            name: float(value)
            for name, value in self._experiment.placement.to_host(scalars).items()
        }
        for name, value in values.items():
            if not math.isfinite(value):
                raise InputError(
                    f"{name} is {value} at step {step}; the checkpoints before it stay; "
                    "a lower learning rate may help"
                )
        self._progress.update(step)
        if step % self._experiment.log_every == 0 or step == self._experiment.steps:
            speed = self._progress.log(step, values)
            sinks.append(self._path, {"step": step, **values, "images_per_second": round(speed, 1)})
