"""Metrics of generated images in the features of one extractor, beside those of real images."""

import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from gaxn.data import Source
from gaxn.evaluation import figures, scoring
from gaxn.evaluation.sampling import balanced_labels
from gaxn.evaluation.scoring import ImageSet, SetStatistics
from gaxn.features import FeatureExtractor
from gaxn.io import plots
from gaxn.io.plots import Picture
from gaxn.metrics import SetSpec
from gaxn.metrics.statistics import nearest_neighbors
from gaxn.types import HostLabels, HostPixels, Measurement, Sampler

QUERIES, PICTURED = 1_000, 8
"""Samples whose nearest training images are searched, and those that are drawn."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """The test split in the features of an extractor, computed once for all evaluators.

    Attributes:
        test: the test split.
        extractor: of the features.
        metrics: modules of gaxn/metrics by name: all that any evaluator needs.
        conditional: whether samples have labels.
        max_count: images of the largest set that is seen.
        count: images of the test split, drawn once; None for all.
    """

    test: Source
    extractor: FeatureExtractor
    metrics: Mapping[str, Any]
    conditional: bool
    max_count: int
    count: int | None = None

    @property
    def images(self) -> ImageSet:
        """The images; made anew each time, as their table is on the device."""
        return scoring.from_source(self.test, self.count)

    @functools.cached_property
    def spec(self) -> SetSpec:
        """Shapes and counts of the set; an InputError if the extractor does not take it."""
        spec = scoring.set_spec(self.images, self.extractor)
        return spec if self.conditional else spec._replace(labels=0)

    @functools.cached_property
    def extract(self) -> scoring.Extract:
        """One compiled program for every set."""
        return scoring.make_extract(self.extractor, min(scoring.BATCH, self.max_count))

    @functools.cached_property
    def statistics(self) -> SetStatistics:
        """The statistics for all metrics."""
        applicable = scoring.select_applicable(self.metrics, [self.spec])
        metrics = scoring.select_computable(applicable, [self.spec])
        return scoring.collect(self.images, self.extractor, metrics, self.extract, "reference")


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Every metric of a run's samples, compared with its test split.

    The metrics of as many real training images stand beside them, as NAME_real. A conditional
    generator is asked for each class equally often. If copies are searched for, the samples nearest
    to a training image are drawn.

    Attributes:
        name: of the extractor, for the pictures.
        train: the training split.
        reference: the test split.
        metrics: modules of gaxn/metrics by name; those that apply are computed.
        required: names of metrics that must not be left out because of a set's size.
        samples: generated images.
        memorization: whether copies of training images are searched for.

    Raises:
        InputError: the extractor does not take such images, or a required metric cannot be
            computed from this number.
    """

    name: str
    train: Source
    reference: Reference
    metrics: Mapping[str, Any]
    required: Collection[str]
    samples: int
    memorization: bool

    def __post_init__(self):
        _ = self._computed

    @property
    def computed(self) -> Collection[str]:
        """Names of the metrics that are computed."""
        return self._computed.keys()

    @property
    def figures(self) -> set[str]:
        """Names of the figures, without those of errors and of real images."""
        return {name for metric in self._computed.values() for name in metric.FIGURES}

    def __call__(self, sampler: Sampler) -> Measurement:
        started = time.perf_counter()
        generated = self._generated(sampler)
        statistics = self._collect(generated, "samples")
        result = scoring.compute(self._computed, statistics, self.reference.statistics)
        values = {**result.figures, **figures.add_real_suffix(self._real[0])}
        tables, pictures = dict(result.tables), {}
        names = list(self._test.class_names)
        if "confusion" in tables:
            counts = np.array(tables["confusion"])
            pictures["confusion"] = functools.partial(plots.confusion, counts, names)
            tables["classes"] = names
        if self.memorization:
            copies, pictures[f"nearest_{self.name}"] = self._copies(generated)
            values |= copies
        timing = scoring.timing(time.perf_counter() - started, statistics)
        return Measurement(self._protocol(sampler), values, tables, pictures, timing)

    @property
    def _test(self) -> Source:
        return self.reference.test

    def _generated(self, sampler: Sampler) -> ImageSet:
        conditions = self._test.num_conditions if self.reference.conditional else 0
        # A sentence is no class that a metric knows.
        classes = min(conditions, len(self._test.class_names))

        def read(indices: np.ndarray) -> tuple[HostPixels, HostLabels | None]:
            labels = balanced_labels(indices, conditions)
            return sampler.sample(indices, labels), labels if classes else None

        return ImageSet(self.samples, self._test.image_shape, classes, read)

    def _collect(self, images: ImageSet, title: str) -> SetStatistics:
        extractor, extract = self.reference.extractor, self.reference.extract
        return scoring.collect(images, extractor, self._computed, extract, title)

    @functools.cached_property
    def _computed(self) -> Mapping[str, Any]:
        spec = self.reference.spec
        counts = self.samples, min(self.samples, len(self.train))
        specs = [spec, *(spec._replace(count=count) for count in counts)]
        applicable = scoring.select_applicable(self.metrics, [spec])
        return scoring.select_computable(applicable, specs, self.required)

    @functools.cached_property
    def _real(self) -> tuple[Mapping[str, float], int]:
        """The figures of real training images, and their count."""
        images = scoring.from_source(self.train, self.samples)
        statistics = self._collect(images, "real images")
        result = scoring.compute(self._computed, statistics, self.reference.statistics)
        return result.figures, images.count

    def _copies(self, generated: ImageSet) -> tuple[dict[str, float], Callable[[], Picture]]:
        extract = self.reference.extract
        generated_features, unseen_features = (
            np.concatenate([x for _, x in scoring.iterate_features(images, extract, "queries")])
            for images in (
                generated._replace(count=min(QUERIES, generated.count)),
                scoring.from_source(self._test, QUERIES),
            )
        )
        training = scoring.from_source(self.train)
        state = nearest_neighbors.empty(generated_features)
        unseen = nearest_neighbors.empty(unseen_features)
        for indices, features in scoring.iterate_features(training, extract, "training images"):
            state = nearest_neighbors.update(state, indices, features)
            unseen = nearest_neighbors.update(unseen, indices, features)
        distance, real_distance, share, real_share = nearest_neighbors.compute(state, unseen)
        values = {
            "nearest_training_image": distance,
            f"nearest_training_image{figures.REAL}": real_distance,
            "copied_share": share,
            f"copied_share{figures.REAL}": real_share,
        }
        nearest = np.argsort(state.distances[:, 0], kind="stable")[:PICTURED]
        rows = [
            np.stack([sample, *training.read(state.indices[index])[0]])
            for index, sample in zip(nearest, generated.read(nearest)[0], strict=True)
        ]
        return values, functools.partial(plots.grid, np.stack(rows))

    @property
    def _labels(self) -> str:
        if not self.reference.conditional:
            return "none"
        return (
            "every class equally often" if self._test.class_names else "captions of the test split"
        )

    def _protocol(self, sampler: Sampler) -> dict[str, object]:
        memorization = "not searched"
        if self.memorization:
            memorization = (
                f"{min(QUERIES, self.samples):,} samples and "
                f"{min(QUERIES, len(self._test)):,} unseen images in {len(self.train):,} training "
                "images"
            )
        points = len(self._test.image_shape) == 1
        spec = self.reference.spec
        specs = [spec, spec._replace(count=self.samples)]
        unreliable = scoring.select_unreliable(self._computed, specs)
        is_few = self.memorization and len(self._test) < nearest_neighbors.RELIABLE_COUNT
        few_unseen = ["copied_share"] * is_few
        return {
            **self.reference.extractor.card,
            "metrics": list(self._computed),
            figures.FEW: [*unreliable, *few_unseen],
            "samples": self.samples,
            "labels": self._labels,
            "reference": f"{self._test.identity}, test split",
            "reference_count": self.reference.spec.count,
            "real": f"{self.train.identity}, training split",
            "real_count": self._real[1],
            "memorization": memorization,
            **scoring.PROTOCOL,
            **({"quantized": "no"} if points else {}),
            **sampler.facts,
        }
