"""R-precision: the share of images of which the asked caption is the most similar of 100."""

import numpy as np

from gaxn.data import Recorded
from gaxn.data.sentences import Sentences
from gaxn.evaluation.evaluators.retrieval import FIGURE, Evaluator
from gaxn.features.text import words
from gaxn.features.text.words import Matcher
from gaxn.types import Batch, Sampler

COUNT, SAMPLES = 130, 1_000
CAPTIONS = tuple(f"number {number:03}" for number in range(COUNT))


class Numbers(Recorded):
    """Images of one number each, whose captions name it, but for every tenth."""

    @property
    def captions(self):
        return CAPTIONS

    @property
    def table(self):
        return None

    def read(self, indices):
        pixels = np.where(indices % 10, indices, (indices + 1) % COUNT).astype(np.uint8)
        return Batch(np.broadcast_to(pixels[:, None, None, None], (len(indices), 2, 2, 1)), None)


def _similarity(images, captions):
    numbers = np.array([int(caption.split()[1]) for caption in captions])
    return -np.abs(images[:, :1, 0, 0].astype(float) - numbers)


def _tokenize(captions):
    return np.array([[int(caption.split()[1])] for caption in captions])


def test_the_share_of_right_captions_stands_beside_that_of_real_images():
    record = {
        "identity": "numbers",
        "image_shape": (2, 2, 1),
        "classes": [],
        "examples": [0, COUNT],
    }
    source = Numbers("test", record=record)
    test = Sentences(
        "test", source=source, conditioner=lambda captions: np.zeros((len(captions), 1))
    )
    card = {"extractor": "matcher", "trained_on": "numbers", "sha256": "0"}
    evaluate = Evaluator(test, Matcher(_similarity, _tokenize, card), SAMPLES)
    # A quarter of the samples shows another number.
    wrong = np.random.default_rng(0).permutation(SAMPLES) < SAMPLES // 4

    def sample(indices, labels):
        np.testing.assert_array_equal(labels, indices % COUNT)
        # So far away that a nearer number is among any 99 others.
        pixels = np.where(wrong[indices], (labels + COUNT // 2) % COUNT, labels).astype(np.uint8)
        return np.broadcast_to(pixels[:, None, None, None], (len(indices), 2, 2, 1))

    report = evaluate(Sampler(sample, None, None, {}, {"step": 3}))
    assert report.figures[FIGURE] == 0.75
    np.testing.assert_allclose(
        report.figures[f"{FIGURE}_error"], np.sqrt(0.75 * 0.25 / (SAMPLES - 1)), rtol=1e-6
    )
    real = report.figures[f"{FIGURE}_real"]
    # One of ten shows the next number, whose caption is among the 99 others with odds 99 to 30.
    assert 0.9 <= real < 0.96
    assert report.protocol["candidates"] == 100 and report.protocol["step"] == 3


def test_captions_that_the_network_cannot_tell_apart_are_no_rivals():
    class Birds(Numbers):
        @property
        def captions(self):
            return ("A red bird.", "a red bird", "a blue bird")

    record = {"identity": "birds", "image_shape": (2, 2, 1), "classes": [], "examples": [0, 3]}
    source = Birds("test", record=record)
    test = Sentences(
        "test", source=source, conditioner=lambda captions: np.zeros((len(captions), 1))
    )

    def tokenize(captions):
        return words.tokenize(captions, ["a", "bird", "blue", "red"], 4)

    def similarity(images, captions):
        is_blue = np.array(["blue" in caption for caption in captions])
        return (is_blue == images[:, :1, 0, 0].astype(bool)).astype(float)

    card = {"extractor": "matcher", "trained_on": "birds", "sha256": "0"}
    evaluate = Evaluator(test, Matcher(similarity, tokenize, card), 30)

    def sample(indices, labels):
        is_blue = np.array(["blue" in test.captions[label] for label in labels])
        return np.broadcast_to(
            is_blue[:, None, None, None].astype(np.uint8), (len(labels), 2, 2, 1)
        )

    assert evaluate(Sampler(sample, None, None, {}, {})).figures[FIGURE] == 1.0
