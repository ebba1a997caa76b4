"""Adversarial losses: the contract of all, and each equation in naive NumPy and in PyTorch."""

import inspect
import itertools
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jaxtyping import jaxtyped

from gaxn.distributed import axis
from gaxn.experiment import make_experiment
from gaxn.objectives import losses
from gaxn.objectives.losses import Loss
from gaxn.types import InputError

NAMES = [
    name
    for name, value in vars(losses).items()
    if inspect.isfunction(value) and value.__annotations__.get("return") is Loss
]
PLAYERS = "discriminator", "generator"
SIDES = list(itertools.product(NAMES, PLAYERS))
COUPLED = {"relativistic_average"}
"""Losses that compare an example with the rest of the batch."""

EXTREMES = np.array(list(itertools.product([-50.0, 0.0, 50.0], repeat=2)), np.float32).T


def _logits():
    random = np.random.default_rng(0)
    return random.uniform(-6, 6, (2, 40))


def _side(name, side, **options):
    return getattr(getattr(losses, name)(**options), side)


@pytest.mark.parametrize(("name", "side"), SIDES)
def test_values_and_gradients_are_per_example_and_finite(name, side):
    loss, (real, fake) = _side(name, side), map(jnp.asarray, EXTREMES)
    values = loss(real, fake)
    assert values.shape == real.shape
    assert values.dtype == jnp.float32
    assert np.isfinite(values).all()
    for jacobian in jax.jacobian(loss, (0, 1))(real, fake):
        assert np.isfinite(jacobian).all()
        assert name in COUPLED or not (jacobian * (1 - np.eye(len(real)))).any()


@pytest.mark.parametrize("name", NAMES)
def test_the_players_pull_apart(name):
    # Between the targets of losses that have any.
    real, fake = (jnp.asarray(logits / 20 + 0.5) for logits in _logits())

    def slopes(side):
        loss = _side(name, side)
        return jax.grad(lambda *logits: loss(*logits).sum(), (0, 1))(real, fake)

    by_real, by_fake = slopes("discriminator")
    assert (by_real <= 0).all() and (by_real < 0).any()
    assert (by_fake >= 0).all() and (by_fake > 0).any()
    _, by_fake = slopes("generator")
    assert (by_fake < 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_two_sizes_do_not_pair(name):
    with pytest.raises((TypeError, ValueError)):
        _side(name, "discriminator")(jnp.zeros(3), jnp.zeros(4))


def _accepts(side, real, fake):
    """Returns whether the annotations of a side of a loss, read together, admit these logits."""
    (real_hint, fake_hint), _ = typing.get_args(typing.get_type_hints(Loss)[side])
    with jaxtyped("context"):
        return isinstance(real, real_hint) and isinstance(fake, fake_hint)


@pytest.mark.parametrize("side", PLAYERS)
@pytest.mark.parametrize("shapes", [((3,), (4,)), ((1,), (4,)), ((4,), (4, 1)), ((), ())])
def test_the_signature_refuses_logits_that_would_broadcast(side, shapes):
    assert _accepts(side, jnp.zeros(4), jnp.zeros(4))
    assert not _accepts(side, *map(jnp.zeros, shapes))


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Value, slope in real, slope in fake; r and f are the logits.
EQUATIONS = {
    ("hinge", "discriminator"): (
        lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f),
        lambda r, f: np.where(r < 1, -1, 0),
        lambda r, f: np.where(f > -1, 1, 0),
    ),
    ("hinge", "generator"): (lambda r, f: -f, lambda r, f: 0 * r, lambda r, f: 0 * f - 1),
    ("non_saturating", "discriminator"): (
        lambda r, f: -np.log(_sigmoid(r)) - np.log(1 - _sigmoid(f)),
        lambda r, f: _sigmoid(r) - 1,
        lambda r, f: _sigmoid(f),
    ),
    ("non_saturating", "generator"): (
        lambda r, f: -np.log(_sigmoid(f)),
        lambda r, f: 0 * r,
        lambda r, f: _sigmoid(f) - 1,
    ),
    ("relativistic", "discriminator"): (
        lambda r, f: -np.log(_sigmoid(r - f)),
        lambda r, f: _sigmoid(r - f) - 1,
        lambda r, f: 1 - _sigmoid(r - f),
    ),
    ("relativistic", "generator"): (
        lambda r, f: -np.log(_sigmoid(f - r)),
        lambda r, f: 1 - _sigmoid(f - r),
        lambda r, f: _sigmoid(f - r) - 1,
    ),
    ("minimax", "discriminator"): (
        lambda r, f: -np.log(_sigmoid(r)) - np.log(1 - _sigmoid(f)),
        lambda r, f: _sigmoid(r) - 1,
        lambda r, f: _sigmoid(f),
    ),
    ("minimax", "generator"): (
        lambda r, f: np.log(1 - _sigmoid(f)),
        lambda r, f: 0 * r,
        lambda r, f: -_sigmoid(f),
    ),
    ("least_squares", "discriminator"): (
        lambda r, f: 0.5 * (r - 1) ** 2 + 0.5 * f**2,
        lambda r, f: r - 1,
        lambda r, f: f,
    ),
    ("least_squares", "generator"): (
        lambda r, f: 0.5 * (f - 1) ** 2,
        lambda r, f: 0 * r,
        lambda r, f: f - 1,
    ),
    ("relativistic_average", "discriminator"): (
        lambda r, f: -np.log(_sigmoid(r - f.mean())) - np.log(1 - _sigmoid(f - r.mean())),
        lambda r, f: _sigmoid(r - f.mean()) - 1 - _sigmoid(f - r.mean()).mean(),
        lambda r, f: _sigmoid(f - r.mean()) + (1 - _sigmoid(r - f.mean())).mean(),
    ),
    ("relativistic_average", "generator"): (
        lambda r, f: -np.log(_sigmoid(f - r.mean())) - np.log(1 - _sigmoid(r - f.mean())),
        lambda r, f: _sigmoid(r - f.mean()) + (1 - _sigmoid(f - r.mean())).mean(),
        lambda r, f: _sigmoid(f - r.mean()) - 1 - _sigmoid(r - f.mean()).mean(),
    ),
    ("wasserstein", "discriminator"): (
        lambda r, f: f - r,
        lambda r, f: 0 * r - 1,
        lambda r, f: 0 * f + 1,
    ),
    ("wasserstein", "generator"): (lambda r, f: -f, lambda r, f: 0 * r, lambda r, f: 0 * f - 1),
}


def _values_and_slopes(loss, real, fake):
    with jax.enable_x64(True):
        logits = jnp.asarray(real), jnp.asarray(fake)
        slopes = jax.grad(lambda *both: loss(*both).sum(), (0, 1))(*logits)
        return loss(*logits), *slopes


@pytest.mark.parametrize(("name", "side"), EQUATIONS)
def test_values_and_slopes_are_those_of_the_equation(name, side):
    real, fake = _logits()
    results = _values_and_slopes(_side(name, side), real, fake)
    for result, equation in zip(results, EQUATIONS[name, side], strict=True):
        # Float64; the naive logarithm of 1 - s(12) has lost 5 digits of 16.
        np.testing.assert_allclose(result, equation(real, fake), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("target", [0.9, 0.3])
def test_label_smoothing_is_one_sided(target):
    real, fake = _logits()
    loss = _side("non_saturating", "discriminator", real_target=target)
    values, by_real, by_fake = _values_and_slopes(loss, real, fake)
    s = _sigmoid(real)
    cross_entropy = -target * np.log(s) - (1 - target) * np.log(1 - s)
    np.testing.assert_allclose(values, cross_entropy - np.log(1 - _sigmoid(fake)), rtol=1e-9)
    np.testing.assert_allclose(by_real, s - target, rtol=0, atol=1e-12)
    np.testing.assert_allclose(by_fake, _sigmoid(fake), rtol=1e-12)


@pytest.mark.parametrize("target", [-0.1, 0.0, 1.001, float("nan")])
def test_a_real_target_out_of_range_is_refused(target):
    message = f"real_target must be above 0 and at most 1, got {target}"
    with pytest.raises(InputError, match=message):
        losses.non_saturating(real_target=target)


def test_every_loss_has_its_equation():
    assert set(EQUATIONS) == set(SIDES)


def _cross_entropy(logits, target):
    targets = torch.full_like(logits, float(target))
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def _square(logits, target):
    return torch.nn.functional.mse_loss(
        logits, torch.full_like(logits, float(target)), reduction="none"
    )


# By PyTorch's own losses, where it has them: one value per example.
IN_TORCH = {
    ("minimax", "discriminator"): lambda r, f: _cross_entropy(r, 1) + _cross_entropy(f, 0),
    ("minimax", "generator"): lambda r, f: -_cross_entropy(f, 0),
    ("non_saturating", "discriminator"): lambda r, f: _cross_entropy(r, 1) + _cross_entropy(f, 0),
    ("non_saturating", "generator"): lambda r, f: _cross_entropy(f, 1),
    ("least_squares", "discriminator"): lambda r, f: _square(r, 1) / 2 + _square(f, 0) / 2,
    ("least_squares", "generator"): lambda r, f: _square(f, 1) / 2,
    ("hinge", "discriminator"): lambda r, f: torch.relu(1 - r) + torch.relu(1 + f),
    ("hinge", "generator"): lambda r, f: -f,
    ("relativistic", "discriminator"): lambda r, f: _cross_entropy(r - f, 1),
    ("relativistic", "generator"): lambda r, f: _cross_entropy(f - r, 1),
    ("relativistic_average", "discriminator"): lambda r, f: (
        _cross_entropy(r - f.mean(), 1) + _cross_entropy(f - r.mean(), 0)
    ),
    ("relativistic_average", "generator"): lambda r, f: (
        _cross_entropy(f - r.mean(), 1) + _cross_entropy(r - f.mean(), 0)
    ),
}


@pytest.mark.parametrize(("name", "side"), IN_TORCH)
def test_values_and_slopes_are_those_of_pytorch(name, side):
    real, fake = _logits()
    logits = [torch.tensor(array, requires_grad=True) for array in (real, fake)]
    values = IN_TORCH[name, side](*logits)
    slopes = torch.autograd.grad(values.sum(), logits, allow_unused=True)
    expected = [values, *(torch.zeros(40) if slope is None else slope for slope in slopes)]
    results = _values_and_slopes(_side(name, side), real, fake)
    for result, in_torch in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, in_torch.detach(), rtol=1e-12, atol=1e-12)


def test_each_scale_has_a_relativistic_average_of_its_own():
    """Undecided at two scales whose logits are apart, the loss is 2 log 2."""
    logits = jnp.tile(jnp.array([5.0, 0.0]), (8, 1))
    for side in ("discriminator", "generator"):
        values = _side("relativistic_average", side)(logits, logits)
        np.testing.assert_allclose(values, 2 * np.log(2), rtol=1e-6)


def test_the_mean_of_the_relativistic_average_is_that_of_the_global_batch():
    real, fake = map(jnp.asarray, _logits())
    loss = _side("relativistic_average", "generator")

    def total(logits):
        return loss(*logits).mean()

    def on_device(logits):
        value, slopes = jax.value_and_grad(total)(logits)
        return jax.lax.pmean(value, axis.DATA), slopes

    parts = tuple(logits.reshape(4, 10) for logits in (real, fake))
    values, slopes = jax.pmap(on_device, axis.DATA)(parts)
    expected, expected_slopes = jax.value_and_grad(total)((real, fake))
    np.testing.assert_allclose(values, np.full(4, expected), rtol=1e-6)
    for part, slope in zip(slopes, expected_slopes, strict=True):
        # The mean over devices is that of the global batch.
        np.testing.assert_allclose(part.reshape(-1) / 4, slope, rtol=1e-5, atol=1e-8)


NEW_LOSS = """
from gaxn.objectives.losses import Loss


def cubic(scale: float = 1.0) -> Loss:
    return Loss(lambda real, fake: scale * (fake - real) ** 3, lambda real, fake: -fake)
"""


def test_a_new_loss_is_one_function_of_a_module_on_the_path(tmp_path, monkeypatch, tiny):
    (tmp_path / "my_losses.py").write_text(NEW_LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    config = tiny()
    config.loss = {"name": "my_losses:cubic", "scale": 2.0}
    loss = make_experiment(config, "tiny").gan.objective(None).loss
    np.testing.assert_allclose(loss.discriminator(jnp.ones(2), jnp.full(2, 3.0)), 16)
    for name, message in {
        "my_losses:cubik": "config.loss.name must be one of cubic, .* of my_losses, got .*cubik'",
        "my_loses:cubic": "config.loss.name must be module:attribute .*got 'my_loses:cubic'",
        "hing": "config.loss.name must be one of hinge, .*got 'hing'",
    }.items():
        config.loss = {"name": name}
        with pytest.raises(InputError, match=message):
            make_experiment(config, "tiny")
