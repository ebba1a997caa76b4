"""Figures: their names, their text, and which of them can be compared."""

from collections.abc import Mapping
from typing import Any

ERROR = "_error"
"""Ends the name of the standard error of a figure."""

REAL = "_real"
"""Ends the name of the same figure of real images, compared with the same reference."""

RUN_FIELDS = ("step", "seed")
"""Fields of a protocol that name the run, not the way of measuring."""


def method(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the way of measuring: figures of two different ones cannot be compared."""
    return {name: value for name, value in protocol.items() if name not in RUN_FIELDS}


def add_real_suffix(figures: Mapping[str, float]) -> dict[str, float]:
    """Returns the figures of real images with names that end in `REAL`, without their errors."""
    return {f"{name}{REAL}": value for name, value in figures.items() if not name.endswith(ERROR)}


def format_figures(figures: Mapping[str, float | None], digits: str = ".4f") -> dict[str, str]:
    """Formats each figure with its error and its value for real images.

    Args:
        figures: by name; None is left out.
        digits: the format of the numbers.

    Returns:
        By the name of a figure, text such as "4.3014 +- 0.1246 (real 0.3627)". An error, or a
        value for real images, has an entry only if the figure that it belongs to is missing.
    """
    values = {name: value for name, value in figures.items() if value is not None}
    texts = {}
    for name, value in values.items():
        if any(name.endswith(end) and name.removesuffix(end) in values for end in (ERROR, REAL)):
            continue
        text = format(value, digits)
        if name + ERROR in values:
            text += f" +- {format(values[name + ERROR], digits)}"
        if name + REAL in values:
            text += f" (real {format(values[name + REAL], digits)})"
        texts[name] = text
    return texts
