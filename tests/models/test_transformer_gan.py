"""Networks of the Transformer GAN: patches, positions, labels, no coupled examples."""

import jax
import networks
import numpy as np
import pytest

from gaxn.models.transformer_gan import Discriminator, Generator
from gaxn.types import InputError

SIZE, PATCH, WIDTH, DEPTH, RATIO, EMBEDDING, HIDDEN = 12, 4, 8, 2, 2, 6, 10
TOKENS = (SIZE // PATCH) ** 2
BLOCK = 4 * (WIDTH + 1) * WIDTH + (WIDTH + 1) * RATIO * WIDTH + (RATIO * WIDTH + 1) * WIDTH


def _generator(classes=networks.CLASSES, **more):
    return Generator(SIZE, 3, classes, PATCH, WIDTH, DEPTH, 2, RATIO, EMBEDDING, **more)


def _discriminator(classes=networks.CLASSES, depth=DEPTH, patch=PATCH):
    return Discriminator(classes, patch, WIDTH, depth, 2, RATIO, HIDDEN)


def _images():
    return networks.draw_images(SIZE)


@pytest.mark.parametrize("classes", [None, networks.CLASSES])
def test_images_and_logits_have_the_right_shapes_and_ranges(classes):
    images = networks.check_images(_generator(classes), SIZE, 3, True)
    networks.check_logits(_discriminator(classes), images, {"params"})


def _parameters_of_generator(inputs, modulated):
    norms = 2 * (inputs + 1) * WIDTH if modulated else 2 * WIDTH
    pixels = PATCH * PATCH * 3
    return (
        inputs * TOKENS * WIDTH
        + TOKENS * WIDTH
        + DEPTH * (BLOCK + 2 * norms)
        + norms
        + (WIDTH + 1) * pixels
    )


DISCRIMINATOR = (
    (PATCH * PATCH * 3 + 1) * WIDTH
    + TOKENS * WIDTH
    + DEPTH * (BLOCK + 4 * WIDTH)
    + 2 * WIDTH
    + (TOKENS * WIDTH + 1) * HIDDEN
    + HIDDEN
    + 1
)


@pytest.mark.parametrize(
    "network, draw, expected",
    [
        (_generator(None), networks.draw_latents, _parameters_of_generator(networks.LATENT, True)),
        (
            _generator(None, modulated=False),
            networks.draw_latents,
            _parameters_of_generator(networks.LATENT, False),
        ),
        (
            _generator(),
            networks.draw_latents,
            _parameters_of_generator(networks.LATENT + EMBEDDING, True)
            + networks.CLASSES * EMBEDDING,
        ),
        (_discriminator(None), _images, DISCRIMINATOR),
        (_discriminator(), _images, DISCRIMINATOR + networks.CLASSES * HIDDEN),
    ],
)
def test_the_number_of_parameters(network, draw, expected):
    assert networks.count_parameters(network, draw()) == expected


def test_without_blocks_a_patch_depends_on_its_token_only():
    """Apart from positions, one dense layer maps a token to the pixels of its patch."""
    generator = _generator(None, modulated=False).clone(depth=0)
    latents = networks.draw_latents()
    variables = networks.initialize(generator, latents)
    images = np.asarray(networks.apply(generator, variables, latents, None, False))
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    tokens = (latents @ params["Dense_0"]["kernel"]).reshape(networks.BATCH, TOKENS, WIDTH)
    tokens = tokens + params["positions"]
    normal = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(
        tokens.var(-1, keepdims=True) + 1e-6
    )
    pixels = np.tanh(normal @ params["pixels"]["kernel"])
    expected = np.zeros((networks.BATCH, SIZE, SIZE, 3))
    for token in range(TOKENS):
        row, column = divmod(token, SIZE // PATCH)
        patch = pixels[:, token].reshape(networks.BATCH, PATCH, PATCH, 3)
        rows = slice(row * PATCH, (row + 1) * PATCH)
        expected[:, rows, column * PATCH : (column + 1) * PATCH] = patch
    # Float32 normalization of 8 values.
    np.testing.assert_allclose(images, expected, atol=2e-5)


def test_without_blocks_a_token_depends_on_its_patch_only():
    discriminator = _discriminator(None, depth=0)
    images = _images()
    variables = networks.initialize(discriminator, images)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    tokens = np.zeros((networks.BATCH, TOKENS, WIDTH))
    for token in range(TOKENS):
        row, column = divmod(token, SIZE // PATCH)
        rows = slice(row * PATCH, (row + 1) * PATCH)
        patch = images[:, rows, column * PATCH : (column + 1) * PATCH]
        tokens[:, token] = patch.reshape(networks.BATCH, -1) @ params["patches"]["kernel"]
    tokens += params["positions"]
    normal = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(
        tokens.var(-1, keepdims=True) + 1e-6
    )
    hidden = normal.reshape(networks.BATCH, -1) @ params["hidden"]["kernel"]
    logits = np.where(hidden > 0, hidden, 0.2 * hidden) @ params["logit"]["kernel"]
    # Float32 sums of 72 products.
    np.testing.assert_allclose(
        networks.apply(discriminator, variables, images, None, False),
        logits[:, 0],
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    "network, draw", [(_generator(), networks.draw_latents), (_discriminator(), _images)]
)
def test_every_block_attends_over_the_patches(network, draw):
    x = draw()
    _, sown = jax.jit(
        lambda variables: network.apply(
            variables, x, networks.LABELS, False, mutable=["intermediates"]
        )
    )(networks.initialize(network, x))
    blocks = {name: item for name, item in sown["intermediates"].items() if name != "features"}
    assert set(blocks) == {f"block_{index}" for index in range(DEPTH)}
    for block in blocks.values():
        (weights,) = block["attention"]["weights"]
        assert weights.shape == (networks.BATCH, 2, TOKENS, TOKENS)


@pytest.mark.parametrize(
    "network, draw", [(_generator(), networks.draw_latents), (_discriminator(), _images)]
)
def test_outputs_depend_on_the_label_and_on_no_other_example(network, draw):
    x = draw()
    variables = networks.initialize(network, x)
    original, relabeled, changed = (
        np.asarray(networks.apply(network, variables, inputs, labels, True)).reshape(
            networks.BATCH, -1
        )
        for inputs, labels in [
            (x, networks.LABELS),
            (x, networks.OTHER_LABELS),
            (
                x * np.array([1, -1, 1], np.float32).reshape(-1, *[1] * (x.ndim - 1)),
                networks.LABELS,
            ),
        ]
    )
    by_label = np.abs(original - relabeled).max(axis=1)
    by_input = np.abs(original - changed).max(axis=1)
    # Float32 products in other tiles of a matrix product.
    assert by_label[0] < 1e-5 and (by_label[1:] > 1e-3).all()
    assert by_input[[0, 2]].max() < 1e-5 and by_input[1] > 1e-3


@pytest.mark.parametrize("patch", [0, 5])
def test_a_patch_that_does_not_divide_is_refused(patch):
    with pytest.raises(InputError, match=f"patch must be a divisor .*, got {patch}"):
        networks.count_parameters(_generator().clone(patch=patch), networks.draw_latents())
    with pytest.raises(InputError, match=f"patch must be a divisor .*, got {patch}"):
        networks.count_parameters(_discriminator(patch=patch), _images())


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match=r"heads must be a divisor .*, got 3"):
        networks.count_parameters(_generator().clone(heads=3), networks.draw_latents())
