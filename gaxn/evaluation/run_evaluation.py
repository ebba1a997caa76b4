"""Evaluations and pictures of a run, written into its directory."""

import functools
import json
import logging
from collections.abc import Callable, KeysView, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gaxn.data import make_reader
from gaxn.data.sentences import Sentences
from gaxn.distributed import multihost
from gaxn.evaluation import diagnostics, figures, interpolation
from gaxn.evaluation.evaluators import Evaluator
from gaxn.evaluation.report.curves import read_evaluations
from gaxn.experiment import Experiment
from gaxn.io import files, plots, progress, provenance
from gaxn.io.plots import Picture
from gaxn.io.writers import NO_WRITERS, Writer
from gaxn.metrics.statistics.standard_errors import standard_error
from gaxn.nn import spectral
from gaxn.training.population import member_state
from gaxn.training.state import TrainState, steps_done
from gaxn.types import HostPixels, Labels, Measurement

log = logging.getLogger(__name__)

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
"""Scalars by the title of their panel in curves.png; a panel without any is left out."""

ATTENTION_CURVES = {
    "gamma": "gamma of each attention layer",
    "entropy": "entropy of its weights, as a share of that of uniform ones",
    "distance": "mean distance of its weights, in sides of the image",
}

NO_FIGURES = (
    "no figures: without classes, or with config.evaluation.classifier=False, there is no "
    "classifier to compare images by; config.evaluation.inception gives FID"
)

MAX_POINTS = 2_000
"""Points of a curve that is drawn during training; a second at most."""

SEARCHED = 2_000
"""Test images among which those of each class are searched, for a picture."""


def evaluate(
    experiment: Experiment,
    workdir: Path,
    state: TrainState,
    chosen_by: str = "",
    writers: Writer = NO_WRITERS,
) -> None:
    """Runs every evaluator; writes evaluation.json, a line of evaluations.jsonl and pictures.

    Args:
        experiment: the run.
        workdir: its directory.
        state: the evaluated state, on the host.
        chosen_by: the figure by which the state was chosen among others, if any.
        writers: where the figures go besides files.
    """
    evaluators = experiment.evaluation.evaluators()
    document, pictures = measure(experiment, evaluators, state, chosen_by)
    document |= measure_spectral_norm(experiment, state)
    document["headlines"] = list(experiment.evaluation.headlines)
    document |= {"cost": experiment.cost(), "measured_by": provenance.record()}
    files.append_line(workdir / "evaluations.jsonl", document)
    files.write_json(workdir / "evaluation.json", document)
    writers.scalars(document["step"], _figures_by_name(document))
    for name, draw in pictures.items():
        _draw(workdir / f"{name}.png", draw, _write_output)
    if multihost.is_first():
        table = figures.format_headlines(document, experiment.evaluation.headlines)
        print(table or NO_FIGURES)
        if few := figures.describe_few(document):
            print(few)
        print(f"all figures, and how they were measured: {workdir / 'evaluation.json'}", flush=True)


def evaluate_interim(
    experiment: Experiment,
    workdir: Path,
    state: TrainState,
    keep: Callable[[], None],
    writers: Writer = NO_WRITERS,
) -> None:
    """Runs the interim evaluation; writes a line of evaluations.jsonl.

    Args:
        experiment, workdir, state: as for `evaluate`.
        keep: called before the line is written, if the figure of `config.evaluation.best` is
            better than all earlier ones under this protocol.
        writers: where the figures go besides files.
    """
    plan = experiment.evaluation
    document, _ = measure(experiment, plan.interim_evaluators(), state)
    document |= {"interim": True, "headlines": list(plan.headlines)}
    value = plan.figure(document)
    lines = files.read_lines(workdir / "evaluations.jsonl")
    if value is not None and plan.is_best(value, plan.earlier_figures(document, lines)):
        keep()
    files.append_line(workdir / "evaluations.jsonl", document)
    writers.scalars(document["step"], _figures_by_name(document))
    text = "none" if value is None else f"{value:.4f}"
    progress.write(f"step {steps_done(state)}: {plan.best.partition(' ')[2]} {text}")


def _figures_by_name(document: Mapping[str, Any]) -> dict[str, float]:
    """Returns the figures of all parts of an evaluation, as "evaluation/part/figure".

    Those of an interim evaluation, often by another protocol, are "interim/part/figure".
    """
    kind = "interim" if document.get("interim") else "evaluation"
    return {
        f"{kind}/{name}/{figure}": value
        for name, part in document.items()
        if isinstance(part, Mapping) and "figures" in part
        for figure, value in part["figures"].items()
        if value is not None
    }


def measure(
    experiment: Experiment,
    evaluators: Mapping[str, Evaluator],
    state: TrainState,
    chosen_by: str = "",
) -> tuple[dict[str, Any], dict[str, Callable[[], Picture]]]:
    """Returns the document of an evaluation, and functions that draw its pictures, by path."""
    samplers = [
        experiment.evaluation.sampler(state, index, chosen_by)
        for index in range(len(experiment.members))
    ]
    document: dict[str, Any] = {"name": experiment.name, "step": steps_done(state)}
    pictures = {}
    for part, evaluator in evaluators.items():
        measurement = mean_measurement([evaluator(sampler) for sampler in samplers])
        fields = ("figures", "tables", "protocol", *(("timing",) if measurement.timing else ()))
        document[part] = {field: getattr(measurement, field) for field in fields}
        pictures |= measurement.pictures
    return document, pictures


def mean_measurement(measurements: Sequence[Measurement]) -> Measurement:
    """Returns the means over a population, their standard errors, and each member's figures.

    Pictures and the other tables are the first member's.
    """
    first = measurements[0]
    if len(measurements) == 1:
        return first
    by_name = {
        name: [measurement.figures.get(name) for measurement in measurements]
        for name in dict.fromkeys(
            name for measurement in measurements for name in measurement.figures
        )
        if not any(figures.is_error(name, measurement.figures) for measurement in measurements)
    }
    means = {}
    for name, values in by_name.items():
        numbers = np.array([value for value in values if value is not None])
        means[name] = float(numbers.mean())
        if not name.endswith(figures.REAL):
            means[f"{name}{figures.ERROR}"] = standard_error(numbers)
    protocol = {
        **first.protocol,
        "errors": f"standard errors of the mean over {len(measurements)} seeds",
        "seed": f"{first.protocol['seed']} to {measurements[-1].protocol['seed']}",
    }
    seconds = sum(measurement.timing.get("seconds", 0.0) for measurement in measurements)
    timing = {**first.timing, "seconds": round(seconds, 2)}
    return Measurement(
        protocol, means, {**first.tables, "members": by_name}, first.pictures, timing
    )


def measure_spectral_norm(experiment: Experiment, state: TrainState) -> dict[str, Any]:
    """Returns the part "spectral_norm" of an evaluation; nothing without spectral norm.

    By layer it has the largest singular value as the power iteration estimates it, by which the
    next call divides the kernel, and as a decomposition gives it; `largest_error` is the largest
    |exact / estimate - 1|.
    """
    measurements = []
    for index, member in enumerate(experiment.members):
        one = member_state(state, len(experiment.members), index)
        kernels = spectral.kernels(one.params, one.collections.get(spectral.COLLECTION, {}))
        if not kernels:
            return {}
        estimates = [sigma for _, sigma in kernels.values()]
        exact = [float(np.linalg.norm(matrix, 2)) for matrix, _ in kernels.values()]
        errors = np.abs(np.array(exact) / np.maximum(estimates, spectral.EPSILON) - 1)
        tables = {"layers": list(kernels), "estimates": estimates, "exact": exact}
        protocol = {"exact": "largest singular value of the kernel [inputs, outputs], float64"}
        protocol |= {"weights": "raw", "step": steps_done(state), "seed": member.seed}
        measurements.append(
            Measurement(protocol, {"largest_error": float(errors.max())}, tables, {})
        )
    measurement = mean_measurement(measurements)
    fields = ("figures", "tables", "protocol")
    return {"spectral_norm": {field: getattr(measurement, field) for field in fields}}


def is_evaluated(workdir: Path, step: int) -> bool:
    """Returns whether evaluation.json exists and is of this step."""
    path = workdir / "evaluation.json"
    return path.exists() and files.read_json(path).get("step") == step


def draw_samples(experiment: Experiment, workdir: Path, state: TrainState) -> Picture:
    """Draws samples/step_XXXXXXXX.png, of the same latents through the whole run; returns it."""
    path = workdir / "samples" / f"step_{steps_done(state):08d}.png"
    picture = experiment.draw_samples(experiment.sampler, state)
    files.write_png(path, picture)
    return picture


def draw_real(experiment: Experiment, workdir: Path) -> None:
    """Draws samples/real.png, test images as the grid of samples has them, if it is not there.

    A CycleGAN's grid has its test images, and one of points has real ones.
    """
    path = workdir / "samples" / "real.png"
    if len(experiment.test_source.image_shape) == 3 and not path.exists():
        _draw(path, functools.partial(_real_grid, experiment))


def _real_grid(experiment: Experiment) -> Picture:
    """Returns test images: of a conditional run a row per class, of another one a square."""
    test, columns = experiment.test_source, experiment.run.sample_columns
    order = np.random.RandomState(0).permutation(len(test))
    read = make_reader(test)

    def read_images(indices: np.ndarray) -> tuple[HostPixels, Labels | None]:
        images, labels = jax.device_get(read(indices))
        return images, labels

    if not experiment.settings.conditional:
        images, _ = read_images(np.resize(order, columns**2))
        return plots.grid(images.reshape(columns, columns, *test.image_shape))
    classes = interpolation.select_classes(test.num_conditions)
    # Where a class has too few of those that are searched, white is left.
    grid = np.full((len(classes), columns, *test.image_shape), 255, np.uint8)
    if isinstance(test, Sentences):
        for row, number in enumerate(classes):
            of_caption = np.flatnonzero(test.numbers == number)[:columns]
            grid[row, : len(of_caption)] = read_images(of_caption)[0]
        return plots.grid(grid)
    counts = np.zeros(len(classes), int)
    for part in np.array_split(order[:SEARCHED], -(-min(len(order), SEARCHED) // 100)):
        images, labels = read_images(part)
        for row, label in enumerate(classes):
            of_class = images[labels == label][: columns - counts[row]]
            grid[row, counts[row] : counts[row] + len(of_class)] = of_class
            counts[row] += len(of_class)
        if counts.min() >= columns:
            break
    return plots.grid(grid)


def _write_output(path: Path, output: Any) -> None:
    """Writes what an evaluator draws: a picture, or instead of it arrays by name as .npz."""
    if isinstance(output, Mapping):
        write = functools.partial(np.savez_compressed, **output)
        files.write_with(path.with_suffix(".npz"), write)
    else:
        files.write_png(path, output)


def _draw(
    path: Path, draw: Callable[[], Any], write: Callable[[Path, Any], None] = files.write_png
) -> None:
    """Draws and writes a picture; one that fails is a warning, since the figures matter more."""
    try:
        write(path, draw())
    except Exception as error:  # noqa: BLE001
        log.warning("warning: %s cannot be drawn (%s)", path, error)


def draw_evaluations(workdir: Path) -> None:
    """Draws evaluations.png: the figures of evaluations.jsonl over the steps, if there are several.

    A curve has the lines of one protocol: the one with most of them.
    """
    history, panels = read_evaluations(workdir)
    if len(history) > 1 and panels:
        _draw(workdir / "evaluations.png", lambda: plots.curves(history, panels))


def draw_curves(workdir: Path) -> None:
    """Draws curves.png and evaluations.png of a run that goes on, at most `MAX_POINTS` a curve."""
    _draw_scalars(workdir / "curves.png", _read_history(workdir, MAX_POINTS), CURVES)
    draw_evaluations(workdir)


def _read_history(workdir: Path, count: int) -> list[dict[str, float]]:
    """Returns the records of metrics.jsonl; of more than `count`, every n-th and the last."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    stride = max(1, -(-len(lines) // count))
    return [json.loads(line) for line in lines[(len(lines) - 1) % stride :: stride]]


def draw_training(workdir: Path) -> None:
    """Draws curves.png and samples.gif, and attention/training.png, of all that was logged."""
    history = files.read_lines(workdir / "metrics.jsonl")
    _draw_scalars(workdir / "curves.png", history, CURVES)
    paths = sorted((workdir / "samples").glob("step_*.png"))
    _draw(workdir / "samples.gif", lambda: list(map(files.read_png, paths)), files.write_gif)
    names = {
        title: [name for name in _names(history) if name.startswith(f"{diagnostics.PREFIX}{kind}/")]
        for kind, title in ATTENTION_CURVES.items()
    }
    _draw_scalars(workdir / "attention" / "training.png", history, names)


def _draw_scalars(
    path: Path, history: Sequence[Mapping[str, float]], panels: Mapping[str, Sequence[str]]
) -> None:
    """Draws the panels that have data, if any has."""
    known = _names(history)
    panels = {title: names for title, names in panels.items() if not known.isdisjoint(names)}
    if panels:
        _draw(path, lambda: plots.curves(history, panels))


def _names(history: Sequence[Mapping[str, float]]) -> KeysView[str]:
    """Returns the names of all scalars, in the order of their first appearance."""
    return dict.fromkeys(name for line in history for name in line).keys()
