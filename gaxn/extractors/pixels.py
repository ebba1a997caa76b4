"""No network: features are the pixels themselves, in [-1, 1]. For images of few pixels."""

from gaxn import pixels
from gaxn.extractors import Extractor, Seen


def load() -> Extractor:
    """Flattened images."""

    def apply(_, images):
        return Seen(pixels.decode(images).reshape(images.shape[0], -1))

    return Extractor(apply, {}, {"extractor": "pixels in [-1, 1]", "resize": "none"})
