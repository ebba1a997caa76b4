"""The residual networks of SAGAN (Zhang et al., 2019, section 4), at 64x64 and 128x128.

As in its authors' code: spectral norm in both networks, conditional BatchNorm, projection, and
attention with keys and values pooled by 2.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from gaxn.nn import precision, spectral
from gaxn.nn.attention import apply_self_attention, check_resolutions
from gaxn.nn.conditioning import Projection, class_weights
from gaxn.nn.norms import normalize
from gaxn.nn.resampling import resolutions
from gaxn.nn.residual import KERNEL_INIT, DownBlock, UpBlock, convolution
from gaxn.nn.scales import discriminate_scales
from gaxn.types import Images, Labels, Latents, Logits, check


def published_networks(size: int) -> dict[str, dict[str, Any]]:
    """Returns the config of the paper's generator and discriminator at 64 or 128 pixels.

    At 64 pixels they lack the widest block of those at 128 pixels.
    """
    widths = {64: (64, 128, 256, 512), 128: (64, 128, 256, 512, 1024)}[size]
    shared = {"attention_at": (32,), "attention_pool": 2}
    return {
        "generator": {
            "name": "sagan_resnet.Generator",
            "first": 1024,
            "widths": widths[::-1],
            **shared,
        },
        "discriminator": {
            "name": "sagan_resnet.Discriminator",
            "widths": widths,
            "last": 1024,
            **shared,
        },
    }


class Generator(nn.Module):
    """Latent and label -> image.

    A dense layer to a small map; one residual block per width, each doubling the resolution, and
    self-attention if it is in `attention_at`; BatchNorm, ReLU, a 3x3 convolution and tanh.
    The label modulates the BatchNorm of every block.

    Attributes:
        size: height and width of the image, in pixels.
        channels: channels of the image.
        classes: number of labels; None for an unconditional generator.
        first: channels of the first map.
        widths: channels after each doubling.
        attention_at: resolutions with self-attention; () for none.
        heads, attention_pool, attention_block: heads, pool and block of `SelfAttention`.
        spectral_norm: whether every layer is spectrally normalized.
        remat: whether activations within a block are computed again for the gradient.
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
        """Returns images in [-1, 1], float32.

        Args:
            latents: float [batch, latent].
            labels: int [batch], or class weights, float [batch, classes].
            train: whether BatchNorm uses the statistics of the batch.
        """
        start, *sizes = _exact_resolutions(self.size, len(self.widths))
        check_resolutions(self.attention_at, sizes)
        condition = None if self.classes is None else class_weights(labels, self.classes)
        dense = nn.Dense(start * start * self.first, kernel_init=KERNEL_INIT, dtype=self.dtype)
        x = spectral.wrap(self.spectral_norm, dense, "dense")(latents, train)
        x = x.reshape(-1, start, start, self.first)
        block = nn.remat(UpBlock, static_argnums=(3,)) if self.remat else UpBlock
        for width, size in zip(self.widths, sizes, strict=True):
            layer = block(width, self.spectral_norm, self.dtype, name=f"to_{size}")
            x = layer(x, condition, train)
            x = apply_self_attention(self, x, train)
        x = nn.relu(normalize(x, None, train, self.dtype))
        last = convolution(self.spectral_norm, self.channels, 3, "image", dtype=self.dtype)
        return nn.tanh(precision.widen(last(x, train)))


class Discriminator(nn.Module):
    """Image and label -> logits, without batch statistics.

    One residual block per width, each halving the resolution, and self-attention if the new one
    is in `attention_at`; a last block at the same resolution; ReLU, the sum over all positions,
    and a dense layer. A label conditions by projection.

    Attributes:
        classes: number of labels; None for an unconditional discriminator.
        widths: channels after each halving.
        last: channels of the last block.
        attention_at: resolutions with self-attention; () for none.
        heads, attention_pool, attention_block: heads, pool and block of `SelfAttention`.
        spectral_norm: whether every layer is spectrally normalized.
        scales: copies of this network, each with the image at half the resolution of the one
            before (Wang et al., 2018, section 3.2).
        remat: whether activations within a block are computed again for the gradient.
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
        """Returns logits, float [batch], for images in [-1, 1] and labels, int [batch].

        With several scales they are [batch, scales].
        """
        sizes = _exact_resolutions(images.shape[1], len(self.widths))[-2::-1]
        check_resolutions(self.attention_at, sizes)
        if self.scales > 1:
            return discriminate_scales(self, len(self.widths), images, labels, train)
        block = nn.remat(DownBlock, static_argnums=(2,)) if self.remat else DownBlock
        x = images
        for index, (width, size) in enumerate(zip(self.widths, sizes, strict=True)):
            name = f"to_{size}"
            x = block(width, index == 0, True, self.spectral_norm, self.dtype, name=name)(x, train)
            x = apply_self_attention(self, x, train)
        x = block(self.last, False, False, self.spectral_norm, self.dtype, name="last")(x, train)
        features = jnp.sum(nn.relu(precision.widen(x)), axis=(1, 2))
        dense = nn.Dense(1, kernel_init=KERNEL_INIT)
        logits = spectral.wrap(self.spectral_norm, dense, "logit")(features, train)[:, 0]
        if self.classes is not None:
            logits += Projection(self.classes, self.spectral_norm)(features, labels, train)
        return logits


def _exact_resolutions(size: int, levels: int) -> tuple[int, ...]:
    """Returns `resolutions`, after checking that no odd number is halved."""
    expected = f"a multiple of {2**levels}, because each of the {levels} widths halves it"
    check("the image's size", size, size % 2**levels == 0, expected)
    return resolutions(size, levels)
