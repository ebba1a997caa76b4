"""The training loop: from an `Experiment` and a state to the state at the end of the run."""

import functools
import logging
import signal
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from gaxn.distributed import multihost
from gaxn.distributed.watchdog import Watchdog
from gaxn.evaluation import diagnostics, reports
from gaxn.experiment import Experiment
from gaxn.io import files, run_directory
from gaxn.io.checkpoints import Checkpoints
from gaxn.io.progress import Progress
from gaxn.training.state import TrainState, steps_done
from gaxn.types import InputError, Scalars

log = logging.getLogger(__name__)


class Signals:
    """Notes SIGTERM and Ctrl-C, so that the loop can save and end; a second one ends at once.

    If one of several processes gets either, all stop after a step that they agree on. They ask
    after each step: a SIGTERM before the first step waits for it, and one after the last is not
    seen until the run is saved; from then on it ends that process.

    Attributes:
        received: the signal, or None.
    """

    WATCHED = (signal.SIGTERM, signal.SIGINT)

    def __init__(self):
        self.received: signal.Signals | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        # Among several processes SIGTERM belongs to jax.distributed, which tells the others.
        watched = self.WATCHED if multihost.count() == 1 else (signal.SIGINT,)
        self._previous = {number: signal.signal(number, self._note) for number in watched}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def stop(self, step: int) -> bool:
        """Returns whether the loop ends after this step; ask after every one."""
        if multihost.agree_to_stop(step):
            self.received = signal.SIGTERM
        return self.received is not None

    def _note(self, number: int, _) -> None:
        signal.signal(number, self._previous[number])
        if multihost.count() > 1:
            multihost.stop_all()
        else:
            self.received = signal.Signals(number)


def train(
    experiment: Experiment,
    workdir: Path,
    state: TrainState,
    checkpoints: Checkpoints,
    best: Checkpoints | None,
    signals: Signals,
    watchdog: Watchdog,
) -> TrainState:
    """Trains for the steps that remain, or until a signal comes.

    Args:
        experiment: the run.
        workdir: its directory.
        state: where training starts, on the host.
        checkpoints: where states are saved.
        best: where the best state is saved, if there are interim evaluations.
        signals: asked after every step.
        watchdog: reset after every step.

    Returns:
        The last state, on the host. Its save may still be running.

    Raises:
        InputError: a scalar is not finite. Earlier checkpoints remain.
    """
    parallelism, run = experiment.parallelism, experiment.run
    num_train_steps, every = experiment.settings.num_train_steps, experiment.evaluation.every
    done = steps_done(state)
    scalars_log = _Log(experiment, workdir / "metrics.jsonl", done)
    if done == 0 and multihost.is_first():
        reports.draw_samples(experiment, workdir, state)
        line = {"step": 0, **scalars_log.diagnose(state)}
        files.append_line(workdir / "metrics.jsonl", line)
    host_state, state = state, parallelism.place(state)
    key = parallelism.place_key(experiment.key)
    run_directory.rewind(workdir / "evaluations.jsonl", done)
    if best is not None:
        best.rewind(done)
    for step in range(done, num_train_steps):
        state, scalars = experiment.compiled_step(state, experiment.batches(step), key)
        done = step + 1
        scalars_log.add(done, scalars)
        watchdog.reset()
        stops = signals.stop(done)
        saves = stops or done == num_train_steps or done % run.checkpoint_every == 0
        draws = done == num_train_steps or done % run.sample_every == 0
        evaluates = best is not None and done % every == 0
        if saves or draws or evaluates:
            scalars_log.check()
            with scalars_log.pause():
                host_state = parallelism.to_host(state)
                if draws and multihost.is_first():
                    # Before the save: a run that is killed in between draws again.
                    reports.draw_samples(experiment, workdir, host_state)
                    scalars_log.add_diagnostics(scalars_log.diagnose(host_state))
                if evaluates:
                    keep = functools.partial(_save_best, done, host_state, checkpoints, best)
                    reports.evaluate_interim(experiment, workdir, host_state, keep)
            scalars_log.flush()
        if saves:
            checkpoints.save(done, host_state)
        if stops:
            break
    scalars_log.close()
    return host_state


def _save_best(step: int, state: TrainState, checkpoints: Checkpoints, best: Checkpoints) -> None:
    """Saves the best state; first among the last ones, so that no resumed run is behind it."""
    for target in (checkpoints, best):
        target.save(step, state)
        target.wait()


class _Log:
    """Scalars, read one step late so that the device never waits, and checked to be finite."""

    def __init__(self, experiment: Experiment, path: Path, first: int):
        # A run that starts anew diagnoses its first state again.
        run_directory.rewind(path, first or -1)
        self._experiment = experiment
        self._path = path
        self._pending: deque[tuple[int, Scalars]] = deque()
        self._undefined: set[str] = set()
        settings = experiment.settings
        images = settings.batch_size * settings.population
        self._progress = Progress(first, settings.num_train_steps, images)
        lines = files.read_lines(path)
        # Samples of an untrained generator are alike, which is no collapse.
        self._diagnosed = [line for line in lines if line["step"] and _has_diagnostics(line)]

    def add(self, step: int, scalars: Scalars) -> None:
        """Adds the scalars of a step; writes those of the step before."""
        self._pending.append((step, scalars))
        if len(self._pending) > 1:
            self._write(*self._read(*self._pending.popleft()))

    def check(self) -> None:
        """Raises an InputError if any scalar up to the last step is not finite."""
        self._pending = deque(self._read(*item) for item in self._pending)

    def diagnose(self, state: TrainState) -> dict[str, float]:
        """Returns the diagnostics that can be computed; names the others once, in a warning."""
        figures = self._experiment.diagnostics(state)
        undefined = {name for name, value in figures.items() if not np.isfinite(value)}
        if undefined - self._undefined:
            log.warning(
                "warning: %s cannot be computed from these data and are left out",
                ", ".join(sorted(undefined - self._undefined)),
            )
            self._undefined |= undefined
        return {name: value for name, value in figures.items() if name not in undefined}

    def add_diagnostics(self, figures: Mapping[str, float]) -> None:
        """Adds diagnostics to the last step, and logs warnings."""
        step, scalars = self._pending.pop()
        self._pending.append((step, {**scalars, **figures}))
        self._diagnosed = [*self._diagnosed[-2:], {"step": step, **figures}]
        for warning in diagnostics.warnings(self._diagnosed):
            log.warning(warning)

    def pause(self) -> AbstractContextManager:
        """Returns a context whose time does not count as training time."""
        return self._progress.pause()

    def flush(self) -> None:
        """Writes all that has not been written."""
        self.check()
        while self._pending:
            self._write(*self._pending.popleft())

    def close(self) -> None:
        """Writes the rest and ends the progress bar."""
        self.flush()
        self._progress.close()

    def _read(self, step: int, scalars: Scalars) -> tuple[int, dict[str, float]]:
        if not all(isinstance(value, float) for value in scalars.values()):
            scalars = self._experiment.parallelism.to_host(scalars)
        values = {name: np.asarray(value) for name, value in scalars.items()}
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise InputError(
                    f"{name} must be finite, got {value} at step {step}; earlier checkpoints "
                    "remain, and a lower learning rate may help"
                )
        # Of several members, their mean.
        return step, {name: float(value.mean()) for name, value in values.items()}

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        self._progress.update(step)
        is_last = step == self._experiment.settings.num_train_steps
        is_due = is_last or step % self._experiment.run.log_every == 0
        if is_due or _has_diagnostics(values):
            speed = self._progress.log(step, values)
            line = {"step": step, **values, "images_per_second": round(speed, 1)}
            files.append_line(self._path, line)


def _has_diagnostics(values: Mapping[str, float]) -> bool:
    return any(name.startswith(diagnostics.PREFIX) for name in values)
