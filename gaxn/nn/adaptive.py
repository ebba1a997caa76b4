"""Adaptive discriminator augmentation: as much as overfitting asks for (Karras et al., 2020a)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn import axis
from gaxn.types import Logits

COLLECTION = "ada"
EVERY = 4
"""Batches between two changes."""


class AdaptiveProbability(nn.Module):
    """The probability of each augmentation, steered by the mean sign of real logits (eq. 1).

    Attributes:
        target: where that mean is meant to be, in (0, 1); above, the discriminator overfits and
            the probability rises.
        images: real images in which the probability can go from 0 to 1.
    """

    target: float
    images: int

    def setup(self):
        self.probability = self.variable(COLLECTION, "probability", jnp.zeros, ())
        self.signs = self.variable(COLLECTION, "signs", jnp.zeros, ())
        self.batches = self.variable(COLLECTION, "batches", jnp.zeros, (), jnp.int32)

    def __call__(self) -> jax.Array:
        """In [0, 1]."""
        return self.probability.value

    def adjust(self, real: Logits, examples: int) -> None:
        """Notes a batch's logits; each fourth time the probability moves by its step.

        Args:
            real: logits of real images.
            examples: images of the global batch.
        """
        if not self.is_mutable_collection(COLLECTION):
            return
        signs = self.signs.value + axis.mean_over_devices(jnp.sign(real).mean())
        due = self.batches.value + 1 == EVERY
        move = jnp.sign(signs / EVERY - self.target) * EVERY * examples / self.images
        moved = jnp.clip(self.probability.value + move, 0, 1)
        self.probability.value = jnp.where(due, moved, self.probability.value)
        self.signs.value = jnp.where(due, 0.0, signs)
        self.batches.value = (self.batches.value + 1) % EVERY
