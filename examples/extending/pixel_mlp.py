"""A network: a generator of pixels from their coordinates (CIPS; Anokhin et al., 2021)."""

import flax.linen as nn
import jax.numpy as jnp

from gaxn.nn.conditioning import append_embedding
from gaxn.nn.coordinates import coordinates
from gaxn.types import Images, Labels, Latents


class Generator(nn.Module):
    """Latent, label and the place of a pixel -> its color; no layer connects two pixels."""

    size: int
    channels: int
    classes: int | None
    widths: tuple[int, ...] = (128, 128, 128)

    @nn.compact
    def __call__(self, latents: Latents, labels: Labels | None, train: bool) -> Images:
        """Returns images in [-1, 1] for latents, float [batch, latent], and labels, int [batch]."""
        style = append_embedding(latents, labels, self.classes, features=32)
        frequencies = nn.Dense(self.widths[0], kernel_init=nn.initializers.normal(5.0))
        x = jnp.sin(frequencies(coordinates(self.size)))
        for width in self.widths:
            gain = 1 + nn.Dense(x.shape[-1])(style)
            x = nn.leaky_relu(nn.Dense(width)(x * gain[:, None, None]), 0.2)
        return nn.tanh(nn.Dense(self.channels)(x))
