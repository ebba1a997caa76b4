"""Runs held against one another, from what their directories say.

Figures taken under different protocols are set apart and the differing fields named: a
number means nothing beside one that was measured in another way.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from gaxn import figures, markdown, pictures, sinks
from gaxn.types import InputError

CURVES = ("d/adversarial", "g/loss", "d/real", "d/fake")

MINUTES = "minutes trained"


class Run(NamedTuple):
    """What a run's directory says.

    Attributes:
        workdir: the directory.
        record: config.json.
        evaluation: evaluation.json, the last one.
        history: the lines of metrics.jsonl.
    """

    workdir: Path
    record: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]


def compare(workdirs: Sequence[Path], workdir: Path) -> int:
    """Writes comparison.json, comparison.md, curves.png and samples.png; prints the table.

    Args:
        workdirs: the runs' directories, two or more.
        workdir: where the comparison goes.

    Raises:
        InputError: a directory holds no evaluated run, or `workdir` holds one.
    """
    if (workdir / "config.json").exists():
        raise InputError(f"--workdir {workdir} holds a run; name another for the comparison")
    runs = dict(zip(labels(workdirs), map(read, workdirs), strict=True))
    document = tabulate(runs)
    text, shown = markdown.comparison(document), draw(runs)
    sinks.write_json(workdir / "comparison.json", document)
    sinks.write_bytes(workdir / "comparison.md", text.encode())
    for name, picture in shown.items():
        sinks.write_picture(workdir / f"{name}.png", picture)
    for warning in warnings(document):
        print(f"gaxn: {warning}", file=sys.stderr)
    print(text, end="")
    return 0


def labels(workdirs: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them all apart.

    Raises:
        InputError: two paths are the same directory.
    """
    parts = [path.resolve().parts for path in workdirs]
    for place, own in enumerate(parts):
        if own in parts[:place]:
            raise InputError(f"{workdirs[place]} is given twice; valid are different runs")
    longest = max(map(len, parts))
    for length in range(1, longest + 1):
        ends = [str(Path(*own[-length:])) for own in parts]
        if len(set(ends)) == len(ends):
            break
    return ends


def read(workdir: Path) -> Run:
    """What the directory of an evaluated run says.

    Raises:
        InputError: it holds no run, one that is not evaluated, or files of another kind.
    """
    if not (workdir / "config.json").exists():
        raise InputError(f"{workdir} holds no run; valid is the directory of an evaluated run")
    if not (workdir / "evaluation.json").exists():
        raise InputError(
            f"{workdir} is not evaluated; the command that trained it, with --mode evaluate, "
            "does so"
        )
    record = _read(workdir / "config.json", ("config", "devices"))
    evaluation = _read(workdir / "evaluation.json", ("name", "step"))
    if not record["config"].keys() >= {"seed", "batch"}:
        raise InputError(f"{workdir / 'config.json'} has no batch; valid is a run of a game")
    path = workdir / "metrics.jsonl"
    try:
        # That of step 0 is of no training.
        history = [line for line in sinks.read_lines(path) if line.get("step") != 0]
    except ValueError:
        history = [{}]
    if not all(line.keys() >= {"step", "images_per_second"} for line in history):
        raise InputError(f"{path} is damaged; valid are lines with step and images_per_second")
    return Run(workdir, record, evaluation, history)


def facts(run: Run) -> dict[str, Any]:
    """What the run is and costs.

    A step's seconds are the median over the lines of the log, so that neither compilation
    nor a pause counts; the seconds trained are the sum of all, both included. Images are
    those of one turn, as in `images_per_second`. None stands for what the run's files do
    not say.
    """
    config, step = run.record["config"], run.evaluation["step"]
    cost = run.evaluation.get("cost", {})
    history = [line for line in run.history if line["step"] <= step]
    images = _images_a_turn(config)
    trained = seconds_trained(history, images)
    steps = [_seconds(images, line["images_per_second"]) for line in history]
    return {
        "workdir": str(run.workdir),
        "name": run.evaluation["name"],
        "seed": config["seed"],
        "step": step,
        "batch": config["batch"],
        "images": step * images,
        "devices": run.record["devices"],
        "parameters": cost.get("parameters", {}),
        "flops_a_step": cost.get("flops_a_step"),
        "seconds_a_step": _finite(median(steps)) if steps else None,
        "seconds_trained": _finite(trained[-1]) if trained else None,
    }


def seconds_trained(history: Sequence[Mapping[str, float]], batch: int) -> list[float]:
    """Seconds of training up to each line of the log, by the speed that it says.

    A line speaks for all steps since the one before. Where a run went on after a stop in
    between, its first line was timed over fewer, and their speed stands for the rest;
    steps that a kill undid are not counted.
    """
    steps = [line["step"] for line in history]
    return list(
        accumulate(
            (step - before) * _seconds(batch, line["images_per_second"])
            for before, step, line in zip([0, *steps], steps, history, strict=False)
        )
    )


def _images_a_turn(config: Mapping[str, Any]) -> int:
    """Those of all members of a population."""
    return config["batch"] * config.get("population", 1)


def tabulate(runs: Mapping[str, Run]) -> dict[str, Any]:
    """The comparison, ready for JSON.

    Returns: "runs", the facts of each by its label; and "parts", for each part of the
    evaluations its "figures" (by name, then by label; None where a run has none), its
    "protocols" by label, and "differing", the values by label of those fields in which
    the protocols differ. A part is "comparable" if there are none.
    """
    names = [name for run in runs.values() for name in _parts(run)]
    return {
        "runs": {label: facts(run) for label, run in runs.items()},
        "parts": {
            name: _part({label: _parts(run).get(name) for label, run in runs.items()})
            for name in dict.fromkeys(names)
        },
    }


def draw(runs: Mapping[str, Run]) -> dict[str, np.ndarray]:
    """By name: the "curves" overlaid, the last "samples" side by side; what no run has is not."""
    histories = {label: _timed(run) for label, run in runs.items()}
    logged = {name for history in histories.values() for line in history for name in line}
    names = [name for name in CURVES if name in logged]
    shown = {"curves": pictures.overlaid(histories, names, ("step", MINUTES))} if names else {}
    samples = {}
    for label, run in runs.items():
        drawn = sorted((run.workdir / "samples").glob("step_*.png"))
        if drawn:
            step = int(drawn[-1].stem.removeprefix("step_"))
            samples[f"{label}\nstep {step:,}"] = sinks.read_picture(drawn[-1])
    return shown | ({"samples": pictures.side_by_side(samples)} if samples else {})


def warnings(document: Mapping[str, Any]) -> list[str]:
    """What a reader of the figures has to know, a line each."""
    lines = [
        f"{part}: figures of different protocols cannot be compared and are set apart; "
        "they differ in " + "; ".join(_difference(*item) for item in found["differing"].items())
        for part, found in document["parts"].items()
        if not found["comparable"]
    ]
    return lines + [
        f"{label}: its evaluation does not say what it costs; the command that trained it, "
        "with --mode evaluate, adds that"
        for label, run in document["runs"].items()
        if not run["parameters"]
    ]


def _read(path: Path, fields: Sequence[str]) -> dict[str, Any]:
    try:
        found = sinks.read_json(path)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found.keys() >= set(fields):
        raise InputError(f"{path} is damaged; valid is JSON with {' and '.join(fields)}")
    return found


def _seconds(batch: int, speed: float) -> float:
    """Of one step; a speed so low that the log rounded it to 0 leaves it open."""
    return batch / speed if speed else float("inf")


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def _parts(run: Run) -> dict[str, Mapping[str, Any]]:
    """The parts of its evaluation that hold figures, by name."""
    return {
        name: part
        for name, part in run.evaluation.items()
        if isinstance(part, Mapping) and part.keys() >= {"figures", "protocol"}
    }


def _part(found: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    there = {label: part for label, part in found.items() if part is not None}
    protocols = {label: part["protocol"] for label, part in there.items()}
    methods = [figures.method(protocol) for protocol in protocols.values()]
    fields = dict.fromkeys(field for method in methods for field in method)
    differing = {}
    for field in fields:
        values = [method.get(field) for method in methods]
        if any(value != values[0] for value in values):
            differing[field] = {label: protocols.get(label, {}).get(field) for label in found}
    names = dict.fromkeys(name for part in there.values() for name in part["figures"])
    return {
        "comparable": not differing,
        "differing": differing,
        "protocols": protocols,
        "figures": {
            name: {
                label: part["figures"].get(name) if part else None for label, part in found.items()
            }
            for name in names
        },
    }


def _difference(field: str, values: Mapping[str, Any]) -> str:
    return f"{field} ({', '.join(f'{json.dumps(v)} in {k}' for k, v in values.items())})"


def _timed(run: Run) -> list[dict[str, float]]:
    """The history with the minutes trained up to each line."""
    seconds = seconds_trained(run.history, _images_a_turn(run.record["config"]))
    return [{**line, MINUTES: then / 60} for line, then in zip(run.history, seconds, strict=True)]
