"""What made a figure: versions, devices, commit."""

import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("gaxn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def record() -> dict[str, Any]:
    """What else a reader needs to repeat what this process does."""
    return {
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "devices": [str(device) for device in jax.devices()],
        "git": _commit(Path(__file__).parents[1]),
    }


def _commit(root: Path) -> str | None:
    """The commit of a clone, with "-dirty" where it was changed; None where this is none."""
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None
