"""The reader of words: shipped weights, training, files and the cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn.data import KnownWords, captioned_shapes, make_reader
from gaxn.features import classifier, networks, word_reader
from gaxn.models.classifier import Classifier
from gaxn.types import InputError

NAME = "captioned-shapes"


@pytest.fixture(scope="module")
def sources():
    """Small training and test data."""
    train, test = (captioned_shapes.Source(size=16, examples=200, seed=seed) for seed in (0, 1))
    return train, test


def _read(reader, images):
    extractor = reader.extractor
    logits = np.asarray(jax.jit(extractor.apply)(extractor.params, images).logits)
    return word_reader.read_words(logits, reader.words)


def test_the_shipped_reader_reads_every_word_of_test_images(monkeypatch):
    monkeypatch.setattr(word_reader, "train", None)
    train, test = (captioned_shapes.Source(split) for split in ("train", "test"))
    assert isinstance(test, KnownWords) and test.held_out
    reader = word_reader.load_or_train(train, test)
    assert reader.words == test.words
    assert reader.extractor.card == word_reader.load_reader(NAME).extractor.card
    accuracy = reader.extractor.card["test_accuracy"]
    assert accuracy.keys() == {*test.words, "all"} and min(accuracy.values()) >= 0.995
    indices = np.arange(500)
    images = jax.device_get(make_reader(test)(indices)).images
    truth = jax.device_get(jax.jit(test.attributes)(indices))
    noise = np.random.default_rng(0).normal(0, 0.1 * 255, images.shape)
    noisy = np.clip(np.round(images + noise), 0, 255).astype(np.uint8)
    # Of 2,000 images the shapes of 0.998 are read, and with noise of 0.9895; the limits are four
    # standard errors below.
    for pixels, least in ((images, 0.99), (noisy, 0.97)):
        read = _read(reader, pixels)
        for attribute, words in truth.items():
            assert np.mean(read[attribute] == words) >= least, attribute


def test_the_logits_of_all_words_are_split_by_attribute():
    words = {"size": ("small", "large"), "color": ("red", "green", "blue")}
    logits = np.array([[1.0, 2.0, 5.0, 4.0, 3.0], [2.0, 1.0, -3.0, -2.0, -1.0]])
    parts = word_reader.split_logits(logits, words)
    np.testing.assert_array_equal(parts["size"], logits[:, :2])
    np.testing.assert_array_equal(parts["color"], logits[:, 2:])
    read = word_reader.read_words(logits, words)
    np.testing.assert_array_equal(read["size"], [1, 0])
    np.testing.assert_array_equal(read["color"], [0, 2])


def test_weights_of_another_kind_are_refused():
    with pytest.raises(InputError, match=f"weights of the word reader must be {NAME}, or the path"):
        word_reader.load_reader("shapes")
    names = "fashion-mnist, mnist, shapes"
    with pytest.raises(InputError, match=f"weights of the classifier must be {names}, or the path"):
        classifier.load(NAME)


def test_a_file_of_another_network_is_refused(tmp_path):
    shipped = networks.SHIPPED / f"{NAME}.npz"
    cards = {"reader": shipped.with_suffix(".json").read_text(), "empty": "{}", "cut": "{"}
    for name, card in cards.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(shipped.read_bytes())
        path.with_suffix(".json").write_text(card)
        with pytest.raises(InputError, match=r"path of a \.npz of that network with its \.json"):
            classifier.load(str(path))


@pytest.mark.slow
def test_a_saved_reader_reads_the_same_words_with_the_measured_accuracy(sources, tmp_path):
    train, test = sources
    params, accuracy = word_reader.train(train, test, num_steps=60)
    path = tmp_path / "reader.npz"
    card = word_reader.save(path, train, params, accuracy)
    assert card["test_accuracy"] == accuracy and card["trained_on"] == train.identity
    reader = word_reader.load_reader(str(path))
    indices = np.arange(len(test))
    read = _read(reader, make_reader(test)(indices).images)
    truth = jax.device_get(jax.jit(test.attributes)(indices))
    correct = {attribute: read[attribute] == words for attribute, words in truth.items()}
    correct["all"] = np.all(list(correct.values()), axis=0)
    for name, is_right in correct.items():
        # One image may be read differently at another precision.
        assert is_right.mean() == pytest.approx(accuracy[name], abs=1.01 / len(test)), name
    # Better than the most frequent word.
    assert accuracy["place"] > 0.3 and accuracy["color"] > 0.3


def test_a_reader_is_trained_once_on_every_combination(sources, tmp_path, monkeypatch):
    monkeypatch.setenv("GAXN_CACHE", str(tmp_path))
    words = sum(map(len, sources[0].words.values()))
    network = Classifier(words, word_reader.WIDTHS, word_reader.FEATURES)
    params = network.init(jax.random.key(0), jnp.zeros((1, *sources[0].image_shape)))
    calls = []
    monkeypatch.setattr(word_reader, "train", lambda *each: calls.append(each) or (params, {}))
    trained, cached = (word_reader.load_or_train(*sources) for _ in range(2))
    assert calls == [tuple(source.complete for source in sources)]
    assert cached.extractor.card == trained.extractor.card
    assert trained.extractor.card["trained_on"] == "captioned shapes size=16"
    jax.tree.map(np.testing.assert_array_equal, cached.extractor.params, params)
