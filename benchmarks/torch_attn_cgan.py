"""The networks of `gaxn.models.attn_cgan` in PyTorch, for train_step.py.

The constructors take the fields of the Flax modules, and the sizes that Flax infers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_layers import (
    CoordinateConvolution,
    Normalization,
    SelfAttention,
    append_channels,
    double,
    normalize,
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
        transposed: bool,
        spectral_attention: bool,
        modulated: bool,
        coordinates: bool,
    ):
        super().__init__()
        resolution, before = size >> len(widths), widths[0]
        inputs = latent_size + embedding if classes else latent_size
        condition = inputs if modulated else None
        self.start = resolution
        self.embed = nn.Embedding(classes, embedding) if classes else None
        self.dense = nn.Linear(inputs, resolution**2 * before, bias=False)
        self.first = Normalization(before, condition)
        self.blocks = nn.ModuleList()
        for width in widths:
            convolution = double(before, width, transposed)
            if coordinates:
                convolution = CoordinateConvolution(
                    convolution, double(2, width, transposed), resolution
                )
            resolution *= 2
            attention = nn.Identity()
            if resolution in attention_at:
                attention = SelfAttention(width, heads, attention_pool, spectral_attention)
            block = {
                "upsample": convolution,
                "norm": Normalization(width, condition),
                "attention": attention,
            }
            self.blocks.append(nn.ModuleDict(block))
            before = width
        self.last = nn.Sequential(nn.Conv2d(before, channels, 3, padding=1), nn.Tanh())

    def forward(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        condition = latents
        if self.embed is not None:
            condition = torch.cat([latents, self.embed(labels)], dim=1)
        x = self.dense(condition).reshape(len(latents), self.start, self.start, -1)
        x = F.relu(self.first(x.permute(0, 3, 1, 2), condition))
        for block in self.blocks:
            x = F.relu(block["norm"](block["upsample"](x), condition))
            x = block["attention"](x)
        return self.last(x)


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
        self.label_map = nn.Embedding(classes, size**2) if has_map else None
        layers = []
        resolution, before = size, channels + has_map
        for width in widths:
            resolution //= 2
            convolution = nn.Conv2d(before, width, 4, stride=2, padding=1)
            layers += [normalize(spectral_norm, convolution), nn.LeakyReLU(0.2)]
            if resolution in attention_at:
                layers.append(SelfAttention(width, heads, attention_pool, spectral_norm))
            before = width
        self.body = nn.Sequential(*layers)
        flat = resolution**2 * before
        self.hidden = normalize(spectral_norm, nn.Linear(flat, hidden)) if hidden else None
        features = hidden or flat
        self.dense = normalize(spectral_norm, nn.Linear(features, 1))
        self.projection = (
            normalize(spectral_norm, nn.Embedding(classes, features)) if has_projection else None
        )

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        x = images
        if self.label_map is not None:
            x = append_channels(x, self.label_map(labels).reshape(len(x), *x.shape[2:], 1))
        features = self.body(x).permute(0, 2, 3, 1).flatten(1)
        if self.hidden is not None:
            features = F.leaky_relu(self.hidden(features), 0.2)
        logits = self.dense(features)[:, 0]
        if self.projection is not None:
            logits = logits + (self.projection(labels) * features).sum(1)
        return logits
