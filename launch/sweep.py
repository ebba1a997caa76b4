"""Configs x overrides x seeds: commands, a Slurm array of them, or runs one after the other.

    python launch/sweep.py --runs runs/sweep --config configs/attn_cgan_shapes.py:tiny \\
        --seeds 0-2 --set batch=32,64 --set penalties.r1=0.1,1.0

prints a command a run. With --local 2 they are run here, two at a time; with --slurm FILE a batch
script is written, whose array is those runs (sbatch FILE). Either goes on where it stopped: a run
that is done says so. With --table the runs that are there become one table, RUNS/sweep.md and
.json: a row a config and its overrides, each figure the mean over seeds and its standard error.
"""

import argparse
import itertools
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gaxn import figures, markdown, sinks
from gaxn.statistics import jackknife
from gaxn.types import InputError, require

SLURM = """\
#!/usr/bin/env bash
#SBATCH --job-name=gaxn-sweep
#SBATCH --array=0-{last}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%x-%A-%a.out
#SBATCH --signal=TERM@120
runs=(
{runs}
)
eval "run=(${{runs[$SLURM_ARRAY_TASK_ID]}})"
# Which run it is, the array says here; to the script it is a run like any other.
unset SLURM_ARRAY_TASK_ID
exec bash {script} "${{run[@]}}"
"""

SCRIPT = Path(__file__).resolve().with_name("slurm.sbatch")


class Run(NamedTuple):
    """One run of a sweep.

    Attributes:
        group: its config and overrides, without the seed.
        workdir: where it goes.
        arguments: of gaxn.main.
    """

    group: str
    workdir: Path
    arguments: tuple[str, ...]

    def command(self, python: str = "python") -> list[str]:
        """What trains it."""
        return [python, "-m", "gaxn.main", *self.arguments]


def runs_of(
    root: Path, configs: Sequence[str], overrides: Mapping[str, Sequence[str]], seeds: Iterable[int]
) -> list[Run]:
    """Every combination, in the order given: the seeds innermost."""
    found = []
    for config, *values in itertools.product(configs, *overrides.values()):
        chosen = dict(zip(overrides, values, strict=True))
        name = Path(config.partition(":")[0]).stem
        variant = config.partition(":")[2]
        parts = [name, *filter(None, [variant]), *(f"{k}={v}" for k, v in chosen.items())]
        group = ",".join(parts)
        for seed in seeds:
            workdir = root / group.replace("/", "_") / f"seed_{seed}"
            flags = [f"--config.{field}={value}" for field, value in chosen.items()]
            own = f"--config={config}", f"--workdir={workdir}", *flags, f"--config.seed={seed}"
            found.append(Run(group, workdir, own))
    return found


def run_here(runs: Sequence[Run], at_once: int) -> int:
    """Runs them, so many at a time; their output beside them. Gives the worst exit status."""

    def start(run: Run) -> int:
        run.workdir.parent.mkdir(parents=True, exist_ok=True)
        told = run.workdir.with_suffix(".txt")
        with told.open("a") as output:
            command = run.command(sys.executable)
            status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
        print(f"{run.workdir}: {'done' if status == 0 else f'status {status}, see {told}'}")
        return status

    with ThreadPoolExecutor(at_once) as threads:
        return max(map(abs, threads.map(start, runs)))


def table(runs: Sequence[Run]) -> tuple[dict[str, Any], str]:
    """The figures of the runs that are evaluated, and the same as Markdown.

    Raises:
        InputError: there are none, or two were measured in different ways.
    """
    document: dict[str, Any] = {}
    methods: dict[str, dict[str, Any]] = {}
    for group, members in itertools.groupby(runs, key=lambda run: run.group):
        each: dict[str, list[float]] = {}
        seeds = 0
        for run in members:
            path = run.workdir / "evaluation.json"
            if not path.exists():
                continue
            seeds += 1
            for part, found in sinks.read_json(path).items():
                if not isinstance(found, dict) or "figures" not in found:
                    continue
                own = figures.method(found["protocol"])
                if methods.setdefault(part, own) != own:
                    raise InputError(f"{path} was measured in another way than others ({part})")
                for name, value in found["figures"].items():
                    if value is not None and not name.endswith(figures.ERROR):
                        each.setdefault(f"{part}/{name}", []).append(value)
        document[group] = {"seeds": seeds, "figures": {n: _mean(v) for n, v in each.items()}}
    if not any(found["seeds"] for found in document.values()):
        raise InputError("no run of the sweep has been evaluated yet; train them first")
    names = dict.fromkeys(n for found in document.values() for n in found["figures"])
    rows = {"seeds": [str(found["seeds"]) for found in document.values()]} | {
        name: [_told(found["figures"].get(name)) for found in document.values()] for name in names
    }
    return document, markdown.table("", list(document), rows)


def _mean(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "error": jackknife.of_mean(np.array(values))}


def _told(found: Mapping[str, float] | None) -> str:
    return markdown.ABSENT if found is None else f"{found['mean']:.4f} +- {found['error']:.4f}"


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    holds = first.isdecimal() and (last.isdecimal() if last else "-" not in text)
    require("--seeds", text, holds and int(first) <= int(last or first), "N, or FIRST-LAST")
    return list(range(int(first), int(last or first) + 1))


def _overrides(given: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in given:
        field, _, values = text.partition("=")
        require("--set", text, bool(field and values), "FIELD=VALUE[,VALUE ...]")
        require("--set", text, field not in found, "one a field")
        found[field] = values.split(",")
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise InputError(f"{message}; python launch/sweep.py --help says more")


def main(argv: Sequence[str]) -> int:
    """Runs one command line; returns its exit status, 2 for a mistake of the user's."""
    parser = _Parser("launch/sweep.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=Path, required=True, help="the directory of all runs")
    parser.add_argument(
        "--config", action="append", required=True, help="a config; may be repeated"
    )
    parser.add_argument("--seeds", default="0", help="N, or FIRST-LAST; default: 0")
    parser.add_argument("--set", action="append", default=[], help="FIELD=VALUE[,VALUE ...]")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--local", type=int, metavar="N", help="run them here, N at a time")
    ways.add_argument("--slurm", type=Path, metavar="FILE", help="write an array of them")
    ways.add_argument("--table", action="store_true", help="tabulate those that are there")
    try:
        given = parser.parse_args(argv)
        runs = runs_of(given.runs, given.config, _overrides(given.set), _seeds(given.seeds))
        if given.table:
            document, text = table(runs)
            sinks.write_json(given.runs / "sweep.json", document)
            sinks.write_bytes(given.runs / "sweep.md", text.encode())
            print(text, end="")
        elif given.local is not None:
            require("--local", given.local, given.local >= 1, "1 or more")
            return run_here(runs, given.local)
        elif given.slurm:
            sinks.writable(given.slurm, "--slurm")
            each = (shlex.quote(shlex.join(run.arguments)) for run in runs)
            told = "\n".join(f"    {own}" for own in each)
            script = shlex.quote(str(SCRIPT))
            text = SLURM.format(last=len(runs) - 1, runs=told, script=script)
            sinks.write_bytes(given.slurm, text.encode())
            print(f"{given.slurm}: {len(runs)} runs; sbatch {given.slurm}")
        else:
            print(*(shlex.join(run.command()) for run in runs), sep="\n")
    except InputError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 2
    except (OSError, json.JSONDecodeError) as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
