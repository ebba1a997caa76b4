"""The Transformer GAN's two players: patches, positions, labels, no coupled examples."""

import jax
import numpy as np
import players
import pytest

from gaxn.models.transformer_gan import Discriminator, Generator
from gaxn.types import InputError

SIZE, PATCH, WIDTH, DEPTH, RATIO, EMBEDDING, HIDDEN = 12, 4, 8, 2, 2, 6, 10
TOKENS = (SIZE // PATCH) ** 2
BLOCK = 4 * (WIDTH + 1) * WIDTH + (WIDTH + 1) * RATIO * WIDTH + (RATIO * WIDTH + 1) * WIDTH


def _generator(classes=players.CLASSES, **more):
    return Generator(SIZE, 3, classes, PATCH, WIDTH, DEPTH, 2, RATIO, EMBEDDING, **more)


def _discriminator(classes=players.CLASSES, depth=DEPTH, patch=PATCH):
    return Discriminator(classes, patch, WIDTH, depth, 2, RATIO, HIDDEN)


def _images():
    return players.draw_images(SIZE)


@pytest.mark.parametrize("classes", [None, players.CLASSES])
def test_shapes_and_ranges(classes):
    images = players.check_images(_generator(classes), SIZE, 3, True)
    players.check_logits(_discriminator(classes), images, {"params"})


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
        (_generator(None), players.draw_latents, _parameters_of_generator(players.LATENT, True)),
        (
            _generator(None, modulated=False),
            players.draw_latents,
            _parameters_of_generator(players.LATENT, False),
        ),
        (
            _generator(),
            players.draw_latents,
            _parameters_of_generator(players.LATENT + EMBEDDING, True)
            + players.CLASSES * EMBEDDING,
        ),
        (_discriminator(None), _images, DISCRIMINATOR),
        (_discriminator(), _images, DISCRIMINATOR + players.CLASSES * HIDDEN),
    ],
)
def test_the_number_of_parameters(player, draw, expected):
    assert players.count(player, draw()) == expected


def test_without_blocks_a_patch_of_the_image_is_its_own_token():
    """Positions aside, the pixels of a patch come from its token by one dense layer."""
    generator = _generator(None, modulated=False).clone(depth=0)
    latents = players.draw_latents()
    variables = players.initialise(generator, latents)
    images = np.asarray(players.run(generator, variables, latents, None, False))
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    tokens = (latents @ params["Dense_0"]["kernel"]).reshape(players.BATCH, TOKENS, WIDTH)
    tokens = tokens + params["positions"]
    normal = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(
        tokens.var(-1, keepdims=True) + 1e-6
    )
    pixels = np.tanh(normal @ params["pixels"]["kernel"])
    expected = np.zeros((players.BATCH, SIZE, SIZE, 3))
    for token in range(TOKENS):
        row, column = divmod(token, SIZE // PATCH)
        patch = pixels[:, token].reshape(players.BATCH, PATCH, PATCH, 3)
        rows = slice(row * PATCH, (row + 1) * PATCH)
        expected[:, rows, column * PATCH : (column + 1) * PATCH] = patch
    # Float32 normalisation of 8 values.
    np.testing.assert_allclose(images, expected, atol=2e-5)


def test_without_blocks_the_discriminator_reads_patch_by_patch():
    discriminator = _discriminator(None, depth=0)
    images = _images()
    variables = players.initialise(discriminator, images)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    tokens = np.zeros((players.BATCH, TOKENS, WIDTH))
    for token in range(TOKENS):
        row, column = divmod(token, SIZE // PATCH)
        rows = slice(row * PATCH, (row + 1) * PATCH)
        patch = images[:, rows, column * PATCH : (column + 1) * PATCH]
        tokens[:, token] = patch.reshape(players.BATCH, -1) @ params["patches"]["kernel"]
    tokens += params["positions"]
    normal = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(
        tokens.var(-1, keepdims=True) + 1e-6
    )
    hidden = normal.reshape(players.BATCH, -1) @ params["hidden"]["kernel"]
    logits = np.where(hidden > 0, hidden, 0.2 * hidden) @ params["logit"]["kernel"]
    # Float32 sums of 72 products.
    np.testing.assert_allclose(
        players.run(discriminator, variables, images, None, False),
        logits[:, 0],
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    "player, draw", [(_generator(), players.draw_latents), (_discriminator(), _images)]
)
def test_every_block_attends_over_the_patches(player, draw):
    x = draw()
    _, sown = jax.jit(
        lambda variables: player.apply(
            variables, x, players.LABELS, False, mutable=["intermediates"]
        )
    )(players.initialise(player, x))
    assert set(sown["intermediates"]) == {f"block_{index}" for index in range(DEPTH)}
    for block in sown["intermediates"].values():
        (weights,) = block["attention"]["weights"]
        assert weights.shape == (players.BATCH, 2, TOKENS, TOKENS)


@pytest.mark.parametrize(
    "player, draw", [(_generator(), players.draw_latents), (_discriminator(), _images)]
)
def test_the_label_matters_and_examples_are_their_own(player, draw):
    x = draw()
    variables = players.initialise(player, x)
    one, relabelled, changed = (
        np.asarray(players.run(player, variables, inputs, labels, True)).reshape(players.BATCH, -1)
        for inputs, labels in [
            (x, players.LABELS),
            (x, players.OTHER_LABELS),
            (x * np.array([1, -1, 1], np.float32).reshape(-1, *[1] * (x.ndim - 1)), players.LABELS),
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
        players.count(_generator().clone(patch=patch), players.draw_latents())
    with pytest.raises(InputError, match=f"patch is {patch}"):
        players.count(_discriminator(patch=patch), _images())


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="heads is 3"):
        players.count(_generator().clone(heads=3), players.draw_latents())
