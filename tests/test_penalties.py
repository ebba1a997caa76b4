"""Gradient penalties: the folder's contract, closed forms and finite differences."""

import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gaxn import penalties
from gaxn.penalties import r1, wgan_gp

FILES = [
    importlib.import_module(found.name)
    for found in pkgutil.iter_modules(penalties.__path__, "gaxn.penalties.")
]
BATCH, SHAPE, HIDDEN = 3, (2, 3, 2), 4
STEP = 1e-5


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def _name(file):
    return file.__name__.split(".")[-1]


def _images(count=BATCH):
    random = np.random.default_rng(0)
    return random.normal(size=(2, count, *SHAPE))


def _keys(count=BATCH, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def _weights():
    random = np.random.default_rng(1)
    return {
        "in": random.normal(size=(np.prod(SHAPE), HIDDEN)),
        "out": random.normal(size=HIDDEN),
    }


def _critic(weights):
    """A network of two layers, for NumPy and JAX arrays alike."""

    def critic(images):
        np_ = jnp if isinstance(images, jax.Array) else np
        return np_.tanh(images.reshape(len(images), -1) @ weights["in"]) @ weights["out"]

    return critic


def _differences(function, x):
    """The gradient of a scalar function of x by central differences, shape of x."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[index] += STEP
        behind[index] -= STEP
        gradient[index] = (function(ahead) - function(behind)) / (2 * STEP)
    return gradient


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_each_example_has_its_own_value(file):
    real, fake = _images()
    critic = _critic(_weights())
    run = jax.jit(lambda real, fake, keys: file.penalty(critic, real, fake, keys))
    values = run(real, fake, _keys())
    assert values.shape == (BATCH,)
    assert (values >= 0).all() and (values > 0).any()
    alone = [
        file.penalty(
            critic, *map(jnp.asarray, (real[i : i + 1], fake[i : i + 1])), _keys()[i, None]
        )
        for i in range(BATCH)
    ]
    np.testing.assert_allclose(values, np.concatenate(alone), rtol=1e-12)


def test_a_linear_critic_has_the_closed_form():
    w = np.random.default_rng(2).normal(size=SHAPE)
    norm = np.sqrt((w**2).sum())

    def critic(images):
        return jnp.einsum("bhwc,hwc->b", images, w)

    real, fake = map(jnp.asarray, _images())
    expected = {r1: norm**2 / 2, wgan_gp: (norm - 1) ** 2}
    for file, value in expected.items():
        np.testing.assert_allclose(file.penalty(critic, real, fake, _keys()), value, rtol=1e-12)


def _points(file, real, fake, keys):
    """Where each penalty takes its gradient."""
    if file is r1:
        return real
    mix = np.array([jax.random.uniform(key) for key in keys])[:, None, None, None]
    return mix * real + (1 - mix) * fake


@pytest.mark.parametrize("file", [r1, wgan_gp], ids=_name)
def test_values_are_those_of_finite_differences(file):
    real, fake = _images()
    critic = _critic(_weights())
    points = _points(file, real, fake, _keys())
    norms = [np.linalg.norm(_differences(lambda x: critic(x[None])[0], point)) for point in points]
    expected = [norm**2 / 2 if file is r1 else (norm - 1) ** 2 for norm in norms]
    values = file.penalty(critic, jnp.asarray(real), jnp.asarray(fake), _keys())
    # Central differences of step 1e-5 in float64 are right to about 1e-10.
    np.testing.assert_allclose(values, expected, rtol=1e-7)


@pytest.mark.parametrize("file", [r1, wgan_gp], ids=_name)
def test_gradients_in_the_weights_are_those_of_finite_differences(file):
    real, fake = map(jnp.asarray, _images())
    keys = _keys()

    @jax.jit
    def total(weights):
        return file.penalty(_critic(weights), real, fake, keys) @ jnp.array([1.0, -2.0, 0.5])

    weights = _weights()
    gradient = jax.grad(total)(weights)
    for name in weights:
        expected = _differences(lambda part, n=name: total({**weights, n: part}), weights[name])
        np.testing.assert_allclose(gradient[name], expected, rtol=1e-6, atol=1e-7)


def test_a_gradient_of_zero_leaves_wgan_gp_differentiable():
    real, fake = map(jnp.asarray, _images())

    def total(w):
        return wgan_gp.penalty(lambda x: w * x.sum(axis=(1, 2, 3)), real, fake, _keys()).sum()

    value, slope = jax.value_and_grad(total)(jnp.asarray(0.0))
    assert value == BATCH
    assert slope == 0
    # |grad| is 3.46 w here, so the slope is 2 * 3.46 * (3.46 w - 1) an example.
    norm = np.sqrt(np.prod(SHAPE))
    slope = jax.grad(total)(jnp.asarray(1e-3))
    np.testing.assert_allclose(slope, BATCH * 2 * norm * (norm * 1e-3 - 1), rtol=1e-9)


def test_r1_is_taken_at_real_images_alone():
    real, fake = map(jnp.asarray, _images())
    critic = _critic(_weights())
    values = r1.penalty(critic, real, fake, _keys())
    np.testing.assert_array_equal(values, r1.penalty(critic, real, -fake, _keys(seed=1)))
    assert (values != r1.penalty(critic, fake, real, _keys())).all()


def test_wgan_gp_mixes_uniformly_by_key():
    count, scale = 2000, 1e6
    shape = (count, *SHAPE)
    norm = scale * np.sqrt(np.prod(SHAPE))

    def critic(images):
        return jnp.sum(images**2, axis=(1, 2, 3)) / 2

    # This critic's gradient is the image itself, so the penalty tells the mix: with real
    # images of `scale` and generated ones of 0 it is (mix * norm - 1)^2.
    real, fake = jnp.full(shape, scale), jnp.zeros(shape)
    values = wgan_gp.penalty(critic, real, fake, _keys(count))
    mix = (np.sqrt(values) + 1) / norm
    assert scipy.stats.kstest(mix, "uniform").pvalue > 1e-6
    swapped = wgan_gp.penalty(critic, fake, real, _keys(count))
    # Wherever the gradient is longer than 1, in all but one mix of some million.
    np.testing.assert_allclose((np.sqrt(swapped) + 1) / norm, 1 - mix, atol=1e-6)
