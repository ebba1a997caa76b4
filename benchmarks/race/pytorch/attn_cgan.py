"""The networks of gaxn/models/attn_cgan.py in PyTorch.

The constructors take the fields of the Flax modules, and the sizes that Flax infers.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.race.pytorch.layers import (
    BatchNorm,
    Conv,
    Dense,
    Embed,
    LabelMap,
    ModulatedBatchNorm,
    Pass,
    Projection,
    SelfAttention,
    StridedConvolution,
    TransposedConvolution,
    add,
    append_embedding,
    coordinates,
    flatten,
    leaky_relu,
    normalize,
    to_map,
)


class Generator(nn.Module):
    """Latent [batch, latent_size] and label [batch] -> image in [-1, 1]."""

    def __init__(
        self,
        latent_size: int,
        size: int,
        channels: int,
        classes: int | None,
        widths: tuple[int, ...],
        attention_at: tuple[int, ...],
        heads: int,
        attention_pool: int,
        embedding: int,
        spectral_attention: bool,
        modulated: bool,
        coordinates: bool,
    ):
        super().__init__()
        self.start = resolution = size >> len(widths)
        inputs = latent_size + embedding if classes else latent_size
        condition = inputs if modulated else 0
        self.Embed_0 = Embed(classes, embedding) if classes else None
        self.Dense_0 = Dense(inputs, resolution**2 * widths[0], bias=False)
        # In lists: an attribute that is a module would be a submodule of a second name.
        self.first, self.blocks = [add_norm(self, 0, widths[0], condition)], []
        for index, (before, width) in enumerate(zip((widths[0], *widths), widths, strict=False)):
            upsample = TransposedConvolution(before, width)
            add(self, f"TransposedConvolution_{index}", upsample)
            place = CoordinateConvolution(resolution, width) if coordinates else None
            resolution *= 2
            attention = None
            if resolution in attention_at:
                attention = SelfAttention(width, heads, attention_pool, spectral_attention)
            self.blocks.append(
                Doubling(
                    upsample,
                    add(self, f"place_{resolution}", place),
                    add_norm(self, index + 1, width, condition),
                    add(self, f"attention_{resolution}", attention),
                )
            )
        self.Conv_0 = Conv(widths[-1], channels, 3)

    def forward(self, latents: Tensor, labels: Tensor | None, mode: Pass) -> Tensor:
        condition = append_embedding(latents, self.Embed_0, labels, mode)
        x = to_map(self.Dense_0(condition, mode), self.start)
        x = F.relu(normalize(*self.first, x, condition, mode), inplace=True)
        for block in self.blocks:
            x = block.upsample(x, mode)
            if block.place is not None:
                x = x + block.place(mode)
            x = F.relu(normalize(block.norm, x, condition, mode), inplace=True)
            if block.attention is not None:
                x = block.attention(x, mode)
        return torch.tanh(self.Conv_0(x, mode))


class Doubling(NamedTuple):
    """The layers of a block; those that it lacks are None."""

    upsample: TransposedConvolution
    place: "CoordinateConvolution | None"
    norm: BatchNorm | ModulatedBatchNorm
    attention: SelfAttention | None


class CoordinateConvolution(TransposedConvolution):
    """The convolution of a map of coordinates, for all examples at once."""

    def __init__(self, size: int, outputs: int):
        super().__init__(2, outputs)
        self.register_buffer("grid", coordinates(size), persistent=False)

    def forward(self, mode: Pass) -> Tensor:
        return super().forward(self.grid, mode)


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
        hidden: int,
        projection: bool,
        spectral_norm: bool,
    ):
        super().__init__()
        has_map, has_projection = bool(classes) and not projection, bool(classes) and projection
        self.LabelMap_0 = LabelMap(classes, size) if has_map else None
        self.blocks = []
        before = channels + has_map
        for index, width in enumerate(widths):
            convolution = StridedConvolution(before, width, spectral=spectral_norm)
            add(self, f"StridedConvolution_{index}", convolution)
            size, before, attention = -(-size // 2), width, None
            if size in attention_at:
                attention = SelfAttention(width, heads, attention_pool, spectral_norm)
            self.blocks.append((convolution, add(self, f"attention_{size}", attention)))
        features = size**2 * before
        if hidden:
            self.Dense_0 = Dense(features, hidden, spectral=spectral_norm)
            self.Dense_1 = Dense(hidden, 1, spectral=spectral_norm)
            features = hidden
        else:
            self.Dense_0 = Dense(features, 1, spectral=spectral_norm)
        self.hidden = hidden
        self.Projection_0 = Projection(classes, features, spectral_norm) if has_projection else None

    def forward(self, images: Tensor, labels: Tensor | None, mode: Pass) -> Tensor:
        x = images
        if self.LabelMap_0 is not None:
            x = self.LabelMap_0(x, labels, mode)
        for convolution, attention in self.blocks:
            x = leaky_relu(convolution(x, mode), mode)
            if attention is not None:
                x = attention(x, mode)
        features = flatten(x)
        if self.hidden:
            features = leaky_relu(self.Dense_0(features, mode), mode)
            logits = self.Dense_1(features, mode)[:, 0]
        else:
            logits = self.Dense_0(features, mode)[:, 0]
        if self.Projection_0 is not None:
            logits = logits + self.Projection_0(features, labels, mode)
        return logits


def add_norm(
    network: nn.Module, index: int, channels: int, condition: int
) -> BatchNorm | ModulatedBatchNorm:
    """Adds a BatchNorm, modulated by a condition of that many features unless they are 0."""
    norm = ModulatedBatchNorm(channels, condition) if condition else BatchNorm(channels)
    return add(network, f"{type(norm).__name__}_{index}", norm)
