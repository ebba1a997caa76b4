"""Other terms of the players' losses: one function per regularizer.

Its parameters are its options in a config. Unlike a penalty, a regularizer may concern both
players, ask for more images, and keep variables from step to step. Each function returns a factory,
() -> Regularizer, a Flax module; a CycleGAN calls it twice, once for each discriminator.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from gaxn.distributed import axis
from gaxn.objectives.augmentations import Augmentation
from gaxn.types import (
    DiscriminatorOutput,
    Images,
    InputError,
    Labels,
    Logits,
    SentenceCondition,
    Vectors,
    check,
)

CYCLE, IDENTITY = "cycle", "identity"
"""Names of the pairs of images that a CycleGAN makes alike."""


class ImageFeatures(NamedTuple):
    """A trained network as functions of images in [-1, 1], which gradients go through.

    Attributes:
        features: images -> their features.
        distance: (images, images) -> the distance of each pair.
    """

    features: Callable[[Images], Vectors]
    distance: Callable[[Images, Images], Float[Array, " batch"]]


class RegularizerInputs(NamedTuple):
    """Images and outputs of one player update.

    Attributes:
        real, fake: images as the discriminator sees them, augmented and packed.
        real_output, fake_output: the discriminator's outputs for them.
        labels: of the examples; None if there are none.
        discriminate: (augmented images, labels) -> outputs of the discriminator in eval mode.
        generator_inputs: latents, float [batch, latent], or the images to translate.
        generated: images that the generator made of these, neither augmented nor packed.
        generate: generator inputs -> generated images.
        step: training steps before this one.
        augment: generated images -> as the discriminator sees them, augmented as `fake` was.
        discriminator_features: (augmented images, labels) -> features of the discriminator in eval
            mode.
        originals: real images, neither augmented nor packed.
        pairs: by name, images of the generator and those that they should be like; {} of a GAN
            without such pairs.
    """

    real: Images
    fake: Images
    real_output: DiscriminatorOutput
    fake_output: DiscriminatorOutput
    labels: Labels | None
    discriminate: Callable[[Images, Labels | None], DiscriminatorOutput]
    generator_inputs: Float[Array, "batch ..."]
    generated: Images
    generate: Callable[[jax.Array], Images]
    step: jax.Array
    augment: Callable[[Images], Images]
    discriminator_features: Callable[[Images, Labels | None], Vectors]
    originals: Images
    pairs: Mapping[str, tuple[Images, Images]]


class Regularizer(nn.Module):
    """A regularizer that adds nothing.

    Attributes:
        NEEDS_EVAL_MODE: whether it calls `discriminate`, so that the discriminator must not have
            batch statistics.
        NEEDS_LATENTS: whether the generator's inputs must be latents.
        NEEDS_FEATURES: whether it calls `discriminator_features`.
        NEEDS_SINGLE_IMAGES: whether it takes the images apart, so that they must not be packed.
        pair_names: of the pairs that it uses of a GAN that has them.
    """

    NEEDS_EVAL_MODE: ClassVar[bool] = False
    NEEDS_LATENTS: ClassVar[bool] = False
    NEEDS_FEATURES: ClassVar[bool] = False
    NEEDS_SINGLE_IMAGES: ClassVar[bool] = False

    @property
    def pair_names(self) -> tuple[str, ...]:
        return ()

    def __call__(self, output: DiscriminatorOutput, labels: Labels | None) -> None:
        """Creates the regularizer's variables, and refuses discriminators that do not suit it.

        Raises:
            InputError: this discriminator or these labels do not suit.
        """

    def discriminator(self, inputs: RegularizerInputs, keys: jax.Array) -> Logits | None:
        """Returns the term of the discriminator's loss, one value per example or pack.

        Args:
            inputs: of this update.
            keys: one per example.
        """

    def generator(self, inputs: RegularizerInputs, keys: jax.Array) -> Logits | None:
        """Returns the term of the generator's loss; the arguments are the discriminator's."""


def lecam(weight: float = 0.3, decay: float = 0.99) -> Callable[[], Regularizer]:
    """LeCam: pulls each side's logits to the other side's running mean (Tseng et al., 2021, eq. 4).

    weight ((D(x) - a_fake)^2 + (D(G(z)) - a_real)^2), of the discriminator.

    Args:
        weight: weight of this term, 0 or more.
        decay: decay of the running means a_real and a_fake of the logits, which start at 0; at
            least 0 and below 1.
    """
    check("weight", weight, weight >= 0, "0 or more")
    check("decay", decay, 0 <= decay < 1, "at least 0 and below 1")
    return lambda: LeCam(weight, decay)


class LeCam(Regularizer):
    """The module of `lecam`."""

    weight: float
    decay: float

    def setup(self):
        self.anchors = self.variable("lecam", "anchors", jnp.zeros, (2,))

    def __call__(self, output: DiscriminatorOutput, labels: Labels | None) -> None:
        # Scales are discriminators of their own, whose logits may differ by any constant.
        scales = output.logits.shape[1] if output.logits.ndim == 2 else 1
        check("the discriminator's scales", scales, scales == 1, "1 with lecam")

    def discriminator(self, inputs: RegularizerInputs, keys: jax.Array) -> Logits:
        real, fake = inputs.real_output.logits, inputs.fake_output.logits
        means = jax.lax.stop_gradient(jnp.stack([real.mean(), fake.mean()]))
        means = axis.mean_over_devices(means)
        anchors = self.decay * self.anchors.value + (1 - self.decay) * means
        if self.is_mutable_collection("lecam"):
            self.anchors.value = anchors
        return self.weight * (jnp.square(real - anchors[1]) + jnp.square(fake - anchors[0]))


def bcr(
    augmentations: Sequence[Augmentation], real: float = 10.0, fake: float = 10.0
) -> Callable[[], Regularizer]:
    """Balanced consistency: logits do not change under T (Zhao et al., 2021, section 3.1).

    real (D(x) - D(T(x)))^2 + fake (D(G(z)) - D(T(G(z))))^2, of the discriminator.

    Args:
        augmentations: the augmentations of T, applied in order; in a config a dict by name, like
            `config.augmentations`.
        real: weight of the term of real images, 0 or more.
        fake: weight of the term of generated images, 0 or more; 0 is plain consistency
            (Zhang et al., 2020).
    """
    check("augmentations", augmentations, len(augmentations) > 0, "one augmentation or more")
    for name, weight in (("real", real), ("fake", fake)):
        check(name, weight, weight >= 0, "0 or more")
    return lambda: BalancedConsistency(tuple(augmentations), real, fake)


class BalancedConsistency(Regularizer):
    """The module of `bcr`."""

    augmentations: tuple[Augmentation, ...]
    real: float
    fake: float

    NEEDS_EVAL_MODE = True
    NEEDS_SINGLE_IMAGES = True

    def discriminator(self, inputs: RegularizerInputs, keys: jax.Array) -> Logits:
        sides = ((inputs.real, inputs.real_output), (inputs.fake, inputs.fake_output))
        pairs = jax.vmap(jax.random.split)(keys)
        squares = []
        for side, (images, output) in enumerate(sides):
            augmented = self._augment(images, pairs[:, side], inputs.step)
            squares.append(
                jnp.square(output.logits - inputs.discriminate(augmented, inputs.labels).logits)
            )
        return self.real * squares[0] + self.fake * squares[1]

    def _augment(self, images: Images, keys: jax.Array, step: jax.Array) -> Images:
        for place, augmentation in enumerate(self.augmentations):
            folded = jax.vmap(lambda key, place=place: jax.random.fold_in(key, place))(keys)
            images = augmentation(images, folded, step)
        return images


def zcr(
    discriminator_weight: float = 5.0, generator_weight: float = 0.5, deviation: float = 0.03
) -> Callable[[], Regularizer]:
    """Latent consistency: similar logits, different images (Zhao et al., 2021, section 3.2).

    With z' = z + noise, the discriminator gets discriminator_weight (D(G(z)) - D(G(z')))^2, the
    generator -generator_weight times the mean square over pixels of G(z) - G(z').

    Args:
        discriminator_weight: weight of the discriminator's term, 0 or more.
        generator_weight: weight of the generator's term, 0 or more.
        deviation: standard deviation of the noise that is added to each number of a latent,
            above 0.
    """
    check("discriminator_weight", discriminator_weight, discriminator_weight >= 0, "0 or more")
    check("generator_weight", generator_weight, generator_weight >= 0, "0 or more")
    check("deviation", deviation, deviation > 0, "above 0")
    return lambda: LatentConsistency(discriminator_weight, generator_weight, deviation)


class LatentConsistency(Regularizer):
    """The module of `zcr`."""

    discriminator_weight: float
    generator_weight: float
    deviation: float

    NEEDS_EVAL_MODE = True
    NEEDS_LATENTS = True

    def discriminator(self, inputs: RegularizerInputs, keys: jax.Array) -> Logits:
        images = inputs.augment(inputs.generate(self._perturb(inputs, keys)))
        change = inputs.fake_output.logits - inputs.discriminate(images, inputs.labels).logits
        return self.discriminator_weight * jnp.square(change)

    def generator(self, inputs: RegularizerInputs, keys: jax.Array) -> Logits:
        change = jnp.square(inputs.generated - inputs.generate(self._perturb(inputs, keys)))
        return -self.generator_weight * change.mean(axis=tuple(range(1, change.ndim)))

    def _perturb(self, inputs: RegularizerInputs, keys: jax.Array) -> jax.Array:
        latents = inputs.generator_inputs
        draw = jax.vmap(lambda key: jax.random.normal(key, latents.shape[1:], latents.dtype))
        return latents + self.deviation * draw(keys)


def auxiliary(weight: float = 1.0, fake: bool = True) -> Callable[[], Regularizer]:
    """AC-GAN: cross-entropy of the labels, of both players (Odena et al., 2017, eq. 3, L_C).

    The discriminator's is over real and generated images, the generator's over generated ones.
    Needs a discriminator with a head of class logits that does not see the labels. Of sentences it
    predicts the vector, and the mean square error takes the place of the cross-entropy.

    Args:
        weight: weight of this term, 0 or more.
        fake: whether the discriminator learns the classes of generated images too, as in the
            paper; without, poor images cannot teach it.
    """
    check("weight", weight, weight >= 0, "0 or more")
    return lambda: AuxiliaryClassifier(weight, fake)


class AuxiliaryClassifier(Regularizer):
    """The module of `auxiliary`."""

    weight: float
    fake: bool

    def __call__(self, output: DiscriminatorOutput, labels: Labels | None) -> None:
        if output.class_logits is None or labels is None:
            raise InputError(
                "the regularizer auxiliary needs labels and a discriminator with class logits: "
                "set config.conditional=True and config.discriminator.auxiliary=True"
            )

    def discriminator(self, inputs: RegularizerInputs, keys: jax.Array) -> Logits:
        error = self._prediction_error(inputs, inputs.real_output)
        if self.fake:
            error += self._prediction_error(inputs, inputs.fake_output)
        return self.weight * error

    def generator(self, inputs: RegularizerInputs, keys: jax.Array) -> Logits:
        return self.weight * self._prediction_error(inputs, inputs.fake_output)

    def _prediction_error(self, inputs: RegularizerInputs, output: DiscriminatorOutput) -> Logits:
        labels = inputs.labels
        if isinstance(labels, SentenceCondition):
            labels = labels.sentence
        if labels.ndim > 1:
            return jnp.square(output.class_logits - labels).mean(axis=-1)
        return optax.softmax_cross_entropy_with_integer_labels(output.class_logits, labels)


def matching(weight: float = 1.0) -> Callable[[], Regularizer]:
    """Makes the discriminator match images and conditions, after GAN-CLS (Reed et al., 2016).

    weight softplus(D(x, c') - D(x, c)), of the discriminator: a real image x is more real with its
    condition c than with that of the next example, c'. Reed et al. count (x, c') as generated
    (alg. 1); as a difference it suits every loss. Equal conditions count 0.

    Args:
        weight: weight of this term, 0 or more.
    """
    check("weight", weight, weight >= 0, "0 or more")
    return lambda: Matching(weight)


class Matching(Regularizer):
    """The module of `matching`."""

    NEEDS_EVAL_MODE = True

    weight: float

    def __call__(self, output: DiscriminatorOutput, labels: Labels | None) -> None:
        if labels is None:
            raise InputError("the regularizer matching needs config.conditional=True")

    def discriminator(self, inputs: RegularizerInputs, keys: jax.Array) -> Logits:
        count = inputs.real.shape[0]
        others = jax.tree.map(
            lambda leaf: axis.local_rows(jnp.roll(axis.gather(leaf), -1, axis=0), count),
            inputs.labels,
        )
        differs = jnp.zeros(count, bool)
        for a, b in zip(jax.tree.leaves(inputs.labels), jax.tree.leaves(others), strict=True):
            differs |= (a != b).reshape(count, -1).any(axis=1)
        right = inputs.real_output.logits
        wrong = inputs.discriminate(inputs.real, others).logits
        differs = differs.reshape(-1, *[1] * (right.ndim - 1))
        return self.weight * differs * nn.softplus(wrong - right)


def mode_seeking(weight: float = 1.0) -> Callable[[], Regularizer]:
    """Makes images of one condition differ as their latents do (Mao et al., 2019, section 3.2).

    weight / (d(G(z, c), G(z', c)) / d(z, z') + 1e-5), of the generator, with mean absolute
    differences d and a second latent z' of each example. It keeps a generator from ignoring its
    latents, as one does whose conditions, such as sentences, already differ from image to image.

    Args:
        weight: weight of this term, 0 or more.
    """
    check("weight", weight, weight >= 0, "0 or more")
    return lambda: ModeSeeking(weight)


class ModeSeeking(Regularizer):
    """The module of `mode_seeking`."""

    NEEDS_LATENTS = True

    weight: float

    def generator(self, inputs: RegularizerInputs, keys: jax.Array) -> Logits:
        latents = inputs.generator_inputs
        others = jax.vmap(lambda key: jax.random.normal(key, latents.shape[1:], latents.dtype))(
            keys
        )
        images = inputs.generated, inputs.generate(others)
        of_images, of_latents = (
            jnp.abs(a - b).mean(axis=tuple(range(1, a.ndim)))
            for a, b in (images, (latents, others))
        )
        return self.weight / (of_images / of_latents + 1e-5)


def feature_matching(weight: float = 1.0) -> Callable[[], Regularizer]:
    """Feature matching by the discriminator's features f (Salimans et al., 2016, section 3.1).

    weight |mean f(x) - mean f(G(z))|^2, of the generator, with means over the batch. f is what the
    discriminator's last linear layer sees; of a map, the mean over its places.

    Args:
        weight: weight of this term, 0 or more.
    """
    check("weight", weight, weight >= 0, "0 or more")
    return lambda: FeatureMatching(weight)


class FeatureMatching(Regularizer):
    """The module of `feature_matching`."""

    NEEDS_EVAL_MODE = True
    NEEDS_FEATURES = True

    weight: float

    def generator(self, inputs: RegularizerInputs, keys: jax.Array) -> Logits:
        means = [
            batch_mean(inputs.discriminator_features(images, inputs.labels))
            for images in (inputs.real, inputs.fake)
        ]
        value = self.weight * jnp.square(means[0] - means[1]).sum()
        return jnp.full(inputs.real.shape[0], value)


def perceptual(
    extractor: ImageFeatures, weight: float = 1.0, identity: float = 0.5
) -> Callable[[], Regularizer]:
    """Perceptual loss by the features f and the distance d of a trained network, of the generator.

    Of a CycleGAN, weight (d(cycle of x, x) + identity d(x as its own domain, x)), in place of or
    beside the mean absolute differences of `gan.cycle` and `gan.identity` (Johnson et al., 2016;
    d of the extractor `vgg` is LPIPS; Zhang et al., 2018). Like all of a domain's objective it is
    multiplied by `gan.adversarial`, which is 1 by default.

    Of any other GAN, weight (|mean f(x) - mean f(G(z))|^2 + |var f(x) - var f(G(z))|^2) with means
    and variances over the batch (dos Santos et al., 2019).

    Args:
        extractor: the network, a module of gaxn/features by its name, and the arguments of its
            `load`.
        weight: weight of this term, 0 or more.
        identity: of a CycleGAN, weight of the second distance, 0 or more; 0 does not compute it.
    """
    for name, value in (("weight", weight), ("identity", identity)):
        check(name, value, value >= 0, "0 or more")
    return lambda: Perceptual(extractor, weight, identity)


class Perceptual(Regularizer):
    """The module of `perceptual`."""

    extractor: ImageFeatures
    weight: float
    identity: float

    @property
    def pair_names(self) -> tuple[str, ...]:
        return (CYCLE, IDENTITY) if self.identity else (CYCLE,)

    def generator(self, inputs: RegularizerInputs, keys: jax.Array) -> Logits:
        if not inputs.pairs:
            return jnp.full(inputs.originals.shape[0], self.weight * self._moments(inputs))
        shares = {CYCLE: 1.0, IDENTITY: self.identity}
        distances = [
            shares[name] * self.extractor.distance(*inputs.pairs[name]) for name in self.pair_names
        ]
        return self.weight * sum(distances)

    def _moments(self, inputs: RegularizerInputs) -> Float[Array, ""]:
        """Returns the squared difference of means and variances of real and generated images."""
        features = [self.extractor.features(x) for x in (inputs.originals, inputs.generated)]
        means = [batch_mean(x) for x in features]
        variances = [
            batch_mean(jnp.square(x - mean)) for x, mean in zip(features, means, strict=True)
        ]
        return sum(jnp.square(real - fake).sum() for real, fake in (means, variances))


def batch_mean(values: Vectors) -> Float[Array, " features"]:
    """Returns the mean over the global batch, which gradients go through."""
    return axis.mean_over_devices(values.mean(axis=0))
