"""One generator against one discriminator over images, with labels or without."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaxn import axis, keys, pixels
from gaxn.losses import Loss
from gaxn.nn import norms
from gaxn.penalties import Term
from gaxn.types import (
    Batch,
    Images,
    InputError,
    Labels,
    Latents,
    Logits,
    PRNGKey,
    Scalars,
    require,
)

Augmentation = Callable[[Images, jax.Array, jax.Array], Images]


LECAM_DECAY = 0.99


class ImageGan(nn.Module):
    """The classic game (Goodfellow et al., 2014; conditional: Mirza & Osindero, 2014).

    Generated images take the labels of the batch. Without labels both players are called
    with None.

    Attributes:
        generator: (latents, labels, train) -> images in [-1, 1].
        discriminator: (images, labels, train) -> logits.
        loss: the adversarial loss.
        latent: size of the latent, drawn from N(0, I).
        penalties: gradient penalties of the discriminator.
        packing: examples that one logit is of, side by side in the last axis (Lin et al., 2018,
            algorithm 1); a divisor of the batch, 1 with labels.
        top_share: the share of generated examples, those that look most real, that the generator
            learns from at the end (Sinha et al., 2020); 1 for all.
        top_until: the step by which it has fallen from 1 to there, in a line.
        lecam: weight of the LeCam regulariser (Tseng et al., 2021, eq. 4); 0 for none.
        augmentations: applied in order to all that the discriminator sees, real and
            generated, each (images, keys, step) -> images.
    """

    generator: nn.Module
    discriminator: nn.Module
    loss: Loss
    latent: int
    packing: int = 1
    top_share: float = 1.0
    top_until: int = 1
    lecam: float = 0.0
    penalties: tuple[Term, ...] = ()
    augmentations: tuple[Augmentation, ...] = ()

    def setup(self):
        require("config.game.top_share", self.top_share, 0 < self.top_share <= 1, "0 < share <= 1")
        require("config.game.top_until", self.top_until, self.top_until >= 1, "1 step or more")
        require("config.game.lecam", self.lecam, self.lecam >= 0, "a weight, 0 or more")
        if self.lecam:
            self.anchors = self.variable("lecam", "discriminator_anchors", jnp.zeros, (2,))

    def __call__(self, batch: Batch, key: PRNGKey) -> Logits:
        """Runs both players once, so that Flax can create their variables."""
        images = self._pack(self._generate(batch, key), batch.labels)
        return self.discriminator(images, batch.labels, train=True)

    def discriminator_loss(
        self, batch: Batch, key: PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, Scalars]:
        """The discriminator's turn: one pass over real and generated images together."""
        real, fake = self._seen(batch, key, step)
        images = _interleave(real, fake)
        labels = None if batch.labels is None else jnp.repeat(batch.labels, 2)
        logits = self.discriminator(images, labels, train=True).reshape(-1, 2)
        real_logits, fake_logits = logits[:, 0], logits[:, 1]
        values = self.loss.discriminator(real_logits, fake_logits)
        scalars = {
            "adversarial": values.mean(),
            "real": real_logits.mean(),
            "fake": fake_logits.mean(),
        }
        if self.lecam:
            found = self._hold(real_logits, fake_logits)
            values += self.lecam * found
            scalars["lecam"] = found.mean()
        for term in self.penalties:
            found = self._penalise(term, real, fake, batch.labels, key, step)
            values += term.weight * term.every * found
            scalars[term.name] = found.mean()
        return values.mean(), scalars

    def generator_loss(
        self, batch: Batch, key: PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, Scalars]:
        """The generator's turn. XLA drops the real pass where the loss does not use it."""
        real, fake = self._seen(batch, key, step)
        real_logits = self.discriminator(real, batch.labels, train=True)
        fake_logits = self.discriminator(fake, batch.labels, train=True)
        values = self.loss.generator(real_logits, fake_logits)
        if self.top_share < 1:
            values *= self._top(fake_logits, step)
        return values.mean(), {}

    def generate(self, latents: Latents, labels: Labels | None, train: bool) -> Images:
        """Images in [-1, 1]; at rest (`train` false) by running statistics."""
        return self.generator(latents, labels, train=train)

    def judge(self, images: Images, labels: Labels | None) -> Logits:
        """Logits by the discriminator at rest, one a pack."""
        return self.discriminator(self._pack(images, labels), labels, train=False)

    def _generate(self, batch: Batch, key: PRNGKey) -> Images:
        indices = axis.example_indices(batch.images.shape[0])
        latents = draw_latents(keys.stream(key, "latent"), indices, self.latent)
        return self.generator(latents, batch.labels, train=True)

    def _seen(self, batch: Batch, key: PRNGKey, step: jax.Array) -> tuple[Images, Images]:
        """Real and generated images as the discriminator sees them."""
        real, fake = pixels.decode(batch.images), self._generate(batch, key)
        return (
            self._pack(self._augment(real, keys.stream(key, "augment real"), step), batch.labels),
            self._pack(self._augment(fake, keys.stream(key, "augment fake"), step), batch.labels),
        )

    def _top(self, logits: Logits, step: jax.Array) -> Logits:
        """A weight an example: 0 where it looks least real, and 1 on average over the batch."""
        everyone = axis.gather(jax.lax.stop_gradient(logits))
        share = jnp.maximum(self.top_share, 1 - (1 - self.top_share) * step / self.top_until)
        count = jnp.maximum(jnp.round(share * everyone.size).astype(int), 1)
        least = jnp.sort(everyone)[everyone.size - count]
        kept = everyone >= least
        return (logits >= least) * (everyone.size / kept.sum())

    def _hold(self, real: Logits, fake: Logits) -> Logits:
        """The squared distance of each side's logits to the other side's running mean."""
        means = jnp.stack([real.mean(), fake.mean()])
        means = jax.lax.stop_gradient(axis.mean_over_devices(means))
        anchors = LECAM_DECAY * self.anchors.value + (1 - LECAM_DECAY) * means
        if self.is_mutable_collection("lecam"):
            self.anchors.value = anchors
        return jnp.square(real - anchors[1]) + jnp.square(fake - anchors[0])

    def _pack(self, images: Images, labels: Labels | None) -> Images:
        """Neighbours side by side: [batch, ..., channels] -> [packs, ..., packing channels]."""
        if self.packing == 1:
            return images
        holds = labels is None and self.packing > 1 and images.shape[0] % self.packing == 0
        valid = f"a divisor of the {images.shape[0]} examples, and 1 with labels"
        require("config.game.packing", self.packing, holds, valid)
        packs = images.reshape(-1, self.packing, *images.shape[1:])
        packs = jnp.moveaxis(packs, 1, -2)
        return packs.reshape(*packs.shape[:-2], -1)

    def _augment(self, images: Images, key: PRNGKey, step: jax.Array) -> Images:
        indices = axis.example_indices(images.shape[0])
        for place, augmentation in enumerate(self.augmentations):
            own_key = jax.random.fold_in(key, place)
            images = augmentation(images, keys.per_example(own_key, indices), step)
        return images

    def _penalise(
        self,
        term: Term,
        real: Images,
        fake: Images,
        labels: Labels | None,
        key: PRNGKey,
        step: jax.Array,
    ) -> Float[Array, "batch"]:
        """The penalty of each example, through a discriminator that holds still; 0 where the
        step has none.
        """
        critic, variables = self.discriminator.unbind()
        if norms.COLLECTION in variables:
            raise InputError(
                "config.penalties needs a discriminator without batch statistics; "
                "each image's gradient has to be its own"
            )
        example_keys = keys.per_example(
            keys.stream(key, "penalty"), axis.example_indices(real.shape[0])
        )

        def compute() -> Float[Array, "batch"]:
            return term.penalty(
                lambda images: critic.apply(variables, images, labels, train=False),
                real,
                fake,
                example_keys,
            )

        if term.every == 1:
            return compute()
        nothing = jnp.zeros(real.shape[0], real.dtype)
        return jax.lax.cond(step % term.every == 0, compute, lambda: nothing)


def draw_latents(key: PRNGKey, indices: jax.Array, latent: int) -> Latents:
    """Latents from N(0, I), each by its example's own key: float [batch, latent]."""
    return jax.vmap(lambda k: jax.random.normal(k, (latent,)))(keys.per_example(key, indices))


def _interleave(real: Images, fake: Images) -> Images:
    """Real and generated images in turn: sharded along the batch, nothing moves."""
    return jnp.stack([real, fake], axis=1).reshape(-1, *real.shape[1:])
