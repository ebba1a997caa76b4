"""Normalisation of activations."""

import flax.linen as nn

from gaxn import axis


def batch_norm(train: bool, name: str | None = None) -> nn.BatchNorm:
    """Batch normalisation over the global batch, on any number of devices.

    Statistics live in `batch_stats`, float32, with a momentum of 0.9.
    """
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, axis_name=axis.name(), name=name
    )
