"""Conversion of states to named arrays and back, for files and for other processes."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def pack(state: Any, name: str) -> dict[str, np.ndarray]:
    """Returns the arrays of nested tuples by their paths, such as "NAME/folds/mean".

    Args:
        state: an array, or a tuple, named or not, of states.
        name: first part of each path.
    """
    if not isinstance(state, tuple):
        return {name: np.asarray(state)}
    fields = getattr(state, "_fields", range(len(state)))
    packed = {}
    for field, value in zip(fields, state, strict=True):
        packed |= pack(value, f"{name}/{field}")
    return packed


def unpack(template: Any, arrays: Mapping[str, np.ndarray], name: str) -> Any:
    """Returns the state that `pack` converted.

    Args:
        template: an empty state of the same metric.
        arrays: output of `pack`, maybe among other arrays.
        name: argument of `pack`.

    Raises:
        KeyError: an array is missing.
    """
    if not isinstance(template, tuple):
        return arrays[name]
    if hasattr(template, "_fields"):
        values = template._asdict().items()
        return type(template)(*(unpack(each, arrays, f"{name}/{field}") for field, each in values))
    parts = []
    while f"{name}/{len(parts)}" in arrays:
        parts.append(arrays[f"{name}/{len(parts)}"])
    return tuple(parts)
