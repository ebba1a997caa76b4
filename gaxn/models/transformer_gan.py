"""A GAN of two Transformers over patches of the image (TransGAN; Jiang et al., 2021)."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from gaxn.nn import precision
from gaxn.nn.conditioning import Projection, append_embedding
from gaxn.nn.transformer import Block, Tokens, norm
from gaxn.types import Images, Labels, Latents, Logits, check

POSITION_INIT = nn.initializers.normal(0.02)


class Generator(nn.Module):
    """Latent and label -> image.

    A dense layer gives one token per patch, to which a learned position is added; then
    Transformer blocks, modulated by latent and label, and a dense layer from each token to the
    pixels of its patch; tanh.

    Attributes:
        size: height and width of the image, in pixels.
        channels: channels of the image.
        classes: number of labels; None for an unconditional generator.
        patch: height and width of a patch, in pixels.
        width: features of a token.
        depth: number of Transformer blocks.
        heads: attention heads.
        ratio: hidden features of a block's MLP, as a multiple of the width.
        embedding: features of the label's embedding.
        modulated: whether latent and label modulate every layer norm.
        dtype: of activations and products; parameters, statistics and the image are float32.
    """

    size: int
    channels: int
    classes: int | None
    patch: int = 4
    width: int = 64
    depth: int = 3
    heads: int = 4
    ratio: int = 2
    embedding: int = 32
    modulated: bool = True
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, latents: Latents, labels: Labels | None, train: bool) -> Images:
        """Returns images in [-1, 1] for latents, float [batch, latent], and labels, int [batch]."""
        side = _patches_per_side(self.size, self.patch)
        x = append_embedding(latents, labels, self.classes, self.embedding)
        condition = x if self.modulated else None
        x = nn.Dense(side * side * self.width, use_bias=False, dtype=self.dtype)(x)
        x = x.reshape(-1, side * side, self.width)
        x += self.param("positions", POSITION_INIT, x.shape[1:])
        x = jnp.asarray(x, self.dtype)
        for index in range(self.depth):
            x = Block(self.heads, self.ratio, self.dtype, name=f"block_{index}")(x, condition)
        x = norm(x, condition, "last", self.dtype)
        x = precision.Dense(self.patch**2 * self.channels, dtype=self.dtype, name="pixels")(x)
        return nn.tanh(_from_patches(x, side, self.patch))


class Discriminator(nn.Module):
    """Image and label -> one logit, without batch statistics.

    A dense layer turns each patch into a token, to which a learned position is added; then
    Transformer blocks, a layer norm, a hidden dense layer over all tokens, LeakyReLU 0.2, and a
    dense layer for the logit. A label conditions by projection.

    Attributes:
        classes: number of labels; None for an unconditional discriminator.
        patch: height and width of a patch, in pixels.
        width: features of a token.
        depth: number of Transformer blocks.
        heads: attention heads.
        ratio: hidden features of a block's MLP, as a multiple of the width.
        hidden: features of the hidden layer.
        dtype: of activations and products; parameters, statistics and logits are float32.
    """

    classes: int | None
    patch: int = 4
    width: int = 64
    depth: int = 3
    heads: int = 4
    ratio: int = 2
    hidden: int = 128
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, images: Images, labels: Labels | None, train: bool) -> Logits:
        """Returns logits, float [batch], for images in [-1, 1] and labels, int [batch]."""
        _patches_per_side(images.shape[1], self.patch)
        dense = partial(precision.Dense, dtype=self.dtype)
        x = dense(self.width, name="patches")(_to_patches(images, self.patch))
        x += self.param("positions", POSITION_INIT, x.shape[1:])
        x = jnp.asarray(x, self.dtype)
        for index in range(self.depth):
            x = Block(self.heads, self.ratio, self.dtype, name=f"block_{index}")(x)
        x = norm(x, None, "last", self.dtype)
        hidden = dense(self.hidden, kernel_init=nn.initializers.he_normal(), name="hidden")
        features = nn.leaky_relu(hidden(x.reshape(x.shape[0], -1)), 0.2)
        self.sow("intermediates", "features", features)
        logits = nn.Dense(1, name="logit")(features)[:, 0]
        if self.classes is not None:
            logits += Projection(self.classes)(features, labels, train)
        return logits


def _patches_per_side(size: int, patch: int) -> int:
    valid = patch >= 1 and size % patch == 0
    check("patch", patch, valid, f"a divisor of the image's size, {size}")
    return size // patch


def _to_patches(images: Images, patch: int) -> Tokens:
    """Splits [batch, height, width, channels] into [batch, patches, patch * patch * channels]."""
    batch, height, width, channels = images.shape
    x = images.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.swapaxes(2, 3).reshape(batch, -1, patch * patch * channels)


def _from_patches(x: Tokens, side: int, patch: int) -> Images:
    """Inverts `_to_patches` for a square image of `side` patches per side."""
    batch = x.shape[0]
    x = x.reshape(batch, side, side, patch, patch, -1).swapaxes(2, 3)
    return x.reshape(batch, side * patch, side * patch, -1)
