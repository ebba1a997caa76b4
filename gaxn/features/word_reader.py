"""Network that reads the words of a caption back from an image: shipped, cached, or trained.

It is the classifier's network with the logits of all words side by side: one softmax for each
attribute, such as size or color. It is trained on real images with every combination of words, so
that it reads those that a GAN never saw as well as others. These images are blurred and noisy by
random amounts, as generated ones may be: without that, noise of 0.1 made it misread every fourth
shape.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

from gaxn import keys
from gaxn.data import KnownWords, make_reader
from gaxn.features import FeatureExtractor, networks
from gaxn.features.networks import Trained
from gaxn.models.classifier import Classifier
from gaxn.types import Image, PRNGKey, PyTree

KIND = networks.Kind(
    "word reader", "gaxn.models.classifier.Classifier of words, hidden layer", "word_readers"
)
WIDTHS, FEATURES = (32, 64, 64), 128

NOISE = 0.1
"""Largest standard deviation of the noise in training images, in units of the full range."""

ALL = "all"
"""Name of the share of images of which every word is read."""


class WordReader(NamedTuple):
    """A network that reads words from images.

    Attributes:
        extractor: its logits are those of all words, by attribute in the order of `words`.
        words: names of the words by attribute.
    """

    extractor: FeatureExtractor
    words: Mapping[str, tuple[str, ...]]


def train(
    train_source: KnownWords, test_source: KnownWords, seed: int = 0, num_steps: int = 9_000
) -> tuple[PyTree, dict[str, float]]:
    """Trains a reader on the sum of the cross entropies of all attributes, see `networks.train`.

    Args:
        train_source: images to train on, disturbed.
        test_source: images to measure the accuracy on, as they are.
        seed: of the initial parameters and of the batches.
        num_steps: gradient steps.

    Returns:
        The parameters, and the test accuracy in [0, 1]: of each attribute, and of all together.
    """
    words = train_source.words
    network = _network(words)

    def loss(logits, targets):
        losses = [
            optax.softmax_cross_entropy_with_integer_labels(part, targets[attribute])
            for attribute, part in split_logits(logits, words).items()
        ]
        return sum(losses).mean()

    def is_correct(logits, targets):
        correct = {
            attribute: part.argmax(axis=-1) == targets[attribute]
            for attribute, part in split_logits(logits, words).items()
        }
        return {**correct, ALL: jnp.stack(list(correct.values())).all(axis=0)}

    examples, shape = len(train_source), train_source.image_shape
    read = _make_augmented_reader(train_source)
    params = networks.train(network, loss, read, examples, shape, seed, num_steps)
    read = _make_reader(test_source)
    accuracy = networks.mean_score(network, params, is_correct, read, len(test_source))
    return params, {name: accuracy[name] for name in (*words, ALL)}


def save(
    path: Path, source: KnownWords, params: PyTree, accuracy: Mapping[str, float]
) -> dict[str, Any]:
    """Writes the weights as .npz, and their card as .json beside it; returns the card."""
    return networks.save(path, params, _facts(source, accuracy))


def load_reader(weights: str) -> WordReader:
    """Loads a reader.

    Args:
        weights: the name of a shipped reader, such as "captioned-shapes", or the path of a .npz
            file with its card, a .json file, beside it.

    Raises:
        InputError: there are no such weights, or they do not match their card.
    """
    return _reader(networks.read_named(KIND, weights))


def load_or_train(train_source: KnownWords, test_source: KnownWords) -> WordReader:
    """Loads the shipped or the cached reader of a data set; else trains one and caches it.

    No combination of words is held out of its training.

    Raises:
        InputError: the cache is needed and cannot be written.
    """
    source = train_source.complete

    def make():
        params, accuracy = train(source, test_source.complete)
        return params, _facts(source, accuracy)

    return _reader(networks.read_or_train(KIND, source.identity, make))


def split_logits(
    logits: Float[Array, "batch all_words"], words: Mapping[str, tuple[str, ...]]
) -> dict[str, Float[Array, "batch words"]]:
    """Returns the logits of each attribute."""
    parts, start = {}, 0
    for attribute, names in words.items():
        parts[attribute] = logits[:, start : start + len(names)]
        start += len(names)
    return parts


def read_words(
    logits: Float[np.ndarray, "batch all_words"], words: Mapping[str, tuple[str, ...]]
) -> dict[str, Int[np.ndarray, " batch"]]:
    """Returns the index of the likeliest word of each attribute."""
    return {name: part.argmax(axis=-1) for name, part in split_logits(logits, words).items()}


def _network(words: Mapping[str, tuple[str, ...]]) -> Classifier:
    return Classifier(sum(map(len, words.values())), WIDTHS, FEATURES)


def _make_reader(source: KnownWords) -> networks.Read:
    """Returns a function from indices to images and the index of each true word."""
    read_images, read_targets = make_reader(source), jax.jit(source.attributes)
    return lambda indices: (read_images(indices).images, read_targets(indices))


def _make_augmented_reader(source: KnownWords) -> networks.Read:
    """Returns `_make_reader` of augmented images; an image always has the same augmentation."""
    read = _make_reader(source)

    @jax.jit
    def augment(images, indices):
        key = keys.stream(jax.random.key(0), "disturbance")
        return jax.vmap(_augment)(images, keys.per_example(key, indices))

    def read_augmented(indices):
        images, targets = read(indices)
        return augment(images, indices), targets

    return read_augmented


def _augment(
    pixels: UInt8[Array, "height width channels"], key: PRNGKey
) -> UInt8[Array, "height width channels"]:
    """Mixes an image with its binomial blur, and adds Gaussian noise.

    The weight of the blur is uniform in [0, 1], the deviation of the noise in [0, `NOISE`].
    """
    blur, noise = jax.random.uniform(keys.stream(key, "amounts"), (2,))
    image = pixels / 255
    normal = jax.random.normal(keys.stream(key, "noise"), image.shape)
    image = image + blur * (_smooth(image) - image) + NOISE * noise * normal
    return jnp.round(255 * jnp.clip(image, 0, 1)).astype(jnp.uint8)


def _smooth(image: Image) -> Image:
    """Filters an image by [1, 2, 1] / 4 along both axes, with its edges repeated."""
    for axis in (0, 1):
        rows = jnp.moveaxis(image, axis, 0)
        before, after = (
            jnp.concatenate([rows[:1], rows[:-1]]),
            jnp.concatenate([rows[1:], rows[-1:]]),
        )
        image = jnp.moveaxis((before + 2 * rows + after) / 4, 0, axis)
    return image


def _facts(source: KnownWords, accuracy: Mapping[str, float]) -> dict[str, Any]:
    return {
        "extractor": KIND.extractor,
        "trained_on": source.identity,
        "words": {attribute: list(names) for attribute, names in source.words.items()},
        "test_accuracy": dict(accuracy),
    }


def _reader(trained: Trained) -> WordReader:
    words = {attribute: tuple(names) for attribute, names in trained.card["words"].items()}
    return WordReader(networks.make_extractor(_network(words), trained), words)
