"""Metrics of generated images by one extractor, beside those of as many real ones."""

import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from gaxn import figures, measure, pictures
from gaxn.data import Source
from gaxn.extractors import Extractor
from gaxn.measure import ImageSet, Statistics
from gaxn.metrics import Outline, neighbours
from gaxn.types import HostLabels, HostPixels, Report, Subject

ASKED, SHOWN = 1_000, 8
"""Samples whose nearest training images are looked for, and those that are shown."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """The test split as an extractor sees it, looked at once for all that ask.

    Attributes:
        test: the test split.
        extractor: what sees features.
        metrics: files of gaxn/metrics by name, whatever anyone asks for.
        conditional: whether labels mean something.
        most: images of the largest set that is looked at.
        count: images of the test split that are looked at, drawn once; None for all.
    """

    test: Source
    extractor: Extractor
    metrics: Mapping[str, Any]
    conditional: bool
    most: int
    count: int | None = None

    @property
    def images(self) -> ImageSet:
        """What samples are held against; made anew each time, as its table is on the device."""
        return measure.of_source(self.test, self.count)

    @functools.cached_property
    def outline(self) -> Outline:
        """Raises: InputError: the extractor cannot take such images."""
        whole = measure.outline(self.images, self.extractor)
        return whole if self.conditional else whole._replace(labels=0)

    @functools.cached_property
    def look(self) -> Callable[[HostPixels], Any]:
        """One program for every set."""
        return measure.looking(self.extractor, min(measure.BATCH, self.most))

    @functools.cached_property
    def statistics(self) -> Statistics:
        """Of all of them."""
        applicable = measure.applicable(self.metrics, [self.outline])
        chosen = measure.fitting(applicable, [self.outline])
        return measure.observe(self.images, self.extractor, chosen, self.look, "reference")


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Every metric of a run's samples against its test split.

    The same metrics of as many real training images stand beside them, `_floor`. A
    conditional generator is asked for each class equally often. Where the training images
    are looked through, the samples nearest to one are shown: copies, if there are any.

    Attributes:
        name: of the extractor, for its pictures.
        train: the training split.
        reference: what samples are held against.
        metrics: files of gaxn/metrics by name; those that apply are computed.
        asked: the names of those that are not to be left out because of a set's size.
        samples: how many images are generated.
        memorisation: whether the training images are looked through.

    Raises:
        InputError: the extractor cannot take such images, or a metric that is asked for
            cannot be had of so many.
    """

    name: str
    train: Source
    reference: Reference
    metrics: Mapping[str, Any]
    asked: Collection[str]
    samples: int
    memorisation: bool

    def __post_init__(self):
        _ = self._chosen

    @property
    def figures(self) -> set[str]:
        """The names of what it finds, but for errors and floors."""
        return {name for metric in self._chosen.values() for name in metric.FIGURES}

    def __call__(self, subject: Subject) -> Report:
        started = time.perf_counter()
        generated = self._generated(subject)
        found = self._observed(generated, "samples")
        result = measure.compute(self._chosen, found, self.reference.statistics)
        floor, _ = self._floor
        found_figures = {**result.figures, **figures.floors(floor)}
        tables, shown = dict(result.tables), {}
        names = list(self._test.class_names)
        if "confusion" in tables:
            shown["confusion"] = pictures.confusion(np.array(tables["confusion"]), names)
            tables["classes"] = names
        if self.memorisation:
            copied, shown[f"nearest_{self.name}"] = self._copies(generated)
            found_figures |= copied
        timing = measure.timing(time.perf_counter() - started, found)
        return Report(self._protocol(subject), found_figures, tables, shown, timing)

    @property
    def _test(self) -> Source:
        return self.reference.test

    def _generated(self, subject: Subject) -> ImageSet:
        classes = len(self._test.class_names) if self.reference.conditional else 0

        def read(numbers: np.ndarray) -> tuple[HostPixels, HostLabels | None]:
            labels = numbers % classes if classes else None
            return subject.sample(numbers, labels), labels

        return ImageSet(self.samples, self._test.image_shape, classes, read)

    def _observed(self, images: ImageSet, title: str) -> Statistics:
        extractor, look = self.reference.extractor, self.reference.look
        return measure.observe(images, extractor, self._chosen, look, title)

    @functools.cached_property
    def _chosen(self) -> Mapping[str, Any]:
        whole = self.reference.outline
        floor = min(self.samples, len(self.train))
        sets = [whole, *(whole._replace(count=count) for count in (self.samples, floor))]
        return measure.fitting(measure.applicable(self.metrics, [whole]), sets, self.asked)

    @functools.cached_property
    def _floor(self) -> tuple[Mapping[str, float], int]:
        real = measure.of_source(self.train, self.samples)
        found = self._observed(real, "floor")
        result = measure.compute(self._chosen, found, self.reference.statistics)
        return result.figures, real.count

    def _copies(self, generated: ImageSet) -> tuple[dict[str, float], np.ndarray]:
        askers = (
            ImageSet(min(ASKED, generated.count), *generated[1:]),
            measure.of_source(self._test, ASKED),
        )
        look = self.reference.look
        queries = [
            np.concatenate([seen for _, seen in measure.features(asked, look, "askers")])
            for asked in askers
        ]
        training = measure.of_source(self.train)
        state, unseen = (neighbours.empty(asked) for asked in queries)
        for numbers, seen in measure.features(training, look, "training images"):
            state = neighbours.update(state, numbers, seen)
            unseen = neighbours.update(unseen, numbers, seen)
        own, real, share = neighbours.compute(state, unseen)
        found = {
            "nearest_training_image": own,
            "nearest_training_image_floor": real,
            "copied_share": share,
            "copied_share_floor": neighbours.CLOSE,
        }
        nearest = np.argsort(state.distances[:, 0], kind="stable")[:SHOWN]
        rows = [
            np.stack([sample, *training.read(state.indices[asker])[0]])
            for asker, sample in zip(nearest, generated.read(nearest)[0], strict=True)
        ]
        return found, pictures.grid(np.stack(rows))

    def _protocol(self, subject: Subject) -> dict[str, object]:
        points = len(self._test.image_shape) == 1
        return {
            **self.reference.extractor.card,
            "metrics": list(self._chosen),
            "samples": self.samples,
            "labels": "every class equally often" if self.reference.conditional else "none",
            "reference": f"{self._test.identity}, test split",
            "reference_count": self.reference.outline.count,
            "floor": f"{self.train.identity}, training split",
            "floor_count": self._floor[1],
            "memorisation": f"{min(ASKED, self.samples):,} samples and "
            f"{min(ASKED, len(self._test)):,} unseen images in {len(self.train):,} training images"
            if self.memorisation
            else "not looked for",
            **measure.PROTOCOL,
            **({"quantised": "no"} if points else {}),
            **subject.facts,
        }
