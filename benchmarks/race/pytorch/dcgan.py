"""The networks of gaxn/models/dcgan.py in PyTorch.

The constructors take the fields of the Flax modules, and the sizes that Flax infers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.race.pytorch.layers import (
    BatchNorm,
    Conv,
    Dense,
    Embed,
    LabelMap,
    Pass,
    StridedConvolution,
    TransposedConvolution,
    add,
    append_embedding,
    flatten,
    leaky_relu,
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
        embedding: int,
        first: int,
    ):
        super().__init__()
        before = first or widths[0]
        self.start = size >> len(widths)
        inputs = latent_size + embedding if classes else latent_size
        self.Embed_0 = Embed(classes, embedding) if classes else None
        self.Dense_0 = Dense(inputs, self.start**2 * before, bias=False)
        self.BatchNorm_0 = BatchNorm(before)
        self.blocks = []
        for index, width in enumerate(widths):
            upsample = TransposedConvolution(before, width)
            add(self, f"TransposedConvolution_{index}", upsample)
            self.blocks.append((upsample, add(self, f"BatchNorm_{index + 1}", BatchNorm(width))))
            before = width
        self.Conv_0 = Conv(before, channels, 3)

    def forward(self, latents: Tensor, labels: Tensor | None, mode: Pass) -> Tensor:
        x = append_embedding(latents, self.Embed_0, labels, mode)
        x = to_map(self.Dense_0(x, mode), self.start)
        x = F.relu(self.BatchNorm_0(x, mode), inplace=True)
        for upsample, norm in self.blocks:
            x = F.relu(norm(upsample(x, mode), mode), inplace=True)
        return torch.tanh(self.Conv_0(x, mode))


class Discriminator(nn.Module):
    """Image in [-1, 1] and label [batch] -> logit [batch]."""

    def __init__(
        self, size: int, channels: int, classes: int | None, widths: tuple[int, ...], hidden: int
    ):
        super().__init__()
        self.LabelMap_0 = LabelMap(classes, size) if classes else None
        self.convolutions = []
        before = channels + bool(classes)
        for index, width in enumerate(widths):
            convolution = StridedConvolution(before, width)
            self.convolutions.append(add(self, f"StridedConvolution_{index}", convolution))
            size, before = -(-size // 2), width
        features = size**2 * before
        self.Dense_0 = Dense(features, hidden or 1)
        self.Dense_1 = Dense(hidden, 1) if hidden else None

    def forward(self, images: Tensor, labels: Tensor | None, mode: Pass) -> Tensor:
        x = images
        if self.LabelMap_0 is not None:
            x = self.LabelMap_0(x, labels, mode)
        for convolution in self.convolutions:
            x = leaky_relu(convolution(x, mode), mode)
        x = self.Dense_0(flatten(x), mode)
        if self.Dense_1 is not None:
            x = self.Dense_1(leaky_relu(x, mode), mode)
        return x[:, 0]
