"""What tells early that a run collapses: looked at whenever samples are drawn.

The training step knows nothing of it: figures come from its state, and cost their own time.
"""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gaxn import keys, pixels
from gaxn.data import Source, Unpaired, reader
from gaxn.games.image_gan import draw_latents
from gaxn.losses import Loss
from gaxn.nn import spectral
from gaxn.population import Member, member_of
from gaxn.sampling import attention_weights, gammas, sown
from gaxn.state import GanState
from gaxn.statistics import attention
from gaxn.types import Images, Logits, Pixels, PRNGKey, Variables

EXAMPLES = 60
"""A multiple of every packing from 2 to 6."""
ATTENTIVE = 8
"""Images over which attention is averaged."""
SILENT = 0.01
"""A logit whose gradient is below this, in absolute value, teaches the discriminator nothing."""

ALIKE, SATURATED, SLACK = 0.1, 0.99, 1.5

DIVERSITY, SATURATION, SINGULAR = "watch/diversity", "watch/saturation", "watch/singular_value/"

Watch = Callable[[GanState], dict[str, float]]
Look = Callable[[Variables, PRNGKey], dict[str, jax.Array]]
"""(variables, a member's key) -> figures by name."""


def make_watch(
    game: nn.Module, loss: Loss, members: Sequence[Member], train: Source, conditional: bool
) -> Watch:
    """A function of a host state that gives figures by name.

    `watch/diversity` is the mean distance between two of 60 samples, in pixels, over that of 60
    training images: 1 is as diverse, 0 is collapsed. `watch/saturation` is the share of 60
    pairs of images from which the discriminator learns nothing: the gradient of its loss to
    both logits is below 0.01. `watch/singular_value/LAYER` is the largest singular value, by
    an exact decomposition, of a spectrally normalised kernel: 1 if the power iteration keeps
    up. `watch/gamma/LAYER` is the learnt scale of an attention layer, `watch/entropy/LAYER` and
    `watch/distance/LAYER` are those of the weights of any attention, over 8 images: generated
    ones for the generator, real ones for the discriminator (gaxn/statistics/attention.py). Of
    several members it is the mean of each.
    """
    read = reader(train)
    numbers = np.random.RandomState(0).permutation(len(train))[:EXAMPLES]

    @jax.jit
    def look(key, variables, real, labels, indices):
        latents = draw_latents(keys.stream(key, "watch"), indices, game.latent)
        # The statistics of this batch: those that run lag behind the weights.
        fake, _ = game.apply(
            variables, latents, labels, True, method="generate", mutable=nn.DenyList("params")
        )
        real = pixels.decode(real)
        logits = [game.apply(variables, images, labels, method="judge") for images in (real, fake)]
        return {DIVERSITY: _diversity(fake, real), SATURATION: _saturation(loss, logits)}

    @jax.jit
    def look_at_attention(key, variables, real, labels, indices):
        latents = draw_latents(keys.stream(key, "watch"), indices, game.latent)
        asked = {"generate": (latents, labels, False), "judge_alone": (pixels.decode(real), labels)}
        weights = {}
        for method, inputs in asked.items():
            _, left = game.apply(variables, *inputs, method=method, mutable=["intermediates"])
            weights |= attention_weights(sown(left))
        return _of_attention(weights)

    def look_at_all(variables: Variables, key: PRNGKey) -> dict[str, jax.Array]:
        real, labels = read(numbers)
        labels = labels if conditional else None
        few = jax.tree.map(lambda leaf: leaf[:ATTENTIVE], (real, labels, numbers))
        found = look(key, variables, real, labels, numbers)
        return found | look_at_attention(key, variables, *few)

    return _watching(look_at_all, members)


def make_translation_watch(
    game: nn.Module, loss: Loss, members: Sequence[Member], test: Unpaired
) -> Watch:
    """The same of the cycle-consistent game, over 60 test images of each domain, or all.

    `watch/diversity` is of the translated images over those of the domain that they lead to, and
    `watch/saturation` of pairs of places in the critics' maps; of both directions, the worse.
    """
    readers = [reader(domain) for domain in test.domains]
    fewest = min(EXAMPLES, *test.sizes)
    numbers = [np.random.RandomState(0).permutation(size)[:fewest] for size in test.sizes]

    @jax.jit
    def look(variables: Variables, a: Pixels, b: Pixels) -> dict[str, jax.Array]:
        def of(real: Images, other: Images, to: str, judge: str) -> tuple[jax.Array, jax.Array]:
            fake = game.apply(variables, other, method=to)
            logits = [game.apply(variables, images, method=judge) for images in (real, fake)]
            return _diversity(fake, real), _saturation(loss, logits)

        a, b = pixels.decode(a), pixels.decode(b)
        diversity, saturation = zip(
            of(a, b, "to_a", "judge_a"), of(b, a, "to_b", "judge_b"), strict=True
        )
        return {DIVERSITY: jnp.minimum(*diversity), SATURATION: jnp.maximum(*saturation)}

    @jax.jit
    def look_at_attention(variables: Variables, a: Pixels, b: Pixels) -> dict[str, jax.Array]:
        weights = {}
        for method, images in {
            "to_a": b,
            "to_b": a,
            "judge_alone_a": a,
            "judge_alone_b": b,
        }.items():
            inputs = pixels.decode(images)
            _, left = game.apply(variables, inputs, method=method, mutable=["intermediates"])
            weights |= attention_weights(sown(left))
        return _of_attention(weights)

    def look_at_all(variables: Variables, key: PRNGKey) -> dict[str, jax.Array]:
        a, b = (read(own).images for read, own in zip(readers, numbers, strict=True))
        few = a[:ATTENTIVE], b[:ATTENTIVE]
        return look(variables, a, b) | look_at_attention(variables, *few)

    return _watching(look_at_all, members)


def _watching(look: Look, members: Sequence[Member]) -> Watch:
    """What `look` sees, and what needs no images, over all members."""

    def watch_one(state: GanState, key: PRNGKey) -> dict[str, float]:
        found = look({"params": state.params, **state.collections}, key)
        return {
            **{name: float(value) for name, value in jax.device_get(found).items()},
            **{f"{SINGULAR}{name}": value for name, value in singular_values(state).items()},
            **{f"watch/gamma/{name}": value for name, value in gammas(state.params).items()},
        }

    def watch(state: GanState) -> dict[str, float]:
        each = [
            watch_one(member_of(state, len(members), index), member.key)
            for index, member in enumerate(members)
        ]
        return {name: float(np.mean([found[name] for found in each])) for name in each[0]}

    return watch


def singular_values(state: GanState) -> dict[str, float]:
    """The largest singular value of each spectrally normalised kernel, by "player/layer"."""
    found = {}
    vectors = state.collections.get(spectral.COLLECTION, {})
    for layer, (kernel, sigma) in spectral.kernels(state.params, vectors).items():
        matrix = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
        found[layer] = float(np.linalg.norm(matrix, 2) / max(float(sigma), 1e-12))
    return found


def warnings(watched: Sequence[Mapping[str, float]]) -> list[str]:
    """What has held for the last two looks, and not for the one before, a line each.

    Args:
        watched: what was seen, oldest first, each with its step.
    """
    if len(watched) < 2:
        return []
    alarms = [_alarms(look) for look in watched[-3:]]
    *before, last, now = alarms
    new = now.keys() & last.keys() - (before[0].keys() if before else set())
    return [f"step {watched[-1]['step']}: {now[name]}" for name in now if name in new]


def _alarms(look: Mapping[str, float]) -> dict[str, str]:
    found = {}
    if look[DIVERSITY] < ALIKE:
        found[DIVERSITY] = (
            f"samples are nearly all alike ({DIVERSITY} {look[DIVERSITY]:.3f}): the generator "
            "has collapsed; a slower discriminator, a penalty or an earlier checkpoint may help"
        )
    if look[SATURATION] >= SATURATED:
        found[SATURATION] = (
            f"the discriminator is sure of {look[SATURATION]:.0%} of the images "
            f"({SATURATION}): it learns nothing more, and the generator little; a slower "
            "discriminator or a penalty may help"
        )
    for name, value in look.items():
        if name.startswith(SINGULAR) and not 1 / SLACK < value < SLACK:
            found[name] = (
                f"{name} is {value:.2f} where spectral norm means it to be 1: the power "
                "iteration lags behind the weights; a lower learning rate may help"
            )
    return found


def _diversity(fake: Images, real: Images) -> jax.Array:
    return _spread(fake) / jnp.maximum(_spread(real), 1e-12)


def _saturation(loss: Loss, logits: Sequence[Logits]) -> jax.Array:
    """The share of pairs of logits, of real and generated images, that teach nothing."""
    slopes = jax.grad(lambda pair: loss.discriminator(*pair).sum())(list(logits))
    return (jnp.maximum(*map(jnp.abs, slopes)) < SILENT).mean()


def _of_attention(weights: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    measures = {"entropy": attention.entropy, "distance": attention.distance}
    return {
        f"watch/{name}/{layer}": measure(own)
        for name, measure in measures.items()
        for layer, own in weights.items()
    }


def _spread(images: jax.Array) -> jax.Array:
    """The mean distance between two images."""
    flat = images.reshape(images.shape[0], -1)
    squared = jnp.square(flat[:, None] - flat[None]).sum(axis=-1)
    count = images.shape[0]
    return jnp.sqrt(squared).sum() / (count * (count - 1))
