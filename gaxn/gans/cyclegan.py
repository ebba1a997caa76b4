"""Two generators and two discriminators: translation between two sets of unpaired images."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn import keys
from gaxn.data import pixels
from gaxn.gans import BaseGAN
from gaxn.nn.history import ImageHistory
from gaxn.objectives.objective import LossInputs, Objective
from gaxn.objectives.regularizers import CYCLE, IDENTITY
from gaxn.objectives.schedules import ScalarOrSchedule, check_values, value_at
from gaxn.types import Batch, Images, Indices, Logits, PRNGKey, Scalars, check

WEIGHTS = ("adversarial", "cycle", "identity")


class Pair(nn.Module):
    """Two networks of one architecture, from different initial weights, as one player.

    Attributes:
        a: the generator of images of domain A, or the discriminator of A.
        b: of B.
    """

    a: nn.Module
    b: nn.Module


class CycleGAN(BaseGAN):
    """The CycleGAN (Zhu et al., 2017, eq. 1-3; identity loss: section 5.2).

    The generated images that a discriminator sees go through a history; penalties and regularizers
    are those of each discriminator's objective. Batches hold unrelated images of A and B: uint8
    [batch, 2, height, width, channels]. In training each image is a random square of the
    source's, mirrored half of the time, both independent between the domains.

    Attributes:
        generator: (images, train) -> images; one becomes a `Pair`.
        discriminator: (images, None, train) -> logits; one becomes a `Pair`.
        objective: discriminator -> the objective of it and of the generator of its domain.
        conditional: must be False.
        size: height and width of the networks' inputs in training.
        adversarial: weight of the adversarial term of the generators' loss, 0 or more; like the
            next two, or a schedule of it.
        cycle: weight of the cycle term, the mean absolute difference between an image and its
            translation to the other domain and back, of pixels in [-1, 1]; 0 or more.
        identity: weight of the identity term, the mean absolute difference between an image and
            its translation into its own domain; 0 or more, and 0 does not compute it.
        history: how many generated images are kept for each discriminator, which sees a kept one
            instead of a new one half of the time; 0 for none.
        mirror: whether training images are mirrored half of the time.
    """

    generator: nn.Module
    discriminator: nn.Module
    objective: Callable[[nn.Module], Objective]
    conditional: bool
    size: int
    adversarial: ScalarOrSchedule = 1.0
    cycle: ScalarOrSchedule = 10.0
    identity: ScalarOrSchedule = 5.0
    history: int = 50
    mirror: bool = True

    HOOKS: ClassVar[str] = "cyclegan"

    def __post_init__(self):
        for player in ("generator", "discriminator"):
            network = getattr(self, player)
            if not isinstance(network, Pair):
                object.__setattr__(self, player, Pair(network.clone(), network.clone()))
        check("conditional", self.conditional, not self.conditional, "False with a CycleGAN")
        check("history", self.history, self.history >= 0, "0 (for none) or more")
        for name in WEIGHTS:
            weight = getattr(self, name)
            check_values(name, weight, lambda value: value >= 0, "a weight, 0 or more")
        super().__post_init__()

    def setup(self):
        self.discriminator_of_a = self.objective(self.discriminator.a)
        self.discriminator_of_b = self.objective(self.discriminator.b)
        self.discriminator_history_a = ImageHistory(self.history)
        self.discriminator_history_b = ImageHistory(self.history)

    def losses(self) -> Mapping[str, Callable]:
        return {"discriminator": CycleGAN.discriminator_loss, "generator": CycleGAN.generator_loss}

    def __call__(self, batch: Batch, key: PRNGKey) -> tuple[Logits, Logits]:
        """Runs all networks once, so that Flax creates their variables.

        Raises:
            InputError: the images are not of two domains, or a regularizer needs latents.
        """
        shape = batch.images.shape
        check("data", shape[1:], len(shape) == 5, "unpaired images of two domains with a CycleGAN")
        expected = "regularizers that need no latents with a CycleGAN"
        for name, term in self.discriminator_of_a.terms.items():
            check("regularizers", name, not term.NEEDS_LATENTS, expected)
        examples = jnp.arange(batch.images.shape[0])
        a, b = self._crops(batch, examples, key)
        example_keys = keys.per_example(key, examples)
        fake_a = self.discriminator_history_a(self.generator.a(b, train=True), example_keys)
        fake_b = self.discriminator_history_b(self.generator.b(a, train=True), example_keys)
        return self.discriminator_of_a(fake_a, None), self.discriminator_of_b(fake_b, None)

    def discriminator_loss(
        self, batch: Batch, examples: Indices, key: PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, Scalars]:
        """Computes the sum of both discriminators' losses; scalars of each, and their means."""
        a, b = self._crops(batch, examples, key)

        def loss(domain: str, real: Images, source: Images, objective, generator, history):
            domain_key = keys.stream(key, f"critic of {domain}")
            history_keys = keys.per_example(keys.stream(domain_key, "history"), examples)

            def generate(images: Images) -> Images:
                return history(generator(images, train=True), history_keys)

            fake = generate(source)
            inputs = LossInputs(real, source, fake, generate, None, examples, domain_key, step)
            return objective.discriminator_loss(inputs)

        loss_a, scalars_a = loss(
            "a", a, b, self.discriminator_of_a, self.generator.a, self.discriminator_history_a
        )
        loss_b, scalars_b = loss(
            "b", b, a, self.discriminator_of_b, self.generator.b, self.discriminator_history_b
        )
        return loss_a + loss_b, _merge_scalars(scalars_a, scalars_b)

    def generator_loss(
        self, batch: Batch, examples: Indices, key: PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, Scalars]:
        """Computes the weighted sum of the generators' terms; scalars are without weights."""
        a, b = self._crops(batch, examples, key)
        to_a, to_b = (partial(network, train=True) for network in self._generators())
        fake_a, fake_b = to_a(b), to_b(a)

        def objective_loss(domain: str, objective, real: Images, source: Images, fake, to, pairs):
            domain_key = keys.stream(key, f"critic of {domain}")
            inputs = LossInputs(real, source, fake, to, None, examples, domain_key, step, pairs)
            return objective.generator_loss(inputs)

        pairs_a, pairs_b = {CYCLE: (to_a(fake_b), a)}, {CYCLE: (to_b(fake_a), b)}
        if self.identity or IDENTITY in self._pair_names():
            pairs_a[IDENTITY], pairs_b[IDENTITY] = (to_a(a), a), (to_b(b), b)
        loss_a, scalars_a = objective_loss(
            "a", self.discriminator_of_a, a, b, fake_a, to_a, pairs_a
        )
        loss_b, scalars_b = objective_loss(
            "b", self.discriminator_of_b, b, a, fake_b, to_b, pairs_b
        )
        terms = {
            "adversarial": {"a": loss_a, "b": loss_b},
            "cycle": {"a": _distance(*pairs_a[CYCLE]), "b": _distance(*pairs_b[CYCLE])},
        }
        if self.identity:
            terms["identity"] = {
                "a": _distance(*pairs_a[IDENTITY]),
                "b": _distance(*pairs_b[IDENTITY]),
            }
        total = sum(
            value_at(getattr(self, name), step) * (term["a"] + term["b"])
            for name, term in terms.items()
        )
        scalars = {
            f"{name}_{domain}": value
            for name, term in terms.items()
            for domain, value in term.items()
        }
        return total, {**_merge_scalars(scalars_a, scalars_b), **scalars}

    def to_a(self, images: Images) -> Images:
        """Translates images of B into A, in [-1, 1], in eval mode."""
        return self.generator.a(images, train=False)

    def to_b(self, images: Images) -> Images:
        """Translates images of A into B, in [-1, 1], in eval mode."""
        return self.generator.b(images, train=False)

    def discriminate_a(self, images: Images) -> Logits:
        """Returns the logits of A's discriminator in eval mode."""
        return self.discriminator_of_a.discriminate(images, None)

    def discriminate_b(self, images: Images) -> Logits:
        """Returns the logits of B's discriminator in eval mode."""
        return self.discriminator_of_b.discriminate(images, None)

    def discriminate_single_a(self, images: Images) -> Logits:
        """Returns the logits of A's discriminator in eval mode, one per image."""
        return self.discriminator_of_a.discriminate_single(images, None)

    def discriminate_single_b(self, images: Images) -> Logits:
        """Returns the logits of B's discriminator in eval mode, one per image."""
        return self.discriminator_of_b.discriminate_single(images, None)

    def _pair_names(self) -> set[str]:
        """Returns the names of the pairs of images that regularizers need."""
        terms = self.discriminator_of_a.terms.values()
        return {name for term in terms for name in term.pair_names}

    def _generators(self) -> tuple[nn.Module, nn.Module]:
        return self.generator.a, self.generator.b

    def _crops(self, batch: Batch, examples: Indices, key: PRNGKey) -> tuple[Images, Images]:
        """Returns random squares of the real images of A and of B."""
        images = pixels.decode(batch.images)
        return tuple(
            random_crop(
                images[:, place],
                keys.per_example(keys.stream(key, f"view of {domain}"), examples),
                self.size,
                self.mirror,
            )
            for place, domain in enumerate("ab")
        )


def random_crop(images: Images, example_keys: jax.Array, size: int, mirror: bool) -> Images:
    """Returns a random square of each image, mirrored half of the time.

    Args:
        images: [batch, height, width, channels], no side smaller than `size`.
        example_keys: one per image.
        size: height and width of the square.
        mirror: whether images are mirrored, left to right.
    """

    def crop(image: jax.Array, key: PRNGKey) -> jax.Array:
        place_key, mirror_key = jax.random.split(key)
        room = jnp.array(image.shape[:2]) - size
        corner = jax.random.randint(place_key, (2,), 0, room + 1)
        square = jax.lax.dynamic_slice(image, (*corner, 0), (size, size, image.shape[-1]))
        return jnp.where(mirror & jax.random.bernoulli(mirror_key), square[:, ::-1], square)

    return jax.vmap(crop)(images, example_keys)


def _distance(images: Images, targets: Images) -> jax.Array:
    """Returns the mean absolute difference."""
    return jnp.abs(images - targets).mean()


def _merge_scalars(scalars_a: Scalars, scalars_b: Scalars) -> Scalars:
    """Returns the means under the plain names, and each domain's under NAME_a and NAME_b."""
    means = jax.tree.map(lambda a, b: (a + b) / 2, scalars_a, scalars_b)
    by_domain = {"a": scalars_a, "b": scalars_b}
    named = {
        f"{name}_{domain}": value
        for domain, scalars in by_domain.items()
        for name, value in scalars.items()
    }
    return {**means, **named}
