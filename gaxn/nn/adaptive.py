"""Adaptive discriminator augmentation (Karras et al., 2020a)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn.distributed import axis
from gaxn.types import Logits

COLLECTION = "ada"
INTERVAL = 4
"""Batches between two changes of the probability."""


class AdaptiveProbability(nn.Module):
    """The probability of each augmentation, controlled by a mean sign (eq. 1).

    Attributes:
        target: of the mean sign of the discriminator's margins, in (0, 1). Above it the
            discriminator overfits, and the probability rises; below it the probability falls.
        images: real images in which the probability can go from 0 to 1.
    """

    target: float
    images: int

    def setup(self):
        self.probability = self.variable(COLLECTION, "probability", jnp.zeros, ())
        self.signs = self.variable(COLLECTION, "signs", jnp.zeros, ())
        self.batches = self.variable(COLLECTION, "batches", jnp.zeros, (), jnp.int32)

    def __call__(self) -> jax.Array:
        """Returns the probability, in [0, 1]."""
        return self.probability.value

    def adjust(self, margins: Logits, examples: int) -> None:
        """Adds a batch to the mean sign; changes the probability after every `INTERVAL` batches.

        Args:
            margins: real logits minus the loss's decision threshold, or minus the logits of the
                generated images of their pairs; above 0 where the discriminator is right.
            examples: images of the global batch.
        """
        if not self.is_mutable_collection(COLLECTION):
            return
        signs = self.signs.value + axis.mean_over_devices(jnp.sign(margins).mean())
        due = self.batches.value + 1 == INTERVAL
        change = jnp.sign(signs / INTERVAL - self.target) * INTERVAL * examples / self.images
        changed = jnp.clip(self.probability.value + change, 0, 1)
        self.probability.value = jnp.where(due, changed, self.probability.value)
        self.signs.value = jnp.where(due, 0.0, signs)
        self.batches.value = (self.batches.value + 1) % INTERVAL
