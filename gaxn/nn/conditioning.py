"""Conditioning of networks on the class of an image, on a vector or on a sentence.

A class is the special case of a one-hot vector: layers are linear in the vector, and look up the
row of a class. `classes` is the number of labels, or the length of the vectors.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn.nn import spectral
from gaxn.types import Images, Labels, Latents, SentenceCondition, Vectors, check


def condition_vectors(labels: Labels, classes: int) -> Vectors:
    """Returns the vector of each condition, [batch, classes]: classes as one-hot rows."""
    vectors = labels.sentence if isinstance(labels, SentenceCondition) else labels
    return jax.nn.one_hot(vectors, classes) if vectors.ndim == 1 else vectors


def embed(labels: Labels, classes: int, features: int) -> Vectors:
    """Returns learned vectors of the conditions, [batch, features]: linear in a vector.

    Called within a compact method.
    """
    layer = nn.Embed(classes, features)
    if isinstance(labels, SentenceCondition) or labels.ndim > 1:
        return condition_vectors(labels, classes) @ layer.embedding
    return layer(labels)


def append_embedding(
    latents: Latents, labels: Labels | None, classes: int | None, features: int
) -> Latents:
    """Appends learned vectors of the conditions, [batch, features].

    Without classes, returns the latents. Called within a compact method.
    """
    if classes is None:
        return latents
    return jnp.concatenate([latents, embed(labels, classes, features)], axis=-1)


class LabelMap(nn.Module):
    """The condition as one more channel of the image (Mirza & Osindero, 2014).

    Attributes:
        classes: number of labels, or length of the vectors.
    """

    classes: int

    @nn.compact
    def __call__(self, images: Images, labels: Labels) -> Images:
        """Appends an embedding of the condition, reshaped to an image, to the channels."""
        batch, height, width, _ = images.shape
        embedding = embed(labels, self.classes, height * width)
        return jnp.concatenate([images, embedding.reshape(batch, height, width, 1)], axis=-1)


class Projection(nn.Module):
    """The condition as a direction in feature space (Miyato & Koyama, 2018, eq. 3).

    Attributes:
        classes: number of labels, or length of the vectors.
        spectral_norm: whether the embedding is spectrally normalized.
    """

    classes: int
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, features: jax.Array, labels: Labels, train: bool) -> jax.Array:
        """Returns <embedding(condition), features>, shape [batch]."""
        layer = spectral.wrap(self.spectral_norm, nn.Dense(features.shape[-1], use_bias=False))
        return jnp.sum(layer(condition_vectors(labels, self.classes), train) * features, axis=-1)


class ClassHead(nn.Module):
    """Class logits of an auxiliary classifier (Odena et al., 2017).

    Attributes:
        classes: number of labels, or length of the vectors.
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
