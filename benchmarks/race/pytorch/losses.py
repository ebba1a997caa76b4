"""Adversarial losses and gradient penalties of gaxn/objectives in PyTorch."""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Loss(NamedTuple):
    """An adversarial loss: logits (real, fake) -> values per example.

    Attributes:
        discriminator: the discriminator's loss.
        generator: the generator's loss.
        paired: whether the generator's loss depends on the real logits.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor | None, Tensor], Tensor]
    paired: bool = False


def non_saturating(real_target: float = 1.0) -> Loss:
    """Non-saturating loss, with one-sided label smoothing if the target is below 1."""

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        # softplus(real) = softplus(-real) + real.
        return F.softplus(-real) + (1 - real_target) * real + F.softplus(fake)

    return Loss(discriminator, lambda real, fake: F.softplus(-fake))


def hinge() -> Loss:
    """Hinge loss."""
    return Loss(
        lambda real, fake: F.relu(1 - real) + F.relu(1 + fake),
        lambda real, fake: -fake,
    )


def wasserstein() -> Loss:
    """Wasserstein loss."""
    return Loss(lambda real, fake: fake - real, lambda real, fake: -fake)


def relativistic() -> Loss:
    """Relativistic pairing loss."""
    return Loss(
        lambda real, fake: F.softplus(fake - real),
        lambda real, fake: F.softplus(real - fake),
        paired=True,
    )


LOSSES = {make.__name__: make for make in (non_saturating, hinge, wasserstein, relativistic)}


def square_norm(gradient: Tensor) -> Tensor:
    """Returns the squared Euclidean norm of each example's gradient."""
    return gradient.square().flatten(1).sum(1)
