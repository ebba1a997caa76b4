"""Classifier of a data set as feature extractor: shipped, cached, or trained.

Features are the activations of the hidden layer, and the known modes are the classes. The weights
of a data set do not depend on the run, so figures of different runs are comparable.
"""

import hashlib
import io
import json
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from gaxn.data import Source, make_reader, pixels
from gaxn.features import ExtractorOutput, FeatureExtractor
from gaxn.io import downloads, files
from gaxn.models.classifier import Classifier
from gaxn.types import InputError, PyTree, check

BATCH_SIZE, LEARNING_RATE = 64, 2e-3
SHIPPED = resources.files("gaxn.features") / "weights"


def train(
    train_source: Source, test_source: Source, seed: int = 0, num_steps: int = 9_000
) -> tuple[PyTree, float]:
    """Trains a classifier with Adam: batch size 64, cosine decay of the learning rate from 2e-3.

    Args:
        train_source: labeled images to train on.
        test_source: labeled images to measure the accuracy on.
        seed: of the initial parameters and of the batches.
        num_steps: gradient steps.

    Returns:
        The parameters, and the test accuracy in [0, 1].
    """
    network = Classifier(len(train_source.class_names))
    key = jax.random.key(seed)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, num_steps))

    def loss_fn(params, batch):
        logits, _ = network.apply(params, pixels.decode(batch.images))
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()

    @jax.jit
    def draw_indices(step):
        step_key = jax.random.fold_in(key, step)
        return jax.random.randint(step_key, (BATCH_SIZE,), 0, len(train_source))

    @jax.jit
    def train_step(params, opt_state, batch):
        gradients = jax.grad(loss_fn)(params, batch)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params = network.init(key, jnp.zeros((1, *train_source.image_shape)))
    opt_state = optimizer.init(params)
    read = make_reader(train_source)
    for step in range(num_steps):
        batch = read(np.asarray(draw_indices(step)))
        params, opt_state = train_step(params, opt_state, batch)
    return params, _accuracy(network, params, test_source)


def _accuracy(network: Classifier, params: PyTree, source: Source) -> float:
    @jax.jit
    def count_correct(batch):
        logits, _ = network.apply(params, pixels.decode(batch.images))
        return (logits.argmax(axis=-1) == batch.labels).sum()

    read = make_reader(source)
    chunks = np.array_split(np.arange(len(source)), max(1, len(source) // 500))
    return float(sum(int(count_correct(read(chunk))) for chunk in chunks) / len(source))


def save(path: Path, source: Source, params: PyTree, accuracy: float) -> dict[str, Any]:
    """Writes the weights as .npz, and their card as .json beside it; returns the card."""
    flat = flax.traverse_util.flatten_dict(params["params"], sep="/")
    stream = io.BytesIO()
    np.savez(stream, **{name: np.asarray(leaf) for name, leaf in sorted(flat.items())})
    card = {
        "extractor": "gaxn.models.classifier.Classifier, hidden layer",
        "trained_on": source.identity,
        "classes": list(source.class_names),
        "test_accuracy": accuracy,
        "sha256": hashlib.sha256(stream.getvalue()).hexdigest(),
    }
    files.write_bytes(path, stream.getvalue())
    files.write_json(path.with_suffix(".json"), card)
    return card


def load(weights: str = "") -> FeatureExtractor:
    """Loads a classifier.

    Args:
        weights: the name of a shipped classifier, such as "mnist", or the path of a .npz file with
            its card, a .json file, beside it.

    Raises:
        InputError: there are no such weights, or they do not match their card.
    """
    names = sorted(p.name.removesuffix(".npz") for p in SHIPPED.iterdir() if p.name.endswith("npz"))
    if weights in names:
        return _read(SHIPPED / f"{weights}.npz", SHIPPED / f"{weights}.json")
    path = Path(weights)
    exist = path.is_file() and path.with_suffix(".json").is_file()
    expected = f"{', '.join(names)}, or the path of a .npz with its .json beside it"
    check("weights of the classifier", weights, exist, expected)
    return _read(path, path.with_suffix(".json"))


def load_or_train(train_source: Source, test_source: Source) -> FeatureExtractor:
    """Loads the shipped or the cached classifier of a data set; else trains one and caches it.

    Raises:
        InputError: the cache is needed and cannot be written.
    """
    for card_path in sorted(SHIPPED.iterdir(), key=lambda path: path.name):
        if card_path.name.endswith(".json") and _is_trained_on(card_path, train_source):
            return _read(SHIPPED / card_path.name.replace(".json", ".npz"), card_path)
    name = hashlib.sha256(train_source.identity.encode()).hexdigest()[:12]
    path = downloads.directory("classifiers") / f"{name}.npz"
    if path.is_file() and _is_trained_on(path.with_suffix(".json"), train_source):
        return _read(path, path.with_suffix(".json"))
    files.check_writable(path, "the classifier in GAXN_CACHE")
    print(f"no classifier for {train_source.identity} yet: training one", flush=True)
    params, accuracy = train(train_source, test_source)
    return _extractor(params, save(path, train_source, params, accuracy))


def _is_trained_on(card_path: Traversable, source: Source) -> bool:
    """Returns whether a card names this data set; a damaged one names none."""
    try:
        return json.loads(card_path.read_text())["trained_on"] == source.identity
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def _read(path: Traversable, card_path: Traversable) -> FeatureExtractor:
    card = json.loads(card_path.read_text())
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != card["sha256"]:
        raise InputError(f"{path.name} does not match the SHA-256 in its card; get the file again")
    with np.load(io.BytesIO(content)) as arrays:
        params = {"params": flax.traverse_util.unflatten_dict(dict(arrays), sep="/")}
    return _extractor(params, card)


def _extractor(params: PyTree, card: dict[str, Any]) -> FeatureExtractor:
    classes = tuple(card["classes"])
    network = Classifier(len(classes))

    def apply(params, images):
        with jax.default_matmul_precision("highest"):
            logits, features = network.apply(params, pixels.decode(images))
        return ExtractorOutput(features, logits, logits.argmax(axis=-1))

    channels = params["params"]["Conv_0"]["kernel"].shape[2]
    card = {**card, "resize": "none"}
    return FeatureExtractor(apply, params, card, len(classes), classes, channels, unit_scale=False)
