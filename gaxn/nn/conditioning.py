"""Conditioning of networks on the class of an image, and its prediction."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaxn.nn import spectral
from gaxn.types import Images, Labels, Latents, check

ClassWeights = Float[Array, "batch classes"]


def class_weights(labels: Labels | ClassWeights, classes: int) -> ClassWeights:
    """Returns labels as one-hot rows; class weights, each row with sum 1, are returned as is."""
    return jax.nn.one_hot(labels, classes) if labels.ndim == 1 else labels


def append_embedding(
    latents: Latents, labels: Labels | ClassWeights | None, classes: int | None, features: int
) -> Latents:
    """Appends learned vectors of the classes, [batch, features]; for class weights, their means.

    Without classes, returns the latents. Called within a compact method.
    """
    if classes is None:
        return latents
    layer = nn.Embed(classes, features)
    embedding = layer(labels) if labels.ndim == 1 else labels @ layer.embedding
    return jnp.concatenate([latents, embedding], axis=-1)


class LabelMap(nn.Module):
    """The label as one more channel of the image (Mirza & Osindero, 2014).

    Attributes:
        classes: number of labels.
    """

    classes: int

    @nn.compact
    def __call__(self, images: Images, labels: Labels) -> Images:
        """Appends an embedding of the label, reshaped to an image, to the channels."""
        batch, height, width, _ = images.shape
        embedding = nn.Embed(self.classes, height * width)(labels)
        return jnp.concatenate([images, embedding.reshape(batch, height, width, 1)], axis=-1)


class Projection(nn.Module):
    """The label as a direction in feature space (Miyato & Koyama, 2018, eq. 3).

    Attributes:
        classes: number of labels.
        spectral_norm: whether the embedding is spectrally normalized.
    """

    classes: int
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, features: jax.Array, labels: Labels, train: bool) -> jax.Array:
        """Returns <embedding(label), features>, shape [batch]."""
        layer = spectral.wrap(self.spectral_norm, nn.Dense(features.shape[-1], use_bias=False))
        return jnp.sum(layer(class_weights(labels, self.classes), train) * features, axis=-1)


class ClassHead(nn.Module):
    """Class logits of an auxiliary classifier (Odena et al., 2017).

    Attributes:
        classes: number of labels.
        spectral_norm: whether the kernel is spectrally normalized.
    """

    classes: int | None
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        """Returns class logits, [batch, classes], of features, [batch, features].

        Raises:
            InputError: `classes` is None.
        """
        expected = "False for an unconditional discriminator"
        check("auxiliary", True, self.classes is not None, expected)
        return spectral.wrap(self.spectral_norm, nn.Dense(self.classes))(features, train)
