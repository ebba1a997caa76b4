"""Generative adversarial networks in JAX and Flax.

    run = gaxn.train("configs/attn_cgan_shapes.py:tiny", workdir="runs/x", seed=1)
    run = gaxn.load("runs/x")
    images = run.sample(seeds=range(16), labels=2)

The functions are in gaxn/api.py, which is imported when one of them is used: importing gaxn alone
imports neither JAX nor Matplotlib.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaxn.api import InputError, Run, evaluate, load, train

__all__ = ["InputError", "Run", "evaluate", "load", "train"]


def __getattr__(name: str) -> Any:
    """Returns a part of the public interface."""
    if name not in __all__:
        raise AttributeError(f"module 'gaxn' has no attribute {name!r}")
    return getattr(importlib.import_module("gaxn.api"), name)


def __dir__() -> list[str]:
    """Returns the names of the public interface."""
    return sorted(__all__)
