"""Heat maps of the words of a sentence: where a generator attends to each of them."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np

from gaxn.data.sentences import Sentences
from gaxn.evaluation import interpolation
from gaxn.io import plots
from gaxn.metrics.statistics import attention
from gaxn.types import Measurement, Sampler

SENTENCES = 6


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Draws a picture per layer: a row per caption, with the image and the weights of each word.

    The weights are the mean over heads. Measures the mean entropy of the weights over words, as a
    share of that of equal weights.

    Attributes:
        test: the test split.
    """

    test: Sentences

    figures: ClassVar[set[str]] = set()

    def __call__(self, sampler: Sampler) -> Measurement:
        chosen = interpolation.select_classes(self.test.num_conditions)
        numbers = chosen[np.linspace(0, len(chosen) - 1, SENTENCES).round().astype(int)]
        indices = np.arange(SENTENCES)
        images = sampler.sample(indices, numbers)
        words = [self.test.conditioner.encoder.split(self.test.captions[n]) for n in numbers]
        figures, pictures = {}, {}
        for layer, weights in sampler.word_attention(indices, numbers).items():
            mean = weights.mean(axis=1)
            shares = [
                -(np.maximum(each, 1e-30) * np.log(np.maximum(each, 1e-30))).sum(axis=1).mean()
                / np.log(len(names))
                for each, names in zip(mean, words, strict=True)
                if len(names) > 1
            ]
            if shares:
                figures[f"entropy/{layer}"] = float(np.mean(shares))
            side = attention.side(mean.shape[1])
            maps = [
                each[:, : len(names)].T.reshape(len(names), side, side)
                for each, names in zip(mean, words, strict=True)
            ]
            path = f"word_attention/{layer.replace('/', '_')}"
            pictures[path] = functools.partial(plots.word_attention, images, maps, words)
        captions = [self.test.captions[number] for number in numbers]
        protocol = {"captions": captions, "heads": "averaged", **sampler.facts}
        return Measurement(protocol, figures, {}, pictures)
