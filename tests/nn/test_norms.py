"""Norms over channels, by NumPy."""

import jax.numpy as jnp
import numpy as np

from gaxn.nn.norms import pixel_norm


def test_pixel_norm_divides_by_the_root_of_the_mean_square(float64):
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 5))
    expected = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-8)
    np.testing.assert_allclose(pixel_norm(jnp.asarray(x)), expected, rtol=1e-12)
    np.testing.assert_array_equal(pixel_norm(jnp.zeros((1, 1, 1, 4))), 0)


def test_pixel_norm_computes_in_float32_and_keeps_the_type():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 2, 512)), jnp.bfloat16)
    normalized = pixel_norm(x)
    assert normalized.dtype == jnp.bfloat16
    wide = np.asarray(x, np.float32)
    expected = wide / np.sqrt((wide**2).mean(axis=-1, keepdims=True) + 1e-8)
    np.testing.assert_array_equal(normalized, jnp.asarray(expected, jnp.bfloat16))
