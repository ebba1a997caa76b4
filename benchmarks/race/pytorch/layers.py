"""The layers of gaxn/nn in PyTorch.

Maps are [batch, channels, height, width] in channels_last memory, so that the permutations to
[batch, height, width, channels] and back copy nothing. Submodules and parameters have the names of
Flax's, which `weights` relies on: a layer of class `Dense` is `Dense_0`, `Dense_1`, ... of its
parent, or has the name that the Flax module has.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.race.pytorch import convolution

EPSILON = 1e-12


class Pass(NamedTuple):
    """One pass through a network.

    Attributes:
        stores: whether the layers store statistics: running means and variances of BatchNorm, and
            the vectors of spectral norm.
        iterations: power iterations of spectral norm, from the stored vectors.
        twice: whether the gradient in the input is differentiated again.
    """

    stores: bool = True
    iterations: int = 1
    twice: bool = False


class Kernel(nn.Module):
    """A layer with a kernel, which is spectrally normalized if wanted (Miyato et al., 2018).

    Attributes:
        AXES: the axes of `weight` in the order of Flax's kernel, which has the outputs last.
        weight: the kernel.
        bias: or None.
        u: the vector of the power iteration, float [outputs], of a normalized kernel.
        dtype: of the products; None for that of the parameters.
    """

    AXES: tuple[int, ...]

    def __init__(
        self, shape: tuple[int, ...], bias: bool, spectral: bool, dtype: torch.dtype | None
    ):
        super().__init__()
        kernel = torch.empty(shape)
        outputs = shape[self.AXES[-1]]
        self.weight = nn.Parameter(
            nn.init.normal_(kernel, std=(2 * outputs / kernel.numel()) ** 0.5)
        )
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.spectral, self.dtype = spectral, dtype
        if spectral:
            self.register_buffer("u", torch.randn(outputs))

    def parameters_of(self, mode: Pass) -> tuple[Tensor, Tensor | None]:
        """Returns the kernel, normalized if wanted, and the bias, in the type of the products."""
        weight = self._normalized(mode) if self.spectral else self.weight
        if self.dtype is None:
            return weight, self.bias
        return weight.to(self.dtype), None if self.bias is None else self.bias.to(self.dtype)

    def to_dtype(self, x: Tensor) -> Tensor:
        """Returns x in the type of the products."""
        return x if self.dtype is None else x.to(self.dtype)

    def _normalized(self, mode: Pass) -> Tensor:
        """Returns the kernel divided by the estimate of its largest singular value."""
        # A view in channels_last memory.
        matrix = self.weight.permute(self.AXES).flatten(0, -2)
        with torch.no_grad():
            u = self.u
            for _ in range(mode.iterations):
                v = F.normalize(matrix @ u, dim=0, eps=EPSILON)
                u = F.normalize(v @ matrix, dim=0, eps=EPSILON)
            if mode.stores:
                self.u.copy_(u)
        sigma = torch.dot(v @ matrix, u)
        return self.weight / sigma


class Dense(Kernel):
    """A linear function of the last axis."""

    AXES = (1, 0)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        spectral: bool = False,
        dtype: torch.dtype | None = None,
    ):
        super().__init__((outputs, inputs), bias, spectral, dtype)

    def forward(self, x: Tensor, mode: Pass) -> Tensor:
        return F.linear(self.to_dtype(x), *self.parameters_of(mode))


class Conv(Kernel):
    """A convolution of stride 1, padded by zeros to the size of the input by default."""

    AXES = (2, 3, 1, 0)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        side: int,
        padding: int | None = None,
        bias: bool = True,
        spectral: bool = False,
        dtype: torch.dtype | None = None,
    ):
        super().__init__((outputs, inputs, side, side), bias, spectral, dtype)
        self.padding = side // 2 if padding is None else padding

    def forward(self, x: Tensor, mode: Pass) -> Tensor:
        weight, bias = self.parameters_of(mode)
        x = self.to_dtype(x)
        if has_few(weight.shape[0], x, mode):
            return convolution.to_few(x, weight, bias, self.padding)
        return F.conv2d(x, weight, bias, 1, self.padding)


class StridedConvolution(Kernel):
    """Halves height and width; an odd side is padded by one zero at its end."""

    AXES = (2, 3, 1, 0)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        side: int = 4,
        spectral: bool = False,
        dtype: torch.dtype | None = None,
    ):
        super().__init__((outputs, inputs, side, side), True, spectral, dtype)

    def forward(self, x: Tensor, mode: Pass) -> Tensor:
        height, width = x.shape[2:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2))
        weight, bias = self.parameters_of(mode)
        x = self.to_dtype(x)
        if has_few(weight.shape[1], x, mode):
            return convolution.Halve.apply(x, weight, bias)
        return F.conv2d(x, weight, bias, 2, 1)


class TransposedConvolution(Kernel):
    """Doubles height and width, without a bias."""

    AXES = (2, 3, 0, 1)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        side: int = 4,
        spectral: bool = False,
        dtype: torch.dtype | None = None,
    ):
        super().__init__((inputs, outputs, side, side), False, spectral, dtype)
        self.output_padding = side % 2

    def forward(self, x: Tensor, mode: Pass) -> Tensor:
        weight, _ = self.parameters_of(mode)
        x = self.to_dtype(x)
        if has_few(weight.shape[1], x, mode):
            size = (2 * x.shape[2], 2 * x.shape[3])
            return convolution.Double.apply(x, weight, size)
        return F.conv_transpose2d(x, weight, None, 2, 1, self.output_padding)


class Embed(Kernel):
    """A vector per class, or its product with a class's one-hot row: a kernel [classes, features].

    Attributes:
        AXES: as for every kernel.
    """

    AXES = (0, 1)

    def __init__(self, classes: int, features: int, spectral: bool = False):
        super().__init__((classes, features), False, spectral, None)

    def forward(self, labels: Tensor, mode: Pass) -> Tensor:
        weight, _ = self.parameters_of(mode)
        return F.embedding(labels, weight)


class LabelMap(nn.Module):
    """The label as one more channel of the image."""

    def __init__(self, classes: int, size: int):
        super().__init__()
        self.Embed_0 = Embed(classes, size**2)

    def forward(self, images: Tensor, labels: Tensor, mode: Pass) -> Tensor:
        batch, _, height, width = images.shape
        label_map = self.Embed_0(labels, mode).reshape(batch, height, width, 1)
        return torch.cat([images.permute(0, 2, 3, 1), label_map], dim=-1).permute(0, 3, 1, 2)


class Projection(nn.Module):
    """The label as a direction in feature space."""

    def __init__(self, classes: int, features: int, spectral: bool = False):
        super().__init__()
        self.Dense_0 = Embed(classes, features, spectral)

    def forward(self, features: Tensor, labels: Tensor, mode: Pass) -> Tensor:
        return (self.Dense_0(labels, mode) * features).sum(-1)


class BatchNorm(nn.Module):
    """Batch normalization by the statistics of the batch.

    Running statistics get a share of 0.1 of each new batch, as in gaxn; its variances lack the
    factor n / (n - 1) of PyTorch's.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))

    def forward(self, x: Tensor, mode: Pass) -> Tensor:
        running = (self.mean, self.var) if mode.stores else (None, None)
        return F.batch_norm(x, *running, self.scale, self.bias, True, 0.1, 1e-5)


class ModulatedBatchNorm(nn.Module):
    """Batch normalization whose gain and bias are linear functions of a condition."""

    def __init__(self, channels: int, condition: int, dtype: torch.dtype | None = None):
        super().__init__()
        self.gain = Dense(condition, channels, dtype=dtype)
        self.bias = Dense(condition, channels, dtype=dtype)
        self.BatchNorm_0 = BatchNorm(channels)

    def forward(self, x: Tensor, condition: Tensor, mode: Pass) -> Tensor:
        gain, bias = 1 + self.gain(condition, mode), self.bias(condition, mode)
        x = self.BatchNorm_0(x, mode)
        return torch.addcmul(bias[:, :, None, None], x, gain[:, :, None, None])


class LayerNorm(nn.Module):
    """Layer normalization of the last axis, with a gain and bias of each feature if `affine`."""

    def __init__(self, features: int, affine: bool = True):
        super().__init__()
        self.features = features
        self.scale = nn.Parameter(torch.ones(features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(features)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.features,), self.scale, self.bias, 1e-6)


class SelfAttention(nn.Module):
    """Self-attention y = gamma o(softmax(q k^T) v) + x, keys and values max-pooled by `pool`."""

    def __init__(
        self,
        channels: int,
        heads: int = 1,
        pool: int = 1,
        spectral: bool = False,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.heads, self.pool = heads, pool
        narrow = max(channels // 8, heads)
        # Query, key, value and output.
        self.Dense_0 = Dense(channels, narrow, False, spectral, dtype)
        self.Dense_1 = Dense(channels, narrow, False, spectral, dtype)
        self.Dense_2 = Dense(channels, channels, False, spectral, dtype)
        self.Dense_3 = Dense(channels, channels, False, spectral, dtype)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, mode: Pass) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)
        query = self._split(self.Dense_0(pixels, mode))
        key = self._split(self._max_pool(self.Dense_1(pixels, mode)))
        value = self._split(self._max_pool(self.Dense_2(pixels, mode)))
        attended = attend(query, key, value, mode).transpose(1, 2).reshape(pixels.shape)
        output = self.Dense_3(attended, mode)
        return torch.addcmul(pixels, output, self.gamma.to(output.dtype)).permute(0, 3, 1, 2)

    def _max_pool(self, x: Tensor) -> Tensor:
        if self.pool == 1:
            return x
        return F.max_pool2d(x.permute(0, 3, 1, 2), self.pool).permute(0, 2, 3, 1)

    def _split(self, x: Tensor) -> Tensor:
        """[batch, height, width, channels] -> [batch, heads, positions, channels of a head]."""
        return x.reshape(len(x), -1, self.heads, x.shape[-1] // self.heads).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, mode: Pass, scale: float = 1.0) -> Tensor:
    """Returns softmax(scale q k^T) v; all are [batch, heads, positions, features]."""
    fused = query.is_cuda or query.shape == value.shape
    if fused and not mode.twice:
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    scores = query @ key.transpose(2, 3)
    if scale != 1:
        scores = scores * scale
    return torch.softmax(scores, -1, torch.float32).to(value.dtype) @ value


def add(network: nn.Module, name: str, layer: nn.Module | None) -> nn.Module | None:
    """Gives a network a layer of that name, if there is one; returns the layer."""
    network.add_module(name, layer)
    return layer


def normalize(
    norm: BatchNorm | ModulatedBatchNorm, x: Tensor, condition: Tensor | None, mode: Pass
) -> Tensor:
    """Applies BatchNorm, modulated by the condition if the layer takes one."""
    if isinstance(norm, ModulatedBatchNorm):
        return norm(x, condition, mode)
    return norm(x, mode)


def leaky_relu(x: Tensor, mode: Pass) -> Tensor:
    """Applies LeakyReLU 0.2; x may be overwritten."""
    return F.leaky_relu(x, 0.2, inplace=not mode.twice)


def to_map(x: Tensor, size: int) -> Tensor:
    """[batch, size * size * channels] -> a map, [batch, channels, size, size]."""
    return x.reshape(len(x), size, size, -1).permute(0, 3, 1, 2)


def flatten(x: Tensor) -> Tensor:
    """Inverts `to_map`."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1)


def has_few(channels: int, x: Tensor, mode: Pass) -> bool:
    """Returns whether a convolution is one of those that oneDNN is slow at."""
    # torch.compile computes wrong second derivatives of an autograd.Function.
    wrong = mode.twice and torch.compiler.is_compiling()
    return channels <= convolution.FEW and not x.is_cuda and not wrong


def instance_norm(x: Tensor) -> Tensor:
    """Normalizes each channel of each example to mean 0 and variance 1."""
    return F.instance_norm(x, eps=1e-5)


def append_embedding(latents: Tensor, embed: Embed | None, labels: Tensor | None, mode: Pass):
    """Appends the vectors of the labels; without classes, returns the latents."""
    if embed is None:
        return latents
    return torch.cat([latents, embed(labels, mode)], dim=1)


def coordinates(size: int) -> Tensor:
    """Returns y and x, from -1 to 1 between the outer pixel centers: [1, 2, size, size]."""
    line = torch.linspace(-1, 1, size)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
    return grid.contiguous(memory_format=torch.channels_last)


def repeat(x: Tensor) -> Tensor:
    """Doubles height and width by repetition."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def average_pool(x: Tensor) -> Tensor:
    """Averages tiles of 2x2."""
    return F.avg_pool2d(x, 2)
