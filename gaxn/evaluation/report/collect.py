"""Data of a report: from the files of a run directory to one dict, which page.js draws.

A file that is missing or damaged is left out, so a run of any version has a report.
"""

import base64
import datetime
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from gaxn.config import CONFIG_FOLDERS
from gaxn.evaluation import figures, interpolation
from gaxn.evaluation.report import curves
from gaxn.evaluation.report.pictures import MAX_SIDE, Pictures, cells, thin
from gaxn.evaluation.report.run_state import Json, State, infer_state, read_json, resolve_state
from gaxn.evaluation.translation import DIRECTIONS
from gaxn.io import files, plots, provenance
from gaxn.metrics.statistics.standard_errors import standard_error

MAX_GRIDS, MAX_COMPARED_GRIDS = 60, 24
"""Grids of samples through training, of a run and of each of several."""

MAX_GRID_BYTES = 12_000_000
"""Bytes of all grids of samples in a report; of larger ones there are fewer."""

MAX_ATTENTION_BYTES = 1_500_000
"""Bytes of all attention maps in a report; of larger ones there are fewer images."""

SIDES = (MAX_SIDE, 1_200, 900, 600)
"""Largest sides of grids in pixels; the first with which the chosen ones fit."""

MAX_PIXELS, MIN_GRIDS = 60_000_000, 12
"""Limit on the pixels of all grids (a few seconds), and a number of grids that it never lowers.

`MAX_GRID_BYTES` may still lower the number, to one.
"""

MAX_EXAMPLES = 6
"""Translations that are shown one by one."""

HEADLINES_OF_TRANSLATIONS = (
    *("mae_a2b", "mae_b2a", "mae_a2b_mean_image", "mae_b2a_mean_image"),
    *("cycle_mae_a", "cycle_mae_b"),
)
"""First headlines of an evaluation that does not name its own, of gaxn before 0.4."""

LOWER = re.compile(
    r"(intra_)?frechet_distance|kid_unbiased|modes_reverse_kl|copied_share|sliced_wasserstein"
    r"|((cycle|identity)_)?(mae|lpips)_[ab]\w*|perceptual_path_length|largest_error"
)
HIGHER = re.compile(
    r"conditional_accuracy|class_\w+_worst|precision|recall|density|coverage|inception_score"
    r"|modes|modes_quality"
)
"""Names of figures of which a lower, or a higher one is better."""

ROWS_OF_TRANSLATIONS = 8
"""Rows of a CycleGAN's grid: A, as B, back as A, translated into A as they are; then of B."""


def collect_report(workdir: Path, state: State, pictures: Pictures) -> Json:
    """Returns the data of the report of one run.

    Args:
        workdir: the directory of the run.
        state: of the run.
        pictures: where its pictures are added.
    """
    runs = [collect_run(workdir, state, pictures)]
    differences = {"table": None, "config_differences": None}
    return _with_pictures({"kind": "run", "runs": runs, **differences}, pictures)


def collect_comparison(
    workdirs: Mapping[str, Path], table: Mapping[str, Any], pictures: Pictures
) -> Json:
    """Returns the data of the report of several runs.

    Args:
        workdirs: the directories of the runs, by label.
        table: of their facts and figures: "columns", "rows" and "notes".
        pictures: where their pictures are added.
    """
    bytes_each = MAX_GRID_BYTES // len(workdirs)
    runs, configs = [], []
    for label, workdir in workdirs.items():
        record = read_json(workdir / "config.json")
        grids = _collect_grids(workdir, pictures, MAX_COMPARED_GRIDS, bytes_each)
        best = _find_best(workdir, [grid["step"] for grid in grids])
        samples = {"grids": grids, "best": best, "caption": _describe_grid(record)}
        head = _collect_head(workdir, infer_state(workdir), record, label)
        runs.append({**head, "samples": samples})
        configs.append(_flatten(record.get("config", {})))
    fields = dict.fromkeys(field for config in configs for field in config)
    differences = [
        {"field": field, "values": [_to_text(config.get(field, "-")) for config in configs]}
        for field in fields
        if any(config.get(field) != configs[0].get(field) for config in configs)
    ]
    document = {"kind": "comparison", "runs": runs, "table": table}
    return _with_pictures({**document, "config_differences": differences}, pictures)


def _with_pictures(document: Json, pictures: Pictures) -> Json:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {**document, "generated_at": now, "images": pictures.data}


def collect_run(workdir: Path, state: State, pictures: Pictures) -> Json:
    """Returns the data of one run; the arguments are those of `collect_report`."""
    record = read_json(workdir / "config.json")
    config, parts = record.get("config", {}), _parts(_read_evaluation(workdir))
    return {
        **_collect_head(workdir, state, record, workdir.resolve().name),
        "samples": _collect_samples(workdir, record, parts, pictures),
        "confusion": _collect_confusion(parts),
        "has_captions": bool(record.get("data", {}).get("text")),
        "translation": _collect_translation(workdir, record, parts, pictures),
        "attention": _collect_attention(workdir, pictures),
        "interpolations": _collect_interpolations(workdir, pictures),
        "nearest": _collect_nearest(workdir, parts, pictures),
        "singular_values": _collect_singular_values(parts),
        "population": _collect_population(config, parts),
        "config": _collect_config(record),
        "protocols": [
            {
                "part": name,
                "fields": [
                    {"name": field, "value": _to_text(value)}
                    for field, value in part.get("protocol", {}).items()
                ],
                "figures": list(_collect_figures(part["figures"])),
            }
            for name, part in parts.items()
        ],
    }


def _collect_head(workdir: Path, state: State, record: Json, label: str) -> Json:
    """Returns what the report of one run and of several have in common."""
    config = record.get("config", {})
    history = curves.read_lines(workdir / "metrics.jsonl", curves.MAX_POINTS)
    evaluation = _read_evaluation(workdir)
    name = str(record.get("name", label))
    resolved = resolve_state(state, workdir, config, history)
    return {
        "label": label,
        "name": name,
        "sentence": record.get("sentence") or _find_sentence(name),
        "state": resolved,
        "facts": _collect_facts(workdir, record, evaluation, resolved["step"]),
        "command": record.get("command", ""),
        "headlines": _collect_headlines(evaluation),
        "images_per_step": config.get("batch_size", 0),
        "curves": [
            *curves.collect(history),
            *curves.learning_rates(config, history),
            *curves.collect_evaluations(workdir),
        ],
        "warnings": curves.warnings(history),
    }


def _find_sentence(name: str) -> str:
    """Returns the first line of the config that comes with gaxn by this name; "" without one."""
    # A name from a file could lead anywhere.
    for folder in CONFIG_FOLDERS if re.fullmatch(r"\w+", name) else ():
        if (folder / f"{name}.py").exists():
            return provenance.first_line(folder / f"{name}.py")
    return ""


def _collect_facts(workdir: Path, record: Json, evaluation: Json, step: int) -> list[Json]:
    config, data, cost = (
        record.get("config", {}),
        record.get("data", {}),
        evaluation.get("cost", {}),
    )
    batch, members = config.get("batch_size", 0), config.get("population", 1)
    seed = config.get("seed")
    seconds = curves.time_taken(workdir, batch * members)
    examples = data.get("examples")
    flops = cost.get("flops_a_step")
    each = " by each member" if members > 1 else ""
    named = {
        "config": record.get("name"),
        "data set": data.get("identity") or config.get("data", {}).get("name"),
        "examples": examples and f"{examples[0]:,} for training, {examples[1]:,} for tests",
        "seed": seed if members == 1 or seed is None else f"{seed} to {seed + members - 1}",
        "batch size": batch or None,
        "images seen": f"{step * batch:,}{each}" if batch else None,
        "time of training": None if seconds is None else _format_seconds(seconds),
        "started": record.get("started"),
        **{
            f"parameters, {player}": f"{count:,}"
            for player, count in cost.get("parameters", {}).items()
        },
        "GFLOP a step": None if flops is None else f"{flops / 1e9:,.4g}",
        "evaluated at step": evaluation.get("step"),
        "devices": ", ".join(record.get("devices", [])),
        "versions": ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items()),
        "git commit": record.get("git"),
    }
    return [{"name": k, "value": str(v)} for k, v in named.items() if v not in (None, "")]


def _format_seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _collect_headlines(evaluation: Json) -> list[Json]:
    preferred = evaluation.get("headlines", HEADLINES_OF_TRANSLATIONS)
    chosen = figures.choose_headlines(_parts(evaluation), preferred)
    headlines = []
    for label, values in chosen.items():
        part, _, name = label.partition("/")
        (entry,) = (each for each in _collect_figures(values) if each["name"] == name)
        error = "" if entry["error"] is None else f" ± {entry['error']:.2g}"
        text = f"{entry['value']:.4g}{error}"
        headlines.append({"part": part, **entry, "text": text, "better": _better(name)})
    return headlines


def _better(name: str) -> str:
    """Returns whether a "lower" or a "higher" figure is better; "" if neither is."""
    base = re.sub(r"_(identity|untrained|mean_image)$", "", name)
    if base != name or not (LOWER.fullmatch(name) or HIGHER.fullmatch(name)):
        # Of a baseline neither is.
        return ""
    return "lower" if LOWER.fullmatch(name) else "higher"


def _collect_figures(values: Mapping[str, Any]) -> Iterator[Json]:
    """Returns figures with their errors and their values for real images."""
    for name, value in values.items():
        stem = name.removesuffix(figures.ERROR).removesuffix(figures.REAL)
        if value is None or (stem != name and stem in values):
            continue
        error, real = values.get(f"{name}{figures.ERROR}"), values.get(f"{name}{figures.REAL}")
        yield {"name": name, "value": value, "error": error, "real": real}


def _collect_samples(
    workdir: Path, record: Json, parts: Mapping[str, Json], pictures: Pictures
) -> Json | None:
    grids = _collect_grids(workdir, pictures, MAX_GRIDS, MAX_GRID_BYTES)
    real = pictures.add_file(workdir / "samples" / "real.png", "real images")
    if not grids and real is None:
        return None
    return {
        "grids": grids,
        "real": real,
        "best": _find_best(workdir, [grid["step"] for grid in grids]),
        "animation": pictures.add_animation(workdir / "samples.gif", "samples through training"),
        "caption": _describe_grid(record),
        "per_class": _collect_classes(workdir, record, parts, pictures),
    }


def _collect_grids(workdir: Path, pictures: Pictures, limit: int, max_bytes: int) -> list[Json]:
    """Returns the grids of samples through training, within the limits of `_choose_grids`."""
    grids = []
    paths, max_side = _choose_grids(_grid_paths(workdir), pictures, limit, max_bytes)
    for path in paths:
        step = int(path.stem.removeprefix("step_"))
        image = pictures.add_file(path, f"samples at step {step:,}", max_side)
        if image is not None:
            grids.append({"step": step, "image": image})
    return grids


def _grid_paths(workdir: Path) -> list[Path]:
    paths = sorted((workdir / "samples").glob("step_*.png"))
    return [path for path in paths if path.stem.removeprefix("step_").isdecimal()]


def _choose_grids(
    paths: Sequence[Path], pictures: Pictures, limit: int, max_bytes: int
) -> tuple[list[Path], int]:
    """Returns at most `limit` pictures, evenly chosen, and the largest side of each.

    Large ones are made smaller, and then there are fewer of them; the last is always one.
    """
    if not paths:
        return [], MAX_SIDE
    pixels = _read_png(paths[-1])
    limit = min(limit, max(MIN_GRIDS, MAX_PIXELS // max(1, pixels.shape[0] * pixels.shape[1])))
    count = len(thin(len(paths), limit))
    last = (pictures.encode_file(paths[-1], side) for side in SIDES)
    sizes = (0 if each is None else count * len(each.url) for each in last)
    fits = (side for side, size in zip(SIDES, sizes, strict=True) if size <= max_bytes)
    max_side = next(fits, SIDES[-1])
    while True:
        chosen = [paths[index] for index in thin(len(paths), limit)]
        encoded = [pictures.encode_file(path, max_side) for path in chosen]
        total = sum(len(each.url) for each in encoded if each is not None)
        if total <= max_bytes or len(chosen) <= 1:
            return chosen, max_side
        limit = max(1, len(chosen) * max_bytes // total)


def _find_best(workdir: Path, steps: Sequence[int]) -> int:
    """Returns the index of the grid that is nearest to the best checkpoint; else of the last."""
    best = [int(path.name) for path in (workdir / "best").glob("*") if path.name.isdecimal()]
    if not steps or not best:
        return max(0, len(steps) - 1)
    return min(range(len(steps)), key=lambda index: abs(steps[index] - best[-1]))


def _describe_grid(record: Json) -> str:
    """Returns what rows and columns of the samples are."""
    config, classes = record.get("config", {}), _class_names(record, {})
    kind = config.get("gan", {}).get("name", "")
    if _is_cyclegan(config):
        return (
            "Columns: test images of each domain. Rows: images of A, as B, back as A, and "
            "translated into A as they are; then the same of B."
        )
    if not kind.startswith("gan."):
        return "The same inputs through the whole run."
    shape = record.get("data", {}).get("image_shape")
    if (shape and len(shape) == 1) or config.get("data", {}).get("name") == "mixture":
        return "Generated points over real ones in gray, a panel per seed."
    if config.get("conditional"):
        names = [classes[index] for index in interpolation.select_classes(len(classes))]
        noun = "caption" if record.get("data", {}).get("text") else "class"
        rows = f"a row per {noun} ({', '.join(names)})" if names else "a row per class"
        return f"The same latents through the whole run: {rows}, a column per latent."
    return "The same latents through the whole run."


def _is_cyclegan(config: Json) -> bool:
    return config.get("gan", {}).get("name", "").startswith("cyclegan.")


def _class_names(record: Json, parts: Mapping[str, Json]) -> list[str]:
    """Returns classes or captions by label: of the data, or of an older run's evaluation."""
    data = record.get("data", {})
    tables = (part.get("tables", {}) for part in parts.values())
    names = (
        data.get("text", {}).get("captions")
        or data.get("classes")
        or next((table["classes"] for table in tables if "classes" in table), [])
    )
    return list(map(str, names))


def _collect_classes(
    workdir: Path, record: Json, parts: Mapping[str, Json], pictures: Pictures
) -> list[Json]:
    """Returns each class's row of the last grid, with its figures."""
    paths = _grid_paths(workdir)[-1:]
    config, names = record.get("config", {}), _class_names(record, parts)
    is_gan = config.get("gan", {}).get("name", "").startswith("gan.")
    if not (is_gan and config.get("conditional") and names and paths):
        return []
    labels = interpolation.select_classes(len(names))
    grid = cells(_read_png(paths[0]), len(labels), config.get("run", {}).get("sample_columns", 0))
    values = {row["name"]: row for row in (_collect_confusion(parts) or {}).get("per_class", [])}
    entries = []
    for label, row in zip(labels, grid, strict=False):
        name = names[label]
        lines = max(n for n in range(1, math.isqrt(len(row)) + 1) if len(row) % n == 0)
        square = plots.grid(row.reshape(lines, -1, *row.shape[1:]))
        image = pictures.add(square, f"samples of {name}")
        of_class = {k: v for k, v in values.get(name, {}).items() if k != "name"}
        entries.append({"name": name, "image": image, "figures": of_class})
    return entries


def _collect_confusion(parts: Mapping[str, Json]) -> Json | None:
    tables = (part.get("tables", {}) for part in parts.values())
    table = next((each for each in tables if {"confusion", "classes"} <= each.keys()), None)
    if table is None:
        return None
    columns = {
        name: table[key]
        for name, key in (
            *((name, f"class_{name}") for name in ("precision", "recall", "f1")),
            ("intra_frechet_distance", "intra_frechet_distance"),
        )
        if isinstance(table.get(key), list)
    }
    return {
        "classes": list(map(str, table["classes"])),
        "matrix": table["confusion"],
        "per_class": [
            {"name": str(name), **{key: values[index] for key, values in columns.items()}}
            for index, name in enumerate(table["classes"])
        ],
    }


def _collect_translation(
    workdir: Path, record: Json, parts: Mapping[str, Json], pictures: Pictures
) -> list[Json] | None:
    """Returns examples from the last grid of a CycleGAN, and the figures of each direction."""
    config = record.get("config", {})
    paths = _grid_paths(workdir)[-1:]
    if not _is_cyclegan(config) or not paths:
        return None
    columns = config.get("run", {}).get("sample_columns", 0)
    grid = cells(_read_png(paths[0]), ROWS_OF_TRANSLATIONS, columns)
    values = parts.get("translation", {}).get("figures", {})
    is_paired = config.get("data", {}).get("paired", False)
    half = ROWS_OF_TRANSLATIONS // 2
    directions = []
    for direction, first, other in zip(DIRECTIONS, (0, half), (half, 0), strict=True):
        source, target = direction[0].upper(), direction[-1].upper()
        rows = {
            "source": (first, f"a test image of {source}"),
            "translation": (first + 1, f"its translation into {target}"),
            "reconstruction": (first + 2, f"the translation, back as {source}"),
            **({"truth": (other, f"its counterpart in {target}")} if is_paired else {}),
        }
        # Columns of a paired grid show the same in both domains.
        examples = [
            {"truth": None}
            | {
                name: pictures.add(np.ascontiguousarray(grid[row, column]), f"{alt}, {column + 1}")
                for name, (row, alt) in rows.items()
            }
            for column in range(min(columns, MAX_EXAMPLES) if len(grid) else 0)
        ]
        names = re.compile(rf"mae_{direction}\w*|(cycle|identity)_mae_{direction[0]}")
        of_direction = {
            name: value
            for name, value in values.items()
            if names.fullmatch(name) and not name.endswith(figures.ERROR)
        }
        directions.append({"direction": direction, "examples": examples, "figures": of_direction})
    return directions


def _collect_attention(workdir: Path, pictures: Pictures) -> Json | None:
    """Returns the maps that gaxn/evaluation/evaluators/attention.py kept; fewer of many."""
    paths = {direction: workdir / direction / "attention" / "maps.npz" for direction in DIRECTIONS}
    contents = {
        name: content
        for name, path in {"": workdir / "attention" / "maps.npz", **paths}.items()
        if (content := _read_arrays(path))
    }
    maps = [
        array
        for content in contents.values()
        for name, array in content.items()
        if name.endswith("/maps")
    ]
    bytes_an_image = sum(array[0].size for array in maps if len(array))
    count = max(1, MAX_ATTENTION_BYTES // max(1, bytes_an_image))
    views = []
    for direction, content in contents.items():
        for view in dict.fromkeys(name.partition("/")[0] for name in content):
            views.append(_collect_view(view, direction, content, count, pictures))
    return {"views": [view for view in views if view["layers"]]} if views else None


def _collect_view(
    view: str, direction: str, content: Mapping[str, np.ndarray], count: int, pictures: Pictures
) -> Json:
    player, _, kind = view.partition("_")
    images = content.get(f"{view}/images", np.zeros((0, 1, 1, 3), np.uint8))[:count]
    layers = []
    for name, array in content.items():
        match = re.fullmatch(rf"{view}/(.+)/maps", name)
        if match is None:
            continue
        heads, queries, keys = array.shape[1:]
        gamma = content.get(f"{view}/{match[1]}/gamma")
        layers.append(
            {
                "name": match[1],
                "gamma": None if gamma is None else float(gamma),
                "heads": heads,
                "side": math.isqrt(queries),
                "keys_side": math.isqrt(keys),
                "maps": [base64.b64encode(each.tobytes()).decode() for each in array[:count]],
            }
        )
    return {
        # Two generators have views of the same name.
        "player": f"{direction} {player}".strip(),
        "kind": kind,
        "images": [
            pictures.add(image, f"{kind} image {index + 1}") for index, image in enumerate(images)
        ],
        "layers": layers,
    }


def _collect_interpolations(workdir: Path, pictures: Pictures) -> list[Json]:
    entries = []
    for path in sorted((workdir / "interpolation").glob("*.png")):
        title = f"between {path.stem}"
        image = pictures.add_file(path, f"interpolation {title}")
        if image is not None:
            alt = f"interpolation {title}, animated"
            animation = pictures.add_animation(path.with_suffix(".gif"), alt)
            entries.append({"name": title, "image": image, "animation": animation})
    return entries


def _collect_nearest(workdir: Path, parts: Mapping[str, Json], pictures: Pictures) -> Json | None:
    for folder in ("", *DIRECTIONS):
        for path in sorted((workdir / folder).glob("nearest_*.png")):
            features = path.stem.removeprefix("nearest_")
            image = pictures.add_file(path, "samples and their nearest training images")
            if image is None:
                continue
            values = parts.get("_".join(filter(None, (features, folder))), {}).get("figures", {})
            caption = (
                f"Each row: a sample, then its nearest training images by the features of "
                f"{features}; the samples that are nearest of all."
            )
            return {
                "image": image,
                "caption": caption,
                "copied_share": values.get("copied_share"),
                "copied_share_real": values.get(f"copied_share{figures.REAL}"),
            }
    return None


def _collect_singular_values(parts: Mapping[str, Json]) -> list[Json] | None:
    table = parts.get("spectral_norm", {}).get("tables", {})
    columns = ("layers", "estimates", "exact")
    if not all(isinstance(table.get(name), list) for name in columns):
        return None
    rows = zip(*(table[name] for name in columns), strict=False)
    return [{"layer": layer, "estimate": e, "exact": x} for layer, e, x in rows]


def _collect_population(config: Json, parts: Mapping[str, Json]) -> Json | None:
    count = config.get("population", 1)
    if count < 2:
        return None
    entries = []
    for part, content in parts.items():
        for name, values in content.get("tables", {}).get("members", {}).items():
            numbers = np.array([value for value in values if value is not None], np.float64)
            if len(numbers):
                mean, error = float(numbers.mean()), standard_error(numbers)
                label = f"{part}/{name}"
                entries.append({"name": label, "values": values, "mean": mean, "error": error})
    seed = config.get("seed", 0)
    return {"seeds": list(range(seed, seed + count)), "figures": entries}


def _collect_config(record: Json) -> list[Json]:
    """Returns the fields of a config, with their values in its file if they differ."""
    overridden = record.get("overridden", {})
    entries = []
    for field, value in _flatten(record.get("config", {})).items():
        keys = [key for key in overridden if f"{field}.".startswith(f"{key}.")]
        default = None
        for key in keys:
            # A dict may have been replaced by another.
            inner = field.removeprefix(key).removeprefix(".")
            before = overridden[key]
            if inner:
                before = _flatten(before).get(inner) if isinstance(before, dict) else None
            default = None if before is None else _to_text(before)
        entry = {"field": field, "value": _to_text(value), "default": default}
        entries.append({**entry, "differs": bool(keys)})
    return entries


def _read_evaluation(workdir: Path) -> Json:
    """Returns evaluation.json; a later interim evaluation replaces the parts that it has."""
    evaluation = read_json(workdir / "evaluation.json")
    last = (curves.read_lines(workdir / "evaluations.jsonl") or [{}])[-1]
    is_later = last.get("step", 0) > evaluation.get("step", -1)
    return {**evaluation, **last} if is_later else evaluation


def _parts(evaluation: Mapping[str, Any]) -> dict[str, Json]:
    """Returns the parts of an evaluation that have figures, by name."""
    return {
        name: part
        for name, part in evaluation.items()
        if isinstance(part, dict) and isinstance(part.get("figures"), dict)
    }


def _flatten(tree: Mapping[str, Any]) -> Json:
    return flatten_dict(dict(tree), is_leaf=lambda path, leaf: path and not leaf, sep=".")


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _read_png(path: Path) -> np.ndarray:
    try:
        return files.read_png(path)
    except (OSError, ValueError, SyntaxError):
        return np.zeros((0, 0, 3), np.uint8)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (OSError, ValueError, KeyError):
        return {}
