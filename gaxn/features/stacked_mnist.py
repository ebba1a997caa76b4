"""Features of Stacked MNIST: three digits, classified by the shipped MNIST classifier.

In the protocol of Metz et al. (2017, section 3.3.1) the mode of an image is its three digits, so
there are 1,000 known modes.
"""

import jax.numpy as jnp

from gaxn.features import ExtractorOutput, FeatureExtractor, classifier

CHANNELS = 3


def load() -> FeatureExtractor:
    """Returns an extractor of the concatenated features of the channels.

    The mode of an image is 100 red + 10 green + blue.
    """
    digits = classifier.load("mnist")

    def apply(params, images):
        channels = jnp.moveaxis(images, -1, 0).reshape(-1, *images.shape[1:3], 1)
        output = digits.apply(params, channels)
        features = output.features.reshape(CHANNELS, images.shape[0], -1)
        red, green, blue = output.modes.reshape(CHANNELS, -1)
        modes = red * digits.modes**2 + green * digits.modes + blue
        return ExtractorOutput(jnp.concatenate(list(features), axis=-1), None, modes)

    card = {**digits.card, "extractor": f"{digits.card['extractor']}, each of three channels"}
    modes = digits.modes**CHANNELS
    return FeatureExtractor(apply, digits.params, card, modes, (), CHANNELS, unit_scale=False)
