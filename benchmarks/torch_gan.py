"""The train step of `gaxn.gans.gan` in PyTorch eager, for train_step.py."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR


class Loss(NamedTuple):
    """A loss of gaxn.objectives.losses: logits (real, fake) -> values per example.

    Attributes:
        discriminator: the discriminator's loss.
        generator: the generator's loss.
        paired: whether the generator's loss depends on the real logits.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor | None], Tensor]
    paired: bool = False


LOSSES = {
    "relativistic": Loss(
        lambda real, fake: F.softplus(fake - real),
        lambda real, fake: F.softplus(real - fake),
        paired=True,
    ),
    "hinge": Loss(lambda real, fake: F.relu(1 - real) + F.relu(1 + fake), lambda real, fake: -fake),
    "non_saturating": Loss(
        lambda real, fake: F.softplus(-real) + F.softplus(fake),
        lambda real, fake: F.softplus(-fake),
    ),
    "wasserstein": Loss(lambda real, fake: fake - real, lambda real, fake: -fake),
}


ADAM_OPTIONS = ("learning_rate", "b1", "b2")


def make_adam(
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: Sequence[tuple[int, float]],
    name: str = "adam",
    b1: float = 0.9,
    b2: float = 0.999,
) -> LambdaLR:
    """Returns Adam with its learning rate in lines between points, (step, rate)."""
    steps, rates = zip(*learning_rate, strict=True)
    adam = Adam(parameters, 1.0, (b1, b2), fused=True)
    return LambdaLR(adam, lambda step: float(np.interp(step, steps, rates)))


class Trainer:
    """Two players, their optimizers and the running mean of the generator.

    Args:
        generator: (latents, labels) -> images.
        discriminator: (images, labels) -> logits.
        loss: one of `LOSSES`.
        latent_size: of the latents, drawn from N(0, I).
        r1: weight of the penalty; 0 for none.
        optimizers: options of `make_adam` by player.
        ema_decay: of the running mean, warmed up as in gaxn.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss,
        latent_size: int,
        r1: float,
        optimizers: Mapping[str, Mapping[str, Any]],
        ema_decay: float,
    ):
        channels_last = {"memory_format": torch.channels_last}
        self.generator = generator.to(**channels_last).train()
        self.discriminator = discriminator.to(**channels_last).train()
        self.ema = copy.deepcopy(self.generator).requires_grad_(False)
        self.loss, self.latent_size, self.r1, self.ema_decay = loss, latent_size, r1, ema_decay
        self.schedules = {
            player: make_adam(getattr(self, player).parameters(), **options)
            for player, options in optimizers.items()
        }
        self.steps = 0

    def step(self, pixels: Tensor, labels: Tensor | None) -> Tensor:
        """Makes one training step: the last update is the generator's, the others are not.

        Args:
            pixels: uint8 [updates, batch, height, width, channels].
            labels: int [updates, batch], or None.

        Returns:
            The generator's loss.
        """
        for index in range(len(pixels)):
            real = pixels[index].permute(0, 3, 1, 2).float() / 127.5 - 1
            classes = None if labels is None else labels[index]
            last = index == len(pixels) - 1
            value = (self._update_generator if last else self._update_discriminator)(real, classes)
        self._update_ema()
        self.steps += 1
        return value

    def discriminator_loss(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> Tensor:
        """Returns the mean over the batch of loss and penalty."""
        both = None if labels is None else torch.cat([labels, labels])
        real_logits, fake_logits = self.discriminator(torch.cat([real, fake]), both).chunk(2)
        values = self.loss.discriminator(real_logits, fake_logits)
        if self.r1:
            inputs = real.detach().requires_grad_()
            logits = self.discriminator(inputs, labels)
            (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
            values = values + self.r1 * gradient.square().sum((1, 2, 3)) / 2
        return values.mean()

    def generator_loss(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> Tensor:
        """Returns the mean loss over the batch."""
        real_logits = None
        if self.loss.paired:
            with torch.no_grad():
                real_logits = self.discriminator(real, labels)
        return self.loss.generator(real_logits, self.discriminator(fake, labels)).mean()

    def _update_discriminator(self, real: Tensor, labels: Tensor | None) -> Tensor:
        with torch.no_grad():
            fake = self._generate(len(real), labels)
        return self._move("discriminator", self.discriminator_loss(real, fake, labels))

    def _update_generator(self, real: Tensor, labels: Tensor | None) -> Tensor:
        # Saves the discriminator's filter gradients.
        self.discriminator.requires_grad_(False)
        fake = self._generate(len(real), labels)
        value = self._move("generator", self.generator_loss(real, fake, labels))
        self.discriminator.requires_grad_(True)
        return value

    def _generate(self, batch: int, labels: Tensor | None) -> Tensor:
        return self.generator(torch.randn(batch, self.latent_size), labels)

    def _move(self, player: str, loss: Tensor) -> Tensor:
        schedule = self.schedules[player]
        schedule.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        schedule.optimizer.step()
        schedule.step()
        return loss.detach()

    @torch.no_grad()
    def _update_ema(self) -> None:
        decay = min(self.ema_decay, (1 + self.steps) / (10 + self.steps))
        for mean, new in zip(self.ema.parameters(), self.generator.parameters(), strict=True):
            mean.lerp_(new, 1 - decay)
