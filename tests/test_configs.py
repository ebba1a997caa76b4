"""Every config as `:tiny` trains, stops, goes on, evaluates and draws."""

import contextlib
import json
import os
import signal
import tomllib
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
import tensorflow_datasets
from perceptual_weights import write_package
from PIL import Image

from gaxn import config as configs
from gaxn.data import batch_spec
from gaxn.distributed import sharding
from gaxn.experiment import make_experiment
from gaxn.experiment.settings import defaults_of
from gaxn.main import main
from gaxn.training.loop import Signals
from gaxn.types import InputError

ROOT = Path(__file__).parents[1]

FOLDER = Path(__file__).parents[1] / "configs"
NAMES = sorted({path.stem for path in FOLDER.glob("*.py")} - {"common"})

# One compiles little, so by default it runs to the end; of the other GANs only a step is traced.
QUICK, LAB = {"ring"}, "attention_lab"


def _load(name, variant="tiny"):
    file = f"--config={FOLDER / name}.py:{variant}"
    return configs.parse(["gaxn", file], defaults_of).config


def _flags(name, photos):
    """Returns the flags of the smallest run of a config."""
    data = _load(name).get("data", {"name": ""})
    if data["name"] in ("idx", "stacked_mnist") and "GAXN_DATA" not in os.environ:
        pytest.skip("GAXN_DATA names no directory")
    flags = [f"--config={FOLDER / name}.py:tiny"]
    return flags + [f"--config.data.path={photos}"] * (data["name"] == "folder")


def _mock_data(name):
    """Returns a context in which TensorFlow Datasets, if the config uses them, have mock data."""
    data = _load(name).get("data", {"name": ""})
    if "tfds" in (data["name"], data.get("a", {}).get("name")):
        return tensorflow_datasets.testing.mock_data(num_examples=90)
    return contextlib.nullcontext()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {*QUICK, LAB}])
def test_the_step_of_a_config_is_traced(name, photos):
    config = configs.parse(["gaxn", *_flags(name, photos)], defaults_of).config
    with _mock_data(name):
        experiment = make_experiment(config, name, sharding.jit_parallelism(jax.devices()[:1]))
    members = () if len(experiment.members) == 1 else (len(experiment.members),)
    step = jax.vmap(experiment.train_step) if members else experiment.train_step
    state = jax.eval_shape(experiment.create_state, experiment.key)
    rows = (len(experiment.updates), experiment.settings.batch_size)
    batches = batch_spec(experiment.train_source, (*members, *rows))
    new_state, scalars = jax.eval_shape(step, state, batches, experiment.key)
    chex.assert_trees_all_equal_shapes_and_dtypes(new_state, state)
    assert {"d/loss", "g/loss"} <= scalars.keys()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in NAMES],
)
def test_a_config_runs_to_its_end(name, tmp_path, capsys, photos, monkeypatch):
    workdir = tmp_path / "run"
    command = ["gaxn", *_flags(name, photos), f"--workdir={workdir}"]
    trains = "lab" not in _load(name)
    with _mock_data(name):
        if trains:
            with monkeypatch.context() as patch:
                patch.setattr(Signals, "should_stop", stop_at_step_4)
                assert main(command) == 42
        assert main(command) == 0
        capsys.readouterr()
        assert main(command) == 0
        assert "is done" in capsys.readouterr().out
        if name == "sagan_celeba":
            # Without labels there are no paths between classes.
            assert main(["gaxn", f"--workdir={workdir}", "--mode=interpolate"]) == 0
            paths = sorted(path.name for path in (workdir / "interpolation").iterdir())
            assert paths == ["latents.gif", "latents.png"]
    document = json.loads((workdir / "evaluation.json").read_text())
    assert document["name"] == name
    pictures = list(workdir.rglob("*.png"))
    assert pictures and all(np.asarray(Image.open(path)).std() > 0 for path in pictures)
    if trains:
        assert document["step"] == 8
        assert document["cost"]["flops_a_step"] > 0
        assert set(document["cost"]["parameters"]) == {"discriminator", "generator"}
        assert (workdir / "samples" / "step_00000008.png").exists()
        assert Image.open(workdir / "samples.gif").n_frames == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "part"), [("attn_cyclegan_shapes", "lpips"), ("sagan_emoji", "attention")]
)
def test_the_variants_with_features_run_to_their_end(name, part, tmp_path, monkeypatch):
    """Trains with random weights of VGG16, stops, goes on, and evaluates."""
    write_package(tmp_path / "packages")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    variant = {"attn_cyclegan_shapes": "perceptual", "sagan_emoji": "feature_matching"}[name]
    workdir = tmp_path / "run"
    command = ["gaxn", f"--config={FOLDER / name}.py:{variant}+tiny", f"--workdir={workdir}"]
    with monkeypatch.context() as patch:
        patch.setattr(Signals, "should_stop", stop_at_step_4)
        assert main(command) == 42
    assert main(command) == 0
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    # The line of step 0 has diagnostics alone.
    assert [line["step"] for line in lines] == [0, 2, 4, 6, 8]
    assert all(line[f"g/{variant}"] > 0 for line in lines[1:])
    assert json.loads((workdir / "evaluation.json").read_text())[part]["figures"]


def stop_at_step_4(self):
    """Replaces `Signals.should_stop`, as if SIGTERM came; so short a run has a step a call."""
    self._calls += 1
    self.received = signal.SIGTERM if self._calls == 4 else None
    return self.received is not None


@pytest.mark.parametrize("size", ["", "half+", "quarter+"])
@pytest.mark.parametrize("packing", [2, 3, 4])
def test_a_batch_of_stacked_digits_is_a_batch_of_packs(size, packing):
    config = _load("stacked_mnist", f"{size}pacdcgan{packing}")
    assert config.objective.packing == packing
    assert config.batch_size == packing * (128 if size else 64)


@pytest.mark.parametrize("name", ["sagan_celeba", "sagan_folder"])
@pytest.mark.parametrize("variant", ["resnet64", "resnet128+bfloat16"])
def test_the_residual_variants_are_those_of_the_paper(name, variant):
    config = _load(name, variant)
    assert config.data.size == (128 if "128" in variant else 64)
    assert config.generator.name == "sagan_resnet.Generator"
    assert len(config.discriminator.widths) == (5 if "128" in variant else 4)
    rates = [config.optimizers[player].learning_rate for player in ("generator", "discriminator")]
    assert rates == [1e-4, 4e-4]
    assert config.get("dtype", "float32") == ("bfloat16" if "bfloat16" in variant else "float32")


def test_grid_differs_from_ring_only_in_its_modes():
    for variant in ("pacgan2", "hinge+short", "gan+tiny"):
        grid, ring = (_load(name, variant).to_dict() for name in ("grid", "ring"))
        assert len(grid["data"].pop("centers")) == 25 and len(ring["data"].pop("centers")) == 8
        assert grid["data"].pop("deviation") == 0.05 and ring["data"].pop("deviation") == 0.01
        assert grid == ring


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("attn_cgan_shapes", "optimizers.generator.clip", 0.5),
        ("attn_cgan_shapes", "optimizers.discriminator.orthogonal", 1e-4),
        ("attn_cgan_shapes", "optimizers.generator.eps", 1e-6),
        ("attn_cyclegan_shapes", "data.a.examples", 300),
    ],
)
def test_a_flag_sets_what_the_file_leaves_out_of_a_nested_field(name, field, value):
    file = f"--config={FOLDER / name}.py:tiny"
    config = configs.parse(["gaxn", file, f"--config.{field}={value}"], defaults_of).config
    *parents, last = field.split(".")
    for parent in parents:
        config = config[parent]
    assert config[last] == value


def test_a_flag_for_one_optimizer_does_not_change_the_other():
    file = f"--config={FOLDER / 'attn_cgan_shapes.py'}:tiny"
    flag = "--config.optimizers.generator.learning_rate=0.5"
    config = configs.parse(["gaxn", file, flag], defaults_of).config
    assert config.optimizers.generator.learning_rate == 0.5
    assert config.optimizers.discriminator.learning_rate.points == ((0.25, 1e-3), (1.0, 5e-5))


def test_a_flag_puts_a_schedule_in_place_of_a_number():
    file = f"--config={FOLDER / 'dcgan_mnist.py'}:tiny"
    flag = "--config.ema_decay={'name': 'cosine', 'points': ((0, 0.5), (1, 0.9))}"
    config = configs.parse(["gaxn", file, flag], defaults_of).config
    assert config.ema_decay.to_dict() == {"name": "cosine", "points": ((0, 0.5), (1, 0.9))}


def test_configs_are_found_by_their_names_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, config = configs.load_config("ring:tiny")
    assert name == "ring" and config.num_train_steps == 8
    assert configs.load_config("configs/ring.py")[0] == "ring"
    # A copy elsewhere finds what configs share; one of that name beside it comes first.
    source = (ROOT / "configs" / "ring.py").read_text()
    (tmp_path / "mine.py").write_text(source)
    assert configs.load_config("mine.py")[1].num_train_steps > 8
    (tmp_path / "common.py").write_text("raise ValueError('mine')")
    with pytest.raises(InputError, match="ValueError: mine"):
        configs.load_config("mine.py")
    for wrong in ("nothing", "common", "folder/ring"):
        with pytest.raises(InputError, match=r"--config must be the path of a config file, or one"):
            configs.load_config(wrong)


def test_the_wheel_has_the_configs_and_all_packages():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert setuptools["data-files"] == {"share/gaxn/configs": ["configs/*.py"]}
    folders = {path.parent for path in (ROOT / "gaxn").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]
    for package, patterns in setuptools["package-data"].items():
        folder = ROOT / package.replace(".", "/")
        assert all(any(folder.glob(pattern)) for pattern in patterns)
