"""Normalisation of activations."""

import flax.linen as nn

from gaxn import axis

COLLECTION = "batch_stats"
MOMENTUM = 0.9


def batch_norm(train: bool, name: str | None = None) -> nn.BatchNorm:
    """Batch normalisation over the global batch, on any number of devices.

    Running statistics live in `batch_stats`, float32: a share of 0.1 of each new batch.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=MOMENTUM,
        epsilon=1e-5,
        axis_name=axis.name(),
        name=name,
    )
