"""Latents, images, random variables and checks for tests of networks."""

from functools import partial

import jax
import numpy as np

ONE_BLOCK = (
    "data.size=16",
    "gan.latent_size=4",
    "generator={'name': 'dcgan.Generator', 'widths': (8,), 'embedding': 4}",
    "discriminator={'name': 'dcgan.Discriminator', 'widths': (8,)}",
)
"""Overrides of attn_cgan_shapes with little to compile."""

LATENT, BATCH, CLASSES = 5, 3, 4
LABELS = np.array([0, 3, 1], np.int32)
OTHER_LABELS = np.array([0, 1, 2], np.int32)


def draw_latents():
    """Draws normal latents, [BATCH, LATENT]."""
    return np.random.default_rng(1).normal(size=(BATCH, LATENT)).astype(np.float32)


def draw_images(size=32, channels=3):
    """Draws images uniform in [-1, 1], [BATCH, size, size, channels]."""
    random = np.random.default_rng(2)
    return random.uniform(-1, 1, (BATCH, size, size, channels)).astype(np.float32)


def labels_for(network):
    """Returns LABELS, or None for an unconditional network."""
    return None if network.classes is None else LABELS


def initialize(network, x):
    """Returns random variables of a network."""
    return draw_variables(network, x, labels_for(network), True)


def draw_variables(layer, *inputs):
    """Draws random kernels; scales and variances are 1, all other vectors and scalars 0.

    Does not compile the layer's initialization.
    """
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
def apply(network, variables, x, labels, train):
    """Returns the output of a network without its new statistics."""
    collections = ["batch_stats", "spectral"]
    return network.apply(variables, x, labels, train, mutable=collections)[0]


def check_images(generator, size, channels, train):
    """Checks shape, type, range and variety of a random generator's images; returns the images."""
    latents = draw_latents()
    images = np.asarray(
        apply(generator, initialize(generator, latents), latents, labels_for(generator), train)
    )
    assert images.shape == (BATCH, size, size, channels) and images.dtype == np.float32
    assert 0.1 < np.abs(images).max() <= 1 and images.std(axis=0).max() > 0.01
    return images


def check_logits(discriminator, images, collections):
    """Checks that a discriminator has these collections and returns one logit per image."""
    variables = initialize(discriminator, images)
    assert set(variables) == collections
    logits = np.asarray(apply(discriminator, variables, images, labels_for(discriminator), False))
    assert logits.shape == (BATCH,) and logits.dtype == np.float32
    assert np.isfinite(logits).all() and logits.std() > 0


def count_parameters(network, x):
    """Returns the number of parameters of a network."""
    params = jax.eval_shape(lambda: network.init(jax.random.key(0), x, labels_for(network), True))
    return sum(leaf.size for leaf in jax.tree.leaves(params["params"]))
