"""The train step of `gaxn.gans.gan.GAN` in PyTorch, for the alternating rule."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.race.pytorch import weights
from benchmarks.race.pytorch.augmentations import Augmentation
from benchmarks.race.pytorch.layers import Pass
from benchmarks.race.pytorch.losses import Loss, input_gradient, square_norm
from benchmarks.race.pytorch.optimization import MovingAverage, Optimizer


class Draws(NamedTuple):
    """The random numbers of one update.

    Attributes:
        latents: float [batch, latent_size].
        real, fake: those of each augmentation; empty if these images are not augmented.
    """

    latents: Tensor
    real: tuple[Tensor, ...] = ()
    fake: tuple[Tensor, ...] = ()


class Trainer:
    """Two players, their optimizers and the moving average of the generator.

    Args:
        generator: (latents, labels, mode) -> images.
        discriminator: (images, labels, mode) -> logits.
        loss: the adversarial loss.
        r1: weight of R1; 0 for none.
        augmentations: applied in order to all images that the discriminator sees.
        latent_size: of the latents, drawn from N(0, I).
        updates: the player of each update of a step, in order.
        optimizers: arguments of `Optimizer` by player.
        ema_decay: of the moving average.
        device: of all tensors.
        form: "eager"; "compiled"; "graphs".
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss,
        r1: float,
        augmentations: Sequence[Augmentation],
        latent_size: int,
        updates: Sequence[str],
        optimizers: Mapping[str, Mapping[str, Any]],
        ema_decay: float,
        device: str,
        form: str,
    ):
        to = {"device": device, "memory_format": torch.channels_last}
        self.generator, self.discriminator = generator.to(**to), discriminator.to(**to)
        self.loss, self.r1, self.augmentations = loss, r1, tuple(augmentations)
        self.latent_size, self.updates, self.device = latent_size, tuple(updates), device
        self.networks = {"generator": self.generator, "discriminator": self.discriminator}
        self.optimizers = {
            player: Optimizer(self.networks[player].parameters(), **options)
            for player, options in optimizers.items()
        }
        self.ema = MovingAverage(self.generator, ema_decay)
        self.losses = {"discriminator": self.discriminator_loss, "generator": self.generator_loss}

    def step(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Makes one training step.

        Args:
            images: uint8 [updates, batch, height, width, channels].
            labels: int [updates, batch], or None.

        Returns:
            The loss of the last update, the generator's.
        """
        for index, player in enumerate(self.updates):
            classes = None if labels is None else labels[index]
            real = decode(images[index])
            loss = self._differentiate(player, real, classes, self._draw(real))
            self.optimizers[player].step()
        self.ema.update()
        return loss

    def gradients(
        self, player: str, images: Tensor, labels: Tensor | None, draws: Draws, params: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        """Computes a player's loss and its gradient, and moves nothing.

        Args:
            player: the player.
            images: uint8 [batch, height, width, channels].
            labels: int [batch], or None.
            draws: the random numbers.
            params: the player's tree of Flax, for the names.

        Returns:
            The loss, and the gradient as a tree of Flax.
        """
        loss = self._differentiate(player, decode(images), labels, draws)
        return loss, weights.read_gradients(self.networks[player], params)

    def _differentiate(
        self, player: str, real: Tensor, labels: Tensor | None, draws: Draws
    ) -> Tensor:
        """Computes a player's loss and its gradient, which the parameters then have."""
        for name, network in self.networks.items():
            # Saves the filter gradients of the rival.
            network.requires_grad_(name == player)
        loss = self.losses[player](real, labels, draws)
        loss.backward()
        return loss.detach()

    def discriminator_loss(self, real: Tensor, labels: Tensor | None, draws: Draws) -> Tensor:
        """Returns the mean over the batch of loss and penalty."""
        with torch.no_grad():
            fake = self.generator(draws.latents, labels, Pass(stores=False))
            real, fake = self._augment(real, draws.real), self._augment(fake, draws.fake)
        if self.r1:
            return self._penalized_loss(real, fake, labels)
        both = None if labels is None else torch.cat([labels, labels])
        logits = self.discriminator(torch.cat([real, fake]), both, Pass())
        return self.loss.discriminator(*logits.chunk(2)).mean()

    def _penalized_loss(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> Tensor:
        """Returns the mean of loss and R1, which share the pass of the real images."""
        mode = Pass(stores=False, twice=True)
        fake_logits = self.discriminator(fake, labels, Pass())
        real = real.requires_grad_()
        real_logits = self.discriminator(real, labels, mode)
        penalty = square_norm(input_gradient(real_logits, real)) / 2
        return (self.loss.discriminator(real_logits, fake_logits) + self.r1 * penalty).mean()

    def generator_loss(self, real: Tensor, labels: Tensor | None, draws: Draws) -> Tensor:
        """Returns the mean loss over the batch."""
        real_logits, iterations = None, 2
        if self.loss.paired:
            with torch.no_grad():
                real = self._augment(real, draws.real)
                real_logits = self.discriminator(real, labels, Pass(stores=False))
        fake = self._augment(self.generator(draws.latents, labels, Pass()), draws.fake)
        # gaxn gives the discriminator the real images first, which is one more power iteration.
        fake_logits = self.discriminator(fake, labels, Pass(stores=False, iterations=iterations))
        return self.loss.generator(real_logits, fake_logits).mean()

    def _draw(self, real: Tensor) -> Draws:
        latents = torch.randn(len(real), self.latent_size, device=self.device)
        numbers = [tuple(each.draw(real) for each in self.augmentations) for _ in range(2)]
        return Draws(latents, *numbers)

    def _augment(self, images: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        for augmentation, drawn in zip(self.augmentations, numbers, strict=True):
            images = augmentation.apply(images, drawn)
        return images


def decode(pixels: Tensor) -> Tensor:
    """Converts uint8 [batch, height, width, channels] to maps in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
