"""Figures as a person reads them, and what has to be equal for two to be compared."""

from collections.abc import Mapping
from typing import Any

ERROR, FLOOR = "_error", "_floor"
"""Endings of the names of what belongs to a figure."""


OWN = ("step", "seed")
"""Fields of a protocol that name the run and not the way of measuring."""


def method(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The way of measuring: figures under two of them cannot be compared."""
    return {name: value for name, value in protocol.items() if name not in OWN}


def floors(figures: Mapping[str, float]) -> dict[str, float]:
    """The figures of real images as the floors of others; their errors are left out."""
    there = {name: value for name, value in figures.items() if not name.endswith(ERROR)}
    return {f"{name}{FLOOR}": value for name, value in there.items()}


def told(figures: Mapping[str, float | None], digits: str = ".4f") -> dict[str, str]:
    """By name, "4.3014 +- 0.1246 (floor 0.3627)"; what belongs to another figure is told there.

    Args:
        figures: by name; None is left out.
        digits: how numbers are formatted.
    """
    there = {name: value for name, value in figures.items() if value is not None}
    texts = {}
    for name, value in there.items():
        if any(name.endswith(end) and name.removesuffix(end) in there for end in (ERROR, FLOOR)):
            continue
        text = format(value, digits)
        if name + ERROR in there:
            text += f" +- {format(there[name + ERROR], digits)}"
        if name + FLOOR in there:
            text += f" (floor {format(there[name + FLOOR], digits)})"
        texts[name] = text
    return texts
