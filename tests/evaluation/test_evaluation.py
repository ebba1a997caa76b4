"""What a run measures of itself: any checkpoint, any weights, now and then, and the best one."""

import dataclasses
import itertools
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from gaxn import commands
from gaxn.build import build
from gaxn.data import npz, shapes
from gaxn.evaluation import figures, plan, reports
from gaxn.evaluation.evaluators import feature_metrics
from gaxn.evaluation.plan import EvaluationPlan
from gaxn.evaluation.sampling import SamplingOptions, make_sampler
from gaxn.features import classifier
from gaxn.io import downloads, files
from gaxn.main import main
from gaxn.types import InputError

QUICK = [
    "evaluation.samples=20",
    "evaluation.metrics=('frechet', 'confusion')",
    "evaluation.memorization=False",
    "evaluation.interim_samples=20",
]


@pytest.fixture(scope="module")
def brief(ring):
    """A function from overrides to a run of points, in a moment, with interim evaluations."""

    def experiment(*overrides):
        best = "evaluation.best=lowest modes/frechet_distance"
        return build(ring(*QUICK, best, *overrides, variant="gan+tiny"), "brief")

    return experiment


@pytest.fixture(scope="module")
def run(brief, tmp_path_factory):
    """A finished run of 4 steps, checkpoints at 2 and 4, measured at each."""
    workdir = tmp_path_factory.mktemp("run")
    often = ("steps=4", "evaluation.every=2", "run.checkpoint_every=2", "run.keep=9")
    assert commands.train(brief(*often, "population=1"), workdir) == 0
    return workdir


def _evaluated(run, *flags):
    command = ["gaxn", "--mode=evaluate", f"--workdir={run}", *flags]
    assert main(command) == 0
    return json.loads((run / "evaluation.json").read_text())


def test_interim_evaluations_are_lines_and_a_curve(run):
    lines = files.read_lines(run / "evaluations.jsonl")
    assert [line["step"] for line in lines if line.get("interim")] == [2, 4]
    assert [line["step"] for line in lines if not line.get("interim")][:1] == [4]
    assert all(line["modes"]["protocol"]["samples"] == 20 for line in lines)
    assert (run / "evaluations.png").exists()


def test_the_best_checkpoint_is_that_of_the_lowest_figure(run):
    lines = [line for line in files.read_lines(run / "evaluations.jsonl") if line.get("interim")]
    values = [line["modes"]["figures"]["frechet_distance"] for line in lines]
    (kept,) = (path.name for path in (run / "best").iterdir())
    assert int(kept) == lines[int(np.argmin(values))]["step"]
    document = _evaluated(run, "--config.evaluation.checkpoint=best")
    assert document["step"] == int(kept)
    # The same samples of the same state under the same protocol.
    assert document["modes"]["figures"]["frechet_distance"] == min(values)


def test_a_directory_is_enough_and_any_step_will_do(run):
    document = _evaluated(run, "--config.evaluation.checkpoint=2")
    assert document["step"] == 2 and document["name"] == "brief"
    assert document["modes"]["protocol"]["step"] == 2
    assert document["modes"]["timing"]["images_per_second"] > 0


def test_all_checkpoints_are_a_curve(run):
    before = len(files.read_lines(run / "evaluations.jsonl"))
    (run / "evaluations.png").unlink()
    assert _evaluated(run, "--config.evaluation.checkpoint=all")["step"] == 4
    lines = files.read_lines(run / "evaluations.jsonl")[before:]
    assert [line["step"] for line in lines] == [2, 4]
    assert (run / "evaluations.png").exists()


def test_checkpoints_that_are_not_there_are_refused(run, capsys, tmp_path):
    def refused(workdir, which):
        command = [
            "gaxn",
            "--mode=evaluate",
            f"--workdir={workdir}",
            f"--config.evaluation.checkpoint={which}",
        ]
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "has the steps 2, 4" in refused(run, 3)
    files.write_json(tmp_path / "config.json", json.loads((run / "config.json").read_text()))
    assert "has kept none" in refused(tmp_path, "best")
    assert "holds no checkpoint" in refused(tmp_path, 4)
    assert "holds no run" in refused(tmp_path / "nothing", "last")


def test_weights_and_statistics_are_those_that_are_chosen(run, brief):
    found = [_evaluated(run, "--config.evaluation.weights=raw")["modes"]]
    state = commands._restored(brief("steps=4", "population=1"), run, "last")
    for flags in ((), ("evaluation.statistics=running",)):
        plan = brief("population=1", "evaluation.weights=ema", *flags).evaluation
        report = plan.evaluators()["modes"](plan.subject(state))
        found.append({"protocol": report.protocol, "figures": report.figures})
    protocols = [own["protocol"] for own in found]
    distances = [own["figures"]["frechet_distance"] for own in found]
    assert [protocol["weights"] for protocol in protocols] == ["raw", "ema", "ema"]
    assert protocols[0]["batch_statistics"] == "standing, 2048 samples"
    assert protocols[2]["batch_statistics"] == "running"
    assert len(set(distances)) == 3


def test_raw_weights_are_those_that_train(brief):
    experiment = brief("population=1")
    state = jax.device_get(experiment.create(experiment.key))
    moved = jax.tree.map(lambda leaf: leaf + 0.05, state.params["generator"])
    other = state.replace(params={**state.params, "generator": moved})
    indices = np.arange(4)

    def sample(choice, state):
        subject = make_sampler(experiment.game, experiment.members, None, choice)
        return subject(state).sample(indices, None)

    for statistics in ("standing", "running"):
        ema, raw = SamplingOptions("ema", statistics), SamplingOptions("raw", statistics)
        np.testing.assert_array_equal(sample(ema, state), sample(ema, other))
        np.testing.assert_array_equal(sample(ema, state), sample(raw, state))
        assert np.abs(sample(raw, state) - sample(raw, other)).max() > 0


def test_a_run_goes_on_with_the_same_best(brief, tmp_path):
    config = ("evaluation.every=2", "run.checkpoint_every=3", "run.keep=9")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert commands.train(brief(*config), whole) == 0
    assert commands.train(brief(*config, "steps=5"), parts) == 0
    assert commands.train(brief(*config), parts) == 0

    def format_figures(workdir):
        lines = files.read_lines(workdir / "evaluations.jsonl")
        return {line["step"]: line["modes"]["figures"] for line in lines if line.get("interim")}

    assert format_figures(parts) == format_figures(whole) and list(format_figures(whole)) == [2, 4, 6, 8]
    (best,) = (path.name for path in (whole / "best").iterdir())
    assert [path.name for path in (parts / "best").iterdir()] == [best]


def _plan(best):
    return EvaluationPlan(None, dict, dict, 1, best, "last", ())


DOCUMENT = {
    "step": 3,
    "interim": True,
    "classifier": {
        "figures": {"frechet_distance": 2.0, "accuracy": 0.5},
        "protocol": {"samples": 20, "step": 3},
    },
}


def test_the_best_of_a_figure():
    lowest, highest = (
        _plan("lowest classifier/frechet_distance"),
        _plan("highest classifier/accuracy"),
    )
    assert lowest.figure(DOCUMENT) == 2.0 and highest.figure(DOCUMENT) == 0.5
    assert lowest.is_best(2.0, []) and lowest.is_best(1.0, [2.0, 3.0])
    assert not lowest.is_best(2.0, [2.0]) and not lowest.is_best(3.0, [2.0])
    assert highest.is_best(3.0, [2.0]) and not highest.is_best(1.0, [2.0])
    assert _plan("lowest classifier/fid").figure(DOCUMENT) is None


def test_only_what_was_measured_the_same_way_is_ranked():
    plan = _plan("lowest classifier/frechet_distance")
    full = {name: value for name, value in DOCUMENT.items() if name != "interim"}
    part = DOCUMENT["classifier"]
    others = (
        full,
        {**DOCUMENT, "classifier": {**part, "protocol": {"samples": 40, "step": 3}}},
        {**DOCUMENT, "classifier": {**part, "figures": {}}},
        {"step": 1, "interim": True},
    )
    later = {**DOCUMENT, "classifier": {**part, "protocol": {"samples": 20, "step": 9}}}
    assert plan.earlier(later, [*others, DOCUMENT]) == [2.0]


def test_a_part_that_will_not_be_there_is_refused_before_training(tiny, tmp_path):
    config = tiny(*QUICK, "evaluation.every=2", "evaluation.best=lowest inception/kid")
    with pytest.raises(InputError, match="valid is lowest or highest, and classifier/class_f1"):
        commands.train(build(config, "tiny"), tmp_path)
    config = tiny(*QUICK, "evaluation.every=2", "evaluation.best=lowest classifier/fid")
    with pytest.raises(InputError, match="classifier/frechet_distance"):
        commands.train(build(config, "tiny"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_measured_is_told_before_training(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("GAXN_CACHE", str(tmp_path / "cache"))
    config = tiny("evaluation.inception=nowhere.pth")
    with pytest.raises(InputError, match="pth, are not there"):
        commands.train(build(config, "tiny"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_download_is_asked_for_by_the_config(tiny, tmp_path, monkeypatch):

    def fetch(urls, path, verify):
        raise InputError(f"asked for {path.name}")

    monkeypatch.setenv("GAXN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "fetch", fetch)
    config = tiny("evaluation.inception=download")
    with pytest.raises(InputError, match="asked for pt_inception"):
        commands.train(build(config, "tiny"), tmp_path / "run")


def test_metrics_that_a_small_test_split_cannot_have_are_left_out_unless_asked_for(tmp_path):
    images = np.zeros((4, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "four.npz", images=images, labels=np.arange(4) % 3)
    four, train = npz.Source("all", str(tmp_path / "four.npz")), shapes.Source("train", 100)
    metrics = plan.choose((), "metrics")
    reference = feature_metrics.Reference(four, classifier.load("shapes"), metrics, True, 20)

    def figures(asked):
        return feature_metrics.Evaluator(
            "classifier", train, reference, metrics, asked, 20, False
        ).figures

    assert {"frechet_distance", "conditional_accuracy"} <= figures(()) - {"precision"}
    with pytest.raises(InputError, match="metric manifolds needs 6 images or more; a set has 4"):
        figures(("manifolds",))


def test_the_best_state_is_never_ahead_of_the_last(brief, tmp_path):
    config = ("evaluation.every=1", "run.checkpoint_every=8", "run.keep=9")
    assert commands.train(brief(*config), tmp_path) == 0
    (best,) = (int(path.name) for path in (tmp_path / "best").iterdir())
    assert best in {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}


def test_a_damaged_chosen_checkpoint_is_told(run, tmp_path, capsys):
    import shutil

    shutil.copytree(run, tmp_path / "copy")
    for path in (tmp_path / "copy" / "best").rglob("*"):
        if path.is_file() and path.stat().st_size > 1_000:
            path.write_bytes(b"")
    flag = "--config.evaluation.checkpoint=best"
    assert main(["gaxn", "--mode=evaluate", f"--workdir={tmp_path / 'copy'}", flag]) == 2
    assert "that one is damaged, and was set aside" in capsys.readouterr().err
    assert (tmp_path / "copy" / "corrupt_best").is_dir()


def test_copies_of_training_images_are_seen_and_figures_of_real_ones_stand_beside(tiny):
    from gaxn.data import make_reader

    metrics = "evaluation.metrics=('frechet', 'confusion')"
    plain = ("generator.attention_at=()", "discriminator.attention_at=()")
    experiment = build(tiny("evaluation.samples=60", metrics, *plain), "tiny")
    evaluator = experiment.evaluation.evaluators()["classifier"]
    real = np.asarray(make_reader(experiment.train)(np.arange(60)).images)
    state = jax.device_get(experiment.create(experiment.key))
    subject = experiment.subject(state)
    copied = subject._replace(sample=lambda indices, labels: real[indices])
    report = evaluator(copied)
    assert report.figures["copied_share"] == 1 and report.figures["nearest_training_image"] < 1e-3
    fresh = evaluator(subject)
    assert fresh.figures["copied_share"] < 0.1
    height, width, _ = report.pictures["nearest_classifier"].shape
    # Eight samples, each beside its five nearest.
    assert (height, width) == (8 * 66 + 2, 6 * 66 + 2)
    assert report.protocol["real_count"] == 60
    assert report.figures["frechet_distance_real"] > 0
    assert report.figures["conditional_accuracy_real"] > 0.95


def test_figures_are_told_with_what_belongs_to_them():
    found = figures.format_figures(
        {"fd": 4.30144, "fd_error": 0.1, "fd_real": 0.3, "kid": None, "lonely_error": 2.0}
    )
    assert found == {"fd": "4.3014 +- 0.1000 (real 0.3000)", "lonely_error": "2.0000"}


def test_interim_time_is_no_training_time(brief, tmp_path, monkeypatch):
    experiment = brief("steps=4", "evaluation.every=2", "run.log_every=1", "population=1")
    nothing = dataclasses.replace(experiment.evaluation, evaluators=dict)
    experiment = dataclasses.replace(experiment, evaluation=nothing)

    passed = 0.0

    def slow(*_):
        nonlocal passed
        passed += 1_000

    monkeypatch.setattr(reports, "evaluate_interim", slow)
    # A clock that goes on by what an evaluation takes, and by a second whenever it is read.
    readings = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(readings) + passed)
    monkeypatch.setattr(files, "time", clock)
    assert commands.train(experiment, tmp_path) == 0
    _, *lines = files.read_lines(tmp_path / "metrics.jsonl")
    # A step of 8 images, and the few readings of the clock at each.
    assert all(line["images_per_second"] > 1 for line in lines)
