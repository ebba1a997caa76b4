"""The networks of `gaxn.models.attn_cgan` in PyTorch: the other side of train_step.py.

The constructors take the fields of the Flax modules, and what Flax infers. Tensors are
[batch, channels, height, width] in channels_last memory, so the permutations to and from
channels last move nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as normalised


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
    ):
        super().__init__()
        self.start = size >> len(widths)
        self.embed = nn.Embedding(classes, embedding) if classes else None
        inputs = latent + embedding if classes else latent
        self.dense = nn.Linear(inputs, self.start**2 * widths[0], bias=False)
        layers = [nn.BatchNorm2d(widths[0]), nn.ReLU()]
        resolution, before = self.start, widths[0]
        for width in widths:
            resolution *= 2
            layers += _doubling(before, width, transposed)
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            if resolution in attention_at:
                layers.append(SelfAttention(width, heads, attention_pool, spectral_norm=False))
            before = width
        self.body = nn.Sequential(*layers, nn.Conv2d(before, channels, 3, padding=1), nn.Tanh())

    def forward(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        x = latents
        if self.embed is not None:
            x = torch.cat([x, self.embed(labels)], dim=1)
        x = self.dense(x).reshape(len(x), self.start, self.start, -1)
        return self.body(x.permute(0, 3, 1, 2))


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
            layers += [_wrap(spectral_norm, halving), nn.LeakyReLU(0.2)]
            if resolution in attention_at:
                layers.append(SelfAttention(width, heads, attention_pool, spectral_norm))
            before = width
        self.body = nn.Sequential(*layers)
        features = resolution**2 * before
        self.dense = _wrap(spectral_norm, nn.Linear(features, 1))
        self.projection = (
            _wrap(spectral_norm, nn.Embedding(classes, features)) if by_projection else None
        )

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        x = images
        if self.label_map is not None:
            plane = self.label_map(labels).reshape(len(x), 1, *x.shape[2:])
            # A map has one channel, of which no memory format can be told.
            x = torch.cat([x, plane], dim=1).contiguous(memory_format=torch.channels_last)
        features = self.body(x).permute(0, 2, 3, 1).flatten(1)
        logits = self.dense(features)[:, 0]
        if self.projection is not None:
            logits = logits + (self.projection(labels) * features).sum(1)
        return logits


class SelfAttention(nn.Module):
    """y = gamma * o(softmax(q k^T) v) + x, keys and values max-pooled by `pool`."""

    def __init__(self, channels: int, heads: int, pool: int, spectral_norm: bool):
        super().__init__()
        self.heads, self.pool = heads, pool
        narrow = max(channels // 8, heads)
        self.query = _wrap(spectral_norm, nn.Linear(channels, narrow, bias=False))
        self.key = _wrap(spectral_norm, nn.Linear(channels, narrow, bias=False))
        self.value = _wrap(spectral_norm, nn.Linear(channels, channels, bias=False))
        self.output = _wrap(spectral_norm, nn.Linear(channels, channels, bias=False))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)
        query = self._split(self.query(pixels))
        key = self._split(self._pooled(self.key(pixels)))
        value = self._split(self._pooled(self.value(pixels)))
        weights = torch.softmax(query @ key.transpose(2, 3), dim=-1)
        attended = (weights @ value).transpose(1, 2).reshape(pixels.shape)
        return (self.gamma * self.output(attended) + pixels).permute(0, 3, 1, 2)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == 1:
            return x
        return F.max_pool2d(x.permute(0, 3, 1, 2), self.pool).permute(0, 2, 3, 1)

    def _split(self, x: Tensor) -> Tensor:
        """[batch, height, width, channels] -> [batch, heads, positions, channels of a head]."""
        return x.reshape(len(x), -1, self.heads, x.shape[-1] // self.heads).transpose(1, 2)


def _doubling(before: int, width: int, transposed: bool) -> list[nn.Module]:
    if transposed:
        return [nn.ConvTranspose2d(before, width, 4, stride=2, padding=1, bias=False)]
    return [nn.Upsample(scale_factor=2), nn.Conv2d(before, width, 3, padding=1, bias=False)]


def _wrap(normalise: bool, layer: nn.Module) -> nn.Module:
    return normalised(layer) if normalise else layer
