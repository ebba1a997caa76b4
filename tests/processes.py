"""Starts the processes of one run on this machine, and waits for their end."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from ports import free_ports


@contextlib.contextmanager
def running(*arguments: object, count: int = 1, **environment: str) -> Iterator[list]:
    """Starts Python on CPUs, once per process of a run; kills what still runs at the end.

    Args:
        arguments: of Python. Each of several processes also gets the flags of its place:
            --coordinator, --processes and --process.
        count: processes.
        environment: variables; a process sees 2 devices, several see 1 each, unless they say so.

    Yields:
        The processes, with pipes for their output and errors.
    """
    variables = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2" if count == 1 else "1"}
    options = {
        "env": {**os.environ, **variables, **environment},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    coordinator = f"--coordinator=127.0.0.1:{free_ports()[0]}"
    processes = []
    try:
        for index in range(count):
            cluster = [coordinator, f"--processes={count}", f"--process={index}"]
            command = [sys.executable, *map(str, arguments), *(cluster if count > 1 else [])]
            processes.append(subprocess.Popen(command, **options))
        yield processes
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()


def finish(processes: Sequence[subprocess.Popen], seconds: float = 600) -> list:
    """Returns the CompletedProcess of each process; one that runs for longer is an error."""
    outputs = [process.communicate(timeout=seconds) for process in processes]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *output)
        for process, output in zip(processes, outputs, strict=True)
    ]
