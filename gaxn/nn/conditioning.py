"""Two ways for a discriminator to see the label of an image."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn.nn import spectral
from gaxn.types import Images, Labels


class LabelMap(nn.Module):
    """The label as one more channel of the image (Mirza & Osindero, 2014).

    Attributes:
        classes: number of labels.
    """

    classes: int

    @nn.compact
    def __call__(self, images: Images, labels: Labels) -> Images:
        """Appends an embedding of the label, shaped as an image, to the channels."""
        batch, height, width, _ = images.shape
        embedding = nn.Embed(self.classes, height * width)(labels)
        return jnp.concatenate([images, embedding.reshape(batch, height, width, 1)], axis=-1)


class Projection(nn.Module):
    """The label as a direction in feature space (Miyato & Koyama, 2018, eq. 3).

    Attributes:
        classes: number of labels.
        spectral_norm: whether the embedding is spectrally normalised.
    """

    classes: int
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, features: jax.Array, labels: Labels, train: bool) -> jax.Array:
        """<embedding(label), features>, shape [batch]."""
        one_hot = jax.nn.one_hot(labels, self.classes)
        layer = spectral.wrap(self.spectral_norm, nn.Dense(features.shape[-1], use_bias=False))
        return jnp.sum(layer(one_hot, train) * features, axis=-1)
