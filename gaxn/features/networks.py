"""Networks that are trained on real images: their training, their files and their cache.

The weights of a data set do not depend on the run, so figures of different runs are comparable.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from gaxn.data import pixels
from gaxn.features import ExtractorOutput, FeatureExtractor
from gaxn.io import downloads, files
from gaxn.types import InputError, Pixels, PRNGKey, PyTree, check

BATCH_SIZE, LEARNING_RATE = 64, 2e-3
EVALUATION_BATCH = 500
SHIPPED = resources.files("gaxn.features") / "weights"

Read = Callable[[np.ndarray], tuple[Pixels, PyTree]]
"""Indices, int [n] -> images and what a network has to predict of them."""


class Kind(NamedTuple):
    """A kind of network that is trained once per data set.

    Attributes:
        name: for messages.
        extractor: entry of that name in the cards of its weights.
        folder: of the cache.
    """

    name: str
    extractor: str
    folder: str


class Trained(NamedTuple):
    """Parameters of a network, the description in their card, and the content of their file."""

    params: PyTree
    card: dict[str, Any]
    content: bytes


def train(
    network: nn.Module,
    loss: Callable[[jax.Array, PyTree], jax.Array],
    read: Read,
    examples: int,
    image_shape: tuple[int, ...],
    seed: int,
    num_steps: int,
) -> PyTree:
    """Trains a network with Adam: batch size 64, cosine decay of the learning rate from 2e-3.

    Args:
        network: images in [-1, 1] -> (logits, features).
        loss: (logits, targets) -> mean loss of a batch.
        read: indices -> images and targets.
        examples: number of examples; batches are drawn with replacement.
        image_shape: (height, width, channels).
        seed: of the initial parameters and of the batches.
        num_steps: gradient steps.
    """
    key = jax.random.key(seed)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, num_steps))

    def loss_fn(params: PyTree, images: Pixels, targets: PyTree) -> jax.Array:
        logits, _ = network.apply(params, pixels.decode(images))
        return loss(logits, targets)

    params = network.init(key, jnp.zeros((1, *image_shape)))
    return fit(params, loss_fn, optimizer, read, examples, BATCH_SIZE, key, num_steps)


def fit(
    params: PyTree,
    loss_fn: Callable[[PyTree, Pixels, PyTree], jax.Array],
    optimizer: optax.GradientTransformation,
    read: Read,
    examples: int,
    batch_size: int,
    key: PRNGKey,
    num_steps: int,
) -> PyTree:
    """Returns parameters after steps of an optimizer on batches that are drawn with replacement.

    Args:
        params: before the first step.
        loss_fn: (parameters, images, targets) -> mean loss of a batch.
        optimizer: of the steps.
        read: indices -> images and targets.
        examples: number of examples to draw from.
        batch_size: examples of a step.
        key: of the batches.
        num_steps: gradient steps.
    """

    @jax.jit
    def draw_indices(step):
        step_key = jax.random.fold_in(key, step)
        return jax.random.randint(step_key, (batch_size,), 0, examples)

    @jax.jit
    def train_step(params, opt_state, images, targets):
        gradients = jax.grad(loss_fn)(params, images, targets)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    opt_state = optimizer.init(params)
    for step in range(num_steps):
        images, targets = read(np.asarray(draw_indices(step)))
        params, opt_state = train_step(params, opt_state, images, targets)
    return params


def mean_score(
    network: nn.Module,
    params: PyTree,
    score: Callable[[jax.Array, PyTree], PyTree],
    read: Read,
    examples: int,
) -> PyTree:
    """Returns means over all examples.

    Args:
        network, params, read, examples: as in `train`.
        score: (logits, targets) -> a tree of values, each [batch].
    """

    @jax.jit
    def sum_scores(images, targets):
        logits, _ = network.apply(params, pixels.decode(images))
        return jax.tree.map(jnp.sum, score(logits, targets))

    chunks = np.array_split(np.arange(examples), max(1, examples // EVALUATION_BATCH))
    sums = [jax.device_get(sum_scores(*read(chunk))) for chunk in chunks]
    return jax.tree.map(lambda *parts: float(sum(parts) / examples), *sums)


def make_extractor(
    network: nn.Module, trained: Trained, classes: tuple[str, ...] = ()
) -> FeatureExtractor:
    """Returns the extractor of a trained network's features and logits.

    Args:
        network: images in [-1, 1] -> (logits, features), with a first layer `Conv_0`.
        trained: its parameters and card.
        classes: names of the logits, which are the known modes; () if the logits are no classes.
    """

    def apply(params, images):
        with jax.default_matmul_precision("highest"):
            logits, features = network.apply(params, pixels.decode(images))
        return ExtractorOutput(features, logits, logits.argmax(axis=-1) if classes else None)

    params, card, _ = trained
    card = {**card, "resize": "none"}
    channels = params["params"]["Conv_0"]["kernel"].shape[2]
    return FeatureExtractor(apply, params, card, len(classes), classes, channels, unit_scale=False)


def save(path: Path, params: PyTree, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the weights as .npz, and their card as .json beside it.

    Args:
        path: of the .npz.
        params: the variables of a network with parameters alone.
        facts: "extractor", "trained_on" (the identity of a data set) and more.

    Returns:
        The card: the facts, and the SHA-256 of the weights.
    """
    flat = flax.traverse_util.flatten_dict(params["params"], sep="/")
    stream = io.BytesIO()
    np.savez(stream, **{name: np.asarray(leaf) for name, leaf in sorted(flat.items())})
    card = {**facts, "sha256": hashlib.sha256(stream.getvalue()).hexdigest()}
    files.write_bytes(path, stream.getvalue())
    files.write_json(path.with_suffix(".json"), card)
    return card


def read_named(kind: Kind, weights: str) -> Trained:
    """Reads weights.

    Args:
        kind: of the network.
        weights: the name of a shipped file, or the path of a .npz with its card beside it.

    Raises:
        InputError: there are no such weights, or they do not match their card.
    """
    names = sorted(
        card_path.name.removesuffix(".json")
        for card_path in _shipped_cards()
        if _read_card(card_path).get("extractor") == kind.extractor
    )
    if weights in names:
        return _read(SHIPPED / f"{weights}.npz", SHIPPED / f"{weights}.json")
    path = files.expand(weights)
    card = _read_card(path.with_suffix(".json")) if path.is_file() else {}
    valid = card.get("extractor") == kind.extractor and "sha256" in card
    expected = f"{', '.join(names)}, or the path of a .npz of that network with its .json beside it"
    check(f"weights of the {kind.name}", weights, valid, expected)
    return _read(path, path.with_suffix(".json"))


def read_or_train(
    kind: Kind, identity: str, make: Callable[[], tuple[PyTree, Mapping[str, Any]]] | None
) -> Trained:
    """Reads the shipped or the cached weights of a data set; else trains and caches them.

    Args:
        kind: of the network.
        identity: of the data set.
        make: trains: () -> the parameters and the facts of the card; None without the data.

    Raises:
        InputError: the cache is needed and cannot be written, or the data are.
    """
    for card_path in _shipped_cards():
        if _is_trained_on(card_path, kind, identity):
            return _read(SHIPPED / card_path.name.replace(".json", ".npz"), card_path)
    name = hashlib.sha256(identity.encode()).hexdigest()[:12]
    path = downloads.directory(kind.folder) / f"{name}.npz"
    if path.is_file() and _is_trained_on(path.with_suffix(".json"), kind, identity):
        return _read(path, path.with_suffix(".json"))
    if make is None:
        raise InputError(f"the {kind.name} of this run must be in GAXN_CACHE; there is no {path}")
    files.check_writable(path, f"the {kind.name} in GAXN_CACHE")
    print(f"no {kind.name} for {identity} yet: training one", flush=True)
    params, facts = make()
    save(path, params, facts)
    return _read(path, path.with_suffix(".json"))


def _shipped_cards() -> list[Traversable]:
    cards = (path for path in SHIPPED.iterdir() if path.name.endswith(".json"))
    return sorted(cards, key=lambda path: path.name)


def _is_trained_on(card_path: Traversable, kind: Kind, identity: str) -> bool:
    card = _read_card(card_path)
    return (card.get("extractor"), card.get("trained_on")) == (kind.extractor, identity)


def _read_card(card_path: Traversable) -> Mapping[str, Any]:
    """Returns a card; an empty one if it is missing or damaged."""
    try:
        card = json.loads(card_path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def _read(path: Traversable, card_path: Traversable) -> Trained:
    card = json.loads(card_path.read_text())
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != card["sha256"]:
        raise InputError(f"{path.name} does not match the SHA-256 in its card; get the file again")
    with np.load(io.BytesIO(content)) as arrays:
        params = {"params": flax.traverse_util.unflatten_dict(dict(arrays), sep="/")}
    return Trained(params, card, content)
