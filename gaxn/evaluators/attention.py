"""Where self-attention looks, in both networks, over real and generated images."""

import dataclasses

import jax
import numpy as np

from gaxn import pictures
from gaxn.data import Source, reader
from gaxn.statistics import attention
from gaxn.types import HostPixels, Report, Subject

IMAGES = 6
QUERIES = ((0.5, 0.5), (0.5, 0.3), (0.3, 0.5), (0.1, 0.1))


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """A picture a layer and kind of image; entropy and distance of each layer's weights.

    They are those of gaxn/statistics/attention.py, averaged over queries, heads and images.

    Attributes:
        test: the split that real images come from.
        conditional: whether the players take labels.
    """

    test: Source
    conditional: bool

    def __call__(self, subject: Subject) -> Report:
        indices = np.arange(IMAGES)
        real, labels = jax.device_get(reader(self.test)(indices % len(self.test)))
        labels = labels if self.conditional else None
        generated = subject.sample(indices, labels)
        views = {
            "generator_generated": (generated, subject.generator_attention(indices, labels)),
            "discriminator_generated": (
                generated,
                subject.discriminator_attention(generated, labels),
            ),
            "discriminator_real": (real, subject.discriminator_attention(real, labels)),
        }
        figures = {f"gamma/{name}": value for name, value in subject.gammas.items()}
        shown = {}
        for view, (images, maps) in views.items():
            player = view.partition("_")[0]
            for layer, weights in maps.items():
                gamma = subject.gammas.get(f"{player}/{layer}")
                scale = "" if gamma is None else f", gamma = {gamma:.3f}"
                title = f"{view.replace('_', ', ')}: {layer}{scale}"
                shown[f"attention/{view}_{layer.replace('/', '_')}"] = _picture(
                    images, weights, title
                )
                figures[f"entropy/{view}_{layer}"] = float(attention.entropy(weights))
                figures[f"distance/{view}_{layer}"] = float(attention.distance(weights))
        protocol = {"images": IMAGES, "heads": "averaged in the pictures", **subject.facts}
        return Report(protocol, figures, {}, shown)


def _picture(images: HostPixels, weights: np.ndarray, title: str) -> np.ndarray:
    side, keys_side = (attention.side(count) for count in weights.shape[-2:])
    rows = [min(int(y * side), side - 1) * side + min(int(x * side), side - 1) for y, x in QUERIES]
    chosen = weights.mean(axis=1)[:, rows]
    maps = chosen.reshape(len(images), len(QUERIES), keys_side, keys_side)
    return pictures.attention(images, maps, QUERIES, title)
