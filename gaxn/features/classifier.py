"""Classifier of a data set as feature extractor: shipped, cached, or trained.

Features are the activations of the hidden layer, and the known modes are the classes.
"""

from pathlib import Path
from typing import Any

import optax

from gaxn.data import Source, make_reader
from gaxn.features import FeatureExtractor, networks
from gaxn.features.networks import Trained
from gaxn.models.classifier import Classifier
from gaxn.types import PyTree

KIND = networks.Kind("classifier", "gaxn.models.classifier.Classifier, hidden layer", "classifiers")


def train(
    train_source: Source, test_source: Source, seed: int = 0, num_steps: int = 9_000
) -> tuple[PyTree, float]:
    """Trains a classifier, see `networks.train`.

    Args:
        train_source: labeled images to train on.
        test_source: labeled images to measure the accuracy on.
        seed: of the initial parameters and of the batches.
        num_steps: gradient steps.

    Returns:
        The parameters, and the test accuracy in [0, 1].
    """
    network = Classifier(len(train_source.class_names))

    def loss(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def is_correct(logits, labels):
        return logits.argmax(axis=-1) == labels

    examples, shape = len(train_source), train_source.image_shape
    params = networks.train(
        network, loss, make_reader(train_source), examples, shape, seed, num_steps
    )
    read = make_reader(test_source)
    return params, networks.mean_score(network, params, is_correct, read, len(test_source))


def save(path: Path, source: Source, params: PyTree, accuracy: float) -> dict[str, Any]:
    """Writes the weights as .npz, and their card as .json beside it; returns the card."""
    return networks.save(path, params, _facts(source, accuracy))


def load(weights: str = "") -> FeatureExtractor:
    """Loads a classifier.

    Args:
        weights: the name of a shipped classifier, such as "mnist", or the path of a .npz file with
            its card, a .json file, beside it.

    Raises:
        InputError: there are no such weights, or they do not match their card.
    """
    return _extractor(networks.read_named(KIND, weights))


def load_or_train(train_source: Source, test_source: Source) -> FeatureExtractor:
    """Loads the shipped or the cached classifier of a data set; else trains one and caches it.

    Raises:
        InputError: the cache is needed and cannot be written.
    """

    def make():
        params, accuracy = train(train_source, test_source)
        return params, _facts(train_source, accuracy)

    return _extractor(networks.read_or_train(KIND, train_source.identity, make))


def _facts(source: Source, accuracy: float) -> dict[str, Any]:
    return {
        "extractor": KIND.extractor,
        "trained_on": source.identity,
        "classes": list(source.class_names),
        "test_accuracy": accuracy,
    }


def _extractor(trained: Trained) -> FeatureExtractor:
    classes = tuple(trained.card["classes"])
    return networks.make_extractor(Classifier(len(classes)), trained, classes)
