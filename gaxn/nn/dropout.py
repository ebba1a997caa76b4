"""Dropout with masks that do not depend on the number of devices (Srivastava et al., 2014)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn import keys
from gaxn.distributed import axis
from gaxn.types import check


class Dropout(nn.Module):
    """Zeros each number with a probability and scales the others to keep the mean, in training.

    The mask of an example depends on its index in the global batch, on the layer, and on the key
    that `apply` gets as `rngs["dropout"]`.

    Attributes:
        rate: the probability, in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        check("dropout", self.rate, 0 <= self.rate < 1, "0 or more and below 1")
        if not train or not self.rate:
            return x
        example_keys = keys.per_example(self.make_rng("dropout"), axis.example_indices(x.shape[0]))
        draw_mask = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))
        return jnp.where(draw_mask(example_keys), x / (1 - self.rate), 0)
