"""The networks of gaxn/models/sagan.py in PyTorch.

The constructors take the fields of the Flax modules, and the sizes that Flax infers.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.race.pytorch.layers import (
    BatchNorm,
    Dense,
    ModulatedBatchNorm,
    Pass,
    Projection,
    SelfAttention,
    StridedConvolution,
    TransposedConvolution,
    add,
    flatten,
    leaky_relu,
    normalize,
    to_map,
)
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
        self.start, *sizes = resolutions(size, len(widths) + 1)
        self.size, self.classes = size, classes
        self.Dense_0 = Dense(latent_size, self.start**2 * first, False, spectral_norm, dtype)
        self.first, self.blocks = [add_norm(self, 0, first, classes, dtype)], []
        before = first
        for width, side in zip(widths, sizes, strict=False):
            doubling = Doubling(before, width, side, classes, spectral_norm, dtype)
            attention = None
            if side in attention_at:
                attention = SelfAttention(width, heads, attention_pool, spectral_norm, dtype)
            self.blocks.append(add_block(self, side, doubling, attention))
            before = width
        self.TransposedConvolution_0 = TransposedConvolution(
            before, channels, spectral=spectral_norm, dtype=dtype
        )
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, latents: Tensor, labels: Tensor | None, mode: Pass) -> Tensor:
        condition = one_hot(labels, self.classes)
        x = to_map(self.Dense_0(latents, mode), self.start)
        x = F.relu(normalize(*self.first, x, condition, mode), inplace=True)
        for block in self.blocks:
            x = block.resample(x, condition, mode)
            if block.attention is not None:
                x = block.attention(x, mode)
        x = crop(self.TransposedConvolution_0(x, mode), self.size)
        return torch.tanh(x.float() + self.bias[:, None, None])


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
        dtype: torch.dtype | None,
    ):
        super().__init__()
        sides = resolutions(size, len(widths))[-2::-1]
        self.blocks = []
        before = channels
        for width, side in zip(widths, sides, strict=True):
            halving = Halving(before, width, spectral_norm, dtype)
            attention = None
            if side in attention_at:
                attention = SelfAttention(width, heads, attention_pool, spectral_norm, dtype)
            self.blocks.append(add_block(self, side, halving, attention))
            before = width
        features = sides[-1] ** 2 * before
        self.Dense_0 = Dense(features, 1, spectral=spectral_norm)
        self.Projection_0 = Projection(classes, features, spectral_norm) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None, mode: Pass) -> Tensor:
        x = images
        for block in self.blocks:
            x = block.resample(x, mode)
            if block.attention is not None:
                x = block.attention(x, mode)
        features = flatten(x).float()
        logits = self.Dense_0(features, mode)[:, 0]
        if self.Projection_0 is not None:
            logits = logits + self.Projection_0(features, labels, mode)
        return logits


class Block(NamedTuple):
    """The layers at one resolution: those that change it, and self-attention or None."""

    resample: nn.Module
    attention: SelfAttention | None


class Doubling(nn.Module):
    """A transposed convolution to height and width `size`, BatchNorm, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        classes: int | None,
        spectral_norm: bool,
        dtype: torch.dtype | None,
    ):
        super().__init__()
        self.size = size
        self.TransposedConvolution_0 = TransposedConvolution(
            inputs, outputs, spectral=spectral_norm, dtype=dtype
        )
        self.norm = [add_norm(self, 0, outputs, classes, dtype)]

    def forward(self, x: Tensor, condition: Tensor | None, mode: Pass) -> Tensor:
        x = crop(self.TransposedConvolution_0(x, mode), self.size)
        return F.relu(normalize(*self.norm, x, condition, mode), inplace=True)


class Halving(nn.Module):
    """A strided convolution and LeakyReLU 0.2."""

    def __init__(self, inputs: int, outputs: int, spectral_norm: bool, dtype: torch.dtype | None):
        super().__init__()
        self.StridedConvolution_0 = StridedConvolution(
            inputs, outputs, spectral=spectral_norm, dtype=dtype
        )

    def forward(self, x: Tensor, mode: Pass) -> Tensor:
        return leaky_relu(self.StridedConvolution_0(x, mode), mode)


def add_block(
    network: nn.Module, side: int, resample: nn.Module, attention: SelfAttention | None
) -> Block:
    """Adds the layers that make a map of height and width `side`."""
    return Block(add(network, f"to_{side}", resample), add(network, f"attention_{side}", attention))


def add_norm(
    network: nn.Module,
    index: int,
    channels: int,
    classes: int | None,
    dtype: torch.dtype | None,
) -> BatchNorm | ModulatedBatchNorm:
    """Adds a BatchNorm, modulated by the label if there are classes."""
    norm = ModulatedBatchNorm(channels, classes, dtype) if classes else BatchNorm(channels)
    return add(network, f"{type(norm).__name__}_{index}", norm)


def one_hot(labels: Tensor | None, classes: int | None) -> Tensor | None:
    """Returns labels as one-hot rows, float [batch, classes]; None without classes."""
    return F.one_hot(labels.long(), classes).float() if classes else None


def crop(x: Tensor, size: int) -> Tensor:
    """Drops the last row and column of a map of height and width `size + 1`."""
    return x[:, :, :size, :size]
