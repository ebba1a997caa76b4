"""What the data set's own classifier says of generated images, and how far their features lie."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from gaxn import pictures
from gaxn.classifier import Extractor
from gaxn.data import Source, reader
from gaxn.metrics import confusion, frechet
from gaxn.types import Report, Subject

BATCH = 250


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Frechet distance on the classifier's features, and whether labels are obeyed.

    The distance stands beside its floor: as many real training images against the same
    test split. A conditional generator is asked for each class equally often and gets
    accuracy, confusion, precision, recall and F1; an unconditional one gets the share of
    each class and the mean confidence.

    Attributes:
        train: the training split; the floor's images come from its first indices.
        test: the test split, all of which is the reference.
        extractor: the classifier.
        conditional: whether the generator takes labels.
        samples: how many images are generated.
    """

    train: Source
    test: Source
    extractor: Extractor
    conditional: bool
    samples: int

    def __call__(self, subject: Subject) -> Report:
        names = self.test.class_names
        matrix = confusion.empty(len(names))
        moments = frechet.empty(self._width())
        confidence = 0.0
        for indices in _chunks(self.samples):
            labels = indices % len(names)
            images = subject.sample(indices, labels if self.conditional else None)
            logits, features = jax.device_get(self.extractor.apply(images))
            moments = frechet.update(moments, features)
            matrix = confusion.update(matrix, labels, logits.argmax(axis=-1))
            confidence += float(jax.nn.softmax(logits).max(axis=-1).sum())
        reference = self._moments(self.test, len(self.test))
        floor_count = min(self.samples, len(self.train))
        floor = frechet.compute(self._moments(self.train, floor_count), reference)
        figures = {
            "frechet_distance": frechet.compute(moments, reference),
            "frechet_distance_floor": floor,
            "confidence": confidence / self.samples,
        }
        shares = matrix.counts.sum(axis=0) / self.samples
        tables, shown = {"share": dict(zip(names, shares.tolist(), strict=True))}, {}
        if self.conditional:
            scores = confusion.compute(matrix)
            figures["conditional_accuracy"] = scores.accuracy
            for name in ("precision", "recall", "f1"):
                values = getattr(scores, name).tolist()
                tables[name] = dict(zip(names, values, strict=True))
                figures[f"{name}_worst_class"] = min(values)
            tables["confusion"] = {"classes": list(names), "counts": matrix.counts.tolist()}
            shown["confusion"] = pictures.confusion(matrix.counts, names)
        return Report(self._protocol(subject, floor_count), figures, tables, shown)

    def _protocol(self, subject: Subject, floor_count: int) -> dict[str, object]:
        return {
            **self.extractor.card,
            "samples": self.samples,
            "labels": "every class equally often" if self.conditional else "none",
            "reference": f"{self.test.identity}, test split",
            "reference_count": len(self.test),
            "floor_count": floor_count,
            "resize": "none",
            "quantised": "uint8",
            "covariance_ddof": 1,
            "dtype": "float32 features, float64 statistics",
            **subject.facts,
        }

    def _width(self) -> int:
        shape = jax.ShapeDtypeStruct((1, *self.test.image_shape), np.uint8)
        return jax.eval_shape(self.extractor.apply, shape)[1].shape[-1]

    def _moments(self, source: Source, count: int) -> frechet.State:
        draw = reader(source)
        moments = frechet.empty(self._width())
        for indices in _chunks(count):
            _, features = self.extractor.apply(draw(indices).images)
            moments = frechet.update(moments, np.asarray(features))
        return moments


def _chunks(count: int) -> Iterator[np.ndarray]:
    for first in range(0, count, BATCH):
        yield np.arange(first, min(first + BATCH, count))
