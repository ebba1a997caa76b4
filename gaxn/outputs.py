"""What a run leaves to look at: evaluations, sample grids, curves, an animation."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from gaxn import cost, pictures, sinks
from gaxn.data import outline
from gaxn.experiment import Experiment
from gaxn.state import GanState

CURVES = {
    "losses": ("d/adversarial", "g/loss"),
    "logits": ("d/real", "d/fake"),
    "gradient norms": ("d/gradient_norm", "g/gradient_norm"),
}


def evaluate(experiment: Experiment, workdir: Path, state: GanState) -> None:
    """Runs every evaluator; writes evaluation.json, a line in evaluations.jsonl and pictures."""
    subject = experiment.subject(state)
    document: dict[str, Any] = {
        "name": experiment.name,
        "step": int(state.step),
        "cost": costs(experiment),
    }
    for part, evaluator in experiment.evaluators().items():
        report = evaluator(subject)
        document[part] = {
            "figures": report.figures,
            "tables": report.tables,
            "protocol": report.protocol,
        }
        folder = workdir / part if len(report.pictures) > 1 else workdir
        for name, picture in report.pictures.items():
            sinks.write_picture(folder / f"{name}.png", picture)
        for name, figure in report.figures.items():
            print(f"{part}/{name}: {figure:.4f}")
    sinks.append(workdir / "evaluations.jsonl", document)
    sinks.write_json(workdir / "evaluation.json", document)


def costs(experiment: Experiment) -> dict[str, Any]:
    """Parameters by player, and the operations of one step on the batches of all devices."""
    state = jax.eval_shape(experiment.create, experiment.key)
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


def draw_samples(experiment: Experiment, workdir: Path, state: GanState) -> Path:
    """The sample grid, of the same latents through the whole run.

    With labels a row is a class and a column a latent; without, it is a square of latents.
    """
    subject = experiment.subject(state)
    columns = np.arange(experiment.sample_columns)
    if experiment.conditional:
        classes = range(len(experiment.train.class_names))
        rows = [subject.sample(columns, np.full_like(columns, label)) for label in classes]
    else:
        rows = [subject.sample(row * len(columns) + columns, None) for row in columns]
    path = workdir / "samples" / f"step_{int(state.step):08d}.png"
    sinks.write_picture(path, pictures.grid(np.stack(rows)))
    return path


def draw_training(workdir: Path) -> None:
    """curves.png and samples.gif, of all that was logged and drawn so far."""
    history = sinks.read_lines(workdir / "metrics.jsonl")
    sinks.write_picture(workdir / "curves.png", pictures.curves(history, CURVES))
    sinks.write_gif(workdir / "samples.gif", sorted((workdir / "samples").glob("step_*.png")))
