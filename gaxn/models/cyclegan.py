"""The networks of the CycleGAN (Zhu et al., 2017, section 7.2), with attention and spectral norm.

They are the paper's networks without `attention`, `spectral_norm` and `dropout`.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from gaxn.nn import norms, precision, spectral
from gaxn.nn.attention import make_self_attention
from gaxn.nn.dropout import Dropout
from gaxn.nn.resampling import StridedConvolution, TransposedConvolution
from gaxn.types import Images, Labels, Logits, check

KERNEL_INIT = nn.initializers.normal(0.02)


class Generator(nn.Module):
    """Image -> image of the same size, whose height and width are multiples of `multiple`.

    A 7x7 convolution; two 3x3 convolutions of stride 2; residual blocks of two 3x3 convolutions;
    self-attention; two transposed convolutions of stride 2; a 7x7 convolution and tanh. Those of
    stride 1 are padded by reflection. Instance norm follows each but the last, then ReLU, except
    at the end of a residual block.

    Attributes:
        channels: channels of the images.
        width: channels of the first convolution; the next two have 2 and 4 times as many.
        blocks: number of residual blocks; the paper has 6 at 128 pixels and 9 at 256.
        attention: whether self-attention follows the blocks, at a quarter of the resolution.
        heads: attention heads.
        attention_pool: factor by which the keys and values of attention are max-pooled along
            height and width.
        attention_block: queries of attention that are computed at a time, which saves memory; 0
            for all.
        spectral_norm: whether every convolution is spectrally normalized.
        instance_norm: whether convolutions are followed by instance norm.
        dtype: of activations and products; parameters, statistics and the image are float32.
    """

    channels: int
    width: int = 64
    blocks: int = 9
    attention: bool = True
    heads: int = 1
    attention_pool: int = 1
    attention_block: int = 0
    spectral_norm: bool = True
    instance_norm: bool = True
    dtype: DTypeLike | None = None

    @property
    def multiple(self) -> int:
        """The number that divides the height and width of every valid image."""
        return 4 * (self.attention_pool if self.attention else 1)

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Images:
        """Returns images in [-1, 1] for images in [-1, 1], in the same shape."""
        check("blocks", self.blocks, self.blocks >= 0, "0 or more")
        sides = images.shape[1:3]
        check(
            "the images' height and width",
            sides,
            all(side >= 8 and side % self.multiple == 0 for side in sides),
            f"multiples of {self.multiple} and at least 8",
        )
        wrap = partial(spectral.wrap, self.spectral_norm)
        norm = norms.instance_norm if self.instance_norm else lambda x: x
        convolve = partial(_reflection_convolution, self)

        x = nn.relu(norm(convolve(images, self.width, 7, "first", train)))
        for factor in (2, 4):
            layer = StridedConvolution(
                factor * self.width, KERNEL_INIT, self.dtype, side=3, name=f"down_{factor}"
            )
            x = nn.relu(norm(wrap(layer)(x, train)))
        for block in range(self.blocks):
            y = nn.relu(norm(convolve(x, 4 * self.width, 3, f"block_{block}_first", train)))
            y = norm(convolve(y, 4 * self.width, 3, f"block_{block}_second", train))
            x = (x + y).astype(x.dtype)
        if self.attention:
            x = make_self_attention(self, "attention")(x, train)
        for factor in (2, 1):
            layer = TransposedConvolution(
                factor * self.width, KERNEL_INIT, self.dtype, side=3, name=f"up_{factor}"
            )
            x = wrap(layer)(x, train)
            bias = self.param(f"up_{factor}_bias", nn.initializers.zeros, (factor * self.width,))
            x = nn.relu(norm(x + bias)).astype(x.dtype)
        return nn.tanh(convolve(x, self.channels, 7, "last", train))


class Discriminator(nn.Module):
    """Image -> a map of logits, one per patch (Isola et al., 2017); 70x70 pixels with 3 layers.

    4x4 convolutions of stride 2, each with twice the channels of the one before, up to 8 times
    `width`; self-attention; two 4x4 convolutions of stride 1. Instance norm follows each but the
    first and the last, LeakyReLU 0.2 and dropout each but the last.

    Attributes:
        width: channels of the first convolution.
        layers: number of convolutions of stride 2.
        attention: whether self-attention follows these convolutions.
        heads: attention heads.
        attention_pool: factor by which the keys and values of attention are max-pooled along
            height and width.
        attention_block: queries of attention that are computed at a time, which saves memory; 0
            for all.
        spectral_norm: whether every convolution is spectrally normalized.
        instance_norm: whether convolutions are followed by instance norm. It does not couple
            images, so gradient penalties are possible, but it removes their contrast.
        dropout: probability that an activation is set to 0; in training, not in gradient
            penalties.
        dtype: of activations and products; parameters, statistics and logits are float32.
    """

    width: int = 64
    layers: int = 3
    attention: bool = True
    heads: int = 1
    attention_pool: int = 1
    attention_block: int = 0
    spectral_norm: bool = True
    instance_norm: bool = True
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, images: Images, labels: Labels | None, train: bool) -> Logits:
        """Returns logits, float [batch, rows, columns], for images in [-1, 1]."""
        side = min(images.shape[1:3])
        # Two convolutions of stride 1 need at least 3 pixels.
        most = (side - 1).bit_length() - 2
        expected = f"from 1 to {most} for images of {side} pixels"
        check("layers", self.layers, 1 <= self.layers <= most, expected)
        wrap = partial(spectral.wrap, self.spectral_norm)
        norm = norms.instance_norm if self.instance_norm else lambda x: x

        def activate(x: Images, name: str) -> Images:
            return Dropout(self.dropout, name=name)(nn.leaky_relu(x, 0.2), train)

        x = images
        for index in range(self.layers):
            width = self.width * min(2**index, 8)
            layer = StridedConvolution(width, KERNEL_INIT, self.dtype, name=f"down_{index}")
            x = wrap(layer)(x, train)
            x = activate(norm(x) if index else x, f"dropout_{index}")
        if self.attention:
            x = make_self_attention(self, "attention")(x, train)
        width = self.width * min(2**self.layers, 8)
        convolution = partial(
            precision.Conv, kernel_size=(4, 4), padding=1, kernel_init=KERNEL_INIT
        )
        x = wrap(convolution(width, dtype=self.dtype, name="still"))(x, train)
        x = activate(norm(x), "dropout_still")
        self.sow("intermediates", "features", x)
        return wrap(convolution(1, name="logits"))(x, train)[..., 0]


def _reflection_convolution(
    network: Generator, x: Images, features: int, side: int, name: str, train: bool
) -> Images:
    """Applies a convolution of stride 1 with padding by reflection.

    Called within the compact method of the network.
    """
    edge = side // 2
    x = jnp.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)), mode="reflect")
    convolution = partial(precision.Conv, padding="VALID", kernel_init=KERNEL_INIT, name=name)
    layer = convolution(features, (side, side), dtype=network.dtype)
    return spectral.wrap(network.spectral_norm, layer)(x, train)
