"""Dense networks for points, as in PacGAN's synthetic experiments (Lin et al., 2018)."""

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from gaxn.nn import norms, precision
from gaxn.types import Labels, Latents, Logits, check


class Generator(nn.Module):
    """Latent -> point: dense layers with BatchNorm and ReLU, then a linear one.

    Attributes:
        features: coordinates of a point.
        widths: units of the hidden layers.
        deviation: standard deviation of the initial weights.
        dtype: of activations and products; parameters, statistics and the layer that makes points
            are float32.
    """

    features: int
    widths: tuple[int, ...] = (400, 400)
    deviation: float = 0.02
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, latents: Latents, labels: Labels | None, train: bool) -> jax.Array:
        """Returns points, float [batch, features], for latents, float [batch, latent]."""
        _check_unconditional(labels)
        initial = nn.initializers.normal(self.deviation)
        x = latents
        for width in self.widths:
            x = nn.Dense(width, use_bias=False, kernel_init=initial, dtype=self.dtype)(x)
            x = nn.relu(norms.batch_norm(train, self.dtype)(x))
        return nn.Dense(self.features, kernel_init=initial)(precision.widen(x))


class Discriminator(nn.Module):
    """Point, or a pack of points -> logit: maxout layers (Goodfellow et al., 2013), a linear one.

    Attributes:
        widths: units of the hidden layers.
        pieces: linear functions per maxout unit, whose value is the largest of them.
        deviation: standard deviation of the initial weights.
        dtype: of activations and products; parameters, the layer of points and the layer of
            logits are float32.
    """

    widths: tuple[int, ...] = (200, 200, 200)
    pieces: int = 5
    deviation: float = 0.02
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, points: jax.Array, labels: Labels | None, train: bool) -> Logits:
        """Returns logits, float [batch], for points, float [batch, features]."""
        _check_unconditional(labels)
        check("pieces", self.pieces, self.pieces >= 1, "1 or more")
        initial = nn.initializers.normal(self.deviation)
        x = points
        for index, width in enumerate(self.widths):
            # bfloat16 would round away differences of points below 1/256 of their size.
            dtype = self.dtype if index else None
            x = precision.Dense(width * self.pieces, kernel_init=initial, dtype=dtype)(x)
            x = x.reshape(-1, self.pieces, width).max(axis=1)
        self.sow("intermediates", "features", x)
        return nn.Dense(1, kernel_init=initial)(x)[:, 0]


def _check_unconditional(labels: Labels | None) -> None:
    check("conditional", True, labels is None, "False with the networks of mlp")
