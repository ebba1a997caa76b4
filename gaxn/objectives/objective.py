"""The objective of one discriminator and of the generator whose images it sees.

A GAN has one objective per discriminator. An objective does not know what generated images are made
from: latents, or other images.
"""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import flax.errors
import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaxn import keys
from gaxn.distributed import axis
from gaxn.nn import norms, spectral
from gaxn.nn.adaptive import AdaptiveProbability
from gaxn.objectives.augmentations import Augmentation
from gaxn.objectives.losses import Loss, check_loss
from gaxn.objectives.penalties import Penalty
from gaxn.objectives.regularizers import Regularizer, RegularizerInputs
from gaxn.objectives.schedules import ScalarOrSchedule, check_values, value_at
from gaxn.types import (
    DiscriminatorOutput,
    Images,
    Indices,
    InputError,
    Labels,
    Logits,
    PRNGKey,
    Scalars,
    Variables,
    Vectors,
    check,
)

LAZY_PENALTIES = "lazy_penalties"
"""The collection of the last values of penalties that are not computed at every step."""


class LossInputs(NamedTuple):
    """The inputs of an objective in one player update.

    Attributes:
        real: images in [-1, 1].
        generator_inputs: latents, float [batch, latent], or the images to translate.
        generated: images that the generator made of these, in [-1, 1].
        generate: generator inputs -> images in [-1, 1], for regularizers that need further ones.
        labels: of real and generated images; None if there are none.
        examples: indices in the global batch, from which random numbers are drawn.
        key: of the player update.
        step: training steps before this one.
        pairs: by name, images of the generator and those that they should be like, for
            regularizers.
    """

    real: Images
    generator_inputs: Float[Array, "batch ..."]
    generated: Images
    generate: Callable[[jax.Array], Images]
    labels: Labels | None
    examples: Indices
    key: PRNGKey
    step: jax.Array
    pairs: Mapping[str, tuple[Images, Images]] = {}


class Outputs(NamedTuple):
    """Outputs of a discriminator for real and for generated images.

    Attributes:
        real, fake: its outputs.
        gradients: "real" or "fake" -> the gradient of each image's logit in that image, of those
            images for which a penalty needs it.
    """

    real: DiscriminatorOutput
    fake: DiscriminatorOutput
    gradients: Mapping[str, Images]


def make_objective(
    loss: Loss,
    penalties: Mapping[str, Penalty],
    regularizers: Mapping[str, Callable[[], Regularizer]],
    augmentations: tuple[Augmentation, ...],
    *,
    packing: int = 1,
    top_share: float = 1.0,
    top_until: int = 1,
    ada_target: float = 0.0,
    ada_images: int = 500_000,
    augmentation_probability: ScalarOrSchedule = 1.0,
) -> Callable[[nn.Module], "Objective"]:
    """Returns a function from a discriminator to its `Objective`; the arguments are its fields."""
    check_loss(loss)
    check("packing", packing, packing >= 1, "1 or more")
    check("top_share", top_share, 0 < top_share <= 1, "above 0 and at most 1")
    check("top_until", top_until, top_until >= 1, "1 step or more")
    check("ada_target", ada_target, 0 <= ada_target < 1, "at least 0 and below 1")
    check("ada_images", ada_images, ada_images >= 1, "1 or more")
    name, probability = "augmentation_probability", augmentation_probability
    check_values(name, probability, lambda value: 0 <= value <= 1, "0 to 1")
    check(name, probability, not ada_target or probability == 1.0, "1 with ada_target")
    if not augmentations:
        check("ada_target", ada_target, ada_target == 0, "0 without augmentations")
        check(name, probability, probability == 1, "1 without augmentations")
    return functools.partial(
        Objective,
        loss=loss,
        penalties=penalties,
        regularizers=regularizers,
        augmentations=augmentations,
        packing=packing,
        top_share=top_share,
        top_until=top_until,
        ada_target=ada_target,
        ada_images=ada_images,
        augmentation_probability=augmentation_probability,
    )


class Objective(nn.Module):
    """Adversarial loss, penalties and regularizers, on images as the discriminator sees them.

    Attributes:
        discriminator: (images, labels, train) -> logits, or a `DiscriminatorOutput`.
        loss: the adversarial loss.
        penalties: gradient penalties of the discriminator, by name.
        regularizers: what makes each regularizer, by name.
        augmentations: applied in order to all images that the discriminator sees.
        packing: examples that the discriminator sees together and gives one logit, side by side
            in the last axis (PacGAN; Lin et al., 2018, algorithm 1); a divisor of the batch, 1
            with labels.
        top_share: final share of generated examples, the most real ones, from which the
            generator learns (top-k training; Sinha et al., 2020); 1 for all.
        top_until: the step at which the share, falling linearly from 1, reaches `top_share`.
        ada_target: target of E[sign(D(x) - threshold)] over real images x, or of
            E[sign(D(x) - D(G(z)))] if the loss depends on differences alone. Each augmentation is
            applied with a probability that adapts to it (ADA; Karras et al., 2020a, eq. 1). 0
            applies them always.
        ada_images: real images in which that probability can rise from 0 to 1.
        augmentation_probability: probability of each augmentation at each image, or a schedule of
            it; 1 applies them always.
    """

    discriminator: nn.Module
    loss: Loss
    penalties: Mapping[str, Penalty]
    regularizers: Mapping[str, Callable[[], Regularizer]]
    augmentations: tuple[Augmentation, ...]
    packing: int = 1
    top_share: float = 1.0
    top_until: int = 1
    ada_target: float = 0.0
    ada_images: int = 500_000
    augmentation_probability: ScalarOrSchedule = 1.0

    def setup(self):
        self.terms = {name: make() for name, make in self.regularizers.items()}
        if self.ada_target:
            self.ada = AdaptiveProbability(self.ada_target, self.ada_images)
        self.lazy_penalties = {
            name: self.variable(LAZY_PENALTIES, name, jnp.zeros, ())
            for name, penalty in self.penalties.items()
            if penalty.interval > 1
        }

    def __call__(self, images: Images, labels: Labels | None) -> Logits:
        """Creates the variables of the discriminator and of the regularizers.

        Raises:
            InputError: the discriminator does not suit these penalties or regularizers.
        """
        if self.ada_target:
            self.ada()
        output = self._output(self._pack(images, labels), labels, train=True)
        for name, term in self.terms.items():
            valid = self.packing == 1 or not term.NEEDS_SINGLE_IMAGES
            check("packing", self.packing, valid, f"1 with the regularizer {name}")
            term(output, labels)
        eval_mode = self.penalties or any(term.NEEDS_EVAL_MODE for term in self.terms.values())
        if eval_mode and self._has_batch_statistics():
            raise InputError(
                "penalties and consistency regularizers need a discriminator without batch "
                "statistics, since each image's logit has to be its own"
            )
        if any(term.NEEDS_FEATURES for term in self.terms.values()):
            self._eval_features()(self._pack(images, labels), labels)
        return output.logits

    def discriminator_loss(self, inputs: LossInputs) -> tuple[jax.Array, Scalars]:
        """Computes the discriminator's loss.

        Returns:
            The loss, and scalars for the log: penalties without their weights, each of the last
            step at which it was due, and regularizers with theirs.
        """
        # R1 and R2 take their gradient from the forward pass that the loss needs anyway.
        gradient_sides = {penalty.gradient_side for penalty in self._sharing_penalties(inputs)}
        discriminate = self._output_pair
        if gradient_sides:
            discriminate = functools.partial(self._outputs_and_gradients, gradient_sides)
        regularizer_inputs, gradients = self._discriminate(discriminate, inputs)
        real_logits = regularizer_inputs.real_output.logits
        fake_logits = regularizer_inputs.fake_output.logits
        values = mean_per_example(self.loss.discriminator(real_logits, fake_logits))
        scalars = {
            "adversarial": values.mean(),
            "real": real_logits.mean(),
            "fake": fake_logits.mean(),
        }
        for name, penalty in self.penalties.items():
            # `gradients` may have this side for another penalty that is due.
            if penalty.gradient_side in gradients and penalty.is_due(inputs.step) is True:
                penalty_values = penalty.values_from_gradient(gradients[penalty.gradient_side])
            else:
                penalty_values = self._penalty_values(name, penalty, regularizer_inputs, inputs)
            weight = value_at(penalty.weight, inputs.step)
            values += weight * penalty.interval * penalty_values
            scalars[name] = self._last_mean(name, penalty_values, inputs.step)
        terms = self._regularize("discriminator", regularizer_inputs, inputs)
        if self.ada_target:
            scalars["ada_probability"] = self.ada()
            threshold = self.loss.decision_threshold
            if self.loss.depends_on_differences:
                threshold = mean_per_example(fake_logits)
            margins = mean_per_example(real_logits) - threshold
            self.ada.adjust(margins, axis.gather(margins).size * self.packing)
        return values.mean() + sum(terms.values()), scalars | terms

    def generator_loss(self, inputs: LossInputs) -> tuple[jax.Array, Scalars]:
        """Computes the generator's loss, and scalars for the log: regularizers with weights."""
        regularizer_inputs, _ = self._discriminate(self._outputs_for_generator, inputs)
        real_logits = regularizer_inputs.real_output.logits
        fake_logits = regularizer_inputs.fake_output.logits
        values = mean_per_example(self.loss.generator(real_logits, fake_logits))
        if self.top_share < 1:
            progress = jnp.minimum(inputs.step / self.top_until, 1)
            values *= top_weights(
                mean_per_example(fake_logits), 1 - (1 - self.top_share) * progress
            )
        terms = self._regularize("generator", regularizer_inputs, inputs)
        return values.mean() + sum(terms.values()), terms

    def discriminate(self, images: Images, labels: Labels | None) -> Logits:
        """Returns the discriminator's logits in eval mode, without augmentation.

        They are one per pack; images after the last complete pack are left out.
        """
        complete = max(len(images) // self.packing, 1) * self.packing
        images, labels = jax.tree.map(lambda leaf: leaf[:complete], (images, labels))
        return self._output(self._pack(images, labels), labels, train=False).logits

    def discriminate_single(self, images: Images, labels: Labels | None) -> Logits:
        """Returns logits as `discriminate`, one per image: packs are copies of one image."""
        return self.discriminate(jnp.repeat(images, self.packing, axis=0), labels)

    def _discriminate(
        self,
        discriminate: Callable[[Images, Images, Labels | None], Outputs],
        inputs: LossInputs,
    ) -> tuple[RegularizerInputs, dict[str, Images]]:
        """Augments, packs and discriminates real and generated images.

        Returns:
            Images and outputs, and the gradients that `discriminate` took on its way.
        """

        def prepare(images: Images, stream: str) -> Images:
            key = keys.stream(inputs.key, stream)
            augmented = self._augment(images, key, inputs.examples, inputs.step)
            return self._pack(augmented, inputs.labels)

        real = prepare(inputs.real, "augment real")
        fake = prepare(inputs.generated, "augment fake")
        # Before the pass of the loss, which stores a power iteration: all have the same weights.
        eval_discriminator, eval_features = self._eval_discriminator(), self._eval_features()
        outputs = discriminate(real, fake, inputs.labels)
        regularizer_inputs = RegularizerInputs(
            real=real,
            fake=fake,
            real_output=outputs.real,
            fake_output=outputs.fake,
            labels=inputs.labels,
            discriminate=eval_discriminator,
            generator_inputs=inputs.generator_inputs,
            generated=inputs.generated,
            generate=inputs.generate,
            step=inputs.step,
            augment=lambda images: prepare(images, "augment fake"),
            discriminator_features=eval_features,
            originals=inputs.real,
            pairs=inputs.pairs,
        )
        return regularizer_inputs, outputs.gradients

    def _regularize(
        self, player: str, regularizer_inputs: RegularizerInputs, inputs: LossInputs
    ) -> Scalars:
        """Computes the terms of a player's loss, by regularizer."""
        terms = {}
        for name, regularizer in self.terms.items():
            example_keys = keys.per_example(keys.stream(inputs.key, name), inputs.examples)
            is_generator = player == "generator"
            term = regularizer.generator if is_generator else regularizer.discriminator
            values = term(regularizer_inputs, example_keys)
            if values is not None:
                terms[name] = values.mean()
        return terms

    def _has_batch_statistics(self) -> bool:
        """Returns whether a logit depends on the other images of its batch."""
        return norms.COLLECTION in self.discriminator.variables

    def _output(self, images: Images, labels: Labels | None, train: bool) -> DiscriminatorOutput:
        return as_output(self.discriminator(images, labels, train=train))

    def _output_pair(self, real: Images, fake: Images, labels: Labels | None) -> Outputs:
        """Discriminates both in one pass, unless logits depend on the rest of the batch.

        The images are interleaved: with the batch sharded, concatenation would move them.
        """
        if self._has_batch_statistics():
            return self._separate_outputs(real, fake, labels)
        images = jnp.stack([real, fake], axis=1).reshape(-1, *real.shape[1:])
        labels = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), labels)
        output = self._output(images, labels, train=True)
        pairs = jax.tree.map(lambda x: x.reshape(-1, 2, *x.shape[1:]), output)
        return Outputs(*(jax.tree.map(lambda x, k=side: x[:, k], pairs) for side in (0, 1)), {})

    def _separate_outputs(self, real: Images, fake: Images, labels: Labels | None) -> Outputs:
        """Discriminates each in a pass of its own; XLA drops a pass whose logits are unused."""
        outputs = (self._output(images, labels, train=True) for images in (real, fake))
        return Outputs(*outputs, {})

    def _outputs_for_generator(self, real: Images, fake: Images, labels: Labels | None) -> Outputs:
        """As `_separate_outputs`, but both from the same vectors of spectral normalization."""
        has_vectors = spectral.COLLECTION in self.discriminator.variables
        if not has_vectors or self._has_batch_statistics():
            return self._separate_outputs(real, fake, labels)
        network, variables = self._unbind_discriminator()
        rngs = {"dropout": self.make_rng("dropout")} if self.has_rng("dropout") else {}
        apply = functools.partial(network.apply, variables, mutable=list(variables), rngs=rngs)
        real_output, _ = apply(real, labels, train=True)
        return Outputs(as_output(real_output), self._output(fake, labels, train=True), {})

    def _outputs_and_gradients(
        self, sides: Collection[str], real: Images, fake: Images, labels: Labels | None
    ) -> Outputs:
        """Discriminates each, and differentiates the logits in the images on the same pass."""
        discriminate, images = self._eval_discriminator(), {"real": real, "fake": fake}

        def total(images: Images) -> tuple[jax.Array, DiscriminatorOutput]:
            output = discriminate(images, labels)
            return mean_per_example(output.logits).sum(), output

        # Stores the power iteration. The logits are those of eval mode: there is no dropout here,
        # and there are no batch statistics.
        fake_output = self._output(fake, labels, train=True)
        passes = {side: jax.grad(total, has_aux=True)(images[side]) for side in sorted(sides)}
        return Outputs(
            real=passes["real"][1] if "real" in passes else discriminate(real, labels),
            fake=passes["fake"][1] if "fake" in passes else fake_output,
            gradients={side: gradient for side, (gradient, _) in passes.items()},
        )

    def _sharing_penalties(self, inputs: LossInputs) -> list[Penalty]:
        """Returns the due penalties that reuse the forward pass of the loss.

        With dropout there are none: a penalty is of logits in eval mode, which then are not those
        of the loss.
        """
        penalties = [
            penalty
            for penalty in self.penalties.values()
            if penalty.gradient_side and penalty.is_due(inputs.step) is True
        ]
        return [] if penalties and self._is_random(inputs) else penalties

    def _is_random(self, inputs: LossInputs) -> bool:
        """Returns whether the discriminator draws random numbers in training."""
        network, variables = self.discriminator.unbind()
        discriminate = functools.partial(
            network.apply, train=True, mutable=list(variables), rngs=None
        )
        try:
            images = jax.eval_shape(self._pack, inputs.real, inputs.labels)
            jax.eval_shape(discriminate, variables, images, inputs.labels)
        except flax.errors.InvalidRngError:
            return True
        return False

    def _pack(self, images: Images, labels: Labels | None) -> Images:
        """Puts neighbors side by side: [batch, ..., channels] -> [packs, ..., packing channels]."""
        if self.packing == 1:
            return images
        valid = labels is None and images.shape[0] % self.packing == 0
        expected = f"a divisor of the {images.shape[0]} examples, and 1 with labels"
        check("packing", self.packing, valid, expected)
        packs = images.reshape(-1, self.packing, *images.shape[1:])
        packs = jnp.moveaxis(packs, 1, -2)
        return packs.reshape(*packs.shape[:-2], -1)

    def _augment(self, images: Images, key: PRNGKey, examples: Indices, step: jax.Array) -> Images:
        for place, augmentation in enumerate(self.augmentations):
            example_keys = keys.per_example(jax.random.fold_in(key, place), examples)
            if not self.ada_target and self.augmentation_probability == 1.0:
                images = augmentation(images, example_keys, step)
                continue
            fixed = value_at(self.augmentation_probability, step)
            probability = self.ada() if self.ada_target else fixed
            pairs = jax.vmap(jax.random.split)(example_keys)
            applies = jax.vmap(jax.random.uniform)(pairs[:, 1]) < probability
            applies = applies.reshape(-1, *[1] * (images.ndim - 1))
            images = jnp.where(applies, augmentation(images, pairs[:, 0], step), images)
        return images

    def _eval_discriminator(self) -> Callable[[Images, Labels | None], DiscriminatorOutput]:
        """Returns the discriminator as it is, in eval mode, as a function of images and labels."""
        network, variables = self._unbind_discriminator()
        return lambda images, labels: as_output(
            network.apply(variables, images, labels, train=False)
        )

    def _unbind_discriminator(self) -> tuple[nn.Module, Variables]:
        """Returns the discriminator and its variables, which later passes do not change."""
        network, variables = self.discriminator.unbind()
        return network, jax.tree.map(lambda leaf: leaf, variables)

    def _eval_features(self) -> Callable[[Images, Labels | None], Vectors]:
        """Returns the discriminator's features in eval mode as a function of images and labels."""
        network, variables = self._unbind_discriminator()

        def extract(images: Images, labels: Labels | None) -> Vectors:
            mutable = ["intermediates"]
            _, sown = network.apply(variables, images, labels, train=False, mutable=mutable)
            return sown_features(sown)

        return extract

    def _penalty_values(
        self,
        name: str,
        penalty: Penalty,
        regularizer_inputs: RegularizerInputs,
        inputs: LossInputs,
    ) -> Float[Array, " batch"]:
        """Computes a penalty per example or pack; 0 in steps between its intervals."""
        real, fake, labels = (
            regularizer_inputs.real,
            regularizer_inputs.fake,
            regularizer_inputs.labels,
        )
        count = real.shape[0]
        # A pack has the key of its first example.
        firsts = inputs.examples[:: inputs.examples.shape[0] // count]
        stream = "penalty" if len(self.penalties) == 1 else f"penalty {name}"
        example_keys = keys.per_example(keys.stream(inputs.key, stream), firsts)

        def compute() -> Float[Array, " batch"]:
            return penalty.values(
                lambda images: mean_per_example(
                    regularizer_inputs.discriminate(images, labels).logits
                ),
                real,
                fake,
                example_keys,
            )

        zeros, is_due = jnp.zeros(count, real.dtype), penalty.is_due(inputs.step)
        if isinstance(is_due, bool):
            return compute() if is_due else zeros
        return jax.lax.cond(is_due, compute, lambda: zeros)

    def _last_mean(self, name: str, values: Float[Array, " batch"], step: jax.Array) -> jax.Array:
        """Returns the mean of a penalty at the last step at which it was due."""
        mean = values.mean()
        if name not in self.lazy_penalties:
            return mean
        last = self.lazy_penalties[name]
        is_due = self.penalties[name].is_due(step)
        mean = jnp.where(is_due, axis.mean_over_devices(jax.lax.stop_gradient(mean)), last.value)
        if self.is_mutable_collection(LAZY_PENALTIES):
            last.value = mean
        return mean


def as_output(output: Logits | DiscriminatorOutput) -> DiscriminatorOutput:
    """Returns a discriminator's output as a `DiscriminatorOutput`, with a class head or without."""
    return output if isinstance(output, DiscriminatorOutput) else DiscriminatorOutput(output)


def sown_features(variables: Variables) -> Vectors:
    """Returns the features among what a discriminator sowed, of several scales one after another.

    Of a map they are the means over its places.

    Raises:
        InputError: it sowed none.
    """
    flat = flax.traverse_util.flatten_dict(variables.get("intermediates", {}))
    sown = [values[0] for path, values in sorted(flat.items()) if path[-1] == "features"]
    if not sown:
        raise InputError(
            "the regularizer feature_matching needs a discriminator that sows "
            "intermediates/features, as those of gaxn do"
        )
    vectors = [x.mean(axis=tuple(range(1, x.ndim - 1))) for x in sown]
    return jnp.concatenate(vectors, axis=-1)


def mean_per_example(values: Logits) -> Float[Array, " batch"]:
    """Returns the mean of each example over scales and places, if there are several."""
    return values.reshape(values.shape[0], -1).mean(axis=1) if values.ndim > 1 else values


def top_weights(logits: Logits, share: jax.Array) -> Logits:
    """Returns weights of mean 1 over the batch: 0 for the least real examples, equal for the rest.

    Args:
        logits: of this device's examples.
        share: of the global batch (or micro-batch) with a weight above 0, in (0, 1]; at least one
            example.
    """
    batch = axis.gather(jax.lax.stop_gradient(logits))
    count = jnp.maximum(jnp.round(share * batch.size).astype(int), 1)
    threshold = jnp.sort(batch)[batch.size - count]
    return (logits >= threshold) * (batch.size / (batch >= threshold).sum())
