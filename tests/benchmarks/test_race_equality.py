"""The PyTorch side of the race is the same experiment as gaxn's."""

import jax
import numpy as np
import optax
import pytest

torch = pytest.importorskip("torch")

from benchmarks.race import equality  # noqa: E402
from benchmarks.race.pytorch import layers, optimization, weights  # noqa: E402
from benchmarks.race.pytorch.make import make_trainer  # noqa: E402
from gaxn.experiment import make_experiment  # noqa: E402
from gaxn.types import InputError  # noqa: E402

DIGITS = (28, 28, 1), "0123456789"
SMALL = "tiny"

ROWS = {
    "attn_cgan_shapes": (SMALL, (32, 32, 3), "abc"),
    "attn_cgan_mnist": (SMALL, *DIGITS),
    "dcgan_mnist": (SMALL, *DIGITS),
    "cgan_fashion_mnist": (SMALL, *DIGITS),
    "transformer_gan_mnist": (SMALL, *DIGITS),
    "ring": ("gan+tiny", (2,), ""),
}
"""By config: variant, shape of an image, one letter per class."""


@pytest.fixture
def experiment(ring):
    """A function from a row to its experiment, without data."""

    def make(name, variant, shape, classes, *overrides):
        record = {
            "identity": "noise",
            "image_shape": list(shape),
            "classes": list(classes),
            "examples": [64, 64],
        }
        config = ring(*overrides, variant=variant, name=name)
        return make_experiment(config, name, data_record=record)

    return make


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_losses_and_gradients_are_equal(experiment, name):
    row = experiment(name, *ROWS[name])
    errors = equality.compare(row, make_trainer(row, "cpu", "eager"))
    assert errors.keys() == {"discriminator", "generator"}
    for error in errors.values():
        assert max(error.loss, error.gradient, error.leaf) < 1e-4, error


@pytest.mark.slow
def test_a_step_is_equal(experiment, monkeypatch):
    row = experiment("attn_cgan_mnist", SMALL, *DIGITS, "discriminator_steps=2")
    trainer = make_trainer(row, "cpu", "eager")
    state = equality.add_noise(jax.device_get(row.create_state(row.key)))
    state = state.replace(ema=state.params["generator"])
    batches = [equality.draw_batch(row, index) for index in range(3)]
    draws = iter(
        [
            equality.draw(trainer, row, batch, equality.update_key(row, index))
            for index, batch in enumerate(batches)
        ]
    )
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    new, _ = jax.device_get(jax.jit(row.train_step)(state, stacked, row.key))
    equality.make.load(trainer, state)
    monkeypatch.setattr(trainer, "draw", lambda batch, side: next(draws))
    trainer.step(*(torch.from_numpy(leaf) for leaf in stacked))
    vectors = weights.spectral_vectors(new.collections["spectral"]["generator"])
    assert vectors
    for (*path, name), vector in vectors.items():
        layer = trainer.generator.get_submodule(".".join(path))
        np.testing.assert_allclose(getattr(layer, name), vector, atol=1e-4)
    sides = (
        (trainer.generator, new.params["generator"], state.params["generator"]),
        (trainer.discriminator, new.params["discriminator"], state.params["discriminator"]),
        (trainer.ema.network, new.ema, state.ema),
    )
    for network, after, before in sides:
        other = weights.read(network, after)
        moved = jax.tree.leaves(jax.tree.map(lambda a, b: np.linalg.norm(a - b), after, before))
        apart = jax.tree.leaves(jax.tree.map(lambda a, b: np.linalg.norm(a - b), after, other))
        # Adam divides by a gradient's size, and so makes more of its rounding.
        assert np.linalg.norm(apart) < 1e-2 * np.linalg.norm(moved)


def test_other_experiments_are_refused(experiment):
    row = experiment("dcgan_mnist", SMALL, *DIGITS, "objective.top_share=0.5")
    with pytest.raises(InputError, match=r"config\.objective must be .*, got .*0\.5"):
        make_trainer(row, "cpu", "eager")


def test_every_leaf_of_the_weights_has_its_pair():
    network = torch.nn.Module()
    network.Dense_0 = layers.Dense(2, 3)
    kernel, bias = np.arange(6.0).reshape(2, 3), np.ones(3)
    weights.load(network, {"Dense_0": {"kernel": kernel, "bias": bias}}, {})
    np.testing.assert_array_equal(network.Dense_0.weight.detach(), kernel.T)
    with pytest.raises(ValueError, match=r"^Flax lacks Dense_0/bias$"):
        weights.load(network, {"Dense_0": {"kernel": kernel}}, {})
    with pytest.raises(ValueError, match=r"^PyTorch lacks gamma$"):
        weights.load(network, {"Dense_0": {"kernel": kernel, "bias": bias}, "gamma": bias}, {})
    with pytest.raises(ValueError, match=r"^Dense_0/kernel has the shapes \(2, 3\) .*\(3, 2\)"):
        weights.load(network, {"Dense_0": {"kernel": kernel.T, "bias": bias}}, {})


def test_the_optimizer_is_that_of_optax():
    points = ((2, 0.1), (4, 0.02))
    start, gradients = np.array([1.0, -2.0]), np.random.default_rng(0).normal(size=(6, 2))
    rate = optax.linear_schedule(0.1, 0.02, 2, 2)
    adam = optax.adam(rate, b1=0.5, b2=0.9)
    params, state = start, adam.init(start)
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = optimization.Optimizer([parameter], "eager", points, 0.5, 0.9)
    for gradient in gradients:
        updates, state = adam.update(gradient, state)
        params = optax.apply_updates(params, updates)
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        np.testing.assert_allclose(parameter.detach(), params, rtol=1e-5)
