"""Regularizers: the contract of all, and each against NumPy in float64."""

import functools
import inspect
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
import sklearn.metrics

from gaxn.distributed import axis, sharding
from gaxn.experiment import make_experiment
from gaxn.experiment.objective import make_regularizers
from gaxn.models import attn_cgan, cyclegan, dcgan, mlp, sagan, sagan_resnet, transformer_gan
from gaxn.objectives import augmentations, regularizers
from gaxn.objectives.losses import hinge
from gaxn.objectives.objective import make_objective, sown_features
from gaxn.objectives.regularizers import (
    ImageFeatures,
    Regularizer,
    RegularizerInputs,
    auxiliary,
    bcr,
    feature_matching,
    lecam,
    matching,
    mode_seeking,
    perceptual,
    zcr,
)
from gaxn.training.step import compute_gradients
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
FEATURES = RANDOM.normal(size=(SIDE * SIDE, 5))
LATENTS, IMAGES = RANDOM.normal(size=(BATCH, LATENT)), RANDOM.normal(size=(BATCH, SIDE, SIDE, 1))


def _generate(latents):
    return (latents @ GENERATOR).reshape(-1, SIDE, SIDE, 1)


def _discriminate(images, labels=None):
    flat = images.reshape(len(images), -1)
    return DiscriminatorOutput(flat @ DISCRIMINATOR, flat @ CLASSIFIER)


def _features(images, labels=None):
    return images.reshape(len(images), -1) @ FEATURES


EXTRACTOR = ImageFeatures(_features, lambda a, b: jnp.abs(a - b).sum(axis=(1, 2, 3)))


def _inputs(step=0):
    real, fake = jnp.asarray(IMAGES), jnp.asarray(_generate(LATENTS))
    return RegularizerInputs(
        real=real,
        fake=fake,
        real_output=_discriminate(real),
        fake_output=_discriminate(fake),
        labels=jnp.asarray(LABELS),
        discriminate=_discriminate,
        generator_inputs=jnp.asarray(LATENTS),
        generated=fake,
        generate=_generate,
        step=jnp.int32(step),
        augment=lambda images: 2 * images,
        discriminator_features=_features,
        originals=real,
        pairs={},
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
    parts = {bcr: {"augmentations": (_scale,)}, perceptual: {"extractor": EXTRACTOR}}
    options = parts.get(make, {})
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
    return make_experiment(config, "tiny", sharding.jit_parallelism(jax.devices()[:1]))


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
        fields = (
            [f"discriminator={network}"]
            if is_dcgan
            else ["discriminator.auxiliary=True", "discriminator.projection=False"]
        )
        fields += ["generator.widths=(8,)", "generator.attention_at=()"]
        experiment = _experiment(tiny(*fields))
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
    "no extractor": (
        {"perceptual": {}},
        "config.regularizers.perceptual.extractor is missing",
    ),
    "an extractor without a dict": (
        {"perceptual": {"extractor": "vgg"}},
        "config.regularizers.perceptual.extractor must be a dict with a name, such as "
        "{'name': 'vgg'}, got 'vgg'",
    ),
    "no such extractor": (
        {"perceptual": {"extractor": {"name": "vvg"}}},
        "config.regularizers.perceptual.extractor.name must be one of vgg, .* got 'vvg'",
    ),
    "an option of an extractor": (
        {"perceptual": {"extractor": {"name": "pixels", "weights": "x"}}},
        "config.regularizers.perceptual.extractor.weights is unknown",
    ),
    "an extractor of other images": (
        {"perceptual": {"extractor": {"name": "classifier", "weights": "mnist"}}},
        "the number of channels must be 1 for the extractor .*, got 3",
    ),
    "a weight of identity": (
        {"perceptual": {"extractor": {"name": "pixels"}, "identity": -1.0}},
        "config.regularizers.perceptual.identity must be 0 or more, got -1.0",
    ),
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
    make = make_regularizers({"lecam": {"weight": 0.1}}, None)["lecam"]
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


def test_feature_matching_is_the_squared_difference_of_mean_features():
    values = _values(feature_matching(0.3), "generator")
    real, fake = (_features(x).mean(axis=0) for x in (IMAGES, _generate(LATENTS)))
    np.testing.assert_allclose(values, [0.3 * ((real - fake) ** 2).sum()] * BATCH, rtol=1e-10)
    assert _values(feature_matching(), "discriminator") is None


def test_perceptual_compares_means_and_variances_of_features():
    values = _values(perceptual(EXTRACTOR, 0.3), "generator")
    real, fake = (_features(x) for x in (IMAGES, _generate(LATENTS)))
    expected = ((real.mean(axis=0) - fake.mean(axis=0)) ** 2).sum()
    expected += ((real.var(axis=0) - fake.var(axis=0)) ** 2).sum()
    np.testing.assert_allclose(values, [0.3 * expected] * BATCH, rtol=1e-10)
    assert _values(perceptual(EXTRACTOR), "discriminator") is None


@pytest.mark.parametrize(("identity", "names"), [(0.25, {"cycle", "identity"}), (0.0, {"cycle"})])
def test_perceptual_is_a_distance_of_pairs_where_there_are_some(identity, names):
    pairs = {name: RANDOM.normal(size=(2, *IMAGES.shape)) for name in names}
    inputs = _inputs()._replace(pairs={name: tuple(pair) for name, pair in pairs.items()})
    values = perceptual(EXTRACTOR, 2.0, identity)().apply({}, inputs, _keys(), method="generator")
    distances = {name: np.abs(a - b).sum(axis=(1, 2, 3)) for name, (a, b) in pairs.items()}
    expected = 2 * (distances["cycle"] + identity * distances.get("identity", 0))
    np.testing.assert_allclose(values, expected, rtol=1e-10)


def test_means_over_devices_have_the_gradient_of_the_mean_over_the_batch():
    images = jnp.asarray(RANDOM.normal(size=(8, SIDE, SIDE, 1)))
    real = jnp.asarray(RANDOM.normal(size=(8, SIDE, SIDE, 1)))

    def loss(scale, real, images):
        inputs = _inputs()._replace(originals=real, generated=scale * images)
        return perceptual(EXTRACTOR)().apply({}, inputs, None, method="generator").mean()

    expected = jax.grad(loss)(2.0, real, images)
    shares = [x.reshape(4, 2, *x.shape[1:]) for x in (real, images)]
    gradients = jax.pmap(
        lambda *inputs: axis.mean_over_devices(jax.grad(loss)(2.0, *inputs)), axis.DATA
    )(*shares)
    np.testing.assert_allclose(gradients, [expected] * 4, rtol=1e-10)


@pytest.mark.parametrize(
    "network",
    [
        dcgan.Discriminator(None, (4, 4)),
        attn_cgan.Discriminator(None, (4, 4), (), hidden=8, spectral_norm=False),
        sagan.Discriminator(None, (4, 4), (), spectral_norm=False),
        sagan_resnet.Discriminator(None, (4, 4), (), spectral_norm=False, last=4),
        transformer_gan.Discriminator(None, 8, 8, 1, 2, hidden=6),
        mlp.Discriminator((6,), 2),
    ],
    ids=lambda network: type(network).__module__.rpartition(".")[2],
)
def test_logits_are_linear_in_the_features_that_a_discriminator_sows(network):
    images = RANDOM.uniform(-1, 1, (3, 16, 16, 3))
    images = images[:, 0, 0] if isinstance(network, mlp.Discriminator) else images
    variables = networks.draw_variables(network, images, None, True)
    logits, sown = jax.jit(
        lambda variables: network.apply(variables, images, None, False, mutable=["intermediates"])
    )(variables)
    # Biases are 0. The kernel of the last layer is the only one with one output.
    leaves = jax.tree.leaves(variables["params"])
    (kernel,) = (leaf for leaf in leaves if leaf.shape[1:] == (1,))
    expected = np.asarray(sown_features(sown)) @ kernel[:, 0]
    np.testing.assert_allclose(logits, expected, rtol=1e-6)
    assert np.abs(expected).min() > 0


def test_features_of_a_map_are_means_and_those_of_scales_stand_side_by_side():
    images = RANDOM.uniform(-1, 1, (2, 32, 32, 3))
    for network, length in (
        (cyclegan.Discriminator(4, 2, attention=False), 16),
        (sagan.Discriminator(None, (4, 4), (), scales=2), 4 * (8 * 8 + 4 * 4)),
    ):
        inputs = {"images": images, "labels": None, "train": True}
        initialize = functools.partial(network.init, mutable=True, **inputs)
        shapes = jax.eval_shape(initialize, jax.random.key(0))
        assert jax.eval_shape(sown_features, shapes).shape == (2, length)
    sown = {"intermediates": {"features": (IMAGES,)}}
    np.testing.assert_allclose(sown_features(sown), IMAGES.mean(axis=(1, 2)), rtol=1e-12)


def test_a_discriminator_without_features_is_refused():
    class Silent(nn.Module):
        @nn.compact
        def __call__(self, images, labels, train):
            return nn.Dense(1)(images.reshape(len(images), -1))[:, 0]

    objective = make_objective(hinge(), {}, {"feature_matching": feature_matching()}, ())
    with pytest.raises(InputError, match="needs a discriminator that sows intermediates/features"):
        objective(Silent()).init(jax.random.key(0), IMAGES, None)


def test_a_run_that_is_only_sampled_loads_no_extractor(monkeypatch):
    spec = {"perceptual": {"extractor": {"name": "vgg", "weights": "nowhere"}}, "lecam": {}}
    assert make_regularizers(spec, None).keys() == {"lecam"}
    with pytest.raises(InputError, match="the weights of a VGG must be package"):
        make_regularizers(spec, (32, 32, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    "extractor", ["{'name': 'pixels'}", "{'name': 'classifier', 'weights': 'shapes'}"]
)
def test_the_generator_learns_from_an_extractor(tiny, extractor):
    """Compares the term with the moments of samples, and finds it in the gradient."""
    with jax.enable_x64(False):
        option = f"regularizers={{'perceptual': {{'extractor': {extractor}, 'weight': 100.0}}}}"
        # Before the first step, gamma keeps attention out of the gradient.
        common = "generator.attention_at=()"
        plain, with_term = (_experiment(tiny(common, *more)) for more in ((), (option,)))
        state = plain.create_state(plain.key)
        batch = jax.tree.map(lambda leaf: leaf[0], plain.batches(0))

        @functools.partial(jax.jit, static_argnums=0)
        def gradient(gan):
            update = plain.updates[1]
            inputs = gan, update, state, batch, jax.random.key(1)
            gradients = compute_gradients(*inputs)
            return gradients.gradient, gradients.scalars

        (before, _), (after, scalars) = gradient(plain.gan), gradient(with_term.gan)
        assert scalars["g/perceptual"] > 0
        pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        assert all(np.abs(a - b).max() > 0 for a, b in pairs if a.ndim > 1)
