"""LPIPS (Zhang et al., 2018): between samples of one condition, and from translations to truth."""

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from gaxn.data import Source
from gaxn.evaluation import figures, scoring
from gaxn.evaluation.evaluators.translation_errors import ImageDistance
from gaxn.evaluation.sampling import balanced_labels
from gaxn.features import FeatureExtractor
from gaxn.metrics.statistics.standard_errors import standard_error
from gaxn.types import HostPixels, Measurement, Sampler

FIGURE = "lpips_diversity"

SEED = 2020


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """The mean distance between two samples of one condition, as of BicycleGAN (Zhu et al., 2017b).

    No image is in two pairs. The same of training images stands beside it: random pairs of one
    class, with every class of equal weight; but not with captions, which have one image each.

    Attributes:
        train: the training split.
        extractor: with LPIPS as its distance.
        conditions: number of classes or captions; 0 without.
        samples: generated images.
    """

    train: Source
    extractor: FeatureExtractor
    conditions: int
    samples: int

    figures: ClassVar[set[str]] = {FIGURE}

    def __call__(self, sampler: Sampler) -> Measurement:
        started = time.perf_counter()
        count = self.samples // 2

        def sample(place: int) -> HostPixels:
            parts = [
                sampler.sample(2 * indices + place, balanced_labels(indices, self.conditions))
                for indices in scoring.batches(count)
            ]
            return np.concatenate(parts)[:count]

        distances = self._distance(sample(0), sample(1))
        protocol = {
            **self.extractor.card,
            "pairs": count,
            "labels": "one for both, every condition equally often" if self.conditions else "none",
            "real": f"{self.train.identity}, training split",
            "quantized": "uint8",
            "error": "over pairs",
            **sampler.facts,
        }
        values = {
            FIGURE: float(distances.mean()),
            f"{FIGURE}{figures.ERROR}": standard_error(distances),
        }
        seconds = {"seconds": round(time.perf_counter() - started, 2)}
        return Measurement(
            protocol, {**values, **figures.add_real_suffix(self._real)}, {}, {}, seconds
        )

    @functools.cached_property
    def _distance(self) -> scoring.Distance:
        return scoring.make_distance(self.extractor)

    @functools.cached_property
    def _real(self) -> Mapping[str, float]:
        """The figure of training images; none without two of one condition."""
        if self.conditions and not self.train.class_names:
            return {}
        images = scoring.from_source(self.train, self.samples)
        batches = [images.read(indices) for indices in scoring.batches(images.count)]
        pixels = np.concatenate([batch[0] for batch in batches])[: images.count]
        labels = np.zeros(images.count, int)
        if self.conditions:
            labels = np.concatenate([batch[1] for batch in batches])[: images.count]
        # Neighbors in a folder may be alike, as the frames of a video are.
        order = np.random.RandomState(SEED).permutation(images.count)
        pairs = order[pair_within(labels[order])]
        if len(pairs) == 0:
            return {}
        distances = self._distance(pixels[pairs[:, 0]], pixels[pairs[:, 1]])
        of_pairs = labels[pairs[:, 0]]
        return {
            FIGURE: float(np.mean([distances[of_pairs == k].mean() for k in np.unique(of_pairs)]))
        }


def pair_within(labels: np.ndarray) -> np.ndarray:
    """Returns pairs of indices, int [n, 2], of equal labels; each index is in one pair at most."""
    pairs = [
        members[: len(members) // 2 * 2].reshape(-1, 2)
        for label in np.unique(labels)
        for members in [np.flatnonzero(labels == label)]
    ]
    return np.concatenate(pairs)


def make_measure(extractor: FeatureExtractor) -> ImageDistance:
    """Returns LPIPS as a measure of how far translations are from the truth."""
    distance = scoring.make_distance(extractor)

    def differences(images: np.ndarray, truth: HostPixels) -> Float[np.ndarray, " images"]:
        pairs = (np.broadcast_to(each, truth.shape) for each in (images, truth))
        return distance(*(each.astype(np.float32) / 127.5 - 1 for each in pairs))

    return ImageDistance("lpips", differences, {**extractor.card, "error": "over images"})
