"""The networks of gaxn/models/mlp.py in PyTorch, for all members of a population at once.

Activations are [members, features, batch], so that a layer of all members is one batched matrix
product, and BatchNorm of all of them that of one example with members * features channels. All
parameters have a leading axis of members, as in gaxn.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from benchmarks.race.pytorch.layers import Kernel, Pass, add

TINY = 1e-30
"""Pieces that differ by less are equal."""


class Dense(Kernel):
    """A linear function of the features, another one for each member."""

    AXES = (0, 2, 1)

    def __init__(self, members: int, inputs: int, outputs: int, bias: bool = True):
        super().__init__((members, outputs, inputs), False, False, None)
        self.bias = nn.Parameter(torch.zeros(members, outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return torch.bmm(self.weight, x)
        return torch.baddbmm(self.bias[:, :, None], self.weight, x)


class BatchNorm(nn.Module):
    """Batch normalization by the statistics of each member's batch."""

    def __init__(self, members: int, features: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(members, features))
        self.bias = nn.Parameter(torch.zeros(members, features))
        self.register_buffer("mean", torch.zeros(members, features))
        self.register_buffer("var", torch.ones(members, features))

    def forward(self, x: Tensor, mode: Pass) -> Tensor:
        running = (self.mean.view(-1), self.var.view(-1)) if mode.stores else (None, None)
        affine = self.scale.view(-1), self.bias.view(-1)
        y = F.batch_norm(x.flatten(0, 1)[None], *running, *affine, True, 0.1, 1e-5)
        return y.view(x.shape)


class Maxout(torch.autograd.Function):
    """The maximum over axis 1, whose gradient goes to the pieces that are equal to it.

    That of `amax` takes three times as long on a CPU, because it counts the equal ones.
    """

    @staticmethod
    def forward(context: FunctionCtx, x: Tensor) -> Tensor:
        largest = x.amax(1, keepdim=True)
        context.save_for_backward(x, largest)
        return largest.squeeze(1)

    @staticmethod
    def backward(context: FunctionCtx, gradient: Tensor) -> Tensor:
        x, largest = context.saved_tensors
        # A mask and its product, in one kernel.
        return torch.ops.aten.threshold_backward(
            gradient.unsqueeze(1).expand_as(x), x - largest, -TINY
        )


class Generator(nn.Module):
    """Latents [members, latent_size, batch] -> points [members, features, batch]."""

    def __init__(self, members: int, latent_size: int, features: int, widths: tuple[int, ...]):
        super().__init__()
        self.layers = []
        before = latent_size
        for index, width in enumerate(widths):
            dense, norm = Dense(members, before, width, bias=False), BatchNorm(members, width)
            add(self, f"Dense_{index}", dense)
            self.layers.append((dense, add(self, f"BatchNorm_{index}", norm)))
            before = width
        self.last = [add(self, f"Dense_{len(widths)}", Dense(members, before, features))]

    def forward(self, latents: Tensor, labels: None, mode: Pass) -> Tensor:
        x = latents
        for dense, norm in self.layers:
            x = F.relu(norm(dense(x), mode), inplace=True)
        (last,) = self.last
        return last(x)


class Discriminator(nn.Module):
    """Points [members, features, batch] -> logits [members, batch]."""

    def __init__(self, members: int, features: int, widths: tuple[int, ...], pieces: int):
        super().__init__()
        self.members, self.pieces, self.layers = members, pieces, []
        before = features
        for index, width in enumerate(widths):
            dense = Dense(members, before, width * pieces)
            self.layers.append(add(self, f"Dense_{index}", dense))
            before = width
        self.last = [add(self, f"Dense_{len(widths)}", Dense(members, before, 1))]

    def forward(self, points: Tensor, labels: None, mode: Pass) -> Tensor:
        x = points
        for dense in self.layers:
            y = dense(x)
            x = Maxout.apply(y.view(self.members, self.pieces, -1, y.shape[-1]))
        (last,) = self.last
        return last(x)[:, 0]
