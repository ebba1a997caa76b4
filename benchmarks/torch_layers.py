"""The layers of gaxn/nn that torch_attn_cgan.py needs, in PyTorch.

Tensors are [batch, channels, height, width] in channels_last memory, so that the permutations to
[batch, height, width, channels] and back copy nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


class SelfAttention(nn.Module):
    """y = gamma * o(softmax(q k^T) v) + x, keys and values max-pooled by `pool`."""

    def __init__(self, channels: int, heads: int, pool: int, spectral_norm: bool):
        super().__init__()
        self.heads, self.pool = heads, pool
        narrow = max(channels // 8, heads)
        self.query = normalize(spectral_norm, nn.Linear(channels, narrow, bias=False))
        self.key = normalize(spectral_norm, nn.Linear(channels, narrow, bias=False))
        self.value = normalize(spectral_norm, nn.Linear(channels, channels, bias=False))
        self.output = normalize(spectral_norm, nn.Linear(channels, channels, bias=False))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)
        query = self._split(self.query(pixels))
        key = self._split(self._max_pool(self.key(pixels)))
        value = self._split(self._max_pool(self.value(pixels)))
        weights = torch.softmax(query @ key.transpose(2, 3), dim=-1)
        attended = (weights @ value).transpose(1, 2).reshape(pixels.shape)
        return (self.gamma * self.output(attended) + pixels).permute(0, 3, 1, 2)

    def _max_pool(self, x: Tensor) -> Tensor:
        if self.pool == 1:
            return x
        return F.max_pool2d(x.permute(0, 3, 1, 2), self.pool).permute(0, 2, 3, 1)

    def _split(self, x: Tensor) -> Tensor:
        """[batch, height, width, channels] -> [batch, heads, positions, channels of a head]."""
        return x.reshape(len(x), -1, self.heads, x.shape[-1] // self.heads).transpose(1, 2)


class Normalization(nn.Module):
    """BatchNorm; with a condition, its gain and bias are linear functions of it."""

    def __init__(self, channels: int, condition: int | None):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.gain = nn.Linear(condition, channels) if condition else None
        self.bias = nn.Linear(condition, channels) if condition else None

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = self.norm(x)
        if self.gain is None:
            return x
        gain, bias = 1 + self.gain(condition), self.bias(condition)
        return x * gain[:, :, None, None] + bias[:, :, None, None]


class CoordinateConvolution(nn.Module):
    """A convolution of a square map, plus one of the map's coordinates in [-1, 1]."""

    def __init__(self, convolution: nn.Module, of_coordinates: nn.Module, resolution: int):
        super().__init__()
        self.convolution, self.of_coordinates = convolution, of_coordinates
        line = torch.linspace(-1, 1, resolution)
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
        self.register_buffer("grid", grid.contiguous(memory_format=torch.channels_last))

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x) + self.of_coordinates(self.grid)


def append_channels(x: Tensor, channels: Tensor) -> Tensor:
    """Returns x with `channels`, [batch, height, width, more], as its last channels."""
    return torch.cat([x.permute(0, 2, 3, 1), channels], dim=-1).permute(0, 3, 1, 2)


def double(before: int, width: int, transposed: bool) -> nn.Module:
    """Returns a layer that doubles the resolution."""
    if transposed:
        return nn.ConvTranspose2d(before, width, 4, stride=2, padding=1, bias=False)
    convolution = nn.Conv2d(before, width, 3, padding=1, bias=False)
    return nn.Sequential(nn.Upsample(scale_factor=2), convolution)


def normalize(spectral_norm: bool, layer: nn.Module) -> nn.Module:
    """Returns the layer, spectrally normalized if so."""
    return parametrizations.spectral_norm(layer) if spectral_norm else layer
