"""Accuracies of words are exact for images whose words are known."""

import jax
import numpy as np
import pytest

from gaxn.data import captioned_shapes, make_reader
from gaxn.evaluation.evaluators import words
from gaxn.features import word_reader
from gaxn.types import Sampler

SAMPLES = 200


@pytest.fixture(scope="module")
def reader():
    """Returns the shipped reader of captioned shapes."""
    return word_reader.load_reader("captioned-shapes")


@pytest.fixture(scope="module")
def test_source():
    """Returns a test split, of which training lacks three pairs."""
    return captioned_shapes.Source("test")


@pytest.fixture(scope="module")
def attributes(test_source):
    """Returns the true words of all test images."""
    return jax.device_get(jax.jit(test_source.attributes)(np.arange(len(test_source))))


def _sampler(source, choose):
    """Returns a sampler of real images: `choose` gives their indices from the labels."""
    read = make_reader(source)

    def sample(indices, labels):
        return jax.device_get(read(np.asarray(choose(indices, labels)))).images

    return Sampler(sample, None, None, {}, {"step": 3, "seed": 0})


def test_real_images_have_the_figures_of_real_images(test_source, reader):
    evaluator = words.Evaluator(test_source, reader, SAMPLES)
    report = evaluator(_sampler(test_source, lambda indices, labels: labels))
    names = ("size", "color", "shape", "place", "all")
    assert evaluator.figures == {
        f"{start}{name}_accuracy" for start in ("", "held_out_") for name in names
    }
    for name in evaluator.figures:
        assert report.figures[name] == report.figures[f"{name}_real"] >= 0.97
    assert report.protocol["samples"] == report.protocol["reference_count"] == SAMPLES
    assert report.protocol["step"] == 3
    assert report.protocol["sha256"] == reader.extractor.card["sha256"]


def test_a_known_share_of_wrong_colors_is_measured(test_source, reader, attributes):
    """Every fourth image has another color, and the other words that were asked for."""
    others = [name for name in attributes if name != "color"]

    def recolored(index):
        same = np.all([attributes[name] == attributes[name][index] for name in others], axis=0)
        return np.flatnonzero(same & (attributes["color"] != attributes["color"][index]))[0]

    is_wrong = np.arange(SAMPLES) % 4 == 0
    chosen = [recolored(index) if is_wrong[index] else index for index in range(SAMPLES)]
    report = words.Evaluator(test_source, reader, SAMPLES)(
        _sampler(test_source, lambda indices, labels: np.array(chosen)[indices])
    )
    figures, real = report.figures, [f"{name}_accuracy_real" for name in ("all", "held_out_all")]
    # The reader makes no mistake on these images, so the figures are exact.
    assert [figures[name] for name in real] == [1, 1]
    is_held_out = np.asarray(test_source.is_held_out(np.arange(SAMPLES)))
    assert 10 < is_held_out.sum() < 50
    for start, rows in (("", np.ones(SAMPLES, bool)), ("held_out_", is_held_out)):
        share, count = 1 - is_wrong[rows].mean(), rows.sum()
        for name in ("color", "all"):
            assert figures[f"{start}{name}_accuracy"] == pytest.approx(share, abs=1e-12)
            error = np.sqrt(share * (1 - share) / (count - 1))
            assert figures[f"{start}{name}_accuracy_error"] == pytest.approx(error, abs=1e-12)
        for name in others:
            assert figures[f"{start}{name}_accuracy"] == 1
            assert figures[f"{start}{name}_accuracy_error"] == 0
    assert figures["color_accuracy"] == 0.75
    counts = np.array(report.tables["word_counts"]["color"])
    expected = np.zeros((8, 8), int)
    for requested, index in zip(attributes["color"], chosen, strict=False):
        expected[requested, attributes["color"][index]] += 1
    np.testing.assert_array_equal(counts, expected)
    assert report.pictures.keys() == {f"words_{name}" for name in attributes}
    assert report.pictures["words_color"]().dtype == np.uint8


def test_labels_are_captions_in_order_and_repeat(reader, monkeypatch):
    monkeypatch.setattr(captioned_shapes, "TEST_EXAMPLES", 40)
    source = captioned_shapes.Source("test", held_out=0)
    seen_indices, seen_labels = [], []

    def choose(indices, labels):
        assert labels.dtype == np.int32
        seen_indices.extend(indices)
        seen_labels.extend(labels)
        return labels

    evaluator = words.Evaluator(source, reader, 100)
    report = evaluator(_sampler(source, choose))
    assert seen_indices == list(range(100))
    assert seen_labels == [index % 40 for index in range(100)]
    assert report.protocol["reference_count"] == 40
    assert report.protocol["held_out_samples"] == 0
    assert not [name for name in report.figures if name.startswith("held_out")]


def test_accuracies_are_shares_with_their_standard_errors():
    read = {"size": np.array([0, 1, 2, 0]), "color": np.array([0, 0, 5, 6])}
    requested = {"size": np.array([0, 1, 2, 1]), "color": np.array([0, 1, 5, 5])}
    figures = words.word_accuracy(read, requested, np.array([True, True, False, False]))
    values = {name: value for name, value in figures.items() if not name.endswith("_error")}
    assert values == {
        "size_accuracy": 0.75,
        "color_accuracy": 0.5,
        "all_accuracy": 0.5,
        "held_out_size_accuracy": 1.0,
        "held_out_color_accuracy": 0.5,
        "held_out_all_accuracy": 0.5,
    }
    # Sample standard deviations over sqrt(n): of 3 hits of 4, and of 1 of 2.
    assert figures["size_accuracy_error"] == pytest.approx(np.sqrt(0.25 / 4))
    assert figures["held_out_color_accuracy_error"] == pytest.approx(0.5)
    assert figures["held_out_size_accuracy_error"] == 0
