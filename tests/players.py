"""What tests share of networks: latents, images, random weights, counts, the smallest players."""

from functools import partial

import jax
import numpy as np

ONE_BLOCK = (
    "data.size=16",
    "game.latent=4",
    "generator={'name': 'dcgan.Generator', 'widths': (8,), 'embedding': 4}",
    "discriminator={'name': 'dcgan.Discriminator', 'widths': (8,)}",
)
"""Overrides of attn_cgan_shapes by which little is left to compile."""

LATENT, BATCH, CLASSES = 5, 3, 4
LABELS = np.array([0, 3, 1], np.int32)
OTHER_LABELS = np.array([0, 1, 2], np.int32)


def draw_latents():
    """[BATCH, LATENT], normal."""
    return np.random.default_rng(1).normal(size=(BATCH, LATENT)).astype(np.float32)


def draw_images(size=32, channels=3):
    """[BATCH, size, size, channels], uniform in [-1, 1]."""
    random = np.random.default_rng(2)
    return random.uniform(-1, 1, (BATCH, size, size, channels)).astype(np.float32)


def labels_of(player):
    """LABELS, or None for a player without classes."""
    return None if player.classes is None else LABELS


def initialise(player, x):
    """Its variables, filled at random."""
    return fill(player, x, labels_of(player), True)


def fill(layer, *inputs):
    """Random kernels, statistics at rest and no attention, without compiling the layer's own."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        if len(leaf.shape) > 1:
            deviation = np.sqrt(2 * leaf.shape[-1] / leaf.size)
            return random.normal(0, deviation, leaf.shape).astype(np.float32)
        ones = str(path[-1].key).endswith(("scale", "var", "sigma"))
        return np.full(leaf.shape, float(ones), np.float32)

    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), *inputs))
    return jax.tree_util.tree_map_with_path(draw, shapes)


@partial(jax.jit, static_argnums=(0, 4))
def run(player, variables, x, labels, train):
    """What the player gives, its new statistics left out."""
    collections = ["batch_stats", "spectral"]
    return player.apply(variables, x, labels, train, mutable=collections)[0]


def check_images(generator, size, channels, train):
    """Images of a generator filled at random: shape, type, range, and one unlike the other."""
    latents = draw_latents()
    images = np.asarray(
        run(generator, initialise(generator, latents), latents, labels_of(generator), train)
    )
    assert images.shape == (BATCH, size, size, channels) and images.dtype == np.float32
    assert 0.1 < np.abs(images).max() <= 1 and images.std(axis=0).max() > 0.01
    return images


def check_logits(discriminator, images, collections):
    """A logit an image, and no other collections of variables than these."""
    variables = initialise(discriminator, images)
    assert set(variables) == collections
    logits = np.asarray(run(discriminator, variables, images, labels_of(discriminator), False))
    assert logits.shape == (BATCH,) and logits.dtype == np.float32
    assert np.isfinite(logits).all() and logits.std() > 0


def count(player, x):
    """The number of its parameters."""
    params = jax.eval_shape(lambda: player.init(jax.random.key(0), x, labels_of(player), True))
    return sum(leaf.size for leaf in jax.tree.leaves(params["params"]))
