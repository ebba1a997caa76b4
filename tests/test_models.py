"""The attention cGAN's two players: shapes, sizes, attention, labels, no coupled examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn.models.attn_cgan import Discriminator, Generator
from gaxn.nn.conditioning import LabelMap, Projection
from gaxn.types import InputError

LATENT, BATCH, CLASSES = 5, 3, 4
LABELS = np.array([0, 3, 1], np.int32)


def _latents():
    return jax.random.normal(jax.random.key(1), (BATCH, LATENT))


def _images(size=32, channels=3):
    return jax.random.uniform(jax.random.key(2), (BATCH, size, size, channels), minval=-1)


def _generator(size=32, channels=3, classes=CLASSES, widths=(16, 8), attention_at=(16,), **more):
    return Generator(size, channels, classes, widths, attention_at, **more)


def _discriminator(classes=CLASSES, widths=(8, 16), attention_at=(16,), **more):
    return Discriminator(classes, widths, attention_at, **more)


def _labels(player):
    return None if player.classes is None else LABELS


def _initialise(player, x, seed=0):
    return jax.jit(lambda key: player.init(key, x, _labels(player), True))(jax.random.key(seed))


def _count(player, x):
    params = jax.eval_shape(lambda: player.init(jax.random.key(0), x, _labels(player), True))
    return sum(leaf.size for leaf in jax.tree.leaves(params["params"]))


@pytest.mark.parametrize("classes", [CLASSES, None])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("size, channels, attention_at", [(32, 3, (16,)), (28, 1, (14, 28))])
def test_the_generator_gives_images_in_range(size, channels, attention_at, transposed, classes):
    generator = _generator(
        size, channels, classes, attention_at=attention_at, transposed=transposed, heads=2
    )
    variables = _initialise(generator, _latents())
    for train in (False, True):
        images, _ = generator.apply(
            variables, _latents(), _labels(generator), train, mutable=["batch_stats"]
        )
        assert images.shape == (BATCH, size, size, channels)
        assert images.dtype == jnp.float32
        assert np.abs(images).max() <= 1
        assert images.std(axis=0).max() > 0.01


@pytest.mark.parametrize("classes", [CLASSES, None])
@pytest.mark.parametrize("projection", [True, False])
@pytest.mark.parametrize("size, channels, attention_at", [(32, 3, (16,)), (28, 1, (14,))])
def test_the_discriminator_gives_a_logit_an_image(
    size, channels, attention_at, projection, classes
):
    discriminator = _discriminator(classes, attention_at=attention_at, projection=projection)
    images = _images(size, channels)
    variables = _initialise(discriminator, images)
    assert set(variables) == {"params", "spectral"}
    logits = discriminator.apply(variables, images, _labels(discriminator), False)
    assert logits.shape == (BATCH,)
    assert logits.dtype == jnp.float32
    assert np.isfinite(logits).all() and logits.std() > 0


def _players(attention_at=(16,)):
    return [
        pytest.param(_generator(attention_at=attention_at), _latents, id="generator"),
        pytest.param(_discriminator(attention_at=attention_at), _images, id="discriminator"),
    ]


@pytest.mark.parametrize("player, draw", _players())
def test_attention_of_gamma_zero_is_not_there(player, draw):
    x = draw()
    variables = _initialise(player, x)
    lesser = {
        collection: {name: leaf for name, leaf in tree.items() if name != "attention_16"}
        for collection, tree in variables.items()
    }
    y = player.apply(variables, x, LABELS, False)
    np.testing.assert_array_equal(y, player.clone(attention_at=()).apply(lesser, x, LABELS, False))
    variables["params"]["attention_16"]["gamma"] = jnp.asarray(1.0)
    assert (y != player.apply(variables, x, LABELS, False)).any()


@pytest.mark.parametrize("player, draw", _players())
@pytest.mark.parametrize("resolution", [4, 12, 64])
def test_attention_at_a_resolution_that_is_not_there_is_refused(player, draw, resolution):
    with pytest.raises(InputError, match=f"attention_at has {resolution}"):
        _count(player.clone(attention_at=(16, resolution)), draw())


@pytest.mark.parametrize("player, draw", _players())
@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_a_resolution_has_its_attention_or_is_refused(player, draw, resolution):
    player = player.clone(attention_at=(resolution,))
    try:
        count = _count(player, draw())
    except InputError:
        return
    assert count > _count(player.clone(attention_at=()), draw())


@pytest.mark.parametrize("player", [_generator(size=30), _discriminator(attention_at=())])
def test_a_size_that_does_not_halve_is_refused(player):
    x = _latents() if isinstance(player, Generator) else _images(30)
    with pytest.raises(InputError, match="widths has 2 entries"):
        _count(player, x)


ATTENTION = {width: 2 * width * (width // 8) + 2 * width * width + 1 for width in (8, 16)}
GENERATOR = (
    (LATENT + 32) * 8 * 8 * 16  # dense layer, of the latent and the label's embedding
    + 2 * 16
    + 4 * 4 * 16 * 16  # 8 -> 16
    + 2 * 16
    + 4 * 4 * 16 * 8  # 16 -> 32
    + 2 * 8
    + 3 * 3 * 8 * 3
    + 3
)
TRUNK = 8 + 4 * 4 * 8 * 16 + 16 + 8 * 8 * 16 + 1


@pytest.mark.parametrize(
    "player, draw, expected",
    [
        (_generator(), _latents, GENERATOR + CLASSES * 32 + ATTENTION[16]),
        (_generator(attention_at=()), _latents, GENERATOR + CLASSES * 32),
        (
            _generator(attention_at=(), transposed=False),
            _latents,
            GENERATOR + CLASSES * 32 - (16 - 9) * (16 * 16 + 16 * 8),
        ),
        (_generator(classes=None, attention_at=()), _latents, GENERATOR - 32 * 8 * 8 * 16),
        (_discriminator(), _images, 4 * 4 * 4 * 8 + CLASSES * 32 * 32 + TRUNK + ATTENTION[8]),
        (
            _discriminator(projection=True, attention_at=()),
            _images,
            4 * 4 * 3 * 8 + CLASSES * 8 * 8 * 16 + TRUNK,
        ),
        (_discriminator(classes=None, attention_at=()), _images, 4 * 4 * 3 * 8 + TRUNK),
        (
            _discriminator(classes=None, attention_at=(), spectral_norm=False),
            _images,
            4 * 4 * 3 * 8 + TRUNK,
        ),
    ],
)
def test_the_number_of_parameters(player, draw, expected):
    assert _count(player, draw()) == expected


@pytest.mark.parametrize("projection", [True, False])
def test_the_logit_depends_on_the_label(projection):
    discriminator = _discriminator(projection=projection)
    images = _images()
    variables = _initialise(discriminator, images)
    other = np.array([0, 1, 2], np.int32)
    logits, changed = (
        discriminator.apply(variables, images, labels, False) for labels in (LABELS, other)
    )
    np.testing.assert_allclose(changed[0], logits[0], atol=1e-6)
    assert (np.abs(changed - logits)[1:] > 1e-4).all()


def test_the_image_depends_on_the_label():
    generator = _generator()
    variables = _initialise(generator, _latents())
    images, changed = (
        generator.apply(variables, _latents(), labels, False)
        for labels in (LABELS, np.array([0, 1, 2], np.int32))
    )
    differences = np.abs(images - changed).max(axis=(1, 2, 3))
    assert differences[0] < 1e-6
    assert (differences[1:] > 1e-3).all()


@pytest.mark.parametrize("train", [False, True])
def test_no_logit_depends_on_another_image(train):
    discriminator = _discriminator()
    images = _images()
    variables = _initialise(discriminator, images)
    variables["params"]["attention_16"]["gamma"] = jnp.asarray(1.0)
    logits, changed = (
        discriminator.apply(variables, x, LABELS, train, mutable=["spectral"])[0]
        for x in (images, images.at[1].multiply(-1))
    )
    assert abs(changed[1] - logits[1]) > 1e-3
    np.testing.assert_allclose(changed[[0, 2]], logits[[0, 2]], atol=1e-6)


def test_the_label_map_is_the_embedding_as_a_channel():
    layer = LabelMap(CLASSES)
    images = _images(8)
    variables = layer.init(jax.random.key(0), images, LABELS)
    (embedding,) = jax.tree.leaves(variables)
    result = layer.apply(variables, images, LABELS)
    np.testing.assert_array_equal(result[..., :3], images)
    np.testing.assert_array_equal(result[..., 3].reshape(BATCH, -1), embedding[LABELS])


def test_the_projection_is_an_inner_product():
    layer = Projection(CLASSES)
    features = jax.random.normal(jax.random.key(0), (BATCH, 6))
    variables = layer.init(jax.random.key(1), features, LABELS, False)
    (embedding,) = jax.tree.leaves(variables["params"])
    expected = [embedding[label] @ feature for label, feature in zip(LABELS, features, strict=True)]
    # Float32, six products.
    np.testing.assert_allclose(
        layer.apply(variables, features, LABELS, False), expected, rtol=1e-5, atol=1e-6
    )
