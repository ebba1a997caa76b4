"""The networks of gaxn/models/sagan_resnet.py in PyTorch.

The constructors take the fields of the Flax modules, and the sizes that Flax infers. A convolution
and the repetition before it, or the mean after it, are one convolution of stride 2 with a larger
kernel (Karras et al., 2018): 16 products for each output pixel or its place, not 36.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.race.pytorch.layers import (
    Conv,
    Dense,
    Pass,
    Projection,
    SelfAttention,
    average_pool,
    normalize,
    repeat,
    to_map,
)
from benchmarks.race.pytorch.sagan import add_block, add_norm, one_hot
from gaxn.nn.resampling import resolutions


class Generator(nn.Module):
    """Latent [batch, latent_size] and label [batch] -> image in [-1, 1]."""

    def __init__(
        self,
        latent_size: int,
        size: int,
        channels: int,
        classes: int | None,
        first: int,
        widths: tuple[int, ...],
        attention_at: tuple[int, ...],
        heads: int,
        attention_pool: int,
        spectral_norm: bool,
        dtype: torch.dtype | None,
    ):
        super().__init__()
        self.start, *sides = resolutions(size, len(widths))
        self.classes = classes
        self.Dense_0 = Dense(latent_size, self.start**2 * first, True, spectral_norm, dtype)
        self.blocks = []
        before = first
        for width, side in zip(widths, sides, strict=True):
            block = UpBlock(before, width, classes, spectral_norm, dtype)
            attention = None
            if side in attention_at:
                attention = SelfAttention(width, heads, attention_pool, spectral_norm, dtype)
            self.blocks.append(add_block(self, side, block, attention))
            before = width
        self.norm = [add_norm(self, 0, before, None, dtype)]
        self.Conv_0 = Conv(before, channels, 3, spectral=spectral_norm, dtype=dtype)

    def forward(self, latents: Tensor, labels: Tensor | None, mode: Pass) -> Tensor:
        condition = one_hot(labels, self.classes)
        x = to_map(self.Dense_0(latents, mode), self.start)
        for block in self.blocks:
            x = block.resample(x, condition, mode)
            if block.attention is not None:
                x = block.attention(x, mode)
        x = F.relu(normalize(*self.norm, x, None, mode), inplace=True)
        return torch.tanh(self.Conv_0(x, mode).float())


class Discriminator(nn.Module):
    """Image in [-1, 1] and label [batch] -> logit [batch]."""

    def __init__(
        self,
        size: int,
        channels: int,
        classes: int | None,
        widths: tuple[int, ...],
        attention_at: tuple[int, ...],
        heads: int,
        attention_pool: int,
        spectral_norm: bool,
        last: int,
        dtype: torch.dtype | None,
    ):
        super().__init__()
        sides = resolutions(size, len(widths))[-2::-1]
        self.blocks = []
        before = channels
        for index, (width, side) in enumerate(zip(widths, sides, strict=True)):
            block = DownBlock(before, width, index == 0, True, spectral_norm, dtype)
            attention = None
            if side in attention_at:
                attention = SelfAttention(width, heads, attention_pool, spectral_norm, dtype)
            self.blocks.append(add_block(self, side, block, attention))
            before = width
        self.last = DownBlock(before, last, False, False, spectral_norm, dtype)
        self.Dense_0 = Dense(last, 1, spectral=spectral_norm)
        self.Projection_0 = Projection(classes, last, spectral_norm) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None, mode: Pass) -> Tensor:
        x = images
        for block in self.blocks:
            x = block.resample(x, mode)
            if block.attention is not None:
                x = block.attention(x, mode)
        features = F.relu(self.last(x, mode).float()).sum((2, 3))
        logits = self.Dense_0(features, mode)[:, 0]
        if self.Projection_0 is not None:
            logits = logits + self.Projection_0(features, labels, mode)
        return logits


class UpBlock(nn.Module):
    """Twice the resolution: norm, ReLU, repetition, 3x3, norm, ReLU, 3x3; plus a 1x1 shortcut."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        classes: int | None,
        spectral_norm: bool,
        dtype: torch.dtype | None,
    ):
        super().__init__()
        options = {"spectral": spectral_norm, "dtype": dtype}
        self.Conv_0 = RepeatedConvolution(inputs, outputs, 3, **options)
        self.Conv_1 = Conv(outputs, outputs, 3, **options)
        self.Conv_2 = Conv(inputs, outputs, 1, **options)
        self.norms = [
            add_norm(self, index, channels, classes, dtype)
            for index, channels in enumerate((inputs, outputs))
        ]

    def forward(self, x: Tensor, condition: Tensor | None, mode: Pass) -> Tensor:
        before, between = self.norms
        y = F.relu(normalize(before, x, condition, mode), inplace=True)
        y = self.Conv_0(y, mode)
        y = F.relu(normalize(between, y, condition, mode), inplace=True)
        # Repetition and a 1x1 convolution commute; the convolution is cheaper on the smaller map.
        return self.Conv_1(y, mode) + repeat(self.Conv_2(x, mode))


class DownBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, mean of 2x2; plus a 1x1 shortcut if the shape of x changes."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        first: bool,
        halve: bool,
        spectral_norm: bool,
        dtype: torch.dtype | None,
    ):
        super().__init__()
        self.first, self.halve = first, halve
        options = {"spectral": spectral_norm, "dtype": dtype}
        second = PooledConvolution if halve else Conv
        self.Conv_0 = Conv(inputs, outputs, 3, **options)
        self.Conv_1 = second(outputs, outputs, 3, **options)
        has_shortcut = halve or inputs != outputs
        self.Conv_2 = Conv(inputs, outputs, 1, **options) if has_shortcut else None

    def forward(self, x: Tensor, mode: Pass) -> Tensor:
        y = x if self.first else F.relu(x)
        y = F.relu(self.Conv_0(y, mode), inplace=True)
        y = self.Conv_1(y, mode)
        if self.Conv_2 is None:
            return x + y
        return y + self.Conv_2(average_pool(x) if self.halve else x, mode)


class RepeatedConvolution(Conv):
    """A 3x3 convolution of a map whose height and width are doubled by repetition."""

    def forward(self, x: Tensor, mode: Pass) -> Tensor:
        weight, bias = self.parameters_of(mode)
        kernel = sum_of_shifts(weight.flip(2, 3)).transpose(0, 1)
        return F.conv_transpose2d(self.to_dtype(x), kernel, bias, 2, 1)


class PooledConvolution(Conv):
    """A 3x3 convolution, and the mean of tiles of 2x2 of its result."""

    def forward(self, x: Tensor, mode: Pass) -> Tensor:
        weight, bias = self.parameters_of(mode)
        return F.conv2d(self.to_dtype(x), sum_of_shifts(weight / 4), bias, 2, 1)


def sum_of_shifts(kernel: Tensor) -> Tensor:
    """Returns the sum of the four places of a 3x3 kernel within 4x4 pixels."""
    padded = F.pad(kernel, (1, 1, 1, 1))
    rows = padded[..., 1:, :] + padded[..., :-1, :]
    return rows[..., 1:] + rows[..., :-1]
