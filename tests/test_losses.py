"""Adversarial losses: the folder's contract, and each equation in naive NumPy."""

import importlib
import itertools
import pkgutil
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import jaxtyped

from gaxn import losses
from gaxn.losses import hinge, non_saturating, relativistic, wasserstein
from gaxn.types import InputError

FILES = [
    importlib.import_module(found.name)
    for found in pkgutil.iter_modules(losses.__path__, "gaxn.losses.")
]
SIDES = [
    pytest.param(getattr(file, side), id=f"{file.__name__.split('.')[-1]}-{side}")
    for file in FILES
    for side in ("discriminator", "generator")
]
EXTREMES = np.array(list(itertools.product([-50.0, 0.0, 50.0], repeat=2)), np.float32).T


def _logits():
    random = np.random.default_rng(0)
    return random.uniform(-6, 6, (2, 40))


@pytest.mark.parametrize("loss", SIDES)
def test_values_and_gradients_are_per_example_and_finite(loss):
    real, fake = EXTREMES
    values = loss(jnp.asarray(real), jnp.asarray(fake))
    assert values.shape == real.shape
    assert values.dtype == jnp.float32
    assert np.isfinite(values).all()
    for jacobian in jax.jacobian(loss, (0, 1))(jnp.asarray(real), jnp.asarray(fake)):
        assert np.isfinite(jacobian).all()
        assert not (jacobian * (1 - np.eye(len(real)))).any()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.split(".")[-1])
def test_the_players_pull_apart(file):
    real, fake = map(jnp.asarray, _logits())

    def slopes(side):
        return jax.grad(lambda *logits: side(*logits).sum(), (0, 1))(real, fake)

    by_real, by_fake = slopes(file.discriminator)
    assert (by_real <= 0).all() and (by_real < 0).any()
    assert (by_fake >= 0).all() and (by_fake > 0).any()
    _, by_fake = slopes(file.generator)
    assert (by_fake < 0).all()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.split(".")[-1])
def test_batches_of_two_sizes_do_not_pair(file):
    with pytest.raises((TypeError, ValueError)):
        file.discriminator(jnp.zeros(3), jnp.zeros(4))


def _accepts(loss, real, fake):
    """Whether the annotations, read together, admit these logits."""
    hints = typing.get_type_hints(loss)
    with jaxtyped("context"):
        return isinstance(real, hints["real"]) and isinstance(fake, hints["fake"])


@pytest.mark.parametrize("loss", SIDES)
@pytest.mark.parametrize("shapes", [((3,), (4,)), ((1,), (4,)), ((4,), (4, 1)), ((), ())])
def test_the_signature_refuses_what_would_broadcast(loss, shapes):
    assert _accepts(loss, jnp.zeros(4), jnp.zeros(4))
    assert not _accepts(loss, *map(jnp.zeros, shapes))


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


# value, slope in real, slope in fake; r and f are the logits.
EQUATIONS = {
    hinge.discriminator: (
        lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f),
        lambda r, f: np.where(r < 1, -1, 0),
        lambda r, f: np.where(f > -1, 1, 0),
    ),
    hinge.generator: (lambda r, f: -f, lambda r, f: 0 * r, lambda r, f: 0 * f - 1),
    non_saturating.discriminator: (
        lambda r, f: -np.log(_sigmoid(r)) - np.log(1 - _sigmoid(f)),
        lambda r, f: _sigmoid(r) - 1,
        lambda r, f: _sigmoid(f),
    ),
    non_saturating.generator: (
        lambda r, f: -np.log(_sigmoid(f)),
        lambda r, f: 0 * r,
        lambda r, f: _sigmoid(f) - 1,
    ),
    relativistic.discriminator: (
        lambda r, f: -np.log(_sigmoid(r - f)),
        lambda r, f: _sigmoid(r - f) - 1,
        lambda r, f: 1 - _sigmoid(r - f),
    ),
    relativistic.generator: (
        lambda r, f: -np.log(_sigmoid(f - r)),
        lambda r, f: 1 - _sigmoid(f - r),
        lambda r, f: _sigmoid(f - r) - 1,
    ),
    wasserstein.discriminator: (lambda r, f: f - r, lambda r, f: 0 * r - 1, lambda r, f: 0 * f + 1),
    wasserstein.generator: (lambda r, f: -f, lambda r, f: 0 * r, lambda r, f: 0 * f - 1),
}


def _values_and_slopes(loss, real, fake, **options):
    with jax.enable_x64(True):
        logits = jnp.asarray(real), jnp.asarray(fake)
        slopes = jax.grad(lambda *both: loss(*both, **options).sum(), (0, 1))(*logits)
        return loss(*logits, **options), *slopes


@pytest.mark.parametrize(
    "loss", EQUATIONS, ids=lambda loss: f"{loss.__module__.split('.')[-1]}-{loss.__name__}"
)
def test_values_and_slopes_are_those_of_the_equation(loss):
    real, fake = _logits()
    for ours, theirs in zip(_values_and_slopes(loss, real, fake), EQUATIONS[loss], strict=True):
        # Float64; the naive logarithm of 1 - s(12) has lost 5 digits of 16.
        np.testing.assert_allclose(ours, theirs(real, fake), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("target", [0.9, 0.3])
def test_label_smoothing_is_one_sided(target):
    real, fake = _logits()
    values, by_real, by_fake = _values_and_slopes(
        non_saturating.discriminator, real, fake, real_target=target
    )
    s = _sigmoid(real)
    cross_entropy = -target * np.log(s) - (1 - target) * np.log(1 - s)
    np.testing.assert_allclose(values, cross_entropy - np.log(1 - _sigmoid(fake)), rtol=1e-9)
    np.testing.assert_allclose(by_real, s - target, rtol=0, atol=1e-12)
    np.testing.assert_allclose(by_fake, _sigmoid(fake), rtol=1e-12)


@pytest.mark.parametrize("target", [-0.1, 0.0, 1.001, float("nan")])
def test_a_real_target_out_of_range_is_refused(target):
    with pytest.raises(InputError, match=f"real_target is {target}"):
        non_saturating.discriminator(jnp.zeros(2), jnp.zeros(2), real_target=target)
