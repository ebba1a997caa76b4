"""Writes results.md, performance.md and the table of results in README.md from benchmarks/results.

    python docs/write_results.py

A page is its template, PAGE.in.md, with the fields filled in: `{{table: NAME}}` is a table that a
function of this file makes, `{{RECORD.KEY.KEY}}` or `{{RECORD.KEY.KEY:FORMAT}}` a value of
benchmarks/results/RECORD.json. The table in README.md stands between the lines `<!-- results -->`
and `<!-- /results -->`.
"""

import functools
import json
import operator
import re
import statistics
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

START, END = "<!-- results -->", "<!-- /results -->"

PAGES = ("results", "performance")
PAGE_NOTE = "<!-- `python docs/write_results.py` makes this page of docs/{page}.in.md. -->\n\n"

SUMMARY_NOTE = """\
After +- the standard error; in parentheses the same figure of real images, or of a translation the
error of the mean image. Distances are of a classifier's features: they can be compared only among
runs on one data set, and are not FID, which is of Inception's features."""

Records = Mapping[str, Any]
"""The content of each file of benchmarks/results, by its name without .json."""

SPECS = {"modes": ".2f", "modes_reverse_kl": ".2f", "modes_quality": ".1%", "copied_share": ".1%"}
"""Formats of figures."""

LABELED = {
    "attn_cgan_mnist": {"attn_cgan_mnist": ""},
    "cgan_fashion_mnist": {"cgan_fashion_mnist": ""},
    "attn_cgan_shapes": {
        "attn_cgan_shapes": "",
        "attn_cgan_shapes_bfloat16": "--config.dtype=bfloat16",
        "attn_cgan_shapes_plain_discriminator": "--config.discriminator.attention_at=()",
    },
}
"""Runs of each config with labels: their flags, by the names of their records."""

UNLABELED = {
    "dcgan_mnist": "dcgan_mnist.py",
    "dcgan_mnist_24000": "dcgan_mnist.py --config.num_train_steps=24000",
    "dcgan_mnist_classic": "dcgan_mnist.py:classic",
    "transformer_gan_mnist": "transformer_gan_mnist.py",
}
"""Runs without labels: their configs, by the names of their records."""

EMOJI = {
    "grown_sagan_emoji": "grown_sagan_emoji.py",
    "grown_sagan_emoji_at_once": "grown_sagan_emoji.py:at_once",
    "sagan_emoji": "sagan_emoji.py",
    "sagan_emoji_feature_matching": "sagan_emoji.py:feature_matching",
}
"""Runs on emoji: their configs, by the names of their records."""

PERCEPTUAL = {
    "attn_cyclegan_shapes_3000": "attn_cyclegan_shapes.py",
    "attn_cyclegan_shapes_perceptual": "attn_cyclegan_shapes.py:perceptual",
}
"""Runs of 3,000 steps with and without LPIPS in the cycle, by the names of their records."""

RIVALS = {
    "eager": ("race_cpu", "eager"),
    "torch.compile": ("race_cpu", "compiled"),
    "eager, once more": ("race_cpu_again", "eager"),
    "eager in bfloat16": ("race_cpu_first", "bfloat16"),
}
"""Columns of the race by their names: a record, and a side in it."""

SUMMARY = {
    "attn_cgan_mnist": ("conditional GAN with attention", "MNIST", "classifier"),
    "cgan_fashion_mnist": ("conditional GAN", "Fashion-MNIST", "classifier"),
    "attn_cgan_shapes": ("conditional GAN with attention", "drawn shapes", "classifier"),
    "dcgan_mnist": ("DCGAN", "MNIST, without labels", "classifier"),
    "transformer_gan_mnist": ("GAN of two Transformers", "MNIST, without labels", "classifier"),
    "sagan_folder": ("self-attention GAN", "apple leaves", "classifier"),
    "attn_cyclegan_shapes": ("CycleGAN with attention", "two styles of shapes", "translation"),
}
"""Experiment, data, and part of the evaluation, by the name of a config."""

SUMMARY_FIGURES = {
    "conditional_accuracy": "accuracy",
    "frechet_distance": "distance",
    "recall": "recall",
    "mae_a2b": "error, warm to cool",
    "mae_b2a": "error, cool to warm",
}


def read_records(root: Path = ROOT) -> Records:
    files = sorted((root / "benchmarks" / "results").glob("*.json"))
    return {file.stem: json.loads(file.read_text()) for file in files}


def format_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def format_figure(figures: Mapping[str, float], name: str) -> str:
    """Returns text such as "0.988 +- 0.001 (1.000)", or "-" if the figure was not noted."""
    if name not in figures:
        return "-"
    spec = _spec(name, figures[name])
    text = format(figures[name], spec)
    if f"{name}_error" in figures:
        text += f" +- {figures[f'{name}_error']:{spec}}"
    beside = [figures[each] for each in (f"{name}_real", f"{name}_mean_image") if each in figures]
    return text + "".join(f" ({value:{_spec(name, value)}})" for value in beside)


def _spec(name: str, value: float) -> str:
    if name == "frechet_distance":
        return ".1f" if value >= 10 else ".2f"
    return SPECS.get(name, ".4f" if "mae_" in name else ".3f")


def _format_figures(figures: Mapping[str, float], *names: str) -> list[str]:
    return [format_figure(figures, name) for name in names]


def format_time(time: Mapping[str, Any]) -> str:
    """Returns text such as "16.7 min" or "1 min 40 s"."""
    seconds = f" {time['seconds']} s" if "seconds" in time else ""
    return f"{time['minutes']:g} min{seconds}"


def labeled(records: Records) -> str:
    """Returns the table of conditional GANs; all rows of a config have the same real images."""
    names = ("conditional_accuracy", "class_f1_worst", "frechet_distance", "precision", "recall")
    rows = []
    for config, runs in LABELED.items():
        figures = {name: records[name]["classifier"]["figures"] for name in runs}
        real = {name: value for name, value in figures[config].items() if name.endswith("_real")}
        recorded = [
            {
                "run": f"`{f'{config}.py {flags}'.strip()}`",
                "figures": figures[name],
                **records["times"][name],
            }
            for name, flags in runs.items()
        ]
        for run in (*recorded, *records["hand_noted"][config].values()):
            cells = _format_figures(run["figures"] | real, *names)
            rows.append((run["run"], run["machine"], format_time(run), *cells))
    heads = ("run", "machine", "time", "conditional accuracy", "worst F1", "Frechet distance")
    return format_table((*heads, "precision", "recall"), rows)


def unlabeled(records: Records) -> str:
    rows = []
    for run, config in UNLABELED.items():
        part, time = records[run]["classifier"], records["times"][run]
        shares = part["tables"]["mode_shares"]
        names = ("confidence", "frechet_distance", "precision", "recall")
        cells = (
            f"{min(shares):.1%} to {max(shares):.1%}",
            *_format_figures(part["figures"], *names),
        )
        rows.append((f"`{config}`", time["machine"], format_time(time), *cells))
    heads = ("run", "machine", "time", "share of each digit", "mean confidence", "Frechet distance")
    return format_table((*heads, "precision", "recall"), rows)


def cost(records: Records) -> str:
    rows = []
    for run, config in UNLABELED.items():
        record, time = records[run], records["times"][run]
        parameters = record["cost"]["parameters"]
        sizes = [f"{parameters[player]:,}" for player in ("discriminator", "generator")]
        flops = f"{record['cost']['flops_a_step'] / 1e9:.2f}"
        step = f"{time['seconds_per_step']:.3f} ({time['machine']})"
        rows.append(
            (f"`{config}`", f"{record['step']:,} x {time['batch_size']}", *sizes, flops, step)
        )
    heads = ("run", "steps x batch", "parameters, discriminator", "parameters, generator")
    return format_table((*heads, "GFLOP per step", "seconds per step"), rows)


def emoji(records: Records) -> str:
    rows = []
    for run, config in EMOJI.items():
        part, time = records[run]["classifier"], records["times"][run]
        names = ("frechet_distance", "precision", "recall", "copied_share")
        cells = _format_figures(part["figures"], *names)
        steps = f"{records[run]['step']:,} x {time['batch_size']}"
        rows.append((f"`{config}`", steps, time["machine"], format_time(time), *cells))
    heads = ("run", "steps x batch", "machine", "time", "Frechet distance", "precision", "recall")
    return format_table((*heads, "copies"), rows)


def leaves(records: Records) -> str:
    record, time = records["sagan_folder"], records["times"]["sagan_folder"]
    part = record["classifier"]
    times = (time["machine"], format_time(time), f"{part['timing']['seconds']:.0f} s")
    names = ("frechet_distance", "precision", "recall", "copied_share")
    row = (f"{record['step']:,}", *times, *_format_figures(part["figures"], *names))
    heads = ("steps", "machine", "time", "evaluation", "Frechet distance", "precision", "recall")
    return format_table((*heads, "copies"), [row])


def translation(records: Records) -> str:
    figures = records["attn_cyclegan_shapes"]["translation"]["figures"]
    ways = {"warm to cool": ("mae_a2b", "cycle_mae_a"), "cool to warm": ("mae_b2a", "cycle_mae_b")}
    rows = [
        (way, *_format_figures(figures, mae, f"{mae}_identity", f"{mae}_untrained", cycle))
        for way, (mae, cycle) in ways.items()
    ]
    return format_table(("", "translated (mean image)", "as it is", "untrained", "cycle"), rows)


def perceptual_cycle(records: Records) -> str:
    names = ("a2b", "b2a", "cycle_a", "cycle_b")
    rows = []
    for run, config in PERCEPTUAL.items():
        record, time = records[run], records["times"][run]
        maes = (f"mae_{name}" if "2" in name else name.replace("_", "_mae_") for name in names)
        lpips = (f"lpips_{name}" if "2" in name else name.replace("_", "_lpips_") for name in names)
        parts = ("translation", maes), ("lpips", lpips)
        for part, figures in parts:
            values = [f"{record[part]['figures'][name]:.4f}" for name in figures]
            measure = "mean absolute difference" if part == "translation" else "LPIPS"
            rows.append((f"`{config}`", format_time(time), measure, *values))
    heads = ("run", "time", "distance", "warm to cool", "cool to warm", "cycle of warm")
    return format_table((*heads, "cycle of cool"), rows)


def ring(records: Records) -> str:
    rows = []
    for variant, record in records["ring_short"].items():
        time = records["times"]["ring_short"][variant]
        names = ("modes", "modes_quality", "modes_reverse_kl")
        cells = _format_figures(record["modes"]["figures"], *names)
        rows.append((f"`{variant}+short`", time["machine"], format_time(time), *cells))
    heads = ("variant", "machine", "time", "modes", "high quality", "reverse KL")
    return format_table(heads, rows)


def attention(records: Records) -> str:
    heads = ("side", "pass", "GiB at once", "GiB in blocks", "ms at once", "ms in blocks")
    text = "{side}|{pass}|{gib_at_once:.3f}|{gib_in_blocks:.3f}|{ms_at_once:.2f}|{ms_in_blocks:.2f}"
    rows = records["speed"]["attention"]["rows"]
    return format_table(heads, [text.format(**row).split("|") for row in rows])


def speed(records: Records) -> str:
    rows = []
    for row in records["speed"]["rows"]:
        value = " to ".join(map(str, row["values"]))
        rows.append((row["measured"], row["machine"], f"{value} {row['unit']}", row["source"]))
    return format_table(("measured", "machine", "result", "by"), rows)


def race(records: Records) -> str:
    """Returns the times of steps, and their ratios to gaxn's; of "-" a side failed."""
    results, rows = records["race_cpu"]["rows"], []
    for name, row in results.items():
        ratios = (_ratio(records[r]["rows"][name].get(side, {})) for r, side in RIVALS.values())
        use = (f"{row[side]['utilization']:.0%}" for side in ("gaxn", "eager"))
        rows.append((name, f"{row['gaxn']['seconds'] * 1e3:.1f}", *ratios, *use))
    means = (_mean_ratio(records[r]["rows"], side) for r, side in RIVALS.values())
    rows.append(("geometric mean", "", *means, "", ""))
    heads = ("row", "gaxn, ms", *RIVALS, "use, gaxn", "use, eager")
    return format_table(heads, rows)


def _ratio(figures: Mapping[str, Any]) -> str:
    """Returns text such as "1.04 (0.99 to 1.06)", or "-" without figures."""
    if "ratio" not in figures:
        return "-"
    low, high = figures["ratio_range"]
    return f"{figures['ratio']:.2f} ({low:.2f} to {high:.2f})"


def _mean_ratio(results: Mapping[str, Any], side: str) -> str:
    ratios = [row[side]["ratio"] for row in results.values() if "ratio" in row.get(side, {})]
    return f"{statistics.geometric_mean(ratios):.2f}" if len(ratios) == len(results) else "-"


def race_starts(records: Records) -> str:
    rows = []
    for name, row in records["race_cpu"]["rows"].items():
        sides = [row["gaxn"], row["eager"]]
        calls = " / ".join(f"{side['first_call_s']:.1f}" for side in sides)
        starts = " / ".join(f"{side['first_step_s']:.1f}" for side in sides)
        peaks = " / ".join(f"{side['peak_bytes'] / 2**20:,.0f}" for side in sides)
        rows.append((name, calls, starts, peaks))
    heads = ("row", "first call, s", "start to first step, s", "peak memory, MiB")
    return format_table(heads, rows)


def evaluation_speed(records: Records) -> str:
    record = records["evaluation_cpu"]
    inception, rows = record["inception"], []
    cells = (
        f"{inception['images_per_second'][s]:.1f} images/s" for s in ("gaxn", "torch_fidelity")
    )
    images = f"Inception, {inception['images']:,} images"
    rows.append((images, "torch-fidelity", *cells, f"{inception['ratio']:.2f}", "-", "-"))
    for row in record["metrics"]:
        times = (f"{row['seconds'][side]:.1f} s" for side in ("gaxn", row["side"]))
        ratios = (f"{row[f'{ratio}_ratio']:.2f}" for ratio in ("time", "work", "memory"))
        name = f"{row['metric'].replace('_', ' ')}, {row['features']:,} features"
        rows.append((name, row["side"].replace("_", "-"), *times, *ratios))
    heads = ("", "against", "gaxn", "the other", "ratio of time", "of work", "of memory")
    return format_table(heads, rows)


def input_waiting(records: Records) -> str:
    """Returns the share of steps that wait for their batches, by config and source."""
    rows = [
        (
            f"`{row['config']}`",
            row["kind"].replace("_", ", "),
            f"{row['images_per_second']:,.0f}",
            f"{row['needed_per_second']:,.0f}",
            f"{row['step_ms']:.0f}",
            f"{row['waiting_share']:.1%}",
        )
        for row in records["input"]["rows"]
    ]
    heads = ("config", "source", "images a second", "needed", "step, ms", "waits")
    return format_table(heads, rows)


def scaling(records: Records) -> str:
    rows = []
    for row in records["scaling"]["rows"]:
        sums, gathers = (row["collectives"][kind] for kind in ("all-reduce", "all-gather"))
        rows.append(
            (
                f"`{row['config']}`",
                row["parallel"],
                str(row["devices"]),
                f"{row['work']:.2f}",
                f"{row['state_bytes_a_device'] / 1e6:.2f}",
                f"{row['memory_bytes'] / 1e6:.2f}",
                f"{sums['operations']} x, {sums['bytes']:,} B",
                f"{gathers['operations']} x, {gathers['bytes']:,} B",
                str(row["collectives"]["all-to-all"]["operations"]),
            )
        )
    heads = ("config", "parallel", "devices", "work", "state, MB", "memory, MB", "sums", "gathered")
    return format_table((*heads, "all-to-all"), rows)


def scaling_on_paper(records: Records) -> str:
    rows = [
        (
            f"`{row['config']}`",
            f"{row['bytes'] / 1e6:.2f} MB, {row['operations']} x",
            *(
                f"{figures['all_reduce_ms']:.2f} ms, {figures['efficiency']:.1%}"
                for figures in row["accelerators"].values()
            ),
        )
        for row in records["scaling"]["on_paper"]
    ]
    counts = records["scaling"]["on_paper"][0]["accelerators"]
    heads = ("config", "summed", *(f"{count} accelerators" for count in counts))
    return format_table(heads, rows)


def summary(records: Records) -> str:
    """Returns the table of README.md, and what its figures are."""
    rows = []
    for config, (experiment, data, part) in SUMMARY.items():
        figures, time = records[config][part]["figures"], records["times"][config]
        cells = [
            f"{label} {format_figure(figures, name)}"
            for name, label in SUMMARY_FIGURES.items()
            if name in figures
        ]
        place = f"{format_time(time)}, {time['machine']}"
        rows.append((f"`{config}.py`", experiment, data, place, "; ".join(cells)))
    heads = ("config", "experiment", "data", "time, machine", "figures")
    return f"{format_table(heads, rows)}\n\n{SUMMARY_NOTE}"


TABLES = {
    make.__name__: make
    for make in (
        *(
            labeled,
            unlabeled,
            cost,
            leaves,
            emoji,
            translation,
            perceptual_cycle,
            ring,
            attention,
            speed,
        ),
        *(race, race_starts, evaluation_speed, input_waiting, scaling, scaling_on_paper),
    )
}


def make_page(page: str, template: str, records: Records) -> str:
    """Returns the template of a page with its fields filled in."""

    def fill(field: re.Match) -> str:
        kind, _, name = field[1].partition(": ")
        if kind == "table":
            return TABLES[name](records)
        path, _, spec = field[1].partition(":")
        steps = (int(step) if step.isdecimal() else step for step in path.split("."))
        return format(functools.reduce(operator.getitem, steps, records), spec)

    paragraphs = []
    for paragraph in template.strip().split("\n\n"):
        text = re.sub(r"\{\{(.+?)\}\}", fill, paragraph)
        is_prose = text != paragraph and not text.startswith("|")
        paragraphs.append(textwrap.fill(text, 100, break_on_hyphens=False) if is_prose else text)
    return PAGE_NOTE.format(page=page) + "\n\n".join(paragraphs) + "\n"


def insert_summary(readme: str, records: Records) -> str | None:
    """Returns README.md with a new text between the marker lines; None if it does not have them."""
    text = f"{START}\n{summary(records)}\n{END}"
    new, count = re.subn(rf"(?ms)^{START}$.*?^{END}$", lambda _: text, readme)
    return new if count else None


def main(root: Path = ROOT) -> int:
    records, readme = read_records(root), root / "README.md"
    for page in PAGES:
        template = (root / "docs" / f"{page}.in.md").read_text()
        (root / "docs" / f"{page}.md").write_text(make_page(page, template, records))
    text = insert_summary(readme.read_text(), records)
    if text is None:
        print(f"README.md has no lines {START} and {END}: it is unchanged", file=sys.stderr)
        return 1
    readme.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
