"""Weight clipping, orthogonal regularization and frozen layers, as part of an optimizer."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gaxn.experiment.optimizers import make_optimizer
from gaxn.nn.resampling import TransposedConvolution
from gaxn.objectives.schedules import RunLength
from gaxn.training.optimizers import freeze, with_constraints
from gaxn.types import InputError


def _update(spec, params, gradient):
    spec = {"name": "sgd", "learning_rate": 0.5, **spec}
    optimizer = make_optimizer(spec, "generator", RunLength(10, 8))
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


def test_weights_are_clipped_after_the_update():
    random = np.random.default_rng(0)
    params, gradient = random.normal(size=(2, 50)).astype(np.float32)
    updated = _update({"clip": 0.1}, {"w": jnp.asarray(params)}, {"w": jnp.asarray(gradient)})["w"]
    # The optimizer adds a difference, which rounds.
    np.testing.assert_allclose(updated, np.clip(params - 0.5 * gradient, -0.1, 0.1), atol=1e-7)
    assert np.abs(updated).max() < 0.1 + 1e-7


@pytest.mark.parametrize(
    "layer", [nn.Conv(4, (2, 2)), TransposedConvolution(4, side=3)], ids=["plain", "transposed"]
)
def test_orthogonal_regularization_is_the_gradient_of_the_overlap(layer):
    with jax.enable_x64(True):
        shape = layer.init(jax.random.key(0), jnp.ones((1, 4, 4, 3)))["params"]["kernel"].shape
        kernel = np.random.default_rng(0).normal(size=shape)
        params = {"Conv_0": {"kernel": jnp.asarray(kernel), "bias": jnp.ones(4)}}
        gradient = jax.tree.map(jnp.zeros_like, params)
        updated = _update({"orthogonal": 0.01}, params, gradient)["Conv_0"]
        columns = kernel.reshape(-1, 4)
        products = columns.T @ columns
        # The derivative of sum_{i != j} (w_i . w_j)^2 in w_i.
        slope = 4 * columns @ (products - np.diag(np.diag(products)))
        expected = kernel - 0.5 * 0.01 * slope.reshape(kernel.shape)
        np.testing.assert_allclose(updated["kernel"], expected, rtol=1e-12)
        np.testing.assert_array_equal(updated["bias"], 1)


# Parts of optimizers, which move up; one that needs the loss; other names of the module.
@pytest.mark.parametrize(
    "name",
    ["scale_by_adam", "scale_by_rprop", "lbfgs", "polyak_sgd", "chain", "losses", "Schedule"],
)
def test_what_is_no_optimizer_of_gradients_alone_is_refused(name):
    message = f"config.optimizers.generator.name must be .* optimizer of optax.*, got '{name}'"
    with pytest.raises(InputError, match=message):
        _update({"name": name}, {"w": jnp.ones(2)}, {"w": jnp.ones(2)})


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "lion", "adabelief", "radam"])
def test_optimizers_move_down(name):
    updated = _update({"name": name}, {"w": jnp.ones(2)}, {"w": jnp.array([1.0, -1.0])})["w"]
    assert updated[0] < 1 < updated[1]


def test_rmsprop_has_its_decay():
    spec, ones = {"name": "rmsprop", "decay": 0.75}, {"w": jnp.ones(2)}
    updated = _update(spec, ones, {"w": jnp.array([3.0, -2.0])})["w"]
    np.testing.assert_allclose(updated, 1 - 0.5 / np.sqrt(0.25) * np.array([1, -1]), rtol=1e-5)


FROZEN = [("a", "first"), ("b", "first")]


@pytest.mark.parametrize("clip", [None, 0.5])
def test_frozen_layers_have_no_updates_and_the_others_their_own(clip):
    random = np.random.default_rng(0)
    names = "first", "second", "first_of_others"

    def draw(shape):
        return random.normal(size=shape).astype(np.float32)

    shapes = {"kernel": (3, 4), "bias": (4,)}
    params, *gradients = (
        {
            network: {name: {kind: draw(shape) for kind, shape in shapes.items()} for name in names}
            for network in "ab"
        }
        for _ in range(4)
    )
    optimizer = with_constraints(optax.adamw(0.1, weight_decay=0.1), clip, orthogonal=0.1)
    partly = freeze(optimizer, FROZEN)

    @functools.partial(jax.jit, static_argnums=0)
    def run(optimizer, tree):
        state = optimizer.init(tree)
        for gradient in gradients:
            updates, state = optimizer.update(gradient, state, tree)
            tree = optax.apply_updates(tree, updates)
        return tree, state

    (expected, state), (actual, partial_state) = (run(each, params) for each in (optimizer, partly))
    for network in "ab":
        for name in names:
            target = params if (network, name) in FROZEN else expected
            jax.tree.map(
                np.testing.assert_array_equal, actual[network][name], target[network][name]
            )
        moved = expected[network]["first"]["kernel"] != params[network]["first"]["kernel"]
        assert moved.any()
    # Two moments of each parameter but those of a third of the layers, and the count.
    counts = [len(jax.tree.leaves(each)) for each in (state, partial_state)]
    assert counts == [2 * 12 + 1, 2 * 8 + 1]


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("clip", 0.0, "above 0"),
        ("clip", "x", r"float \| None"),
        ("orthogonal", -1.0, "a weight, 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(option, value, expected):
    message = f"config.optimizers.generator.{option} must be {expected}, got {value!r}"
    with pytest.raises(InputError, match=message):
        _update({option: value}, {}, {})


@pytest.mark.parametrize(
    "name", ["adamw", "nadamw", "lion", "lamb", "adafactor", "rmsprop", "adan"]
)
def test_optimizers_whose_types_cannot_be_resolved_are_optax_s(name):
    params, gradient = {"w": jnp.arange(1.0, 5)}, {"w": jnp.arange(4.0)}
    updated = _update({"name": name, "learning_rate": 0.1}, params, gradient)
    optimizer = getattr(optax, name)(0.1)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_array_equal(updated["w"], optax.apply_updates(params, updates)["w"])
    with pytest.raises(InputError, match=r"optimizers\.generator\.decays is unknown"):
        _update({"name": name, "decays": 0.1}, params, gradient)
