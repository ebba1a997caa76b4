"""One generator against one discriminator over images, with labels or without."""

from collections.abc import Callable

import flax.linen as nn
import jax

from gaxn import axis, keys, pixels
from gaxn.objective import Objective
from gaxn.types import Batch, Images, Indices, Labels, Latents, Logits, PRNGKey, Scalars


class ImageGan(nn.Module):
    """The classic game (Goodfellow et al., 2014; conditional: Mirza & Osindero, 2014).

    Generated images take the labels of the batch.

    Attributes:
        generator: (latents, labels, train) -> images in [-1, 1].
        discriminator: (images, labels, train) -> logits, or a `Verdict`.
        objective: discriminator -> what both players want.
        latent: size of the latent, drawn from N(0, I).
        conditional: whether the players see labels; else they are called with None.
    """

    generator: nn.Module
    discriminator: nn.Module
    objective: Callable[[nn.Module], Objective]
    latent: int
    conditional: bool

    def setup(self):
        self.discriminator_objective = self.objective(self.discriminator)

    def __call__(self, batch: Batch, key: PRNGKey) -> Logits:
        """Runs both players once, so that Flax can create their variables."""
        latents = self._latents(axis.example_indices(batch.images.shape[0]), key)
        return self.discriminator_objective(self._generator(batch)(latents), self._labels(batch))

    def discriminator_loss(
        self, batch: Batch, examples: Indices, key: PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, Scalars]:
        """The discriminator's turn."""
        turn = self._turn(batch, examples, key)
        return self.discriminator_objective.discriminator_loss(*turn, key, step)

    def generator_loss(
        self, batch: Batch, examples: Indices, key: PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, Scalars]:
        """The generator's turn."""
        turn = self._turn(batch, examples, key)
        return self.discriminator_objective.generator_loss(*turn, key, step)

    def generate(self, latents: Latents, labels: Labels | None, train: bool) -> Images:
        """Images in [-1, 1]; at rest (`train` false) by running statistics."""
        return self.generator(latents, labels, train=train)

    def judge(self, images: Images, labels: Labels | None) -> Logits:
        """Logits by the discriminator at rest, one a pack."""
        return self.discriminator_objective.judge(images, labels)

    def judge_alone(self, images: Images, labels: Labels | None) -> Logits:
        """The same, one an image: of packs that hold nothing else."""
        return self.discriminator_objective.judge_alone(images, labels)

    def _turn(self, batch: Batch, examples: Indices, key: PRNGKey) -> tuple:
        """What the objective has to know of a turn."""
        real, latents = pixels.decode(batch.images), self._latents(examples, key)
        return real, latents, self._generator(batch), self._labels(batch), examples

    def _latents(self, examples: Indices, key: PRNGKey) -> Latents:
        return draw_latents(keys.stream(key, "latent"), examples, self.latent)

    def _generator(self, batch: Batch) -> Callable[[Latents], Images]:
        return lambda latents: self.generator(latents, self._labels(batch), train=True)

    def _labels(self, batch: Batch) -> Labels | None:
        return batch.labels if self.conditional else None


def draw_latents(key: PRNGKey, indices: Indices, latent: int, truncation: float = 0.0) -> Latents:
    """Latents from N(0, I), each by its example's own key: float [batch, latent].

    Args:
        key: of the stream.
        indices: of the examples.
        latent: how many numbers.
        truncation: none of them is larger, in absolute value (Brock et al., 2019, section 3.1);
            0 for no bound.
    """

    def draw(own: PRNGKey) -> Latents:
        if truncation:
            return jax.random.truncated_normal(own, -truncation, truncation, (latent,))
        return jax.random.normal(own, (latent,))

    return jax.vmap(draw)(keys.per_example(key, indices))
