"""Comparison of runs, from the files in their directories.

Figures that were measured in different ways cannot be compared: they are listed apart, with the
fields in which their protocols differ.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from gaxn.evaluation import figures
from gaxn.evaluation.report import write_comparison
from gaxn.evaluation.report.curves import seconds_trained, step_seconds
from gaxn.io import files, plots
from gaxn.io.run_directory import read_run_record
from gaxn.types import InputError

CURVES = ("d/adversarial", "g/loss", "d/real", "d/fake")

MINUTES = "minutes trained"

MISSING = "-"
"""The text of a value that a run does not have."""


class Run(NamedTuple):
    """The content of config.json, evaluation.json (the last evaluation) and metrics.jsonl."""

    workdir: Path
    record: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]


def compare(workdirs: Sequence[Path], workdir: Path) -> int:
    """Writes comparison.json, comparison.md, report.html and pictures; prints the table.

    Args:
        workdirs: the directories of two or more runs.
        workdir: the directory for the comparison.

    Raises:
        InputError: a directory holds no evaluated run, or `workdir` holds a run.
    """
    if (workdir / "config.json").exists():
        raise InputError(f"--workdir {workdir} holds a run; name another for the comparison")
    runs = dict(zip(make_labels(workdirs), map(read_run, workdirs), strict=True))
    document = make_document(runs)
    text, pictures = format_document(document), draw(runs)
    files.write_json(workdir / "comparison.json", document)
    files.write_bytes(workdir / "comparison.md", text.encode())
    for name, picture in pictures.items():
        files.write_png(workdir / f"{name}.png", picture)
    write_comparison(workdir, {label: run.workdir for label, run in runs.items()}, table(document))
    for warning in warnings(document):
        print(f"gaxn: {warning}", file=sys.stderr)
    print(text, end="")
    return 0


def make_labels(workdirs: Sequence[Path]) -> list[str]:
    """Returns the shortest ends of the paths that are all different.

    Raises:
        InputError: two paths are the same directory.
    """
    paths = [path.resolve().parts for path in workdirs]
    for index, parts in enumerate(paths):
        if parts in paths[:index]:
            raise InputError(f"{workdirs[index]} is given twice; the runs must be different")
    for length in range(1, max(map(len, paths)) + 1):
        labels = [str(Path(*parts[-length:])) for parts in paths]
        if len(set(labels)) == len(labels):
            break
    return labels


def read_run(workdir: Path) -> Run:
    """Returns the content of the directory of an evaluated run.

    Raises:
        InputError: there is no run of a GAN, it is not evaluated, or a file is damaged.
    """
    record = read_run_record(workdir)
    path = workdir / "evaluation.json"
    if not path.exists():
        raise InputError(
            f"{workdir} is not evaluated; the command that trained it, with --mode evaluate, "
            "does so"
        )
    if not record["config"].keys() >= {"seed", "batch_size"}:
        raise InputError(f"{workdir} must hold a run of a GAN; its config has no batch_size")
    try:
        evaluation = files.read_json(path)
    except ValueError:
        evaluation = None
    if not isinstance(evaluation, dict) or not evaluation.keys() >= {"name", "step"}:
        raise InputError(f"{path} is damaged: it must be JSON with name and step")
    path = workdir / "metrics.jsonl"
    # The line of step 0 was written before training.
    lines = files.read_lines(path)
    history = [line for line in lines if line.get("step") != 0]
    is_garbage = not lines and path.exists() and path.stat().st_size > 0
    if is_garbage or not all(line.keys() >= {"step", "images_per_second"} for line in history):
        raise InputError(f"{path} is damaged: its lines must have step and images_per_second")
    return Run(workdir, record, evaluation, history)


def facts(run: Run) -> dict[str, Any]:
    """Returns the settings and the costs of a run; None for what its files do not say.

    The seconds of a step are the median over the lines of the log, without compilation and
    pauses; the seconds trained are the sum over all lines, with both. The number of images is
    that of one player update per step, as in `images_per_second`.
    """
    config, step = run.record["config"], run.evaluation["step"]
    cost = run.evaluation.get("cost", {})
    history = [line for line in run.history if line["step"] <= step]
    images = _images_per_step(config)
    trained = seconds_trained(history, images)
    seconds = [step_seconds(images, line["images_per_second"]) for line in history]
    return {
        "workdir": str(run.workdir),
        "name": run.evaluation["name"],
        "seed": config["seed"],
        "step": step,
        "batch": config["batch_size"],
        "images": step * images,
        "devices": run.record.get("devices", []),
        "parameters": cost.get("parameters", {}),
        "flops_a_step": cost.get("flops_a_step"),
        "seconds_a_step": _finite_or_none(median(seconds)) if seconds else None,
        "seconds_trained": _finite_or_none(trained[-1]) if trained else None,
    }


def make_document(runs: Mapping[str, Run]) -> dict[str, Any]:
    """Returns the comparison, ready for JSON.

    Args:
        runs: by label.

    Returns:
        "runs", the facts of each run by label; and "parts", for each part of the evaluations:
        "figures" by name and label, None if a run lacks the figure; "protocols" by label;
        "differing", the fields in which the protocols differ, with their values by label; and
        "comparable", whether there are no such fields.
    """
    evaluations = {label: _parts(run) for label, run in runs.items()}
    names = dict.fromkeys(name for parts in evaluations.values() for name in parts)
    return {
        "runs": {label: facts(run) for label, run in runs.items()},
        "parts": {
            name: _compare_part({label: parts.get(name) for label, parts in evaluations.items()})
            for name in names
        },
    }


def format_document(document: Mapping[str, Any]) -> str:
    """Returns the comparison as Markdown: a row per fact or figure, a column per run.

    Figures of different protocols are the last rows, marked by the letter of their protocol. The
    fields in which the protocols differ follow as tables.
    """
    labels = list(document["runs"])
    rows, last_rows, notes = _fact_rows(document), {}, []
    for name, part in document["parts"].items():
        part_rows = {f"{name}/{k}": cells for k, cells in _figure_rows(part, labels).items()}
        if part["comparable"]:
            rows |= part_rows
            continue
        last_rows |= part_rows
        letters = _protocol_letters(part, labels)
        fields = {
            field: [MISSING if values[n] is None else json.dumps(values[n]) for n in labels]
            for field, values in part["differing"].items()
        }
        heads = [label + letters[label] for label in labels]
        notes.append(
            f"The figures of {name} were measured under different protocols; only those of one "
            f"letter can be compared:\n\n{format_table(f'protocol of {name}', heads, fields)}"
        )
    if last_rows:
        rows["**NOT COMPARABLE, see below:**"] = [""] * len(labels)
    return "\n".join([format_table("", labels, rows | last_rows), *notes])


def table(document: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the comparison as rows of text for a report, in groups, and notes on it."""
    labels = list(document["runs"])
    groups = {"runs": _fact_rows(document)}
    # Comparable figures first.
    for name, part in sorted(document["parts"].items(), key=lambda item: not item[1]["comparable"]):
        title = name if part["comparable"] else f"{name}: comparable only if the letter is the same"
        groups[title] = _figure_rows(part, labels)
    return {
        "columns": labels,
        "rows": [
            {"name": name, "values": cells, "group": group}
            for group, rows in groups.items()
            for name, cells in rows.items()
        ],
        "notes": warnings(document),
    }


def _fact_rows(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the cells of each fact, a column per run."""
    facts = [_format_facts(run) for run in document["runs"].values()]
    names = dict.fromkeys(name for texts in facts for name in texts)
    return {name: [texts.get(name, MISSING) for texts in facts] for name in names}


def _figure_rows(part: Mapping[str, Any], labels: Sequence[str]) -> dict[str, list[str]]:
    """Returns the cells of each figure of a part, a column per run, each with its letter."""
    letters = _protocol_letters(part, labels)
    texts = {
        label: figures.format_figures({n: values[label] for n, values in part["figures"].items()})
        for label in labels
    }
    names = dict.fromkeys(name for each in texts.values() for name in each)
    return {
        name: [
            texts[label][name] + letters[label] if name in texts[label] else MISSING
            for label in labels
        ]
        for name in names
    }


def format_table(corner: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Returns a Markdown table whose columns also align as plain text.

    Args:
        corner: the head of the first column, which has the names of the rows.
        heads: of the other columns.
        rows: the cells of each row by its name.
    """
    lines = [[corner, *heads], *([name, *cells] for name, cells in rows.items())]
    head, *body = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    alignment = ["left", *["right"] * len(heads)]
    return tabulate(body, head, "pipe", disable_numparse=True, colalign=alignment) + "\n"


def draw(runs: Mapping[str, Run]) -> dict[str, np.ndarray]:
    """Returns "curves", the curves of all runs, and "samples", the last samples of each.

    A picture is left out if no run has anything for it.
    """
    histories = {label: _add_minutes(run) for label, run in runs.items()}
    logged = {name for history in histories.values() for line in history for name in line}
    names = [name for name in CURVES if name in logged]
    pictures = {}
    if names:
        pictures["curves"] = plots.compare_curves(histories, names, ("step", MINUTES))
    samples = {}
    for label, run in runs.items():
        paths = sorted((run.workdir / "samples").glob("step_*.png"))
        if paths:
            step = int(paths[-1].stem.removeprefix("step_"))
            samples[f"{label}\nstep {step:,}"] = files.read_png(paths[-1])
    if samples:
        pictures["samples"] = plots.side_by_side(samples)
    return pictures


def warnings(document: Mapping[str, Any]) -> list[str]:
    """Returns warnings about the figures, one line each."""
    lines = []
    for name, part in document["parts"].items():
        differences = (
            f"{field} ({', '.join(f'{json.dumps(v)} in {label}' for label, v in values.items())})"
            for field, values in part["differing"].items()
        )
        if not part["comparable"]:
            lines.append(
                f"{name}: figures of different protocols cannot be compared and are listed apart; "
                f"they differ in {'; '.join(differences)}"
            )
    return lines + [
        f"{label}: its evaluation has no costs; the command that trained it, with --mode evaluate, "
        "adds them"
        for label, run in document["runs"].items()
        if not run["parameters"]
    ]


def _images_per_step(config: Mapping[str, Any]) -> int:
    """Returns the images of one update of all members of a population."""
    return config["batch_size"] * config.get("population", 1)


def _finite_or_none(value: float) -> float | None:
    return value if isfinite(value) else None


def _add_minutes(run: Run) -> list[dict[str, float]]:
    """Returns the history with the minutes of training up to each line."""
    seconds = seconds_trained(run.history, _images_per_step(run.record["config"]))
    return [{**line, MINUTES: time / 60} for line, time in zip(run.history, seconds, strict=True)]


def _parts(run: Run) -> dict[str, Mapping[str, Any]]:
    """Returns the parts of an evaluation that have figures, by name."""
    return {
        name: part
        for name, part in run.evaluation.items()
        if isinstance(part, Mapping) and part.keys() >= {"figures", "protocol"}
    }


def _compare_part(parts: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    """Returns one part of the document from that part of each run's evaluation, by label."""
    present = {label: part for label, part in parts.items() if part is not None}
    protocols = {label: part["protocol"] for label, part in present.items()}
    methods = [figures.method(protocol) for protocol in protocols.values()]
    differing = {
        field: {label: protocols.get(label, {}).get(field) for label in parts}
        for field in dict.fromkeys(field for method in methods for field in method)
        if any(method.get(field) != methods[0].get(field) for method in methods)
    }
    names = dict.fromkeys(name for part in present.values() for name in part["figures"])
    return {
        "comparable": not differing,
        "differing": differing,
        "protocols": protocols,
        "figures": {
            name: {
                label: part["figures"].get(name) if part else None for label, part in parts.items()
            }
            for name in names
        },
    }


def _protocol_letters(part: Mapping[str, Any], labels: Sequence[str]) -> dict[str, str]:
    """Returns " [A]" for runs of the first protocol, " [B]" for the next; "" if all are equal."""
    protocols = {
        label: json.dumps([values[label] for values in part["differing"].values()])
        for label in part["protocols"]
        if not part["comparable"]
    }
    order = list(dict.fromkeys(protocols.values()))
    return {
        label: f" [{chr(ord('A') + order.index(protocols[label]))}]" if label in protocols else ""
        for label in labels
    }


def _format_facts(run: Mapping[str, Any]) -> dict[str, str]:
    flops, step, trained = run["flops_a_step"], run["seconds_a_step"], run["seconds_trained"]
    return {
        "directory": run["workdir"],
        "config": run["name"],
        "seed": str(run["seed"]),
        "steps": f"{run['step']:,}",
        "batch": f"{run['batch']:,}",
        "images": f"{run['images']:,}",
        "devices": ", ".join(run["devices"]),
        **{f"parameters, {player}": f"{count:,}" for player, count in run["parameters"].items()},
        "GFLOP per step": MISSING if flops is None else f"{flops / 1e9:,.4g}",
        "seconds per step": MISSING if step is None else f"{step:.3g}",
        MINUTES: MISSING if trained is None else f"{trained / 60:,.1f}",
    }
