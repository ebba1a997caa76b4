"""The processes of one run: how they find one another, agree, and end.

Several processes run the same program on the same data; only the first writes files and prints.
With one process, the usual case, these functions do next to nothing.

JAX notices a process that is killed: by its heartbeat or a failed collective it ends the others
with SIGABRT within 30 s, whatever they wait for. The same command goes on from the last checkpoint.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from gaxn.types import InputError, check

JOIN_TIMEOUT = 300
"""Seconds that processes wait for one another at the start."""

TIMEOUTS = {
    "initialization_timeout": JOIN_TIMEOUT,
    "heartbeat_timeout_seconds": 10,
    "shutdown_timeout_seconds": 600,
}
"""Seconds that JAX waits: for the others at the start, for a sign of life, and at the end."""

SCHEDULERS = {
    "Slurm": "SLURM_STEP_NODELIST",
    "Open MPI": "OMPI_MCA_orte_hnp_uri",
    "Kubernetes": "JOB_COMPLETION_INDEX",
    "a TPU pod": "TPU_WORKER_HOSTNAMES",
    "launch/tpu_pod.sh": "GAXN_TPU_SLICE",
}
"""Environment variables by which a scheduler's processes are known.

On a TPU slice of Google Compute Engine only its metadata server knows the others. JAX asks it, and
the script that starts the processes says that there are some.
"""

GRACE = 2.0
"""Seconds in which other processes may still report an error, once the first has one too.

The first process is JAX's coordinator: JAX aborts the others as soon as it is gone.
"""


class Cluster(NamedTuple):
    """A process's place among others, as the command line gives it.

    Attributes:
        coordinator: HOST:PORT of the first process; "" to leave everything to the scheduler.
        count: processes; 0 if the scheduler knows.
        index: of this process; -1 if the scheduler knows.
    """

    coordinator: str = ""
    count: int = 0
    index: int = -1

    def check(self) -> None:
        """Raises an InputError if only some of the fields are given."""
        if self == Cluster():
            return
        host, _, port = self.coordinator.rpartition(":")
        valid = bool(host) and port.isdecimal() and 0 < int(port) < 65536
        check("--coordinator", self.coordinator, valid, "HOST:PORT")
        check("--processes", self.count, self.count >= 1, "1 or more")
        valid = 0 <= self.index < self.count
        check("--process", self.index, valid, f"0 to {self.count - 1}")


def schedulers(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Returns the schedulers that started this process among others, by its environment."""
    return [name for name, variable in SCHEDULERS.items() if environment.get(variable)]


def expected_count(cluster: Cluster, environment: Mapping[str, str] = os.environ) -> int:
    """Returns the number of processes before they join; 0 if only a scheduler knows."""
    return cluster.count or (0 if schedulers(environment) else 1)


def join(cluster: Cluster, environment: Mapping[str, str] = os.environ) -> None:
    """Connects this process with the others, if any; call it before anything asks for a device.

    Args:
        cluster: from the command line; otherwise a scheduler's environment is used.
        environment: of the process.

    Raises:
        InputError: JAX refuses the arguments. If the others never come it aborts (SIGABRT) after
            `JOIN_TIMEOUT`, unless `watchdog.join_watchdog` watches.
    """
    cluster.check()
    names = schedulers(environment)
    if not cluster.coordinator and not names:
        return
    try:
        if cluster.coordinator:
            jax.distributed.initialize(
                *cluster,
                coordinator_bind_address=cluster.coordinator if cluster.index == 0 else None,
                **TIMEOUTS,
            )
        else:
            jax.distributed.initialize(**TIMEOUTS)
    except (RuntimeError, ValueError) as error:
        origin = cluster.coordinator or f"{names[0]}, by its environment,"
        raise InputError(f"no cluster by {origin}: {str(error).splitlines()[0]}") from None
    if not is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def count() -> int:
    """Returns the number of processes."""
    return jax.process_count()


def index() -> int:
    """Returns the index of this process, from 0."""
    return jax.process_index()


def is_first() -> bool:
    """Returns whether this is the process that writes and prints."""
    return index() == 0


def process_share(parts: Sequence[Any]) -> Sequence[Any]:
    """Returns this process's parts of a work: every n-th of n processes."""
    return parts[index() :: count()]


def gather_bytes(content: bytes) -> list[bytes]:
    """Returns the content of every process, in their order; all of them have to call it.

    Raises:
        ValueError: the content is 4 GiB or more.
    """
    if len(content) >= 2**32:
        raise ValueError(f"the content of a process must be below 2^32 bytes, got {len(content)}")
    sizes = multihost_utils.process_allgather(np.array(len(content), np.uint32))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(content)] = np.frombuffer(content, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]


def barrier(name: str) -> None:
    """Waits until every process has come to the barrier of this name."""
    if count() > 1:
        multihost_utils.sync_global_devices(name)


def agree_to_stop(step: int) -> bool:
    """Returns whether several processes stop after this step, since one of them got SIGTERM.

    Every process has to ask after every step.
    """
    return count() > 1 and multihost_utils.reached_preemption_sync_point(step)


def stop_all() -> None:
    """Makes all processes stop after a step that they agree on, as if this one got SIGTERM."""
    os.kill(os.getpid(), signal.SIGTERM)


def end_on_sigterm() -> None:
    """Lets SIGTERM end this process at once, when nothing asks `agree_to_stop` any more."""
    if count() > 1:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def exit_together(status: int) -> NoReturn:
    """Ends this process with an exit status; one of several, once all have come here.

    Python's own exit would end JAX's service while threads of the first process still use it:
    under load one process in ten aborted there. So the processes disconnect first, and Python's
    exit is left out.
    """
    if count() > 1:
        jax.distributed.shutdown()
        # The reader of the output may be gone.
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def exit_alone(status: int, message: str) -> NoReturn:
    """Ends this one of several processes at once, with a line on standard error.

    An orderly exit would wait for the others, which may have failed too.
    """
    with contextlib.suppress(OSError, ValueError):
        # In one piece, or what JAX logs from other threads comes in between.
        sys.stderr.write(f"gaxn: {message}\n")
        sys.stderr.flush()
        sys.stdout.flush()
    time.sleep(GRACE if is_first() else 0)
    os._exit(status)
