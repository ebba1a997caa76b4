"""The attention cGAN's two players: shapes, sizes, attention, labels, no coupled examples."""

import jax
import jax.numpy as jnp
import numpy as np
import players
import pytest

from gaxn.models.attn_cgan import Discriminator, Generator
from gaxn.nn.conditioning import LabelMap, Projection
from gaxn.nn.coordinates import coordinates
from gaxn.nn.norms import ModulatedBatchNorm
from gaxn.nn.resampling import ResizedConvolution, TransposedConvolution
from gaxn.types import InputError


def _generator(
    size=32, channels=3, classes=players.CLASSES, widths=(16, 8), attention_at=(16,), **more
):
    return Generator(size, channels, classes, widths, attention_at, **more)


def _discriminator(classes=players.CLASSES, widths=(8, 16), attention_at=(16,), **more):
    return Discriminator(classes, widths, attention_at, **more)


@pytest.mark.parametrize(
    "size, channels, train, options",
    [
        (32, 3, False, {"transposed": True}),
        (32, 1, True, {"transposed": False, "modulated": True, "coordinates": True}),
        (28, 3, True, {"classes": None, "attention_at": (14,), "heads": 2, "attention_pool": 2}),
        (28, 1, False, {"classes": None, "attention_at": (), "modulated": True}),
        (30, 3, True, {"attention_at": (15,), "coordinates": True}),
        (30, 3, True, {"attention_at": (30,), "transposed": False, "coordinates": True}),
    ],
)
def test_the_generator_gives_images_in_range(size, channels, train, options):
    players.check_images(_generator(size, channels, **options), size, channels, train)


@pytest.mark.parametrize(
    "size, channels, options",
    [
        (32, 3, {"projection": True, "hidden": 12}),
        (28, 1, {"attention_at": (14,), "heads": 2, "attention_pool": 2}),
        (28, 3, {"classes": None, "attention_at": (), "spectral_norm": False}),
        (30, 3, {"attention_at": (15, 8), "projection": True}),
    ],
)
def test_the_discriminator_gives_a_logit_an_image(size, channels, options):
    discriminator = _discriminator(**options)
    normalised = {"spectral"} if discriminator.spectral_norm else set()
    players.check_logits(
        discriminator, players.draw_images(size, channels), {"params"} | normalised
    )


def _players(attention_at=(16,)):
    return [
        pytest.param(_generator(attention_at=attention_at), players.draw_latents, id="generator"),
        pytest.param(
            _discriminator(attention_at=attention_at), players.draw_images, id="discriminator"
        ),
    ]


@pytest.mark.parametrize("player, draw", _players())
def test_attention_of_gamma_zero_is_not_there(player, draw):
    x = draw()
    variables = players.initialise(player, x)
    lesser = {
        collection: {name: leaf for name, leaf in tree.items() if name != "attention_16"}
        for collection, tree in variables.items()
    }
    y = np.asarray(players.run(player, variables, x, players.LABELS, False))
    without = players.run(player.clone(attention_at=()), lesser, x, players.LABELS, False)
    np.testing.assert_array_equal(y, without)
    variables["params"]["attention_16"]["gamma"] = np.float32(1)
    assert np.abs(y - players.run(player, variables, x, players.LABELS, False)).max() > 1e-3


@pytest.mark.parametrize("player, draw", _players())
@pytest.mark.parametrize("resolution", [4, 12, 64])
def test_attention_at_a_resolution_that_is_not_there_is_refused(player, draw, resolution):
    with pytest.raises(InputError, match=f"attention_at has {resolution}"):
        players.count(player.clone(attention_at=(16, resolution)), draw())


@pytest.mark.parametrize("player, draw", _players())
@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_a_resolution_has_its_attention_or_is_refused(player, draw, resolution):
    player = player.clone(attention_at=(resolution,))
    try:
        own = players.count(player, draw())
    except InputError:
        return
    assert own > players.count(player.clone(attention_at=()), draw())


@pytest.mark.parametrize("player", [_generator(size=2), _discriminator(attention_at=())])
def test_a_size_that_cannot_be_halved_so_often_is_refused(player):
    x = players.draw_latents() if isinstance(player, Generator) else players.draw_images(2)
    with pytest.raises(InputError, match="widths has 2 entries"):
        players.count(player, x)


ATTENTION = {width: 2 * width * (width // 8) + 2 * width * width + 1 for width in (8, 16)}
GENERATOR = (
    (players.LATENT + 32) * 8 * 8 * 16  # dense layer, of the latent and the label's embedding
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
        (_generator(), players.draw_latents, GENERATOR + players.CLASSES * 32 + ATTENTION[16]),
        (_generator(attention_at=()), players.draw_latents, GENERATOR + players.CLASSES * 32),
        (
            _generator(attention_at=(), transposed=False),
            players.draw_latents,
            GENERATOR + players.CLASSES * 32 - (16 - 9) * (16 * 16 + 16 * 8),
        ),
        (
            _generator(classes=None, attention_at=()),
            players.draw_latents,
            GENERATOR - 32 * 8 * 8 * 16,
        ),
        (
            _generator(classes=None, attention_at=(), modulated=True, coordinates=True),
            players.draw_latents,
            GENERATOR
            - 32 * 8 * 8 * 16
            + 2 * (players.LATENT + 1) * (16 + 16 + 8)  # a gain and a bias for each channel
            + 2 * (4 * 4 * 16 + 4 * 4 * 8),  # two more channels
        ),
        (
            _discriminator(),
            players.draw_images,
            4 * 4 * 4 * 8 + players.CLASSES * 32 * 32 + TRUNK + ATTENTION[8],
        ),
        (
            _discriminator(projection=True, attention_at=()),
            players.draw_images,
            4 * 4 * 3 * 8 + players.CLASSES * 8 * 8 * 16 + TRUNK,
        ),
        (_discriminator(classes=None, attention_at=()), players.draw_images, 4 * 4 * 3 * 8 + TRUNK),
        (
            _discriminator(projection=True, attention_at=(), hidden=12),
            players.draw_images,
            # The logit and the labels are projections of the hidden layer.
            4 * 4 * 3 * 8 + TRUNK + (8 * 8 * 16 + 1) * 12 + (1 + players.CLASSES) * 12 - 8 * 8 * 16,
        ),
        (
            _discriminator(classes=None, attention_at=(), spectral_norm=False),
            players.draw_images,
            4 * 4 * 3 * 8 + TRUNK,
        ),
    ],
)
def test_the_number_of_parameters(player, draw, expected):
    assert players.count(player, draw()) == expected


@pytest.mark.parametrize("projection, hidden", [(True, 0), (True, 12), (False, 0), (False, 12)])
def test_the_logit_depends_on_the_label(projection, hidden):
    discriminator = _discriminator(projection=projection, hidden=hidden)
    images = players.draw_images()
    variables = players.initialise(discriminator, images)
    other = players.OTHER_LABELS
    logits, changed = (
        np.asarray(players.run(discriminator, variables, images, labels, False))
        for labels in (players.LABELS, other)
    )
    np.testing.assert_allclose(changed[0], logits[0], atol=1e-6)
    assert (np.abs(changed - logits)[1:] > 1e-4).all()


def test_the_image_depends_on_the_label():
    generator = _generator()
    variables = players.initialise(generator, players.draw_latents())
    images, changed = (
        np.asarray(players.run(generator, variables, players.draw_latents(), labels, False))
        for labels in (players.LABELS, players.OTHER_LABELS)
    )
    differences = np.abs(images - changed).max(axis=(1, 2, 3))
    assert differences[0] < 1e-6
    assert (differences[1:] > 1e-3).all()


@pytest.mark.parametrize("train", [False, True])
def test_no_logit_depends_on_another_image(train):
    discriminator = _discriminator()
    images = players.draw_images()
    variables = players.initialise(discriminator, images)
    variables["params"]["attention_16"]["gamma"] = np.float32(1)
    logits, changed = (
        np.asarray(players.run(discriminator, variables, x, players.LABELS, train))
        for x in (images, images * np.array([1, -1, 1], np.float32)[:, None, None, None])
    )
    assert np.abs(changed[1] - logits[1]) > 1e-3
    np.testing.assert_allclose(changed[[0, 2]], logits[[0, 2]], atol=1e-6)


def test_the_label_map_is_the_embedding_as_a_channel():
    layer = LabelMap(players.CLASSES)
    images = players.draw_images(8)
    variables = players.fill(layer, images, players.LABELS)
    (embedding,) = jax.tree.leaves(variables)
    result = np.asarray(jax.jit(layer.apply)(variables, images, players.LABELS))
    np.testing.assert_array_equal(result[..., :3], images)
    np.testing.assert_array_equal(
        result[..., 3].reshape(players.BATCH, -1), embedding[players.LABELS]
    )


def test_the_projection_is_an_inner_product():
    layer = Projection(players.CLASSES)
    features = np.random.default_rng(1).normal(size=(players.BATCH, 6)).astype(np.float32)
    variables = players.fill(layer, features, players.LABELS, False)
    (embedding,) = jax.tree.leaves(variables["params"])
    expected = [
        embedding[label] @ feature for label, feature in zip(players.LABELS, features, strict=True)
    ]
    # Float32, six products.
    np.testing.assert_allclose(
        layer.apply(variables, features, players.LABELS, False), expected, rtol=1e-5, atol=1e-6
    )


def test_coordinates_run_from_corner_to_corner():
    (place,) = coordinates(4)
    line = [-1, -1 / 3, 1 / 3, 1]
    # Float32 thirds.
    np.testing.assert_allclose(place[..., 0], np.repeat(line, 4).reshape(4, 4), atol=1e-7)
    np.testing.assert_allclose(place[..., 1], np.tile(line, (4, 1)), atol=1e-7)


@pytest.mark.parametrize("layer", [TransposedConvolution(6), ResizedConvolution(6)])
def test_a_convolution_of_the_place_is_two_more_channels(layer):
    x, place = jnp.asarray(players.draw_images(4)), coordinates(4)
    wide = jnp.concatenate([x, jnp.broadcast_to(place, (players.BATCH, 4, 4, 2))], axis=-1)
    variables = players.fill(layer, wide, 8)
    inputs = 3 if isinstance(layer, TransposedConvolution) else 2
    own = jax.tree.map(lambda kernel: np.split(kernel, [3], axis=inputs)[0], variables)
    of_place = jax.tree.map(lambda kernel: np.split(kernel, [3], axis=inputs)[1], variables)
    parts = layer.apply(own, x, 8) + layer.apply(of_place, place, 8)
    # Float32 sums of at most 45 products.
    np.testing.assert_allclose(parts, layer.apply(variables, wide, 8), rtol=1e-5, atol=1e-5)


def test_modulated_batch_norm_scales_each_example_by_its_condition():
    layer = ModulatedBatchNorm()
    x, condition = 3 * players.draw_images(4) + 1, players.draw_latents()
    variables = players.fill(layer, x, condition, True)
    y, _ = jax.jit(lambda v: layer.apply(v, x, condition, True, mutable=["batch_stats"]))(variables)
    wide, narrow = np.asarray(x, np.float64), np.asarray(condition, np.float64)
    normal = (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + 1e-5)
    gain, bias = (narrow @ variables["params"][name]["kernel"] for name in ("gain", "bias"))
    expected = normal * (1 + gain)[:, None, None] + bias[:, None, None]
    assert np.abs(gain).min() > 1e-3 and np.abs(bias).min() > 1e-3
    # Float32 moments of 48 values.
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
