"""What a run leaves to look at: evaluations, sample grids, curves, an animation."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import jax
import numpy as np

from gaxn import cost, figures, interpolation, pictures, provenance, sinks
from gaxn.data import outline
from gaxn.data.folder import is_picture, listed, opened
from gaxn.evaluators import Evaluator
from gaxn.experiment import Experiment
from gaxn.fitting import Fit
from gaxn.state import GanState, steps_done
from gaxn.statistics import jackknife
from gaxn.translation import DIRECTIONS
from gaxn.types import InputError, Report, require

CURVES = {
    "losses": ("d/adversarial", "g/loss"),
    "logits": ("d/real", "d/fake"),
    "gradient norms": ("d/gradient_norm", "g/gradient_norm"),
    "cycle and identity, mean absolute difference in [-1, 1]": (
        "g/cycle_a",
        "g/cycle_b",
        "g/identity_a",
        "g/identity_b",
    ),
}
"""Scalars that are drawn, by the title of their panel; a panel without any is left out."""

ATTENTION = {
    "gamma": "gamma of each attention",
    "entropy": "entropy of its weights, as a share of that of uniform ones",
    "distance": "mean distance that it looks, in sides of the image",
}

FRAMES_A_SECOND = 16

_DISTANCES = ("frechet_distance", "kid_unbiased", "precision", "recall", "density", "coverage")

OVER_TRAINING = {
    "classifier": ("conditional_accuracy", *_DISTANCES),
    "inception": _DISTANCES,
    "modes": ("modes", "modes_quality", "modes_reverse_kl", *_DISTANCES),
    "translation": ("mae_a2b", "mae_b2a", "cycle_mae_a", "cycle_mae_b"),
    **{f"{name}_{way}": _DISTANCES for name in ("classifier", "inception") for way in DIRECTIONS},
}
"""Figures worth a curve over training, by the part of the evaluation that has them."""


def evaluate(experiment: Experiment, workdir: Path, state: GanState, chosen: str = "") -> None:
    """Runs every evaluator; writes evaluation.json, a line in evaluations.jsonl and pictures.

    Args:
        experiment: the run.
        workdir: its directory.
        state: what is measured, on the host.
        chosen: by which figure it was chosen among others, if it was.
    """
    evaluators = experiment.evaluation.evaluators()
    document, shown = _measured(experiment, evaluators, state, chosen)
    document |= {"cost": costs(experiment), "measured_by": provenance.record()}
    for part, drawn in shown.items():
        for name, picture in drawn.items():
            sinks.write_picture(workdir / f"{name}.png", picture)
        for name, text in figures.told(document[part]["figures"]).items():
            print(f"{part}/{name}: {text}")
    sinks.append(workdir / "evaluations.jsonl", document)
    sinks.write_json(workdir / "evaluation.json", document)


def evaluate_interim(
    experiment: Experiment, workdir: Path, state: GanState, keep: Callable[[], None]
) -> None:
    """Runs the smaller evaluation; adds a line to evaluations.jsonl.

    Args:
        experiment: the run.
        workdir: its directory.
        state: what is measured, on the host.
        keep: called before the line is written if the figure that `config.evaluation.best`
            names is better than ever under this protocol.
    """
    plan = experiment.evaluation
    document, _ = _measured(experiment, plan.interim(), state, "")
    document["interim"] = True
    value = plan.figure(document)
    lines = sinks.read_lines(workdir / "evaluations.jsonl")
    if value is not None and plan.is_best(value, plan.earlier(document, lines)):
        keep()
    sinks.append(workdir / "evaluations.jsonl", document)
    told = "there is none" if value is None else f"{value:.4f}"
    print(f"step {steps_done(state)}: {plan.best.partition(' ')[2]} {told}", flush=True)


def draw_evaluations(workdir: Path) -> None:
    """evaluations.png: the figures of evaluations.jsonl over the steps, if there are several.

    Only lines of one protocol are one curve: the one that has most of them.
    """
    by_protocol: dict[str, dict[int, Mapping[str, float]]] = {}
    for line in sinks.read_lines(workdir / "evaluations.jsonl"):
        parts = {name: part for name, part in line.items() if name in OVER_TRAINING}
        key = json.dumps([figures.method(part["protocol"]) for part in parts.values()])
        # The last of a step stands for it.
        by_protocol.setdefault(key, {})[line["step"]] = {
            f"{name}/{figure}": value
            for name, part in parts.items()
            for figure, value in part["figures"].items()
        }
    curve = max(by_protocol.values(), key=len, default={})
    history = [{"step": step, **curve[step]} for step in sorted(curve)]
    known = dict.fromkeys(name for line in history for name in line)
    panels = {
        f"{part}/{name}": (f"{part}/{name}", f"{part}/{name}{figures.FLOOR}")
        for part, names in OVER_TRAINING.items()
        for name in names
        if f"{part}/{name}" in known
    }
    if len(history) > 1 and panels:
        sinks.write_picture(workdir / "evaluations.png", pictures.curves(history, panels))


def _measured(
    experiment: Experiment, evaluators: Mapping[str, Evaluator], state: GanState, chosen: str
) -> tuple[dict[str, Any], dict[str, Mapping[str, np.ndarray]]]:
    """The document of one evaluation, and the pictures of its parts."""
    subjects = [
        experiment.evaluation.subject(state, index, chosen)
        for index in range(len(experiment.members))
    ]
    document: dict[str, Any] = {"name": experiment.name, "step": steps_done(state)}
    shown = {}
    for part, evaluator in evaluators.items():
        report = _over_members([evaluator(subject) for subject in subjects])
        document[part] = {
            "figures": report.figures,
            "tables": report.tables,
            "protocol": report.protocol,
        }
        if report.timing:
            document[part]["timing"] = report.timing
        shown[part] = report.pictures
    return document, shown


def _over_members(reports: Sequence[Report]) -> Report:
    """The means over the members of a population, their standard errors, and each one's figures.

    Pictures and the other tables are those of the first member.
    """
    first = reports[0]
    if len(reports) == 1:
        return first
    each = {
        name: [report.figures.get(name) for report in reports]
        for name in dict.fromkeys(name for report in reports for name in report.figures)
        if not name.endswith(figures.ERROR)
    }
    means = {}
    for name, values in each.items():
        there = np.array([value for value in values if value is not None])
        means[name] = float(there.mean())
        if not name.endswith(figures.FLOOR):
            means[f"{name}{figures.ERROR}"] = jackknife.of_mean(there)
    protocol = {
        **first.protocol,
        "errors": f"standard errors of the mean over {len(reports)} seeds",
        "seed": f"{first.protocol['seed']} to {reports[-1].protocol['seed']}",
    }
    seconds = sum(report.timing.get("seconds", 0.0) for report in reports)
    return Report(
        protocol,
        means,
        {**first.tables, "members": each},
        first.pictures,
        {**first.timing, "seconds": round(seconds, 2)},
    )


def costs(experiment: Experiment) -> dict[str, Any]:
    """Parameters by player, and the operations of one step on the batches of all devices.

    Of a population, those of one member.
    """
    state = jax.eval_shape(experiment.create, experiment.key)
    if len(experiment.members) > 1:
        state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), state)
    batches = outline(experiment.train, (len(experiment.turns), experiment.batch))
    key = jax.ShapeDtypeStruct((), experiment.key.dtype)
    return {
        "parameters": cost.parameters(state.params),
        "flops_a_step": cost.flops(experiment.step, state, batches, key),
    }


def is_evaluated(workdir: Path, step: int) -> bool:
    """Whether evaluation.json is there and of this step."""
    path = workdir / "evaluation.json"
    return path.exists() and sinks.read_json(path).get("step") == step


def draw_samples(experiment: Experiment, workdir: Path, state: GanState) -> None:
    """samples/step_XXXXXXXX.png, of the same latents through the whole run."""
    path = workdir / "samples" / f"step_{steps_done(state):08d}.png"
    drawn = experiment.grid(experiment.subject, state, experiment.sample_columns)
    sinks.write_picture(path, drawn)


def draw_interpolation(experiment: Experiment, workdir: Path, state: GanState) -> list[Path]:
    """interpolation/latents.png and .gif; with labels also classes.png and .gif. Returns them."""
    subject = experiment.evaluation.subject(state)
    classes = len(experiment.train.class_names) if experiment.conditional else 0
    rows = experiment.sample_columns
    latents = subject.latents(np.arange(interpolation.needed(rows)))

    def rendered(asked: interpolation.Grid) -> pictures.Picture:
        flat = [each if each is None else each.reshape(-1, each.shape[-1]) for each in asked]
        images = subject.render(*flat)
        return pictures.grid(images.reshape(*asked.latents.shape[:2], *images.shape[1:]))

    drawn = []
    for name, ways in interpolation.plan(latents, classes, rows).items():
        picture, animation = (workdir / "interpolation" / f"{name}.{end}" for end in ("png", "gif"))
        sinks.write_picture(picture, rendered(ways.picture))
        frames = [rendered(frame) for frame in ways.animation]
        sinks.write_gif(animation, frames, len(frames) / FRAMES_A_SECOND, 0)
        drawn += [picture, animation]
    return drawn


class Translations(NamedTuple):
    """Pictures, and where their translations go.

    Attributes:
        root: the folder or the .zip that they are in.
        places: name within -> the path of its translation, and that of what shows the way back
            too; None where that is not drawn.
    """

    root: Path
    places: Mapping[str, tuple[Path, Path | None]]


def translations_of(given: Path, folder: Path, cycle: bool) -> Translations:
    """Finds, before any work, what is to be translated.

    Args:
        given: a picture, or a folder or a .zip of them.
        folder: where NAME.png of each goes, and NAME_cycle.png.
        cycle: whether there is the second.

    Raises:
        InputError: there is no picture, or two would go to one place, or one over another.
    """
    if not given.exists():
        raise InputError(f"--input is {str(given)!r}; there is no such file or folder")
    lone = given.is_file() and is_picture(given.name)
    root, names = (given.parent, [given.name]) if lone else (given, sorted(listed(given)))
    kept = {os.path.realpath(root / name) for name in names}
    places, taken = {}, {}
    for name in names:
        place = folder / PurePosixPath(name).with_suffix(".png")
        beside = place.with_name(f"{place.stem}_cycle.png") if cycle else None
        for path in filter(None, (place, beside)):
            if path in taken:
                raise InputError(
                    f"--input has {taken[path]} and {name}, and both would be {path}; rename one"
                )
            taken[path] = name
            valid = "another folder: a picture would be written over"
            require("--output", str(folder), os.path.realpath(path) not in kept, valid)
            sinks.writable(path, "--output")
        places[name] = place, beside
    return Translations(root, places)


def translate(
    experiment: Experiment, state: GanState, images: Translations, direction: str, fit: Fit
) -> None:
    """Writes the translation of each picture, and prints where.

    Args:
        experiment: the run.
        state: whose generators translate, on the host.
        images: the pictures.
        direction: "a2b" or "b2a".
        fit: how pictures of any size go through the generators.

    Raises:
        InputError: one cannot be read; those before it are there.
    """
    translator = experiment.evaluation.subject(state)
    there, back = translator.to_b, translator.to_a
    if direction == "b2a":
        there, back = back, there
    _, size, _, channels = experiment.test.image_shape
    for name, (place, beside) in images.places.items():
        try:
            image = fit.prepare(opened(images.root, name, 0, 0, channels), size)
        except InputError as error:
            raise InputError(f"{images.root / name} cannot be used: {error}") from None
        made = fit.apply(there, image, size, translator.multiple)
        if beside is not None:
            shown = np.stack([image, made, fit.apply(back, made, size, translator.multiple)])
            sinks.write_picture(beside, pictures.grid(shown[None]))
        sinks.write_picture(place, np.repeat(made, 3 // channels, axis=-1))
        print(place, flush=True)


def draw_training(workdir: Path) -> None:
    """curves.png and samples.gif, and attention/training.png, of all that was logged and drawn."""
    history = sinks.read_lines(workdir / "metrics.jsonl")
    known = dict.fromkeys(name for line in history for name in line)
    sinks.write_picture(workdir / "curves.png", pictures.curves(history, _logged(CURVES, known)))
    frames = [sinks.read_picture(path) for path in sorted((workdir / "samples").glob("step_*.png"))]
    sinks.write_gif(workdir / "samples.gif", frames)
    panels = {
        title: [name for name in known if name.startswith(f"watch/{kind}/")]
        for kind, title in ATTENTION.items()
    }
    panels = _logged(panels, known)
    if panels:
        picture = pictures.curves(history, panels)
        sinks.write_picture(workdir / "attention" / "training.png", picture)


def _logged(panels: Mapping[str, Sequence[str]], known: Iterable[str]) -> dict[str, Sequence[str]]:
    """The panels that have something to show."""
    return {title: names for title, names in panels.items() if not set(known).isdisjoint(names)}
