"""Shipped runs: complete, small, with the figures of their cards; and files of networks."""

import functools
import hashlib
import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import gaxn
from gaxn.features import classifier
from gaxn.io import files, shipped
from gaxn.types import InputError

ROOT = Path(__file__).parents[2]
MAX_BYTES = 2_500_000


@pytest.mark.parametrize("name", shipped.names())
def test_a_shipped_run_is_small_and_has_a_card(name):
    content = (shipped.FOLDER / f"{name}.safetensors").read_bytes()
    card = shipped.read_card(name)
    assert len(content) < MAX_BYTES
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert card["name"] == name and card["license"] == "MIT"
    assert card["evaluation"]["classifier"]["figures"]["frechet_distance"] > 0
    assert card["evaluation"]["classifier"]["protocol"]["step"] == card["step"]
    assert (ROOT / "configs" / f"{name}.py").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped.names())
def test_a_shipped_generator_draws_what_its_classifier_sees(name):
    run = gaxn.load(name)
    images = run.sample(range(200))
    extractor = classifier.load(run.config["data"].get("dataset", "shapes"))
    logits = np.asarray(extractor.apply(extractor.params, images).logits)
    if run.class_names:
        assert (logits.argmax(-1) == np.arange(200) % len(run.class_names)).mean() > 0.9
    else:
        assert len(set(logits.argmax(-1).tolist())) == 10


def test_networks_are_written_and_read(tmp_path):
    random = np.random.default_rng(0)
    weights = random.standard_normal((3, 4)).astype(np.float32)
    networks = {
        "params": {"generator": {"dense": {"kernel": weights, "gamma": np.float32(2.5)}}},
        "batch_stats": {"generator": {"count": np.int32(7)}},
    }
    for half in (False, True):
        path = tmp_path / f"{half}.safetensors"
        path.write_bytes(shipped.to_bytes(networks, {"name": "x"}, half))
        read = shipped.read_networks(path)
        dense = read["params"]["generator"]["dense"]
        expected = weights.astype(np.float16) if half else weights
        np.testing.assert_array_equal(dense["kernel"], expected.astype(np.float32))
        assert dense["kernel"].dtype == np.float32 and dense["gamma"].shape == ()
        count = read["batch_stats"]["generator"]["count"]
        assert count == 7 and count.dtype == np.int32


def test_what_is_no_file_of_networks_is_one_line(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        shipped.read_networks(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"something")
    with pytest.raises(InputError, match=r"must be a \.safetensors of networks"):
        shipped.read_networks(tmp_path / "x.safetensors")


def test_a_directory_of_a_run_comes_before_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = shipped.names()[0]
    assert shipped.is_shipped(Path(name)) and not shipped.is_shipped(tmp_path / name)
    files.write_json(tmp_path / name / "config.json", {})
    assert not shipped.is_shipped(Path(name))


@pytest.fixture(scope="module")
def script():
    """launch/ship.py."""
    spec = importlib.util.spec_from_file_location("ship", ROOT / "launch" / "ship.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_docs_have_the_figures_of_the_cards(script):
    assert script.make_table() in (ROOT / "docs" / "python.md").read_text()
    assert len(shipped.names()) >= 2


@pytest.mark.slow
def test_a_run_is_made_one_that_is_shipped(script, tmp_path):
    run = gaxn.train("attn_cgan_shapes:tiny", workdir=tmp_path / "run")
    script.main([str(tmp_path / "run"), f"--folder={tmp_path / 'shipped'}"])
    card = json.loads((tmp_path / "shipped" / "attn_cgan_shapes.json").read_text())
    networks = shipped.read_networks(tmp_path / "shipped" / "attn_cgan_shapes.safetensors")
    assert card["step"] == 8 and card["config"]["num_train_steps"] == 8
    stored, trained = networks["params"]["generator"], run.params["generator"]
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6), stored, trained
    )
    with pytest.raises(InputError, match="holds no run"):
        script.main([str(tmp_path / "nothing")])
