"""Tables as Markdown that reads well as plain text too."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gaxn import figures

ABSENT = "-"


def comparison(document: Mapping[str, Any]) -> str:
    """What `comparison.tabulate` found: a row a fact or a figure, a column a run.

    Figures of different protocols stand last, beneath a line that says so, each marked by
    the letter of its protocol; what these differ in follows.
    """
    known = document["runs"]
    facts = {label: _facts(run) for label, run in known.items()}
    names = dict.fromkeys(name for run in facts.values() for name in run)
    rows = {name: [run.get(name, ABSENT) for run in facts.values()] for name in names}
    apart, notes = {}, []
    for part, found in document["parts"].items():
        marks = _marks(found, known)
        into = rows if found["comparable"] else apart
        told = {
            label: figures.told({n: values[label] for n, values in found["figures"].items()})
            for label in known
        }
        for name in dict.fromkeys(name for texts in told.values() for name in texts):
            into[f"{part}/{name}"] = [
                f"{told[label][name]}{marks[label]}" if name in told[label] else ABSENT
                for label in known
            ]
        if not found["comparable"]:
            heads = [label + marks[label] for label in known]
            fields = {
                name: [_value(values[label]) for label in known]
                for name, values in found["differing"].items()
            }
            notes.append(
                f"The figures of {part} were taken under different protocols; only those of one "
                f"letter can be compared:\n\n{table(f'protocol of {part}', heads, fields)}"
            )
    if apart:
        rows["**NOT COMPARABLE, see below:**"] = [""] * len(known)
    return "\n".join([table("", list(known), rows | apart), *notes])


def table(corner: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Rows by their name; the names to the left, the cells to the right of their columns."""
    lines = [[corner, *heads], *([name, *cells] for name, cells in rows.items())]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    first, *rest = (
        [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        for line in lines
    )
    return "".join(f"| {' | '.join(line)} |\n" for line in (first, rule, *rest))


def _facts(run: Mapping[str, Any]) -> dict[str, str]:
    flops, step, trained = (
        run[name] for name in ("flops_a_step", "seconds_a_step", "seconds_trained")
    )
    return {
        "directory": run["workdir"],
        "config": run["name"],
        "seed": str(run["seed"]),
        "steps": f"{run['step']:,}",
        "batch": f"{run['batch']:,}",
        "images": f"{run['images']:,}",
        "devices": ", ".join(run["devices"]),
        **{f"parameters, {player}": f"{count:,}" for player, count in run["parameters"].items()},
        "GFLOP a step": ABSENT if flops is None else f"{flops / 1e9:,.4g}",
        "seconds a step": ABSENT if step is None else f"{step:.3g}",
        "minutes trained": ABSENT if trained is None else f"{trained / 60:,.1f}",
    }


def _marks(part: Mapping[str, Any], labels: Iterable[str]) -> dict[str, str]:
    """ " [A]" for runs of the first protocol, " [B]" for the next; nothing where all agree."""
    measured = {
        label: json.dumps([values[label] for values in part["differing"].values()])
        for label in part["protocols"]
        if not part["comparable"]
    }
    order = list(dict.fromkeys(measured.values()))
    return {
        label: f" [{chr(ord('A') + order.index(measured[label]))}]" if label in measured else ""
        for label in labels
    }


def _value(value: Any) -> str:
    return ABSENT if value is None else json.dumps(value)
