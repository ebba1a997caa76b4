"""Regularizers: the folder's contract, and each against NumPy in float64."""

import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from gaxn import parts
from gaxn.build import build
from gaxn.distributed import sharding
from gaxn.objectives import regularizers
from gaxn.objectives.regularizers import RegularizerInputs, auxiliary, bcr, lecam, zcr
from gaxn.types import InputError, DiscriminatorOutput

pytestmark = pytest.mark.usefixtures("float64")

FILES = [
    importlib.import_module(found.name)
    for found in pkgutil.iter_modules(regularizers.__path__, "gaxn.objectives.regularizers.")
]
BATCH, LATENT, SIDE, CLASSES = 6, 3, 2, 4
LABELS = np.array([0, 3, 1, 1, 2, 0])
RANDOM = np.random.default_rng(0)
MAKER = RANDOM.normal(size=(LATENT, SIDE * SIDE))
CRITIC = RANDOM.normal(size=SIDE * SIDE)
NAMER = RANDOM.normal(size=(SIDE * SIDE, CLASSES))
LATENTS, IMAGES = RANDOM.normal(size=(BATCH, LATENT)), RANDOM.normal(size=(BATCH, SIDE, SIDE, 1))


def _generate(latents):
    return (latents @ MAKER).reshape(-1, SIDE, SIDE, 1)


def _judge(images):
    flat = images.reshape(len(images), -1)
    return DiscriminatorOutput(flat @ CRITIC, flat @ NAMER)


def _view(**other):
    fake = _generate(LATENTS)
    return RegularizerInputs(
        **{
            "real": jnp.asarray(IMAGES),
            "fake": jnp.asarray(fake),
            "real_verdict": _judge(jnp.asarray(IMAGES)),
            "fake_verdict": _judge(jnp.asarray(fake)),
            "labels": jnp.asarray(LABELS),
            "judge": _judge,
            "inputs": jnp.asarray(LATENTS),
            "generate": _generate,
            "show": lambda images: 2 * images,
            **other,
        }
    )


def _keys():
    return jax.random.split(jax.random.key(0), BATCH)


def _scaled(images, keys):
    """An augmentation: each image times a number of its own key."""
    return images * jax.vmap(jax.random.uniform)(keys)[:, None, None, None]


def _found(regularizer, player, view):
    variables = regularizer.init(jax.random.key(0), view.real_verdict, view.labels)
    return regularizer.apply(variables, view, _keys(), method=player, mutable=True)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.split(".")[-1])
def test_each_adds_a_value_an_example_to_one_side_or_both(file):
    options = {"augment": _scaled} if file is bcr else {}
    found = [
        _found(file.Regularizer(**options), side, _view())[0]
        for side in ("discriminator", "generator")
    ]
    there = [values for values in found if values is not None]
    assert there
    for values in there:
        assert values.shape == (BATCH,) and values.any() and np.isfinite(values).all()


def test_bcr_is_the_squared_difference_that_an_augmentation_makes():
    values, _ = _found(bcr.Regularizer(_scaled, 3.0, 0.5), "discriminator", _view())
    pairs = jax.vmap(jax.random.split)(_keys())
    expected = 0
    for side, (weight, images) in enumerate(((3.0, IMAGES), (0.5, _generate(LATENTS)))):
        scale = np.array([float(jax.random.uniform(pair[side])) for pair in pairs])
        logits = images.reshape(BATCH, -1) @ CRITIC
        expected = expected + weight * (logits - scale * logits) ** 2
    np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_zcr_moves_the_latent():
    regularizer = zcr.Regularizer(2.0, 0.7, 0.1)
    noise = 0.1 * np.array([jax.random.normal(key, (LATENT,)) for key in _keys()])
    # The view's fake images are shown as they are, and moved ones doubled.
    logits, moved = (latents @ MAKER @ CRITIC for latents in (LATENTS, LATENTS + noise))
    values, _ = _found(regularizer, "discriminator", _view())
    np.testing.assert_allclose(values, 2.0 * (logits - 2 * moved) ** 2, rtol=1e-10)
    values, _ = _found(regularizer, "generator", _view())
    np.testing.assert_allclose(values, -0.7 * ((noise @ MAKER) ** 2).mean(axis=1), rtol=1e-10)


def test_auxiliary_is_the_cross_entropy_of_the_labels():
    view = _view()
    losses = []
    for verdict in (view.real_verdict, view.fake_verdict):
        shares = np.exp(np.asarray(verdict.class_logits))
        shares /= shares.sum(axis=1, keepdims=True)
        losses.append(sklearn.metrics.log_loss(LABELS, shares))
    for options, player, expected in (
        ({"weight": 2.0}, "discriminator", 2 * sum(losses)),
        ({"fake": False}, "discriminator", losses[0]),
        ({"weight": 0.5}, "generator", losses[1] / 2),
    ):
        values, _ = _found(auxiliary.Regularizer(**options), player, view)
        np.testing.assert_allclose(values.mean(), expected, rtol=1e-10)


def test_lecam_holds_each_side_to_the_other_sides_running_mean():
    regularizer = lecam.Regularizer(0.3, 0.9)
    view, anchors = _view(), np.zeros(2)
    variables = regularizer.init(jax.random.key(0), view.real_verdict, view.labels)
    real, fake = (np.asarray(verdict.logits) for verdict in (view.real_verdict, view.fake_verdict))
    for _ in range(3):
        values, variables = regularizer.apply(
            variables, view, _keys(), method="discriminator", mutable=True
        )
        anchors = 0.9 * anchors + 0.1 * np.array([real.mean(), fake.mean()])
        expected = 0.3 * ((real - anchors[1]) ** 2 + (fake - anchors[0]) ** 2)
        np.testing.assert_allclose(values, expected, rtol=1e-6)
    np.testing.assert_allclose(variables["lecam"]["anchors"], anchors, rtol=1e-6)


def test_what_is_kept_belongs_to_the_discriminator(ring):
    with jax.enable_x64(False):
        lecam = "regularizers={'lecam': {'weight': 0.3}}"
        config = ring(lecam, "population=1", variant="gan+tiny")
        experiment = build(config, "tiny", sharding.jitted(jax.devices()[:1]))
        state, anchors = experiment.create(experiment.key), np.zeros(2)
        step = jax.jit(experiment.step)
        for index in range(2):
            state, scalars = step(state, experiment.feed(index), experiment.key)
            anchors = 0.99 * anchors + 0.01 * np.array([scalars["d/real"], scalars["d/fake"]])
            (found,) = jax.tree.leaves(state.collections["lecam"]["discriminator_objective"])
            np.testing.assert_allclose(found, anchors, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("player", ["dcgan", "attn_cgan"])
def test_a_discriminator_that_names_classes_does_not_see_them(tiny, player):
    with jax.enable_x64(False):
        own = "{'name': 'dcgan.Discriminator', 'widths': (8, 8), 'auxiliary': True}"
        option = f"discriminator={own}" if player == "dcgan" else "discriminator.auxiliary=True"
        small = ("generator.widths=(8,)", "generator.attention_at=()")
        experiment = build(tiny(option, *small), "tiny", sharding.jitted(jax.devices()[:1]))
        state = experiment.create(experiment.key)
        images = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
        variables = {"params": state.params, **state.collections}
        judged = jax.jit(
            lambda labels: experiment.game.apply(
                variables,
                images,
                labels,
                False,
                method=lambda game, *of: game.discriminator(*of),
            )
        )
        verdicts = [judged(np.full(3, label)) for label in (0, 2)]
        np.testing.assert_array_equal(verdicts[0].logits, verdicts[1].logits)
        assert verdicts[0].class_logits.shape == (3, 3) and verdicts[0].class_logits.std() > 0


WRONG = {
    "an unknown option": ({"lecam": {"weights": 1.0}}, "config.regularizers.lecam.weights is"),
    "no dict": ({"lecam": 1.0}, "config.regularizers.lecam is 1.0"),
    "no augmentation": ({"bcr": {}}, "config.regularizers.bcr.augmentations is None"),
    "a wrong augmentation": (
        {"bcr": {"augmentations": {"cutuot": {}}}},
        "config.augmentations.cutuot.*cutout",
    ),
    "no such file": ({"cr": {}}, "config.regularizers.cr is"),
    "a weight": ({"lecam": {"weight": -1.0}}, "config.regularizers.lecam.weight is -1.0"),
    "a decay": ({"lecam": {"decay": 1.0}}, "config.regularizers.lecam.decay is 1.0"),
    "no deviation": ({"zcr": {"deviation": 0.0}}, "config.regularizers.zcr.deviation is 0.0"),
    "no head": ({"auxiliary": {}}, "config.discriminator.auxiliary=True"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_one_line(tiny, name):
    spec, message = WRONG[name]
    config = tiny()
    config.regularizers = spec
    with jax.enable_x64(False), pytest.raises(InputError, match=message):
        build(config, "tiny")


def test_consistency_refuses_a_discriminator_that_couples_a_batch(tiny):
    own = "{'name': 'dcgan.Discriminator', 'widths': (8, 8), 'batch_norm': True}"
    config = tiny(f"discriminator={own}", "regularizers={'zcr': {}}", "penalties={}")
    with jax.enable_x64(False), pytest.raises(InputError, match="without batch statistics"):
        build(config, "tiny")


def test_every_discriminator_has_its_own():
    _, make = parts.make_regularizer("lecam", {"weight": 0.1})
    assert make() is not make() and make().weight == 0.1
