"""Figures: their names, their text, and which of them can be compared."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from gaxn.types import InputError

ERROR = "_error"
"""Ends the name of the standard error of a figure."""

REAL = "_real"
"""Ends the name of the same figure of real images, compared with the same reference."""

FEW = "too_few_images_for"
"""Field of a protocol: the metrics that mean little for so few images."""

RUN_FIELDS = ("step", "seed", "errors")
"""Fields of a protocol that name the run, not the way of measuring."""


HEADLINES = (
    *("modes/modes", "modes/modes_quality", "modes/modes_reverse_kl"),
    *("conditional_accuracy", "frechet_distance", "precision", "recall", "coverage"),
    *("copied_share", "confidence", "kid_unbiased", "inception_score"),
    *("lpips_diversity", "perceptual_path_length"),
)
"""Figures by importance: of one part of an evaluation ("part/figure"), or of any."""

HEADLINE_COUNT = 6


def method(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the way of measuring: figures of two different ones cannot be compared."""
    return {name: value for name, value in protocol.items() if name not in RUN_FIELDS}


def add_real_suffix(figures: Mapping[str, float]) -> dict[str, float]:
    """Returns the figures of real images with names that end in `REAL`, without their errors."""
    return {f"{name}{REAL}": value for name, value in figures.items() if not name.endswith(ERROR)}


def is_error(name: str, figures: Collection[str]) -> bool:
    """Returns whether a figure is the standard error of another."""
    return name.endswith(ERROR) and name.removesuffix(ERROR) in figures


def check_any(metric: str, names: Collection[str], figures: Mapping[str, Any]) -> None:
    """Raises an InputError if a metric that was asked for gave none of its figures."""
    if not set(names) & figures.keys():
        raise InputError(f"metric {metric} has no figure for these images")


def describe_few(document: Mapping[str, Any]) -> str:
    """Returns one line about metrics of an evaluation with too few images for them, or ""."""
    few = {
        name: None
        for content in document.values()
        if isinstance(content, Mapping)
        for name in content.get("protocol", {}).get(FEW, ())
    }
    return f"so few images mean little for {', '.join(few)}" if few else ""


def choose_headlines(
    document: Mapping[str, Any], preferred: Sequence[str] = ()
) -> dict[str, Mapping[str, float]]:
    """Returns the most important figures of an evaluation.

    Args:
        document: the content of evaluation.json.
        preferred: names of figures that come before `HEADLINES`.

    Returns:
        By "part/figure", at most six; each with all figures of its part.
    """
    parts = {
        part: {name: value for name, value in content["figures"].items() if value is not None}
        for part, content in document.items()
        if isinstance(content, Mapping) and "figures" in content
    }
    chosen = {
        f"{part}/{name}": part_figures
        for wanted in (*preferred, *HEADLINES)
        for part, part_figures in parts.items()
        for name in part_figures
        if wanted in (name, f"{part}/{name}")
    }
    return dict(itertools.islice(chosen.items(), HEADLINE_COUNT))


def format_headlines(document: Mapping[str, Any], preferred: Sequence[str] = ()) -> str:
    """Returns a table of the most important figures, see `choose_headlines`; "" of none."""
    chosen = choose_headlines(document, preferred)
    if not chosen:
        return ""
    rows = [(label, figures, label.rpartition("/")[2]) for label, figures in chosen.items()]
    return _format_rows(rows, ".4f")


def format_all(figures: Mapping[str, float | None], digits: str = ".6g") -> str:
    """Returns a table of all figures; None is left out."""
    values = {name: value for name, value in figures.items() if value is not None}
    names = [name for name in values if not _is_attribute(name, values)]
    return _format_rows([(name, values, name) for name in names], digits)


def _format_rows(rows: Sequence[tuple[str, Mapping[str, float], str]], digits: str) -> str:
    """Returns a table from (label, figures, name of a figure): its value, error, and real value."""
    cells = [
        (
            label,
            _format_value(name, figures, digits),
            format(figures[name + REAL], digits) if name + REAL in figures else "",
        )
        for label, figures, name in rows
    ]
    heads = ("figure", "value +- error", "of real images")
    has_real = any(real for *_, real in cells)
    count = len(heads) if has_real else len(heads) - 1
    return tabulate([row[:count] for row in cells], heads[:count], "simple", disable_numparse=True)


def _format_value(name: str, figures: Mapping[str, float], digits: str) -> str:
    error = f" +- {format(figures[name + ERROR], digits)}" if name + ERROR in figures else ""
    return format(figures[name], digits) + error


def _is_attribute(name: str, figures: Mapping[str, Any]) -> bool:
    """Returns whether a figure is the error or the real value of another one of them."""
    return any(name.endswith(end) and name.removesuffix(end) in figures for end in (ERROR, REAL))


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
    for name in values:
        if _is_attribute(name, values):
            continue
        text = _format_value(name, values, digits)
        if name + REAL in values:
            text += f" (real {format(values[name + REAL], digits)})"
        texts[name] = text
    return texts
