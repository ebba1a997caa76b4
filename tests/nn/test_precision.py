"""Sums for the gradients of parameters are float32 in layers that compute in bfloat16."""

import jax
import jax.numpy as jnp
import pytest

from gaxn.nn import precision
from gaxn.nn.norms import ModulatedBatchNorm
from gaxn.nn.resampling import StridedConvolution

BFLOAT16 = jnp.bfloat16


@pytest.mark.parametrize(
    "layer, positions",
    [
        (precision.Dense(2, dtype=BFLOAT16), 4 * 32 * 32),
        (precision.Conv(2, (3, 3), dtype=BFLOAT16), 4 * 32 * 32),
        (StridedConvolution(2, dtype=BFLOAT16), 4 * 16 * 16),
    ],
)
def test_the_gradient_of_a_bias_counts_all_positions(layer, positions):
    """Added up one by one in bfloat16, ones give 256 at most."""
    x = jnp.ones((4, 32, 32, 3), BFLOAT16)
    params = layer.init(jax.random.key(0), x)["params"]
    gradient = jax.jit(jax.grad(lambda params: layer.apply({"params": params}, x).sum()))(params)
    assert gradient["bias"].tolist() == [positions, positions]


def test_the_gradients_of_a_modulation_count_the_positions_of_an_example():
    layer = ModulatedBatchNorm(BFLOAT16)
    x = jnp.ones((2, 32, 32, 1), BFLOAT16)
    condition = jnp.eye(2)
    variables = layer.init(jax.random.key(0), x, condition, True)

    def total(params):
        y, _ = layer.apply({**variables, "params": params}, x, condition, True, mutable=True)
        return y.sum()

    gradient = jax.jit(jax.grad(total))(variables["params"])
    assert gradient["bias"]["kernel"].tolist() == [[1_024], [1_024]]
