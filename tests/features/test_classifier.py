"""The classifier of a data set: training, files and the cache."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn.data import make_reader, pixels, shapes
from gaxn.features import classifier
from gaxn.models.classifier import Classifier
from gaxn.types import InputError


@pytest.fixture(scope="module")
def sources():
    """Small training and test data; the test split of shapes has 10,000 images."""
    return shapes.Source(size=16, examples=256), shapes.Source(size=16, examples=500, seed=1)


@pytest.mark.slow
def test_a_saved_classifier_gives_the_same_logits_and_the_measured_accuracy(sources, tmp_path):
    params, accuracy = classifier.train(*sources, num_steps=60)
    path = tmp_path / "classifier.npz"
    card = classifier.save(path, sources[0], params, accuracy)
    assert json.loads(path.with_suffix(".json").read_text()) == card
    assert card["test_accuracy"] == accuracy > 0.4
    extractor = classifier.load(str(path))
    batch = make_reader(sources[1])(np.arange(len(sources[1])))
    output = jax.jit(extractor.apply)(extractor.params, batch.images)
    with jax.default_matmul_precision("highest"):
        logits, features = Classifier(3).apply(params, pixels.decode(batch.images))
    np.testing.assert_allclose(output.logits, logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(output.features, features, rtol=1e-5, atol=1e-5)
    assert np.mean(output.modes == batch.labels) == pytest.approx(accuracy, abs=0.003)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"classifier.npz does not match the SHA-256 in its card"):
        classifier.load(str(path))


def test_weights_that_do_not_exist_are_refused():
    with pytest.raises(InputError, match=r"weights of the classifier must be .*, got 'nowhere'$"):
        classifier.load("nowhere")


def test_a_classifier_is_trained_once_and_then_read_from_the_cache(sources, tmp_path, monkeypatch):
    monkeypatch.setenv("GAXN_CACHE", str(tmp_path))
    params = Classifier(3).init(jax.random.key(0), jnp.zeros((1, *sources[0].image_shape)))
    calls = []
    monkeypatch.setattr(classifier, "train", lambda *_: calls.append(1) or (params, 0.5))
    trained, cached = (classifier.load_or_train(*sources) for _ in range(2))
    assert len(calls) == 1 and cached.card == trained.card
    jax.tree.map(np.testing.assert_array_equal, cached.params, params)


def test_a_shipped_classifier_is_not_trained(monkeypatch):
    monkeypatch.setattr(classifier, "train", None)
    source = shapes.Source()
    assert classifier.load_or_train(source, source).card["trained_on"] == source.identity


def test_a_cache_that_cannot_be_written_is_told_before_the_training(sources, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GAXN_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(classifier, "train", None)
    with pytest.raises(InputError, match="the classifier in GAXN_CACHE must be the path of a file"):
        classifier.load_or_train(*sources)
