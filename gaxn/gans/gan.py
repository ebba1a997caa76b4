"""One generator and one discriminator, with labels or without."""

import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn import keys
from gaxn.data import pixels
from gaxn.distributed import axis
from gaxn.gans import BaseGAN
from gaxn.nn.growing import Growth
from gaxn.objectives.objective import LossInputs, Objective
from gaxn.types import Batch, Images, Indices, Labels, Latents, Logits, PRNGKey, Scalars


class GAN(BaseGAN):
    """The GAN of Goodfellow et al., 2014; conditional: Mirza & Osindero, 2014.

    Generated images take the labels of the batch.

    Attributes:
        generator: (latents, labels, train) -> images in [-1, 1].
        discriminator: (images, labels, train) -> logits, or a `DiscriminatorOutput`.
        objective: discriminator -> the objective of both players.
        latent_size: dimension of the latent z ~ N(0, I).
        conditional: whether the networks get labels; else they are called with None.
        growing: the resolutions with which both networks grow, which have the same; None for
            networks that do not grow.
    """

    generator: nn.Module
    discriminator: nn.Module
    objective: Callable[[nn.Module], Objective]
    latent_size: int
    conditional: bool
    # By keyword, since a subclass may have fields without a default.
    growing: Growth | None = dataclasses.field(default=None, kw_only=True)

    def setup(self):
        self.discriminator_objective = self.objective(self.discriminator)

    def losses(self) -> Mapping[str, Callable]:
        return {"discriminator": GAN.discriminator_loss, "generator": GAN.generator_loss}

    def __call__(self, batch: Batch, key: PRNGKey) -> Logits:
        """Runs both networks once, so that Flax creates their variables."""
        examples = axis.example_indices(batch.images.shape[0])
        inputs = self._inputs(batch, examples, key, jnp.int32(0))
        return self.discriminator_objective(inputs.generated, inputs.labels)

    def discriminator_loss(
        self, batch: Batch, examples: Indices, key: PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, Scalars]:
        """Computes the discriminator's loss on real images and as many generated ones."""
        inputs = self._inputs(batch, examples, key, step)
        return self.discriminator_objective.discriminator_loss(inputs)

    def generator_loss(
        self, batch: Batch, examples: Indices, key: PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, Scalars]:
        """Computes the generator's loss."""
        inputs = self._inputs(batch, examples, key, step)
        return self.discriminator_objective.generator_loss(inputs)

    def generate(self, latents: Latents, labels: Labels | None, train: bool) -> Images:
        """Generates images in [-1, 1]; in eval mode (`train` false) by running statistics."""
        return self.generator(latents, labels, train=train)

    def discriminate(self, images: Images, labels: Labels | None) -> Logits:
        """Returns the discriminator's logits in eval mode, one per pack."""
        return self.discriminator_objective.discriminate(images, labels)

    def discriminate_single(self, images: Images, labels: Labels | None) -> Logits:
        """Returns the discriminator's logits in eval mode, one per image."""
        return self.discriminator_objective.discriminate_single(images, labels)

    def _inputs(self, batch: Batch, examples: Indices, key: PRNGKey, step: jax.Array) -> LossInputs:
        labels = batch.labels if self.conditional else None
        latents = draw_latents(keys.stream(key, "latent"), examples, self.latent_size)

        def generate(latents: Latents) -> Images:
            return self.generator(latents, labels, train=True)

        real = pixels.decode(batch.images)
        if self.growing is not None:
            real = self.growing.reduce(real, step)
        return LossInputs(real, latents, generate(latents), generate, labels, examples, key, step)


def draw_latents(
    key: PRNGKey, indices: Indices, latent_size: int, truncation: float = 0.0
) -> Latents:
    """Draws latents from N(0, I), each by its example's key: float [batch, latent_size].

    Args:
        key: of the stream.
        indices: of the examples.
        latent_size: numbers of a latent.
        truncation: bound of their absolute values (Brock et al., 2019, section 3.1); 0 for none.
    """

    def draw(example_key: PRNGKey) -> Latents:
        if truncation:
            return jax.random.truncated_normal(example_key, -truncation, truncation, (latent_size,))
        return jax.random.normal(example_key, (latent_size,))

    return jax.vmap(draw)(keys.per_example(key, indices))
