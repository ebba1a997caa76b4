"""The training loop: from an `Experiment` and a state to the state at the end of the run."""

import functools
import logging
import signal
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gaxn.config import check_part, resolve
from gaxn.distributed import multihost
from gaxn.distributed.watchdog import Watchdog
from gaxn.evaluation import diagnostics, run_evaluation
from gaxn.evaluation.report import STOPPED, TRAINING, ReportWriter, State
from gaxn.evaluation.report.curves import add_bands, is_band
from gaxn.experiment import Experiment
from gaxn.io import files, run_directory
from gaxn.io.checkpoints import Checkpoints
from gaxn.io.plots import Picture
from gaxn.io.progress import Progress
from gaxn.io.writers import NO_WRITERS, JsonLines, Maker, Writer, Writers
from gaxn.training.state import TrainState, steps_done
from gaxn.types import InputError, Scalars

log = logging.getLogger(__name__)


class Signals:
    """Notes SIGTERM and Ctrl-C, so that the loop can save and end; a second one ends at once.

    If one of several processes gets either, all stop after a call that they agree on. They ask
    after each call: a SIGTERM before the first step waits for it, and one after the last is not
    seen until the run is saved; from then on it ends that process.

    Attributes:
        received: the signal, or None.
    """

    WATCHED = (signal.SIGTERM, signal.SIGINT)

    def __init__(self):
        self.received: signal.Signals | None = None
        self._previous: dict[int, Any] = {}
        self._calls = 0

    def __enter__(self) -> "Signals":
        # Among several processes SIGTERM belongs to jax.distributed, which tells the others.
        watched = self.WATCHED if multihost.count() == 1 else (signal.SIGINT,)
        if threading.current_thread() is not threading.main_thread():
            # Python gives signals to the main thread alone.
            watched = ()
        self._previous = {number: signal.signal(number, self._note) for number in watched}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def should_stop(self) -> bool:
        """Returns whether the loop ends after this call of the program; ask after every one."""
        self._calls += 1
        if multihost.agree_to_stop(self._calls):
            self.received = signal.SIGTERM
        return self.received is not None

    def _note(self, number: int, _) -> None:
        signal.signal(number, self._previous[number])
        if multihost.count() > 1:
            multihost.stop_all()
        else:
            self.received = signal.Signals(number)


def make_writers(experiment: Experiment, workdir: Path) -> Writers:
    """Returns the writers of `config.run.writers`, not yet open; none but in the first process.

    Raises:
        InputError: a name is unknown.
    """
    field = "config.run.writers"

    def checked(make: Maker) -> Maker:
        return lambda *arguments: check_part(make(*arguments), Writer, field)

    makers = {
        name: checked(resolve("io.writers", name, field, returns=Writer))
        for name in experiment.run.writers
    }
    return Writers(makers if multihost.is_first() else {}, workdir, experiment.name)


def train(
    experiment: Experiment,
    workdir: Path,
    state: TrainState,
    checkpoints: Checkpoints,
    best: Checkpoints | None,
    signals: Signals,
    watchdog: Watchdog,
    writers: Writers = NO_WRITERS,
) -> TrainState:
    """Trains for the steps that remain, or until a signal comes.

    Args:
        experiment: the run.
        workdir: its directory.
        state: where training starts, on the host.
        checkpoints: where states are saved.
        best: where the best state is saved, if there are interim evaluations.
        signals: asked after every call of the program.
        watchdog: reset after every call.
        writers: where scalars and pictures go besides files; opened here.

    Returns:
        The last state, on the host. Its save may still be running.

    Raises:
        InputError: a scalar is not finite. Earlier checkpoints remain.
    """
    parallelism, run = experiment.parallelism, experiment.run
    num_train_steps, every = experiment.settings.num_train_steps, experiment.evaluation.every
    done = steps_done(state)
    writers.open(done, experiment.config)
    run_directory.rewind(workdir / "evaluations.jsonl", done)
    if best is not None:
        best.rewind(done)
    with (
        ReportWriter(workdir) as report,
        _Log(experiment, workdir / "metrics.jsonl", done, writers) as scalars_log,
    ):
        if multihost.is_first():
            run_evaluation.draw_real(experiment, workdir)
            if done == 0:
                scalars_log.add_picture(0, run_evaluation.draw_samples(experiment, workdir, state))
                scalars_log.write(0, scalars_log.diagnose(state))
        report.update(State(TRAINING, done))
        host_state, state = state, parallelism.place(state)
        key = parallelism.place_key(experiment.key)
        for steps in experiment.dispatch.calls(done):
            state, scalars = experiment.dispatch.advance(state, steps, key)
            done = steps.stop
            scalars_log.add(steps, scalars)
            watchdog.reset()
            stops = signals.should_stop()
            saves = stops or done == num_train_steps or done % run.checkpoint_every == 0
            draws = done == num_train_steps or done % run.sample_every == 0
            evaluates = best is not None and done % every == 0
            if saves or draws or evaluates:
                # Before the picture: Weights & Biases refuses steps earlier than its last.
                scalars_log.write_all_but_last()
                with scalars_log.pause():
                    host_state = parallelism.to_host(state)
                    if draws and multihost.is_first():
                        # Before the save: a run that is killed in between draws again.
                        picture = run_evaluation.draw_samples(experiment, workdir, host_state)
                        scalars_log.add_picture(done, picture)
                        scalars_log.add_diagnostics(scalars_log.diagnose(host_state))
                    if evaluates:
                        keep = functools.partial(_save_best, done, host_state, checkpoints, best)
                        run_evaluation.evaluate_interim(
                            experiment, workdir, host_state, keep, writers
                        )
                scalars_log.flush()
            if saves:
                checkpoints.save(done, host_state)
            if draws and done < num_train_steps and multihost.is_first():
                with scalars_log.pause():
                    run_evaluation.draw_curves(workdir)
            if draws or evaluates:
                report.update(State(TRAINING, done))
            if stops:
                report.update(State(STOPPED, done, "The same command goes on."))
                break
    return host_state


def _save_best(step: int, state: TrainState, checkpoints: Checkpoints, best: Checkpoints) -> None:
    """Saves the best state; first among the last ones, so that no resumed run is behind it."""
    for target in (checkpoints, best):
        target.save(step, state)
        target.wait()


class _Log:
    """Scalars of all steps: checked to be finite, and written when a line is due.

    They stay on the device until then, or until the state is needed, and are read one call late,
    so that the device has work meanwhile.

    As a context it writes the rest at the end, unless an error ends it, and ends the progress bar.
    """

    def __init__(self, experiment: Experiment, path: Path, first: int, writers: Writer):
        # A run that starts anew diagnoses its first state again.
        self._writers = JsonLines(path, first or -1), writers
        self._experiment = experiment
        self._on_device: list[tuple[range, Scalars]] = []
        self._pending: deque[tuple[int, dict[str, Any]]] = deque()
        self._undefined: set[str] = set()
        settings = experiment.settings
        images = settings.batch_size * settings.population
        self._progress = Progress(first, settings.num_train_steps, images)
        lines = files.read_lines(path)
        # Samples of an untrained generator are alike, which is no collapse.
        self._diagnosed = [line for line in lines if line["step"] and _has_diagnostics(line)]

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, error: type | None, *_) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            self._progress.close()

    def add(self, steps: range, scalars: Scalars) -> None:
        """Adds the scalars of a call; waits for the call before it, and writes lines up to there.

        Args:
            steps: steps of the call, each by the number of steps before it.
            scalars: with a leading axis of steps if there are several.
        """
        if self._on_device:
            # The host must not run ahead: batches of waiting calls fill the device's memory.
            before, of_before = self._on_device[-1]
            jax.block_until_ready(of_before)
            self._progress.update(before.stop)
            if any(
                self._is_due(step + 1)
                for steps_before, _ in self._on_device
                for step in steps_before
            ):
                self.flush()
        self._on_device.append((steps, scalars))

    def _fetch(self) -> None:
        """Copies scalars to the host, checks that they are finite, and adds them to `_pending`."""
        calls, self._on_device = self._on_device, []
        on_host = self._experiment.parallelism.to_host([scalars for _, scalars in calls])
        for (steps, _), of_call in zip(calls, on_host, strict=True):
            for place, step in enumerate(steps):
                of_step = {
                    name: value[place] if len(steps) > 1 else value
                    for name, value in of_call.items()
                }
                self._pending.append((step + 1, _check_finite(step + 1, of_step)))

    def diagnose(self, state: TrainState) -> dict[str, float]:
        """Returns the diagnostics that can be computed; names the others once, in a warning."""
        figures = add_bands(self._experiment.diagnostics(state))
        undefined = {name for name, value in figures.items() if not np.isfinite(value)}
        new = sorted(name for name in undefined - self._undefined if not is_band(name))
        if new:
            log.warning(
                "warning: %s cannot be computed from these data and are left out", ", ".join(new)
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

    def add_picture(self, step: int, samples: Picture) -> None:
        """Writes the picture of samples of a step."""
        for writer in self._writers:
            writer.picture(step, "samples", samples)

    def pause(self) -> AbstractContextManager:
        """Returns a context whose time does not count as training time."""
        return self._progress.pause()

    def flush(self) -> None:
        """Writes all that has not been written."""
        self.write_all_but_last()
        while self._pending:
            self._write_if_due(*self._pending.popleft())

    def write_all_but_last(self) -> None:
        """Writes what has not been written, but for the last step, which may get diagnostics.

        Raises:
            InputError: a scalar up to the last step is not finite.
        """
        self._fetch()
        while len(self._pending) > 1:
            self._write_if_due(*self._pending.popleft())

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars of a step at once."""
        for writer in self._writers:
            writer.scalars(step, values)

    def _write_if_due(self, step: int, values: Mapping[str, Any]) -> None:
        self._progress.update(step)
        if self._is_due(step) or _has_diagnostics(values):
            values = add_bands({name: np.asarray(value) for name, value in values.items()})
            means = {name: value for name, value in values.items() if not is_band(name)}
            speed = self._progress.log(step, means)
            self.write(step, {**values, "images_per_second": round(speed, 1)})

    def _is_due(self, step: int) -> bool:
        is_last = step == self._experiment.settings.num_train_steps
        return is_last or step % self._experiment.run.log_every == 0


def _check_finite(step: int, scalars: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the scalars of a step as arrays.

    Raises:
        InputError: one is not finite.
    """
    values = {name: np.asarray(value) for name, value in scalars.items()}
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise InputError(
                f"{name} must be finite, got {value} at step {step}; earlier checkpoints "
                "remain, and a lower learning rate may help"
            )
    return values


def _has_diagnostics(values: Mapping[str, float]) -> bool:
    return any(name.startswith(diagnostics.PREFIX) for name in values)
