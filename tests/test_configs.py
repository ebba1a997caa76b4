"""Every config, shrunk: trains, stops, goes on, evaluates and draws."""

import contextlib
import json
import os
import signal
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from gaxn import arguments
from gaxn.experiment import make_experiment
from gaxn.commands import MODES
from gaxn.data import batch_spec
from gaxn.distributed import sharding
from gaxn.main import main
from gaxn.training.loop import Signals

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
NAMES_OF_FILES = ('"idx"', '"stacked_mnist"')
OF_FILES = {path for path in CONFIGS if any(name in path.read_text() for name in NAMES_OF_FILES)}


# Run whole by default, as they compile little; the step of the others is only traced there.
QUICK = {"ring", "attention_lab"}


def _flags(config, photos):
    """Of the command that runs it, shrunk."""
    if config in OF_FILES and "GAXN_DATA" not in os.environ:
        pytest.skip("GAXN_DATA names no directory")
    text = config.read_text()
    pictured = '"path": ""' in text and '"name": "tfds"' not in text
    return [f"--config={config}:tiny"] + [f"--config.data.path={photos}"] * pictured


def _data(config):
    """Within, its data set is there."""
    if '"name": "tfds"' in config.read_text():
        return tensorflow_datasets.testing.mock_data(num_examples=90)
    return contextlib.nullcontext()


@pytest.mark.parametrize(
    "config", [pytest.param(path, id=path.stem) for path in CONFIGS if path.stem not in QUICK]
)
def test_the_step_of_a_config_is_traced(config, photos):
    with _data(config):
        parsed = arguments.parse(["gaxn", *_flags(config, photos)], MODES).config
        experiment = make_experiment(parsed, config.stem, sharding.jitted(jax.devices()[:1]))
    step = experiment.step if len(experiment.members) == 1 else jax.vmap(experiment.step)
    state = jax.eval_shape(experiment.create, experiment.key)
    rows = (len(experiment.turns), experiment.batch)
    members = () if len(experiment.members) == 1 else (len(experiment.members),)
    batches = batch_spec(experiment.train, (*members, *rows))
    after, scalars = jax.eval_shape(step, state, batches, experiment.key)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert {"d/loss", "g/loss"} <= scalars.keys()


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem not in QUICK))
        for path in CONFIGS
    ],
)
def test_a_config_runs_to_its_end(config, tmp_path, capsys, photos, monkeypatch):
    workdir = tmp_path / "run"
    command = ["gaxn", *_flags(config, photos), f"--workdir={workdir}"]
    trains = '"steps"' in config.read_text()
    with _data(config):
        if trains:
            with monkeypatch.context() as stopped:
                stopped.setattr(Signals, "stop", stop_at_step_4)
                assert main(command) == 42
        assert main(command) == 0
        capsys.readouterr()
        assert main(command) == 0
        assert "is done" in capsys.readouterr().out
        if config.stem == "sagan_celeba":
            # Without labels there are no ways between classes.
            assert main(["gaxn", f"--workdir={workdir}", "--mode=interpolate"]) == 0
            drawn = sorted(path.name for path in (workdir / "interpolation").iterdir())
            assert drawn == ["latents.gif", "latents.png"]
    document = json.loads((workdir / "evaluation.json").read_text())
    assert document["name"] == config.stem
    drawn = list(workdir.rglob("*.png"))
    assert drawn and all(np.asarray(Image.open(path)).std() > 0 for path in drawn)
    if trains:
        assert document["step"] == 8
        assert document["cost"]["flops_a_step"] > 0
        assert set(document["cost"]["parameters"]) == {"discriminator", "generator"}
        assert (workdir / "samples" / "step_00000008.png").exists()
        assert Image.open(workdir / "samples.gif").n_frames == 3


def stop_at_step_4(self, step):
    """As if SIGTERM came."""
    self.caught = signal.SIGTERM if step == 4 else None
    return self.caught is not None


@pytest.mark.parametrize("size", ["", "half+", "quarter+"])
@pytest.mark.parametrize("packing", [2, 3, 4])
def test_a_batch_of_stacked_digits_is_one_of_packs(size, packing):
    file = f"--config={CONFIGS[0].parent / 'stacked_mnist.py'}:{size}pacdcgan{packing}"
    config = arguments.parse(["gaxn", file], MODES).config
    assert config.objective.packing == packing
    assert config.batch == packing * (128 if size else 64)


@pytest.mark.parametrize("name", ["sagan_celeba", "sagan_folder"])
@pytest.mark.parametrize("variant", ["resnet64", "resnet128+bfloat16"])
def test_the_residual_variants_are_the_paper_s(name, variant):
    file = f"--config={CONFIGS[0].parent / name}.py:{variant}"
    config = arguments.parse(["gaxn", file], MODES).config
    assert config.data.size == (128 if "128" in variant else 64)
    assert config.generator.name == "sagan_resnet.Generator"
    assert len(config.discriminator.widths) == (5 if "128" in variant else 4)
    rates = [config.optimizers[player].learning_rate for player in ("generator", "discriminator")]
    assert rates == [1e-4, 4e-4]
    assert config.dtype == ("bfloat16" if "bfloat16" in variant else "float32")
