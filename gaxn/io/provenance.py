"""The origin of a result: versions, devices, commit."""

import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("gaxn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def record() -> dict[str, Any]:
    """Returns the versions of the packages, the devices and the commit of this process."""
    return {
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "devices": [str(device) for device in jax.devices()],
        "git": _commit(Path(__file__).parents[2]),
    }


def _commit(root: Path) -> str | None:
    """Returns the commit of a clone, with "-dirty" if files were changed; None outside a clone."""
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return result.stdout.strip() or None
