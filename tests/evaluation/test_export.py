"""Export of a run: programs that run without gaxn, networks for PyTorch, a model card."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from networks import ONE_BLOCK, draw_variables
from PIL import Image
from torch.nn import functional

from gaxn import config as configs
from gaxn.data import make_recorded, pixels
from gaxn.distributed import sharding
from gaxn.evaluation.export import export_run, network_arrays, write_card
from gaxn.evaluation.sampling import SamplingOptions
from gaxn.evaluation.translation import ordered_reader
from gaxn.experiment import make_experiment
from gaxn.experiment.settings import defaults_of
from gaxn.nn import spectral
from gaxn.types import InputError

FIGURES = {
    "step": 0,
    "modes": {
        "figures": {"modes": 7.5, "modes_error": 0.25, "modes_real": 8.0},
        "protocol": {"samples": 2_500, "seed": 0},
    },
}
FACTS = {"config": "ring", "step": "0", "seed": "0"}
BATCHES = (1, 5)

WITHOUT_GAXN = """
import sys
sys.modules["gaxn"] = sys.modules["flax"] = None
"""

CALL = """
import numpy as np
for batch in {batches}:
    inputs = np.load(f"inputs_{{batch}}.npz")
    images = {program}(*(inputs[name] for name in sorted(inputs)))
    np.save(f"images_{{batch}}.npy", images)
try:
    import gaxn
except ImportError:
    print("no gaxn")
"""


def _start(config):
    """Returns an experiment, and a first state whose moving average has other values."""
    experiment = make_experiment(config, "ring", sharding.jit_parallelism(jax.devices()[:1]))
    state = jax.device_get(experiment.create_state(experiment.key))
    return experiment, state.replace(ema=jax.tree.map(lambda leaf: 3 * leaf, state.ema))


def _blocks(folder):
    """Returns the Python code of a model card, block by block."""
    return re.findall(r"(?s)```python\n(.*?)```", (folder / "README.md").read_text())


def _run_alone(folder, code, program, inputs):
    """Runs the code of a card, then a program for each batch size; returns what it returned."""
    for batch in BATCHES:
        arrays = {f"{place}": array[:batch] for place, array in enumerate(inputs)}
        np.savez(folder / f"inputs_{batch}.npz", **arrays)
    script = WITHOUT_GAXN + code + CALL.format(batches=BATCHES, program=program)
    options = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    command = [sys.executable, "-c", script]
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **options},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout == "no gaxn\n", result.stderr
    return [np.load(folder / f"images_{batch}.npy") for batch in BATCHES]


def _metadata(path):
    with safetensors.safe_open(path, "np") as file:
        return file.metadata()


@pytest.fixture(scope="module")
def points(ring, tmp_path_factory):
    """A population of two GANs of points: the experiment, its state and the exported folder."""
    config = ring("population=2", "evaluation.weights=ema", variant="gan+tiny")
    experiment, state = _start(config)
    folder = tmp_path_factory.mktemp("points") / "new" / "folder"
    paths = export_run(experiment, state, folder, FIGURES)
    assert sorted(paths) == sorted(folder.iterdir())
    return experiment, state, folder


def test_a_generator_runs_without_gaxn_for_every_batch_size(points):
    experiment, state, folder = points
    samplers = [experiment.evaluation.sampler(state, member) for member in range(2)]
    latents = samplers[0].latents(np.arange(max(BATCHES)))
    results = _run_alone(folder, _blocks(folder)[0], "generate", [latents])
    expected, others = (sampler.render(latents, None) for sampler in samplers)
    for batch, result in zip(BATCHES, results, strict=True):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected[:batch], rtol=1e-4, atol=1e-6)
    assert np.abs(expected - others).max() > 1e-2


def test_the_networks_of_the_first_member_are_written(points):
    _, state, folder = points
    generator = safetensors.numpy.load_file(folder / "generator.safetensors")
    discriminator = safetensors.numpy.load_file(folder / "discriminator.safetensors")
    np.testing.assert_array_equal(generator["Dense_0.kernel"], state.ema["Dense_0"]["kernel"][0])
    kernel = state.params["discriminator"]["Dense_0"]["kernel"][0]
    np.testing.assert_array_equal(discriminator["Dense_0.kernel"], kernel)
    assert generator["BatchNorm_0.mean"].any()
    metadata = _metadata(folder / "generator.safetensors")
    facts = {"format": "flax", "config": "ring", "step": "0", "seed": "0", "weights": "ema"}
    assert facts.items() <= metadata.items()
    assert "HWIO" in metadata["layout"] and metadata["transposed"] == ""
    assert _metadata(folder / "discriminator.safetensors")["weights"] == "raw"


def test_the_card_names_data_seed_and_figures(points):
    experiment, _, folder = points
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: unknown\n")
    assert experiment.train_source.identity in card
    assert "| seed | 0, the first of a population of 2 |" in card
    assert "| modes | 7.5 +- 0.25 (real 8) |" in card
    blocks = [json.loads(block) for block in re.findall(r"(?s)```json\n(.*?)```", card)]
    assert blocks == [FIGURES["modes"]["protocol"], json.loads(json.dumps(experiment.config))]
    for name in re.findall(r"`([\w.]+\.(?:safetensors|stablehlo))` \|", card):
        assert (folder / name).stat().st_size > 0
    with Image.open(folder / "samples.png") as picture:
        assert picture.mode == "RGB"


def test_a_card_has_no_figures_of_another_step_and_no_folder_of_its_author(points):
    experiment = points[0]
    arguments = FACTS, SamplingOptions(), {"generator": 1}, {}
    card = write_card(experiment, *arguments, {**FIGURES, "step": 8})
    assert "The last evaluation is of step 8, not of 0." in card and "7.5" not in card
    assert "This run was not evaluated." in write_card(experiment, *arguments, None)
    config = {
        "data": {"a": {"path": "home/me/photos"}},
        "evaluation": {"inception": "/home/me/w.pth", "lpips": "~/home/v.pth"},
        "start": {"run": "home/runs/before"},
    }
    card = write_card(dataclasses.replace(experiment, config=config), *arguments, None)
    assert '"data": {"a": {"path": "photos"}}' in card and "home" not in card
    assert all(name in card for name in ('"w.pth"', '"v.pth"', '"before"'))


def test_a_folder_with_files_and_a_file_are_refused(tmp_path):
    (tmp_path / "old.txt").touch()
    for output in (tmp_path, tmp_path / "old.txt", Path()):
        with pytest.raises(InputError, match="--output must be a new folder or an empty one, got"):
            export_run(None, None, output)
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]


def test_a_normalized_kernel_is_divided_by_its_sigma():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return spectral.wrap(True, nn.Dense(4))(x, False)

    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    variables = draw_variables(Network(), x)
    arrays = network_arrays(
        {name: {"encoder": tree} for name, tree in variables.items()}, "encoder"
    )
    assert set(arrays) == {"Dense_0.bias", "Dense_0.kernel", "Dense_0.kernel_sigma"}
    kernel = arrays["Dense_0.kernel"] / arrays["Dense_0.kernel_sigma"]
    apply = jax.jit(lambda variables: Network().apply(variables, x, mutable=["spectral"])[0])
    np.testing.assert_allclose(x @ kernel, apply(variables), rtol=1e-5, atol=1e-6)


def _torch_generator(weights, latents, labels):
    """The DCGAN of one block in PyTorch, images [batch, height, width, channels]."""

    def normalize(x, name):
        mean, variance, scale, bias = (
            weights[f"{name}.{part}"] for part in ("mean", "var", "scale", "bias")
        )
        return functional.relu(functional.batch_norm(x, mean, variance, scale, bias, eps=1e-5))

    x = torch.cat([latents, weights["Embed_0.embedding"][labels]], dim=1)
    x = functional.linear(x, weights["Dense_0.kernel"]).view(-1, 8, 8, 8).permute(0, 3, 1, 2)
    x = normalize(x, "BatchNorm_0")
    kernel = weights["TransposedConvolution_0.kernel"]
    x = normalize(functional.conv_transpose2d(x, kernel, stride=2, padding=1), "BatchNorm_1")
    x = functional.conv2d(x, weights["Conv_0.kernel"], weights["Conv_0.bias"], padding=1)
    return torch.tanh(x).permute(0, 2, 3, 1)


@pytest.mark.slow
def test_images_are_equal_without_gaxn_and_in_pytorch(tiny, tmp_path, monkeypatch):
    experiment, state = _start(tiny(*ONE_BLOCK, "evaluation.samples=10"))
    export_run(experiment, state, tmp_path)
    sampler = experiment.evaluation.sampler(state)
    latents, labels = sampler.latents(np.arange(5)), np.array([0, 2, 1, 1, 0], np.int32)
    expected = np.asarray(pixels.decode(sampler.render(latents, labels)))
    assert expected.std(axis=0).max() > 0.1
    alone, in_torch = _blocks(tmp_path)
    for images in _run_alone(tmp_path, alone, "generate", [latents, labels]):
        assert np.abs(images - expected[: len(images)]).max() < 1.1 / 255
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(in_torch, names)
    images = _torch_generator(names["weights"], torch.tensor(latents), torch.tensor(labels))
    assert np.abs(images.numpy() - expected).max() < 1.1 / 255


@pytest.mark.slow
def test_both_directions_of_a_cyclegan_are_exported(tmp_path):
    file = Path(__file__).parents[2] / "configs" / "attn_cyclegan_shapes.py"
    flags = [f"--config={file}:tiny", "--config.generator.spectral_norm=True"]
    experiment, state = _start(configs.parse(["gaxn", *flags], defaults_of).config)
    export_run(experiment, state, tmp_path)
    transposed = _metadata(tmp_path / "generator.safetensors")["transposed"].split()
    assert transposed == ["a.up_1.kernel", "a.up_2.kernel", "b.up_1.kernel", "b.up_2.kernel"]
    translator = experiment.evaluation.sampler(state)
    translations = {"a2b": translator.to_b, "b2a": translator.to_a}
    for domain, (name, translate) in zip(
        experiment.test_source.domains, translations.items(), strict=True
    ):
        images = ordered_reader(domain)(np.arange(max(BATCHES)))
        Image.fromarray(images[0]).save(tmp_path / "a.png")
        code = _blocks(tmp_path)[0].replace("a2b", name)
        inputs = [np.asarray(pixels.decode(images))]
        expected = np.asarray(pixels.decode(translate(images)))
        for result in _run_alone(tmp_path, code, "to_b", inputs):
            assert np.abs(result - expected[: len(result)]).max() < 1.1 / 255
    recorded = make_recorded("test", experiment.data_record)
    paths = export_run(
        dataclasses.replace(experiment, test_source=recorded), state, tmp_path / "unread"
    )
    names = {"generator.safetensors", "discriminator.safetensors", "README.md"}
    assert {path.name for path in paths} == names | {"a2b.stablehlo", "b2a.stablehlo"}
    assert "samples.png)" not in (tmp_path / "unread" / "README.md").read_text()
