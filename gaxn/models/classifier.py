"""A small convolutional classifier, for conditional accuracy and Frechet distance."""

import flax.linen as nn
import jax

from gaxn.nn.resampling import max_pool
from gaxn.types import Images


class Classifier(nn.Module):
    """Image -> class logits and features.

    3x3 convolutions with ReLU, each max-pooled by 2, a hidden dense layer and a dense layer.

    Attributes:
        classes: number of labels.
        widths: channels of the convolutions.
        features: units of the hidden layer, whose activations are the features.
    """

    classes: int
    widths: tuple[int, ...] = (16, 32, 64)
    features: int = 64

    @nn.compact
    def __call__(self, images: Images) -> tuple[jax.Array, jax.Array]:
        """Returns logits [batch, classes] and features [batch, features] of images in [-1, 1]."""
        x = images
        for width in self.widths:
            x = max_pool(nn.relu(nn.Conv(width, (3, 3))(x)), 2)
        features = nn.relu(nn.Dense(self.features)(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.classes)(features), features
