"""Self-attention compared with its equation in NumPy, float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn.metrics.statistics import attention as statistics
from gaxn.nn.attention import SelfAttention, attend, attend_in_blocks, attention_weights
from gaxn.types import InputError

SHAPE = (3, 4, 6, 16)


def _draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def _expected(params, x, heads, pool):
    """Computes output and weights, one query of one head of one example at a time."""
    names = ("Dense_0", "Dense_1", "Dense_2", "Dense_3")
    query, key, value, output = (np.asarray(params[name]["kernel"]) for name in names)
    batch, height, width, channels = x.shape

    def pool_map(map_):
        shape = (batch, height // pool, width // pool, map_.shape[-1])
        pooled = np.full(shape, -np.inf)
        for row in range(height):
            for column in range(width):
                cell = pooled[:, row // pool, column // pool]
                np.maximum(cell, map_[:, row, column], out=cell)
        return pooled.reshape(batch, -1, map_.shape[-1])

    queries = (x @ query).reshape(batch, height * width, -1)
    keys, values = pool_map(x @ key), pool_map(x @ value)
    attended = np.zeros((batch, height * width, channels))
    weights = np.zeros((batch, heads, height * width, keys.shape[1]))
    for example in range(batch):
        for head in range(heads):
            narrow, wide = query.shape[1] // heads, channels // heads
            of_query = slice(head * narrow, (head + 1) * narrow)
            of_value = slice(head * wide, (head + 1) * wide)
            for position in range(height * width):
                scores = keys[example][:, of_query] @ queries[example, position, of_query]
                exponentials = np.exp(scores - scores.max())
                row = exponentials / exponentials.sum()
                weights[example, head, position] = row
                attended[example, position, of_value] = row @ values[example][:, of_value]
    return float(params["gamma"]) * (attended.reshape(x.shape) @ output) + x, weights


def _initialize(layer, x):
    return jax.jit(lambda key: layer.init(key, x, False))(jax.random.key(0))["params"]


@pytest.mark.parametrize("heads, reduction, pool", [(1, 8, 1), (2, 8, 2), (4, 2, 1), (4, 4, 2)])
def test_values_follow_the_equation(heads, reduction, pool):
    layer = SelfAttention(heads, reduction, pool)
    with jax.enable_x64(True):
        x = jnp.asarray(_draw(SHAPE))
        params = jax.eval_shape(lambda: _initialize(layer, x))
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
def test_the_initial_layer_is_the_identity(spectral_norm):
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
    variables = {"params": _initialize(layer, x)}
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
    with pytest.raises(InputError, match=f"heads must be a divisor .*, got {heads}"):
        jax.eval_shape(lambda: _initialize(layer, jnp.zeros(SHAPE)))


def test_a_pool_that_does_not_divide_is_refused():
    layer = SelfAttention(pool=4)
    with pytest.raises(InputError, match=r"attention_pool must be a divisor of .* 4 and 6, got 4"):
        jax.eval_shape(lambda: _initialize(layer, jnp.zeros(SHAPE)))


@pytest.mark.parametrize("pool", [1, 2])
def test_permuting_the_images_permutes_the_output(pool):
    layer = SelfAttention(heads=2, pool=pool)
    x = jnp.asarray(_draw(SHAPE), jnp.float32)
    params = _initialize(layer, x)
    params["gamma"] = jnp.asarray(1.0)
    order = np.array([2, 0, 1])
    y = layer.apply({"params": params}, x, False)
    shuffled = layer.apply({"params": params}, x[order], False)
    # Float32 products in other tiles of a matrix product.
    np.testing.assert_allclose(shuffled, y[order], rtol=1e-5, atol=1e-5)


def _heads(dtype=np.float64):
    """Returns 30 queries and, as if pooled, 12 keys and values, for 2 heads."""
    random = np.random.default_rng(3)
    shapes = [(2, 30, 2, 3), (2, 12, 2, 3), (2, 12, 2, 5)]
    return [jnp.asarray(random.normal(size=shape), dtype) for shape in shapes]


@pytest.mark.parametrize("block", [1, 7, 10, 30, 64])
def test_blocks_change_no_value_and_no_derivative(block):
    with jax.enable_x64(True):
        operands = _heads()
        results = [
            _with_derivatives(attention, operands)
            for attention in (attend, partial(attend_in_blocks, block=block))
        ]
    for plain, in_blocks in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(in_blocks, plain, rtol=1e-10, atol=1e-12)


def _with_derivatives(attention, operands):
    """Returns the values, a gradient, and the gradient of its square, as in a gradient penalty."""

    def loss(*operands):
        return (attention(*operands) ** 3).sum()

    def penalty(*operands):
        return sum((leaf**2).sum() for leaf in jax.grad(loss, (0, 1, 2))(*operands))

    values = jax.jit(attention)(*operands)
    return values, *(jax.jit(jax.grad(f, (0, 1, 2)))(*operands) for f in (loss, penalty))


@pytest.mark.parametrize("derivative", [0, 1])
def test_the_memory_of_blocks_does_not_grow_with_the_square_of_positions(derivative):
    def memory(attention, side):
        shape = jax.ShapeDtypeStruct((2, side**2, 1, 8), jnp.float32)
        function = jax.grad(lambda *o: attention(*o).sum(), (0, 1, 2)) if derivative else attention
        compiled = jax.jit(function).lower(shape, shape, shape).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # Four times the positions have sixteen times as many weights.
    plain, blocks = (
        memory(attention, 64) / memory(attention, 32)
        for attention in (attend, partial(attend_in_blocks, block=64))
    )
    assert plain > 8 and blocks < 5


def test_the_softmax_of_bfloat16_is_float32():
    query, key, _ = _heads(jnp.bfloat16)
    weights = attention_weights(query, key)
    assert weights.dtype == jnp.float32
    wide = [np.asarray(operand, np.float64) for operand in (query, key)]
    scores = np.einsum("bqhc,bkhc->bhqk", *wide)
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_uniform_weights_have_the_largest_entropy_and_the_mean_distance_of_a_square():
    weights = np.full((2, 3, 256, 256), 1 / 256, np.float32)
    np.testing.assert_allclose(statistics.entropy(weights), 1, rtol=1e-5)
    # The mean distance of two points in a unit square (Robbins, 1978), approached by a fine grid.
    exact = (2 + np.sqrt(2) + 5 * np.log(1 + np.sqrt(2))) / 15
    np.testing.assert_allclose(statistics.distance(weights), exact, rtol=5e-3)


def test_attention_to_the_same_position_has_no_entropy_and_no_distance():
    weights = np.broadcast_to(np.eye(16, dtype=np.float32), (2, 3, 16, 16))
    assert statistics.entropy(weights) == 0
    assert statistics.distance(weights) == 0
    assert statistics.side(16) == 4


def test_attention_to_the_next_of_four_columns_has_distance_a_quarter():
    weights = np.zeros((1, 1, 16, 16), np.float32)
    for position in range(16):
        weights[0, 0, position, position ^ 1] = 1
    np.testing.assert_allclose(statistics.distance(weights), 0.25, rtol=1e-6)


def test_pooled_keys_are_between_the_queries():
    weights = np.zeros((1, 1, 16, 4), np.float32)
    for position in range(16):
        row, column = divmod(position, 4)
        weights[0, 0, position, 2 * (row // 2) + column // 2] = 1
    # Each attends to the center of its four cells, an eighth away in both directions.
    np.testing.assert_allclose(statistics.distance(weights), np.sqrt(2) / 8, rtol=1e-6)
