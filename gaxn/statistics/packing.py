"""States as named arrays and back, to be kept in a file or sent to another process."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def pack(state: Any, name: str) -> dict[str, np.ndarray]:
    """The arrays of nested tuples, each by its path.

    Args:
        state: tuples, named or not, of arrays.
        name: how every path begins.
    """
    if not isinstance(state, tuple):
        return {name: np.asarray(state)}
    fields = getattr(state, "_fields", range(len(state)))
    packed = {}
    for field, value in zip(fields, state, strict=True):
        packed |= pack(value, f"{name}/{field}")
    return packed


def unpack(like: Any, arrays: Mapping[str, np.ndarray], name: str) -> Any:
    """What `pack` took apart.

    Args:
        like: an empty state of the same metric.
        arrays: what `pack` gave, maybe among others.
        name: what `pack` was given.

    Raises:
        KeyError: an array is missing.
    """
    if not isinstance(like, tuple):
        return arrays[name]
    if hasattr(like, "_fields"):
        values = zip(like._fields, like, strict=True)
        return type(like)(*(unpack(value, arrays, f"{name}/{field}") for field, value in values))
    parts = []
    while f"{name}/{len(parts)}" in arrays:
        parts.append(arrays[f"{name}/{len(parts)}"])
    return tuple(parts)
