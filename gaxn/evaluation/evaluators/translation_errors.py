"""Errors of translated images: from their originals, and from the truth if it is known."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gaxn.data import Unpaired
from gaxn.evaluation import figures
from gaxn.evaluation.translation import Translator, ordered_reader
from gaxn.metrics.statistics.standard_errors import standard_error
from gaxn.types import HostPixels, Measurement

BATCH = 100

MEAN_IMAGE_COUNT = 10_000
"""Training images of which the mean is taken."""

Differences = Float[np.ndarray, "images"]


class ImageDistance(NamedTuple):
    """A distance of images from their targets, such as the mean absolute difference.

    Attributes:
        name: in the names of figures.
        differences: (images in [0, 255], uint8 images) -> one value per image.
        protocol: how it is measured.
    """

    name: str
    differences: Callable[[np.ndarray, HostPixels], Differences]
    protocol: Mapping[str, Any]


def mean_absolute_differences(images: np.ndarray, truth: HostPixels) -> Differences:
    """Returns the mean absolute difference of each image, in [0, 1]."""
    absolute = np.abs(np.asarray(images, np.float64) - truth) / 255
    return absolute.mean(axis=(1, 2, 3))


MAE = ImageDistance(
    "mae",
    mean_absolute_differences,
    {
        "mae": "mean absolute difference of pixels in [0, 1]; errors over images",
        "dtype": "float64",
    },
)


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Differences of test images by domain, with a measure such as the mean absolute difference.

    `cycle_mae_a` is between an image of A and itself by way of B (Zhu et al., 2017, eq. 2),
    `identity_mae_a` between it and what the generator of A makes of it (section 5.2).

    If test images of an index show the same in both domains, `mae_a2b` is between the translation
    of an image of A and its counterpart in B. Baselines stand beside it: `mae_a2b_identity` of
    the image as it is, `mae_a2b_untrained` of the generators before their first step, and
    `mae_a2b_mean_image` of the mean of training images of B.

    Attributes:
        train: the training split, its images of the size of those for tests.
        test: the test split.
        samples: images of each domain; all, if there are fewer.
        untrained: index of a member -> its translator before the first step.
        measure: of the differences; its name takes the place of "mae" in those of figures.
    """

    train: Unpaired
    test: Unpaired
    samples: int
    untrained: Callable[[int], Translator]
    measure: ImageDistance = MAE

    @property
    def figures(self) -> set[str]:
        """Names of the figures, without those of errors."""
        measure = self.measure.name
        names = {f"{kind}_{measure}_{domain}" for kind in ("cycle", "identity") for domain in "ab"}
        kinds = ("", "_identity", "_untrained", "_mean_image") if self.test.paired else ()
        return names | {f"{measure}_{way}{kind}" for way in ("a2b", "b2a") for kind in kinds}

    def __call__(self, translator: Translator) -> Measurement:
        images, (name, difference, measure_protocol) = self._images, self.measure
        translate = {"a": translator.to_a, "b": translator.to_b}
        differences = {}
        for domain, target in ("ab", "ba"):
            translated = _map_batches(translate[target], images[domain])
            restored = _map_batches(translate[domain], translated)
            same = _map_batches(translate[domain], images[domain])
            differences[f"cycle_{name}_{domain}"] = difference(restored, images[domain])
            differences[f"identity_{name}_{domain}"] = difference(same, images[domain])
            if self.test.paired:
                differences[f"{name}_{domain}2{target}"] = difference(translated, images[target])
        differences |= self._baselines(translator.member)
        values = {}
        for figure, each in differences.items():
            values[figure] = float(each.mean())
            values[f"{figure}{figures.ERROR}"] = standard_error(each)
        counts = {f"samples_{domain}": len(images) for domain, images in images.items()}
        facts = translator.samplers["a2b"].facts
        facts = {field: value for field, value in facts.items() if field != "direction"}
        protocol = {
            **measure_protocol,
            "mean_image": f"of up to {MEAN_IMAGE_COUNT:,} training images",
            "reference": f"{self.test.identity}, test split",
        }
        return Measurement({**protocol, **counts, **facts}, values, {}, {})

    @functools.cached_property
    def _images(self) -> Mapping[str, HostPixels]:
        return {
            name: _join_batches(ordered_reader(domain), min(self.samples, len(domain)))
            for name, domain in zip("ab", self.test.domains, strict=True)
        }

    def _baselines(self, member: int) -> Mapping[str, Differences]:
        if not self.test.paired:
            return {}
        images, translator = self._images, self.untrained(member)
        translate = {"a": translator.to_a, "b": translator.to_b}
        differences = {}
        for domain, target in ("ab", "ba"):
            name, truth = f"{self.measure.name}_{domain}2{target}", images[target]
            untrained = _map_batches(translate[target], images[domain])
            difference = self.measure.differences
            differences[f"{name}_identity"] = difference(images[domain], truth)
            differences[f"{name}_untrained"] = difference(untrained, truth)
            differences[f"{name}_mean_image"] = difference(self._mean_images[target], truth)
        return differences

    @functools.cached_property
    def _mean_images(self) -> Mapping[str, Float[np.ndarray, "height width channels"]]:
        means = {}
        for name, domain in zip("ab", self.train.domains, strict=True):
            count, read = min(MEAN_IMAGE_COUNT, len(domain)), ordered_reader(domain)
            sums = (read(part).sum(axis=0, dtype=np.float64) for part in _batches(count))
            means[name] = sum(sums) / count
        return means


def _join_batches(read: Callable[[np.ndarray], HostPixels], count: int) -> HostPixels:
    return np.concatenate([read(part) for part in _batches(count)])


def _batches(count: int) -> list[np.ndarray]:
    return np.array_split(np.arange(count), -(-count // BATCH))


def _map_batches(translate: Callable[[HostPixels], HostPixels], images: HostPixels) -> HostPixels:
    return _join_batches(lambda part: translate(images[part]), len(images))
