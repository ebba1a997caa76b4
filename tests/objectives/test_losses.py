"""Adversarial losses: the folder's contract, and each equation in naive NumPy."""

import importlib
import itertools
import pkgutil
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jaxtyping import jaxtyped

from gaxn.build import build
from gaxn.distributed import axis
from gaxn.objectives import losses
from gaxn.objectives.losses import (
    hinge,
    least_squares,
    minimax,
    non_saturating,
    relativistic,
    relativistic_average,
    wasserstein,
)
from gaxn.types import InputError

FILES = [
    importlib.import_module(found.name)
    for found in pkgutil.iter_modules(losses.__path__, "gaxn.objectives.losses.")
]
SIDES = [
    pytest.param(getattr(file, side), id=f"{file.__name__.split('.')[-1]}-{side}")
    for file in FILES
    for side in ("discriminator", "generator")
]
COUPLED = {relativistic_average.discriminator, relativistic_average.generator}
"""Those that hold an example against the batch."""

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
        assert loss in COUPLED or not (jacobian * (1 - np.eye(len(real)))).any()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.split(".")[-1])
def test_the_players_pull_apart(file):
    # Between the targets of those that have any.
    real, fake = (jnp.asarray(side / 20 + 0.5) for side in _logits())

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
    minimax.discriminator: (
        lambda r, f: -np.log(_sigmoid(r)) - np.log(1 - _sigmoid(f)),
        lambda r, f: _sigmoid(r) - 1,
        lambda r, f: _sigmoid(f),
    ),
    minimax.generator: (
        lambda r, f: np.log(1 - _sigmoid(f)),
        lambda r, f: 0 * r,
        lambda r, f: -_sigmoid(f),
    ),
    least_squares.discriminator: (
        lambda r, f: 0.5 * (r - 1) ** 2 + 0.5 * f**2,
        lambda r, f: r - 1,
        lambda r, f: f,
    ),
    least_squares.generator: (
        lambda r, f: 0.5 * (f - 1) ** 2,
        lambda r, f: 0 * r,
        lambda r, f: f - 1,
    ),
    relativistic_average.discriminator: (
        lambda r, f: -np.log(_sigmoid(r - f.mean())) - np.log(1 - _sigmoid(f - r.mean())),
        lambda r, f: _sigmoid(r - f.mean()) - 1 - _sigmoid(f - r.mean()).mean(),
        lambda r, f: _sigmoid(f - r.mean()) + (1 - _sigmoid(r - f.mean())).mean(),
    ),
    relativistic_average.generator: (
        lambda r, f: -np.log(_sigmoid(f - r.mean())) - np.log(1 - _sigmoid(r - f.mean())),
        lambda r, f: _sigmoid(r - f.mean()) + (1 - _sigmoid(f - r.mean())).mean(),
        lambda r, f: _sigmoid(f - r.mean()) - 1 - _sigmoid(r - f.mean()).mean(),
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


def test_every_loss_has_its_equation():
    assert set(EQUATIONS) == {getattr(f, s) for f in FILES for s in ("discriminator", "generator")}


def _cross_entropy(logits, target):
    wanted = torch.full_like(logits, float(target))
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


def _square(logits, target):
    return torch.nn.functional.mse_loss(
        logits, torch.full_like(logits, float(target)), reduction="none"
    )


# By PyTorch's own losses, where it has them: logits in, a value an example out.
IN_TORCH = {
    minimax.discriminator: lambda r, f: _cross_entropy(r, 1) + _cross_entropy(f, 0),
    minimax.generator: lambda r, f: -_cross_entropy(f, 0),
    non_saturating.discriminator: lambda r, f: _cross_entropy(r, 1) + _cross_entropy(f, 0),
    non_saturating.generator: lambda r, f: _cross_entropy(f, 1),
    least_squares.discriminator: lambda r, f: _square(r, 1) / 2 + _square(f, 0) / 2,
    least_squares.generator: lambda r, f: _square(f, 1) / 2,
    hinge.discriminator: lambda r, f: torch.relu(1 - r) + torch.relu(1 + f),
    hinge.generator: lambda r, f: -f,
    relativistic.discriminator: lambda r, f: _cross_entropy(r - f, 1),
    relativistic.generator: lambda r, f: _cross_entropy(f - r, 1),
    relativistic_average.discriminator: lambda r, f: (
        _cross_entropy(r - f.mean(), 1) + _cross_entropy(f - r.mean(), 0)
    ),
    relativistic_average.generator: lambda r, f: (
        _cross_entropy(f - r.mean(), 1) + _cross_entropy(r - f.mean(), 0)
    ),
}


@pytest.mark.parametrize(
    "loss", IN_TORCH, ids=lambda loss: f"{loss.__module__.split('.')[-1]}-{loss.__name__}"
)
def test_values_and_slopes_are_those_of_pytorch(loss):
    real, fake = _logits()
    logits = [torch.tensor(side, requires_grad=True) for side in (real, fake)]
    values = IN_TORCH[loss](*logits)
    slopes = torch.autograd.grad(values.sum(), logits, allow_unused=True)
    theirs = [values, *(torch.zeros(40) if slope is None else slope for slope in slopes)]
    for ours, expected in zip(_values_and_slopes(loss, real, fake), theirs, strict=True):
        np.testing.assert_allclose(ours, expected.detach(), rtol=1e-12, atol=1e-12)


def test_the_mean_of_the_relativistic_average_is_that_of_the_global_batch():
    real, fake = map(jnp.asarray, _logits())

    def total(logits):
        return relativistic_average.generator(*logits).mean()

    def of_device(logits):
        value, slopes = jax.value_and_grad(total)(logits)
        return jax.lax.pmean(value, axis.DATA), slopes

    parts = tuple(side.reshape(4, 10) for side in (real, fake))
    values, slopes = jax.pmap(of_device, axis.DATA)(parts)
    expected, whole = jax.value_and_grad(total)((real, fake))
    np.testing.assert_allclose(values, np.full(4, expected), rtol=1e-6)
    for part, side in zip(slopes, whole, strict=True):
        # The mean over devices is that of the global batch.
        np.testing.assert_allclose(part.reshape(-1) / 4, side, rtol=1e-5, atol=1e-8)


NEW_LOSS = """
def discriminator(real, fake, *, scale: float = 1.0):
    return scale * (fake - real) ** 3


def generator(real, fake):
    return -fake
"""


def test_a_new_loss_is_one_file_on_the_path(tmp_path, monkeypatch, tiny):
    (tmp_path / "cubic.py").write_text(NEW_LOSS)
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    config = tiny()
    config.loss = {"name": "cubic", "scale": 2.0}
    loss = build(config, "tiny").game.objective(None).loss
    np.testing.assert_allclose(loss.discriminator(jnp.ones(2), jnp.full(2, 3.0)), 16)
    config.loss = {"name": "cubik"}
    with pytest.raises(InputError, match="gaxn/losses has cubic"):
        build(config, "tiny")
