"""The train step of a population of `gaxn.gans.gan.GAN` on points, for the simultaneous rule."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.race.pytorch import weights
from benchmarks.race.pytorch.forms import CapturedStep, compile_loss
from benchmarks.race.pytorch.gan_trainer import Draws
from benchmarks.race.pytorch.layers import Pass
from benchmarks.race.pytorch.losses import Loss
from benchmarks.race.pytorch.optimization import MovingAverage, Optimizer


class PopulationTrainer:
    """Runs of one config under several seeds, which one program trains at once.

    All parameters have a leading axis of members. No member's loss depends on another member, so
    the gradient of the sum of losses has that of each. The forms are those of
    `gan_trainer.Trainer`.

    Args:
        generator: (latents [members, latent_size, batch], None, mode) -> points [members, features,
            batch].
        discriminator: (points, None, mode) -> logits [members, batch].
        loss: the adversarial loss.
        members: of the population.
        latent_size: of the latents, drawn from N(0, I).
        optimizers: arguments of `Optimizer` by player.
        ema_decay: of the moving average.
        device: of all tensors.
        form: of the step.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss,
        members: int,
        latent_size: int,
        optimizers: Mapping[str, Mapping[str, Any]],
        ema_decay: float,
        device: str,
        form: str,
    ):
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        # In the order of the updates.
        self.networks = {"discriminator": self.discriminator, "generator": self.generator}
        self.augmentations = ()
        self.loss, self.device, self.latent_shape = loss, device, (members, latent_size)
        self.optimizers = {
            player: Optimizer(self.networks[player].parameters(), form, **options)
            for player, options in optimizers.items()
        }
        self.ema = MovingAverage(self.generator, ema_decay, form)
        self.losses = {
            "discriminator": compile_loss(self.discriminator_loss, form, device),
            "generator": compile_loss(self.generator_loss, form, device),
        }
        self.step = CapturedStep(self.make_step) if form == "graphs" else self.make_step

    def make_step(self, points: Tensor, labels: None) -> Tensor:
        """Makes one training step: both players move by the gradients at the same parameters.

        Args:
            points: float [members, updates, batch, features].
            labels: None.

        Returns:
            The generators' losses, [members].
        """
        for index, player in enumerate(self.networks):
            latents = torch.randn(*self.latent_shape, points.shape[2], device=self.device)
            losses = self.differentiate(player, points[:, index], latents)
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.ema.update()
        return losses

    def differentiate(self, player: str, points: Tensor, latents: Tensor) -> Tensor:
        """Computes the losses of a player and their gradient, which the parameters then have."""
        for name, network in self.networks.items():
            network.requires_grad_(name == player)
        losses = self.losses[player](points, latents)
        losses.sum().backward(inputs=self.optimizers[player].parameters)
        return losses.detach()

    def gradients(
        self, player: str, points: Tensor, labels: None, draws: Draws, params: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        """Computes the losses of a player and their gradient, and moves nothing.

        Args:
            player: the player.
            points: float [members, batch, features].
            labels: None.
            draws: the latents, [members, batch, latent_size].
            params: the player's tree of Flax.

        Returns:
            The losses, [members], and the gradient as such a tree.
        """
        losses = self.differentiate(player, points, draws.latents.mT)
        return losses, weights.read_gradients(self.networks[player], params)

    def discriminator_loss(self, points: Tensor, latents: Tensor) -> Tensor:
        """Returns each member's mean loss over the batch, [members]."""
        with torch.no_grad():
            fake = self.generator(latents, None, Pass(stores=False))
        both = torch.cat([points.mT, fake], dim=2)
        logits = self.discriminator(both, None, Pass())
        return self.loss.discriminator(*logits.chunk(2, dim=1)).mean(1)

    def generator_loss(self, points: Tensor, latents: Tensor) -> Tensor:
        """Returns each member's mean loss over the batch, [members]."""
        fake = self.generator(latents, None, Pass())
        logits = self.discriminator(fake, None, Pass(stores=False))
        return self.loss.generator(None, logits).mean(1)
