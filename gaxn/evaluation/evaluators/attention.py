"""Attention weights of both networks, over real and generated images."""

import dataclasses
import functools
import itertools
from typing import ClassVar

import jax
import numpy as np

from gaxn.data import Source, make_reader
from gaxn.io import plots
from gaxn.metrics.statistics import attention
from gaxn.types import HostPixels, Report, Sampler

IMAGES = 6
MAX_LAYERS = 12
"""Layers of a network that are drawn and measured, the first ones."""
QUERIES = ((0.5, 0.5), (0.5, 0.3), (0.3, 0.5), (0.1, 0.1))


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Draws a picture per layer and kind of image; measures entropy and distance of the weights.

    Both are defined in gaxn/metrics/statistics/attention.py, and averaged over queries, heads and
    images.

    Attributes:
        test: the split of the real images.
        conditional: whether the networks take labels.
    """

    test: Source
    conditional: bool

    figures: ClassVar[set[str]] = set()

    def __call__(self, sampler: Sampler) -> Report:
        indices = np.arange(IMAGES)
        real, labels = jax.device_get(make_reader(self.test)(indices % len(self.test)))
        labels = labels if self.conditional else None
        generated = sampler.sample(indices, labels)
        discriminator_attention = sampler.discriminator_attention
        views = {
            "generator_generated": (generated, sampler.generator_attention(indices, labels)),
            "discriminator_generated": (generated, discriminator_attention(generated, labels)),
            "discriminator_real": (real, discriminator_attention(real, labels)),
        }
        figures = {f"gamma/{name}": value for name, value in sampler.gammas.items()}
        pictures = {}
        for view, (images, maps) in views.items():
            player = view.partition("_")[0]
            for layer, weights in itertools.islice(maps.items(), MAX_LAYERS):
                gamma = sampler.gammas.get(f"{player}/{layer}")
                scale = "" if gamma is None else f", gamma = {gamma:.3f}"
                title = f"{view.replace('_', ', ')}: {layer}{scale}"
                path = f"attention/{view}_{layer.replace('/', '_')}"
                pictures[path] = functools.partial(_draw, images, weights, title)
                figures[f"entropy/{view}_{layer}"] = float(attention.entropy(weights))
                figures[f"distance/{view}_{layer}"] = float(attention.distance(weights))
        protocol = {"images": IMAGES, "heads": "averaged in the pictures", **sampler.facts}
        return Report(protocol, figures, {}, pictures)


def _draw(images: HostPixels, weights: np.ndarray, title: str) -> np.ndarray:
    side, keys_side = (attention.side(count) for count in weights.shape[-2:])
    rows = [min(int(y * side), side - 1) * side + min(int(x * side), side - 1) for y, x in QUERIES]
    mean = weights.mean(axis=1)[:, rows]
    maps = mean.reshape(len(images), len(QUERIES), keys_side, keys_side)
    return plots.attention(images, maps, QUERIES, title)
