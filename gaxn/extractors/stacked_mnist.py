"""Stacked MNIST: a digit a channel, by the shipped MNIST classifier; a thousand known modes.

The protocol of Metz et al. (2017, section 3.3.1): the mode of an image is its three digits.
"""

import jax.numpy as jnp

from gaxn.extractors import Extractor, Seen, classifier

CHANNELS = 3


def load() -> Extractor:
    """Features of the three digits one after the other; 100 red + 10 green + blue."""
    digits = classifier.load("mnist")

    def apply(params, images):
        channels = jnp.moveaxis(images, -1, 0).reshape(-1, *images.shape[1:3], 1)
        seen = digits.apply(params, channels)
        features = seen.features.reshape(CHANNELS, images.shape[0], -1)
        by_channel = seen.modes.reshape(CHANNELS, -1)
        modes = by_channel[0] * digits.modes**2 + by_channel[1] * digits.modes + by_channel[2]
        return Seen(jnp.concatenate(list(features), axis=-1), None, modes)

    card = {**digits.card, "extractor": f"{digits.card['extractor']}, each of three channels"}
    return Extractor(apply, digits.params, card, digits.modes**CHANNELS, (), CHANNELS)
