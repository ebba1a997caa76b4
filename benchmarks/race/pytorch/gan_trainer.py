"""The train step of `gaxn.gans.gan.GAN` in PyTorch, for the alternating rule."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.race.pytorch import weights
from benchmarks.race.pytorch.augmentations import Augmentation
from benchmarks.race.pytorch.forms import CapturedStep, compile_loss
from benchmarks.race.pytorch.layers import Pass
from benchmarks.race.pytorch.losses import Loss, square_norm
from benchmarks.race.pytorch.optimization import MovingAverage, Optimizer


class Draws(NamedTuple):
    """The random numbers of one update.

    Attributes:
        latents: float [batch, latent_size].
        real, fake: those of each augmentation of these images.
    """

    latents: Tensor
    real: tuple[Tensor, ...] = ()
    fake: tuple[Tensor, ...] = ()


class Trainer:
    """Two players, their optimizers and the moving average of the generator.

    The forms of the step: "eager"; "compiled", in which each player's loss is one program with its
    gradient, R1 included, beside fused Adam; "graphs", in which the compiled step is captured in
    one CUDA graph, decoding, random numbers, Adam and moving average included.

    Args:
        generator: (latents, labels, mode) -> images.
        discriminator: (images, labels, mode) -> logits.
        loss: the adversarial loss.
        r1: weight of R1, for a discriminator without spectral norm; 0 for none.
        augmentations: applied in order to all images that the discriminator sees.
        latent_size: of the latents, drawn from N(0, I).
        updates: the player of each update of a step, in order.
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
        self.networks = {"generator": self.generator, "discriminator": self.discriminator}
        self.loss, self.r1, self.augmentations = loss, r1, tuple(augmentations)
        self.latent_size, self.updates, self.device = latent_size, tuple(updates), device
        self.eager = form == "eager"
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

    def make_step(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Makes one training step.

        Args:
            images: uint8 [updates, batch, height, width, channels].
            labels: int [updates, batch], or None.

        Returns:
            The loss of the last update.
        """
        for index, player in enumerate(self.updates):
            classes = None if labels is None else labels[index]
            draws = self.draw(*images.shape[1:3])
            loss = self.differentiate(player, images[index], classes, draws)
            self.optimizers[player].step()
        self.ema.update()
        return loss

    def differentiate(
        self, player: str, images: Tensor, labels: Tensor | None, draws: Draws
    ) -> Tensor:
        """Computes a player's loss and its gradient, which the parameters then have."""
        for name, network in self.networks.items():
            # A compiled loss has gradients in all parameters that want one.
            network.requires_grad_(name == player)
        loss = self.losses[player](images, labels, draws)
        loss.backward(inputs=self.optimizers[player].parameters)
        return loss.detach()

    def gradients(
        self, player: str, images: Tensor, labels: Tensor | None, draws: Draws, params: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        """Computes a player's loss and its gradient, and moves nothing.

        Args:
            player: the player.
            images: uint8 [batch, height, width, channels].
            labels: int [batch], or None.
            draws: the random numbers.
            params: the player's tree of Flax.

        Returns:
            The loss, and the gradient as such a tree.
        """
        loss = self.differentiate(player, images, labels, draws)
        return loss, weights.read_gradients(self.networks[player], params)

    def draw(self, batch: int, side: int) -> Draws:
        """Draws the random numbers of an update."""
        latents = torch.randn(batch, self.latent_size, device=self.device)
        numbers = (
            tuple(each.draw(batch, side, self.device) for each in self.augmentations)
            for _ in ("real", "fake")
        )
        return Draws(latents, *numbers)

    def discriminator_loss(self, images: Tensor, labels: Tensor | None, draws: Draws) -> Tensor:
        """Returns the mean over the batch of loss and penalty."""
        with torch.no_grad():
            real = self._augment(decode(images), draws.real)
            fake = self.generator(draws.latents, labels, Pass(stores=False))
            fake = self._augment(fake, draws.fake)
        if not self.r1:
            both = None if labels is None else torch.cat([labels, labels])
            logits = self.discriminator(torch.cat([real, fake]), both, Pass())
            return self.loss.discriminator(*logits.chunk(2)).mean()
        fake_logits = self.discriminator(fake, labels, Pass())
        real_logits, gradient = self._real_gradient(real, labels)
        values = self.loss.discriminator(real_logits, fake_logits)
        return (values + self.r1 / 2 * square_norm(gradient)).mean()

    def generator_loss(self, images: Tensor, labels: Tensor | None, draws: Draws) -> Tensor:
        """Returns the mean loss over the batch."""
        real_logits = None
        if self.loss.paired:
            with torch.no_grad():
                real = self._augment(decode(images), draws.real)
                real_logits = self.discriminator(real, labels, Pass(stores=False))
        fake = self._augment(self.generator(draws.latents, labels, Pass()), draws.fake)
        # In gaxn the discriminator sees the real images first, one power iteration before.
        mode = Pass(stores=False, iterations=2)
        return self.loss.generator(real_logits, self.discriminator(fake, labels, mode)).mean()

    def _real_gradient(self, real: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the logits of real images, and the gradient of each in its image.

        The pass of R1 is that of the loss, too.
        """
        mode = Pass(stores=False, twice=True)

        def total(images: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.discriminator(images, labels, mode)
            return logits.sum(), logits

        if self.eager:
            value, logits = total(real.requires_grad_())
            (gradient,) = torch.autograd.grad(value, real, create_graph=True)
        else:
            # The compiler differentiates twice within one program, which it cannot across two.
            gradient, logits = torch.func.grad(total, has_aux=True)(real)
        return logits, gradient

    def _augment(self, images: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        for augmentation, drawn in zip(self.augmentations, numbers, strict=True):
            images = augmentation.apply(images, drawn)
        return images


def decode(pixels: Tensor) -> Tensor:
    """Converts uint8 [batch, height, width, channels] to maps in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
