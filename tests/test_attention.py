"""Self-attention against the same equation in NumPy, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn.nn.attention import SelfAttention
from gaxn.types import InputError

SHAPE = (3, 4, 6, 16)


def _draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def _expected(params, x, heads, pool):
    """Output and weights, one query of one head of one example at a time."""
    names = ("Dense_0", "Dense_1", "Dense_2", "Dense_3")
    query, key, value, output = (np.asarray(params[name]["kernel"]) for name in names)
    batch, height, width, channels = x.shape

    def pooled(map_):
        shape = (batch, height // pool, width // pool, map_.shape[-1])
        small = np.full(shape, -np.inf)
        for row in range(height):
            for column in range(width):
                place = small[:, row // pool, column // pool]
                np.maximum(place, map_[:, row, column], out=place)
        return small.reshape(batch, -1, map_.shape[-1])

    queries = (x @ query).reshape(batch, height * width, -1)
    keys, values = pooled(x @ key), pooled(x @ value)
    attended = np.zeros((batch, height * width, channels))
    weights = np.zeros((batch, heads, height * width, keys.shape[1]))
    for example in range(batch):
        for head in range(heads):
            narrow, wide = query.shape[1] // heads, channels // heads
            own = slice(head * narrow, (head + 1) * narrow)
            for place in range(height * width):
                scores = keys[example][:, own] @ queries[example, place, own]
                odds = np.exp(scores - scores.max())
                odds /= odds.sum()
                weights[example, head, place] = odds
                channel = slice(head * wide, (head + 1) * wide)
                attended[example, place, channel] = odds @ values[example][:, channel]
    return float(params["gamma"]) * (attended.reshape(x.shape) @ output) + x, weights


def _initialise(layer, x):
    return jax.jit(lambda key: layer.init(key, x, False))(jax.random.key(0))["params"]


@pytest.mark.parametrize("heads, reduction, pool", [(1, 8, 1), (2, 8, 2), (4, 2, 1), (4, 4, 2)])
def test_values_are_those_of_the_equation(heads, reduction, pool):
    layer = SelfAttention(heads, reduction, pool)
    with jax.enable_x64(True):
        x = jnp.asarray(_draw(SHAPE))
        params = jax.eval_shape(lambda: _initialise(layer, x))
        leaves, structure = jax.tree.flatten(params)
        drawn = [jnp.asarray(_draw(leaf.shape, seed)) for seed, leaf in enumerate(leaves, 1)]
        params = jax.tree.unflatten(structure, drawn)
        params["gamma"] = jnp.asarray(0.7)
        y, sown = layer.apply({"params": params}, x, False, mutable=["intermediates"])
    x = np.asarray(x)
    expected, weights = _expected(params, x, heads, pool)
    assert np.abs(expected - x).max() > 0.1
    # Both sides are float64.
    np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-10)
    (sown_weights,) = sown["intermediates"]["weights"]
    np.testing.assert_allclose(sown_weights, weights, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_it_starts_as_the_identity(spectral_norm):
    layer = SelfAttention(heads=2, spectral_norm=spectral_norm)
    x = jnp.asarray(_draw(SHAPE), jnp.float32)
    variables = jax.jit(lambda key: layer.init(key, x, True))(jax.random.key(0))
    assert variables["params"]["gamma"] == 0
    np.testing.assert_array_equal(layer.apply(variables, x, False), x)
    variables["params"]["gamma"] = jnp.asarray(0.1)
    assert np.abs(layer.apply(variables, x, False) - x).max() > 1e-3


@pytest.mark.parametrize("heads, pool", [(1, 1), (4, 2)])
def test_sown_weights_sum_to_one_over_the_keys(heads, pool):
    layer = SelfAttention(heads, reduction=4, pool=pool)
    x = 5 * jnp.asarray(_draw(SHAPE), jnp.float32)
    variables = {"params": _initialise(layer, x)}
    _, sown = layer.apply(variables, x, False, mutable=["intermediates"])
    (weights,) = sown["intermediates"]["weights"]
    assert weights.shape == (3, heads, 24, 24 // pool**2)
    assert weights.min() >= 0
    # The rounding of 24 float32 terms.
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=24 * np.finfo(np.float32).eps)
    assert weights.max() > 0.5


@pytest.mark.parametrize("heads, reduction", [(3, 8), (4, 3), (32, 8)])
def test_heads_that_do_not_divide_are_refused(heads, reduction):
    layer = SelfAttention(heads, reduction)
    with pytest.raises(InputError, match=f"heads is {heads}"):
        jax.eval_shape(lambda: _initialise(layer, jnp.zeros(SHAPE)))


def test_a_pool_that_does_not_divide_is_refused():
    layer = SelfAttention(pool=4)
    with pytest.raises(InputError, match="attention_pool is 4"):
        jax.eval_shape(lambda: _initialise(layer, jnp.zeros(SHAPE)))


@pytest.mark.parametrize("pool", [1, 2])
def test_permuting_the_pictures_permutes_the_result(pool):
    layer = SelfAttention(heads=2, pool=pool)
    x = jnp.asarray(_draw(SHAPE), jnp.float32)
    params = _initialise(layer, x)
    params["gamma"] = jnp.asarray(1.0)
    order = np.array([2, 0, 1])
    y = layer.apply({"params": params}, x, False)
    shuffled = layer.apply({"params": params}, x[order], False)
    # Float32 products in another place of a matmul's tile.
    np.testing.assert_allclose(shuffled, y[order], rtol=1e-5, atol=1e-5)
