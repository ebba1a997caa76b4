"""The train step of `gaxn.gans.cyclegan.CycleGAN` in PyTorch, for the alternating rule."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.race.pytorch import gan_trainer
from benchmarks.race.pytorch.layers import Pass
from benchmarks.race.pytorch.losses import Loss


class Draws(NamedTuple):
    """The random numbers of one update, for the domains A and B.

    Attributes:
        corners: int [2, batch, 2], row and column of the first pixel of each real image's square.
        mirrored: bool [2, batch], whether a square is mirrored.
        swaps: bool [2, batch], whether a generated image is exchanged for one of the history.
        slots: int [2, batch], the place of that one.
        mixes: float [2, batch], the share of the real image in each pair of the penalty.
    """

    corners: Tensor
    mirrored: Tensor
    swaps: Tensor
    slots: Tensor
    mixes: Tensor


class Weights(NamedTuple):
    """Weights of the terms: three of the generators, and WGAN-GP of the discriminators."""

    adversarial: float
    cycle: float
    identity: float
    wgan_gp: float


class Trainer(gan_trainer.Trainer):
    """Two pairs of networks, their optimizers, the histories and the moving average.

    Batches are uint8 [updates, batch, 2, height, width, channels]: unrelated images of A and B.

    Args:
        generator: a pair of (images, mode) -> images.
        discriminator: a pair of (images, mode) -> logits.
        loss: the adversarial loss, of which the generator's side must not need the real logits.
        weights: of the terms.
        size: height and width of the squares that the networks see.
        room: rows, and columns, that the images have beyond that.
        mirror: whether squares are mirrored half of the time.
        history: generated images that are kept for each discriminator; 0 for none.
        batch: examples of an update.
        channels: of an image.
        updates, optimizers, ema_decay, device, form: as of `gan_trainer.Trainer`.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss,
        weights: Weights,
        size: int,
        room: int,
        mirror: bool,
        history: int,
        batch: int,
        channels: int,
        updates: Sequence[str],
        optimizers: Mapping[str, Mapping[str, Any]],
        ema_decay: float,
        device: str,
        form: str,
    ):
        self.weights, self.size, self.room, self.mirror = weights, size, room, mirror
        self.history = History(history, batch, (size, size, channels), device) if history else None
        super().__init__(
            generator,
            discriminator,
            loss,
            0.0,
            (),
            0,
            updates,
            optimizers,
            ema_decay,
            device,
            form,
        )

    def draw(self, batch: int, domains: int) -> Draws:
        """Draws the random numbers of an update."""
        shape, options = (domains, batch), {"device": self.device}
        coins = torch.rand(2, *shape, **options) < 0.5
        slots = self.history.size if self.history else 1
        return Draws(
            corners=torch.randint(0, self.room + 1, (*shape, 2), **options),
            mirrored=coins[0],
            swaps=coins[1],
            slots=torch.randint(0, slots, shape, **options),
            mixes=torch.rand(shape, **options),
        )

    def discriminator_loss(self, images: Tensor, labels: None, draws: Draws) -> Tensor:
        """Returns the sum of both discriminators' losses."""
        with torch.no_grad():
            a, b = self._squares(images, draws)
            fake_a = self.generator.a(b, Pass(stores=False))
            fake_b = self.generator.b(a, Pass(stores=False))
            if self.history:
                fake_a, fake_b = self.history.exchange((fake_a, fake_b), draws.swaps, draws.slots)
        mixes_a, mixes_b = draws.mixes
        return self._loss_of(self.discriminator.a, a, fake_a, mixes_a) + self._loss_of(
            self.discriminator.b, b, fake_b, mixes_b
        )

    def generator_loss(self, images: Tensor, labels: None, draws: Draws) -> Tensor:
        """Returns the weighted sum of the generators' terms."""
        with torch.no_grad():
            a, b = self._squares(images, draws)
        # No network couples the images of a batch.
        fake_a, same_a = self.generator.a(torch.cat([b, a]), Pass()).chunk(2)
        fake_b, same_b = self.generator.b(torch.cat([a, b]), Pass()).chunk(2)
        mode = Pass(stores=False)
        cycle = F.l1_loss(self.generator.a(fake_b, mode), a)
        cycle = cycle + F.l1_loss(self.generator.b(fake_a, mode), b)
        identity = F.l1_loss(same_a, a) + F.l1_loss(same_b, b)
        # In gaxn each discriminator sees the real images first, one power iteration before.
        mode = Pass(stores=False, iterations=2)
        adversarial = self.loss.generator(None, self.discriminator.a(fake_a, mode)).mean()
        adversarial = (
            adversarial + self.loss.generator(None, self.discriminator.b(fake_b, mode)).mean()
        )
        return (
            self.weights.adversarial * adversarial
            + self.weights.cycle * cycle
            + self.weights.identity * identity
        )

    def _loss_of(
        self, discriminator: nn.Module, real: Tensor, fake: Tensor, mixes: Tensor
    ) -> Tensor:
        """Returns the loss of one discriminator."""
        # Its logits of an image do not depend on the other images.
        logits = discriminator(torch.cat([real, fake]), Pass())
        loss = self.loss.discriminator(*logits.chunk(2)).mean()
        if not self.weights.wgan_gp:
            return loss
        between = torch.lerp(fake, real, mixes[:, None, None, None])
        gradient = self._input_gradient(discriminator, between)
        norms = torch.linalg.vector_norm(gradient, dim=(1, 2, 3))
        return loss + self.weights.wgan_gp * (norms - 1).square().mean()

    def _input_gradient(self, discriminator: nn.Module, images: Tensor) -> Tensor:
        """Returns the gradient of each image's mean logit in that image."""

        def total(images: Tensor) -> Tensor:
            logits = discriminator(images, Pass(stores=False, twice=True))
            return logits.mean((1, 2)).sum()

        if self.eager:
            images.requires_grad_()
            (gradient,) = torch.autograd.grad(total(images), images, create_graph=True)
            return gradient
        # The compiler differentiates twice within one program, which it cannot across two.
        return torch.func.grad(total)(images)

    def _squares(self, images: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Returns the squares of the real images of A and of B, in [-1, 1]."""
        pixels = images.transpose(0, 1)
        if self.room or self.mirror:
            places = torch.arange(self.size, device=images.device)
            columns = places.expand(*draws.mirrored.shape, -1)
            if self.mirror:
                columns = torch.where(draws.mirrored[..., None], columns.flip(-1), columns)
            corners = draws.corners[..., None]
            rows, columns = corners[:, :, 0] + places, corners[:, :, 1] + columns
            domains, examples = (
                torch.arange(count, device=images.device) for count in pixels.shape[:2]
            )
            pixels = pixels[
                domains[:, None, None, None],
                examples[:, None, None],
                rows[..., None],
                columns[..., None, :],
            ]
        a, b = map(gan_trainer.decode, pixels)
        return a, b


class History:
    """Two histories of generated images; see `gaxn.nn.history.ImageHistory`.

    Args:
        size: images in each, at least 1.
        batch: new images of each at a time.
        shape: of an image, [height, width, channels].
        device: of the images.

    Attributes:
        images: float [2, size + batch, height, width, channels]; the last `batch` are the new ones.
        count: images in each so far.
    """

    def __init__(self, size: int, batch: int, shape: tuple[int, ...], device: str):
        self.size = size
        self.images = torch.zeros(2, size + batch, *shape, device=device)
        self.count = torch.zeros((), dtype=torch.long, device=device)

    def exchange(
        self, pair: tuple[Tensor, Tensor], swaps: Tensor, slots: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns images for the discriminators, each a new one or an older one.

        Args:
            pair: new images of A and of B, [batch, channels, height, width].
            swaps: bool [2, batch], whether a new image and one of the history change places.
            slots: int [2, batch], the place of that one.
        """
        new = torch.stack(pair).permute(0, 1, 3, 4, 2)
        self.images[:, self.size :] = new
        sources, targets = exchanges(self.count, self.size, swaps, slots)
        domains = torch.arange(2, device=slots.device)[:, None]
        a, b = self.images[domains, sources].permute(0, 1, 4, 2, 3)
        self.images[domains, targets] = new
        self.count.add_(slots.shape[1]).clamp_(max=self.size)
        return a, b


def exchanges(count: Tensor, size: int, swaps: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Computes at once what a history does with one image after the other.

    Places from `size` on are those of the new images.

    Args:
        count: images in the history before.
        size: images for which it has room.
        swaps, slots: see `History.exchange`.

    Returns:
        The place of each image for the discriminator, and the place at which each new image ends;
        both int [2, batch].
    """
    order = torch.arange(slots.shape[1], device=slots.device)
    filling = count + order < size
    slots = torch.where(filling, count + order, slots)
    stored = filling | swaps
    # [2, i, j]: whether image j is stored where image i is stored or exchanged.
    same = (slots[:, :, None] == slots[:, None]) & stored[:, None]
    earlier = order[:, None] > order
    latest = torch.where(same & earlier, order, -1).amax(2)
    in_slot = torch.where(latest < 0, slots, size + latest)
    new = size + order
    sources = torch.where(stored & ~filling, in_slot, new)
    is_replaced = (same.transpose(1, 2) & stored[:, None] & earlier.T).any(2)
    targets = torch.where(stored & ~is_replaced, slots, new)
    return sources, targets
