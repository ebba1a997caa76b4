"""Curves of a report: what a run logged over its steps, by panel."""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gaxn.config import as_tuples, instantiate
from gaxn.evaluation import diagnostics, figures
from gaxn.evaluation.report.pictures import thin
from gaxn.evaluation.translation import DIRECTIONS
from gaxn.io import files
from gaxn.objectives import schedules
from gaxn.types import InputError

MAX_POINTS = 2_000
"""Points of a curve; of a longer history every n-th line is read, and the last."""

LOW, HIGH = "low/", "high/"
"""Begin the names of the smallest and largest value of a scalar over a population."""

SPEED = "images_per_second"

_DISTANCES = ("frechet_distance", "kid_unbiased", "precision", "recall", "density", "coverage")

CURVES_OF_EVALUATIONS = {
    "classifier": ("conditional_accuracy", *_DISTANCES),
    "inception": _DISTANCES,
    "modes": ("modes", "modes_quality", "modes_reverse_kl", *_DISTANCES),
    "translation": ("mae_a2b", "mae_b2a", "cycle_mae_a", "cycle_mae_b"),
    **{f"{name}_{way}": _DISTANCES for name in ("classifier", "inception") for way in DIRECTIONS},
}
"""Figures with a curve over training, by part of the evaluation."""

Line = Mapping[str, Any]


class Panel(NamedTuple):
    """A panel of curves.

    Attributes:
        title: of the panel.
        pattern: of the names of its scalars, as a regular expression.
        log: whether its scale is logarithmic at first.
        unit: of its values.
    """

    title: str
    pattern: str
    log: bool = False
    unit: str = ""


PANELS = (
    Panel("losses", r"\w+/(loss|adversarial)"),
    Panel("losses by domain", r"\w+/adversarial_\w"),
    Panel("logits", r"\w+/(real|fake)"),
    Panel("logits by domain", r"\w+/(real|fake)_\w"),
    Panel("gradient norms", r"\w+/gradient_norm", log=True),
    Panel("cycle and identity", r"\w+/(cycle|identity)_\w", unit="mean absolute difference"),
    Panel("further terms of the losses", r"(?!diagnostics)\w+/.+"),
    Panel("diversity and saturation", r"diagnostics/(diversity|saturation)"),
    Panel("gamma of attention layers", r"diagnostics/gamma/.+"),
    Panel("entropy of attention", r"diagnostics/entropy/.+", unit="share of that of uniform ones"),
    Panel("distance of attention", r"diagnostics/distance/.+", unit="sides of the image"),
    Panel("singular values", r"diagnostics/singular_value/.+", unit="1 is exact"),
    Panel("speed", SPEED, unit="images/s"),
    Panel("other scalars", ".+"),
)
"""Panels in order; a scalar is in the first whose pattern matches its name."""


def add_bands(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the mean of each scalar over a population, then its smallest and largest values.

    Of a single run the values have no axis, and each is as it is.
    """
    bands = {
        f"{band}{name}": float(extreme(value))
        for name, value in values.items()
        if np.size(value) > 1
        for band, extreme in ((LOW, np.min), (HIGH, np.max))
    }
    return {name: float(np.mean(value)) for name, value in values.items()} | bands


def is_band(name: str) -> bool:
    """Returns whether a scalar is the smallest or largest value of another over a population."""
    return name.startswith((LOW, HIGH))


def read_lines(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """Returns the records of a .jsonl file; damaged lines are left out.

    Args:
        path: of the file; without one there are no records.
        limit: largest number of records, and besides of those with diagnostics; None for all.
    """
    lines = files.complete_lines(path)
    if limit is not None:
        diagnosed = [index for index, line in enumerate(lines) if diagnostics.PREFIX in line]
        chosen = {diagnosed[index] for index in thin(len(diagnosed), limit)}
        chosen |= set(thin(len(lines), limit))
        lines = [lines[index] for index in sorted(chosen)]
    return [record for record in files.parse_lines(lines) if "step" in record]


def collect(history: Sequence[Line]) -> list[dict[str, Any]]:
    """Returns the panels of all scalars in a history."""
    names = dict.fromkeys(name for line in history for name in line if name != "step")
    panels: dict[Panel, list[str]] = {panel: [] for panel in PANELS}
    for name in names:
        if not is_band(name):
            panel = next(each for each in PANELS if re.fullmatch(each.pattern, name))
            panels[panel].append(name)
    return [
        _make_panel(panel, [_make_series(history, name) for name in members])
        for panel, members in panels.items()
        if members
    ]


def _make_panel(panel: Panel, series: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"title": panel.title, "unit": panel.unit, "log": panel.log, "series": list(series)}


def _make_series(history: Sequence[Line], name: str) -> dict[str, Any]:
    lines = [line for line in history if name in line]
    lines = [lines[index] for index in thin(len(lines), MAX_POINTS)]
    series = {"name": _shorten(name), "steps": [line["step"] for line in lines]}
    parts = {"values": name, "low": f"{LOW}{name}", "high": f"{HIGH}{name}"}
    for part, scalar in parts.items():
        values = [_round(line.get(scalar)) for line in lines]
        if part == "values" or any(value is not None for value in values):
            series[part] = values
    return series


def _shorten(name: str) -> str:
    """Returns the name of a curve without those words that the title of its panel has."""
    if name.endswith(figures.REAL):
        return "real images"
    return re.sub(rf"^{diagnostics.PREFIX}(.+?/(?=.))?", "", name)


def _round(value: Any) -> float | None:
    """Returns a number with six digits; None for what is no finite number."""
    valid = isinstance(value, int | float) and np.isfinite(value)
    return float(f"{value:.6g}") if valid else None


def learning_rates(config: Mapping[str, Any], history: Sequence[Line]) -> list[dict[str, Any]]:
    """Returns the panel of the learning rates at the logged steps, if the config has them.

    The rate of a step is that of the update that led to it.
    """
    steps = [line["step"] for line in history if line["step"] > 0]
    steps = [steps[index] for index in thin(len(steps), MAX_POINTS)]
    optimizers = config.get("optimizers", {})
    if not steps or not isinstance(optimizers, Mapping):
        return []
    series = []
    for player, options in optimizers.items():
        rates = _learning_rates(options, config, np.array(steps) - 1)
        if rates is not None:
            series.append({"name": player, "steps": steps, "values": list(map(_round, rates))})
    panel = Panel("learning rates", "", log=True)
    return [_make_panel(panel, series)] if series else []


def _learning_rates(
    options: Any, config: Mapping[str, Any], steps: np.ndarray
) -> Sequence[float] | None:
    """Returns the learning rates of a player after some steps; None if they are not known."""
    # Before gaxn 0.3 the decay was a field of its own.
    if not isinstance(options, Mapping) or "decay" in options:
        return None
    rate = as_tuples(options.get("learning_rate"))
    if isinstance(rate, int | float):
        return [rate] * len(steps)
    if not schedules.is_spec(rate):
        return None
    run_length = schedules.RunLength(config["num_train_steps"], config["batch_size"])
    try:
        relative = instantiate(
            "objectives.schedules", rate, "learning_rate", returns=schedules.RelativeSchedule
        )
        schedule = schedules.make_schedule(relative, run_length)
    except InputError:
        return None
    return np.broadcast_to(np.asarray(schedule(jnp.asarray(steps))), steps.shape).tolist()


def warnings(history: Sequence[Line]) -> list[dict[str, Any]]:
    """Returns the warnings of diagnostics in a history, as training logged them."""
    diagnosed = [
        line
        for line in history
        if line["step"] and any(name.startswith(diagnostics.PREFIX) for name in line)
    ]
    entries = []
    for index, line in enumerate(diagnosed):
        # A value that is not finite was left out, or is null.
        window = [
            {name: value for name, value in each.items() if isinstance(value, int | float)}
            for each in diagnosed[max(0, index - 2) : index + 1]
        ]
        for text in diagnostics.warnings(window):
            entries.append({"step": line["step"], "text": text.partition(": ")[2]})
    return entries


def read_evaluations(workdir: Path) -> tuple[list[Line], dict[str, tuple[str, str]]]:
    """Reads the evaluations of a run over its steps, those of one protocol: the commonest.

    Returns:
        The figures of each step by "part/figure", and by that name of each figure with a curve,
        the names of it and of its value for real images.
    """
    by_protocol: dict[str, dict[int, dict[str, Any]]] = {}
    for line in read_lines(workdir / "evaluations.jsonl"):
        parts = {name: part for name, part in line.items() if name in CURVES_OF_EVALUATIONS}
        key = json.dumps([figures.method(part["protocol"]) for part in parts.values()])
        # A step's last evaluation replaces earlier ones.
        by_protocol.setdefault(key, {})[line["step"]] = _figures_by_name(parts)
    curve = max(by_protocol.values(), key=len, default={})
    history = [{"step": step, **curve[step]} for step in sorted(curve)]
    known = dict.fromkeys(name for line in history for name in line)
    panels = {
        f"{part}/{name}": (f"{part}/{name}", f"{part}/{name}{figures.REAL}")
        for part, names in CURVES_OF_EVALUATIONS.items()
        for name in names
        if f"{part}/{name}" in known
    }
    return history, panels


def _figures_by_name(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the figures of an evaluation by "part/figure", of a population with their bands."""
    values = {}
    for name, part in parts.items():
        values |= {f"{name}/{figure}": value for figure, value in part["figures"].items()}
        for figure, by_member in part.get("tables", {}).get("members", {}).items():
            numbers = [number for number in by_member if number is not None]
            if len(numbers) > 1:
                values[f"{LOW}{name}/{figure}"] = min(numbers)
                values[f"{HIGH}{name}/{figure}"] = max(numbers)
    return values


def collect_evaluations(workdir: Path) -> list[dict[str, Any]]:
    """Returns a panel for each figure that several evaluations have."""
    history, panels = read_evaluations(workdir)
    if len(history) < 2:
        return []
    known = {name for line in history for name in line}
    return [
        _make_panel(
            Panel(title, ""), [_make_series(history, name) for name in names if name in known]
        )
        for title, names in panels.items()
    ]


def last_speed(workdir: Path) -> float | None:
    """Returns the images per second of the last line of the log that has them."""
    speeds = _steps_and_speeds(workdir)
    return speeds[-1][1] if speeds else None


def time_taken(workdir: Path, images: int) -> float | None:
    """Returns the seconds of training, from the log; None without one."""
    seconds = seconds_trained(
        [{"step": step, SPEED: speed} for step, speed in _steps_and_speeds(workdir)], images
    )
    return seconds[-1] if seconds and np.isfinite(seconds[-1]) else None


def _steps_and_speeds(workdir: Path) -> list[tuple[int, float]]:
    """Returns step and speed of every line, without parsing a long log."""
    path = workdir / "metrics.jsonl"
    text = path.read_text(errors="replace") if path.exists() else ""
    pattern = rf'^{{"step": (\d+),.*"{SPEED}": ([\d.e+]+)'
    return [(int(step), float(speed)) for step, speed in re.findall(pattern, text, re.MULTILINE)]


def seconds_trained(history: Sequence[Line], images: int) -> list[float]:
    """Returns the seconds of training up to each line of the log, from the speed in the line.

    The speed of a line counts for all steps since the line before. This is an estimate where a
    run was stopped and resumed between two lines; steps that were lost when it was killed are not
    counted.

    Args:
        history: the lines of the log.
        images: per step.
    """
    steps = [line["step"] for line in history]
    return list(
        accumulate(
            (step - before) * step_seconds(images, line[SPEED])
            for before, step, line in zip([0, *steps], steps, history, strict=False)
        )
    )


def step_seconds(images: int, images_per_second: float) -> float:
    """Returns the seconds of a step; infinite if the log rounded a very low speed to 0."""
    return images / images_per_second if images_per_second else float("inf")
