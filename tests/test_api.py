"""The Python interface does what its docstrings show, and needs neither data nor devices."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import gaxn
from gaxn import api
from gaxn.data import pixels
from gaxn.evaluation import interpolation

SCRIPT = """
import sys, time
started = time.perf_counter()
import gaxn
print(time.perf_counter() - started)
print(*[name for name in ("jax", "matplotlib", "tensorflow_datasets") if name in sys.modules])
print(gaxn.__all__)
"""


@pytest.fixture(scope="module")
def run():
    return gaxn.load("attn_cgan_mnist")


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    return gaxn.train("ring:gan+tiny", workdir=tmp_path_factory.mktemp("runs") / "ring", seed=3)


@pytest.mark.slow
def test_the_examples_of_the_docstrings_are_right(tmp_path):
    names = {"folder": tmp_path, "np": np}
    assert doctest.testmod(api, extraglobs=names, optionflags=doctest.ELLIPSIS).failed == 0
    assert sum(len(test.examples) for test in doctest.DocTestFinder().find(api)) >= 8


def test_importing_gaxn_is_light():
    environment = {**os.environ, "PYTHONPATH": str(Path(gaxn.__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=environment
    )
    seconds, modules, names = result.stdout.splitlines()
    assert float(seconds) < 1.5 and not modules
    assert names == "['InputError', 'Run', 'evaluate', 'load', 'train']"
    assert set(gaxn.__all__) <= set(dir(gaxn))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = gaxn.nothing


def test_a_run_has_its_config_history_and_step(ring):
    assert ring.step == 8 and ring.name == "ring" and ring.config["seed"] == 3
    history = ring.history
    assert history["step"].tolist() == [0, 2, 4, 6, 8]
    assert np.isnan(history["d/loss"][0]) and np.isfinite(history["d/loss"][1:]).all()
    again = gaxn.load(ring.workdir)
    np.testing.assert_array_equal(again.sample(range(5)), ring.sample(range(5)))
    assert again.sample(range(5)).shape == (5, 2)
    first = gaxn.load(ring.workdir, step=4)
    assert first.step == 4 and (first.sample(range(5)) != ring.sample(range(5))).any()
    # The config names the raw weights.
    raw, average = (gaxn.load(ring.workdir, weights=weights) for weights in ("raw", "ema"))
    np.testing.assert_array_equal(raw.sample(range(5)), ring.sample(range(5)))
    assert (average.sample(range(5)) != ring.sample(range(5))).any()


def test_training_again_says_that_it_is_done(ring, capsys):
    gaxn.train("ring:gan+tiny", workdir=ring.workdir, seed=3)
    assert "is done: 8 steps, evaluated" in capsys.readouterr().out


@pytest.mark.slow
def test_generate_gives_what_is_sampled(run):
    latents, labels = run.latents([4, 9]), jnp.array([3, 8])
    images = jax.jit(run.generate)(run.params, latents, labels)
    assert images.shape == (2, 28, 28, 1) and jnp.abs(images).max() <= 1
    sampled = run.sample([4, 9], labels=[3, 8])
    assert np.abs(pixels.encode(images).astype(int) - sampled).max() <= 1


def test_generate_is_a_pure_function_of_parameters_and_latents(ring):
    latents = jnp.asarray(ring.latents(range(3)))
    generator = jax.tree.map(jnp.asarray, ring.params["generator"])

    def points(generator, latents):
        return ring.generate({"generator": generator}, latents)

    np.testing.assert_allclose(points(generator, latents), ring.sample(range(3)), atol=1e-6)
    one_by_one = jax.vmap(lambda latent: points(generator, latent[None])[0])(latents)
    np.testing.assert_allclose(one_by_one, points(generator, latents), atol=1e-6)
    check_grads(points, (generator, latents), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


LABELS = {
    "a list": [7, 7],
    "a number": 7,
    "a NumPy number": np.int64(7),
    "an array without axes": np.array(7),
    "a JAX number": jnp.int32(7),
    "names": ("7", "7"),
    "an array": np.array([7, 7]),
    "names in an array": np.array(["7", "7"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", LABELS)
def test_labels_may_have_many_forms(run, form):
    expected = run.sample([1, 2], labels=[7, 7])
    np.testing.assert_array_equal(run.sample([1, 2], labels=LABELS[form]), expected)
    np.testing.assert_array_equal(run.sample(iter([1, 2]), labels=iter([7, 7])), expected)
    images = run.generate(run.params, run.latents([1, 2]), LABELS[form])
    assert np.abs(pixels.encode(images).astype(int) - expected).max() <= 1


@pytest.mark.slow
def test_the_first_use_of_a_run_may_be_compiled():
    # In a trace all that is made is traced, and the sampler is made at its first use.
    first, second = gaxn.load("attn_cgan_mnist"), gaxn.load("attn_cgan_mnist")
    latents = jnp.asarray(second.latents([1, 2]))
    labels = jnp.array([7, 7])
    images = jax.jit(lambda z: first.generate(first.params, z, labels))(latents)
    expected = second.generate(second.params, latents, labels)
    np.testing.assert_allclose(images, expected, atol=1e-4)
    np.testing.assert_array_equal(first.sample([1, 2]), second.sample([1, 2]))


AFTER_JAX = """
import threading
import jax.numpy as jnp
import gaxn
jnp.zeros(3)
errors = []
def train():
    try:
        gaxn.train("ring:gan+tiny", "a", population=1, batch_size=32)
        gaxn.train("ring:gan+tiny", "b", population=1, batch_size=33)
    except BaseException as error:
        errors.append(error)
thread = threading.Thread(target=train)
thread.start()
thread.join()
print(errors)
"""


@pytest.mark.slow
@pytest.mark.parametrize("touch", ["jnp.zeros(3)", ""])
def test_a_program_may_use_jax_before_it_trains_in_a_thread_and_train_twice(tmp_path, touch):
    environment = {**os.environ, "PYTHONPATH": str(Path(gaxn.__file__).parents[1])}
    environment |= {"JAX_PLATFORMS": "cpu"}
    environment.pop("JAX_NUM_CPU_DEVICES", None)
    script = AFTER_JAX.replace("jnp.zeros(3)", touch)
    options = {"capture_output": True, "text": True, "check": True, "cwd": tmp_path}
    result = subprocess.run([sys.executable, "-c", script], env=environment, **options)
    assert result.stdout.splitlines()[-1] == "[]", result.stdout + result.stderr


@pytest.mark.slow
def test_discriminate_gives_the_logits_of_the_discriminator(run):
    images, labels = run.sample(range(6)), np.array([0, 1, 2, 3, 4, 0])
    logits = run.discriminate(images, labels)
    network = run._experiment.gan.discriminator
    variables = {"params": run.params["discriminator"]}
    decoded = images.astype(np.float32) / 127.5 - 1
    expected = jax.jit(lambda *inputs: network.apply(variables, *inputs, train=False))(
        decoded, labels
    )
    np.testing.assert_allclose(logits, np.ravel(getattr(expected, "logits", expected)), atol=1e-5)
    # Only the last image has another label than before.
    assert (run.discriminate(images, range(6)) != logits).tolist() == [False] * 5 + [True]


@pytest.mark.slow
def test_attention_weights_sum_to_1(run):
    for maps in (
        run.attention(seeds=[1, 2]),
        run.attention(images=run.sample([1, 2]), labels=[1, 2]),
    ):
        assert maps
        for weights in maps.values():
            assert weights.shape[0] == 2
            np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_gradients_go_through_the_discriminator(ring):
    points = jnp.asarray(ring.sample(range(4)))
    check_grads(ring.discriminate, (points,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


@pytest.mark.slow
def test_an_interpolation_begins_and_ends_with_its_seeds(run):
    frames = run.interpolate(3, 4, frames=5, labels=[2, 7])
    ends = run.sample([3, 4], labels=[2, 7])
    for frame, end in zip(frames[[0, -1]], ends, strict=True):
        # Class weights go through a product, labels through a look-up.
        assert np.abs(frame.astype(int) - end).mean() < 0.1
    latents = run.latents([3, 4])
    middle = interpolation.slerp(*latents, np.array([0.5]))
    weights = (np.eye(10)[[2]] + np.eye(10)[[7]]) / 2
    expected = pixels.encode(run.generate(run.params, middle, weights.astype(np.float32)))
    assert np.abs(frames[2].astype(int) - expected[0]).max() <= 1


def test_a_run_is_evaluated_without_writing(ring):
    before = sorted(path.stat().st_mtime_ns for path in ring.workdir.rglob("*"))
    document = ring.evaluate(samples=50, metrics=("frechet",))
    assert document["modes"]["protocol"]["samples"] == 50
    assert document["modes"]["figures"]["frechet_distance"] > 0
    assert before == sorted(path.stat().st_mtime_ns for path in ring.workdir.rglob("*"))


WRONG = {
    "no run": (lambda run: gaxn.load("nowhere"), r"nowhere holds no run; .*attn_cgan_mnist"),
    "no config": (lambda run: gaxn.train("nothing"), r"--config must be .* or one of .*ring"),
    "a step": (lambda run: gaxn.load("attn_cgan_mnist", step=-1), r"step must be 'last'"),
    "a member": (lambda run: gaxn.load("attn_cgan_mnist", member=1), "member must be 0 to 0"),
    "weights": (lambda run: gaxn.load("attn_cgan_mnist", weights="x"), "weights must be ema or"),
    "a field": (lambda run: gaxn.train("ring:tiny", "x", sed=1), "config.sed is unknown"),
    "a lab": (lambda run: gaxn.train("attention_lab:tiny", "x"), "config must be of a GAN"),
    "no seed": (lambda run: run.sample([]), "seeds must be one or more whole numbers"),
    "a seed": (lambda run: run.sample([-1]), "seeds must be one or more whole numbers"),
    "half a seed": (lambda run: run.sample([0.5]), "seeds must be one or more whole numbers"),
    "a label": (lambda run: run.sample([1], labels="x"), "a label must be 0 to 9"),
    "labels": (lambda run: run.sample([1, 2], labels=[1, 2, 3]), "labels must be one, or 2"),
    "one number": (lambda run: run.sample(3), "seeds must be a list or range"),
    "a picture of another size": (
        lambda run: run.discriminate(np.zeros((1, 9, 28, 1), np.uint8), 0),
        r"the shape of images must be \(n, 28, 28, 1\)",
    ),
    "attention to another size": (
        lambda run: run.attention(images=np.zeros((1, 9, 28, 1), np.uint8), labels=0),
        r"the shape of images must be \(n, 28, 28, 1\)",
    ),
    "no seeds but a number": (lambda run: run.sample(np.array(5)), "seeds must be a list or range"),
    "half a label": (lambda run: run.sample([1], labels=3.5), "a label must be 0 to 9"),
    "no labels to generate": (
        lambda run: run.generate(run.params, run.latents([1])),
        "labels must be classes, as the GAN is conditional",
    ),
    "too few labels in an array": (
        lambda run: run.discriminate(run.sample([1, 2]), np.array([1, 2, 3])),
        "labels must be one, or 2",
    ),
    "a label of no class in an array": (
        lambda run: run.generate(run.params, run.latents([1]), jnp.array([99])),
        "a label must be 0 to 9",
    ),
    "lists of labels": (lambda run: run.sample([1], labels=[[1, 2]]), "labels must be one class"),
    "labels and captions": (
        lambda run: run.sample([1], labels=1, captions="one"),
        "labels must be None with captions",
    ),
    "captions": (lambda run: run.conditions("one"), "captions must be left out"),
    "an option": (
        lambda run: gaxn.evaluate("a", "b", metric=["frechet"]),
        "an option must be one of metrics, samples",
    ),
    "no labels": (lambda run: run.discriminate(run.sample([1])), "labels must be classes"),
    "translation": (lambda run: run.translate(run.sample([1]), "a2b"), "that of a CycleGAN"),
    "a set": (lambda run: gaxn.evaluate(np.zeros(3), "x", features="pixels"), "a set of images"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_one_line(run, name):
    call, message = WRONG[name]
    with pytest.raises(gaxn.InputError, match=message) as caught:
        call(run)
    assert "\n" not in str(caught.value)
    assert not Path("x").exists()


def test_sets_in_memory_have_the_figures_of_files(tmp_path):
    random = np.random.default_rng(0)
    a, b = random.integers(0, 256, (2, 40, 8, 8, 3), np.uint8)
    for name, images in (("a", a), ("b", b)):
        np.savez(tmp_path / f"{name}.npz", images=images)
    options = {"features": "pixels", "metrics": ["frechet"]}
    expected = gaxn.evaluate(tmp_path / "a.npz", str(tmp_path / "b.npz"), **options)
    document = gaxn.evaluate(a, b, real=b, **options)
    assert document["figures"].items() >= expected["figures"].items()
    assert abs(document["figures"]["frechet_distance_real"]) < 1e-6
