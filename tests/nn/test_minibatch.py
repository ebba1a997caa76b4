"""The standard deviation within groups of a batch, by NumPy, and on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn.distributed import axis
from gaxn.nn.minibatch import MinibatchDeviation
from gaxn.types import InputError

X = np.random.default_rng(0).normal(size=(8, 3, 3, 2))
START = {"batch_stats": {"deviation": jnp.zeros(())}}


def _deviation(x):
    return np.sqrt(x.var(axis=0) + 1e-8).mean()


@pytest.mark.parametrize("group", [2, 4, 8])
def test_the_last_channel_is_the_mean_deviation_of_the_group(group, float64):
    layer = MinibatchDeviation(group)
    output, _ = layer.apply(START, jnp.asarray(X), True, mutable=["batch_stats"])
    np.testing.assert_array_equal(output[..., :-1], X)
    for first in range(0, 8, group):
        channel = output[first : first + group, ..., -1]
        np.testing.assert_allclose(channel, _deviation(X[first : first + group]), rtol=1e-12)


def test_in_eval_mode_it_is_the_running_mean(float64):
    layer, variables, expected = MinibatchDeviation(4), START, 0.0
    for scale in (1, 2):
        _, variables = layer.apply(variables, jnp.asarray(X * scale), True, mutable=["batch_stats"])
        mean = np.mean([_deviation(scale * group) for group in (X[:4], X[4:])])
        expected = 0.9 * expected + 0.1 * mean
    output = layer.apply(variables, jnp.asarray(X[:3]), False)
    np.testing.assert_allclose(output[..., -1], expected, rtol=1e-7)
    assert layer.init(jax.random.key(0), X, True) == START


def test_a_group_of_equal_examples_has_a_finite_gradient(float64):
    layer, x = MinibatchDeviation(2), jnp.ones((2, 2, 2, 1))
    gradient = jax.grad(lambda x: layer.apply(START, x, True)[..., -1].sum())(x)
    np.testing.assert_array_equal(gradient, 0)


def test_devices_do_not_change_groups_nor_gradients(float64):
    layer = MinibatchDeviation(4)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(8, 3, 3, 3)))

    def loss(scale, x, weights):
        output, variables = layer.apply(START, jnp.sin(scale * x), True, mutable=["batch_stats"])
        return (output * weights).mean(), variables["batch_stats"]["deviation"]

    def of_device(*inputs):
        return axis.mean_over_devices(jax.value_and_grad(loss, has_aux=True)(*inputs))

    expected = jax.value_and_grad(loss, has_aux=True)(1.5, jnp.asarray(X), weights)
    rows = [each.reshape(4, 2, *each.shape[1:]) for each in (jnp.asarray(X), weights)]
    actual = jax.pmap(of_device, axis.DATA, in_axes=(None, 0, 0))(1.5, *rows)
    for each, value in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        np.testing.assert_allclose(each, np.full(4, value), rtol=1e-12)


def test_a_group_must_divide_the_batch():
    with pytest.raises(InputError, match="group must be a divisor of the 8 examples, got 3"):
        MinibatchDeviation(3).apply(START, jnp.asarray(X), True)
