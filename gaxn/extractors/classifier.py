"""The classifier of a data set: shipped, cached or trained, the same for everyone who compares.

Features are the activations of its hidden layer; the known modes are its classes.
"""

import hashlib
import io
import json
from importlib import resources
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from gaxn import cache, pixels, sinks
from gaxn.data import Source, reader
from gaxn.extractors import Extractor, Seen
from gaxn.models.classifier import Classifier
from gaxn.types import InputError, PyTree

STEPS, BATCH, LEARNING_RATE = 9_000, 64, 2e-3
CACHE = "classifiers"


def train(train: Source, test: Source, seed: int = 0) -> tuple[PyTree, float]:
    """Parameters after 9,000 steps of Adam, batch 64, cosine decay from 2e-3; test accuracy."""
    network = Classifier(len(train.class_names))
    key = jax.random.key(seed)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, STEPS))

    def loss_of(params, batch):
        logits, _ = network.apply(params, pixels.decode(batch.images))
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()

    @jax.jit
    def draw(index):
        return jax.random.randint(jax.random.fold_in(key, index), (BATCH,), 0, len(train))

    @jax.jit
    def step(params, opt_state, batch):
        gradient = jax.grad(loss_of)(params, batch)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params = network.init(key, jnp.zeros((1, *train.image_shape)))
    opt_state = optimizer.init(params)
    read = reader(train)
    for index in range(STEPS):
        params, opt_state = step(params, opt_state, read(np.asarray(draw(index))))
    return params, _accuracy(network, params, test)


def _accuracy(network: Classifier, params: PyTree, test: Source) -> float:
    @jax.jit
    def right(batch):
        logits, _ = network.apply(params, pixels.decode(batch.images))
        return (logits.argmax(axis=-1) == batch.labels).sum()

    read = reader(test)
    chunks = np.array_split(np.arange(len(test)), max(1, len(test) // 500))
    return float(sum(int(right(read(chunk))) for chunk in chunks) / len(test))


def save(path: Path, source: Source, params: PyTree, accuracy: float) -> dict[str, Any]:
    """Writes the weights as .npz and their card beside them as .json; returns the card."""
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
    sinks.write_bytes(path, stream.getvalue())
    sinks.write_json(path.with_suffix(".json"), card)
    return card


def load(weights: str = "") -> Extractor:
    """A classifier by its weights.

    Args:
        weights: the name of a shipped one, such as "mnist", or the path of a .npz that has
            its card beside it.

    Raises:
        InputError: there is none, or it does not match its card.
    """
    shipped = resources.files("gaxn") / "weights"
    names = sorted(p.name.removesuffix(".npz") for p in shipped.iterdir() if p.name.endswith("npz"))
    if weights in names:
        return _extractor(shipped / f"{weights}.npz", shipped / f"{weights}.json")
    path = Path(weights)
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise InputError(
            f"weights of the classifier is {weights!r}; valid are {', '.join(names)}, or the path "
            "of a .npz with its .json beside it"
        )
    return _extractor(path, path.with_suffix(".json"))


def of(train_source: Source, test_source: Source) -> Extractor:
    """The shipped classifier of this data set; else the cached one; else trains and caches it."""
    for directory in (resources.files("gaxn") / "weights", cache.directory(CACHE)):
        found = _find(directory, train_source)
        if found:
            return _extractor(*found)
    print(f"no classifier for {train_source.identity} yet: training one", flush=True)
    params, accuracy = train(train_source, test_source)
    name = hashlib.sha256(train_source.identity.encode()).hexdigest()[:12]
    path = cache.directory(CACHE) / f"{name}.npz"
    return _made(params, save(path, train_source, params, accuracy))


def _find(directory: Any, source: Source) -> tuple[Any, Any] | None:
    if not directory.is_dir():
        return None
    cards = (path for path in directory.iterdir() if path.name.endswith(".json"))
    for card in sorted(cards, key=lambda path: path.name):
        if json.loads(card.read_text())["trained_on"] == source.identity:
            return directory / card.name.replace(".json", ".npz"), card
    return None


def _extractor(weights: Any, card_file: Any) -> Extractor:
    card = json.loads(card_file.read_text())
    content = weights.read_bytes()
    if hashlib.sha256(content).hexdigest() != card["sha256"]:
        raise InputError(f"{weights.name} does not match the SHA-256 of its card; fetch it anew")
    with np.load(io.BytesIO(content)) as stored:
        params = {"params": flax.traverse_util.unflatten_dict(dict(stored), sep="/")}
    return _made(params, card)


def _made(params: PyTree, card: dict[str, Any]) -> Extractor:
    network = Classifier(len(card["classes"]))

    def apply(params, images):
        with jax.default_matmul_precision("highest"):
            logits, features = network.apply(params, pixels.decode(images))
        return Seen(features, logits, logits.argmax(axis=-1))

    names = tuple(card["classes"])
    channels = params["params"]["Conv_0"]["kernel"].shape[2]
    return Extractor(apply, params, {**card, "resize": "none"}, len(names), names, channels)
