"""Convolutions and their layers, compared with Flax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gaxn.nn import convolution, precision
from gaxn.nn.resampling import (
    ResizedConvolution,
    StridedConvolution,
    TransposedConvolution,
    resolutions,
)
from gaxn.types import InputError

BATCH, HEIGHT, WIDTH, WIDE, NARROW = 3, 3, 5, 4, 6
FULL = (BATCH, 2 * HEIGHT, 2 * WIDTH, WIDE)
HALF = (BATCH, HEIGHT, WIDTH, NARROW)
KERNEL = (4, 4, WIDE, NARROW)
SMALL_KERNEL = (3, 3, WIDE, NARROW)

# All tests run in float64: sums of a few thousand products of numbers near 1, and their second
# derivatives, agree far better than this; a wrong tap causes an error of 0.01 or more.
TOLERANCE = 1e-10


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def _strided(x, kernel):
    layer = nn.Conv(kernel.shape[3], kernel.shape[:2], strides=2, padding=1, use_bias=False)
    return layer.apply({"params": {"kernel": kernel}}, x)


def _transposed(y, kernel):
    side = kernel.shape[0]
    # SAME pads the odd zero first, the transpose of a padding of 1 pads it last.
    padding = "SAME" if side == 4 else ((1, 2), (1, 2))
    layer = nn.ConvTranspose(
        kernel.shape[2],
        (side, side),
        (2, 2),
        padding=padding,
        use_bias=False,
        transpose_kernel=True,
    )
    return layer.apply({"params": {"kernel": kernel}}, y)


def _kernel_gradient(x, y):
    return jax.grad(lambda kernel: jnp.vdot(y, _strided(x, kernel)))(jnp.zeros(KERNEL))


def _filter_gradient(x, y):
    return convolution.filter_gradient(x, y, 4)


def _plain(padding):
    """Returns `convolve` with a padding, and Flax's convolution of stride 1 with as much."""

    def of_flax(x, kernel):
        layer = nn.Conv(kernel.shape[3], kernel.shape[:2], padding=padding, use_bias=False)
        return layer.apply({"params": {"kernel": kernel}}, x)

    return lambda x, kernel: convolution.convolve(x, kernel, padding), of_flax


def _plain_filter_gradient(side, padding):
    """Returns `convolve_filter_gradient` of a side and a padding, and the same by Flax."""
    _, of_flax = _plain(padding)

    def gradient(x, y):
        kernel = jnp.zeros((side, side, x.shape[-1], y.shape[-1]))
        return jax.grad(lambda kernel: jnp.vdot(y, of_flax(x, kernel)))(kernel)

    return lambda x, y: convolution.convolve_filter_gradient(x, y, side, padding), gradient


PLAIN = {
    "to few by 7x7": (*_plain(0), (BATCH, 13, 10, 6), (7, 7, 6, 3)),
    "to few by 5x5": (*_plain(2), (BATCH, 6, 7, 6), (5, 5, 6, 1)),
    "to few by 6x6": (*_plain(3), (BATCH, 6, 7, 2), (6, 6, 2, 4)),
    "to few by 3x3": (*_plain(1), (BATCH, 5, 4, 6), (3, 3, 6, 3)),
    "from few by 7x7": (*_plain(0), (BATCH, 9, 10, 3), (7, 7, 3, 6)),
    "to many by 4x4": (*_plain(1), (BATCH, 6, 5, 6), (4, 4, 6, 5)),
    "by 1x1": (*_plain(0), (BATCH, 4, 3, 6), (1, 1, 6, 5)),
    "filter to few": (*_plain_filter_gradient(7, 0), (BATCH, 8, 9, 5), (BATCH, 2, 3, 3)),
    "filter to few by 3x3": (*_plain_filter_gradient(3, 1), (BATCH, 4, 5, 6), (BATCH, 4, 5, 3)),
    "filter of larger": (*_plain_filter_gradient(4, 2), (BATCH, 4, 5, 6), (BATCH, 5, 6, 5)),
}


def _repeated(x, kernel):
    large = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    return _plain(1)[1](large, kernel)


def _averaged(x, kernel):
    return nn.avg_pool(_plain(1)[1](x, kernel), (2, 2), (2, 2))


CASES = {
    **PLAIN,
    "repeated": (convolution.convolve_repeated, _repeated, HALF, (3, 3, NARROW, 5)),
    "averaged": (convolution.convolve_and_average, _averaged, FULL, (3, 3, WIDE, 5)),
    "halve": (convolution.halve, _strided, FULL, KERNEL),
    "double": (convolution.double, _transposed, HALF, KERNEL),
    "filter_gradient": (_filter_gradient, _kernel_gradient, FULL, HALF),
    "halve by 3x3": (convolution.halve, _strided, FULL, SMALL_KERNEL),
    "double by 3x3": (convolution.double, _transposed, HALF, SMALL_KERNEL),
}


def _draw(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def _assert_close(values, expected):
    for a, b in zip(jax.tree.leaves(values), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * np.abs(b).max())


@pytest.mark.parametrize("name", CASES)
def test_values_and_first_derivatives_equal_those_of_flax(name):
    function, of_flax, *shapes = CASES[name]
    operands = _draw(0, shapes[0]), _draw(1, shapes[1])
    results = []
    for f in (function, of_flax):
        value, pull_back = jax.vjp(jax.jit(f), *operands)
        results.append((value, pull_back(_draw(2, value.shape))))
    _assert_close(*results)


def _slopes(function):
    """Returns the squared norm of both gradients of a scalar of `function`."""
    slope = jax.grad(lambda *operands: jnp.sum(jnp.tanh(function(*operands) / 8)), (0, 1))
    return lambda *operands: sum(jnp.sum(part**2) for part in slope(*operands))


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_equal_those_of_flax(name):
    function, of_flax, *shapes = CASES[name]
    operands = _draw(0, shapes[0]), _draw(1, shapes[1])
    results = [jax.jit(jax.grad(_slopes(f), (0, 1)))(*operands) for f in (function, of_flax)]
    assert min(np.abs(part).max() for part in results[1]) > 1e-3
    _assert_close(*results)


def _mapped_penalty(function):
    """Returns the squared norm of each example's input gradient, by vmap(grad)."""

    def penalty(x, kernel):
        slopes = jax.vmap(jax.grad(lambda y: jnp.sum(jnp.tanh(function(y[None], kernel)))))(x)
        return jnp.sum(slopes**2, axis=(1, 2, 3))

    return penalty


@pytest.mark.parametrize("name", ["halve", "double"])
def test_gradients_of_a_mapped_gradient_penalty_equal_those_of_flax(name):
    function, of_flax, *shapes = CASES[name]
    x, kernel = _draw(0, shapes[0]), _draw(1, shapes[1]) / 8
    weights = jnp.array([1.0, -2.0, 0.5])
    results = []
    for f in (function, of_flax):
        penalty = _mapped_penalty(f)
        total = jax.value_and_grad(lambda x, k, p=penalty: weights @ p(x, k), (0, 1))
        results.append(jax.jit(total)(x, kernel))
    _assert_close(*results)


def _randomize(variables):
    leaves, structure = jax.tree.flatten(variables)
    return jax.tree.unflatten(structure, [_draw(i, leaf.shape) for i, leaf in enumerate(leaves)])


@pytest.mark.parametrize("odd", [0, 1])
def test_the_strided_layer_equals_that_of_flax_with_padded_odd_sides(odd):
    layer = StridedConvolution(NARROW)
    of_flax = nn.Conv(NARROW, (4, 4), strides=2, padding=((1, 1 + odd), (1, 1 + odd)))
    x = _draw(3, FULL)[:, odd:, odd:]
    variables = _randomize(_parameters(layer, x))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, _parameters(of_flax, x))
    y = layer.apply(variables, x)
    assert y.shape == HALF
    _assert_close(y, of_flax.apply(variables, x))


@pytest.mark.parametrize("odd", [0, 1])
def test_the_transposed_layer_equals_that_of_flax_cropped_to_odd_sides(odd):
    layer = TransposedConvolution(WIDE)
    of_flax = nn.ConvTranspose(
        WIDE, (4, 4), (2, 2), padding="SAME", use_bias=False, transpose_kernel=True
    )
    x, size = _draw(3, HALF)[:, :, :HEIGHT], 2 * HEIGHT - odd
    variables = _randomize(_parameters(layer, x, size))
    # Flax's kernel has the outputs before the inputs.
    swapped = jax.tree.map(lambda kernel: kernel.swapaxes(-1, -2), variables)
    assert jax.tree.map(jnp.shape, swapped) == jax.tree.map(jnp.shape, _parameters(of_flax, x))
    expected = of_flax.apply(swapped, x)[:, :size, :size]
    _assert_close(layer.apply(variables, x, size), expected)


def _parameters(layer, *inputs):
    return jax.eval_shape(lambda key: layer.init(key, *inputs), jax.random.key(0))


@pytest.mark.parametrize(
    "layer, taps, size", [(StridedConvolution(48), 16, ()), (TransposedConvolution(48), 4, (8,))]
)
def test_the_initial_variance_follows_he(layer, taps, size):
    kernel = layer.init(jax.random.key(0), jnp.ones((1, 4, 4, 40)), *size)["params"]["kernel"]
    # 30,720 draws: a standard error of 0.4 %; a fan-in of 16 for 4 would be wrong by 100 %.
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (taps * 40)), rtol=0.02)


@pytest.mark.parametrize("odd", [0, 1])
def test_resized_convolution_repeats_then_convolves(odd):
    layer, size = ResizedConvolution(WIDE), 2 * HEIGHT - odd
    x = _draw(4, HALF)[:, :, :HEIGHT]
    variables = _randomize(_parameters(layer, x, size))
    (kernel,) = jax.tree.leaves(variables)
    repeated = np.kron(x, np.ones((1, 2, 2, 1)))[:, :size, :size]
    expected = lax.conv_general_dilated(
        repeated, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    _assert_close(layer.apply(variables, x, size), expected)


def test_resolutions_are_halved_and_rounded_up():
    assert resolutions(28, 4) == (2, 4, 7, 14, 28)
    assert resolutions(33, 6) == (1, 2, 3, 5, 9, 17, 33)
    assert resolutions(64, 0) == (64,)
    with pytest.raises(InputError, match=r"at most 6 entries for images of 33 pixels, got 7"):
        resolutions(33, 7)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (2, 5), (3, 3)])
def test_images_smaller_than_the_kernel_are_convolved_as_by_flax(shape):
    x, y = (_draw(seed, (BATCH, *shape, channels)) for seed, channels in ((0, 4), (1, 6)))
    variables = {"params": {"kernel": _draw(2, (3, 3, 4, 6)), "bias": _draw(3, (6,))}}
    layers = (
        nn.Conv(6, (3, 3), conv_general_dilated=convolution.convolve_small_as_flax),
        nn.Conv(6, (3, 3)),
    )
    pulled = [jax.vjp(layer.apply, variables, x) for layer in layers]
    _assert_close(*(value for value, _ in pulled))
    _assert_close(*(gradient(y) for _, gradient in pulled))


@pytest.mark.parametrize(
    ("options", "is_ours"),
    [
        ({"kernel_size": (3, 3)}, True),
        ({"kernel_size": (7, 7), "padding": "VALID"}, True),
        ({"kernel_size": (4, 4), "padding": 1}, True),
        ({"kernel_size": (4, 4)}, False),
        ({"kernel_size": (3, 3), "padding": ((1, 2), (1, 2))}, False),
        ({"kernel_size": (3, 5), "padding": "VALID"}, False),
        ({"kernel_size": (3, 3), "strides": 2, "padding": 1}, False),
        ({"kernel_size": (3, 3), "kernel_dilation": 2}, False),
        ({"kernel_size": (3, 3), "padding": 4}, False),
        ({"kernel_size": (3, 3), "feature_group_count": 2}, False),
    ],
)
def test_a_layer_of_any_kind_equals_that_of_flax(options, is_ours, monkeypatch):
    x = _draw(0, (BATCH, 9, 8, 4))
    kernel = _draw(1, (*options["kernel_size"], 4 // options.get("feature_group_count", 1), 6))
    variables = {"params": {"kernel": kernel, "bias": _draw(2, (6,))}}
    calls, convolve = [], convolution.convolve
    monkeypatch.setattr(
        convolution, "convolve", lambda *operands: calls.append(operands) or convolve(*operands)
    )
    _assert_close(*(layer(6, **options).apply(variables, x) for layer in (precision.Conv, nn.Conv)))
    assert len(calls) == is_ours
