"""Networks of the attention cGAN: shapes, sizes, attention, labels, no coupled examples."""

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

from gaxn.models.attn_cgan import Discriminator, Generator
from gaxn.nn.conditioning import LabelMap, Projection
from gaxn.nn.coordinates import coordinates
from gaxn.nn.norms import ModulatedBatchNorm
from gaxn.nn.resampling import ResizedConvolution, TransposedConvolution
from gaxn.types import InputError


def _generator(
    size=32, channels=3, classes=networks.CLASSES, widths=(16, 8), attention_at=(16,), **more
):
    return Generator(size, channels, classes, widths, attention_at, **more)


def _discriminator(classes=networks.CLASSES, widths=(8, 16), attention_at=(16,), **more):
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
    networks.check_images(_generator(size, channels, **options), size, channels, train)


@pytest.mark.parametrize(
    "size, channels, options",
    [
        (32, 3, {"projection": True, "hidden": 12}),
        (28, 1, {"attention_at": (14,), "heads": 2, "attention_pool": 2}),
        (28, 3, {"classes": None, "attention_at": (), "spectral_norm": False}),
        (30, 3, {"attention_at": (15, 8), "projection": True}),
    ],
)
def test_the_discriminator_gives_one_logit_per_image(size, channels, options):
    discriminator = _discriminator(**options)
    normalized = {"spectral"} if discriminator.spectral_norm else set()
    networks.check_logits(
        discriminator, networks.draw_images(size, channels), {"params"} | normalized
    )


def _networks(attention_at=(16,)):
    return [
        pytest.param(_generator(attention_at=attention_at), networks.draw_latents, id="generator"),
        pytest.param(
            _discriminator(attention_at=attention_at), networks.draw_images, id="discriminator"
        ),
    ]


@pytest.mark.parametrize("network, draw", _networks())
def test_attention_with_gamma_zero_changes_nothing(network, draw):
    x = draw()
    variables = networks.initialize(network, x)
    lesser = {
        collection: {name: leaf for name, leaf in tree.items() if name != "attention_16"}
        for collection, tree in variables.items()
    }
    y = np.asarray(networks.apply(network, variables, x, networks.LABELS, False))
    without = networks.apply(network.clone(attention_at=()), lesser, x, networks.LABELS, False)
    np.testing.assert_array_equal(y, without)
    variables["params"]["attention_16"]["gamma"] = np.float32(1)
    assert np.abs(y - networks.apply(network, variables, x, networks.LABELS, False)).max() > 1e-3


@pytest.mark.parametrize("network, draw", _networks())
@pytest.mark.parametrize("resolution", [4, 12, 64])
def test_attention_at_an_unknown_resolution_is_refused(network, draw, resolution):
    with pytest.raises(InputError, match=rf"attention_at must be .*, got \(16, {resolution}\)"):
        networks.count_parameters(network.clone(attention_at=(16, resolution)), draw())


@pytest.mark.parametrize("network, draw", _networks())
@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_attention_at_a_resolution_adds_parameters_or_is_refused(network, draw, resolution):
    network = network.clone(attention_at=(resolution,))
    try:
        count = networks.count_parameters(network, draw())
    except InputError:
        return
    assert count > networks.count_parameters(network.clone(attention_at=()), draw())


@pytest.mark.parametrize("network", [_generator(size=2), _discriminator(attention_at=())])
def test_a_size_that_is_too_small_for_the_widths_is_refused(network):
    x = networks.draw_latents() if isinstance(network, Generator) else networks.draw_images(2)
    with pytest.raises(InputError, match=r"widths must have at most .*, got 2"):
        networks.count_parameters(network, x)


ATTENTION = {width: 2 * width * (width // 8) + 2 * width * width + 1 for width in (8, 16)}
GENERATOR = (
    (networks.LATENT + 32) * 8 * 8 * 16  # dense layer, of the latent and the label's embedding
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
    "network, draw, expected",
    [
        (_generator(), networks.draw_latents, GENERATOR + networks.CLASSES * 32 + ATTENTION[16]),
        (_generator(attention_at=()), networks.draw_latents, GENERATOR + networks.CLASSES * 32),
        (
            _generator(attention_at=(), transposed=False),
            networks.draw_latents,
            GENERATOR + networks.CLASSES * 32 - (16 - 9) * (16 * 16 + 16 * 8),
        ),
        (
            _generator(classes=None, attention_at=()),
            networks.draw_latents,
            GENERATOR - 32 * 8 * 8 * 16,
        ),
        (
            _generator(classes=None, attention_at=(), modulated=True, coordinates=True),
            networks.draw_latents,
            GENERATOR
            - 32 * 8 * 8 * 16
            + 2 * (networks.LATENT + 1) * (16 + 16 + 8)  # a gain and a bias for each channel
            + 2 * (4 * 4 * 16 + 4 * 4 * 8),  # two more channels
        ),
        (
            _discriminator(),
            networks.draw_images,
            4 * 4 * 4 * 8 + networks.CLASSES * 32 * 32 + TRUNK + ATTENTION[8],
        ),
        (
            _discriminator(projection=True, attention_at=()),
            networks.draw_images,
            4 * 4 * 3 * 8 + networks.CLASSES * 8 * 8 * 16 + TRUNK,
        ),
        (
            _discriminator(classes=None, attention_at=()),
            networks.draw_images,
            4 * 4 * 3 * 8 + TRUNK,
        ),
        (
            _discriminator(projection=True, attention_at=(), hidden=12),
            networks.draw_images,
            # The logit and the labels are projections of the hidden layer.
            4 * 4 * 3 * 8
            + TRUNK
            + (8 * 8 * 16 + 1) * 12
            + (1 + networks.CLASSES) * 12
            - 8 * 8 * 16,
        ),
        (
            _discriminator(classes=None, attention_at=(), spectral_norm=False),
            networks.draw_images,
            4 * 4 * 3 * 8 + TRUNK,
        ),
    ],
)
def test_the_number_of_parameters(network, draw, expected):
    assert networks.count_parameters(network, draw()) == expected


@pytest.mark.parametrize("projection, hidden", [(True, 0), (True, 12), (False, 0), (False, 12)])
def test_the_logit_depends_on_the_label(projection, hidden):
    discriminator = _discriminator(projection=projection, hidden=hidden)
    images = networks.draw_images()
    variables = networks.initialize(discriminator, images)
    logits, changed = (
        np.asarray(networks.apply(discriminator, variables, images, labels, False))
        for labels in (networks.LABELS, networks.OTHER_LABELS)
    )
    np.testing.assert_allclose(changed[0], logits[0], atol=1e-6)
    assert (np.abs(changed - logits)[1:] > 1e-4).all()


def test_with_both_the_logit_depends_on_the_label_and_the_prediction_does_not():
    discriminator = _discriminator(projection=True, auxiliary=True, hidden=12)
    images = networks.draw_images()
    variables = networks.initialize(discriminator, images)
    output, changed = (
        networks.apply(discriminator, variables, images, labels, False)
        for labels in (networks.LABELS, networks.OTHER_LABELS)
    )
    assert (np.abs(changed.logits - output.logits)[1:] > 1e-4).all()
    np.testing.assert_array_equal(changed.class_logits, output.class_logits)
    params = variables["params"]
    label_map = [name for name in params if "LabelMap" in name]
    assert "Projection_0" in params and not label_map


def test_the_image_depends_on_the_label():
    generator = _generator()
    variables = networks.initialize(generator, networks.draw_latents())
    images, changed = (
        np.asarray(networks.apply(generator, variables, networks.draw_latents(), labels, False))
        for labels in (networks.LABELS, networks.OTHER_LABELS)
    )
    differences = np.abs(images - changed).max(axis=(1, 2, 3))
    assert differences[0] < 1e-6
    assert (differences[1:] > 1e-3).all()


@pytest.mark.parametrize("train", [False, True])
def test_no_logit_depends_on_another_image(train):
    discriminator = _discriminator()
    images = networks.draw_images()
    variables = networks.initialize(discriminator, images)
    variables["params"]["attention_16"]["gamma"] = np.float32(1)
    logits, changed = (
        np.asarray(networks.apply(discriminator, variables, x, networks.LABELS, train))
        for x in (images, images * np.array([1, -1, 1], np.float32)[:, None, None, None])
    )
    assert np.abs(changed[1] - logits[1]) > 1e-3
    np.testing.assert_allclose(changed[[0, 2]], logits[[0, 2]], atol=1e-6)


def test_the_label_map_is_the_embedding_as_a_channel():
    layer = LabelMap(networks.CLASSES)
    images = networks.draw_images(8)
    variables = networks.draw_variables(layer, images, networks.LABELS)
    (embedding,) = jax.tree.leaves(variables)
    result = np.asarray(jax.jit(layer.apply)(variables, images, networks.LABELS))
    np.testing.assert_array_equal(result[..., :3], images)
    np.testing.assert_array_equal(
        result[..., 3].reshape(networks.BATCH, -1), embedding[networks.LABELS]
    )


def test_the_projection_is_an_inner_product():
    layer = Projection(networks.CLASSES)
    features = np.random.default_rng(1).normal(size=(networks.BATCH, 6)).astype(np.float32)
    variables = networks.draw_variables(layer, features, networks.LABELS, False)
    (embedding,) = jax.tree.leaves(variables["params"])
    expected = [
        embedding[label] @ feature for label, feature in zip(networks.LABELS, features, strict=True)
    ]
    # Float32, six products.
    np.testing.assert_allclose(
        layer.apply(variables, features, networks.LABELS, False), expected, rtol=1e-5, atol=1e-6
    )


def test_coordinates_run_from_corner_to_corner():
    (grid,) = coordinates(4)
    line = [-1, -1 / 3, 1 / 3, 1]
    # Float32 thirds.
    np.testing.assert_allclose(grid[..., 0], np.repeat(line, 4).reshape(4, 4), atol=1e-7)
    np.testing.assert_allclose(grid[..., 1], np.tile(line, (4, 1)), atol=1e-7)


@pytest.mark.parametrize("layer", [TransposedConvolution(6), ResizedConvolution(6)])
def test_a_convolution_of_coordinates_equals_two_more_channels(layer):
    x, grid = jnp.asarray(networks.draw_images(4)), coordinates(4)
    wide = jnp.concatenate([x, jnp.broadcast_to(grid, (networks.BATCH, 4, 4, 2))], axis=-1)
    variables = networks.draw_variables(layer, wide, 8)
    for_x, for_grid = (
        jax.tree.map(lambda kernel, i=i: np.split(kernel, [3], axis=2)[i], variables)
        for i in (0, 1)
    )
    parts = layer.apply(for_x, x, 8) + layer.apply(for_grid, grid, 8)
    # Float32 sums of at most 45 products.
    np.testing.assert_allclose(parts, layer.apply(variables, wide, 8), rtol=1e-5, atol=1e-5)


def test_modulated_batch_norm_scales_each_example_by_its_condition():
    layer = ModulatedBatchNorm()
    x, condition = 3 * networks.draw_images(4) + 1, networks.draw_latents()
    variables = networks.draw_variables(layer, x, condition, True)
    y, _ = jax.jit(lambda v: layer.apply(v, x, condition, True, mutable=["batch_stats"]))(variables)
    wide, narrow = np.asarray(x, np.float64), np.asarray(condition, np.float64)
    normal = (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + 1e-5)
    gain, bias = (narrow @ variables["params"][name]["kernel"] for name in ("gain", "bias"))
    expected = normal * (1 + gain)[:, None, None] + bias[:, None, None]
    assert np.abs(gain).min() > 1e-3 and np.abs(bias).min() > 1e-3
    # Float32 moments of 48 values.
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
