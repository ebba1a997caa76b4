"""A report says what the files of a run say, is bounded in size, and never ends a run."""

import base64
import fcntl
import io
import json
import logging
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from gaxn import commands
from gaxn.evaluation import report
from gaxn.evaluation.report import (
    DONE,
    FAILED,
    STOPPED,
    TRAINING,
    ReportWriter,
    State,
    collect,
    curves,
    pictures,
)
from gaxn.evaluation.report.pictures import Pictures
from gaxn.evaluation.report.run_state import infer_state
from gaxn.experiment import make_experiment
from gaxn.io import files, plots
from gaxn.io.writers import NO_WRITERS
from gaxn.training import loop
from gaxn.types import InputError

HOSTILE = "</script><script>alert('$_$')</script>\u2028&\"\\"
PROTOCOL = {"samples": 60, "reference": "shapes", "step": 8, "seed": 3}
CONFIG = {
    "seed": 3,
    "num_train_steps": 8,
    "batch_size": 4,
    "population": 1,
    "conditional": True,
    "gan": {"name": "gan.GAN"},
    "data": {"name": "shapes"},
    "generator": {"name": "dcgan.Generator", "widths": [8, 4]},
    "optimizers": {"generator": {"name": "adam", "learning_rate": 0.002}},
    "run": {"sample_columns": 3, "log_every": 2},
}
CLASSES = ["square", HOSTILE]
RECORD = {
    "format": 3,
    "config": CONFIG,
    "name": "shapes",
    "data": {"identity": "shapes size=8", "classes": CLASSES, "image_shape": [8, 8, 3]},
    "versions": {"gaxn": "0.3.0"},
    "devices": ["cpu:0"],
    "git": "0123abc",
}
HISTORY = [
    {"step": 0, "diagnostics/diversity": 0.5, "diagnostics/gamma/generator/attention_8": 0.0},
    # 2 steps of 4 images: 8 and 0.5 seconds.
    {"step": 2, "d/loss": 1.23456789, "d/real": 2.0, "images_per_second": 1.0},
    {"step": 4, "d/loss": None, "g/loss": 0.5, "d/r1": 7.0, "images_per_second": 16.0},
]
PART = {
    "figures": {
        "frechet_distance": 1.5,
        "frechet_distance_error": 0.25,
        "frechet_distance_real": 0.125,
        "copied_share": 0.0,
        "copied_share_real": 0.01,
    },
    "tables": {
        "confusion": [[9, 1], [2, 8]],
        "classes": CLASSES,
        "class_precision": [0.75, 0.5],
        "class_recall": [0.9, 0.8],
        "class_f1": [0.8, 0.6],
        "members": {"frechet_distance": [1.0, 2.0], "modes": [None, 3.0]},
    },
    "protocol": PROTOCOL,
}
EVALUATION = {
    "name": "shapes",
    "step": 8,
    "classifier": PART,
    "cost": {"parameters": {"generator": 1_234}, "flops_a_step": 2.5e9},
}
TINY_GRID = (2, 3, 8, 8, 3)


def _draw(shape=TINY_GRID, seed=0):
    """Draws random images, [rows, columns, height, width, channels]."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _write(workdir, config=(), record=(), history=HISTORY, evaluation=None, steps=(0, 4)):
    """Writes the directory of a run of two classes."""
    content = {**RECORD, "config": {**CONFIG, **dict(config)}, **dict(record)}
    files.write_json(workdir / "config.json", content)
    files.write_lines(workdir / "metrics.jsonl", history)
    if evaluation is not None:
        files.write_json(workdir / "evaluation.json", evaluation)
    for step in steps:
        path = workdir / "samples" / f"step_{step:08d}.png"
        files.write_png(path, plots.grid(_draw(seed=step)))
    return workdir


def _collect(workdir, state=None):
    """Returns the data of the report of one run."""
    state = state or infer_state(workdir)
    (run,) = collect.collect_report(workdir, state, Pictures())["runs"]
    return run


def _decode(document, image):
    """Returns the pixels of an entry of a document, as they are stored."""
    url = document["images"][image["src"].removeprefix("@")]
    pixels = Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2])))
    assert pixels.size == (image["width"], image["height"])
    return np.asarray(pixels.convert("RGB"))


def _panels(run):
    return {panel["title"]: panel for panel in run["curves"]}


def test_curves_are_those_of_the_log(tmp_path):
    panels = _panels(_collect(_write(tmp_path)))
    losses = {each["name"]: each for each in panels["losses"]["series"]}
    assert losses["d/loss"] == {"name": "d/loss", "steps": [2, 4], "values": [1.23457, None]}
    assert losses["g/loss"] == {"name": "g/loss", "steps": [4], "values": [0.5]}
    (gamma,) = panels["gamma of attention layers"]["series"]
    assert gamma == {"name": "generator/attention_8", "steps": [0], "values": [0.0]}
    assert panels["further terms of the losses"]["series"][0]["name"] == "d/r1"
    assert panels["logits"]["series"][0]["values"] == [2.0]
    assert panels["speed"]["series"][0]["values"] == [1.0, 16.0]
    assert len(panels) == 7


def test_a_long_log_is_thinned_but_keeps_its_ends_and_diagnostics(tmp_path):
    history = [{"step": step, "g/loss": 1.0} for step in range(9_000)]
    for step in range(0, 9_000, 500):
        history[step]["diagnostics/diversity"] = 0.5
    panels = _panels(_collect(_write(tmp_path, history=history)))
    steps = panels["losses"]["series"][0]["steps"]
    assert 1_500 < len(steps) <= curves.MAX_POINTS and (steps[0], steps[-1]) == (0, 8_999)
    diagnosed = panels["diversity and saturation"]["series"][0]["steps"]
    assert diagnosed == list(range(0, 9_000, 500))


def test_damaged_lines_of_a_log_are_left_out(tmp_path):
    _write(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'half a line\n[1]\n{path.read_text()}{{"step": 6, "g/lo')
    assert _panels(_collect(tmp_path))["losses"]["series"][0]["steps"] == [2, 4]


def test_a_band_is_from_the_smallest_to_the_largest_member(tmp_path):
    values = curves.add_bands({"d/loss": np.array([1.0, 4.0, 4.0]), "g/loss": np.float32(2.0)})
    assert values == {"d/loss": 3.0, "g/loss": 2.0, "low/d/loss": 1.0, "high/d/loss": 4.0}
    # Of what was reduced before nothing changes.
    assert curves.add_bands(values) == values
    history = [{"step": 2, **values}]
    series = _panels(_collect(_write(tmp_path, history=history)))["losses"]["series"]
    band = {"values": [3.0], "low": [1.0], "high": [4.0]}
    assert series[0] == {"name": "d/loss", "steps": [2], **band}
    assert series[1] == {"name": "g/loss", "steps": [2], "values": [2.0]}


def test_a_population_logs_its_bands(tmp_path, capsys):
    experiment = SimpleNamespace(
        parallelism=SimpleNamespace(to_host=lambda scalars: scalars),
        settings=SimpleNamespace(batch_size=4, population=2, num_train_steps=3),
        run=SimpleNamespace(log_every=2),
        diagnostics=lambda state: {"diagnostics/diversity": state, "diagnostics/gamma/a": np.nan},
    )
    with loop._Log(experiment, tmp_path / "a.jsonl", 0, NO_WRITERS) as scalars_log:
        for step in (1, 2, 3):
            scalars_log.add(range(step - 1, step), {"d/loss": np.array([step, 2.0 * step])})
        scalars_log.write_all_but_last()
        scalars_log.add_diagnostics(scalars_log.diagnose(np.array([0.25, 0.75])))
    lines = files.read_lines(tmp_path / "a.jsonl")
    assert [line["step"] for line in lines] == [2, 3]
    assert [line["d/loss"] for line in lines] == [3.0, 4.5]
    assert [line["low/d/loss"] for line in lines] == [2.0, 3.0]
    assert [line["high/d/loss"] for line in lines] == [4.0, 6.0]
    assert lines[1]["diagnostics/diversity"] == 0.5
    assert lines[1]["high/diagnostics/diversity"] == 0.75
    assert not any("gamma" in name for line in lines for name in line)
    assert "low" not in capsys.readouterr().out


def test_learning_rates_are_those_of_the_updates(tmp_path):
    linear = {"name": "linear", "points": [[0.25, 0.4], [0.75, 0.2]]}
    kimg = {"name": "constant", "points": [[0, 1.0], [0.012, 3.0]], "unit": "kimg"}
    optimizers = {
        "generator": {"name": "adam", "learning_rate": linear},
        "discriminator": {"name": "adam", "learning_rate": 0.5},
        "encoder": {"name": "sgd", "learning_rate": kimg},
        # Of gaxn 0.2, in which the decay was another field.
        "old": {"name": "adam", "learning_rate": 0.5, "decay": {"begin": 2}},
    }
    history = [{"step": step} for step in (0, 1, 4, 5, 8)]
    run = _collect(_write(tmp_path, {"optimizers": optimizers}, history=history))
    series = {each["name"]: each for each in _panels(run)["learning rates"]["series"]}
    # After 0, 3, 4 and 7 of 8 steps; the line goes from step 2 to step 6.
    assert series["generator"]["steps"] == [1, 4, 5, 8]
    np.testing.assert_allclose(series["generator"]["values"], [0.4, 0.35, 0.3, 0.2], rtol=1e-5)
    assert series["discriminator"]["values"] == [0.5] * 4
    # 12 images are 3 steps.
    assert series["encoder"]["values"] == [1.0, 3.0, 3.0, 3.0]
    assert "old" not in series


def test_warnings_are_those_that_training_logged(tmp_path):
    history = [
        {"step": step, "diagnostics/diversity": value}
        for step, value in enumerate((0.0, 0.5, 0.05, 0.04, 0.03, 0.5, 0.01, 0.01))
    ]
    warnings = _collect(_write(tmp_path, history=history))["warnings"]
    assert [each["step"] for each in warnings] == [3, 7]
    assert warnings[0]["text"].startswith(
        "samples are almost identical (diagnostics/diversity 0.04"
    )


def test_figures_of_interim_evaluations_have_curves(tmp_path):
    _write(tmp_path)
    other = {**PART, "protocol": {**PROTOCOL, "samples": 10_000}}
    lines = [{"step": step, "classifier": PART, "interim": True} for step in (2, 4)]
    files.write_lines(tmp_path / "evaluations.jsonl", [*lines, {"step": 8, "classifier": other}])
    panel = _panels(_collect(tmp_path))["classifier/frechet_distance"]
    generated, real = panel["series"]
    assert generated["steps"] == [2, 4] and generated["values"] == [1.5, 1.5]
    assert generated["low"] == [1.0, 1.0] and generated["high"] == [2.0, 2.0]
    assert real == {"name": "real images", "steps": [2, 4], "values": [0.125, 0.125]}


def test_the_head_has_figures_facts_and_the_state(tmp_path):
    run = _collect(_write(tmp_path, evaluation=EVALUATION))
    assert run["headlines"][0] == {
        "part": "classifier",
        "name": "frechet_distance",
        "value": 1.5,
        "error": 0.25,
        "real": 0.125,
        "text": "1.5 ± 0.25",
        "better": "lower",
    }
    assert run["headlines"][1]["name"] == "copied_share" and len(run["headlines"]) == 2
    facts = {each["name"]: each["value"] for each in run["facts"]}
    assert facts == {
        "config": "shapes",
        "data set": "shapes size=8",
        "seed": "3",
        "batch size": "4",
        "images seen": "32",
        # Of the log: 8 seconds and half a second.
        "time of training": "0 min 08 s",
        "parameters, generator": "1,234",
        "GFLOP a step": "2.5",
        "evaluated at step": "8",
        "devices": "cpu:0",
        "versions": "gaxn 0.3.0",
        "git commit": "0123abc",
    }
    assert run["state"] == {
        **{"kind": DONE, "step": 8, "steps": 8, "message": ""},
        **{"images_per_second": 16.0, "seconds_left": None},
    }
    assert run["images_per_step"] == 4 and run["label"] == tmp_path.name
    (protocol,) = run["protocols"]
    assert {"name": "samples", "value": "60"} in protocol["fields"]
    assert [figure["name"] for figure in protocol["figures"]] == [
        "frechet_distance",
        "copied_share",
    ]


def test_a_run_that_trains_says_what_is_left(tmp_path):
    state = _collect(_write(tmp_path), State(TRAINING))["state"]
    # 4 steps of 4 images, at 16 images a second.
    assert state["step"] == 4 and state["seconds_left"] == 1.0
    assert "evaluation follows" in _collect(tmp_path, State(TRAINING, 8))["state"]["message"]


def test_a_config_marks_what_differs_from_its_file(tmp_path):
    before = {"seed": 0, "run.sample_columns": None, "optimizers.generator": {"name": "sgd"}}
    run = _collect(_write(tmp_path, record={"overridden": before}))
    fields = {each["field"]: each for each in run["config"]}
    assert fields["seed"] == {"field": "seed", "value": "3", "default": "0", "differs": True}
    assert fields["run.sample_columns"]["differs"]
    assert fields["run.sample_columns"]["default"] is None
    assert fields["optimizers.generator.name"]["default"] == "sgd"
    assert fields["generator.widths"]["value"] == "[8, 4]"
    assert not fields["generator.widths"]["differs"]
    assert list(fields)[:2] == ["seed", "num_train_steps"]


def test_pictures_are_those_of_the_files(tmp_path):
    _write(tmp_path, evaluation=EVALUATION)
    document = collect.collect_report(tmp_path, State(DONE), Pictures())
    samples = document["runs"][0]["samples"]
    assert [grid["step"] for grid in samples["grids"]] == [0, 4] and samples["best"] == 1
    image = samples["grids"][1]["image"]
    pixels = _decode(document, image)
    expected = files.read_png(tmp_path / "samples" / "step_00000004.png")
    factor = len(expected) // len(pixels)
    assert image["pixelated"] and factor == 2
    np.testing.assert_array_equal(pixels.repeat(factor, 0).repeat(factor, 1), expected)
    assert "a row per class" in samples["caption"] and HOSTILE in samples["caption"]
    assert samples["real"] is None and samples["animation"] is None


def test_each_class_has_its_row_of_samples_and_its_figures(tmp_path):
    _write(tmp_path, evaluation=EVALUATION)
    document = collect.collect_report(tmp_path, State(DONE), Pictures())
    (run,) = document["runs"]
    square, other = run["samples"]["per_class"]
    assert square["name"] == "square" and other["name"] == HOSTILE
    assert square["figures"] == {"precision": 0.75, "recall": 0.9, "f1": 0.8}
    pixels = _decode(document, other["image"])
    row = plots.grid(_draw(seed=4)[1:2])
    np.testing.assert_array_equal(pixels.repeat(2, 0).repeat(2, 1), row)
    assert run["confusion"]["matrix"] == [[9, 1], [2, 8]]
    assert run["confusion"]["per_class"][1] == {"name": HOSTILE, **other["figures"]}


def test_equal_pictures_are_stored_once():
    store = Pictures()
    pixels = _draw()[0, 0]
    entries = [store.add(pixels, alt) for alt in ("one", "two")]
    assert entries[0]["src"] == entries[1]["src"] and len(store.data) == 1
    assert store.add(255 - pixels, "three")["src"] != entries[0]["src"]


def test_what_was_encoded_before_is_used_again(tmp_path, monkeypatch):
    _write(tmp_path)
    store = Pictures()
    first = collect.collect_report(tmp_path, State(DONE), store)
    monkeypatch.setattr(pictures, "encode", lambda pixels: pytest.fail("encoded again"))
    monkeypatch.setattr(collect, "_collect_classes", lambda *_: [])
    again = collect.collect_report(tmp_path, State(DONE), Pictures(store.encoded))
    assert again["runs"][0]["samples"]["grids"] == first["runs"][0]["samples"]["grids"]


@pytest.mark.parametrize(
    ("count", "limit", "indices"),
    [(3, 3, [0, 1, 2]), (5, 3, [0, 2, 4]), (6, 3, [0, 3, 5]), (9, 1, [8]), (0, 2, [])],
)
def test_the_first_and_the_last_are_kept(count, limit, indices):
    assert pictures.thin(count, limit) == indices


def test_of_many_or_large_grids_fewer_are_kept(tmp_path, monkeypatch):
    _write(tmp_path, steps=range(0, 80, 1))
    grids = _collect(tmp_path)["samples"]["grids"]
    assert 30 < len(grids) <= collect.MAX_GRIDS
    assert (grids[0]["step"], grids[-1]["step"]) == (0, 79)
    monkeypatch.setattr(collect, "MAX_GRID_BYTES", 5_000)
    store = Pictures()
    (run,) = collect.collect_report(tmp_path, State(DONE), store)["runs"]
    few = [grid["step"] for grid in run["samples"]["grids"]]
    assert 1 <= len(few) < 10 and few[-1] == 79
    data = {store.data[grid["image"]["src"][1:]] for grid in run["samples"]["grids"]}
    assert sum(map(len, data)) <= 5_000


def test_large_grids_are_made_smaller_before_fewer_are_taken(tmp_path, monkeypatch):
    _write(tmp_path, steps=())
    for step in (1, 2, 3):
        picture = _draw((1, 1, 60, 80, 3), step)[0, 0]
        files.write_png(tmp_path / "samples" / f"step_{step:08d}.png", picture)
    monkeypatch.setattr(collect, "SIDES", (80, 40, 20))
    # About 20,000 bytes each at first, and 5,000 of half the side.
    monkeypatch.setattr(collect, "MAX_GRID_BYTES", 25_000)
    grids = _collect(tmp_path)["samples"]["grids"]
    assert [(each["image"]["width"], each["image"]["height"]) for each in grids] == [(40, 30)] * 3
    monkeypatch.setattr(collect, "MAX_PIXELS", 2 * 60 * 80)
    monkeypatch.setattr(collect, "MIN_GRIDS", 1)
    assert [each["step"] for each in _collect(tmp_path)["samples"]["grids"]] == [1, 3]


def test_a_large_picture_is_made_smaller():
    encoded = pictures.encode(_draw((1, 1, 60, 100, 3))[0, 0], max_side=50)
    assert (encoded.width, encoded.height) == (50, 30)


def test_an_animation_is_bounded(tmp_path, monkeypatch):
    path = tmp_path / "a.gif"
    files.write_gif(path, list(_draw((4, 128, 128, 3))))
    entry = Pictures().add_animation(path, "moving")
    assert (entry["width"], entry["height"]) == (128, 128)
    monkeypatch.setattr(pictures, "MAX_ANIMATION_BYTES", 12_000)
    store = Pictures()
    entry = store.add_animation(path, "moving")
    assert entry["width"] == entry["height"] < 128
    (url,) = store.data.values()
    with Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2]))) as animation:
        assert animation.n_frames == 4


def test_translations_are_cut_out_of_the_grid(tmp_path):
    config = {"gan": {"name": "cyclegan.CycleGAN"}, "data": {"name": "unpaired", "paired": True}}
    figures = {"mae_a2b": 0.1, "mae_a2b_error": 0.01, "cycle_mae_b": 0.2, "mae_b2a_identity": 0.3}
    part = {"figures": figures, "tables": {}, "protocol": PROTOCOL}
    _write(tmp_path, config, evaluation={"name": "c", "step": 8, "translation": part}, steps=())
    images = _draw((8, 3, 64, 64, 3))
    files.write_png(tmp_path / "samples" / "step_00000008.png", plots.grid(images))
    document = collect.collect_report(tmp_path, State(DONE), Pictures())
    (run,) = document["runs"]
    a2b, b2a = run["translation"]
    rows = {"source": 0, "translation": 1, "reconstruction": 2, "truth": 4}
    for direction, offset in ((a2b, 0), (b2a, 4)):
        for column, example in enumerate(direction["examples"]):
            for name, row in rows.items():
                expected = images[(row + offset) % 8, column]
                np.testing.assert_array_equal(_decode(document, example[name]), expected)
    assert a2b["figures"] == {"mae_a2b": 0.1}
    assert b2a["figures"] == {"cycle_mae_b": 0.2, "mae_b2a_identity": 0.3}
    # The truth of one direction is the source of the other.
    assert a2b["examples"][0]["truth"]["src"] == b2a["examples"][0]["source"]["src"]
    headlines = {each["name"]: each["better"] for each in run["headlines"]}
    assert headlines == {"mae_a2b": "lower", "cycle_mae_b": "lower"}


def test_attention_is_that_of_the_maps(tmp_path, monkeypatch):
    _write(tmp_path)
    maps = _draw((2, 3, 16, 4), seed=1)
    arrays = {
        "generator_generated/images": _draw((2, 8, 8, 3)),
        "generator_generated/block/attention/maps": maps,
        "generator_generated/block/attention/gamma": np.float32(0.5),
        "discriminator_real/images": _draw((2, 8, 8, 3)),
    }
    (tmp_path / "attention").mkdir()
    np.savez(tmp_path / "attention" / "maps.npz", **arrays)
    (view,) = _collect(tmp_path)["attention"]["views"]
    assert (view["player"], view["kind"], len(view["images"])) == ("generator", "generated", 2)
    (layer,) = view["layers"]
    assert [base64.b64decode(each) for each in layer["maps"]] == [each.tobytes() for each in maps]
    expected = {"name": "block/attention", "gamma": 0.5, "heads": 3, "side": 4, "keys_side": 2}
    assert layer == {**expected, "maps": layer["maps"]}
    monkeypatch.setattr(collect, "MAX_ATTENTION_BYTES", maps[0].size)
    (view,) = _collect(tmp_path)["attention"]["views"]
    assert len(view["images"]) == len(view["layers"][0]["maps"]) == 1


def test_a_population_has_the_figures_of_its_members(tmp_path):
    _write(tmp_path, {"population": 2}, evaluation=EVALUATION)
    population = _collect(tmp_path)["population"]
    assert population["seeds"] == [3, 4]
    distance, modes = population["figures"]
    assert distance == {
        **{"name": "classifier/frechet_distance", "values": [1.0, 2.0]},
        **{"mean": 1.5, "error": 0.5},
    }
    assert modes["values"] == [None, 3.0] and modes["mean"] == 3.0 and modes["error"] == 0.0


def test_further_parts_have_their_sections(tmp_path):
    table = {"layers": ["generator/a"], "estimates": [1.5], "exact": [1.75]}
    spectral_norm = {"figures": {}, "tables": table, "protocol": {}}
    _write(tmp_path, evaluation={**EVALUATION, "spectral_norm": spectral_norm})
    files.write_png(tmp_path / "nearest_classifier.png", plots.grid(_draw()))
    files.write_png(tmp_path / "interpolation" / "latents.png", plots.grid(_draw()))
    run = _collect(tmp_path)
    assert run["singular_values"] == [{"layer": "generator/a", "estimate": 1.5, "exact": 1.75}]
    assert run["nearest"]["copied_share"] == 0.0 and run["nearest"]["copied_share_real"] == 0.01
    (between,) = run["interpolations"]
    assert between["name"] == "between latents" and between["animation"] is None


def test_without_its_files_a_run_has_a_report_too(tmp_path):
    files.write_json(tmp_path / "config.json", {})
    run = _collect(tmp_path)
    empty = ("samples", "confusion", "translation", "attention", "nearest", "singular_values")
    assert all(run[name] is None for name in (*empty, "population"))
    assert run["curves"] == run["headlines"] == run["config"] == run["interpolations"] == []
    assert run["state"]["kind"] == STOPPED and run["state"]["steps"] == 0
    for name in ("evaluation.json", "metrics.jsonl", "evaluations.jsonl", "samples.gif"):
        (tmp_path / name).write_bytes(b"\x89PNG damaged \xff\n")
    for name in ("samples/step_00000000.png", "attention/maps.npz", "nearest_modes.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x89PNG damaged \xff\n")
    assert report.report_run(tmp_path) == 0
    assert _collect(tmp_path)["samples"] is None


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        report.report_run(tmp_path)


def test_a_report_leaves_all_other_files_as_they_are(tmp_path, capsys):
    _write(tmp_path, evaluation=EVALUATION)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert report.report_run(tmp_path) == 0
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == {tmp_path / "report.html"}
    assert all(after[path] == time for path, time in before.items())
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"


def _read_data(path):
    """Returns the data in a page, as a browser finds them."""
    text = path.read_text()
    _, _, rest = text.partition('<script type="application/json" id="data">')
    data, _, _ = rest.partition("</script>")
    return data, json.loads(data)


def test_hostile_text_cannot_end_the_data_of_a_page(tmp_path):
    record = {"name": HOSTILE, "command": HOSTILE, "overridden": {"seed": HOSTILE}}
    _write(tmp_path, {HOSTILE: HOSTILE}, record, evaluation=EVALUATION)
    report.write_report(tmp_path, State(FAILED, 4, HOSTILE))
    text, document = _read_data(tmp_path / "report.html")
    assert not {"<", ">", "&", "\u2028"} & set(text)
    (run,) = document["runs"]
    assert run["name"] == run["command"] == run["state"]["message"] == HOSTILE
    assert run["confusion"]["classes"] == CLASSES
    assert {"field": HOSTILE, "value": HOSTILE, "default": None, "differs": False} in run["config"]


def test_numbers_that_are_not_finite_are_null():
    data = {"a": [float("nan"), 1.5, (float("inf"),)], "b": "\ud800 half of a pair"}
    assert json.loads(report.dump(data)) == {"a": [None, 1.5, [None]], "b": "? half of a pair"}


def test_the_state_of_a_run_elsewhere_follows_from_its_files(tmp_path):
    _write(tmp_path)
    assert infer_state(tmp_path) == State(STOPPED)
    report.write_report(tmp_path, State(FAILED, 4, HOSTILE))
    assert infer_state(tmp_path) == State(FAILED, 4, HOSTILE)
    with (tmp_path / ".lock").open("w") as file:
        assert infer_state(tmp_path).kind == FAILED
        fcntl.flock(file, fcntl.LOCK_EX)
        assert infer_state(tmp_path) == State(TRAINING)
    report.write_report(tmp_path, State(TRAINING, 6))
    # It was killed.
    assert infer_state(tmp_path) == State(STOPPED)
    files.write_json(tmp_path / "evaluation.json", EVALUATION)
    assert infer_state(tmp_path) == State(DONE, 8)


def test_a_finished_run_is_done_after_an_earlier_step_is_evaluated(tmp_path):
    report.write_report(_write(tmp_path), State(DONE, 8))
    files.write_json(tmp_path / "evaluation.json", {**EVALUATION, "step": 4})
    assert infer_state(tmp_path) == State(DONE, 8)
    # Unless the run is to go on.
    record = files.read_json(tmp_path / "config.json")
    record["config"]["num_train_steps"] = 16
    files.write_json(tmp_path / "config.json", record)
    assert infer_state(tmp_path) == State(STOPPED)


def test_a_failed_write_leaves_the_report_of_before(tmp_path, monkeypatch, caplog):
    report.write_report(_write(tmp_path), State(TRAINING, 4))
    before = (tmp_path / "report.html").read_bytes()

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    report.write_report(tmp_path, State(DONE, 8))
    path = tmp_path / "report.html"
    assert path.read_bytes() == before
    assert caplog.messages == [f"warning: {path} cannot be written (no space left)"]
    assert not list(tmp_path.glob(".report*"))


@pytest.fixture
def states(monkeypatch):
    """States of which reports were written, of a run without files."""
    written = []
    monkeypatch.setattr(report, "_write", lambda workdir, state, encoded: written.append(state))
    return written


def test_of_several_requests_the_newest_is_written(tmp_path, monkeypatch):
    written, started, free = [], threading.Event(), threading.Event()

    def write(workdir, state, encoded):
        started.set()
        assert free.wait(10)
        written.append(state.step)
        return {}

    monkeypatch.setattr(report, "_write", write)
    with ReportWriter(tmp_path) as writer:
        writer.update(State(TRAINING, 1))
        assert started.wait(10)
        for step in (2, 3, 4):
            writer.update(State(TRAINING, step))
        free.set()
    assert written == [1, 4]


def test_reports_that_fail_are_one_warning(tmp_path, monkeypatch, caplog):
    calls = []

    def fail(*arguments):
        calls.append(arguments)
        raise MemoryError("of a report\nand more")

    monkeypatch.setattr(report, "_write", fail)
    with ReportWriter(tmp_path) as writer:
        writer.update(State(TRAINING, 1))
        while not calls:
            pass
        writer.update(State(TRAINING, 2))
    path = tmp_path / "report.html"
    assert len(calls) == 2
    assert caplog.messages == [f"warning: {path} cannot be written (of a report)"]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (InputError("d/loss must be finite"), State(FAILED, 3, "d/loss must be finite")),
        (ValueError("one\ntwo"), State(FAILED, 3, "ValueError: one")),
        (KeyboardInterrupt(), State(STOPPED, 3, "interrupted")),
    ],
)
def test_a_run_that_an_error_ends_has_it_in_its_report(tmp_path, states, error, state):
    with pytest.raises(type(error)), ReportWriter(tmp_path) as writer:
        writer.update(State(TRAINING, 3))
        raise error
    assert states[-1] == state


def test_only_the_first_process_writes(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(report.multihost, "is_first", lambda: False)
    report.write_report(_write(tmp_path), State(DONE, 8))
    with ReportWriter(tmp_path) as writer:
        writer.update(State(DONE, 8))
    assert not (tmp_path / "report.html").exists() and not caplog.messages


def test_a_comparison_has_curves_samples_and_differences(tmp_path):
    workdirs = {"a": _write(tmp_path / "a"), "b": _write(tmp_path / "b", {"batch_size": 8})}
    table = {"columns": ["a", "b"], "rows": [], "notes": []}
    report.write_comparison(tmp_path, workdirs, table)
    _, document = _read_data(tmp_path / "report.html")
    assert document["kind"] == "comparison" and document["table"] == table
    assert [run["label"] for run in document["runs"]] == ["a", "b"]
    assert [run["images_per_step"] for run in document["runs"]] == [4, 8]
    assert document["config_differences"] == [{"field": "batch_size", "values": ["4", "8"]}]
    assert all(_panels(run)["losses"]["series"] for run in document["runs"])
    (first, second) = (run["samples"]["grids"] for run in document["runs"])
    # Of equal pictures there is one.
    assert first == second and len(document["images"]) == 2


@pytest.mark.slow
def test_a_population_that_trains_logs_bands_and_writes_its_report(ring, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    experiment = make_experiment(ring("evaluation.samples=20"), "ring")
    assert commands.train(experiment, tmp_path) == 0
    last = files.read_lines(tmp_path / "metrics.jsonl")[-1]
    assert last["low/d/loss"] <= last["d/loss"] <= last["high/d/loss"]
    assert last["low/g/loss"] < last["high/g/loss"]
    report.write_report(tmp_path)
    _, document = _read_data(tmp_path / "report.html")
    (run,) = document["runs"]
    assert run["state"]["kind"] == DONE and run["population"]["seeds"] == [0, 1]
    assert run["samples"]["real"] is None and "a panel per seed" in run["samples"]["caption"]
    assert not [message for message in caplog.messages if "report" in message]
