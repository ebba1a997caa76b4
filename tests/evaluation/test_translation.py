"""A run of the cycle-consistent game: what is measured, drawn, watched and translated."""

import json
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from gaxn import arguments
from gaxn.experiment import make_experiment
from gaxn.commands import FREE, MODES
from gaxn.data import unpaired
from gaxn.distributed import sharding
from gaxn.evaluation.diagnostics import DIVERSITY, SATURATION
from gaxn.evaluation.evaluators import translation_errors
from gaxn.evaluation.picture_sizes import FITS
from gaxn.evaluation.translators import Translator, in_order
from gaxn.features import pixels
from gaxn.io import run_directory
from gaxn.io.checkpoints import Checkpoints
from gaxn.main import main
from gaxn.models import cyclegan as networks
from gaxn.types import InputError, Sampler

CONFIG = Path(__file__).parents[2] / "configs" / "attn_cyclegan_shapes.py"
SHRUNK = (f"--config={CONFIG}:tiny", "--config.discriminator.attention=True")


def _config(*overrides):
    flags = [f"--config.{override}" for override in overrides]
    return arguments.parse(["gaxn", *SHRUNK, *flags], MODES).config


@pytest.fixture(scope="module")
def experiment():
    """The shapes, shrunk, on one device."""
    return make_experiment(_config(), "shapes", sharding.jitted(jax.devices()[:1]))


@pytest.fixture(scope="module")
def state(experiment):
    """Before the first step."""
    return jax.device_get(experiment.create(experiment.key))


@pytest.fixture(scope="module")
def run(experiment, state, tmp_path_factory):
    """The directory of a run that has a checkpoint."""
    workdir = tmp_path_factory.mktemp("shapes")
    run_directory.open_run(workdir, experiment.config, FREE, {"name": experiment.name})
    with Checkpoints(workdir / "checkpoints", 1) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.wait()
    return workdir


def _of(to_a, to_b):
    facts = {"step": 0, "seed": 0, "weights": "ema", "direction": "a2b"}
    subject = Sampler(None, None, None, {}, facts)
    return Translator(to_a, to_b, {"a2b": subject, "b2a": subject})


def _images(source, count=20):
    return [in_order(own)(np.arange(count)) for own in source.domains]


def test_a_translator_that_knows_the_answer_makes_no_mistake(experiment, monkeypatch):
    monkeypatch.setattr(translation_errors, "MEAN_OF", 150)
    a, b = _images(experiment.test)

    def between(start, end):
        found = {image.tobytes(): answer for image, answer in zip(start, end, strict=True)}
        # Images of the domain that it leads to stay as they are.
        return lambda images: np.stack([found.get(image.tobytes(), image) for image in images])

    def makes(member):
        return _of(lambda images: images, lambda images: 255 - images)

    evaluator = translation_errors.Evaluator(experiment.train.at_test_size, experiment.test, 20, makes)
    found = evaluator(_of(between(b, a), between(a, b)))
    assert found.figures.keys() >= evaluator.figures
    for name in ("mae_a2b", "mae_b2a", "cycle_mae_a", "cycle_mae_b", "identity_mae_a"):
        assert found.figures[name] == found.figures[f"{name}_error"] == 0
    real, truth = (images.astype(np.float64) / 255 for images in (a, b))
    apart = np.abs(real - truth).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found.figures["mae_a2b_identity"], apart.mean())
    error = apart.std(ddof=1) / np.sqrt(20)
    np.testing.assert_allclose(found.figures["mae_a2b_identity_error"], error)
    np.testing.assert_allclose(
        found.figures["mae_a2b_untrained"], np.abs(1 - real - truth).mean(), atol=1e-9
    )
    mean = _images(experiment.train.at_test_size, 150)[1].astype(np.float64).mean(axis=0) / 255
    np.testing.assert_allclose(found.figures["mae_a2b_mean_image"], np.abs(mean - truth).mean())
    assert found.protocol["samples_a"] == 20 and "direction" not in found.protocol


def test_without_pairs_there_is_no_truth(experiment):
    train, test = (
        unpaired.Source(split, experiment.test.a, experiment.test.b, size=32, enlarge=1.0)
        for split in ("train", "test")
    )
    evaluator = translation_errors.Evaluator(
        train, test, 20, lambda member: pytest.fail("never asked")
    )
    found = evaluator(_of(lambda images: images, lambda images: 255 - images)).figures
    assert evaluator.figures == {f"{k}_mae_{d}" for k in ("cycle", "identity") for d in "ab"}
    a, b = (images.astype(np.float64) / 255 for images in _images(test))
    np.testing.assert_allclose(found["cycle_mae_a"], np.abs(1 - 2 * a).mean())
    np.testing.assert_allclose(found["identity_mae_b"], np.abs(1 - 2 * b).mean())
    assert found["identity_mae_a"] == 0


def test_each_direction_is_its_own_generator_and_its_critic(experiment, state):
    def silenced(player, name):
        own = {
            **state.params[player],
            name: jax.tree.map(np.zeros_like, state.params[player][name]),
        }
        params = {**state.params, player: own}
        return state.replace(params=params, ema=params["generator"])

    indices = np.arange(3)
    a, _ = _images(experiment.test, 3)
    whole = experiment.subject(state)
    np.testing.assert_array_equal(whole.subjects["a2b"].sample(indices, None), whole.to_b(a))
    without_b = experiment.subject(silenced("generator", "b"))
    assert (without_b.subjects["a2b"].sample(indices, None) == 128).all()
    np.testing.assert_array_equal(without_b.to_a(a), whole.to_a(a))
    critic = experiment.subject(silenced("discriminator", "b")).subjects
    for way in ("a2b", "b2a"):
        (before,), (after,) = (
            subjects[way].discriminator_attention(a, None).values()
            for subjects in (whole.subjects, critic)
        )
        # Without weights attention is even.
        assert np.ptp(after) < 1e-6 if way == "a2b" else (before == after).all()
    names = {way: set(subject.gammas) for way, subject in whole.subjects.items()}
    assert names["a2b"] == {"generator/b/attention", "discriminator/b/attention"}
    assert names["b2a"] == {"generator/a/attention", "discriminator/a/attention"}


def test_samples_begin_anew_where_the_test_images_end(experiment, state):
    subject = experiment.subject(state).subjects["b2a"]
    last = experiment.test.sizes[1]
    np.testing.assert_array_equal(
        subject.sample(np.array([last, last + 1]), None), subject.sample(np.array([0, 1]), None)
    )


def test_a_domain_of_few_images_is_translated_once_each(experiment, monkeypatch):
    monkeypatch.setattr(unpaired.Source, "sizes", property(lambda source: (12, 17)))
    overrides = "evaluation.classifier=True", "evaluation.samples=15", "data.paired=False"
    config = _config(*overrides)
    from gaxn.evaluation import plan

    monkeypatch.setattr(plan.classifier_network, "load_or_train", lambda *splits: pixels.load())
    parts = make_experiment(config, "few").evaluation.evaluators()
    measured = {name: part.measurement for name, part in parts.items() if name.startswith("class")}
    assert {name: own.samples for name, own in measured.items()} == {
        "classifier_a2b": 12,
        "classifier_b2a": 15,
    }
    assert measured["classifier_a2b"].reference.test.style == "cool"
    assert measured["classifier_b2a"].train.style == "warm"


def test_the_worse_direction_is_watched(experiment, state):
    found = experiment.watch(state)
    assert 0 < found[DIVERSITY] < 10 and 0 <= found[SATURATION] <= 1
    gray = {**state.params["generator"]}
    gray["a"] = jax.tree.map(np.zeros_like, gray["a"])
    collapsed = experiment.watch(state.replace(params={**state.params, "generator": gray}))
    assert collapsed[DIVERSITY] < 1e-6
    layers = {f"{player}/{name}/attention" for player in state.params for name in "ab"}
    for kind in ("gamma", "entropy", "distance"):
        assert {f"watch/{kind}/{layer}" for layer in layers} <= found.keys()


def test_the_picture_has_eight_rows_whose_reals_are_the_test_images(experiment, state):
    a, b = _images(experiment.test, 3)
    drawn = experiment.grid(experiment.subject, state, 3)
    assert drawn.shape == (8 * 66 + 2, 3 * 66 + 2, 3)
    for row, images in ((0, a), (4, b)):
        for column in range(3):
            top, left = 2 + 66 * row, 2 + 66 * column
            np.testing.assert_array_equal(
                drawn[top : top + 64 : 2, left : left + 64 : 2], images[column]
            )


@pytest.mark.slow
def test_all_of_a_run_is_there(tmp_path):
    run = tmp_path / "run"
    assert main(["gaxn", *SHRUNK, f"--workdir={run}"]) == 0
    document = json.loads((run / "evaluation.json").read_text())
    assert {"translation", "attention_a2b", "attention_b2a"} <= document.keys()
    assert document["translation"]["protocol"]["samples_a"] == 20
    for way, name in (("a2b", "b"), ("b2a", "a")):
        for view in ("generator_generated", "discriminator_generated", "discriminator_real"):
            assert (run / way / "attention" / f"{view}_{name}_attention.png").exists()
    assert document["cost"]["parameters"]["generator"] > 0


@pytest.mark.parametrize("fit", ["whole", "tile", "resize"])
def test_pictures_of_any_size_are_translated(run, tmp_path, capsys, fit):
    given, made = tmp_path / "given", tmp_path / "made"
    (given / "inner").mkdir(parents=True)
    random = np.random.default_rng(0)
    sizes = {"a.png": (1, 1), "b.jpg": (50, 33), "inner/c.png": (32, 32)}
    for name, size in sizes.items():
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(given / name)
    Image.new("LA", (9, 14), (90, 100)).save(given / "inner" / "d.png")
    (given / "notes.txt").write_text("no picture")
    command = ["gaxn", f"--workdir={run}", "--mode=translate", f"--output={made}", f"--fit={fit}"]
    assert main([*command, f"--input={given}", "--direction=b2a", "--cycle"]) == 0
    printed = capsys.readouterr().out.splitlines()
    names = ["a.png", "b.png", "inner/c.png", "inner/d.png"]
    assert [line for line in printed if line.endswith(".png")] == [str(made / n) for n in names]
    there = {str(path.relative_to(made)) for path in made.rglob("*.png")}
    assert there == {*names, *(name.replace(".png", "_cycle.png") for name in names)}
    with Image.open(made / "b.png") as picture:
        assert picture.size == ((32, 48) if fit == "resize" else (33, 50))
    if fit != "resize":
        # A picture of the size that was trained is translated as the evaluation does.
        experiment = make_experiment(_config(), "shapes", sharding.jitted(jax.devices()[:1]))
        from gaxn.commands import _restored

        to_a = experiment.subject(_restored(experiment, run, "last")).to_a
        with Image.open(given / "inner" / "c.png") as picture:
            expected = to_a(np.asarray(picture)[None])[0]
        with Image.open(made / "inner" / "c.png") as picture:
            np.testing.assert_allclose(np.asarray(picture), expected.astype(int), atol=1)


def test_a_lone_picture_is_translated(run, tmp_path):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    command = ["gaxn", f"--workdir={run}", "--mode=translate", "--direction=a2b"]
    files = [f"--input={tmp_path / 'red.png'}", f"--output={tmp_path / 'made'}"]
    assert main([*command, *files]) == 0
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["red.png"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--direction=a2b", "--output=OUT"], "--input is missing; --mode translate needs it"),
        (["--input=IN", "--output=OUT"], "--direction is missing"),
        (["--input=IN", "--direction=a2b"], "--output is missing"),
        (["--input=IN", "--output=OUT", "--direction=a2c"], "--direction=a2c.*a2b"),
        (["--input=IN", "--output=OUT", "--direction=a2b", "--fit=crop"], "--fit=crop.*whole"),
        (["--input=NONE", "--output=OUT", "--direction=a2b"], "--input is '.*NONE'; there is no"),
        (["--input=EMPTY", "--output=OUT", "--direction=a2b"], "EMPTY.*holds no picture"),
        (["--input=TEXT", "--output=OUT", "--direction=a2b"], "TEXT.*neither a folder nor a whole"),
        (["--input=BAD", "--output=OUT", "--direction=a2b"], "x.png cannot be used: it is no pict"),
        (["--input=TWINS", "--output=OUT", "--direction=a2b"], "x.jpg and x.png, and both would"),
        (["--input=IN", "--output=IN", "--direction=a2b"], "--output is .*IN.; valid is another"),
        (["--input=IN", "--output=TEXT", "--direction=a2b"], "--output is .*TEXT"),
        (["--mode=sample", "--input=IN"], "--input is not understood by --mode sample"),
        (["--mode=interpolate"], "--mode is 'interpolate'; valid is .*translate"),
    ],
)
def test_what_cannot_be_translated_is_one_clear_line(run, tmp_path, capsys, flags, message):
    for name in ("IN", "EMPTY", "BAD", "TWINS"):
        (tmp_path / name).mkdir()
    for name in ("IN/x.png", "TWINS/x.png", "TWINS/x.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    for name in ("TEXT", "BAD/x.png"):
        (tmp_path / name).write_text("no picture")
    words = ("IN", "NONE", "EMPTY", "TEXT", "BAD", "TWINS", "OUT")
    placed = [
        flag.rpartition("=")[0] + f"={tmp_path / flag.rpartition('=')[2]}"
        if flag.rpartition("=")[2] in words
        else flag
        for flag in flags
    ]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["gaxn", f"--workdir={run}", "--mode=translate", *placed]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    import re

    assert re.search(message, line), line
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_games_and_data_have_to_fit(tiny):
    with pytest.raises(
        InputError, match=r"config.game.name is .cyclegan.cyclegan.; valid is one of"
    ):
        make_experiment(_config("data={'name': 'shapes'}"), "single")
    config = tiny("conditional=False")
    config.data = {"name": "unpaired", **{name: {"name": "shapes"} for name in "ab"}, "size": 32}
    with pytest.raises(InputError, match=r"'gan.GAN'; valid is cyclegan.cyclegan with"):
        make_experiment(config, "tiny")
    with pytest.raises(InputError, match=r"config.evaluation.truncation is 0.5; valid is 0"):
        make_experiment(_config("evaluation.truncation=0.5"), "cut")


def test_a_run_of_latents_has_no_translations(tiny, tmp_path, capsys):
    flags = ["--mode=translate", "--input=a", "--output=b", "--direction=a2b"]
    file = f"--config={CONFIG.parent / 'attn_cgan_shapes.py'}:tiny"
    assert main(["gaxn", file, f"--workdir={tmp_path}", *flags]) == 2
    assert "--mode is 'translate'; valid is" in capsys.readouterr().err


def test_an_archive_writes_nothing_outside(run, tmp_path, capsys):
    picture = tmp_path / "x.png"
    Image.new("RGB", (8, 8)).save(picture)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for name in (f"{tmp_path}/absolute.png", "../above.png", "inner/x.png"):
            archive.write(picture, name)
            archive.filelist[-1].filename = name
    flags = [f"--input={tmp_path / 'bad.zip'}", f"--output={tmp_path / 'out'}", "--direction=a2b"]
    assert main(["gaxn", f"--workdir={run}", "--mode=translate", *flags]) == 0
    capsys.readouterr()
    there = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert there == {"x.png", "bad.zip", "out/inner/x.png"}


def test_attention_with_a_pool_takes_pictures_of_any_size():
    generator = networks.Generator(3, 4, 1, attention_pool=2)
    assert generator.multiple == 8 and networks.Generator(3, 4, 1).multiple == 4
    images = np.zeros((1, 8, 8, 3), np.float32)
    params = jax.jit(lambda: generator.init(jax.random.key(0), images, False))()

    apply = jax.jit(lambda images: generator.apply(params, images, False))

    def translate(images):
        made = apply(images / 127.5 - 1)
        return np.asarray(127.5 * (made + 1)).round().astype(np.uint8)

    image = np.random.default_rng(0).integers(0, 256, (50, 33, 3), np.uint8)
    assert FITS["whole"].apply(translate, image, 16, generator.multiple).shape == image.shape
    with pytest.raises(InputError, match=r"\(52, 36\); valid is multiples of 8"):
        FITS["whole"].apply(translate, image, 16, 4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("update_rule.name=unrolled", "config.updates.name is 'unrolled'; valid is alternating or sim"),
        ("update_rule.name=extragradient", "config.updates.name is 'extragradient'"),
        ("regularizers={'zcr': {}}", "config.regularizers is 'zcr'; valid is one that"),
        (
            "data.a={'name': 'mixture', 'centers': ((0.0, 0.0), (1.0, 1.0))}",
            r"a and b have examples of .*; valid are images",
        ),
        ("data.a={'name': 'npz'}", r"path is ''"),
    ],
)
def test_what_the_game_cannot_do_is_one_clear_line(override, message):
    with pytest.raises(InputError, match=message):
        make_experiment(_config(override), "wrong")


def test_other_workers_are_the_same_run():
    assert {"data.a.workers", "data.b.directory"} <= FREE
