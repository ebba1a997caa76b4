"""The residual networks of SAGAN (Zhang et al., 2019, section 4), at 64x64 and 128x128.

As its authors' code has them: spectral norm in both players, conditional BatchNorm,
projection, keys and values of the attention pooled by 2.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from gaxn.nn import precision, spectral
from gaxn.nn.attention import attend_where_asked, require_resolutions
from gaxn.nn.conditioning import Projection, class_weights
from gaxn.nn.resampling import resolutions
from gaxn.nn.residual import INITIAL, DownBlock, UpBlock, convolution, normalise
from gaxn.nn.scales import judge_scales
from gaxn.types import Images, Labels, Latents, Logits, require


def paper(size: int) -> dict[str, dict[str, Any]]:
    """What the paper's networks are at 64 or 128 pixels: options of both players, for configs.

    64 is 128 without its widest block.
    """
    deeper = {64: (512,), 128: (512, 1024)}[size]
    shared = {"attention_at": (32,), "attention_pool": 2}
    narrow = (64, 128, 256)
    return {
        "generator": {
            "name": "sagan_resnet.Generator",
            "first": 1024,
            "widths": (*reversed(deeper), *reversed(narrow)),
            **shared,
        },
        "discriminator": {
            "name": "sagan_resnet.Discriminator",
            "widths": (*narrow, *deeper),
            "last": 1024,
            **shared,
        },
    }


class Generator(nn.Module):
    """Latent and label -> image.

    A dense layer to a small map; one residual block a width, each doubling the resolution, and
    self-attention where it is in `attention_at`; BatchNorm, ReLU, a 3x3 convolution and tanh.
    The label modulates the BatchNorm of every block.

    Attributes:
        size: height and width of the image, in pixels.
        channels: channels of the image.
        classes: number of labels; None for an unconditional generator.
        first: channels of the first map.
        widths: channels after each doubling.
        attention_at: resolutions that are followed by self-attention; () for none.
        heads, attention_pool, attention_block: of `SelfAttention`: heads, pool and block.
        spectral_norm: whether every layer is spectrally normalised.
        remat: activations within a block are computed again for the gradient.
        dtype: of activations and products; parameters, statistics and the image are float32.
    """

    size: int
    channels: int
    classes: int | None
    first: int = 1024
    widths: tuple[int, ...] = (512, 256, 128, 64)
    attention_at: tuple[int, ...] = (32,)
    heads: int = 1
    attention_pool: int = 2
    attention_block: int = 0
    spectral_norm: bool = True
    remat: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, latents: Latents, labels: Labels | None, train: bool) -> Images:
        """Args: latents, float [batch, latent]; labels, int [batch], or the weights of classes,
        float [batch, classes]. Returns images in [-1, 1]."""
        start, *doubled = _exact(self.size, len(self.widths))
        require_resolutions(self.attention_at, doubled)
        condition = None if self.classes is None else class_weights(labels, self.classes)
        dense = nn.Dense(start * start * self.first, kernel_init=INITIAL, dtype=self.dtype)
        x = spectral.wrap(self.spectral_norm, dense, "dense")(latents, train)
        x = x.reshape(-1, start, start, self.first)
        block = nn.remat(UpBlock, static_argnums=(3,)) if self.remat else UpBlock
        for width, resolution in zip(self.widths, doubled, strict=True):
            own = block(width, self.spectral_norm, self.dtype, name=f"to_{resolution}")
            x = own(x, condition, train)
            x = attend_where_asked(self, x, train)
        x = nn.relu(normalise(x, None, train, self.dtype))
        last = convolution(self.spectral_norm, self.channels, 3, "image", dtype=self.dtype)
        return nn.tanh(precision.widened(last(x, train)))


class Discriminator(nn.Module):
    """Image and label -> logits, without batch statistics.

    One residual block a width, each halving the resolution, and self-attention where the new one
    is in `attention_at`; a last block, which does not; ReLU, the sum over all places, and a
    dense layer. A label conditions by projection.

    Attributes:
        classes: number of labels; None for an unconditional discriminator.
        widths: channels after each halving.
        last: channels of the last block.
        attention_at: resolutions that self-attention works at; () for none.
        heads, attention_pool, attention_block: of `SelfAttention`: heads, pool and block.
        spectral_norm: whether every layer is spectrally normalised.
        scales: networks of this kind, each looking at half the resolution of the one before
            (Wang et al., 2018, section 3.2).
        remat: activations within a block are computed again for the gradient.
        dtype: of activations and products; parameters, statistics and logits are float32.
    """

    classes: int | None
    widths: tuple[int, ...] = (64, 128, 256, 512)
    last: int = 1024
    attention_at: tuple[int, ...] = (32,)
    heads: int = 1
    attention_pool: int = 2
    attention_block: int = 0
    spectral_norm: bool = True
    scales: int = 1
    remat: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, images: Images, labels: Labels | None, train: bool) -> Logits:
        """Args: images in [-1, 1]; labels, int [batch].

        Returns logits, float [batch]; [batch, scales] of several scales.
        """
        halved = _exact(images.shape[1], len(self.widths))[-2::-1]
        require_resolutions(self.attention_at, halved)
        if self.scales > 1:
            return judge_scales(self, len(self.widths), images, labels, train)
        block = nn.remat(DownBlock, static_argnums=(2,)) if self.remat else DownBlock
        x = images
        for index, (width, resolution) in enumerate(zip(self.widths, halved, strict=True)):
            name = f"to_{resolution}"
            x = block(width, index == 0, True, self.spectral_norm, self.dtype, name=name)(x, train)
            x = attend_where_asked(self, x, train)
        x = block(self.last, False, False, self.spectral_norm, self.dtype, name="last")(x, train)
        features = jnp.sum(nn.relu(precision.widened(x)), axis=(1, 2))
        dense = nn.Dense(1, kernel_init=INITIAL)
        logits = spectral.wrap(self.spectral_norm, dense, "logit")(features, train)[:, 0]
        if self.classes is not None:
            logits += Projection(self.classes, self.spectral_norm)(features, labels, train)
        return logits


def _exact(size: int, levels: int) -> tuple[int, ...]:
    """The resolutions of so many halvings, none of an odd number."""
    found = resolutions(size, levels)
    valid = f"a number of halvings that {size} pixels allow without a rest"
    require("widths", levels, found[0] << levels == size, valid)
    return found
