"""Transformer layers compared with Flax, PyTorch and equations in NumPy, float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn.nn.transformer import Block, MultiHeadSelfAttention, sinusoids
from gaxn.types import InputError

SHAPE = (2, 10, 16)
LENGTHS = (6, 9)
MASK = np.arange(SHAPE[1]) < np.array(LENGTHS)[:, None]
# Both sides are float64.
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def _draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def _parameters(layer, *inputs):
    """Returns random parameters, biases and gains included."""
    params = jax.eval_shape(layer.init, jax.random.key(0), *inputs)["params"]
    leaves, structure = jax.tree.flatten(params)
    drawn = [_draw(leaf.shape, seed) / 2 for seed, leaf in enumerate(leaves, 1)]
    return jax.tree.unflatten(structure, drawn)


def _run(heads, params, x, mask=None):
    y, sown = MultiHeadSelfAttention(heads).apply(
        {"params": params}, x, mask, mutable=["intermediates"]
    )
    (weights,) = sown["intermediates"]["weights"]
    return np.asarray(y), np.asarray(weights)


@pytest.fixture(scope="module")
def params():
    with jax.enable_x64(True):
        return _parameters(MultiHeadSelfAttention(4), jnp.zeros(SHAPE))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("heads", [1, 4, 8])
def test_attention_equals_that_of_flax(params, heads, masked):
    x = _draw(SHAPE)
    width = SHAPE[-1]

    def split(layer):
        return {
            "kernel": layer["kernel"].reshape(width, heads, -1),
            "bias": layer["bias"].reshape(heads, -1),
        }

    flax_params = {name: split(params[name]) for name in ("query", "key", "value")}
    flax_params["out"] = {
        "kernel": params["output"]["kernel"].reshape(heads, -1, width),
        "bias": params["output"]["bias"],
    }
    layer = nn.MultiHeadDotProductAttention(num_heads=heads)
    expected, sown = layer.apply(
        {"params": flax_params},
        x,
        mask=MASK[:, None, None] if masked else None,
        sow_weights=True,
        mutable=["intermediates"],
    )
    y, weights = _run(heads, params, x, MASK if masked else None)
    np.testing.assert_allclose(y, expected, **CLOSE)
    np.testing.assert_allclose(weights, sown["intermediates"]["attention_weights"][0], **CLOSE)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
def test_attention_equals_that_of_pytorch(params, heads, masked):
    torch = pytest.importorskip("torch")
    x = _draw(SHAPE)
    projections = ("query", "key", "value")
    attention = torch.nn.MultiheadAttention(SHAPE[-1], heads, batch_first=True, dtype=torch.float64)
    attention.load_state_dict(
        {
            "in_proj_weight": torch.from_numpy(
                np.concatenate([params[name]["kernel"].T for name in projections])
            ),
            "in_proj_bias": torch.from_numpy(
                np.concatenate([params[name]["bias"] for name in projections])
            ),
            "out_proj.weight": torch.from_numpy(params["output"]["kernel"].T.copy()),
            "out_proj.bias": torch.from_numpy(params["output"]["bias"]),
        }
    )
    tokens = torch.from_numpy(x)
    ignored = torch.from_numpy(~MASK) if masked else None
    with torch.no_grad():
        expected, expected_weights = attention(
            tokens, tokens, tokens, key_padding_mask=ignored, average_attn_weights=False
        )
    y, weights = _run(heads, params, x, MASK if masked else None)
    np.testing.assert_allclose(y, expected.numpy(), **CLOSE)
    np.testing.assert_allclose(weights, expected_weights.numpy(), **CLOSE)


@pytest.mark.parametrize("mask", [None, MASK])
def test_rows_of_the_weights_sum_to_one(params, mask):
    _, weights = _run(4, params, 3 * _draw(SHAPE), mask)
    assert weights.shape == (2, 4, 10, 10)
    assert weights.min() >= 0 and weights.max() > 0.9
    np.testing.assert_allclose(weights.sum(axis=-1), 1, **CLOSE)


def test_masked_tokens_have_no_effect(params):
    x = _draw(SHAPE)
    y, weights = _run(4, params, x, MASK)
    assert (weights[~np.broadcast_to(MASK[:, None, None], weights.shape)] == 0).all()
    for example, length in enumerate(LENGTHS):
        shorter, _ = _run(4, params, x[example : example + 1, :length])
        np.testing.assert_allclose(y[example, :length], shorter[0], **CLOSE)


def test_permuting_the_tokens_permutes_the_output_and_the_weights(params):
    x = _draw(SHAPE)
    order = np.random.default_rng(1).permutation(SHAPE[1])
    y, weights = _run(4, params, x)
    permuted, permuted_weights = _run(4, params, x[:, order])
    np.testing.assert_allclose(permuted, y[:, order], **CLOSE)
    np.testing.assert_allclose(permuted_weights, weights[:, :, order][..., order], **CLOSE)
    assert np.abs(permuted - y).max() > 0.1


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="heads must be a divisor of the width, 16, got 3"):
        _parameters(MultiHeadSelfAttention(3), jnp.zeros(SHAPE))


@pytest.mark.parametrize("tokens, width", [(10, 64), (7, 5)])
def test_sinusoids_follow_the_formula(tokens, width):
    expected = np.empty((tokens, width))
    for position in range(tokens):
        for column in range(width):
            angle = position / 10_000.0 ** ((column - column % 2) / width)
            expected[position, column] = np.cos(angle) if column % 2 else np.sin(angle)
    np.testing.assert_allclose(sinusoids(tokens, width), expected, **CLOSE)


def _dense(params, x):
    return x @ params["kernel"] + params["bias"]


def _normal(x):
    centered = x - x.mean(axis=-1, keepdims=True)
    # Flax's epsilon.
    return centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-6)


def _norm(params, name, x, condition):
    if condition is None:
        return _normal(x) * params[name]["scale"] + params[name]["bias"]
    gain = 1 + _dense(params[f"{name}_gain"], condition)
    return _normal(x) * gain[:, None] + _dense(params[f"{name}_bias"], condition)[:, None]


def _attention(params, x, heads):
    query, key, value = (_dense(params[name], x) for name in ("query", "key", "value"))
    attended = np.empty_like(x)
    size = x.shape[-1] // heads
    for example in range(len(x)):
        for head in range(heads):
            index = example, slice(None), slice(head * size, (head + 1) * size)
            weights = np.exp(query[index] @ key[index].T / np.sqrt(size))
            weights /= weights.sum(axis=-1, keepdims=True)
            attended[index] = weights @ value[index]
    return _dense(params["output"], attended)


def _gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("ratio", [2, 4])
def test_a_block_is_two_pre_norm_residual_layers(conditional, ratio):
    x = _draw(SHAPE)
    condition = _draw((SHAPE[0], 3), 9) if conditional else None
    block = Block(heads=4, ratio=ratio)
    params = _parameters(block, x, condition)
    assert params["hidden"]["kernel"].shape == (16, ratio * 16)
    y = block.apply({"params": params}, x, condition)
    between = x + _attention(params["attention"], _norm(params, "before", x, condition), 4)
    hidden = _gelu(_dense(params["hidden"], _norm(params, "between", between, condition)))
    expected = between + _dense(params["output"], hidden)
    np.testing.assert_allclose(y, expected, **CLOSE)


def test_a_condition_modulates_no_other_example():
    x, condition = _draw(SHAPE), _draw((SHAPE[0], 3), 9)
    block = Block(heads=4)
    params = _parameters(block, x, condition)
    y = block.apply({"params": params}, x, condition)
    changed = block.apply({"params": params}, x, condition * np.array([[1.0], [-1.0]]))
    np.testing.assert_array_equal(changed[0], y[0])
    assert np.abs(changed[1] - y[1]).max() > 0.1
