"""The networks of the CycleGAN (Zhu et al., 2017, section 7.2), with attention and spectral norm.

With `attention`, `spectral_norm` and `dropout` off they are those of the paper.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from gaxn.nn import norms, spectral
from gaxn.nn.attention import attend_as_told
from gaxn.nn.dropout import Dropout
from gaxn.nn.resampling import StridedConvolution, TransposedConvolution
from gaxn.types import Images, Labels, Logits, require

INITIAL = nn.initializers.normal(0.02)


class Generator(nn.Module):
    """Image -> image of the same size: fully convolutional, sides of any `multiple`, 8 or more.

    A 7x7 convolution; two 3x3 ones of stride 2; residual blocks of two 3x3 ones; self-attention;
    two transposed ones of stride 2; a 7x7 one and tanh. Padded by reflection where the stride is
    1; instance norm after each but the last, and ReLU but where a residual is added.

    Attributes:
        channels: channels of the images.
        width: channels of the first convolution; twice and four times as many further in.
        blocks: residual blocks; the paper has 6 at 128 pixels and 9 at 256.
        attention: whether self-attention follows the blocks, at a quarter of the resolution.
        heads, attention_pool, attention_block: of `SelfAttention`: heads, pool and block.
        spectral_norm: whether every convolution is spectrally normalised.
        instance_norm: whether there is instance norm.
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

    @property
    def multiple(self) -> int:
        """What the images' sides have to be multiples of."""
        return 4 * (self.attention_pool if self.attention else 1)

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Images:
        """Args: images in [-1, 1], sides of any `multiple`. Returns the same shape."""
        require("blocks", self.blocks, self.blocks >= 0, "0 or more")
        sides = images.shape[1:3]
        valid = f"multiples of {self.multiple}, 8 or more"
        require("the images' height and width", sides, min(sides) >= 8, valid)
        require(
            "the images' height and width", sides, not any(n % self.multiple for n in sides), valid
        )
        wrap = partial(spectral.wrap, self.spectral_norm)
        norm = norms.instance_norm if self.instance_norm else lambda x: x
        convolve = partial(_reflected, self.spectral_norm)

        x = nn.relu(norm(convolve(images, self.width, 7, "first", train)))
        for factor in (2, 4):
            layer = StridedConvolution(factor * self.width, INITIAL, side=3, name=f"down_{factor}")
            x = nn.relu(norm(wrap(layer)(x, train)))
        for block in range(self.blocks):
            y = nn.relu(norm(convolve(x, 4 * self.width, 3, f"block_{block}_first", train)))
            x = x + norm(convolve(y, 4 * self.width, 3, f"block_{block}_second", train))
        if self.attention:
            x = attend_as_told(self, "attention")(x, train)
        for factor in (2, 1):
            layer = TransposedConvolution(factor * self.width, INITIAL, side=3, name=f"up_{factor}")
            x = wrap(layer)(x, train)
            bias = self.param(f"up_{factor}_bias", nn.initializers.zeros, (factor * self.width,))
            x = nn.relu(norm(x + bias))
        return nn.tanh(convolve(x, self.channels, 7, "last", train))


class Discriminator(nn.Module):
    """Image -> a map of logits, each of a patch (Isola et al., 2017): 70x70 pixels of 3 layers.

    A 4x4 convolution of stride 2 a layer, each with twice the channels up to eight times;
    self-attention; two of stride 1. Instance norm after each but the first and the last,
    LeakyReLU 0.2 and dropout after each but the last.

    Attributes:
        width: channels of the first convolution.
        layers: convolutions of stride 2.
        attention: whether self-attention follows them.
        heads, attention_pool, attention_block: of `SelfAttention`: heads, pool and block.
        spectral_norm: whether every convolution is spectrally normalised.
        instance_norm: whether there is instance norm. It is of each image alone, so that gradient
            penalties allow it, but it hides from the critic how strong a contrast is.
        dropout: probability that a number is dropped; in training, not in gradient penalties.
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

    @nn.compact
    def __call__(self, images: Images, labels: Labels | None, train: bool) -> Logits:
        """Args: images in [-1, 1]. Returns logits, float [batch, rows, columns]."""
        require("layers", self.layers, self.layers >= 1, "1 or more")
        fewest = -(-min(images.shape[1:3]) // 2**self.layers)
        valid = f"fewer: images of {min(images.shape[1:3])} pixels leave no place for a logit"
        require("layers", self.layers, fewest >= 3, valid)
        wrap = partial(spectral.wrap, self.spectral_norm)
        norm = norms.instance_norm if self.instance_norm else lambda x: x

        def finish(x: Images, name: str) -> Images:
            return Dropout(self.dropout, name=name)(nn.leaky_relu(x, 0.2), train)

        x = images
        for index in range(self.layers):
            width = self.width * min(2**index, 8)
            layer = StridedConvolution(width, INITIAL, name=f"down_{index}")
            x = wrap(layer)(x, train)
            x = finish(norm(x) if index else x, f"dropout_{index}")
        if self.attention:
            x = attend_as_told(self, "attention")(x, train)
        still = partial(nn.Conv, kernel_size=(4, 4), padding=1, kernel_init=INITIAL)
        x = wrap(still(self.width * min(2**self.layers, 8), name="still"))(x, train)
        x = finish(norm(x), "dropout_still")
        return wrap(still(1, name="logits"))(x, train)[..., 0]


def _reflected(
    spectral_norm: bool, x: Images, features: int, side: int, name: str, train: bool
) -> Images:
    """A convolution of stride 1 over an image that goes on as in a mirror at its edges."""
    edge = side // 2
    x = jnp.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)), mode="reflect")
    layer = nn.Conv(features, (side, side), padding="VALID", kernel_init=INITIAL, name=name)
    return spectral.wrap(spectral_norm, layer)(x, train)
