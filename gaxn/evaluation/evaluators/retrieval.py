"""R-precision: whether an image matches its caption better than others (Xu et al., 2018)."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import ClassVar

import jax
import numpy as np

from gaxn.data import make_reader
from gaxn.data.sentences import Sentences
from gaxn.evaluation import figures, scoring
from gaxn.features.text.words import Matcher
from gaxn.metrics.statistics.standard_errors import standard_error
from gaxn.types import HostPixels, Measurement, Sampler

CANDIDATES = 100
"""Captions among which that of an image has to be the most similar."""

FIGURE = "retrieved_of_100"


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """R-precision: the share of samples whose caption is the most similar to them among 100.

    The other 99 captions are drawn from the test split, without those whose token ids equal the
    ids of the sample's caption. The similarity is that of `matcher`, which was trained on real
    images and captions alone. `retrieved_of_100_real` is the same share of the test images.

    Attributes:
        test: the test split.
        matcher: the network.
        samples: generated images.
    """

    test: Sentences
    matcher: Matcher
    samples: int

    figures: ClassVar[set[str]] = {FIGURE}

    def __call__(self, sampler: Sampler) -> Measurement:
        started = time.perf_counter()
        captions = np.arange(self.samples) % self.test.num_conditions
        right = self._retrieve(lambda indices: sampler.sample(indices, captions[indices]), captions)
        seconds = time.perf_counter() - started
        values = {FIGURE: float(right.mean()), f"{FIGURE}{figures.ERROR}": standard_error(right)}
        card = {name: self.matcher.card[name] for name in ("extractor", "trained_on", "sha256")}
        protocol = {
            **card,
            "samples": self.samples,
            "candidates": min(CANDIDATES, len(np.unique(self._meanings))),
            "captions": f"{self.test.identity}, test split",
            **sampler.facts,
        }
        timing = {"seconds": round(seconds, 2)}
        return Measurement(
            protocol, {**values, **figures.add_real_suffix(self._real)}, {}, {}, timing
        )

    @functools.cached_property
    def _meanings(self) -> np.ndarray:
        """A number of each caption of the tests; those that are one to the matcher share it."""
        tokens = self.matcher.tokenize(self.test.captions)
        return np.unique(tokens, axis=0, return_inverse=True)[1].ravel()

    @functools.cached_property
    def _real(self) -> Mapping[str, float]:
        read = make_reader(self.test.source)
        right = self._retrieve(
            lambda indices: jax.device_get(read(indices).images), self.test.numbers
        )
        return {FIGURE: float(right.mean())}

    def _retrieve(
        self, make_images: Callable[[np.ndarray], HostPixels], captions: np.ndarray
    ) -> np.ndarray:
        """Returns for each image, made from its index, whether its caption is the most similar.

        Args:
            make_images: indices -> images.
            captions: number of the caption of each image.
        """
        meanings = self._meanings
        right = np.zeros(len(captions))
        for indices in np.split(
            np.arange(len(captions)), range(scoring.BATCH, len(captions), scoring.BATCH)
        ):
            images = make_images(indices)
            similarity = self.matcher.similarity(images, self.test.captions)
            for row, index in enumerate(indices):
                random = np.random.RandomState(index)
                others = np.flatnonzero(meanings != meanings[captions[index]])
                others = random.permutation(others)
                others = similarity[row, others[: CANDIDATES - 1]]
                right[index] = similarity[row, captions[index]] > others.max(initial=-np.inf)
        return right
