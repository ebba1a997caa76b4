"""What one discriminator and the generator that it judges want of each other.

A game has one objective a discriminator. It knows nothing of where generated images come
from: latents, or other images.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaxn import axis, keys
from gaxn.augmentations import Augment
from gaxn.losses import Loss
from gaxn.nn import norms
from gaxn.nn.adaptive import AdaptiveProbability
from gaxn.penalties import Term
from gaxn.regularizers import Base, View
from gaxn.types import (
    Images,
    Indices,
    InputError,
    Labels,
    Logits,
    PRNGKey,
    Scalars,
    Verdict,
    require,
)

Inputs = Float[Array, "batch ..."]


class Objective(nn.Module):
    """Adversarial loss, penalties and regularisers, on images as the discriminator sees them.

    Attributes:
        discriminator: (images, labels, train) -> logits, or a `Verdict`.
        loss: the adversarial loss.
        penalties: gradient penalties of the discriminator.
        regularizers: what makes each regulariser, by name.
        augmentations: applied in order to all that the discriminator sees, real and generated.
        packing: examples that one logit is of, side by side in the last axis (Lin et al., 2018,
            algorithm 1); a divisor of the batch, 1 with labels.
        top_share: the share of generated examples, those that look most real, that the generator
            learns from at the end (Sinha et al., 2020); 1 for all.
        top_until: the step by which it has fallen from 1 to there, in a line.
        ada_target: each augmentation is applied with a probability that holds the mean sign of
            real logits here (Karras et al., 2020a); 0 to apply all of them always.
        ada_images: real images in which that probability can rise from 0 to 1.
    """

    discriminator: nn.Module
    loss: Loss
    penalties: tuple[Term, ...] = ()
    regularizers: tuple[tuple[str, Callable[[], Base]], ...] = ()
    augmentations: tuple[Augment, ...] = ()
    packing: int = 1
    top_share: float = 1.0
    top_until: int = 1
    ada_target: float = 0.0
    ada_images: int = 500_000

    def setup(self):
        field = "config.objective"
        require(f"{field}.top_share", self.top_share, 0 < self.top_share <= 1, "0 < share <= 1")
        require(f"{field}.top_until", self.top_until, self.top_until >= 1, "1 step or more")
        require(f"{field}.ada_target", self.ada_target, 0 <= self.ada_target < 1, "0 to below 1")
        require(f"{field}.ada_images", self.ada_images, self.ada_images >= 1, "1 or more")
        self.terms = {name: make() for name, make in self.regularizers}
        if self.ada_target:
            self.ada = AdaptiveProbability(self.ada_target, self.ada_images)

    def __call__(self, images: Images, labels: Labels | None) -> Logits:
        """Creates the variables of the discriminator, and what this keeps.

        Raises:
            InputError: the discriminator is none for these penalties or regularisers.
        """
        if self.ada_target:
            self.ada()
        verdict = self._verdict(self._pack(images, labels), labels, train=True)
        for term in self.terms.values():
            term(verdict, labels)
        still = self.penalties or any(term.STILL for term in self.terms.values())
        if still and self._coupled():
            raise InputError(
                "config.penalties and consistency need a discriminator without batch statistics; "
                "each image's logit has to be its own"
            )
        return verdict.logits

    def discriminator_loss(
        self,
        real: Images,
        inputs: Inputs,
        generate: Callable[[Inputs], Images],
        labels: Labels | None,
        examples: Indices,
        key: PRNGKey,
        step: jax.Array,
    ) -> tuple[jax.Array, Scalars]:
        """The discriminator's turn.

        Args:
            real: images in [-1, 1].
            inputs: what generated images are made from.
            generate: inputs -> images in [-1, 1].
            labels: of both; None where there are none.
            examples: their places in the global batch, which random numbers go by.
            key: of the turn.
            step: steps done.

        Returns: the loss and scalars for the log: penalties without their weights,
            regularisers as they are added.
        """
        judge_both = self._apart if self._coupled() else self._together
        view = self._look(judge_both, real, inputs, generate, labels, examples, key, step)
        real_logits, fake_logits = view.real_verdict.logits, view.fake_verdict.logits
        values = per_example(self.loss.discriminator(real_logits, fake_logits))
        scalars = {
            "adversarial": values.mean(),
            "real": real_logits.mean(),
            "fake": fake_logits.mean(),
        }
        for term in self.penalties:
            found = self._penalise(term, view, examples, key, step)
            values += term.weight * term.every * found
            scalars[term.name] = found.mean()
        added = self._added("discriminator", view, examples, key)
        if self.ada_target:
            scalars["ada_probability"] = self.ada()
            seen = axis.gather(per_example(real_logits)).size * self.packing
            self.ada.adjust(per_example(real_logits), seen)
        return values.mean() + sum(added.values()), scalars | added

    def generator_loss(
        self,
        real: Images,
        inputs: Inputs,
        generate: Callable[[Inputs], Images],
        labels: Labels | None,
        examples: Indices,
        key: PRNGKey,
        step: jax.Array,
    ) -> tuple[jax.Array, Scalars]:
        """The generator's turn; takes and gives what `discriminator_loss` does."""
        view = self._look(self._apart, real, inputs, generate, labels, examples, key, step)
        real_logits, fake_logits = view.real_verdict.logits, view.fake_verdict.logits
        values = per_example(self.loss.generator(real_logits, fake_logits))
        if self.top_share < 1:
            progress = jnp.minimum(step / self.top_until, 1)
            values *= top_weights(per_example(fake_logits), 1 - (1 - self.top_share) * progress)
        added = self._added("generator", view, examples, key)
        return values.mean() + sum(added.values()), added

    def judge(self, images: Images, labels: Labels | None) -> Logits:
        """Logits by the discriminator at rest, one a pack, of images as they are."""
        return self._verdict(self._pack(images, labels), labels, train=False).logits

    def judge_alone(self, images: Images, labels: Labels | None) -> Logits:
        """The same, one an image: of packs that hold nothing else."""
        return self.judge(jnp.repeat(images, self.packing, axis=0), labels)

    def _look(
        self,
        judge_both: Callable[[Images, Images, Labels | None], tuple[Verdict, Verdict]],
        real: Images,
        inputs: Inputs,
        generate: Callable[[Inputs], Images],
        labels: Labels | None,
        examples: Indices,
        key: PRNGKey,
        step: jax.Array,
    ) -> View:
        def show(images: Images, name: str) -> Images:
            augmented = self._augment(images, keys.stream(key, name), examples, step)
            return self._pack(augmented, labels)

        seen_real, seen_fake = show(real, "augment real"), show(generate(inputs), "augment fake")
        real_verdict, fake_verdict = judge_both(seen_real, seen_fake, labels)
        return View(
            real=seen_real,
            fake=seen_fake,
            real_verdict=real_verdict,
            fake_verdict=fake_verdict,
            labels=labels,
            judge=lambda images: self._still()(images, labels),
            inputs=inputs,
            generate=generate,
            show=lambda images: show(images, "augment fake"),
        )

    def _coupled(self) -> bool:
        """Whether a logit depends on the batch, so that real and generated need each its own."""
        return norms.COLLECTION in self.discriminator.variables

    def _verdict(self, images: Images, labels: Labels | None, train: bool) -> Verdict:
        return as_verdict(self.discriminator(images, labels, train=train))

    def _together(self, real: Images, fake: Images, labels: Labels | None) -> tuple:
        """Both in one pass, in turn: sharded along the batch, nothing moves."""
        images = jnp.stack([real, fake], axis=1).reshape(-1, *real.shape[1:])
        labels = None if labels is None else jnp.repeat(labels, 2)
        verdict = self._verdict(images, labels, train=True)
        pairs = jax.tree.map(lambda x: x.reshape(-1, 2, *x.shape[1:]), verdict)
        return jax.tree.map(lambda x: x[:, 0], pairs), jax.tree.map(lambda x: x[:, 1], pairs)

    def _apart(self, real: Images, fake: Images, labels: Labels | None) -> tuple:
        """Each in a pass of its own: XLA drops one whose logits nothing uses."""
        return tuple(self._verdict(images, labels, train=True) for images in (real, fake))

    def _added(self, player: str, view: View, examples: Indices, key: PRNGKey) -> Scalars:
        """What each regulariser adds to a player's loss."""
        found = {
            name: getattr(term, player)(view, keys.per_example(keys.stream(key, name), examples))
            for name, term in self.terms.items()
        }
        return {name: values.mean() for name, values in found.items() if values is not None}

    def _pack(self, images: Images, labels: Labels | None) -> Images:
        """Neighbours side by side: [batch, ..., channels] -> [packs, ..., packing channels]."""
        if self.packing == 1:
            return images
        holds = labels is None and self.packing > 1 and images.shape[0] % self.packing == 0
        valid = f"a divisor of the {images.shape[0]} examples, and 1 with labels"
        require("config.objective.packing", self.packing, holds, valid)
        packs = images.reshape(-1, self.packing, *images.shape[1:])
        packs = jnp.moveaxis(packs, 1, -2)
        return packs.reshape(*packs.shape[:-2], -1)

    def _augment(self, images: Images, key: PRNGKey, examples: Indices, step: jax.Array) -> Images:
        for place, augmentation in enumerate(self.augmentations):
            own_keys = keys.per_example(jax.random.fold_in(key, place), examples)
            if not self.ada_target:
                images = augmentation(images, own_keys, step)
                continue
            pairs = jax.vmap(jax.random.split)(own_keys)
            chosen = jax.vmap(jax.random.uniform)(pairs[:, 1]) < self.ada()
            chosen = chosen.reshape(-1, *[1] * (images.ndim - 1))
            images = jnp.where(chosen, augmentation(images, pairs[:, 0], step), images)
        return images

    def _still(self) -> Callable[[Images, Labels | None], Verdict]:
        """The discriminator as a function of images and labels that changes nothing."""
        network, variables = self.discriminator.unbind()
        return lambda images, labels: as_verdict(
            network.apply(variables, images, labels, train=False)
        )

    def _penalise(
        self, term: Term, view: View, examples: Indices, key: PRNGKey, step: jax.Array
    ) -> Float[Array, "batch"]:
        """The penalty of each example; 0 where the step has none."""
        still, count = self._still(), view.real.shape[0]
        # A pack goes by its first example.
        firsts = examples[:: examples.shape[0] // count]
        example_keys = keys.per_example(keys.stream(key, "penalty"), firsts)

        def compute() -> Float[Array, "batch"]:
            return term.penalty(
                lambda images: per_example(still(images, view.labels).logits),
                view.real,
                view.fake,
                example_keys,
            )

        if term.every == 1:
            return compute()
        nothing = jnp.zeros(count, view.real.dtype)
        return jax.lax.cond(step % term.every == 0, compute, lambda: nothing)


def as_verdict(found: Logits | Verdict) -> Verdict:
    """What a discriminator gives, whether or not it names classes."""
    return found if isinstance(found, Verdict) else Verdict(found)


def per_example(values: Logits) -> Float[Array, "batch"]:
    """The mean over scales and places, where there are several."""
    return values.reshape(values.shape[0], -1).mean(axis=1) if values.ndim > 1 else values


def top_weights(logits: Logits, share: jax.Array) -> Logits:
    """A weight an example: 0 where it looks least real, and 1 on average over the batch.

    Args:
        logits: of this device's examples.
        share: of the global batch that is kept, in (0, 1]; one example at least.
    """
    everyone = axis.gather(jax.lax.stop_gradient(logits))
    count = jnp.maximum(jnp.round(share * everyone.size).astype(int), 1)
    least = jnp.sort(everyone)[everyone.size - count]
    kept = everyone >= least
    return (logits >= least) * (everyone.size / kept.sum())
