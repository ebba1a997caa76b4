"""SAGAN and CycleGAN of the race have gaxn's losses and gradients, and their parts its values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from gaxn import keys
from gaxn.experiment import make_experiment
from gaxn.nn import spectral
from gaxn.nn.history import ImageHistory

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from benchmarks.race import equality  # noqa: E402
from benchmarks.race.pytorch import make  # noqa: E402
from benchmarks.race.pytorch.cyclegan_trainer import Draws, History  # noqa: E402
from benchmarks.race.pytorch.layers import Pass  # noqa: E402
from benchmarks.race.pytorch.sagan_resnet import (  # noqa: E402
    PooledConvolution,
    RepeatedConvolution,
)

MOST = 1e-4
"""The largest relative error of a loss and of a gradient."""

MOST_OF_LEAF = 1e-3
"""That of a leaf. A bias before a norm has a gradient of rounding errors only."""

HISTORY = 5
"""Images in a history."""

# Each further number may be one that rounds to the other side of a ReLU's or a maximum's edge.
SMALL = (
    "batch_size=4",
    *("generator.first=8", "generator.widths=(8, 4)", "generator.attention_at=(16,)"),
    *("discriminator.widths=(4, 4, 8)", "discriminator.attention_at=(16,)"),
)

SAGANS = {
    "tiny": SMALL,
    "conditional+tiny": SMALL,
    "resnet64+tiny": (*SMALL, "discriminator.last=8"),
    "resnet64+conditional+tiny": (*SMALL, "discriminator.last=8"),
    "resnet128+tiny": (
        *(*SMALL, "discriminator.last=8"),
        *("generator.widths=(8, 4, 4)", "discriminator.widths=(4, 4, 8, 8)"),
    ),
}
"""Overrides of sagan_folder by variant."""

CYCLEGANS = {
    "attn_cyclegan_shapes": ("tiny", 37, 32),
    "attn_cyclegan": ("leaves+tiny", 16, 16),
}
"""Variant, side of the training images, and of the squares that the networks see."""

SMALL_CYCLEGAN = (
    *("batch_size=4", f"gan.history={HISTORY}"),
    *("generator.blocks=1", "generator.spectral_norm=True", "generator.attention_block=0"),
    *("discriminator.layers=2", "discriminator.attention=True"),
)


def _record(shape, classes="", **others):
    return {
        "identity": "noise",
        "image_shape": list(shape),
        "classes": list(classes),
        "examples": [64, 64],
        **others,
    }


def _converge(state):
    """Returns a state whose vectors of spectral norm are singular vectors.

    Every pass of gaxn makes a power iteration, and PyTorch shares passes, so that they would differ
    by an iteration.
    """
    params = flatten_dict(state.params)
    vectors = flatten_dict(state.collections[spectral.COLLECTION])
    for path in vectors:
        layer, _, kind = path[-1].split("/")
        if kind == "u":
            kernel = np.asarray(params[(*path[:-3], layer, "kernel")])
            matrix = kernel.reshape(-1, kernel.shape[-1])
            vectors[path] = np.linalg.svd(matrix, full_matrices=False)[2][:1]
    collections = {**state.collections, spectral.COLLECTION: unflatten_dict(vectors)}
    return state.replace(collections=collections)


def _check(errors):
    for player, of_player in errors.items():
        assert of_player.loss < MOST, (player, of_player)
        assert of_player.gradient < MOST, (player, of_player)
        assert of_player.leaf < MOST_OF_LEAF, (player, of_player)


@pytest.mark.slow
@pytest.mark.parametrize("variant", SAGANS)
def test_losses_and_gradients_of_sagans_are_those_of_gaxn(variant, ring, monkeypatch):
    config = ring(*SAGANS[variant], variant=variant, name="sagan_folder")
    record = _record((32, 32, 3), "abc" if "conditional" in variant else "")
    experiment = make_experiment(config, variant, data_record=record)
    trainer = make.make_trainer(experiment, "cpu", "eager")
    move = equality.add_noise
    monkeypatch.setattr(equality, "add_noise", lambda state: _converge(move(state)))
    _check(equality.compare(experiment, trainer))


@pytest.mark.slow
@pytest.mark.parametrize("name", CYCLEGANS)
@pytest.mark.parametrize("count", [0, HISTORY - 2, HISTORY], ids=["empty", "filling", "full"])
def test_losses_and_gradients_of_cyclegans_are_those_of_gaxn(name, count, ring, monkeypatch):
    variant, side, size = CYCLEGANS[name]
    config = ring(*SMALL_CYCLEGAN, variant=variant, name=name)
    domains = {"sizes": [[64, 64], [64, 64]], "test_shape": [2, size, size, 3]}
    record = _record((2, side, side, 3), domains=domains)
    experiment = make_experiment(config, name, data_record=record)
    trainer = make.make_trainer(experiment, "cpu", "eager")
    shape = (2, HISTORY, *trainer.history.images.shape[2:])
    stored = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    move = equality.add_noise

    def prepare(state):
        histories = {
            f"discriminator_history_{domain}": {"images": images, "count": np.int32(count)}
            for domain, images in zip("ab", stored, strict=True)
        }
        return _converge(
            move(state).replace(collections={**state.collections, "history": histories})
        )

    def draw(trainer, experiment, batch, key):
        trainer.history.images[:, :HISTORY] = torch.from_numpy(stored)
        trainer.history.count.fill_(count)
        return _draw_of_cyclegan(trainer, len(batch.images), key)

    monkeypatch.setattr(equality, "add_noise", prepare)
    monkeypatch.setattr(equality, "draw", draw)
    _check(equality.compare(experiment, trainer))


def _draw_of_cyclegan(trainer, batch, key):
    """Returns the random numbers that gaxn's losses draw with a key."""
    examples = jnp.arange(batch)
    domains = [_draw_of_domain(trainer, domain, examples, key) for domain in "ab"]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *domains)
    return Draws(*map(torch.from_numpy, stacked))


def _draw_of_domain(trainer, domain, examples, key):
    split = jax.vmap(jax.random.split)
    views = split(keys.per_example(keys.stream(key, f"view of {domain}"), examples))
    key = keys.stream(key, f"critic of {domain}")
    exchanges = _draw_exchanges(keys.per_example(keys.stream(key, "history"), examples))
    room = jnp.full(2, trainer.room + 1)
    return Draws(
        jax.vmap(lambda key: jax.random.randint(key, (2,), 0, room))(views[:, 0]),
        jax.vmap(jax.random.bernoulli)(views[:, 1]),
        *exchanges,
        jax.vmap(jax.random.uniform)(keys.per_example(keys.stream(key, "penalty"), examples)),
    )


def _draw_exchanges(example_keys):
    """Returns what a history draws: whether images are exchanged, and for which."""
    pairs = jax.vmap(jax.random.split)(example_keys)
    swaps = jax.vmap(jax.random.bernoulli)(pairs[:, 0])
    return swaps, jax.vmap(lambda key: jax.random.randint(key, (), 0, HISTORY))(pairs[:, 1])


def test_a_history_is_that_of_gaxn():
    batch, shape = 4, (2, 3, 1)
    random = np.random.default_rng(0)
    ours, theirs = ImageHistory(HISTORY), History(HISTORY, batch, shape, "cpu")
    empty = {"images": jnp.zeros((HISTORY, *shape)), "count": jnp.int32(0)}
    states = [{"history": empty}] * 2
    apply = jax.jit(lambda *inputs: ours.apply(*inputs, mutable=["history"]))
    for update in range(8):
        new = random.normal(size=(2, batch, *shape)).astype(np.float32)
        example_keys = jax.random.split(jax.random.key(update), (2, batch))
        expected = [apply(states[i], new[i], example_keys[i]) for i in range(2)]
        states = [state for _, state in expected]
        swaps, slots = (
            torch.from_numpy(np.stack(each))
            for each in zip(*map(_draw_exchanges, example_keys), strict=True)
        )
        pair = tuple(torch.from_numpy(new).permute(0, 1, 4, 2, 3))
        outputs = theirs.exchange(pair, swaps, slots)
        for output, (images, state), stored in zip(outputs, expected, theirs.images, strict=True):
            np.testing.assert_array_equal(output.permute(0, 2, 3, 1), images)
            np.testing.assert_array_equal(stored[:HISTORY], state["history"]["images"])
        assert int(theirs.count) == states[0]["history"]["count"]


def _layer_and_map(make_layer):
    layer = make_layer(5, 7, 3).double()
    torch.nn.init.normal_(layer.bias)
    return layer, torch.randn(2, 5, 6, 8, dtype=torch.float64)


def test_a_convolution_of_a_repetition_is_one_convolution():
    layer, x = _layer_and_map(RepeatedConvolution)
    repeated = F.interpolate(x, scale_factor=2, mode="nearest")
    expected = F.conv2d(repeated, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x, Pass()), expected, rtol=0, atol=1e-12)


def test_a_mean_of_a_convolution_is_one_convolution():
    layer, x = _layer_and_map(PooledConvolution)
    expected = F.avg_pool2d(F.conv2d(x, layer.weight, layer.bias, padding=1), 2)
    torch.testing.assert_close(layer(x, Pass()), expected, rtol=0, atol=1e-12)
