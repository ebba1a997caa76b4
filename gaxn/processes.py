"""The processes of one run: how they find one another, and what they agree on.

One process is the usual case, and then all of this is next to nothing. Several run the same
program on the same data; the first alone writes files and speaks.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from gaxn.types import InputError, require

ARRIVAL = 300
"""Seconds that processes wait for one another at the start."""

WAITS = {
    "initialization_timeout": ARRIVAL,
    "heartbeat_timeout_seconds": 20,
    "shutdown_timeout_seconds": 600,
}
"""Seconds that JAX waits for the others at the start, for a sign of life after it, at the end."""

SCHEDULERS = {
    "Slurm": "SLURM_STEP_NODELIST",
    "Open MPI": "OMPI_MCA_orte_hnp_uri",
    "Kubernetes": "JOB_COMPLETION_INDEX",
    "a TPU pod": "TPU_WORKER_HOSTNAMES",
}
"""What stands in the environment of a process that one of them started among others."""


class Cluster(NamedTuple):
    """Where a process is among others, as a command line says it.

    Attributes:
        coordinator: HOST:PORT of the first process; "" to leave all of it to the scheduler.
        count: of processes; 0 where the scheduler knows.
        index: of this one; -1 where the scheduler knows.
    """

    coordinator: str = ""
    count: int = 0
    index: int = -1

    def check(self) -> None:
        """Raises: InputError: some of it is given, and some not."""
        if self == Cluster():
            return
        host, _, port = self.coordinator.rpartition(":")
        holds = bool(host) and port.isdecimal() and 0 < int(port) < 65536
        require("--coordinator", self.coordinator, holds, "HOST:PORT")
        require("--processes", self.count, self.count >= 1, "1 or more")
        holds = 0 <= self.index < self.count
        require("--process", self.index, holds, f"0 to {self.count - 1}")


def scheduled(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The schedulers that started this process beside others, by its environment."""
    return [name for name, mark in SCHEDULERS.items() if environment.get(mark)]


def expected(cluster: Cluster, environment: Mapping[str, str] = os.environ) -> int:
    """How many take part, as far as it is known before they join; 0 where a scheduler knows."""
    return cluster.count or (0 if scheduled(environment) else 1)


def join(cluster: Cluster, environment: Mapping[str, str] = os.environ) -> None:
    """Finds the other processes, if there are any; comes before anything asks for a device.

    Args:
        cluster: what the command line says; else a scheduler's environment is taken.
        environment: of the process.

    Raises:
        InputError: JAX refuses what was given. Where the others never come it aborts (SIGABRT)
            after `ARRIVAL`, unless `liveness.over_arrivals` watches.
    """
    cluster.check()
    several = scheduled(environment)
    if not cluster.coordinator and not several:
        return
    try:
        if cluster.coordinator:
            jax.distributed.initialize(
                *cluster,
                coordinator_bind_address=cluster.coordinator if cluster.index == 0 else None,
                **WAITS,
            )
        else:
            jax.distributed.initialize(**WAITS)
    except (RuntimeError, ValueError) as error:
        asked = cluster.coordinator or f"{several[0]}, by its environment,"
        raise InputError(f"no cluster by {asked}: {str(error).splitlines()[0]}") from None
    if not is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def count() -> int:
    """How many take part."""
    return jax.process_count()


def index() -> int:
    """Which of them this is, from 0."""
    return jax.process_index()


def is_first() -> bool:
    """Whether this is the one that writes and speaks."""
    return index() == 0


def own_share(parts: Sequence[Any]) -> Sequence[Any]:
    """Those of some parts of a work that this process does: every n-th of n processes."""
    return parts[index() :: count()]


def gather(content: bytes) -> list[bytes]:
    """What every process gives, in their order; all of them have to call this.

    Raises:
        ValueError: it is more than 4 GiB.
    """
    if len(content) >= 2**32:
        raise ValueError(f"{len(content)} bytes a process; valid is below 2^32")
    sizes = multihost_utils.process_allgather(np.array(len(content), np.uint32))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(content)] = np.frombuffer(content, np.uint8)
    found = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes() for row, size in zip(found, sizes, strict=True)]


def meet(place: str) -> None:
    """Waits until every process is here."""
    if count() > 1:
        multihost_utils.sync_global_devices(place)


def agree_to_stop(step: int) -> bool:
    """Whether all of several processes stop after this step, since one of them got SIGTERM.

    Every one has to ask after every step.
    """
    return count() > 1 and multihost_utils.reached_preemption_sync_point(step)


def end_by_sigterm() -> None:
    """From here on nobody asks whether to stop: SIGTERM ends this process, as it would alone."""
    if count() > 1:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end(status: int) -> NoReturn:
    """Ends this process with an exit status; among several, once all of them have come here.

    The exit of Python would end JAX's service while threads of the first process still use it:
    under load one process in ten aborted there. So the processes let go of one another first, and
    the exit of Python is left out.
    """
    if count() > 1:
        jax.distributed.shutdown()
        # Whoever was to read may be gone.
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def stop_all() -> None:
    """Has every process stop after a step that they agree on, as if this one got SIGTERM."""
    os.kill(os.getpid(), signal.SIGTERM)
