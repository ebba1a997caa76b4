"""The objective besides its loss: top-k training, packs, and how often it augments."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn import keys
from gaxn.data import pixels
from gaxn.distributed import axis, sharding
from gaxn.experiment import make_experiment
from gaxn.nn.adaptive import INTERVAL, AdaptiveProbability
from gaxn.objectives.losses import (
    hinge,
    least_squares,
    relativistic,
    relativistic_average,
    wasserstein,
)
from gaxn.objectives.objective import LossInputs, Objective, top_weights
from gaxn.objectives.penalties import Penalty, r1
from gaxn.types import InputError


def _experiment(config):
    return make_experiment(config, "tiny", sharding.jit_parallelism(jax.devices()[:1]))


def _first_batch(experiment):
    return jax.tree.map(lambda leaf: leaf[0], experiment.batches(0))


def test_the_generator_learns_from_the_examples_that_look_most_real():
    logits = jnp.asarray(np.random.default_rng(0).permutation(20).astype(np.float32))
    for share, count in ((1.0, 20), (0.75, 15), (0.5, 10), (0.01, 1)):
        weights = np.asarray(top_weights(logits, jnp.float32(share)))
        expected = np.where(logits >= 20 - count, 20 / count, 0)
        np.testing.assert_allclose(weights, expected, rtol=1e-6)
    on_devices = jax.pmap(lambda part: top_weights(part, jnp.float32(0.5)), axis.DATA)
    weights = on_devices(logits.reshape(4, 5)).reshape(-1)
    np.testing.assert_allclose(weights, top_weights(logits, jnp.float32(0.5)), rtol=1e-6)


def test_the_share_of_learned_examples_falls_in_a_line(ring):
    """Compares the generator's loss with that of its best samples."""
    config = ring("population=1", "objective.top_share=0.5", variant="gan+tiny")
    experiment = _experiment(config)
    state, batch = experiment.create_state(experiment.key), _first_batch(experiment)
    variables = {"params": state.params, **state.collections}
    latents = jax.vmap(lambda key: jax.random.normal(key, (2,)))(
        keys.per_example(keys.stream(experiment.key, "latent"), jnp.arange(8))
    )
    mutable = ["batch_stats"]
    points, _ = experiment.gan.apply(
        variables, latents, None, True, method="generate", mutable=mutable
    )
    logits = np.sort(experiment.gan.apply(variables, points, None, method="discriminate"))
    for until, step, count in ((100, 0, 8), (100, 50, 6), (100, 100, 4), (100, 900, 4), (1, 0, 8)):
        config.objective.top_until = until
        gan = _experiment(config).gan
        inputs = variables, batch, jnp.arange(8), experiment.key, jnp.int32(step)
        (loss, _), _ = gan.apply(*inputs, method="generator_loss", mutable=mutable)
        expected = np.log1p(np.exp(-logits[-count:].astype(np.float64))).mean()
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_pack_has_neighbors_side_by_side():
    objective = Objective(None, hinge(), {}, {}, (), packing=3)
    points = jnp.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(objective._pack(points, None), np.arange(12).reshape(2, 6))
    images = np.arange(6 * 2 * 2 * 2).reshape(6, 2, 2, 2)
    expected = [np.concatenate(images[k : k + 3], axis=-1) for k in (0, 3)]
    np.testing.assert_array_equal(objective._pack(jnp.asarray(images), None), expected)


def test_images_after_the_last_pack_have_no_logit():
    class Sum(nn.Module):
        def __call__(self, points, labels, train):
            return points.sum(axis=-1)

    points = jnp.asarray(np.random.default_rng(0).normal(size=(60, 2)), jnp.float32)
    objective = Objective(Sum(), hinge(), {}, {}, (), packing=7)
    logits = objective.apply({}, points, None, method="discriminate")
    expected = np.asarray(points[:56]).reshape(8, 14).sum(axis=1)
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


@pytest.mark.slow
def test_batch_statistics_of_real_and_generated_images_are_apart(tiny):
    """Holds in ganhacks, DCGAN's and PacGAN's code too.

    With mixed ones, the discriminator would see one kind of batch in its own update and another in
    the generator's.
    """
    config = tiny(
        "conditional=False",
        "penalties={}",
        "augmentations={}",
        "generator.widths=(8,)",
        "generator.attention_at=()",
        "discriminator={'name': 'dcgan.Discriminator', 'widths': (8, 8), 'batch_norm': True}",
    )
    experiment = _experiment(config)
    state, batch = experiment.create_state(experiment.key), _first_batch(experiment)
    variables = {"params": state.params, **state.collections}
    (_, scalars), _ = jax.jit(
        lambda variables, batch: experiment.gan.apply(
            variables,
            batch,
            jnp.arange(8),
            experiment.key,
            jnp.int32(0),
            method="discriminator_loss",
            mutable=nn.DenyList("params"),
        )
    )(variables, batch)
    of_discriminator = {
        name: tree["discriminator"] for name, tree in variables.items() if name != "spectral"
    }

    @jax.jit
    def discriminate(images):
        network = experiment.gan.discriminator
        return network.apply(of_discriminator, images, None, True, mutable=["batch_stats"])[0]

    real = pixels.decode(batch.images)
    logits = discriminate(real)
    np.testing.assert_allclose(scalars["real"], logits.mean(), rtol=1e-5)
    mixed = discriminate(jnp.concatenate([real, jnp.zeros_like(real)]))
    assert abs(mixed[: len(real)].mean() - logits.mean()) > 1e-2 * abs(logits.mean())


def test_the_probability_follows_the_sign_of_real_logits():
    random = np.random.default_rng(0)
    module = AdaptiveProbability(target=0.6, images=1_000)
    variables = module.init(jax.random.key(0))
    adjust = jax.jit(
        lambda variables, logits: module.apply(
            variables, logits, 50, method="adjust", mutable=["ada"]
        )[1]
    )
    probability, signs = 0.0, []
    probabilities = set()
    for index in range(60):
        # Certain at first, then not.
        logits = random.normal(1.5 if index < 40 else 0.0, 1.0, 50).astype(np.float32)
        variables = adjust(variables, logits)
        signs.append(np.sign(logits).mean())
        if len(signs) == INTERVAL:
            step = INTERVAL * 50 / 1_000 * np.sign(np.mean(signs) - 0.6)
            probability, signs = min(max(probability + step, 0), 1), []
        np.testing.assert_allclose(module.apply(variables), probability, atol=1e-6)
        probabilities.add(round(float(probability), 3))
    assert {0.0, 0.2, 1.0} <= probabilities and probability < 1


class Shifted(nn.Module):
    """A discriminator whose logits are its inputs and a constant."""

    shift: float

    def __call__(self, points, labels, train):
        return points[:, 0] + self.shift


@pytest.mark.parametrize(
    "make_loss", [relativistic, relativistic_average, wasserstein, hinge, least_squares]
)
def test_the_probability_does_not_depend_on_what_a_loss_leaves_undetermined(make_loss):
    """Adds a constant to all logits: losses of differences do not notice, others do."""
    loss = make_loss()
    random = np.random.default_rng(0)
    real, fake = (jnp.asarray(random.normal(mean, 1.0, (64, 1)), jnp.float32) for mean in (1, -1))
    values = [loss.discriminator(real + shift, fake + shift) for shift in (0.0, -9.0)]
    assert loss.depends_on_differences == np.allclose(*values, atol=1e-5)

    def signs(shift):
        objective = Objective(Shifted(shift), loss, {}, {}, (), ada_target=0.5)
        inputs = LossInputs(
            real, real, fake, None, None, jnp.arange(64), jax.random.key(0), jnp.int32(0)
        )
        variables = objective.init(jax.random.key(0), real, None)
        method = "discriminator_loss"
        _, updated = objective.apply(variables, inputs, method=method, mutable=["ada"])
        return float(updated["ada"]["ada"]["signs"])

    # Where real and generated images lie, least squares is undecided between its targets.
    undecided = 0.5 if make_loss is least_squares else 0.0
    expected = np.sign(real - (fake if loss.depends_on_differences else undecided)).mean()
    np.testing.assert_allclose(signs(0.0), expected, atol=1e-6)
    assert signs(-9.0) == (signs(0.0) if loss.depends_on_differences else -1.0)


def test_a_penalty_that_is_not_due_adds_nothing_beside_one_of_the_same_images():
    class Square(nn.Module):
        def __call__(self, points, labels, train):
            return jnp.square(points).sum(axis=-1)

    points = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)), jnp.float32)
    inputs = LossInputs(
        points, points, points, None, None, jnp.arange(8), jax.random.key(0), jnp.int32(1)
    )

    def loss(**penalties):
        objective = Objective(Square(), wasserstein(), penalties, {}, ())
        variables = objective.init(jax.random.key(0), points, None)
        method, mutable = "discriminator_loss", list(variables)
        return objective.apply(variables, inputs, method=method, mutable=mutable)[0][0]

    # The gradient of a logit is twice the point.
    expected = 3.0 / 2 * np.square(2 * np.asarray(points)).sum(axis=1).mean()
    lazy = r1(5.0, interval=4)
    np.testing.assert_allclose(loss(r1=r1(3.0)), expected, rtol=1e-5)
    np.testing.assert_allclose(loss(r1=r1(3.0), lazy=lazy._replace(due=False)), expected, rtol=1e-5)
    np.testing.assert_allclose(
        loss(r1=r1(3.0), lazy=lazy._replace(due=True)), expected * (3 + 4 * 5) / 3, rtol=1e-5
    )


def test_two_penalties_draw_different_numbers():
    def draw(discriminator, real, fake, keys):
        return jax.vmap(jax.random.uniform)(keys)

    drawn = Penalty(draw, 1.0)
    objective = Objective(Shifted(0.0), hinge(), {"first": drawn, "second": drawn}, {}, ())
    points = jnp.ones((8, 1))
    inputs = LossInputs(
        points, points, points, None, None, jnp.arange(8), jax.random.key(0), jnp.int32(0)
    )
    _, scalars = objective.apply({}, inputs, method="discriminator_loss")
    assert scalars["first"] != scalars["second"]


@pytest.mark.slow
def test_a_lazy_penalty_is_logged_as_of_the_last_step_at_which_it_was_due(ring):
    config = ring("population=1", "penalties.r1.interval=4", variant="hinge+tiny")
    experiment = _experiment(config)
    state, values = experiment.create_state(experiment.key), []
    for step in range(9):
        state, scalars = experiment.compiled_step(state, experiment.batches(step), experiment.key)
        values.append(float(scalars["d/r1"]))
    assert all(values) and len(set(values)) == 3
    assert values == [values[0]] * 4 + [values[4]] * 4 + [values[8]]


def test_each_image_is_augmented_with_the_probability(tiny):
    config = tiny("objective.ada_target=0.5", "augmentations={'color': {}, 'translation': {}}")
    gan = _experiment(config).gan
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2_000, 8, 8, 3)), jnp.float32)

    @jax.jit
    def augment(probability):
        variables = dict.fromkeys(("probability", "signs", "batches"), probability)
        return gan.apply(
            {"params": {}, "ada": {"discriminator_objective": {"ada": variables}}},
            images,
            jax.random.key(0),
            jnp.arange(2_000),
            jnp.int32(0),
            method=lambda gan, *inputs: gan.discriminator_objective._augment(*inputs),
        )

    np.testing.assert_array_equal(augment(0.0), images)
    for probability in (0.3, 1.0):
        changed = (np.asarray(augment(probability)) != images).any(axis=(1, 2, 3)).mean()
        # Of the two augmentations, a shift by at most one pixel changes nothing in one of nine.
        expected = 1 - (1 - probability) * (1 - probability * 8 / 9)
        assert abs(changed - expected) < 0.04


@pytest.mark.parametrize(
    "field, value",
    [
        ("top_share", 0.0),
        ("top_share", 1.5),
        ("top_until", 0),
        ("ada_target", 1.0),
        ("ada_images", 0),
        ("augmentation_probability", 1.5),
    ],
)
def test_options_out_of_range_are_refused(tiny, field, value):
    config = tiny(f"objective.{field}={value}")
    with pytest.raises(InputError, match=f"config.objective.{field} must be .*, got {value}$"):
        make_experiment(config, "tiny")


@pytest.mark.parametrize(
    "field, value, without",
    [("ada_target", 0.6, "0"), ("augmentation_probability", 0.5, "1")],
)
def test_probabilities_of_no_augmentation_are_refused(tiny, field, value, without):
    message = f"config.objective.{field} must be {without} without augmentations, got {value}$"
    with pytest.raises(InputError, match=message):
        make_experiment(tiny(f"objective.{field}={value}", "augmentations={}"), "tiny")


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["{'name': 'alternating'}", "{'name': 'unrolled', 'steps': 1}"])
def test_an_update_rule_trains_images_with_all_that_a_loss_can_have(tiny, rule):
    config = tiny(
        f"update_rule={rule}",
        "loss={'name': 'relativistic_average'}",
        "penalties={'r1': {'weight': 0.5, 'interval': 2}, 'dragan': {'weight': 1.0}}",
        "augmentations={'color': {}, 'cutout': {}, 'instance_noise': {'until': 4}}",
        "regularizers={'lecam': {}, 'bcr': {'augmentations': {'cutout': {}}}, 'zcr': {}, "
        "'auxiliary': {}}",
        "discriminator.auxiliary=True",
        "objective.ada_target=0.6",
        "objective.top_share=0.5",
        "optimizers.discriminator.eps_root=1e-8",
        "generator.attention_at=()",
        "discriminator.attention_at=()",
    )
    experiment = _experiment(config)
    state = experiment.create_state(experiment.key)
    step, lazy = jax.jit(experiment.train_step), []
    for index in range(2):
        state, scalars = step(state, experiment.batches(index), experiment.key)
        assert all(np.isfinite(value) for value in scalars.values())
        lazy.append(float(scalars["d/r1"]))
    assert lazy[0] == lazy[1] > 0
    assert {"d/bcr", "d/zcr", "g/zcr", "d/auxiliary", "g/auxiliary", "d/lecam"} <= scalars.keys()
    assert "g/lecam" not in scalars
