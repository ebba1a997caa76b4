"""Trains every combination of configs, overrides and seeds, and tabulates the results.

    python launch/sweep.py --runs runs/sweep --config configs/attn_cgan_shapes.py:tiny \\
        --seeds 0-2 --set batch_size=32,64 --set "generator.widths=(64,32),(32,16)"

prints one command per run. `--local 2` runs them here, two at a time; `--slurm FILE` writes a batch
script with one array task per run (sbatch FILE). Both go on where they stopped: a run that is done
says so. `--table` makes one table of the runs that are evaluated, RUNS/sweep.md and .json: one row
per config and overrides, each figure the mean over seeds and its standard error.
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

from gaxn.evaluation import comparison, figures
from gaxn.io import files
from gaxn.metrics.statistics.standard_errors import standard_error
from gaxn.types import InputError, check

BATCH_SCRIPT = """\
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
# The script would train the seed of the array's task; each run has a seed already.
unset SLURM_ARRAY_TASK_ID
exec bash {script} "${{run[@]}}"
"""

SCRIPT = Path(__file__).resolve().with_name("slurm.sbatch")


class Run(NamedTuple):
    """One run of a sweep.

    Attributes:
        group: its config and overrides, without the seed.
        workdir: its directory.
        arguments: of gaxn.main.
    """

    group: str
    workdir: Path
    arguments: tuple[str, ...]

    def command(self, python: str = "python") -> list[str]:
        """Returns the command that trains it."""
        return [python, "-m", "gaxn.main", *self.arguments]


def make_runs(
    root: Path, configs: Sequence[str], overrides: Mapping[str, Sequence[str]], seeds: Iterable[int]
) -> list[Run]:
    """Returns every combination, in the order given; the seed varies fastest."""
    runs = []
    for config, *values in itertools.product(configs, *overrides.values()):
        chosen = dict(zip(overrides, values, strict=True))
        file, _, variant = config.partition(":")
        parts = [
            Path(file).stem,
            *filter(None, [variant]),
            *(f"{k}={v}" for k, v in chosen.items()),
        ]
        group = ",".join(parts)
        flags = [f"--config.{field}={value}" for field, value in chosen.items()]
        for seed in seeds:
            workdir = root / group.replace("/", "_") / f"seed_{seed}"
            arguments = (
                f"--config={config}",
                f"--workdir={workdir}",
                *flags,
                f"--config.seed={seed}",
            )
            runs.append(Run(group, workdir, arguments))
    places = [run.workdir for run in runs]
    twice = next((place for place in places if places.count(place) > 1), None)
    expected = "of one run each; give files of other names, and each value once"
    check("the directories of the sweep", str(twice), twice is None, expected)
    return runs


def run_locally(runs: Sequence[Run], workers: int) -> int:
    """Runs them here, `workers` at a time, each with its output in a file beside its directory.

    Returns:
        The largest exit status. A process that a signal ended has 128 and the signal's number, as
        in a shell: 134 after SIGABRT.
    """

    def start(run: Run) -> int:
        run.workdir.parent.mkdir(parents=True, exist_ok=True)
        log = run.workdir.with_suffix(".txt")
        with log.open("a") as output:
            command = run.command(sys.executable)
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
        status = code if code >= 0 else 128 - code
        print(f"{run.workdir}: {'done' if status == 0 else f'status {status}, see {log}'}")
        return status

    with ThreadPoolExecutor(workers) as threads:
        return max(threads.map(start, runs))


def tabulate(runs: Sequence[Run]) -> tuple[dict[str, Any], str]:
    """Returns the figures of the runs that are evaluated, and the same as Markdown.

    Raises:
        InputError: no run is evaluated, or two were measured in different ways.
    """
    document: dict[str, Any] = {}
    methods: dict[str, dict[str, Any]] = {}
    for group, members in itertools.groupby(runs, key=lambda run: run.group):
        values: dict[str, list[float]] = {}
        seeds = 0
        for run in members:
            path = run.workdir / "evaluation.json"
            if not path.exists():
                continue
            seeds += 1
            for part, result in files.read_json(path).items():
                if not isinstance(result, dict) or "figures" not in result:
                    continue
                method = figures.method(result["protocol"])
                if methods.setdefault(part, method) != method:
                    raise InputError(f"{path} was measured in another way than others ({part})")
                for name, value in result["figures"].items():
                    if value is not None and not figures.is_error(name, result["figures"]):
                        values.setdefault(f"{part}/{name}", []).append(value)
        document[group] = {"seeds": seeds, "figures": {n: _mean(v) for n, v in values.items()}}
    if not any(row["seeds"] for row in document.values()):
        raise InputError("no run of the sweep has been evaluated yet; train them first")
    names = dict.fromkeys(name for row in document.values() for name in row["figures"])
    rows = {"seeds": [str(row["seeds"]) for row in document.values()]} | {
        name: [_format(row["figures"].get(name)) for row in document.values()] for name in names
    }
    return document, comparison.format_table("", list(document), rows)


def _mean(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "error": standard_error(np.array(values))}


def _format(figure: Mapping[str, float] | None) -> str:
    return (
        comparison.MISSING if figure is None else f"{figure['mean']:.4f} +- {figure['error']:.4f}"
    )


def _parse_seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    numbers = first.isdecimal() and (last.isdecimal() if last else "-" not in text)
    check("--seeds", text, numbers and int(first) <= int(last or first), "N, or FIRST-LAST")
    return list(range(int(first), int(last or first) + 1))


def _parse_overrides(texts: Sequence[str]) -> dict[str, list[str]]:
    overrides: dict[str, list[str]] = {}
    for text in texts:
        field, _, values = text.partition("=")
        check("--set", text, bool(field and values), "FIELD=VALUE[,VALUE ...]")
        check("--set", text, field not in overrides, "given once per field")
        overrides[field] = _split(values)
    return overrides


def _split(text: str) -> list[str]:
    """Splits values at the commas that are in no brackets and no quotes."""
    values, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            values.append("")
            continue
        values[-1] += character
    check("--set", text, depth == 0 and not quote and all(values), "values with closed brackets")
    return values


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise InputError(f"{message}; see python launch/sweep.py --help")


def main(argv: Sequence[str]) -> int:
    """Runs one command line; returns its exit status, 2 for a mistake of the user's."""
    parser = _Parser("launch/sweep.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--runs", type=files.expand, required=True, help="the directory of all runs"
    )
    parser.add_argument(
        "--config", action="append", required=True, help="a config; may be repeated"
    )
    parser.add_argument("--seeds", default="0", help="N, or FIRST-LAST; default: 0")
    parser.add_argument("--set", action="append", default=[], help="FIELD=VALUE[,VALUE ...]")
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--local", type=int, metavar="N", help="run them here, N at a time")
    actions.add_argument(
        "--slurm", type=files.expand, metavar="FILE", help="write a Slurm array of them"
    )
    actions.add_argument("--table", action="store_true", help="tabulate those that are evaluated")
    try:
        options = parser.parse_args(argv)
        overrides, seeds = _parse_overrides(options.set), _parse_seeds(options.seeds)
        runs = make_runs(options.runs, options.config, overrides, seeds)
        if options.table:
            document, text = tabulate(runs)
            files.write_json(options.runs / "sweep.json", document)
            files.write_bytes(options.runs / "sweep.md", text.encode())
            print(text, end="")
        elif options.local is not None:
            check("--local", options.local, options.local >= 1, "1 or more")
            return run_locally(runs, options.local)
        elif options.slurm:
            files.check_writable(options.slurm, "--slurm")
            lines = "\n".join(f"    {shlex.quote(shlex.join(run.arguments))}" for run in runs)
            script = shlex.quote(str(SCRIPT))
            text = BATCH_SCRIPT.format(last=len(runs) - 1, runs=lines, script=script)
            files.write_bytes(options.slurm, text.encode())
            print(f"{options.slurm}: {len(runs)} runs; sbatch {options.slurm}")
        else:
            print(*(shlex.join(run.command()) for run in runs), sep="\n")
    except KeyboardInterrupt:
        print("sweep: interrupted; the same command goes on", file=sys.stderr)
        return 130
    except (InputError, OSError, json.JSONDecodeError) as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
