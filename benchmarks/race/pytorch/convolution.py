"""Convolutions of one to three channels, whose gradients oneDNN is slow at on a CPU.

They are matrix products per pixel, with sums of neighbors (`fold`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

FEW = 3
"""Channels up to which these are faster."""


def to_few(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """Returns a convolution of stride 1, as the transpose of an unfolding."""
    batch, channels, height, width = x.shape
    taps = weight.flip(2, 3).permute(0, 2, 3, 1).reshape(-1, channels)
    products = taps @ x.permute(0, 2, 3, 1).reshape(batch, -1, channels).mT
    y = F.fold(products, (height, width), weight.shape[2:], padding=padding)
    return y if bias is None else y + bias[:, None, None]


class Halve(Function):
    """The convolution of stride 2, padded by one zero; differentiable any number of times.

    A convolution y is bilinear in image and kernel, and so are its two gradients; the derivatives
    of each are the two others.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, 2, 1)

    @staticmethod
    def setup_context(context: FunctionCtx, inputs: tuple, output: Tensor) -> None:
        context.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(context: FunctionCtx, y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = context.saved_tensors
        for_x, for_weight, for_bias = context.needs_input_grad
        return (
            Double.apply(y, weight, x.shape[2:]) if for_x else None,
            FilterGradient.apply(x, y, weight) if for_weight else None,
            y.sum((0, 2, 3)) if for_bias else None,
        )


class Double(Function):
    """The gradient of <y, Halve(x, weight)> in x, which has height and width `size`.

    It is the transposed convolution of y.
    """

    @staticmethod
    def forward(y: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
        rows = y.permute(0, 2, 3, 1).flatten(1, 2)
        products = weight.flatten(1).mT @ rows.mT
        return F.fold(products, size, weight.shape[2:], padding=1, stride=2)

    @staticmethod
    def setup_context(context: FunctionCtx, inputs: tuple, output: Tensor) -> None:
        context.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(context: FunctionCtx, x: Tensor) -> tuple[Tensor | None, ...]:
        y, weight = context.saved_tensors
        for_y, for_weight, _ = context.needs_input_grad
        return (
            Halve.apply(x, weight, None) if for_y else None,
            FilterGradient.apply(x, y, weight) if for_weight else None,
            None,
        )


class FilterGradient(Function):
    """The gradient of <y, Halve(x, weight)> in the kernel, which has the shape of `like`."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, like: Tensor) -> Tensor:
        _, gradient, _ = torch.ops.aten.convolution_backward(
            *(y, x, like, None, (2, 2), (1, 1), (1, 1), False, (0, 0), 1, (False, True, False))
        )
        return gradient

    @staticmethod
    def setup_context(context: FunctionCtx, inputs: tuple, output: Tensor) -> None:
        context.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(context: FunctionCtx, weight: Tensor) -> tuple[Tensor | None, ...]:
        x, y = context.saved_tensors
        for_x, for_y, _ = context.needs_input_grad
        return (
            Double.apply(y, weight, x.shape[2:]) if for_x else None,
            Halve.apply(x, weight, None) if for_y else None,
            None,
        )
