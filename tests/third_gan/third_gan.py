"""A GAN that is no part of gaxn: a generator, a discriminator, and an encoder that inverts it."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn import keys
from gaxn.data import pixels
from gaxn.distributed import axis
from gaxn.gans import BaseGAN
from gaxn.gans.gan import draw_latents
from gaxn.objectives.objective import LossInputs, Objective
from gaxn.types import Batch, Images, Indices, Labels, Latents, Logits, PRNGKey, Scalars, check


class Encoder(nn.Module):
    """Image -> latent: 4x4 convolutions of stride 2 with LeakyReLU 0.2, then a dense layer.

    Attributes:
        latent_size: numbers of a latent.
        widths: channels after each halving.
    """

    latent_size: int
    widths: tuple[int, ...] = (8, 8)

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Latents:
        x = images
        for width in self.widths:
            x = nn.leaky_relu(nn.Conv(width, (4, 4), 2)(x), 0.2)
        return nn.Dense(self.latent_size)(x.reshape(x.shape[0], -1))


class EncoderGAN(BaseGAN):
    """The bidirectional GAN (BiGAN; Donahue et al., 2017, eq. 2), with a cycle loss of images.

    The discriminator tells pairs (x, E(x)) from pairs (G(z), z). The encoder's loss is the
    generator's with real and generated exchanged, plus reconstruction |G(E(x)) - x| (ALICE;
    Li et al., 2017, section 3.2).

    Attributes:
        generator: (latents, None, train) -> images in [-1, 1].
        discriminator: (pairs, None, train) -> logits; the latent of a pair is further channels of
            its image, constant over its places.
        encoder: (images, train) -> latents; those of the generator are drawn from N(0, I).
        objective: discriminator -> the objective of pairs.
        conditional: must be False.
        reconstruction: weight of that term, 0 or more.
    """

    generator: nn.Module
    discriminator: nn.Module
    encoder: nn.Module
    objective: Callable[[nn.Module], Objective]
    conditional: bool
    reconstruction: float = 1.0

    HOOKS: ClassVar[str] = "third_gan_hooks:make_hooks"

    def __post_init__(self):
        check("conditional", self.conditional, not self.conditional, "False with an EncoderGAN")
        check("reconstruction", self.reconstruction, self.reconstruction >= 0, "0 or more")
        super().__post_init__()

    @property
    def latent_size(self) -> int:
        """Numbers of a latent."""
        return self.encoder.latent_size

    def setup(self):
        self.discriminator_objective = self.objective(self.discriminator)

    def losses(self) -> Mapping[str, Callable]:
        return {
            "discriminator": EncoderGAN.discriminator_loss,
            "encoder": EncoderGAN.encoder_loss,
            "generator": EncoderGAN.generator_loss,
        }

    def __call__(self, batch: Batch, key: PRNGKey) -> Logits:
        """Runs all networks once, so that Flax creates their variables."""
        examples = axis.example_indices(batch.images.shape[0])
        images, latents = self._inputs(batch, examples, key)
        self.discriminator_objective(self._encoded_pair(images), None)
        return self.discriminator_objective(self._generated_pair(latents), None)

    def discriminator_loss(
        self, batch: Batch, examples: Indices, key: PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, Scalars]:
        """Computes the discriminator's loss: encoded pairs are real, generated ones are not."""
        images, latents = self._inputs(batch, examples, key)
        pairs = self._encoded_pair(images), latents, self._generated_pair(latents)
        inputs = LossInputs(*pairs, self._generated_pair, None, examples, key, step)
        return self.discriminator_objective.discriminator_loss(inputs)

    def generator_loss(
        self, batch: Batch, examples: Indices, key: PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, Scalars]:
        """Computes the generator's loss."""
        images, latents = self._inputs(batch, examples, key)
        pairs = self._encoded_pair(images), latents, self._generated_pair(latents)
        inputs = LossInputs(*pairs, self._generated_pair, None, examples, key, step)
        return self.discriminator_objective.generator_loss(inputs)

    def encoder_loss(
        self, batch: Batch, examples: Indices, key: PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, Scalars]:
        """Computes the encoder's loss."""
        images, latents = self._inputs(batch, examples, key)
        pairs = self._generated_pair(latents), images, self._encoded_pair(images)
        inputs = LossInputs(*pairs, self._encoded_pair, None, examples, key, step)
        loss, scalars = self.discriminator_objective.generator_loss(inputs)
        restored = self.generator(self.encoder(images, train=True), None, train=True)
        error = jnp.abs(restored - images).mean()
        return loss + self.reconstruction * error, {**scalars, "reconstruction": error}

    def generate(self, latents: Latents, labels: Labels | None, train: bool) -> Images:
        """Generates images in [-1, 1]; in eval mode (`train` false) by running statistics."""
        return self.generator(latents, labels, train=train)

    def encode(self, images: Images) -> Latents:
        """Returns the latents of images in [-1, 1], in eval mode."""
        return self.encoder(images, train=False)

    def discriminate(self, images: Images, labels: Labels | None) -> Logits:
        """Returns the discriminator's logits of images and their codes, in eval mode."""
        pairs = _pair(images, self.encode(images))
        return self.discriminator_objective.discriminate(pairs, labels)

    def discriminate_single(self, images: Images, labels: Labels | None) -> Logits:
        """Returns the discriminator's logits in eval mode, one per image."""
        pairs = _pair(images, self.encode(images))
        return self.discriminator_objective.discriminate_single(pairs, labels)

    def _inputs(self, batch: Batch, examples: Indices, key: PRNGKey) -> tuple[Images, Latents]:
        latents = draw_latents(keys.stream(key, "latent"), examples, self.latent_size)
        return pixels.decode(batch.images), latents

    def _encoded_pair(self, images: Images) -> Images:
        return _pair(images, self.encoder(images, train=True))

    def _generated_pair(self, latents: Latents) -> Images:
        return _pair(self.generator(latents, None, train=True), latents)


def _pair(images: Images, latents: Latents) -> Images:
    """Returns images with the latents as further channels."""
    constant = jnp.broadcast_to(latents[:, None, None], (*images.shape[:3], latents.shape[-1]))
    return jnp.concatenate([images, constant], axis=-1)
