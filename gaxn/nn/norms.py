"""Normalisation of activations."""

import flax.linen as nn
from jaxtyping import Array, Float

from gaxn import axis
from gaxn.types import Images

COLLECTION = "batch_stats"
MOMENTUM = 0.9


def batch_norm(train: bool) -> nn.BatchNorm:
    """Batch normalisation over the global batch, on any number of devices.

    Running statistics live in `batch_stats`, float32: a share of 0.1 of each new batch.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=MOMENTUM,
        epsilon=1e-5,
        axis_name=axis.name(),
    )


class ModulatedBatchNorm(nn.Module):
    """Batch normalisation whose gain and bias follow from a condition.

    With the label alone it is conditional BatchNorm (Dumoulin et al., 2017); with the
    latent too, self-modulation (Chen et al., 2019, eq. 2).
    """

    @nn.compact
    def __call__(
        self, x: Images, condition: Float[Array, "batch condition"], train: bool
    ) -> Images:
        """Normalises x over the global batch, then scales and shifts each example."""
        channels = x.shape[-1]
        small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        gain = 1 + nn.Dense(channels, kernel_init=small, name="gain")(condition)
        bias = nn.Dense(channels, kernel_init=small, name="bias")(condition)
        return batch_norm(train)(x) * gain[:, None, None] + bias[:, None, None]
