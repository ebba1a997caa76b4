"""NumPy arrays in nested dicts, read from a pickle without running the code in it."""

import io
import math
from typing import Any

import numpy as np

from gaxn.features.restricted_pickle import ERRORS, Function, Unpickler

ITEM_SIZES = {"f2": 2, "f4": 4, "f8": 8, "i4": 4, "i8": 8}
"""Bytes of a number by the name of its type; all are little-endian."""

ARRAY = "an array"
"""Stands for the class of arrays, which is only passed on."""


class _Record:
    """An object whose state a pickle sets: an array, or the type of its numbers.

    Attributes:
        name: of a type; `ARRAY` of an array.
        state: as NumPy pickles it; None if the pickle did not set it.
    """

    __slots__ = ("name", "state")

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.state = name, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


KNOWN = {
    "numpy.ndarray": ARRAY,
    "numpy.dtype": Function(_Record),
    # Their names before NumPy 2, and since.
    "numpy.core.multiarray._reconstruct": Function(_Record),
    "numpy._core.multiarray._reconstruct": Function(_Record),
}


def read(content: bytes) -> dict[str, Any]:
    """Returns the arrays of a pickle in the nested dicts that it has; they are read-only.

    Args:
        content: of a file that `pickle.dump` wrote with protocol 2 to 4.

    Raises:
        ValueError: it is no such file, is damaged, or holds anything but dicts and arrays.
    """
    try:
        value = Unpickler(io.BytesIO(content), KNOWN, "array").load()
        if not isinstance(value, dict):
            raise ValueError(f"it must hold a dict of arrays, got a {type(value).__name__}")
        return _convert(value, "")
    except ERRORS as error:
        raise ValueError(f"damaged or cut off ({type(error).__name__}: {error})") from None


def _convert(value: Any, place: str) -> Any:
    """Returns dicts with arrays in place of records; `place` is the path of names to a value."""
    if isinstance(value, dict):
        return {name: _convert(item, f"{place}/{name}".lstrip("/")) for name, item in value.items()}
    if not isinstance(value, _Record) or value.name != ARRAY:
        raise ValueError(f"it holds {place!r}, which is neither a dict nor an array")
    _, shape, dtype, is_fortran, numbers = value.state
    name, order = dtype.name, dtype.state[1]
    if name not in ITEM_SIZES or order != "<" or not isinstance(numbers, bytes):
        raise ValueError(f"{place!r} must have little-endian numbers of {', '.join(ITEM_SIZES)}")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"{place!r} has no valid shape")
    size = math.prod(shape) * ITEM_SIZES[name]
    if len(numbers) != size:
        raise ValueError(f"cut off: {place!r} must have {size} bytes, got {len(numbers)}")
    return np.frombuffer(numbers, f"<{name}").reshape(shape, order="F" if is_fortran else "C")
