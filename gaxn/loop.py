"""From an `Experiment` and a state to the state at the end of the run."""

import functools
import logging
import signal
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from gaxn import outputs, processes, sentinels, sinks
from gaxn.checkpoint import Checkpoints
from gaxn.experiment import Experiment
from gaxn.liveness import Watchdog
from gaxn.state import GanState, steps_done
from gaxn.types import InputError, Scalars

log = logging.getLogger(__name__)


class Signals:
    """Notes SIGTERM and Ctrl-C, so that the loop can save and leave; a second one ends at once.

    Of several processes, one that gets either stops them all after a step that they agree on.
    They ask after each step: a SIGTERM that comes before the first waits for it, and one that comes
    after the last is not seen until the run is saved; from then on it ends that process.

    Attributes:
        caught: the signal that came, or None.
    """

    WATCHED = (signal.SIGTERM, signal.SIGINT)

    def __init__(self):
        self.caught: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        # Among several processes SIGTERM belongs to jax.distributed, which tells the others.
        watched = self.WATCHED if processes.count() == 1 else (signal.SIGINT,)
        self._before = {number: signal.signal(number, self._note) for number in watched}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop(self, step: int) -> bool:
        """Whether the loop ends after this step; to be asked after every one."""
        if processes.agree_to_stop(step):
            self.caught = signal.SIGTERM
        return self.caught is not None

    def _note(self, number: int, _) -> None:
        signal.signal(number, self._before[number])
        if processes.count() > 1:
            processes.stop_all()
        else:
            self.caught = signal.Signals(number)


def advance(
    experiment: Experiment,
    workdir: Path,
    state: GanState,
    checkpoints: Checkpoints,
    best: Checkpoints | None,
    signals: Signals,
    watchdog: Watchdog,
) -> GanState:
    """Runs the steps that are left, or until a signal comes.

    Args:
        experiment: the run.
        workdir: its directory.
        state: where it stands, on the host.
        checkpoints: where states are saved.
        best: where the best state is kept, if there are interim evaluations.
        signals: asked after every step.
        watchdog: told after every step.

    Returns: the last state, on the host; its save has begun.

    Raises:
        InputError: a scalar is not finite; checkpoints from before stay.
    """
    placement = experiment.placement
    program = placement.step(experiment.step)
    done = steps_done(state)
    lines = _Log(experiment, workdir / "metrics.jsonl", done)
    if done == 0 and processes.is_first():
        outputs.draw_samples(experiment, workdir, state)
        sinks.append(workdir / "metrics.jsonl", {"step": 0, **experiment.watch(state)})
    host, state, key = state, placement.place(state), placement.key(experiment.key)
    plan = experiment.evaluation
    sinks.rewind(workdir / "evaluations.jsonl", done)
    if best is not None:
        best.rewind(done)
    ends = done >= experiment.steps
    while not ends:
        state, scalars = program(state, experiment.feed(done), key)
        done += 1
        lines.add(done, scalars)
        watchdog.hear()
        ends = signals.stop(done) or done == experiment.steps
        saves = ends or done % experiment.checkpoint_every == 0
        draws = done == experiment.steps or done % experiment.sample_every == 0
        measures = best is not None and done % plan.every == 0
        if saves or draws or measures:
            lines.check()
            with lines.pause():
                host = placement.to_host(state)
                if draws and processes.is_first():
                    # Before the save: a run that is killed in between draws again.
                    outputs.draw_samples(experiment, workdir, host)
                    lines.watch(experiment.watch(host))
                if measures:
                    keep = functools.partial(_keep, done, host, checkpoints, best)
                    outputs.evaluate_interim(experiment, workdir, host, keep)
            lines.flush()
        if saves:
            checkpoints.save(done, host)
    lines.close()
    return host


def _keep(step: int, host: GanState, checkpoints: Checkpoints, best: Checkpoints) -> None:
    """Saves the best state; first as the last one, so that no resumed run is behind it."""
    for saved in (checkpoints, best):
        saved.save(step, host)
        saved.wait()


class _Log:
    """Scalars, read one step late so that the device never waits, and checked to be finite."""

    def __init__(self, experiment: Experiment, path: Path, first: int):
        # A run that begins anew looks at its first state again.
        sinks.rewind(path, first or -1)
        self._experiment = experiment
        self._path = path
        self._pending: deque[tuple[int, Scalars]] = deque()
        images = experiment.batch * len(experiment.members)
        self._progress = sinks.Progress(first, experiment.steps, images)
        lines = sinks.read_lines(path)
        # Samples of an untrained generator are alike, and no collapse.
        self._watched = [line for line in lines if line["step"] and sentinels.DIVERSITY in line]

    def add(self, step: int, scalars: Scalars) -> None:
        """Notes what a step gave."""
        self._pending.append((step, scalars))
        if len(self._pending) > 1:
            self._write(*self._finite(*self._pending.popleft()))

    def check(self) -> None:
        """Refuses what is not finite, up to the last step."""
        self._pending = deque(self._finite(*item) for item in self._pending)

    def watch(self, figures: Mapping[str, float]) -> None:
        """Adds figures to the last step, and warns where they tell of a collapse."""
        step, scalars = self._pending.pop()
        self._pending.append((step, {**scalars, **figures}))
        self._watched = [*self._watched[-2:], {"step": step, **figures}]
        for warning in sentinels.warnings(self._watched):
            log.warning(warning)

    def pause(self) -> AbstractContextManager:
        """What goes on inside does not count as training time."""
        return self._progress.pause()

    def flush(self) -> None:
        """Writes what has not been written."""
        self.check()
        while self._pending:
            self._write(*self._pending.popleft())

    def close(self) -> None:
        """The end."""
        self.flush()
        self._progress.close()

    def _finite(self, step: int, scalars: Scalars) -> tuple[int, dict[str, float]]:
        read = {name: np.asarray(value) for name, value in self._read(scalars).items()}
        for name, values in read.items():
            if not np.isfinite(values).all():
                raise InputError(
                    f"{name} is {values} at step {step}; the checkpoints before it stay; "
                    "a lower learning rate may help"
                )
        # Of several members, their mean.
        return step, {name: float(values.mean()) for name, values in read.items()}

    def _read(self, scalars: Scalars) -> Mapping[str, Any]:
        if all(isinstance(value, float) for value in scalars.values()):
            return scalars
        return self._experiment.placement.to_host(scalars)

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        self._progress.update(step)
        due = step % self._experiment.log_every == 0 or step == self._experiment.steps
        if due or sentinels.DIVERSITY in values:
            speed = self._progress.log(step, values)
            sinks.append(self._path, {"step": step, **values, "images_per_second": round(speed, 1)})
