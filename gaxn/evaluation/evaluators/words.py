"""Words of captions, read back from the images that were generated for them."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jaxtyping import Bool, Int

from gaxn.data import KnownWords, make_reader
from gaxn.evaluation import figures, scoring
from gaxn.evaluation.scoring import ImageSet
from gaxn.features.word_reader import ALL, WordReader, read_words
from gaxn.io import plots
from gaxn.metrics.statistics.standard_errors import standard_error
from gaxn.types import HostLabels, HostPixels, Measurement, Sampler

HELD_OUT = "held_out_"
"""Begins the names of figures of combinations that training lacks."""

WordIndices = Mapping[str, Int[np.ndarray, " images"]]
"""By attribute, the index of one word for each image."""


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Accuracy of the words that are read back from images of test captions.

    `color_accuracy` is the share of images whose color is read as the word of the caption, and
    the same of every attribute; `all_accuracy` is the share of which every word is.
    `held_out_color_accuracy` and so on are of the captions whose combination of words training
    lacks. The figures of the test images with these captions stand beside them, as NAME_real:
    the reader's mistakes alone.

    The labels that a sampler gets are indices of test captions, in order, and from the first again
    after the last.

    Attributes:
        test: the test split.
        reader: reads words from images.
        samples: generated images.
    """

    test: KnownWords
    reader: WordReader
    samples: int

    @property
    def figures(self) -> set[str]:
        """Names of the figures, without those of errors and of real images."""
        return {name for name in self._real if not name.endswith(figures.ERROR)}

    def __call__(self, sampler: Sampler) -> Measurement:
        started = time.perf_counter()
        attributes, is_held_out = self._truth(self.samples)
        read = self._read(lambda part: sampler.sample(part, self._labels(part)), self.samples)
        values = word_accuracy(read, attributes, is_held_out)
        counts = {
            name: count_words(read[name], attributes[name], len(words))
            for name, words in self.test.words.items()
        }
        pictures = {
            f"words_{name}": functools.partial(plots.confusion, counts[name], words)
            for name, words in self.test.words.items()
        }
        seconds = time.perf_counter() - started
        timing = {"seconds": round(seconds, 2), "images_per_second": round(self.samples / seconds)}
        return Measurement(
            {
                **self.reader.extractor.card,
                "samples": self.samples,
                "held_out_samples": int(is_held_out.sum()),
                "labels": "test captions in order",
                "reference": f"{self.test.identity}, test split",
                "reference_count": self._real_count,
                "quantized": "uint8",
                "error": "over images",
                **sampler.facts,
            },
            {**values, **figures.add_real_suffix(self._real)},
            {"word_counts": {name: each.tolist() for name, each in counts.items()}},
            pictures,
            timing,
        )

    @property
    def _real_count(self) -> int:
        return min(self.samples, len(self.test))

    @functools.cached_property
    def _real(self) -> Mapping[str, float]:
        """The figures of test images."""
        read_images = make_reader(self.test)
        read = self._read(lambda part: jax.device_get(read_images(part).images), self._real_count)
        return word_accuracy(read, *self._truth(self._real_count))

    def _labels(self, indices: np.ndarray) -> HostLabels:
        """Returns the index of the caption of each sample."""
        return (indices % len(self.test)).astype(np.int32)

    def _truth(self, count: int) -> tuple[WordIndices, Bool[np.ndarray, " count"]]:
        """Returns the words of the first samples, and whether training lacks each combination."""
        truth = jax.jit(
            lambda labels: (self.test.attributes(labels), self.test.is_held_out(labels))
        )
        return jax.device_get(truth(self._labels(np.arange(count))))

    def _read(self, make_images: Callable[[np.ndarray], HostPixels], count: int) -> WordIndices:
        """Reads the words of images 0 to `count` - 1, made from their indices in batches."""
        images = ImageSet(count, self.test.image_shape, 0, lambda part: (make_images(part), None))
        outputs = scoring.iterate_outputs(images, self._extract, "words")
        logits = np.concatenate([output.logits for _, output in outputs])
        return read_words(logits, self.reader.words)

    @functools.cached_property
    def _extract(self) -> scoring.Extract:
        return scoring.make_extract(self.reader.extractor, min(scoring.BATCH, self.samples))


def word_accuracy(
    read: WordIndices, attributes: WordIndices, is_held_out: Bool[np.ndarray, " images"]
) -> dict[str, float]:
    """Returns the share of images whose words are right, with its standard error.

    Args:
        read: the words that are read from the images.
        attributes: the words that are asked for.
        is_held_out: whether training lacks the combination of words.

    Returns:
        NAME_accuracy of each attribute and of all together, and held_out_NAME_accuracy of the
        images of held-out combinations, if there are any.
    """
    correct = {name: read[name] == words for name, words in attributes.items()}
    correct[ALL] = np.all(list(correct.values()), axis=0)
    groups = {"": np.ones_like(is_held_out), HELD_OUT: is_held_out}
    values = {}
    for start, chosen in groups.items():
        for name, is_right in correct.items() if chosen.any() else ():
            hits = is_right[chosen].astype(np.float64)
            values[f"{start}{name}_accuracy"] = float(hits.mean())
            values[f"{start}{name}_accuracy{figures.ERROR}"] = standard_error(hits)
    return values


def count_words(
    read: Int[np.ndarray, " images"], words: Int[np.ndarray, " images"], size: int
) -> Int[np.ndarray, "size size"]:
    """Returns how often each word (row) was read as each word (column)."""
    counts = np.zeros((size, size), np.int64)
    np.add.at(counts, (words, read), 1)
    return counts
