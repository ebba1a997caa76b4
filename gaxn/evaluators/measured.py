"""Metrics of generated images by one extractor, beside those of as many real ones."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gaxn import measure, pictures
from gaxn.data import Source
from gaxn.extractors import Extractor
from gaxn.measure import ImageSet, Statistics
from gaxn.metrics import neighbours
from gaxn.types import HostLabels, HostPixels, Report, Subject

ASKED, SHOWN = 1_000, 8
"""Samples whose nearest training images are looked for, and those that are shown."""


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Every metric of a run's samples against its test split.

    The same metrics of as many real training images stand beside them, `_floor`. A
    conditional generator is asked for each class equally often. Where the training images
    are looked through, the samples nearest to one are shown: copies, if there are any.

    Attributes:
        name: of the extractor, for its pictures.
        train: the training split.
        test: the test split, all of which is the reference.
        extractor: what sees features.
        metrics: files of gaxn/metrics by name; those that apply are computed.
        conditional: whether the generator takes labels.
        samples: how many images are generated.
        memorisation: whether the training images are looked through.
    """

    name: str
    train: Source
    test: Source
    extractor: Extractor
    metrics: Mapping[str, Any]
    conditional: bool
    samples: int
    memorisation: bool

    def __call__(self, subject: Subject) -> Report:
        generated = self._generated(subject)
        found = self._observed(generated, "samples")
        result = measure.compute(self._chosen, found, self._reference)
        floor, _ = self._floor
        figures = dict(result.figures)
        figures |= {
            f"{name}_floor": value
            for name, value in floor.items()
            if name in figures and not name.endswith("_error")
        }
        tables, shown = dict(result.tables), {}
        names = list(self.test.class_names)
        if "confusion" in tables:
            shown["confusion"] = pictures.confusion(np.array(tables["confusion"]), names)
            tables["classes"] = names
        if self.memorisation:
            copied, shown[f"nearest_{self.name}"] = self._copies(generated)
            figures |= copied
        return Report(self._protocol(subject), figures, tables, shown, found.timing)

    def _generated(self, subject: Subject) -> ImageSet:
        classes = len(self.test.class_names) if self.conditional else 0

        def read(numbers: np.ndarray) -> tuple[HostPixels, HostLabels | None]:
            labels = numbers % classes if classes else None
            return subject.sample(numbers, labels), labels

        return ImageSet(self.samples, self.test.image_shape, classes, read)

    def _observed(self, images: ImageSet, title: str) -> Statistics:
        return measure.observe(images, self.extractor, self._chosen, self._look, title)

    @functools.cached_property
    def _look(self) -> Callable[[HostPixels], Any]:
        most = max(self.samples, len(self.test), len(self.train))
        return measure.looking(self.extractor, min(measure.BATCH, most))

    @functools.cached_property
    def _chosen(self) -> Mapping[str, Any]:
        whole = measure.outline(measure.of_source(self.test), self.extractor)
        labels = whole.labels if self.conditional else 0
        return measure.applicable(self.metrics, [whole._replace(labels=labels)])

    @functools.cached_property
    def _reference(self) -> Statistics:
        return self._observed(measure.of_source(self.test), "reference")

    @functools.cached_property
    def _floor(self) -> tuple[Mapping[str, float], int]:
        real = measure.of_source(self.train, self.samples)
        found = self._observed(real, "floor")
        return measure.compute(self._chosen, found, self._reference).figures, real.count

    def _copies(self, generated: ImageSet) -> tuple[dict[str, float], np.ndarray]:
        askers = (
            ImageSet(min(ASKED, generated.count), *generated[1:]),
            measure.of_source(self.test, ASKED),
        )
        queries = [
            np.concatenate([seen for _, seen in measure.features(asked, self._look, "askers")])
            for asked in askers
        ]
        training = measure.of_source(self.train)
        state, unseen = (neighbours.empty(asked) for asked in queries)
        for numbers, seen in measure.features(training, self._look, "training images"):
            state = neighbours.update(state, numbers, seen)
            unseen = neighbours.update(unseen, numbers, seen)
        own, real, share = neighbours.compute(state, unseen)
        figures = {
            "nearest_training_image": own,
            "nearest_training_image_floor": real,
            "copied_share": share,
            "copied_share_floor": neighbours.CLOSE,
        }
        nearest = np.argsort(state.distances[:, 0], kind="stable")[:SHOWN]
        rows = [
            np.concatenate(
                [generated.read(np.array([asker]))[0], training.read(state.indices[asker])[0]]
            )
            for asker in nearest
        ]
        return figures, pictures.grid(np.stack(rows))

    def _protocol(self, subject: Subject) -> dict[str, object]:
        return {
            **self.extractor.card,
            "metrics": list(self._chosen),
            "samples": self.samples,
            "labels": "every class equally often" if self.conditional else "none",
            "reference": f"{self.test.identity}, test split",
            "reference_count": len(self.test),
            "floor_count": self._floor[1],
            **measure.PROTOCOL,
            **subject.facts,
        }
