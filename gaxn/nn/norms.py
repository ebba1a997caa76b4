"""Normalization of activations."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gaxn.distributed import axis
from gaxn.nn import precision
from gaxn.types import Images

Condition = Float[Array, "batch condition"]
COLLECTION = "batch_stats"
MOMENTUM = 0.9


def batch_norm(train: bool, dtype: DTypeLike | None = None) -> nn.BatchNorm:
    """Returns batch normalization over the global batch, on any number of devices.

    Running statistics are float32 in the collection `batch_stats`, with a share of 0.1 of each
    new batch. The statistics of a batch are float32 too, whatever `dtype`, that of the result, is.
    """
    return nn.BatchNorm(
        not train, momentum=MOMENTUM, epsilon=1e-5, axis_name=axis.name(), dtype=dtype
    )


class ModulatedBatchNorm(nn.Module):
    """Batch normalization whose gain and bias are linear functions of a condition.

    With the label alone it is conditional BatchNorm (Dumoulin et al., 2017); with the
    latent too, self-modulation (Chen et al., 2019, eq. 2).

    Attributes:
        dtype: of the result; None for that of x and the parameters.
    """

    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Images, condition: Condition, train: bool) -> Images:
        """Normalizes x over the global batch, then scales and shifts each example."""
        channels = x.shape[-1]
        small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        dense = partial(nn.Dense, channels, kernel_init=small)
        gain, bias = 1 + dense(name="gain")(condition), dense(name="bias")(condition)
        y = batch_norm(train)(x) * gain[:, None, None] + bias[:, None, None]
        return jnp.asarray(y, self.dtype)


def normalize(
    x: Images, condition: Condition | None, train: bool, dtype: DTypeLike | None = None
) -> Images:
    """Applies BatchNorm, modulated if there is a condition. Called within a compact method."""
    if condition is None:
        return batch_norm(train, dtype)(x)
    return ModulatedBatchNorm(dtype)(x, condition, train)


def instance_norm(x: Images) -> Images:
    """Normalizes each channel of each example to mean 0 and variance 1 (Ulyanov et al., 2016).

    No gain, no bias and no running statistics, as in the CycleGAN's networks. The mean and the
    variance are float32 or wider; the result has the type of x.
    """
    wide = precision.widen(x)
    mean = wide.mean(axis=(1, 2), keepdims=True)
    variance = jnp.square(wide - mean).mean(axis=(1, 2), keepdims=True)
    return ((wide - mean) * jax.lax.rsqrt(variance + 1e-5)).astype(x.dtype)


def pixel_norm(x: jax.Array) -> jax.Array:
    """Returns x / sqrt(mean of x^2 over channels + 1e-8) (Karras et al., 2018, section 4.2).

    The mean is float32 or wider; the result has the type of x.
    """
    wide = precision.widen(x)
    square = jnp.square(wide).mean(axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt(square + 1e-8)).astype(x.dtype)
