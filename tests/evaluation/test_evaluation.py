"""Evaluations of a run: of any checkpoint, by any weights, during training, and of the best."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from gaxn import commands
from gaxn.data import make_reader, npz, shapes
from gaxn.evaluation import figures, plan, run_evaluation
from gaxn.evaluation.evaluators import feature_metrics
from gaxn.evaluation.plan import EvaluationPlan
from gaxn.experiment import make_experiment
from gaxn.features import classifier
from gaxn.io import downloads, files, progress
from gaxn.main import main
from gaxn.training import restore
from gaxn.types import InputError

CONFIG = f"{Path(__file__).parents[2] / 'configs' / 'sagan_folder.py'}:tiny"

QUICK = (
    "evaluation.samples=20",
    "evaluation.metrics=('frechet', 'modes')",
    "evaluation.memorization=False",
    "evaluation.interim_samples=20",
)


@pytest.fixture(scope="module")
def points(ring):
    """A function from overrides to a quick experiment on points."""

    def experiment(*overrides):
        best = "evaluation.best=lowest modes/frechet_distance"
        return make_experiment(ring(*QUICK, best, *overrides, variant="gan+tiny"), "points")

    return experiment


@pytest.fixture(scope="module")
def run(points, tmp_path_factory):
    """A finished run of 4 steps, with checkpoints and interim evaluations at 2 and 4."""
    workdir = tmp_path_factory.mktemp("run")
    often = ("num_train_steps=4", "evaluation.every=2", "run.checkpoint_every=2", "run.keep=9")
    assert commands.train(points(*often, "population=1"), workdir) == 0
    return workdir


def _evaluate(run, *flags):
    """Runs --mode evaluate; returns the content of evaluation.json."""
    assert main(["gaxn", "--mode=evaluate", f"--workdir={run}", *flags]) == 0
    return json.loads((run / "evaluation.json").read_text())


def _interim_lines(run):
    return [line for line in files.read_lines(run / "evaluations.jsonl") if line.get("interim")]


def _steps(folder):
    return [int(path.name) for path in folder.iterdir()]


def test_interim_evaluations_are_logged_and_drawn(run):
    lines = files.read_lines(run / "evaluations.jsonl")
    assert [line["step"] for line in lines if line.get("interim")] == [2, 4]
    assert [line["step"] for line in lines if not line.get("interim")][:1] == [4]
    assert all(line["modes"]["protocol"]["samples"] == 20 for line in lines)
    assert (run / "evaluations.png").exists()


def test_the_best_checkpoint_has_the_lowest_figure(run):
    lines = _interim_lines(run)
    values = [line["modes"]["figures"]["frechet_distance"] for line in lines]
    (best,) = _steps(run / "best")
    assert best == lines[int(np.argmin(values))]["step"]
    document = _evaluate(run, "--config.evaluation.checkpoint=best")
    assert document["step"] == best
    # The same samples of the same state under the same protocol.
    assert document["modes"]["figures"]["frechet_distance"] == min(values)


@pytest.mark.slow
def test_a_picture_that_cannot_be_drawn_keeps_no_figure_from_being_written(
    points, tmp_path, monkeypatch, capsys, caplog
):
    def fail(*_):
        raise MemoryError("of a picture")

    monkeypatch.setattr(run_evaluation.plots, "curves", fail)
    config = "num_train_steps=2", "population=1", "evaluation.every=1"
    assert commands.train(points(*config), tmp_path) == 0
    assert json.loads((tmp_path / "evaluation.json").read_text())["step"] == 2
    warnings = [record.getMessage() for record in caplog.records]
    for name in ("curves", "evaluations"):
        assert f"warning: {tmp_path / name}.png cannot be drawn (of a picture)" in warnings
        assert not (tmp_path / f"{name}.png").exists()


@pytest.mark.slow
def test_a_diagnostic_that_cannot_be_computed_is_left_out_with_one_warning(
    points, tmp_path, caplog
):
    """As the diversity of a split with a single image."""
    experiment = points("num_train_steps=4", "run.sample_every=2", "population=1")
    undefined = {"diagnostics/diversity": float("nan"), "diagnostics/saturation": 0.25}
    experiment = dataclasses.replace(experiment, diagnostics=lambda state: dict(undefined))
    assert commands.train(experiment, tmp_path) == 0
    lines = files.read_lines(tmp_path / "metrics.jsonl")
    diagnosed = [line for line in lines if "diagnostics/saturation" in line]
    assert [line["step"] for line in diagnosed] == [0, 2, 4]
    assert not any("diagnostics/diversity" in line for line in lines)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("warning: diagnostics/diversity cannot be computed from these data")


def test_any_step_is_evaluated_from_its_directory_alone(run):
    document = _evaluate(run, "--config.evaluation.checkpoint=2")
    assert document["step"] == 2 and document["name"] == "points"
    assert document["modes"]["protocol"]["step"] == 2
    assert document["modes"]["timing"]["images_per_second"] > 0


def test_all_checkpoints_are_evaluated_and_drawn(run):
    before = len(files.read_lines(run / "evaluations.jsonl"))
    (run / "evaluations.png").unlink()
    assert _evaluate(run, "--config.evaluation.checkpoint=all")["step"] == 4
    lines = files.read_lines(run / "evaluations.jsonl")[before:]
    assert [line["step"] for line in lines] == [2, 4]
    assert (run / "evaluations.png").exists()


def test_missing_checkpoints_are_refused(run, capsys, tmp_path):
    def error(workdir, checkpoint):
        flag = f"--config.evaluation.checkpoint={checkpoint}"
        assert main(["gaxn", "--mode=evaluate", f"--workdir={workdir}", flag]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert f"must be a step of {run}: 2, 4, got '3'" in error(run, 3)
    files.write_json(tmp_path / "config.json", json.loads((run / "config.json").read_text()))
    assert "has no best checkpoint" in error(tmp_path, "best")
    assert "has no checkpoint" in error(tmp_path, 4)
    assert "holds no run" in error(tmp_path / "nothing", "last")


def test_a_damaged_best_checkpoint_is_refused(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for path in (copy / "best").rglob("*"):
        if path.is_file() and path.stat().st_size > 1_000:
            path.write_bytes(b"")
    flag = "--config.evaluation.checkpoint=best"
    assert main(["gaxn", "--mode=evaluate", f"--workdir={copy}", flag]) == 2
    assert "that checkpoint is damaged" in capsys.readouterr().err
    assert not (copy / "corrupt_best").exists()


def test_weights_and_statistics_follow_the_config(run, points):
    raw = _evaluate(run, "--config.evaluation.weights=raw")["modes"]
    protocols, distances = [raw["protocol"]], [raw["figures"]["frechet_distance"]]
    state = restore.restore_state(points("num_train_steps=4", "population=1"), run, "last")
    for overrides in ((), ("evaluation.statistics=running",)):
        evaluation = points("population=1", "evaluation.weights=ema", *overrides).evaluation
        report = evaluation.evaluators()["modes"](evaluation.sampler(state))
        protocols.append(report.protocol)
        distances.append(report.figures["frechet_distance"])
    assert [protocol["weights"] for protocol in protocols] == ["raw", "ema", "ema"]
    assert protocols[0]["batch_statistics"] == "standing, 2048 samples"
    assert protocols[2]["batch_statistics"] == "running"
    assert len(set(distances)) == 3


@pytest.mark.slow
def test_a_resumed_run_has_the_same_best_checkpoint(points, tmp_path):
    config = ("evaluation.every=2", "run.checkpoint_every=3", "run.keep=9")
    once, resumed = tmp_path / "once", tmp_path / "resumed"
    assert commands.train(points(*config), once) == 0
    assert commands.train(points(*config, "num_train_steps=5"), resumed) == 0
    assert commands.train(points(*config), resumed) == 0
    expected, actual = (
        {line["step"]: line["modes"]["figures"] for line in _interim_lines(workdir)}
        for workdir in (once, resumed)
    )
    assert actual == expected and list(expected) == [2, 4, 6, 8]
    assert len(_steps(once / "best")) == 1
    assert _steps(resumed / "best") == _steps(once / "best")


@pytest.mark.slow
def test_the_best_checkpoint_is_never_later_than_the_last(points, tmp_path):
    config = ("evaluation.every=1", "run.checkpoint_every=8", "run.keep=9")
    assert commands.train(points(*config), tmp_path) == 0
    (best,) = _steps(tmp_path / "best")
    assert best in _steps(tmp_path / "checkpoints")


def _plan(best):
    return EvaluationPlan(None, None, dict, dict, 1, best, "last", ())


DOCUMENT = {
    "step": 3,
    "interim": True,
    "classifier": {
        "figures": {"frechet_distance": 2.0, "accuracy": 0.5},
        "protocol": {"samples": 20, "step": 3},
    },
}


def test_the_best_figure_is_the_lowest_or_the_highest():
    lowest = _plan("lowest classifier/frechet_distance")
    highest = _plan("highest classifier/accuracy")
    assert lowest.figure(DOCUMENT) == 2.0 and highest.figure(DOCUMENT) == 0.5
    assert lowest.is_best(2.0, []) and lowest.is_best(1.0, [2.0, 3.0])
    assert not lowest.is_best(2.0, [2.0]) and not lowest.is_best(3.0, [2.0])
    assert highest.is_best(3.0, [2.0]) and not highest.is_best(1.0, [2.0])
    assert _plan("lowest classifier/fid").figure(DOCUMENT) is None


def test_only_interim_figures_of_one_protocol_are_ranked():
    part = DOCUMENT["classifier"]
    others = (
        {name: value for name, value in DOCUMENT.items() if name != "interim"},
        {**DOCUMENT, "classifier": {**part, "protocol": {"samples": 40, "step": 3}}},
        {**DOCUMENT, "classifier": {**part, "figures": {}}},
        {"step": 1, "interim": True},
    )
    later = {**DOCUMENT, "classifier": {**part, "protocol": {"samples": 20, "step": 9}}}
    best = _plan("lowest classifier/frechet_distance")
    assert best.earlier_figures(later, [*others, DOCUMENT]) == [2.0]


def test_an_unknown_best_figure_is_refused_before_training(tiny, tmp_path):
    config = tiny(*QUICK, "evaluation.every=2", "evaluation.best=lowest inception/kid")
    expected = "must be lowest or highest, then one of classifier/class_f1"
    with pytest.raises(InputError, match=expected):
        commands.train(make_experiment(config, "tiny"), tmp_path)
    config = tiny(*QUICK, "evaluation.every=2", "evaluation.best=lowest classifier/fid")
    with pytest.raises(InputError, match="classifier/frechet_distance"):
        commands.train(make_experiment(config, "tiny"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_missing_weights_of_inception_are_refused_before_training(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("GAXN_CACHE", str(tmp_path / "cache"))
    config = tiny("evaluation.inception=nowhere.pth")
    with pytest.raises(InputError, match="pth, are not there"):
        commands.train(make_experiment(config, "tiny"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_config_can_download_the_weights_of_inception(tiny, tmp_path, monkeypatch):
    def fetch(urls, path, verify):
        raise InputError(f"fetching {path.name}")

    monkeypatch.setenv("GAXN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "fetch", fetch)
    config = tiny("evaluation.inception=download")
    with pytest.raises(InputError, match="fetching pt_inception"):
        commands.train(make_experiment(config, "tiny"), tmp_path / "run")


def test_metrics_that_need_more_images_are_left_out_unless_required(tmp_path):
    images = np.zeros((4, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "four.npz", images=images, labels=np.arange(4) % 3)
    four, train = npz.Source("all", str(tmp_path / "four.npz")), shapes.Source("train", 100)
    metrics = plan.resolve_metrics((), "metrics")
    reference = feature_metrics.Reference(four, classifier.load("shapes"), metrics, True, 20)

    def names(*required):
        return feature_metrics.Evaluator(
            "classifier", train, reference, metrics, required, 20, False
        ).figures

    assert {"frechet_distance", "conditional_accuracy"} <= names()
    assert "precision" not in names()
    with pytest.raises(InputError, match="metric precision_recall needs 6 images or more, got 4"):
        names("precision_recall")


@pytest.mark.slow
def test_copies_are_detected_and_figures_of_real_images_are_reported(tiny):
    metrics = "evaluation.metrics=('frechet', 'confusion')"
    no_attention = ("generator.attention_at=()", "discriminator.attention_at=()")
    experiment = make_experiment(tiny("evaluation.samples=60", metrics, *no_attention), "tiny")
    evaluator = experiment.evaluation.evaluators()["classifier"]
    training_images = np.asarray(make_reader(experiment.train_source)(np.arange(60)).images)
    sampler = experiment.sampler(jax.device_get(experiment.create_state(experiment.key)))
    copying = sampler._replace(sample=lambda indices, labels: training_images[indices])
    report = evaluator(copying)
    assert report.figures["copied_share"] == 1 and report.figures["nearest_training_image"] < 1e-3
    assert evaluator(sampler).figures["copied_share"] < 0.1
    height, width, _ = report.pictures["nearest_classifier"]().shape
    # Eight samples, each beside its five nearest.
    assert (height, width) == (8 * 66 + 2, 6 * 66 + 2)
    assert report.protocol["real_count"] == 60
    assert report.figures["frechet_distance_real"] > 0
    assert report.figures["conditional_accuracy_real"] > 0.95


def test_a_figure_is_formatted_with_its_error_and_the_value_of_real_images():
    texts = figures.format_figures(
        {"fd": 4.30144, "fd_error": 0.1, "fd_real": 0.3, "kid": None, "lonely_error": 2.0}
    )
    assert texts == {"fd": "4.3014 +- 0.1000 (real 0.3000)", "lonely_error": "2.0000"}


@pytest.mark.parametrize("metrics", ["('confusion',)", "('modes', 'confusion')", "('ms_ssim',)"])
def test_a_metric_that_cannot_be_computed_is_refused_before_training(points, tmp_path, metrics):
    message = r"config.evaluation.metrics must be metrics that .* these data, got \('[a-z_]+',\)$"
    with pytest.raises(InputError, match=message):
        commands.train(points(f"evaluation.metrics={metrics}", "population=1"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_metrics_of_unlabeled_images_need_features(tmp_path, photos, capsys):
    """A folder without classes has no classifier."""
    command = [f"--config={CONFIG}", f"--config.data.path={photos}", f"--workdir={tmp_path / 'r'}"]
    assert main(["gaxn", *command, "--config.evaluation.metrics=('frechet',)"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("gaxn: config.evaluation.metrics must be metrics that can be computed ")
    assert line.endswith("(a classifier needs classes; or set inception), got ('frechet',)\n")
    assert not (tmp_path / "r").exists()


EVALUATION = {
    "step": 8,
    "classifier": {
        "figures": {
            "confidence": 0.9,
            "recall": 0.5,
            "recall_real": 0.75,
            "frechet_distance": 4.30144,
            "frechet_distance_error": 0.1,
            "frechet_distance_real": 0.3,
            "coverage": None,
            "modes": 10,
        }
    },
    "inception": {"figures": {"frechet_distance": 20.0, "recall": 0.25, "kid_unbiased": 0.01}},
    "reconstruction": {"figures": {"mae": 0.125}},
    "attention": {"figures": {"gamma/generator": 0.5}},
}


def test_the_table_has_the_six_most_important_figures():
    lines = figures.format_headlines(EVALUATION, ("mae",)).splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["reconstruction/mae", "0.1250"],
        ["classifier/frechet_distance", "4.3014", "+-", "0.1000", "0.3000"],
        ["inception/frechet_distance", "20.0000"],
        ["classifier/recall", "0.5000", "0.7500"],
        ["inception/recall", "0.2500"],
        ["classifier/confidence", "0.9000"],
    ]
    assert lines[0].split() == ["figure", "value", "+-", "error", "of", "real", "images"]


def test_interim_evaluations_do_not_count_as_training_time(points, tmp_path, monkeypatch):
    often = ("num_train_steps=4", "evaluation.every=2", "run.log_every=1", "population=1")
    experiment = points(*often)
    no_evaluation = dataclasses.replace(experiment.evaluation, evaluators=dict)
    experiment = dataclasses.replace(experiment, evaluation=no_evaluation)
    evaluation_seconds = 0.0

    def evaluate_slowly(*_):
        nonlocal evaluation_seconds
        evaluation_seconds += 1_000

    monkeypatch.setattr(run_evaluation, "evaluate_interim", evaluate_slowly)
    # A clock that advances with evaluations, and by a second whenever it is read.
    readings = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(readings) + evaluation_seconds)
    monkeypatch.setattr(progress, "time", clock)
    assert commands.train(experiment, tmp_path) == 0
    assert evaluation_seconds == 2_000
    _, *lines = files.read_lines(tmp_path / "metrics.jsonl")
    # A step of 8 images, and the few readings of the clock at each.
    assert all(line["images_per_second"] > 1 for line in lines)
