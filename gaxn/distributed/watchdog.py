"""Watchdogs, which end a process that waits in vain: for a step, or for others to join."""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from gaxn.distributed import multihost

NEVER_JOINED, STUCK = 17, 18
"""Exit status if the other processes never came, and if a step never ended."""

RESUME = "the same command goes on from the last checkpoint"


class Watchdog:
    """Ends the process if `reset` is not called for too long. Use it as a context.

    Args:
        seconds: the longest time between two resets.
        end: ends the process.
    """

    def __init__(self, seconds: float, end: Callable[[], NoReturn]):
        self._seconds = seconds
        self._end = end
        self._last = time.monotonic()
        self._closed = threading.Event()

    def __enter__(self) -> "Watchdog":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._closed.set()

    def reset(self) -> None:
        """Starts the time anew."""
        self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self._seconds / 4)):
            if time.monotonic() - self._last > self._seconds:
                self._end()


def step_watchdog(seconds: float) -> Watchdog:
    """Returns a watchdog of training, to be reset after every step."""
    message = f"no step has ended for {seconds:g} s (config.run.stuck_after); {RESUME}"
    return Watchdog(seconds, lambda: _end(STUCK, message))


def join_watchdog(seconds: float = 0.95 * multihost.JOIN_TIMEOUT) -> Watchdog:
    """Returns a watchdog of the start; JAX would abort without a clear message."""
    message = f"not all processes have come within {seconds:g} s; {RESUME}"
    return Watchdog(seconds, lambda: _end(NEVER_JOINED, message))


def _end(status: int, message: str) -> NoReturn:
    # Nothing here may ask JAX anything: it may be what is stuck.
    sys.stderr.write(f"gaxn: {message}\n")
    sys.stderr.flush()
    os._exit(status)
