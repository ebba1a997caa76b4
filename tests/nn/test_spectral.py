"""Spectral normalization compared with exact singular values."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.core import DenyList

from gaxn.nn import spectral
from gaxn.nn.resampling import StridedConvolution, TransposedConvolution

LAYERS = {
    "dense": nn.Dense(7, use_bias=False),
    "convolution": StridedConvolution(7),
    "transposed convolution": TransposedConvolution(7, side=3),
}
INPUTS = {
    "dense": (3, 12),
    "convolution": (3, 6, 8, 5),
    "transposed convolution": (3, 6, 8, 5),
}


def _make_layer(name):
    """Returns the normalized layer, its variables and an input."""
    layer = spectral.wrap(True, LAYERS[name])
    x = jax.random.normal(jax.random.key(1), INPUTS[name])
    variables = jax.jit(lambda key: layer.init(key, x, True))(jax.random.key(0))
    # The kernel from `init` is normalized already.
    params = jax.tree.map(lambda leaf: 3 * leaf, variables["params"])
    return layer, {**variables, "params": params}, x


def _kernel(variables):
    (kernel,) = [leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim > 1]
    return np.asarray(kernel, np.float64)


def _largest(kernel):
    return np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0]


@pytest.mark.parametrize("name", LAYERS)
def test_the_largest_singular_value_becomes_one(name):
    layer, variables, x = _make_layer(name)
    plain = LAYERS[name].apply({"params": next(iter(variables["params"].values()))}, x)
    run = jax.jit(lambda v, x: layer.apply(v, x, True, mutable=["spectral"]))
    for _ in range(200):
        y, updates = run(variables, x)
        variables = {**variables, **updates}
    (scale,) = np.linalg.lstsq(plain.reshape(-1, 1), y.reshape(-1), rcond=None)[0]
    # The outputs differ by one factor, up to float32 rounding.
    np.testing.assert_allclose(y, scale * plain, rtol=1e-4, atol=1e-5)
    before, after = _largest(_kernel(variables)), _largest(scale * _kernel(variables))
    assert abs(before - 1) > 0.1
    np.testing.assert_allclose(after, 1, atol=1e-3)


def _torch_layer(name, kernel):
    """Returns a layer of PyTorch with this kernel, [..., inputs, outputs], and spectral norm."""
    sides = tuple(range(kernel.ndim - 2))
    inputs, outputs = kernel.shape[-2:]
    if name == "dense":
        layer, axes = torch.nn.Linear(inputs, outputs, bias=False), (1, 0)
    elif name == "convolution":
        layer, axes = torch.nn.Conv2d(inputs, outputs, 4, 2, 1), (3, 2, *sides)
    else:
        layer = torch.nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, 1, bias=False)
        axes = 2, 3, *sides
    layer.weight.data = torch.tensor(kernel.transpose(axes))
    # Its `dim` is the axis of the outputs: 1 for a transposed convolution, by itself.
    return torch.nn.utils.parametrizations.spectral_norm(layer.double(), n_power_iterations=300)


@pytest.mark.parametrize("name", LAYERS)
def test_the_normalized_kernel_is_that_of_pytorch(name):
    layer, variables, x = _make_layer(name)
    run = jax.jit(lambda v: layer.apply(v, x, True, mutable=["spectral"]))
    for _ in range(200):
        y, updates = run(variables)
        variables = {**variables, **updates}
    of_torch = _torch_layer(name, _kernel(variables))
    is_map = x.ndim == 4
    inputs = torch.tensor(np.asarray(x, np.float64))
    outputs = of_torch(inputs.permute(0, 3, 1, 2) if is_map else inputs).detach()
    if name == "convolution":
        outputs = outputs - of_torch.bias[:, None, None]
    expected = (outputs.permute(0, 2, 3, 1) if is_map else outputs).detach().numpy()
    # Our layer is in float32.
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_the_estimate_is_that_by_which_a_layer_in_eval_mode_divides(name):
    layer, variables, x = _make_layer(name)
    # In a network the paths of the vectors also name our wrapper.
    vectors = {"wrapper": variables["spectral"]}
    ((matrix, sigma),) = spectral.kernels(variables["params"], vectors).values()
    np.testing.assert_array_equal(matrix.reshape(_kernel(variables).shape), _kernel(variables))
    plain = LAYERS[name].apply({"params": next(iter(variables["params"].values()))}, x)
    y = np.asarray(layer.apply(variables, x, False))
    (scale,) = np.linalg.lstsq(plain.reshape(-1, 1), y.reshape(-1), rcond=None)[0]
    np.testing.assert_allclose(1 / scale, sigma, rtol=1e-4)
    assert sigma < _largest(_kernel(variables))


@pytest.mark.parametrize("name", LAYERS)
def test_the_state_is_in_a_separate_collection(name):
    layer, variables, x = _make_layer(name)
    assert set(variables) == {"params", "spectral"}
    _, changed = layer.apply(variables, x, True, mutable=DenyList("params"))
    assert set(changed) == {"spectral"}
    assert _bytes(changed) != _bytes(variables["spectral"])


@pytest.mark.parametrize("name", LAYERS)
def test_in_eval_mode_the_state_is_bit_equal(name):
    layer, variables, x = _make_layer(name)
    y, after = layer.apply(variables, x, False, mutable=DenyList("params"))
    assert _bytes(after) == _bytes(variables["spectral"])
    np.testing.assert_array_equal(layer.apply(variables, x, False), y)


def test_the_bias_is_not_normalized():
    layer, variables, x = _make_layer("convolution")
    variables["params"] = jax.tree.map(
        lambda leaf: jnp.arange(7.0) if leaf.ndim == 1 else leaf, variables["params"]
    )
    y = layer.apply(variables, jnp.zeros_like(x), False)
    np.testing.assert_array_equal(y, np.broadcast_to(np.arange(7.0), y.shape))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("train", [False, True])
def test_a_plain_layer_changes_nothing(name, train):
    layer = spectral.wrap(False, LAYERS[name])
    x = jax.random.normal(jax.random.key(1), INPUTS[name])
    variables = layer.init(jax.random.key(0), x, train)
    assert set(variables) == {"params"}
    (params,) = variables["params"].values()
    y = layer.apply(variables, x, train)
    np.testing.assert_array_equal(y, LAYERS[name].apply({"params": params}, x))


def _bytes(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]
