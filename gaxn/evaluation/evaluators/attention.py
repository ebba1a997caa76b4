"""Attention weights of both networks, over real and generated images."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import jax
import numpy as np

from gaxn.data import Source, make_reader
from gaxn.io import plots
from gaxn.metrics.statistics import attention
from gaxn.types import AttentionMaps, HostPixels, Measurement, Sampler

IMAGES = 6
MAX_LAYERS = 12
"""Layers of a network that are drawn and measured, the first ones."""
QUERIES = ((0.5, 0.5), (0.5, 0.3), (0.3, 0.5), (0.1, 0.1))

MAX_BYTES = 1_500_000
"""Bytes of the maps that maps.npz keeps for the report."""
MIN_IMAGES, MIN_SIDE = 4, 16
"""Images and cells along a side that are kept as long as fewer heads are enough to save bytes."""


class NetworkAttention(NamedTuple):
    """The attention of one network over images.

    Attributes:
        images: uint8 [images, height, width, channels].
        maps: weights by layer, [images, heads, queries, keys].
        gammas: learned scales by layer, of layers that have one.
    """

    images: HostPixels
    maps: AttentionMaps
    gammas: Mapping[str, float]


class Bounds(NamedTuple):
    """Numbers of images, heads, and cells along a side that are kept of attention maps."""

    images: int
    heads: int
    side: int


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Draws a picture per layer and kind of image; measures entropy and distance of the weights.

    The weights themselves are kept in attention/maps.npz, as `pack` makes it. The measures are
    defined in gaxn/metrics/statistics/attention.py, and averaged over queries, heads and
    images.

    Attributes:
        test: the split of the real images.
        conditional: whether the networks take labels.
    """

    test: Source
    conditional: bool

    figures: ClassVar[set[str]] = set()

    def __call__(self, sampler: Sampler) -> Measurement:
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
        pictures, by_view = {}, {}
        for view, (images, maps) in views.items():
            player = view.partition("_")[0]
            maps = dict(itertools.islice(maps.items(), MAX_LAYERS))
            gammas = {layer: sampler.gammas.get(f"{player}/{layer}") for layer in maps}
            gammas = {layer: gamma for layer, gamma in gammas.items() if gamma is not None}
            by_view[view] = NetworkAttention(images, maps, gammas)
            for layer, weights in maps.items():
                gamma = gammas.get(layer)
                scale = "" if gamma is None else f", gamma = {gamma:.3f}"
                title = f"{view.replace('_', ', ')}: {layer}{scale}"
                path = f"attention/{view}_{layer.replace('/', '_')}"
                pictures[path] = functools.partial(_draw, images, weights, title)
                figures[f"entropy/{view}_{layer}"] = float(attention.entropy(weights))
                figures[f"distance/{view}_{layer}"] = float(attention.distance(weights))
        if any(view.maps for view in by_view.values()):
            pictures["attention/maps"] = functools.partial(pack, by_view)
        protocol = {"images": IMAGES, "heads": "averaged in the pictures", **sampler.facts}
        return Measurement(protocol, figures, {}, pictures)


def pack(
    views: Mapping[str, NetworkAttention], max_bytes: int = MAX_BYTES
) -> dict[str, np.ndarray]:
    """Returns attention as small arrays: fewer images, heads or cells of large maps.

    Args:
        views: by name.
        max_bytes: of all maps together.

    Returns:
        "VIEW/images", uint8; and by layer "VIEW/LAYER/maps", uint8 [images, heads, queries, keys],
        of which 255 is the largest weight of each query, and "VIEW/LAYER/gamma".
    """
    maps = [weights for view in views.values() for weights in view.maps.values()]
    bounds = choose_bounds([weights.shape for weights in maps], max_bytes)
    arrays = {}
    for name, view in views.items():
        if not view.maps:
            continue
        arrays[f"{name}/images"] = view.images[: bounds.images]
        for layer, weights in view.maps.items():
            arrays[f"{name}/{layer}/maps"] = _quantize(np.asarray(weights), bounds)
            if layer in view.gammas:
                arrays[f"{name}/{layer}/gamma"] = np.float32(view.gammas[layer])
    return arrays


def choose_bounds(shapes: Sequence[tuple[int, ...]], max_bytes: int) -> Bounds:
    """Returns the largest bounds with which maps of these shapes fit into some bytes.

    Images are given up first, then cells, then heads; each down to a few before the next.
    """
    images, heads = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    side = max(attention.side(count) for shape in shapes for count in shape[2:])
    few_images, few_cells = min(images, MIN_IMAGES), min(side, MIN_SIDE)
    choices = [
        *(Bounds(count, heads, side) for count in range(images, few_images - 1, -1)),
        *(Bounds(few_images, heads, count) for count in range(side, few_cells - 1, -1)),
        *(Bounds(few_images, count, few_cells) for count in range(heads, 0, -1)),
        *(Bounds(count, 1, few_cells) for count in range(few_images, 0, -1)),
        *(Bounds(1, 1, count) for count in range(few_cells, 0, -1)),
    ]
    sizes = (sum(_bytes(shape, bounds) for shape in shapes) for bounds in choices)
    fits = (bounds for bounds, size in zip(choices, sizes, strict=True) if size <= max_bytes)
    return next(fits, choices[-1])


def _bytes(shape: tuple[int, ...], bounds: Bounds) -> int:
    images, heads, queries, keys = shape
    cells = [_bounded_side(count, bounds) ** 2 for count in (queries, keys)]
    return min(images, bounds.images) * min(heads, bounds.heads) * cells[0] * cells[1]


def _bounded_side(count: int, bounds: Bounds) -> int:
    """Returns the cells along a side, a divisor of those of the map, within the bounds."""
    side = attention.side(count)
    return max(each for each in range(1, side + 1) if side % each == 0 and each <= bounds.side)


def _quantize(weights: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Returns weights as uint8, 255 for the largest of each query.

    Of more cells than the bounds allow, queries are those at regular distances, and the weights
    of neighboring keys are added.
    """
    weights = weights[: bounds.images, : bounds.heads].astype(np.float32)
    leading, (queries, keys) = weights.shape[:2], weights.shape[2:]
    side = _bounded_side(queries, bounds)
    factor = attention.side(queries) // side
    weights = weights.reshape(*leading, side, factor, side, factor, keys)
    weights = weights[:, :, :, factor // 2, :, factor // 2].reshape(*leading, side**2, keys)
    key_side = _bounded_side(keys, bounds)
    factor = attention.side(keys) // key_side
    weights = weights.reshape(*leading, side**2, key_side, factor, key_side, factor)
    weights = weights.sum(axis=(4, 6)).reshape(*leading, side**2, key_side**2)
    largest = weights.max(axis=-1, keepdims=True)
    return np.rint(255 * weights / np.maximum(largest, 1e-30)).astype(np.uint8)


def _draw(images: HostPixels, weights: np.ndarray, title: str) -> np.ndarray:
    side, keys_side = (attention.side(count) for count in weights.shape[-2:])
    rows = [min(int(y * side), side - 1) * side + min(int(x * side), side - 1) for y, x in QUERIES]
    mean = weights.mean(axis=1)[:, rows]
    maps = mean.reshape(len(images), len(QUERIES), keys_side, keys_side)
    return plots.attention(images, maps, QUERIES, title)
