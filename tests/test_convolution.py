"""The strided convolution, its transpose and the layers made of them, against Flax's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gaxn.nn import convolution
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

# Everything below runs in float64: sums of a few thousand products of numbers near 1, and two
# derivatives of them, agree far better than this; a wrong tap is wrong by 0.01 or more.
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
    # SAME has its odd zero first, the transpose of a padding of 1 last.
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


CASES = {
    "halve": (convolution.halve, _strided, FULL, KERNEL),
    "double": (convolution.double, _transposed, HALF, KERNEL),
    "filter_gradient": (_filter_gradient, _kernel_gradient, FULL, HALF),
    "halve by 3x3": (convolution.halve, _strided, FULL, SMALL_KERNEL),
    "double by 3x3": (convolution.double, _transposed, HALF, SMALL_KERNEL),
}


def _draw(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def _assert_close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * np.abs(b).max())


@pytest.mark.parametrize("name", CASES)
def test_values_and_first_derivatives(name):
    ours, theirs, *shapes = CASES[name]
    operands = _draw(0, shapes[0]), _draw(1, shapes[1])
    results = []
    for function in (ours, theirs):
        value, pull_back = jax.vjp(jax.jit(function), *operands)
        results.append((value, pull_back(_draw(2, value.shape))))
    _assert_close(*results)


def _slopes(function):
    """The squared norm of both gradients of a scalar of `function`."""
    slope = jax.grad(lambda *operands: jnp.sum(jnp.tanh(function(*operands) / 8)), (0, 1))
    return lambda *operands: sum(jnp.sum(part**2) for part in slope(*operands))


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(name):
    ours, theirs, *shapes = CASES[name]
    operands = _draw(0, shapes[0]), _draw(1, shapes[1])
    results = [jax.jit(jax.grad(_slopes(f), (0, 1)))(*operands) for f in (ours, theirs)]
    assert min(np.abs(part).max() for part in results[1]) > 1e-3
    _assert_close(*results)


def _mapped_penalty(function):
    """The squared norm of each example's input gradient, by vmap(grad)."""

    def penalty(x, kernel):
        slopes = jax.vmap(jax.grad(lambda one: jnp.sum(jnp.tanh(function(one[None], kernel)))))(x)
        return jnp.sum(slopes**2, axis=(1, 2, 3))

    return penalty


@pytest.mark.parametrize("name", ["halve", "double"])
def test_kernel_gradient_of_a_mapped_gradient_penalty(name):
    ours, theirs, *shapes = CASES[name]
    x, kernel = _draw(0, shapes[0]), _draw(1, shapes[1]) / 8
    weights = jnp.array([1.0, -2.0, 0.5])
    results = []
    for function in (ours, theirs):
        penalty = _mapped_penalty(function)
        total = jax.value_and_grad(lambda x, k, p=penalty: weights @ p(x, k), (0, 1))
        results.append(jax.jit(total)(x, kernel))
    _assert_close(*results)


def _randomise(variables):
    leaves, structure = jax.tree.flatten(variables)
    return jax.tree.unflatten(structure, [_draw(i, leaf.shape) for i, leaf in enumerate(leaves)])


@pytest.mark.parametrize("odd", [0, 1])
def test_the_strided_layer_is_that_of_flax_with_a_zero_at_the_end_of_odd_sides(odd):
    ours = StridedConvolution(NARROW)
    theirs = nn.Conv(NARROW, (4, 4), strides=2, padding=((1, 1 + odd), (1, 1 + odd)))
    x = _draw(3, FULL)[:, odd:, odd:]
    variables = _randomise(_parameters(ours, x))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, _parameters(theirs, x))
    found = ours.apply(variables, x)
    assert found.shape == HALF
    _assert_close(found, theirs.apply(variables, x))


@pytest.mark.parametrize("odd", [0, 1])
def test_the_transposed_layer_is_that_of_flax_less_the_end_of_odd_sides(odd):
    ours = TransposedConvolution(WIDE)
    theirs = nn.ConvTranspose(
        WIDE, (4, 4), (2, 2), padding="SAME", use_bias=False, transpose_kernel=True
    )
    x, size = _draw(3, HALF)[:, :, :HEIGHT], 2 * HEIGHT - odd
    variables = _randomise(_parameters(ours, x, size))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, _parameters(theirs, x))
    _assert_close(ours.apply(variables, x, size), theirs.apply(variables, x)[:, :size, :size])


def _parameters(layer, *inputs):
    return jax.eval_shape(lambda key: layer.init(key, *inputs), jax.random.key(0))


@pytest.mark.parametrize(
    "layer, taps, more", [(StridedConvolution(48), 16, ()), (TransposedConvolution(48), 4, (8,))]
)
def test_the_initial_variance_is_that_of_he(layer, taps, more):
    kernel = layer.init(jax.random.key(0), jnp.ones((1, 4, 4, 40)), *more)["params"]["kernel"]
    # 30,720 draws: a standard error of 0.4 %; a fan-in of 16 for 4 would be wrong by 100 %.
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (taps * 40)), rtol=0.02)


@pytest.mark.parametrize("odd", [0, 1])
def test_resized_convolution_repeats_then_convolves(odd):
    layer, size = ResizedConvolution(WIDE), 2 * HEIGHT - odd
    x = _draw(4, HALF)[:, :, :HEIGHT]
    variables = _randomise(_parameters(layer, x, size))
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
    with pytest.raises(InputError, match=r"7 entries.* 33 pixels can be halved 6 times"):
        resolutions(33, 7)
