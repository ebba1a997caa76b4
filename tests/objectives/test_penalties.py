"""Gradient penalties: the contract of all, closed forms and finite differences."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gaxn.experiment.objective import make_parts
from gaxn.models import attn_cgan
from gaxn.objectives import penalties
from gaxn.objectives.penalties import Penalty
from gaxn.types import InputError

pytestmark = pytest.mark.usefixtures("float64")

NAMES = [
    name
    for name, value in vars(penalties).items()
    if inspect.isfunction(value)
    and value.__annotations__.get("return") is Penalty
    and not name.startswith("_")
]
BATCH, SHAPE, HIDDEN = 3, (2, 3, 2), 4
STEP = 1e-5


def _values(name, discriminator, real, fake, keys):
    """Returns a penalty per example, without its weight."""
    return getattr(penalties, name)(1.0).values(discriminator, real, fake, keys)


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


def _discriminator(weights):
    """Returns a network of two layers, for NumPy and JAX arrays."""

    def discriminator(images):
        np_ = jnp if isinstance(images, jax.Array) else np
        return np_.tanh(images.reshape(len(images), -1) @ weights["in"]) @ weights["out"]

    return discriminator


def _differences(function, x):
    """Returns the gradient of a scalar function of x by central differences, shape of x."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[index] += STEP
        behind[index] -= STEP
        gradient[index] = (function(ahead) - function(behind)) / (2 * STEP)
    return gradient


@pytest.mark.parametrize("name", NAMES)
def test_each_example_has_its_own_value(name):
    real, fake = _images()
    discriminator = _discriminator(_weights())
    run = jax.jit(lambda real, fake, keys: _values(name, discriminator, real, fake, keys))
    values = run(real, fake, _keys())
    assert values.shape == (BATCH,)
    assert (values >= 0).all() and (values > 0).any()
    alone = [
        _values(
            name,
            discriminator,
            *map(jnp.asarray, (real[i : i + 1], fake[i : i + 1])),
            _keys()[i, None],
        )
        for i in range(BATCH)
    ]
    np.testing.assert_allclose(values, np.concatenate(alone), rtol=1e-12)


def test_a_linear_discriminator_has_the_closed_form():
    w = np.random.default_rng(2).normal(size=SHAPE)
    norm = np.sqrt((w**2).sum())

    def discriminator(images):
        return jnp.einsum("bhwc,hwc->b", images, w)

    real, fake = map(jnp.asarray, _images())
    assert norm > 1
    for name, of_norm in OF_NORM.items():
        values = _values(name, discriminator, real, fake, _keys())
        np.testing.assert_allclose(values, of_norm(norm), rtol=1e-12)
    small = w / (2 * norm)
    discriminator = lambda images: jnp.einsum("bhwc,hwc->b", images, small)  # noqa: E731
    np.testing.assert_array_equal(_values("wgan_lp", discriminator, real, fake, _keys()), 0)


OF_NORM = {
    "r1": lambda norm: norm**2 / 2,
    "r2": lambda norm: norm**2 / 2,
    "zero_centered": lambda norm: norm**2,
    "wgan_gp": lambda norm: (norm - 1) ** 2,
    "wgan_lp": lambda norm: max(0, norm - 1) ** 2,
    "dragan": lambda norm: (norm - 1) ** 2,
}
"""Each penalty as a function of the norm of the gradient."""


def test_every_penalty_has_its_equation():
    assert set(OF_NORM) == set(NAMES)


def _points(name, real, fake, keys):
    """Returns the points at which a penalty takes the gradient."""
    if name in ("r1", "r2"):
        return real if name == "r1" else fake
    if name == "dragan":
        return real + 0.5 * np.array([jax.random.normal(key, SHAPE) for key in keys])
    mix = np.array([jax.random.uniform(key) for key in keys])[:, None, None, None]
    return mix * real + (1 - mix) * fake


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_finite_differences(name):
    real, fake = _images()
    discriminator = _discriminator(_weights())
    points = _points(name, real, fake, _keys())
    gradients = [_differences(lambda x: discriminator(x[None])[0], point) for point in points]
    expected = [OF_NORM[name](np.linalg.norm(gradient)) for gradient in gradients]
    values = _values(name, discriminator, jnp.asarray(real), jnp.asarray(fake), _keys())
    # Central differences of step 1e-5 in float64 are right to about 1e-10.
    np.testing.assert_allclose(values, expected, rtol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_the_weights_are_those_of_finite_differences(name):
    real, fake = map(jnp.asarray, _images())
    keys = _keys()

    @jax.jit
    def total(weights):
        values = _values(name, _discriminator(weights), real, fake, keys)
        return values @ jnp.array([1.0, -2.0, 0.5])

    weights = _weights()
    gradient = jax.grad(total)(weights)
    for layer in weights:
        expected = _differences(lambda part, n=layer: total({**weights, n: part}), weights[layer])
        np.testing.assert_allclose(gradient[layer], expected, rtol=1e-6, atol=1e-7)


def test_a_gradient_of_zero_leaves_wgan_gp_differentiable():
    real, fake = map(jnp.asarray, _images())

    def total(w):
        return _values("wgan_gp", lambda x: w * x.sum(axis=(1, 2, 3)), real, fake, _keys()).sum()

    value, slope = jax.value_and_grad(total)(jnp.asarray(0.0))
    assert value == BATCH
    assert slope == 0
    # |grad| is 3.46 w here, so the slope is 2 * 3.46 * (3.46 w - 1) per example.
    norm = np.sqrt(np.prod(SHAPE))
    slope = jax.grad(total)(jnp.asarray(1e-3))
    np.testing.assert_allclose(slope, BATCH * 2 * norm * (norm * 1e-3 - 1), rtol=1e-9)


def test_r1_is_taken_at_real_images_only():
    real, fake = map(jnp.asarray, _images())
    discriminator = _discriminator(_weights())
    values = _values("r1", discriminator, real, fake, _keys())
    np.testing.assert_array_equal(values, _values("r1", discriminator, real, -fake, _keys(seed=1)))
    assert (values != _values("r1", discriminator, fake, real, _keys())).all()


def test_wgan_gp_mixes_uniformly_by_key():
    count, scale = 2000, 1e6
    shape = (count, *SHAPE)
    norm = scale * np.sqrt(np.prod(SHAPE))

    def discriminator(images):
        return jnp.sum(images**2, axis=(1, 2, 3)) / 2

    # This discriminator's gradient is the image itself, so the penalty shows the mix: with real
    # images of `scale` and generated ones of 0 it is (mix * norm - 1)^2.
    real, fake = jnp.full(shape, scale), jnp.zeros(shape)
    values = _values("wgan_gp", discriminator, real, fake, _keys(count))
    mix = (np.sqrt(values) + 1) / norm
    assert scipy.stats.kstest(mix, "uniform").pvalue > 1e-6
    swapped = _values("wgan_gp", discriminator, fake, real, _keys(count))
    # Wherever the gradient is longer than 1, in all but one mix of some million.
    np.testing.assert_allclose((np.sqrt(swapped) + 1) / norm, 1 - mix, atol=1e-6)


@pytest.fixture(scope="module")
def converged():
    """Returns a discriminator, images, and variables whose singular vectors have converged."""
    with jax.enable_x64(True):
        network = attn_cgan.Discriminator(
            classes=None, widths=(4, 8), attention_at=(4,), hidden=6, spectral_norm=True
        )
        real, fake = np.random.default_rng(3).normal(size=(2, 2, 8, 8, 3))
        real, fake = map(jnp.asarray, (real, fake))
        variables = jax.jit(lambda: network.init(jax.random.key(0), real, None, train=True))()
        variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
        # Attention starts with a scale of 0, which would hide it.
        variables["params"] = jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf + 0.7 if path[-1].key == "gamma" else leaf, variables["params"]
        )

        # The derivative takes the singular vectors as constant, which is right only where the power
        # iteration has converged.
        @jax.jit
        def iterate(variables):
            _, changed = network.apply(variables, real, None, train=True, mutable=["spectral"])
            return {**variables, **changed}

        for _ in range(300):
            variables = iterate(variables)
    return network, real, fake, variables


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_are_right_through_spectral_norm_and_attention(name, converged):
    network, real, fake, variables = converged

    @jax.jit
    def total(params):
        def discriminator(images):
            # Steep, so that no penalty is 0.
            return 100 * network.apply({**variables, "params": params}, images, None, train=False)

        return _values(name, discriminator, real, fake, _keys(2)) @ jnp.array([1.0, -0.5])

    params = variables["params"]
    leaves, tree = jax.tree.flatten(params)
    random = np.random.default_rng(4)
    direction = tree.unflatten([jnp.asarray(random.normal(size=leaf.shape)) for leaf in leaves])

    @jax.jit
    def moved(step):
        return total(jax.tree.map(lambda leaf, way: leaf + step * way, params, direction))

    gradient = jax.tree.leaves(jax.jit(jax.grad(total))(params))
    slope = sum(jnp.vdot(a, b) for a, b in zip(gradient, jax.tree.leaves(direction), strict=True))
    difference = (moved(STEP) - moved(-STEP)) / (2 * STEP)
    # A kink of LeakyReLU within the step would show as far more than rounding.
    np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-9)
    assert abs(slope) > 1e-6


def test_options_and_the_interval_come_from_the_config():
    spec = {"dragan": {"weight": 2, "interval": 4, "deviation": 0.0}}
    penalty = make_parts("penalties", spec, Penalty)["dragan"]
    assert penalty.weight == 2.0 and penalty.interval == 4
    inputs = _discriminator(_weights()), *map(jnp.asarray, _images()), _keys()
    expected = (np.sqrt(2 * _values("r1", *inputs)) - 1) ** 2
    np.testing.assert_allclose(penalty.values(*inputs), expected, rtol=1e-12)


WRONG = {
    "a number": ({"r1": -1.0}, "config.penalties.r1 must be a dict of options, got -1.0"),
    "a negative weight": (
        {"r1": {"weight": -1.0}},
        "config.penalties.r1.weight must be 0 or more, got -1.0",
    ),
    "no weight": ({"r1": {"interval": 2}}, "config.penalties.r1.weight is missing"),
    "no step": (
        {"r1": {"weight": 1, "interval": 0}},
        "config.penalties.r1.interval must be 1 step or more, got 0",
    ),
    "an unknown option": (
        {"r1": {"weight": 1, "sigma": 2}},
        "config.penalties.r1.sigma is unknown; config.penalties.r1 takes interval, weight",
    ),
    "an option out of range": (
        {"dragan": {"weight": 1, "deviation": -1.0}},
        "config.penalties.dragan.deviation must be 0 or more, got -1.0",
    ),
    "no such penalty": (
        {"r3": {"weight": 1}},
        "config.penalties must be one of r., r., .* got 'r3'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_one_line(name):
    specs, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        make_parts("penalties", specs, Penalty)
