"""Pixels in [-1, 1] as features, without a network; for small images."""

from gaxn.data import pixels
from gaxn.features import ExtractorOutput, FeatureExtractor


def load() -> FeatureExtractor:
    """Returns an extractor whose features are the flattened images."""

    def apply(_, images):
        return ExtractorOutput(pixels.decode(images).reshape(images.shape[0], -1))

    return FeatureExtractor(apply, {}, {"extractor": "pixels in [-1, 1]", "resize": "none"})
