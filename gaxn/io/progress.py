"""The progress of training: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from gaxn.distributed import multihost


class Progress:
    """A progress bar with the losses, the speed and the time left.

    While it is shown, warnings appear above it; print lines by `write`.

    Args:
        first: steps that were done before.
        steps: steps in all.
        batch: images per step.
    """

    def __init__(self, first: int, steps: int, batch: int):
        self._steps, self._batch = steps, batch
        self._last_time, self._last_step = time.perf_counter(), first
        is_shown = sys.stderr.isatty() and multihost.is_first()
        options = {"unit": "step", "dynamic_ncols": True, "disable": not is_shown}
        self._bar = tqdm(initial=first, total=steps, **options)
        self._contexts = contextlib.ExitStack()
        if is_shown:
            self._contexts.enter_context(logging_redirect_tqdm())

    def update(self, step: int) -> None:
        """Moves the bar to a step."""
        self._bar.update(step - self._bar.n)

    def log(self, step: int, scalars: Mapping[str, float]) -> float:
        """Prints the losses and the speed; returns images per second since the last call."""
        now = time.perf_counter()
        steps_per_second = (step - self._last_step) / max(now - self._last_time, 1e-9)
        self._last_time, self._last_step = now, step
        speed = steps_per_second * self._batch
        losses = {name: f"{scalars[name]:.3f}" for name in scalars if name.endswith("/loss")}
        if self._bar.disable:
            text = "  ".join(f"{name} {value}" for name, value in losses.items())
            seconds = (self._steps - step) / max(steps_per_second, 1e-9)
            line = f"step {step}/{self._steps}  {text}  {speed:.0f} images/s  {seconds:.0f} s left"
            print(line, flush=True)
        else:
            self._bar.set_postfix({**losses, "images/s": f"{speed:.0f}"})
        return speed

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Returns a context whose duration does not count as training time."""
        started = time.perf_counter()
        yield
        self._last_time += time.perf_counter() - started
        self._bar.unpause()

    def close(self) -> None:
        """Ends the bar; what it shows stays."""
        self._bar.close()
        self._contexts.close()


def write(line: str) -> None:
    """Prints a line, above the bar if one is shown."""
    tqdm.write(line)
    sys.stdout.flush()
