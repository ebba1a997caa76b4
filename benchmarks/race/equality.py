"""Compares losses and gradients of gaxn and the PyTorch side, from the same weights and batches.

Images and labels are random; latents and augmentations have the numbers that gaxn draws. Every
parameter is moved by noise, so that biases, norms and gammas of attention act.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.race.pytorch import make
from benchmarks.race.pytorch.augmentations import Augmentation
from benchmarks.race.pytorch.gan_trainer import Draws
from gaxn import keys
from gaxn.experiment import Experiment
from gaxn.gans.gan import draw_latents
from gaxn.training.state import TrainState
from gaxn.training.step import PREFIXES, PlayerUpdate, compute_gradients
from gaxn.types import Batch, PRNGKey, PyTree

NOISE = 0.1
"""Standard deviation of the noise, as a share of the root mean square of a leaf or of 1."""

SMALL = 1e-3
"""The least norm of a leaf that its error is a share of, as a share of the norm of the gradient.

A relativistic loss has no gradient in the bias of the logit, but a rounding error.
"""


class Errors(NamedTuple):
    """Relative errors of a player's loss and gradient, |a - b| / |a|, a being gaxn's.

    Attributes:
        loss: of the loss.
        gradient: of the gradient as one vector.
        leaf: the worst of the gradient's leaves.
        name: the path of that leaf.
    """

    loss: float
    gradient: float
    leaf: float
    name: str


def compare(experiment: Experiment, trainer: Any) -> dict[str, Errors]:
    """Returns the errors by player.

    The trainer has other weights afterwards.
    """
    state = add_noise(jax.device_get(experiment.create_state(experiment.key)))
    make.load(trainer, state)
    errors = {}
    for index, update in enumerate(experiment.updates):
        batch = draw_batch(experiment, index)
        key = update_key(experiment, index)
        loss, gradient = gaxn_gradient(experiment, update, state, batch, key)
        images, labels = (None if leaf is None else torch.from_numpy(leaf) for leaf in batch)
        draws = draw(trainer, experiment, batch, key)
        params = state.params[update.player]
        other_loss, other_gradient = trainer.gradients(update.player, images, labels, draws, params)
        errors[update.player] = compare_trees(loss, gradient, other_loss.numpy(), other_gradient)
    return errors


def gaxn_gradient(
    experiment: Experiment, update: PlayerUpdate, state: TrainState, batch: Batch, key: jax.Array
) -> tuple[np.ndarray, PyTree]:
    """Returns gaxn's loss and gradient on the host; of a population with an axis of members."""

    def compute(state: TrainState, batch: Batch, key: PRNGKey) -> tuple[jax.Array, PyTree]:
        gradients = compute_gradients(experiment.gan, update, state, batch, key)
        prefix = PREFIXES[update.player]
        return gradients.scalars[f"{prefix}/loss"], gradients.gradient

    over_members = jax.vmap(compute) if len(experiment.members) > 1 else compute
    return jax.device_get(jax.jit(over_members)(state, batch, key))


def compare_trees(
    loss: np.ndarray, tree: PyTree, other_loss: np.ndarray, other_tree: PyTree
) -> Errors:
    """Returns the errors of a second loss and gradient."""
    leaves, other_leaves = (
        flax.traverse_util.flatten_dict(each, sep="/") for each in (tree, other_tree)
    )
    norms = {name: np.linalg.norm(leaf) for name, leaf in leaves.items()}
    distances = {name: np.linalg.norm(leaf - other_leaves[name]) for name, leaf in leaves.items()}
    total = np.linalg.norm(list(norms.values()))
    shares = {name: distances[name] / max(norms[name], SMALL * total) for name in norms}
    worst = max(shares, key=shares.get)
    return Errors(
        loss=float(np.max(np.abs(loss - other_loss) / np.abs(loss))),
        gradient=float(np.linalg.norm(list(distances.values())) / total),
        leaf=float(shares[worst]),
        name=worst,
    )


def add_noise(state: TrainState) -> TrainState:
    """Returns a state on the host with every parameter moved."""
    random = np.random.default_rng(0)

    def move(leaf: np.ndarray) -> np.ndarray:
        scale = NOISE * (np.sqrt(np.mean(np.square(leaf))) or 1.0)
        return (leaf + scale * random.normal(size=leaf.shape)).astype(leaf.dtype)

    return state.replace(params=jax.tree.map(move, state.params))


def draw_batch(experiment: Experiment, seed: int) -> Batch:
    """Returns a batch of random images and labels, or points of each member, on the host."""
    random = np.random.default_rng(seed)
    batch, source = experiment.settings.batch_size, experiment.train_source
    if len(experiment.members) > 1:
        shape = len(experiment.members), batch, *source.image_shape
        return Batch(random.normal(size=shape).astype(np.float32), None)
    images = random.integers(0, 256, (batch, *source.image_shape), np.uint8)
    if not source.class_names:
        return Batch(images, None)
    return Batch(images, random.integers(0, len(source.class_names), batch, np.int32))


def update_key(experiment: Experiment, index: int) -> jax.Array:
    """Returns the key of an update of step 0; of a population one per member."""

    def fold(key: PRNGKey) -> PRNGKey:
        return jax.random.fold_in(jax.random.fold_in(key, 0), index)

    return jax.vmap(fold)(experiment.key) if len(experiment.members) > 1 else fold(experiment.key)


def draw(trainer: Any, experiment: Experiment, batch: Batch, key: jax.Array) -> Draws:
    """Returns the random numbers that gaxn's loss draws with a key, or with one per member."""
    size = experiment.settings.batch_size
    examples, latent_size = jnp.arange(size), experiment.gan.latent_size
    if len(experiment.members) > 1:
        draw_all = jax.vmap(
            lambda key: draw_latents(keys.stream(key, "latent"), examples, latent_size)
        )
        return Draws(to_torch(draw_all(key)))
    latents = draw_latents(keys.stream(key, "latent"), examples, latent_size)
    numbers = [
        tuple(
            to_torch(draw_augmentation(augmentation, batch.images.shape[1], example_keys))
            for augmentation, example_keys in zip(
                trainer.augmentations,
                augmentation_keys(key, f"augment {kind}", examples),
                strict=False,
            )
        )
        for kind in ("real", "fake")
    ]
    return Draws(to_torch(latents), *numbers)


def augmentation_keys(key: PRNGKey, stream: str, examples: jax.Array) -> Iterator[jax.Array]:
    """Yields the keys of each augmentation, one per example."""
    for place in count():
        yield keys.per_example(jax.random.fold_in(keys.stream(key, stream), place), examples)


def draw_augmentation(augmentation: Augmentation, side: int, example_keys: jax.Array) -> jax.Array:
    """Returns the numbers of an augmentation, [batch, count]."""
    low, high = augmentation.bounds(side)
    draw = jax.random.randint if augmentation.integers else jax.random.uniform
    return jax.vmap(lambda key: draw(key, (augmentation.count,), minval=low, maxval=high))(
        example_keys
    )


def to_torch(array: jax.Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array))
