"""A run of a CycleGAN: its samplers, diagnostics and pictures, and --mode translate."""

import json
import re
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import gaxn
from gaxn import config as configs
from gaxn.data import unpaired
from gaxn.distributed import sharding
from gaxn.evaluation import plan
from gaxn.evaluation.diagnostics import DIVERSITY, SATURATION
from gaxn.evaluation.picture_sizes import FITS
from gaxn.evaluation.translation import ordered_reader
from gaxn.experiment import make_experiment
from gaxn.experiment.settings import defaults_of
from gaxn.features import pixels
from gaxn.io import run_directory
from gaxn.io.checkpoints import Checkpoints
from gaxn.main import main
from gaxn.models import cyclegan as networks
from gaxn.training.restore import FREE_FIELDS, restore_state
from gaxn.types import InputError

CONFIGS = Path(__file__).parents[2] / "configs"
FLAGS = (
    f"--config={CONFIGS / 'attn_cyclegan_shapes.py'}:tiny",
    "--config.discriminator.attention=True",
)
DIRECTIONS = ("a2b", "b2a")


def _config(*overrides):
    overrides = [f"--config.{override}" for override in overrides]
    return configs.parse(["gaxn", *FLAGS, *overrides], defaults_of).config


@pytest.fixture(scope="module")
def experiment():
    """The tiny CycleGAN of shapes, on one device."""
    return make_experiment(_config(), "shapes", sharding.jit_parallelism(jax.devices()[:1]))


@pytest.fixture(scope="module")
def state(experiment):
    """The state before the first step."""
    return jax.device_get(experiment.create_state(experiment.key))


@pytest.fixture(scope="module")
def run(experiment, state, tmp_path_factory):
    """The directory of a run that has a checkpoint."""
    workdir = tmp_path_factory.mktemp("shapes")
    record = {"name": experiment.name, "data": experiment.data_record}
    with run_directory.open_run(workdir, experiment.config, FREE_FIELDS, record):
        pass
    with Checkpoints(workdir / "checkpoints", 1) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.wait()
    return workdir


def _test_images(experiment, count):
    """Returns the first test images of A and of B, in the order of an evaluation."""
    return [ordered_reader(domain)(np.arange(count)) for domain in experiment.test_source.domains]


def _without_weights(state, player, domain):
    """Returns a state in which all parameters of one network are 0."""
    params = state.params[player]
    params = {**params, domain: jax.tree.map(np.zeros_like, params[domain])}
    params = {**state.params, player: params}
    return state.replace(params=params, ema=params["generator"])


def test_each_direction_has_its_generator_and_the_discriminator_of_its_target(experiment, state):
    indices = np.arange(3)
    a, _ = _test_images(experiment, 3)
    translator = experiment.sampler(state)
    np.testing.assert_array_equal(
        translator.samplers["a2b"].sample(indices, None), translator.to_b(a)
    )
    without_b = experiment.sampler(_without_weights(state, "generator", "b"))
    assert (without_b.samplers["a2b"].sample(indices, None) == 128).all()
    np.testing.assert_array_equal(without_b.to_a(a), translator.to_a(a))
    without_b = experiment.sampler(_without_weights(state, "discriminator", "b"))
    for direction in DIRECTIONS:
        (before,), (after,) = (
            samplers[direction].discriminator_attention(a, None).values()
            for samplers in (translator.samplers, without_b.samplers)
        )
        # Without weights attention is uniform.
        assert np.ptp(after) < 1e-6 if direction == "a2b" else (before == after).all()
    layers = {direction: set(translator.samplers[direction].gammas) for direction in DIRECTIONS}
    assert layers["a2b"] == {"generator/b/attention", "discriminator/b/attention"}
    assert layers["b2a"] == {"generator/a/attention", "discriminator/a/attention"}


def test_samples_repeat_after_the_last_test_image(experiment, state):
    sampler = experiment.sampler(state).samplers["b2a"]
    count = experiment.test_source.sizes[1]
    np.testing.assert_array_equal(
        sampler.sample(np.array([count, count + 1]), None), sampler.sample(np.array([0, 1]), None)
    )


def test_each_image_of_a_small_domain_is_evaluated_once(monkeypatch):
    monkeypatch.setattr(unpaired.Source, "sizes", property(lambda source: (12, 17)))
    monkeypatch.setattr(plan.classifier_network, "load_or_train", lambda *splits: pixels.load())
    overrides = "evaluation.classifier=True", "evaluation.samples=15", "data.paired=False"
    parts = make_experiment(_config(*overrides), "small").evaluation.evaluators()
    evaluators = {
        name: part.evaluator for name, part in parts.items() if name.startswith("classifier")
    }
    assert {name: evaluator.samples for name, evaluator in evaluators.items()} == {
        "classifier_a2b": 12,
        "classifier_b2a": 15,
    }
    assert evaluators["classifier_a2b"].reference.test.style == "cool"
    assert evaluators["classifier_b2a"].train.style == "warm"


def test_diagnostics_are_those_of_the_worse_direction(experiment, state):
    figures = experiment.diagnostics(state)
    assert 0 < figures[DIVERSITY] < 10 and 0 <= figures[SATURATION] <= 1
    collapsed = experiment.diagnostics(_without_weights(state, "generator", "a"))
    assert collapsed[DIVERSITY] < 1e-6
    layers = {f"{player}/{domain}/attention" for player in state.params for domain in "ab"}
    for kind in ("gamma", "entropy", "distance"):
        assert {f"diagnostics/{kind}/{layer}" for layer in layers} <= figures.keys()


def test_the_picture_has_four_rows_per_domain_and_the_first_are_test_images(experiment, state):
    columns = experiment.run.sample_columns
    a, b = _test_images(experiment, columns)
    picture = experiment.draw_samples(experiment.sampler, state)
    assert picture.shape == (8 * 66 + 2, columns * 66 + 2, 3)
    for row, images in ((0, a), (4, b)):
        for column in range(columns):
            top, left = 2 + 66 * row, 2 + 66 * column
            np.testing.assert_array_equal(
                picture[top : top + 64 : 2, left : left + 64 : 2], images[column]
            )


@pytest.mark.slow
def test_a_run_writes_evaluations_and_attention_of_both_directions(tmp_path):
    run = tmp_path / "run"
    assert main(["gaxn", *FLAGS, f"--workdir={run}"]) == 0
    document = json.loads((run / "evaluation.json").read_text())
    assert {"translation", "attention_a2b", "attention_b2a"} <= document.keys()
    assert document["translation"]["protocol"]["samples_a"] == 20
    for direction, domain in (("a2b", "b"), ("b2a", "a")):
        for view in ("generator_generated", "discriminator_generated", "discriminator_real"):
            picture = run / direction / "attention" / f"{view}_{domain}_attention.png"
            assert picture.exists()
    assert document["cost"]["parameters"]["generator"] > 0


@pytest.mark.parametrize("fit", ["whole", "tile", "resize"])
def test_images_of_any_size_are_translated(run, tmp_path, capsys, fit):
    folder, output = tmp_path / "images", tmp_path / "output"
    (folder / "inner").mkdir(parents=True)
    random = np.random.default_rng(0)
    sizes = {"a.png": (1, 1), "b.jpg": (50, 33), "inner/c.png": (32, 32)}
    for name, size in sizes.items():
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(folder / name)
    Image.new("LA", (9, 14), (90, 100)).save(folder / "inner" / "d.png")
    (folder / "notes.txt").write_text("no image")
    command = ["gaxn", f"--workdir={run}", "--mode=translate", f"--output={output}"]
    options = [f"--input={folder}", "--direction=b2a", f"--fit={fit}", "--cycle"]
    assert main([*command, *options]) == 0
    printed = capsys.readouterr().out.splitlines()
    names = ["a.png", "b.png", "inner/c.png", "inner/d.png"]
    assert [line for line in printed if line.endswith(".png")] == [str(output / n) for n in names]
    written = {str(path.relative_to(output)) for path in output.rglob("*.png")}
    assert written == {*names, *(name.replace(".png", "_cycle.png") for name in names)}
    with Image.open(output / "b.png") as image:
        assert image.size == ((32, 48) if fit == "resize" else (33, 50))
    if fit != "resize":
        # An image of the size in training is translated as in the evaluation.
        experiment = make_experiment(
            _config(), "shapes", sharding.jit_parallelism(jax.devices()[:1])
        )
        to_a = experiment.sampler(restore_state(experiment, run, "last")).to_a
        with Image.open(folder / "inner" / "c.png") as image:
            expected = to_a(np.asarray(image)[None])[0]
        with Image.open(output / "inner" / "c.png") as image:
            np.testing.assert_allclose(np.asarray(image), expected.astype(int), atol=1)


def test_a_loaded_run_translates_without_its_data(experiment, state, run, monkeypatch):
    monkeypatch.delattr(unpaired, "Source")
    loaded = gaxn.load(run)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    translator = experiment.sampler(state)
    expected = {"a2b": translator.to_b(images), "b2a": translator.to_a(images)}
    for direction in DIRECTIONS:
        translated = loaded.translate(images, direction)
        np.testing.assert_allclose(translated, expected[direction].astype(int), atol=1)
    assert loaded.discriminate(images, domain="a").shape[0] == 3
    wrong = {
        "direction must be a2b or b2a": lambda: loaded.translate(images, "a"),
        "domain must be a or b": lambda: loaded.discriminate(images),
        "the sides of images must be multiples of": lambda: loaded.translate(images[:, 1:], "a2b"),
        "a CycleGAN has `translate`": lambda: loaded.sample([0]),
    }
    for message, call in wrong.items():
        with pytest.raises(InputError, match=message):
            call()


def test_a_single_image_is_translated(run, tmp_path):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    command = ["gaxn", f"--workdir={run}", "--mode=translate", "--direction=a2b"]
    paths = [f"--input={tmp_path / 'red.png'}", f"--output={tmp_path / 'output'}"]
    assert main([*command, *paths]) == 0
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["red.png"]


TO_B = "--direction=a2b"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([TO_B, "--output=OUT"], "--input is missing; --mode translate needs it"),
        (["--input=IN", "--output=OUT"], "--direction is missing"),
        (["--input=IN", TO_B], "--output is missing"),
        (["--input=IN", "--output=OUT", "--direction=a2c"], "--direction must be .*a2b.*'a2c'"),
        (["--input=IN", "--output=OUT", TO_B, "--fit=crop"], "--fit must be .*whole.*'crop'"),
        (["--input=IN", "--output=OUT", TO_B, "--cycle=2"], "--cycle must be true or false.*'2'"),
        (["--input=IN", "--output=OUT", TO_B, "--size=2"], "--size is unknown.*takes --input, "),
        (["--input=NONE", "--output=OUT", TO_B], "--input must be an image, a folder .*NONE"),
        (["--input=EMPTY", "--output=OUT", TO_B], "EMPTY', which contains no image"),
        (["--input=TEXT", "--output=OUT", TO_B], "TEXT', which is neither a folder nor a complete"),
        (["--input=BAD", "--output=OUT", TO_B], "x.png cannot be used: it is not an image"),
        (["--input=TWINS", "--output=OUT", TO_B], "x.jpg and x.png, both for .*x.png"),
        (["--input=IN", "--output=IN", TO_B], "--output must be another folder.*IN'"),
        (["--input=IN", "--output=TEXT", TO_B], "--output .*TEXT"),
        (
            ["--mode=sample", "--input=IN"],
            "--input is unknown; --mode sample takes no options",
        ),
        (["--mode=interpolate"], "--mode must be .*translate.*'interpolate'"),
    ],
)
def test_a_translation_that_is_impossible_is_refused_in_one_line(
    run, tmp_path, capsys, flags, message
):
    for name in ("IN", "EMPTY", "BAD", "TWINS"):
        (tmp_path / name).mkdir()
    for name in ("IN/x.png", "TWINS/x.png", "TWINS/x.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    for name in ("TEXT", "BAD/x.png"):
        (tmp_path / name).write_text("no image")
    flags = [re.sub(r"=([A-Z]+)$", rf"={tmp_path}/\1", flag) for flag in flags]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["gaxn", f"--workdir={run}", "--mode=translate", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_translating_an_archive_writes_nothing_outside_the_output(run, tmp_path, capsys):
    image = tmp_path / "x.png"
    Image.new("RGB", (8, 8)).save(image)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for name in (f"{tmp_path}/absolute.png", "../above.png", "inner/x.png"):
            archive.write(image, name)
            archive.filelist[-1].filename = name
    flags = [f"--input={tmp_path / 'bad.zip'}", f"--output={tmp_path / 'out'}", TO_B]
    assert main(["gaxn", f"--workdir={run}", "--mode=translate", *flags]) == 0
    capsys.readouterr()
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"x.png", "bad.zip", "out/inner/x.png"}


def test_a_gan_of_latents_translates_nothing(tmp_path, capsys):
    config = f"--config={CONFIGS / 'attn_cgan_shapes.py'}:tiny"
    flags = ["--mode=translate", "--input=a", "--output=b", TO_B]
    assert main(["gaxn", config, f"--workdir={tmp_path}", *flags]) == 2
    assert re.search("--mode must be .* got 'translate'", capsys.readouterr().err)


def test_generators_with_pooled_attention_take_images_of_any_size():
    generator = networks.Generator(3, 4, 1, attention_pool=2)
    assert generator.multiple == 8 and networks.Generator(3, 4, 1).multiple == 4
    images = np.zeros((1, 8, 8, 3), np.float32)
    params = jax.jit(lambda: generator.init(jax.random.key(0), images, False))()

    apply = jax.jit(lambda images: generator.apply(params, images, False))

    def translate(images):
        translated = apply(images / 127.5 - 1)
        return np.asarray(127.5 * (translated + 1)).round().astype(np.uint8)

    image = np.random.default_rng(0).integers(0, 256, (50, 33, 3), np.uint8)
    assert FITS["whole"].apply(translate, image, 16, generator.multiple).shape == image.shape
    with pytest.raises(InputError, match=r"must be multiples of 8 .*got \(52, 36\)"):
        FITS["whole"].apply(translate, image, 16, 4)


def test_unpaired_data_needs_a_cyclegan(tiny):
    config = tiny("conditional=False")
    config.data = {"name": "unpaired", **{name: {"name": "shapes"} for name in "ab"}, "size": 32}
    with pytest.raises(InputError, match=r"config.gan.name must be .*CycleGAN with unpaired"):
        make_experiment(config, "tiny")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data={'name': 'shapes'}", "config.data must be unpaired images of two domains"),
        ("evaluation.truncation=0.5", r"config.evaluation.truncation must be 0 .* got 0\.5"),
        (
            "update_rule.name=unrolled",
            "config.update_rule.name must be alternating or simultaneous .* got 'unrolled'",
        ),
        (
            "update_rule.name=extragradient",
            "config.update_rule.name must be .* got 'extragradient'",
        ),
        ("regularizers={'zcr': {}}", "config.regularizers must be .* no latents .* got 'zcr'"),
        (
            "data.a={'name': 'mixture', 'centers': ((0.0, 0.0), (1.0, 1.0))}",
            "config.data.a and b must be images of one shape",
        ),
        ("data.a={'name': 'npz'}", "config.data.a.path must be .* got ''"),
    ],
)
def test_a_cyclegan_refuses_what_does_not_suit_it_in_one_line(override, message):
    with pytest.raises(InputError, match=message):
        make_experiment(_config(override), "wrong")


def test_a_resumed_run_may_read_its_domains_in_another_way():
    assert {"data.a.workers", "data.b.directory"} <= FREE_FIELDS
