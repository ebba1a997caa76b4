"""Dropout whose masks do not depend on the devices (Srivastava et al., 2014)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn import axis, keys
from gaxn.types import require


class Dropout(nn.Module):
    """Each number is 0 with a probability, else scaled so that its mean stays; in training only.

    The mask of an example goes by its place in the global batch, the layer, and the key that
    `apply` is given as `rngs["dropout"]`.

    Attributes:
        rate: the probability, 0 or more and below 1.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        require("dropout", self.rate, 0 <= self.rate < 1, "0 or more and below 1")
        if not train or not self.rate:
            return x
        own = keys.per_example(self.make_rng("dropout"), axis.example_indices(x.shape[0]))
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))(own)
        return jnp.where(kept, x / (1 - self.rate), 0)
