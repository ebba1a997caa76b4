"""The Transformer GAN's two players: patches, positions, labels, no coupled examples."""

import jax
import numpy as np
import pytest
from players import (
    BATCH,
    CLASSES,
    LABELS,
    LATENT,
    OTHER_LABELS,
    count,
    draw_images,
    draw_latents,
    initialise,
    labels_of,
    run,
)

from gaxn.models.transformer_gan import Discriminator, Generator
from gaxn.types import InputError

SIZE, PATCH, WIDTH, DEPTH, RATIO, EMBEDDING, HIDDEN = 12, 4, 8, 2, 2, 6, 10
TOKENS = (SIZE // PATCH) ** 2
BLOCK = 4 * (WIDTH + 1) * WIDTH + (WIDTH + 1) * RATIO * WIDTH + (RATIO * WIDTH + 1) * WIDTH


def _generator(classes=CLASSES, **more):
    return Generator(SIZE, 3, classes, PATCH, WIDTH, DEPTH, 2, RATIO, EMBEDDING, **more)


def _discriminator(classes=CLASSES, depth=DEPTH, patch=PATCH):
    return Discriminator(classes, patch, WIDTH, depth, 2, RATIO, HIDDEN)


def _images():
    return draw_images(SIZE)


@pytest.mark.parametrize("classes", [None, CLASSES])
def test_shapes_and_ranges(classes):
    generator, discriminator = _generator(classes), _discriminator(classes)
    latents = draw_latents()
    images = np.asarray(
        run(generator, initialise(generator, latents), latents, labels_of(generator), True)
    )
    assert images.shape == (BATCH, SIZE, SIZE, 3) and images.dtype == np.float32
    assert 0.1 < np.abs(images).max() <= 1 and images.std(axis=0).max() > 0.01
    variables = initialise(discriminator, images)
    assert set(variables) == {"params"}
    logits = np.asarray(run(discriminator, variables, images, labels_of(discriminator), False))
    assert logits.shape == (BATCH,) and logits.std() > 0


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
    "player, draw, expected",
    [
        (_generator(None), draw_latents, _parameters_of_generator(LATENT, True)),
        (_generator(None, modulated=False), draw_latents, _parameters_of_generator(LATENT, False)),
        (
            _generator(),
            draw_latents,
            _parameters_of_generator(LATENT + EMBEDDING, True) + CLASSES * EMBEDDING,
        ),
        (_discriminator(None), _images, DISCRIMINATOR),
        (_discriminator(), _images, DISCRIMINATOR + CLASSES * HIDDEN),
    ],
)
def test_the_number_of_parameters(player, draw, expected):
    assert count(player, draw()) == expected


def test_without_blocks_a_patch_of_the_image_is_its_own_token():
    """Positions aside, the pixels of a patch come from its token by one dense layer."""
    generator = _generator(None, modulated=False).clone(depth=0)
    latents = draw_latents()
    variables = initialise(generator, latents)
    images = np.asarray(run(generator, variables, latents, None, False))
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    tokens = (latents @ params["Dense_0"]["kernel"]).reshape(BATCH, TOKENS, WIDTH)
    tokens = tokens + params["positions"]
    normal = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(
        tokens.var(-1, keepdims=True) + 1e-6
    )
    pixels = np.tanh(normal @ params["pixels"]["kernel"])
    expected = np.zeros((BATCH, SIZE, SIZE, 3))
    for token in range(TOKENS):
        row, column = divmod(token, SIZE // PATCH)
        patch = pixels[:, token].reshape(BATCH, PATCH, PATCH, 3)
        rows = slice(row * PATCH, (row + 1) * PATCH)
        expected[:, rows, column * PATCH : (column + 1) * PATCH] = patch
    # Float32 normalisation of 8 values.
    np.testing.assert_allclose(images, expected, atol=2e-5)


def test_without_blocks_the_discriminator_reads_patch_by_patch():
    discriminator = _discriminator(None, depth=0)
    images = _images()
    variables = initialise(discriminator, images)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    tokens = np.zeros((BATCH, TOKENS, WIDTH))
    for token in range(TOKENS):
        row, column = divmod(token, SIZE // PATCH)
        rows = slice(row * PATCH, (row + 1) * PATCH)
        patch = images[:, rows, column * PATCH : (column + 1) * PATCH]
        tokens[:, token] = patch.reshape(BATCH, -1) @ params["patches"]["kernel"]
    tokens += params["positions"]
    normal = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(
        tokens.var(-1, keepdims=True) + 1e-6
    )
    hidden = normal.reshape(BATCH, -1) @ params["hidden"]["kernel"]
    logits = np.where(hidden > 0, hidden, 0.2 * hidden) @ params["logit"]["kernel"]
    # Float32 sums of 72 products.
    np.testing.assert_allclose(
        run(discriminator, variables, images, None, False), logits[:, 0], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    "player, draw", [(_generator(), draw_latents), (_discriminator(), _images)]
)
def test_every_block_attends_over_the_patches(player, draw):
    x = draw()
    _, sown = jax.jit(
        lambda variables: player.apply(variables, x, LABELS, False, mutable=["intermediates"])
    )(initialise(player, x))
    assert set(sown["intermediates"]) == {f"block_{index}" for index in range(DEPTH)}
    for block in sown["intermediates"].values():
        (weights,) = block["attention"]["weights"]
        assert weights.shape == (BATCH, 2, TOKENS, TOKENS)


@pytest.mark.parametrize(
    "player, draw", [(_generator(), draw_latents), (_discriminator(), _images)]
)
def test_the_label_matters_and_examples_are_their_own(player, draw):
    x = draw()
    variables = initialise(player, x)
    one, relabelled, changed = (
        np.asarray(run(player, variables, inputs, labels, True)).reshape(BATCH, -1)
        for inputs, labels in [
            (x, LABELS),
            (x, OTHER_LABELS),
            (x * np.array([1, -1, 1], np.float32).reshape(-1, *[1] * (x.ndim - 1)), LABELS),
        ]
    )
    by_label = np.abs(one - relabelled).max(axis=1)
    by_input = np.abs(one - changed).max(axis=1)
    # Float32 in another place of a matmul's tile.
    assert by_label[0] < 1e-5 and (by_label[1:] > 1e-3).all()
    assert by_input[[0, 2]].max() < 1e-5 and by_input[1] > 1e-3


@pytest.mark.parametrize("patch", [0, 5])
def test_a_patch_that_does_not_divide_is_refused(patch):
    with pytest.raises(InputError, match=f"patch is {patch}"):
        count(_generator().clone(patch=patch), draw_latents())
    with pytest.raises(InputError, match=f"patch is {patch}"):
        count(_discriminator(patch=patch), _images())


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="heads is 3"):
        count(_generator().clone(heads=3), draw_latents())
