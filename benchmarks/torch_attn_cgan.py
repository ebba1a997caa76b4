"""The networks of `gaxn.models.attn_cgan` in PyTorch: the other side of train_step.py.

The constructors take the fields of the Flax modules, and what Flax infers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_layers import Normalisation, Placed, SelfAttention, append, doubling, wrap


class Generator(nn.Module):
    """Latent [batch, latent] and label [batch] -> image in [-1, 1]."""

    def __init__(
        self,
        latent: int,
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
        inputs = latent + embedding if classes else latent
        condition = inputs if modulated else None
        self.start = resolution
        self.embed = nn.Embedding(classes, embedding) if classes else None
        self.dense = nn.Linear(inputs, resolution**2 * before, bias=False)
        self.first = Normalisation(before, condition)
        self.blocks = nn.ModuleList()
        for width in widths:
            convolution = doubling(before, width, transposed)
            if coordinates:
                convolution = Placed(convolution, doubling(2, width, transposed), resolution)
            resolution *= 2
            attends = resolution in attention_at
            attention = SelfAttention(width, heads, attention_pool, spectral_attention)
            block = {
                "upsample": convolution,
                "norm": Normalisation(width, condition),
                "attention": attention if attends else nn.Identity(),
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
        by_map, by_projection = bool(classes) and not projection, bool(classes) and projection
        self.label_map = nn.Embedding(classes, size**2) if by_map else None
        layers = []
        resolution, before = size, channels + by_map
        for width in widths:
            resolution //= 2
            halving = nn.Conv2d(before, width, 4, stride=2, padding=1)
            layers += [wrap(spectral_norm, halving), nn.LeakyReLU(0.2)]
            if resolution in attention_at:
                layers.append(SelfAttention(width, heads, attention_pool, spectral_norm))
            before = width
        self.body = nn.Sequential(*layers)
        flat = resolution**2 * before
        self.hidden = wrap(spectral_norm, nn.Linear(flat, hidden)) if hidden else None
        features = hidden or flat
        self.dense = wrap(spectral_norm, nn.Linear(features, 1))
        self.projection = (
            wrap(spectral_norm, nn.Embedding(classes, features)) if by_projection else None
        )

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        x = images
        if self.label_map is not None:
            x = append(x, self.label_map(labels).reshape(len(x), *x.shape[2:], 1))
        features = self.body(x).permute(0, 2, 3, 1).flatten(1)
        if self.hidden is not None:
            features = F.leaky_relu(self.hidden(features), 0.2)
        logits = self.dense(features)[:, 0]
        if self.projection is not None:
            logits = logits + (self.projection(labels) * features).sum(1)
        return logits
