"""Equalized learning rate: the same layer, with a kernel that is stored in another unit."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gaxn.nn.equalized import Equalized

LAYERS = {
    "dense": (nn.Dense(3), (5, 7), 7),
    "convolution": (nn.Conv(3, (3, 3)), (2, 5, 5, 4), 9 * 4),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_stored_kernel_is_that_of_the_layer_over_a_constant(name, float64):
    layer, shape, inputs = LAYERS[name]
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    equalized = Equalized(layer)
    drawn = equalized.init(jax.random.key(0), x, True)["params"]["layer"]
    stored = {name: leaf.astype(float) + 1 for name, leaf in drawn.items()}
    output = equalized.apply({"params": {"layer": stored}}, x, False)
    params = {**stored, "kernel": np.sqrt(2 / inputs) * stored["kernel"]}
    np.testing.assert_allclose(output, layer.apply({"params": params}, x), rtol=1e-12)


def test_kernels_of_all_sizes_are_stored_with_deviation_1():
    he = nn.initializers.he_normal()
    for inputs in (16, 1_024):
        layer = Equalized(nn.Dense(1_024, kernel_init=he))
        params = layer.init(jax.random.key(0), jnp.ones((1, inputs)), True)["params"]
        assert np.std(params["layer"]["kernel"]) == pytest.approx(1, abs=0.03)


def test_the_first_step_of_adam_is_a_learning_rate_times_the_constant():
    layer, x = Equalized(nn.Dense(3, use_bias=False)), jnp.ones((1, 8))
    params = layer.init(jax.random.key(0), x, True)

    def kernel(params):
        # The columns are the outputs for rows of a unit matrix.
        return layer.apply(params, jnp.eye(8), True)

    adam = optax.adam(0.01, eps=0)
    gradient = jax.grad(lambda params: kernel(params).sum())(params)
    updates, _ = adam.update(gradient, adam.init(params))
    moved = kernel(optax.apply_updates(params, updates)) - kernel(params)
    np.testing.assert_allclose(moved, np.full((8, 3), -0.01 * np.sqrt(2 / 8)), rtol=1e-4)
