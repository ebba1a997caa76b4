"""Facts of the machine and the software that measured something, and the file of a benchmark.

Nothing here starts JAX, which would take most of a GPU's memory from the processes that measure.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gaxn.io import provenance

PACKAGES = ("jax", "jaxlib", "flax", "torch", "numpy")


def record(*packages: str) -> dict[str, Any]:
    """Returns the date, the machine, the versions and the commit of a measurement.

    Args:
        packages: whose versions are recorded besides Python's and those of `PACKAGES`.

    Returns:
        "date" (UTC); "machine" ("cpu", "cores", "memory_bytes", "gpus", and "load_average" of the
        last minute, which includes the measurement itself); "versions" by package, None of one
        that is not installed; "commit", which ends in "-dirty" if files of the clone were changed.
    """
    versions = {package: _version(package) for package in (*PACKAGES, *packages)}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": _cpu_model(),
            "cores": _cores(),
            "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            "gpus": _gpu_names(),
            "load_average": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version(), **versions},
        "commit": provenance.commit(Path(__file__).parents[1]),
    }


def write(path: str | Path, document: Mapping[str, Any]) -> None:
    """Writes a benchmark's results, which should contain a `record`, as indented JSON."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _cores() -> int:
    """Returns the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _gpu_names() -> list[str]:
    """Returns the names of the NVIDIA GPUs; none without a driver."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return result.stdout.splitlines() if result.returncode == 0 else []
