"""Dense networks for points, as in PacGAN's synthetic experiments (Lin et al., 2018)."""

import flax.linen as nn
import jax

from gaxn.nn import norms
from gaxn.types import Labels, Latents, Logits, check


class Generator(nn.Module):
    """Latent -> point: dense layers with BatchNorm and ReLU, then a linear one.

    Attributes:
        features: coordinates of a point.
        widths: units of the hidden layers.
        deviation: standard deviation of the initial weights.
    """

    features: int
    widths: tuple[int, ...] = (400, 400)
    deviation: float = 0.02

    @nn.compact
    def __call__(self, latents: Latents, labels: Labels | None, train: bool) -> jax.Array:
        """Returns points, float [batch, features], for latents, float [batch, latent]."""
        _check_unconditional(labels)
        initial = nn.initializers.normal(self.deviation)
        x = latents
        for width in self.widths:
            x = nn.Dense(width, use_bias=False, kernel_init=initial)(x)
            x = nn.relu(norms.batch_norm(train)(x))
        return nn.Dense(self.features, kernel_init=initial)(x)


class Discriminator(nn.Module):
    """Point, or a pack of points -> logit: maxout layers (Goodfellow et al., 2013), a linear one.

    Attributes:
        widths: units of the hidden layers.
        pieces: linear functions per maxout unit, whose value is the largest of them.
        deviation: standard deviation of the initial weights.
    """

    widths: tuple[int, ...] = (200, 200, 200)
    pieces: int = 5
    deviation: float = 0.02

    @nn.compact
    def __call__(self, points: jax.Array, labels: Labels | None, train: bool) -> Logits:
        """Returns logits, float [batch], for points, float [batch, features]."""
        _check_unconditional(labels)
        check("pieces", self.pieces, self.pieces >= 1, "1 or more")
        initial = nn.initializers.normal(self.deviation)
        x = points
        for width in self.widths:
            x = nn.Dense(width * self.pieces, kernel_init=initial)(x)
            x = x.reshape(-1, self.pieces, width).max(axis=1)
        return nn.Dense(1, kernel_init=initial)(x)[:, 0]


def _check_unconditional(labels: Labels | None) -> None:
    check("conditional", True, labels is None, "False with the networks of mlp")
