"""Residual blocks compared with the same blocks in PyTorch, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gaxn.nn.resampling import average_pool
from gaxn.nn.residual import DownBlock, UpBlock

SHAPES = [(3, 6, 6, 4), (2, 16, 18, 4)]
"""With maps that are too small to be resampled within a convolution, and with larger ones."""


def _draw_variables(layer, *inputs):
    """Returns random float64 variables of a layer, with positive variances."""
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), *inputs))
    random = np.random.default_rng(0)

    def draw(path, leaf):
        value = random.normal(size=leaf.shape)
        return np.abs(value) + 0.5 if path[-1].key == "var" else value

    return jax.tree_util.tree_map_with_path(draw, shapes)


def _images(shape):
    return np.random.default_rng(1).normal(size=shape)


def _to_torch(x):
    return torch.tensor(np.moveaxis(np.asarray(x), -1, 1))


def _convolve(params, x):
    kernel = torch.tensor(np.transpose(params["kernel"], (3, 2, 0, 1)))
    return F.conv2d(x, kernel, torch.tensor(params["bias"]), padding="same")


def _normalize(params, x):
    weight, bias = (torch.tensor(params[name]) for name in ("scale", "bias"))
    return F.batch_norm(x, None, None, weight, bias, training=True, eps=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_up_block_equals_that_of_pytorch(shape):
    layer = UpBlock(5, spectral_norm=False)
    with jax.enable_x64(True):
        x = _images(shape)
        variables = _draw_variables(layer, jnp.asarray(x), None, True)
        y, _ = layer.apply(variables, jnp.asarray(x), None, True, mutable=["batch_stats"])
    params, x = variables["params"], _to_torch(x)
    h = F.interpolate(F.relu(_normalize(params["BatchNorm_0"], x)), scale_factor=2)
    h = F.relu(_normalize(params["BatchNorm_1"], _convolve(params["Conv_0"], h)))
    h = _convolve(params["Conv_1"], h)
    expected = h + _convolve(params["Conv_2"], F.interpolate(x, scale_factor=2))
    assert y.shape == (shape[0], 2 * shape[1], 2 * shape[2], 5)
    np.testing.assert_allclose(_to_torch(y), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "features, first, halve, shortcut",
    [(5, True, True, True), (5, False, True, True), (5, False, False, True), (4, False, False, 0)],
)
def test_the_down_block_equals_that_of_pytorch(features, first, halve, shortcut, shape):
    layer = DownBlock(features, first, halve, spectral_norm=False)
    with jax.enable_x64(True):
        x = _images(shape)
        variables = _draw_variables(layer, jnp.asarray(x), True)
        y = layer.apply(variables, jnp.asarray(x), True)
    params, x = variables["params"], _to_torch(x)
    assert ("Conv_2" in params) == bool(shortcut)
    h = x if first else F.relu(x)
    h = _convolve(params["Conv_1"], F.relu(_convolve(params["Conv_0"], h)))
    # As in Miyato et al., the shortcut convolves before it averages.
    skip = _convolve(params["Conv_2"], x) if shortcut else x
    expected = h + skip
    if halve:
        expected = F.avg_pool2d(expected, 2)
    np.testing.assert_allclose(_to_torch(y), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("side", [6, 7])
def test_average_pooling_equals_that_of_pytorch(side):
    x = _images((2, side, side, 3)).astype(np.float32)
    np.testing.assert_allclose(_to_torch(average_pool(x)), F.avg_pool2d(_to_torch(x), 2), atol=1e-6)
