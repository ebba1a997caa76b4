"""Regularizers: the contract of all, and each against NumPy in float64."""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from gaxn.distributed import sharding
from gaxn.experiment import make_experiment, make_regularizers
from gaxn.objectives import augmentations, regularizers
from gaxn.objectives.regularizers import (
    Regularizer,
    RegularizerInputs,
    auxiliary,
    bcr,
    lecam,
    matching,
    mode_seeking,
    zcr,
)
from gaxn.types import DiscriminatorOutput, InputError, SentenceCondition

pytestmark = pytest.mark.usefixtures("float64")

MAKERS = [
    value
    for value in vars(regularizers).values()
    if inspect.isfunction(value)
    and value.__annotations__.get("return") == Callable[[], Regularizer]
]
BATCH, LATENT, SIDE, CLASSES = 6, 3, 2, 4
LABELS = np.array([0, 3, 1, 1, 2, 0])
RANDOM = np.random.default_rng(0)
GENERATOR = RANDOM.normal(size=(LATENT, SIDE * SIDE))
DISCRIMINATOR = RANDOM.normal(size=SIDE * SIDE)
CLASSIFIER = RANDOM.normal(size=(SIDE * SIDE, CLASSES))
LATENTS, IMAGES = RANDOM.normal(size=(BATCH, LATENT)), RANDOM.normal(size=(BATCH, SIDE, SIDE, 1))


def _generate(latents):
    return (latents @ GENERATOR).reshape(-1, SIDE, SIDE, 1)


def _discriminate(images, labels=None):
    flat = images.reshape(len(images), -1)
    return DiscriminatorOutput(flat @ DISCRIMINATOR, flat @ CLASSIFIER)


def _inputs(step=0):
    real, fake = jnp.asarray(IMAGES), jnp.asarray(_generate(LATENTS))
    return RegularizerInputs(
        real=real,
        fake=fake,
        real_output=_discriminate(real),
        fake_output=_discriminate(fake),
        labels=jnp.asarray(LABELS),
        discriminate=_discriminate,
        inputs=jnp.asarray(LATENTS),
        generated=fake,
        generate=_generate,
        step=jnp.int32(step),
        augment=lambda images: 2 * images,
    )


def _keys():
    return jax.random.split(jax.random.key(0), BATCH)


def _scale(images, keys, step):
    """Multiplies each image by a number drawn by its key: an augmentation."""
    return images * jax.vmap(jax.random.uniform)(keys)[:, None, None, None]


def _values(make, player):
    """Returns a regularizer's term of a player's loss."""
    regularizer, inputs = make(), _inputs()
    variables = regularizer.init(jax.random.key(0), inputs.real_output, inputs.labels)
    return regularizer.apply(variables, inputs, _keys(), method=player, mutable=True)[0]


@pytest.mark.parametrize("make", MAKERS)
def test_each_adds_one_value_per_example_to_one_side_or_both(make):
    options = {"augmentations": (_scale,)} if make is bcr else {}
    sides = [_values(make(**options), side) for side in ("discriminator", "generator")]
    terms = [values for values in sides if values is not None]
    assert terms
    for values in terms:
        assert values.shape == (BATCH,) and values.any() and np.isfinite(values).all()


def test_bcr_is_the_squared_difference_that_an_augmentation_makes():
    values = _values(bcr((_scale,), 3.0, 0.5), "discriminator")
    pairs = jax.vmap(jax.random.split)(_keys())
    expected = 0
    for side, (weight, images) in enumerate(((3.0, IMAGES), (0.5, _generate(LATENTS)))):
        # Each of several augmentations has its own key.
        keys = [jax.random.fold_in(pair[side], 0) for pair in pairs]
        scale = np.array([float(jax.random.uniform(key)) for key in keys])
        logits = images.reshape(BATCH, -1) @ DISCRIMINATOR
        expected = expected + weight * (logits - scale * logits) ** 2
    np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_the_augmentations_of_bcr_see_the_step():
    """Instance noise that has ended makes no difference; before, it makes a smaller and smaller."""
    noise = augmentations.instance_noise(deviation=1.0, until=100)
    sums = []
    for step in (0, 50, 100, 900):
        values = bcr((noise,))().apply({}, _inputs(step), _keys(), method="discriminator")
        sums.append(float(values.sum()))
    # Squares of linear logits: half the noise, a quarter of the loss.
    np.testing.assert_allclose(sums, [sums[0], sums[0] / 4, 0, 0], rtol=1e-6, atol=1e-12)
    assert sums[0] > 0


def test_zcr_moves_the_latent():
    regularizer = zcr(2.0, 0.7, 0.1)
    noise = 0.1 * np.array([jax.random.normal(key, (LATENT,)) for key in _keys()])
    # The inputs' generated images are not augmented; those of moved latents are doubled.
    logits, moved = (z @ GENERATOR @ DISCRIMINATOR for z in (LATENTS, LATENTS + noise))
    values = _values(regularizer, "discriminator")
    np.testing.assert_allclose(values, 2.0 * (logits - 2 * moved) ** 2, rtol=1e-10)
    values = _values(regularizer, "generator")
    np.testing.assert_allclose(values, -0.7 * ((noise @ GENERATOR) ** 2).mean(axis=1), rtol=1e-10)


def test_auxiliary_is_the_cross_entropy_of_the_labels():
    inputs = _inputs()
    losses = []
    for output in (inputs.real_output, inputs.fake_output):
        shares = np.exp(np.asarray(output.class_logits))
        shares /= shares.sum(axis=1, keepdims=True)
        losses.append(sklearn.metrics.log_loss(LABELS, shares))
    for options, player, expected in (
        ({"weight": 2.0}, "discriminator", 2 * sum(losses)),
        ({"fake": False}, "discriminator", losses[0]),
        ({"weight": 0.5}, "generator", losses[1] / 2),
    ):
        values = _values(auxiliary(**options), player)
        np.testing.assert_allclose(values.mean(), expected, rtol=1e-10)


def test_lecam_pulls_each_side_to_the_running_mean_of_the_opposite_side():
    regularizer = lecam(0.3, 0.9)()
    inputs, anchors = _inputs(), np.zeros(2)
    variables = regularizer.init(jax.random.key(0), inputs.real_output, inputs.labels)
    outputs = inputs.real_output, inputs.fake_output
    real, fake = (np.asarray(output.logits) for output in outputs)
    for _ in range(3):
        values, variables = regularizer.apply(
            variables, inputs, _keys(), method="discriminator", mutable=True
        )
        anchors = 0.9 * anchors + 0.1 * np.array([real.mean(), fake.mean()])
        expected = 0.3 * ((real - anchors[1]) ** 2 + (fake - anchors[0]) ** 2)
        np.testing.assert_allclose(values, expected, rtol=1e-6)
    np.testing.assert_allclose(variables["lecam"]["anchors"], anchors, rtol=1e-6)


def _experiment(config):
    return make_experiment(config, "tiny", sharding.jitted(jax.devices()[:1]))


def test_the_anchors_of_lecam_belong_to_the_discriminator(ring):
    with jax.enable_x64(False):
        option = "regularizers={'lecam': {'weight': 0.3}}"
        experiment = _experiment(ring(option, "population=1", variant="gan+tiny"))
        state, anchors = experiment.create_state(experiment.key), np.zeros(2)
        step = jax.jit(experiment.train_step)
        for index in range(2):
            state, scalars = step(state, experiment.batches(index), experiment.key)
            anchors = 0.99 * anchors + 0.01 * np.array([scalars["d/real"], scalars["d/fake"]])
            (values,) = jax.tree.leaves(state.collections["lecam"]["discriminator_objective"])
            np.testing.assert_allclose(values, anchors, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("module", ["dcgan", "attn_cgan"])
def test_a_discriminator_that_predicts_classes_does_not_see_them(tiny, module):
    with jax.enable_x64(False):
        network = "{'name': 'dcgan.Discriminator', 'widths': (8, 8), 'auxiliary': True}"
        is_dcgan = module == "dcgan"
        option = f"discriminator={network}" if is_dcgan else "discriminator.auxiliary=True"
        experiment = _experiment(tiny(option, "generator.widths=(8,)", "generator.attention_at=()"))
        state = experiment.create_state(experiment.key)
        images = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
        variables = {"params": state.params, **state.collections}
        discriminate = jax.jit(
            lambda labels: experiment.gan.apply(
                variables,
                images,
                labels,
                False,
                method=lambda gan, *inputs: gan.discriminator(*inputs),
            )
        )
        outputs = [discriminate(np.full(3, label)) for label in (0, 2)]
        np.testing.assert_array_equal(outputs[0].logits, outputs[1].logits)
        assert outputs[0].class_logits.shape == (3, 3) and outputs[0].class_logits.std() > 0


WRONG = {
    "an unknown option": (
        {"lecam": {"weights": 1.0}},
        "config.regularizers.lecam.weights is unknown; config.regularizers.lecam takes weight",
    ),
    "no dict": ({"lecam": 1.0}, "config.regularizers.lecam must be a dict of options, got 1.0"),
    "no augmentation": ({"bcr": {}}, "config.regularizers.bcr.augmentations is missing"),
    "a wrong augmentation": (
        {"bcr": {"augmentations": {"cutuot": {}}}},
        "config.regularizers.bcr.augmentations must be one of cutout, .* got 'cutuot'",
    ),
    "no such regularizer": ({"cr": {}}, "config.regularizers must be one of .*bcr, .* got 'cr'"),
    "a weight": (
        {"lecam": {"weight": -1.0}},
        "config.regularizers.lecam.weight must be 0 or more, got -1.0",
    ),
    "a decay": (
        {"lecam": {"decay": 1.0}},
        "config.regularizers.lecam.decay must be at least 0 and below 1, got 1.0",
    ),
    "no deviation": (
        {"zcr": {"deviation": 0.0}},
        "config.regularizers.zcr.deviation must be above 0, got 0.0",
    ),
    "no head": ({"auxiliary": {}}, "config.discriminator.auxiliary=True"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_one_line(tiny, name):
    spec, message = WRONG[name]
    config = tiny()
    config.regularizers = spec
    with jax.enable_x64(False), pytest.raises(InputError, match=message):
        make_experiment(config, "tiny")


def test_consistency_refuses_a_discriminator_that_couples_a_batch(tiny):
    network = "{'name': 'dcgan.Discriminator', 'widths': (8, 8), 'batch_norm': True}"
    config = tiny(f"discriminator={network}", "regularizers={'zcr': {}}", "penalties={}")
    with jax.enable_x64(False), pytest.raises(InputError, match="without batch statistics"):
        make_experiment(config, "tiny")


def test_every_discriminator_has_its_own_regularizer():
    make = make_regularizers({"lecam": {"weight": 0.1}})["lecam"]
    assert make() is not make() and make().weight == 0.1


def _match(labels, logits):
    """Returns the values of `matching` where images have these logits for these conditions."""
    inputs = _inputs()._replace(
        labels=labels,
        real_output=DiscriminatorOutput(logits(labels)),
        discriminate=lambda images, labels: DiscriminatorOutput(logits(labels)),
    )
    return matching(2.0)().apply({}, inputs, _keys(), method="discriminator")


def test_matching_compares_each_condition_with_that_of_the_next_example():
    vectors = RANDOM.normal(size=(BATCH, 3))
    vectors[2] = vectors[1]
    values = _match(jnp.asarray(vectors), lambda labels: labels.sum(axis=1))
    right, wrong = vectors.sum(axis=1), np.roll(vectors, -1, axis=0).sum(axis=1)
    expected = 2 * np.log1p(np.exp(wrong - right))
    # The next example has the same condition.
    expected[1] = 0
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_matching_takes_classes_and_sentences():
    labels = jnp.arange(BATCH) // 2
    values = _match(labels, lambda labels: labels.astype(float))
    assert [bool(value) for value in values] == [place % 2 == 1 for place in range(BATCH)]
    words, mask = jnp.ones((BATCH, 2, 3)), jnp.ones((BATCH, 2), bool)
    sentences = SentenceCondition(jnp.zeros((BATCH, 3)), words.at[0].set(2), mask)
    values = _match(sentences, lambda labels: labels.words[:, 0, 0])
    # Only the first sentence, and the last, which is followed by the first, have another after it.
    assert [bool(value) for value in values] == [True, *[False] * (BATCH - 2), True]


def test_auxiliary_predicts_the_vectors_of_sentences():
    vectors = RANDOM.normal(size=(BATCH, CLASSES))
    sentences = SentenceCondition(vectors, np.ones((BATCH, 2, 3)), np.ones((BATCH, 2), bool))
    for labels in (vectors, sentences):
        inputs = _inputs()._replace(labels=labels)
        values = auxiliary(2.0)().apply({}, inputs, _keys(), method="generator")
        error = (np.asarray(inputs.fake_output.class_logits) - vectors) ** 2
        np.testing.assert_allclose(values, 2 * error.mean(axis=1), rtol=1e-10)


def test_matching_needs_conditions():
    output = DiscriminatorOutput(jnp.zeros(2), jnp.zeros((2, 3)))
    with pytest.raises(InputError, match=r"matching needs config.conditional=True"):
        matching()().apply({}, output, None)


def test_mode_seeking_is_the_inverse_ratio_of_differences():
    values = _values(mode_seeking(3.0), "generator")
    others = np.array([jax.random.normal(key, (LATENT,), jnp.float64) for key in _keys()])
    of_latents = np.abs(LATENTS - others).mean(axis=1)
    difference = np.abs(_generate(LATENTS) - _generate(others)).reshape(BATCH, -1).mean(axis=1)
    np.testing.assert_allclose(values, 3 / (difference / of_latents + 1e-5), rtol=1e-6)
    assert _values(mode_seeking(), "discriminator") is None
