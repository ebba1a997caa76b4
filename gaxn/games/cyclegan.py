"""Two generators against two critics: translation between two sets of images, never paired."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gaxn import keys, pixels, schema, transforms
from gaxn.nn.history import ImageHistory
from gaxn.objective import Objective
from gaxn.types import Batch, Images, Indices, Logits, PRNGKey, Scalars, require

WEIGHTS = ("adversarial", "cycle", "identity")


class Both(nn.Module):
    """Two networks of one architecture, from different initial weights, as one player.

    Attributes:
        a: the generator that makes images of domain A, or the critic of A.
        b: of B.
    """

    a: nn.Module
    b: nn.Module


class CycleGan(nn.Module):
    """The cycle-consistent game (Zhu et al., 2017, eq. 1-3; identity loss: section 5.2).

    What a critic sees of generated images goes through a history; penalties and regularisers
    are those of the objective, one a critic. Batches hold images of A and B that have nothing to
    do with one another: uint8 [batch, 2, height, width, channels]. In training, an image is a
    random square of what the source gives, mirrored half of the time; both domains have squares
    and mirrors of their own.

    Attributes:
        generator: makes images of A from those of B, and of B from those of A.
        discriminator: the critics of A and of B.
        objective: critic -> what it and the generator that it judges want.
        weights: step -> the weight of each of the terms `WEIGHTS` of the generators' loss.
        history: generated images that are kept for each critic.
        size: height and width of what networks see in training.
        mirror: whether images are mirrored half of the time.
    """

    generator: Both
    discriminator: Both
    objective: Callable[[nn.Module], Objective]
    weights: Mapping[str, Callable[[jax.Array], Any]]
    history: int
    size: int
    mirror: bool

    def setup(self):
        self.discriminator_of_a = self.objective(self.discriminator.a)
        self.discriminator_of_b = self.objective(self.discriminator.b)
        self.discriminator_history_a = ImageHistory(self.history)
        self.discriminator_history_b = ImageHistory(self.history)

    def __call__(self, batch: Batch, key: PRNGKey) -> Logits:
        """Runs all networks once, so that Flax can create their variables."""
        examples = jnp.arange(batch.images.shape[0])
        a, b = self._views(batch, examples, key)
        own = keys.per_example(key, examples)
        fake_a = self.discriminator_history_a(self.generator.a(b, train=True), own)
        fake_b = self.discriminator_history_b(self.generator.b(a, train=True), own)
        return self.discriminator_of_a(fake_a, None), self.discriminator_of_b(fake_b, None)

    def discriminator_loss(
        self, batch: Batch, examples: Indices, key: PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, Scalars]:
        """The critics' turn: the sum of both losses; each critic's scalars, and their means."""
        a, b = self._views(batch, examples, key)

        def of(name: str, real: Images, other: Images, critic, generator, history):
            own = keys.stream(key, f"critic of {name}")
            shown = keys.per_example(keys.stream(own, "history"), examples)

            def generate(images: Images) -> Images:
                return history(generator(images, train=True), shown)

            return critic.discriminator_loss(real, other, generate, None, examples, own, step)

        loss_a, found_a = of(
            "a", a, b, self.discriminator_of_a, self.generator.a, self.discriminator_history_a
        )
        loss_b, found_b = of(
            "b", b, a, self.discriminator_of_b, self.generator.b, self.discriminator_history_b
        )
        return loss_a + loss_b, _named(found_a, found_b)

    def generator_loss(
        self, batch: Batch, examples: Indices, key: PRNGKey, step: jax.Array
    ) -> tuple[jax.Array, Scalars]:
        """The generators' turn: the weighted sum; its terms, without their weights."""
        a, b = self._views(batch, examples, key)
        to_a, to_b = (partial(own, train=True) for own in (self.generator.a, self.generator.b))
        fake_a, fake_b = to_a(b), to_b(a)

        def judged(name: str, critic, real: Images, other: Images, fake: Images, to: Callable):
            # What is there already is not made again; a regulariser may ask for others.
            def generate(images: Images) -> Images:
                return fake if images is other else to(images)

            own = keys.stream(key, f"critic of {name}")
            return critic.generator_loss(real, other, generate, None, examples, own, step)

        loss_a, found_a = judged("a", self.discriminator_of_a, a, b, fake_a, to_a)
        loss_b, found_b = judged("b", self.discriminator_of_b, b, a, fake_b, to_b)
        terms = {
            "adversarial": {"a": loss_a, "b": loss_b},
            "cycle": {"a": _distance(to_a(fake_b), a), "b": _distance(to_b(fake_a), b)},
        }
        if "identity" in self.weights:
            terms["identity"] = {"a": _distance(to_a(a), a), "b": _distance(to_b(b), b)}
        total = sum(self.weights[name](step) * (own["a"] + own["b"]) for name, own in terms.items())
        scalars = {
            f"{name}_{domain}": value
            for name, own in terms.items()
            for domain, value in own.items()
        }
        return total, {**_named(found_a, found_b), **scalars}

    def to_a(self, images: Images) -> Images:
        """Images of B as images of A, in [-1, 1], at rest."""
        return self.generator.a(images, train=False)

    def to_b(self, images: Images) -> Images:
        """Images of A as images of B, in [-1, 1], at rest."""
        return self.generator.b(images, train=False)

    def judge_a(self, images: Images) -> Logits:
        """Logits by the critic of A at rest."""
        return self.discriminator_of_a.judge(images, None)

    def judge_b(self, images: Images) -> Logits:
        """Logits by the critic of B at rest."""
        return self.discriminator_of_b.judge(images, None)

    def judge_alone_a(self, images: Images) -> Logits:
        """The same of A, in packs that hold one image only."""
        return self.discriminator_of_a.judge_alone(images, None)

    def judge_alone_b(self, images: Images) -> Logits:
        """The same of B."""
        return self.discriminator_of_b.judge_alone(images, None)

    def _views(self, batch: Batch, examples: Indices, key: PRNGKey) -> tuple[Images, Images]:
        """The real images of A and of B, as this turn sees them."""
        images = pixels.decode(batch.images)
        return tuple(
            random_view(
                images[:, place],
                keys.per_example(keys.stream(key, f"view of {name}"), examples),
                self.size,
                self.mirror,
            )
            for place, name in enumerate("ab")
        )


def cyclegan(
    generator: nn.Module,
    discriminator: nn.Module,
    objective: Callable[[nn.Module], Objective],
    conditional: bool,
    size: int,
    *,
    adversarial: float = 1.0,
    cycle: float = 10.0,
    identity: float = 5.0,
    history: int = 50,
    mirror: bool = True,
    decays: dict = {},  # noqa: B006 (never changed)
) -> CycleGan:
    """The game of two such generators and two such critics.

    Args:
        generator: (images, train) -> images.
        discriminator: (images, None, train) -> logits.
        objective: critic -> `Objective`.
        conditional: has to be False.
        size: height and width of what networks see in training.
        adversarial, cycle, identity: weights of the generators' terms; the last two, of mean
            absolute differences of values in [-1, 1]. Without a weight there is no identity.
        history: generated images that are kept for each critic; 0 for none.
        mirror: whether training images are mirrored half of the time.
        decays: name of a weight -> "begin", "end" and "to": from one step to another it falls,
            in a line, to that share of itself.

    Raises:
        InputError: a field is out of range.
    """
    given = dict(zip(WEIGHTS, (adversarial, cycle, identity), strict=True))
    for name, weight in given.items():
        require(name, weight, weight >= 0, "a weight, 0 or more")
    require("history", history, history >= 0, "0, for none, or more")
    require("config.conditional", conditional, not conditional, "False with cyclegan")
    for name, decay in decays.items():
        valid = ", ".join(WEIGHTS)
        require("decays", name, name in WEIGHTS and isinstance(decay, dict), f"a dict of {valid}")
    weights = {
        name: schema.bind(transforms.decayed, decays[name], f"config.game.decays.{name}", rate=own)
        if name in decays
        else optax.constant_schedule(own)
        for name, own in given.items()
        if own or name != "identity"
    }
    return CycleGan(
        Both(generator.clone(), generator.clone()),
        Both(discriminator.clone(), discriminator.clone()),
        objective,
        weights,
        history,
        size,
        mirror,
    )


def random_view(images: Images, own_keys: jax.Array, size: int, mirror: bool) -> Images:
    """A square of each image, as large as `size`, at a random place, mirrored half of the time.

    Args:
        images: [batch, height, width, channels], no side smaller than `size`.
        own_keys: a key an image.
        size: height and width of the square.
        mirror: whether any is mirrored, left to right.
    """

    def view(image: jax.Array, key: PRNGKey) -> jax.Array:
        place, side = jax.random.split(key)
        room = jnp.array(image.shape[:2]) - size
        first = jax.random.randint(place, (2,), 0, room + 1)
        seen = jax.lax.dynamic_slice(image, (*first, 0), (size, size, image.shape[-1]))
        return jnp.where(mirror & jax.random.bernoulli(side), seen[:, ::-1], seen)

    return jax.vmap(view)(images, own_keys)


def _distance(images: Images, others: Images) -> jax.Array:
    """The mean absolute difference."""
    return jnp.abs(images - others).mean()


def _named(of_a: Scalars, of_b: Scalars) -> Scalars:
    """Both critics' scalars under their names, and the means under the plain ones."""
    means = jax.tree.map(lambda *pair: (pair[0] + pair[1]) / 2, of_a, of_b)
    ends = {"a": of_a, "b": of_b}
    named = {f"{name}_{end}": value for end, own in ends.items() for name, value in own.items()}
    return {**means, **named}
