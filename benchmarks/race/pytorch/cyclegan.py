"""The networks of gaxn/models/cyclegan.py in PyTorch.

The constructors take the fields of the Flax modules, and the channels that Flax infers. They ignore
`attention_block`, which changes the memory of attention and no value.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.race.pytorch.layers import (
    Conv,
    Pass,
    SelfAttention,
    StridedConvolution,
    TransposedConvolution,
    add,
    leaky_relu,
)


class Pair(nn.Module):
    """Two networks of one architecture, as one player."""

    def __init__(self, a: nn.Module, b: nn.Module):
        super().__init__()
        self.a, self.b = a, b


class Generator(nn.Module):
    """Image -> image of the same size, both in [-1, 1]."""

    def __init__(
        self,
        channels: int,
        width: int,
        blocks: int,
        attention: bool,
        heads: int,
        attention_pool: int,
        attention_block: int,
        spectral_norm: bool,
        instance_norm: bool,
    ):
        super().__init__()
        self.norm = instance_normalize if instance_norm else lambda x: x
        wide = 4 * width
        self.first = Conv(channels, width, 7, 0, spectral=spectral_norm)
        self.down_2 = StridedConvolution(width, 2 * width, 3, spectral_norm)
        self.down_4 = StridedConvolution(2 * width, wide, 3, spectral_norm)
        self.blocks = [
            tuple(
                add(self, f"block_{index}_{place}", Conv(wide, wide, 3, 0, spectral=spectral_norm))
                for place in ("first", "second")
            )
            for index in range(blocks)
        ]
        self.attention = (
            SelfAttention(wide, heads, attention_pool, spectral_norm) if attention else None
        )
        self.up_2 = TransposedConvolution(wide, 2 * width, 3, spectral_norm)
        self.up_2_bias = nn.Parameter(torch.zeros(2 * width))
        self.up_1 = TransposedConvolution(2 * width, width, 3, spectral_norm)
        self.up_1_bias = nn.Parameter(torch.zeros(width))
        self.last = Conv(width, channels, 7, 0, spectral=spectral_norm)

    def forward(self, images: Tensor, mode: Pass) -> Tensor:
        x = self._activate(convolve(self.first, reflect(images, 3), mode))
        x = self._activate(self.down_2(x, mode))
        x = self._activate(self.down_4(x, mode))
        for first, second in self.blocks:
            y = self._activate(convolve(first, reflect(x, 1), mode))
            x = x + self.norm(convolve(second, reflect(y, 1), mode))
        if self.attention is not None:
            x = self.attention(x, mode)
        x = self._activate(double(self.up_2, x, self.up_2_bias, mode))
        x = self._activate(double(self.up_1, x, self.up_1_bias, mode))
        return torch.tanh(convolve(self.last, reflect(x, 3), mode))

    def _activate(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(x), inplace=True)


class Discriminator(nn.Module):
    """Image in [-1, 1] -> a map of logits, [batch, rows, columns]."""

    def __init__(
        self,
        channels: int,
        width: int,
        layers: int,
        attention: bool,
        heads: int,
        attention_pool: int,
        attention_block: int,
        spectral_norm: bool,
        instance_norm: bool,
    ):
        super().__init__()
        self.norm = instance_normalize if instance_norm else lambda x: x
        self.downs = []
        before = channels
        for index in range(layers):
            after = width * min(2**index, 8)
            layer = StridedConvolution(before, after, spectral=spectral_norm)
            self.downs.append(add(self, f"down_{index}", layer))
            before = after
        self.attention = (
            SelfAttention(before, heads, attention_pool, spectral_norm) if attention else None
        )
        after = width * min(2**layers, 8)
        self.still = Conv(before, after, 4, 1, spectral=spectral_norm)
        self.logits = Conv(after, 1, 4, 1, spectral=spectral_norm)

    def forward(self, images: Tensor, mode: Pass) -> Tensor:
        first, *downs = self.downs
        x = leaky_relu(first(images, mode), mode)
        for layer in downs:
            x = leaky_relu(self.norm(layer(x, mode)), mode)
        if self.attention is not None:
            x = self.attention(x, mode)
        x = leaky_relu(self.norm(convolve(self.still, x, mode)), mode)
        return convolve(self.logits, x, mode)[:, 0]


def convolve(layer: Conv, x: Tensor, mode: Pass) -> Tensor:
    """Applies a convolution of stride 1."""
    # `Conv` has another way for few channels, which is slower here.
    return F.conv2d(x, *layer.parameters_of(mode), 1, layer.padding)


def reflect(x: Tensor, edge: int) -> Tensor:
    """Pads height and width by reflection."""
    return F.pad(x, (edge, edge, edge, edge), mode="reflect")


def double(layer: TransposedConvolution, x: Tensor, bias: Tensor, mode: Pass) -> Tensor:
    """Applies a transposed convolution with a bias, in one call."""
    weight, _ = layer.parameters_of(mode)
    return F.conv_transpose2d(x, weight, bias, 2, 1, layer.output_padding)


def instance_normalize(x: Tensor) -> Tensor:
    """Normalizes each channel of each example to mean 0 and variance 1."""
    if not torch.compiler.is_compiling():
        return F.instance_norm(x, eps=1e-5)
    # PyTorch's function needs a copy in another memory format.
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + 1e-5)
