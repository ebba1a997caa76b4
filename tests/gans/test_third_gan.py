"""A third GAN, by two files of a user: nothing in gaxn is edited to add it."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from gaxn import config as configs
from gaxn.experiment import make_experiment
from gaxn.experiment.settings import defaults_of
from gaxn.main import main
from gaxn.training.step import update_player
from gaxn.types import InputError

FILES = Path(__file__).parents[1] / "third_gan"
CONFIG = f"--config={FILES / 'encoder_gan_shapes.py'}"
PLAYERS = "discriminator", "encoder", "generator"


@pytest.fixture(scope="module", autouse=True)
def python_path():
    """Puts the files where `python -m gaxn.main` finds them in its working directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FILES)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("third_gan")
    assert main(["gaxn", CONFIG, f"--workdir={workdir}"]) == 0
    return workdir


def _checksums(workdir, step):
    """Returns a checksum of every leaf of a checkpoint."""
    path = workdir / "checkpoints" / str(step) / "checksums" / "metadata"
    return json.loads(path.read_text())


@pytest.mark.slow
def test_it_trains_and_draws_samples(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert {"d/adversarial", "d/r1", "encoder/reconstruction", "g/loss"} <= lines[-1].keys()
    assert all(np.isfinite(value) for value in lines[-1].values())
    for step in (0, 2, 4):
        assert np.asarray(Image.open(run / "samples" / f"step_{step:08d}.png")).std() > 0
    saved = _checksums(run, 4)
    for part in ("params", "opt_state"):
        players = {name.split("['")[1].split("']")[0] for name in saved if f".{part}" in name}
        assert players == set(PLAYERS)


def test_an_update_of_the_encoder_changes_only_the_encoder():
    config = configs.parse(["gaxn", CONFIG], defaults_of).config
    experiment = make_experiment(config, "third_gan")
    assert tuple(update.player for update in experiment.updates) == PLAYERS
    before = jax.device_get(experiment.create_state(experiment.key))
    batch = jax.tree.map(lambda leaf: leaf[1], jax.device_get(experiment.batches(0)))
    update = jax.jit(
        lambda state: update_player(
            experiment.gan, experiment.updates[1], state, batch, experiment.key
        )[0]
    )
    after = jax.device_get(update(before))
    for player in PLAYERS:
        leaves = (jax.tree.leaves(state.params[player]) for state in (before, after))
        equal = [np.array_equal(a, b) for a, b in zip(*leaves, strict=True)]
        assert not any(equal) if player == "encoder" else all(equal)
    jax.tree.map(np.testing.assert_array_equal, before.collections, after.collections)


@pytest.mark.slow
def test_it_is_evaluated_by_its_own_evaluator_and_by_those_of_images(run):
    report = json.loads((run / "evaluation.json").read_text())
    assert {"classifier", "reconstruction"} <= report.keys()
    assert report["cost"]["parameters"].keys() == set(PLAYERS)
    part = report["reconstruction"]
    assert part["protocol"]["step"] == 4 and part["protocol"]["samples"] == 20
    assert 0 < part["figures"]["mae_error"] < part["figures"]["mae"] < 1
    assert main(["gaxn", f"--workdir={run}", "--mode=evaluate"]) == 0
    again = json.loads((run / "evaluation.json").read_text())
    assert again["reconstruction"] == part


@pytest.mark.slow
def test_its_own_command_reconstructs_images(run, capsys):
    assert main(["gaxn", f"--workdir={run}", "--mode=reconstruct", "--count=5"]) == 0
    path = run / "reconstruction.png"
    assert capsys.readouterr().out.endswith(f"{path}\n")
    picture = np.asarray(Image.open(path))
    assert main(["gaxn", f"--workdir={run}", "--mode=reconstruct"]) == 0
    height, width = np.asarray(Image.open(path)).shape[:2]
    assert picture.shape[0] == height and picture.shape[1] > width
    for mode, name in {"sample": "sample", "interpolate": "interpolation/latents"}.items():
        assert main(["gaxn", f"--workdir={run}", f"--mode={mode}"]) == 0
        assert (run / f"{name}.png").exists()


@pytest.mark.slow
def test_a_resumed_run_is_bit_equal_with_an_uninterrupted_one(run, tmp_path):
    for steps in (2, 4):
        flags = f"--workdir={tmp_path}", f"--config.num_train_steps={steps}"
        assert main(["gaxn", CONFIG, *flags]) == 0
    assert _checksums(tmp_path, 4) == _checksums(run, 4) != _checksums(run, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--mode=reconstruct", "--cuont=3"], "--cuont is unknown; .* takes --count"),
        (["--mode=reconstruct", "--count=x"], "--count must be of type int, got 'x'"),
        (["--mode=reconstruct", "--count=0"], "--count must be 1 to 10000, got 0"),
        (["--mode=reconstuct"], "--mode must be one of .*reconstruct.*, got 'reconstuct'"),
    ],
)
def test_wrong_flags_are_one_line(run, capsys, flags, message):
    assert main(["gaxn", f"--workdir={run}", *flags]) == 2
    assert _matches(capsys, message)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "gan.name=third_gan:EncodrGAN",
            "config.gan.name must be one of EncoderGAN, .* of third_gan, got",
        ),
        ("gan.reconstruction=-1.0", "config.gan.reconstruction must be 0 or more, got -1.0"),
        (
            "networks.encoder.latent_size=x",
            "config.networks.encoder.latent_size must be a value of type int, got 'x'",
        ),
        (
            "networks={'encodr': {'name': 'third_gan:Encoder', 'latent_size': 4}}",
            r"the names in config.networks must be encoder with the GAN .*, got \['encodr'\]",
        ),
        ("networks={}", r"the names in config.networks must be encoder with the GAN .*, got \[\]"),
        (
            "dtype=bfloat16",
            "config.dtype must be float32 with the network third_gan:Encoder, got 'bfloat16'",
        ),
        ("networks.encoder.width=8", "config.networks.encoder.width is unknown; .* widths"),
        (
            "update_rule={'name': 'unrolled'}",
            "config.optimizers.discriminator.eps_root must be above 0, .* got 0",
        ),
    ],
)
def test_wrong_fields_are_one_line(tmp_path, capsys, flag, message):
    assert main(["gaxn", CONFIG, f"--workdir={tmp_path}", f"--config.{flag}"]) == 2
    assert _matches(capsys, message)


def test_a_gan_refuses_networks_that_it_does_not_take(ring):
    config = ring("networks={'encoder': {'name': 'mlp.Generator'}}")
    message = r"config.networks must be none with the GAN gan.GAN, got \['encoder'\]"
    with pytest.raises(InputError, match=message):
        make_experiment(config, "ring")


def _matches(capsys, message):
    """Checks that the errors are one line that matches."""
    (line,) = capsys.readouterr().err.splitlines()
    return re.search(message, line)
