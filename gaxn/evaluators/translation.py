"""How far translated images are from where they came from, and from the truth where it is known."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from gaxn import figures
from gaxn.data import Unpaired
from gaxn.statistics import jackknife
from gaxn.translation import Translator, in_order
from gaxn.types import HostPixels, Report

BATCH = 100

MEAN_OF = 10_000
"""Training images whose mean is taken."""

PROTOCOL = {
    "mae": "mean absolute difference of pixels in [0, 1]; errors over images",
    "dtype": "float64",
    "mean_image": f"of up to {MEAN_OF:,} training images",
}

Differences = Float[np.ndarray, "images"]


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Mean absolute differences of test images, by the domain that they are shown in.

    `cycle_mae_a` is between an image of A and itself by way of B (Zhu et al., 2017, eq. 2),
    `identity_mae_a` between it and what the generator of A makes of it (section 5.2).

    Where test images of an index show the same in both domains, `mae_a2b` is between the
    translation of an image of A and the same in B. Beside it stands what would be had for
    nothing: `mae_a2b_identity` of the image as it is, `mae_a2b_untrained` of the generators
    before their first step, `mae_a2b_mean_image` of the mean of training images of B, of 10,000
    or all.

    Attributes:
        train: the training split, its images of the size of those for tests.
        test: the test split.
        samples: images of each domain that are looked at; all, if there are fewer.
        untrained: number of a member -> its translator before the first step.
    """

    train: Unpaired
    test: Unpaired
    samples: int
    untrained: Callable[[int], Translator]

    @property
    def figures(self) -> set[str]:
        """The names of what it finds, but for errors."""
        names = {f"{kind}_mae_{domain}" for kind in ("cycle", "identity") for domain in "ab"}
        kinds = ("", "_identity", "_untrained", "_mean_image") if self.test.paired else ()
        return names | {f"mae_{way}{kind}" for way in ("a2b", "b2a") for kind in kinds}

    def __call__(self, translator: Translator) -> Report:
        images = self._images
        to = {"a": translator.to_a, "b": translator.to_b}
        found = {}
        for own, other in ("ab", "ba"):
            there = _mapped(to[other], images[own])
            found[f"cycle_mae_{own}"] = _difference(_mapped(to[own], there), images[own])
            found[f"identity_mae_{own}"] = _difference(_mapped(to[own], images[own]), images[own])
            if self.test.paired:
                found[f"mae_{own}2{other}"] = _difference(there, images[other])
        found |= self._for_nothing(translator.member)
        told = {}
        for name, each in found.items():
            told |= {name: float(each.mean()), f"{name}{figures.ERROR}": jackknife.of_mean(each)}
        counts = {f"samples_{name}": len(own) for name, own in images.items()}
        facts = translator.subjects["a2b"].facts
        facts = {name: value for name, value in facts.items() if name != "direction"}
        reference = {"reference": f"{self.test.identity}, test split"}
        return Report({**PROTOCOL, **reference, **counts, **facts}, told, {}, {})

    @functools.cached_property
    def _images(self) -> Mapping[str, HostPixels]:
        return {
            name: _joined(in_order(domain), min(self.samples, len(domain)))
            for name, domain in zip("ab", self.test.domains, strict=True)
        }

    def _for_nothing(self, member: int) -> Mapping[str, Differences]:
        if not self.test.paired:
            return {}
        images, translator = self._images, self.untrained(member)
        to = {"a": translator.to_a, "b": translator.to_b}
        found = {}
        for own, other in ("ab", "ba"):
            name, truth = f"mae_{own}2{other}", images[other]
            found[f"{name}_identity"] = _difference(images[own], truth)
            found[f"{name}_untrained"] = _difference(_mapped(to[other], images[own]), truth)
            found[f"{name}_mean_image"] = _difference(self._means[other], truth)
        return found

    @functools.cached_property
    def _means(self) -> Mapping[str, Float[np.ndarray, "height width channels"]]:
        found = {}
        for name, domain in zip("ab", self.train.domains, strict=True):
            count, read = min(MEAN_OF, len(domain)), in_order(domain)
            sums = (read(part).sum(axis=0, dtype=np.float64) for part in _parts(count))
            found[name] = sum(sums) / count
        return found


def _joined(read: Callable[[np.ndarray], HostPixels], count: int) -> HostPixels:
    return np.concatenate([read(part) for part in _parts(count)])


def _parts(count: int) -> list[np.ndarray]:
    return np.array_split(np.arange(count), -(-count // BATCH))


def _mapped(translate: Callable[[HostPixels], HostPixels], images: HostPixels) -> HostPixels:
    return _joined(lambda part: translate(images[part]), len(images))


def _difference(images: np.ndarray, truth: HostPixels) -> Differences:
    """The mean over each image."""
    absolute = np.abs(np.asarray(images, np.float64) - truth) / 255
    return absolute.mean(axis=(1, 2, 3))
