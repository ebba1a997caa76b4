"""Statistics over the examples of a batch, by which a discriminator sees how varied they are.

For networks of your own; none of gaxn/models has them.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn.distributed import axis
from gaxn.nn import precision
from gaxn.nn.norms import COLLECTION, MOMENTUM
from gaxn.types import Images, check


class MinibatchDeviation(nn.Module):
    """A further channel, the standard deviation within groups (Karras et al., 2018, section 3).

    The standard deviation of each activation over the examples of a group, averaged over the
    activations, is one constant channel. Groups follow the order of the global batch, so devices do
    not change them. In eval mode the channel is a running mean, in the collection `batch_stats`. As
    with BatchNorm, real and generated images are then discriminated in batches of their own, and
    gradient penalties are refused.

    Attributes:
        group: examples of a group, a divisor of the global batch.
    """

    group: int

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Images:
        """Maps [batch, height, width, channels] to [batch, height, width, channels + 1]."""
        running = self.variable(COLLECTION, "deviation", jnp.zeros, ())
        if train:
            batch = precision.widen(axis.gather(x))
            valid = self.group >= 1 and len(batch) % self.group == 0
            check("group", self.group, valid, f"a divisor of the {len(batch)} examples")
            groups = batch.reshape(-1, self.group, *x.shape[1:])
            # The derivative of a square root is infinite at 0.
            deviations = jnp.sqrt(jnp.var(groups, axis=1) + 1e-8).mean(axis=(1, 2, 3))
            of_example = axis.local_rows(jnp.repeat(deviations, self.group), len(x))
            if self.is_mutable_collection(COLLECTION) and not self.is_initializing():
                mean = jax.lax.stop_gradient(deviations.mean())
                running.value = MOMENTUM * running.value + (1 - MOMENTUM) * mean
        else:
            of_example = jnp.full(len(x), running.value)
        channel = jnp.broadcast_to(of_example[:, None, None, None], (*x.shape[:-1], 1))
        return jnp.concatenate([x, channel.astype(x.dtype)], axis=-1)
