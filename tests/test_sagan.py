"""SAGAN's players, small and residual: sizes, attention, spectral norm, bfloat16, scales."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import players
import pytest
import torch

from gaxn.checkpoint import Checkpoints
from gaxn.models import sagan, sagan_resnet
from gaxn.nn import spectral
from gaxn.types import InputError

SMALL = sagan.Generator(32, 3, players.CLASSES, 16, (16, 8), spectral_norm=True)
SMALL_CRITIC = sagan.Discriminator(players.CLASSES, (8, 16))
RESIDUAL = sagan_resnet.Generator(
    32, 3, players.CLASSES, 16, (16, 8), attention_at=(16,), attention_pool=1
)
RESIDUAL_CRITIC = sagan_resnet.Discriminator(
    players.CLASSES, (8, 16), 16, attention_at=(16,), attention_pool=1
)
GENERATORS = {"small": SMALL, "residual": RESIDUAL}
CRITICS = {"small": SMALL_CRITIC, "residual": RESIDUAL_CRITIC}
PLAYERS = {
    **{f"{name} generator": (player, players.draw_latents) for name, player in GENERATORS.items()},
    **{f"{name} critic": (player, players.draw_images) for name, player in CRITICS.items()},
}
MOSTLY_SMALL = pytest.mark.parametrize(
    "player, draw",
    [
        pytest.param(*case, id=name, marks=[pytest.mark.slow] * name.startswith("residual"))
        for name, case in PLAYERS.items()
    ],
)
BOTH = pytest.mark.parametrize("player, draw", PLAYERS.values(), ids=PLAYERS)


def _attentive(player, x):
    """Variables filled at random, attention included."""
    variables = players.initialise(player, x)
    variables["params"]["attention_16"]["gamma"] = np.float32(0.5)
    return variables


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("channels, train", [(3, True), (1, False)])
def test_the_generator_gives_images_in_range(name, channels, train):
    generator = GENERATORS[name].clone(channels=channels)
    players.check_images(generator, 32, channels, train)


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize("options", [{}, {"classes": None}, {"spectral_norm": False}])
def test_the_discriminator_gives_a_logit_an_image(name, options):
    critic = CRITICS[name].clone(**options)
    normalised = {"spectral"} if critic.spectral_norm else set()
    players.check_logits(critic, players.draw_images(), {"params"} | normalised)


def _attention(width):
    """Queries, keys, values, output and gamma."""
    return 2 * width * (width // 8) + 2 * width * width + 1


def _up(before, after):
    """Two norms, two 3x3 convolutions and a shortcut, with biases."""
    return (
        2 * before
        + 2 * after
        + 9 * before * after
        + after
        + 9 * after * after
        + after
        + before * after
        + after
    )


def _down(before, after, shortcut=True):
    convolutions = 9 * before * after + after + 9 * after * after + after
    return convolutions + shortcut * (before * after + after)


COUNTS = {
    "small generator": (
        sagan.Generator(64, 3, None),
        128 * 8 * 8 * 256  # dense
        + 2 * 256
        + 4 * 4 * 256 * 128  # 8 -> 16
        + 2 * 128
        + _attention(128)
        + 4 * 4 * 128 * 64  # 16 -> 32
        + 2 * 64
        + 4 * 4 * 64 * 3  # 32 -> 64
        + 3,
    ),
    "small critic": (
        sagan.Discriminator(None),
        4 * 4 * 3 * 64
        + 64
        + 4 * 4 * 64 * 128
        + 128
        + _attention(128)
        + 4 * 4 * 128 * 256
        + 256
        + 8 * 8 * 256
        + 1,
    ),
    "residual generator": (
        sagan_resnet.Generator(64, 3, None),
        (128 + 1) * 4 * 4 * 1024
        + _up(1024, 512)
        + _up(512, 256)
        + _up(256, 128)
        + _attention(128)
        + _up(128, 64)
        + 2 * 64
        + 9 * 64 * 3
        + 3,
    ),
    "residual critic": (
        sagan_resnet.Discriminator(None),
        _down(3, 64)
        + _attention(64)
        + _down(64, 128)
        + _down(128, 256)
        + _down(256, 512)
        + _down(512, 1024)
        + 1024
        + 1,
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_number_of_parameters_is_that_of_the_architecture(name):
    player, expected = COUNTS[name]
    x = np.zeros((2, 128) if "generator" in name else (2, 64, 64, 3), np.float32)
    assert players.count(player, x) == expected


def test_the_small_players_are_those_of_the_config():
    # What the architecture has, added up by hand once more.
    assert COUNTS["small generator"][1] == 2_793_348
    assert COUNTS["small critic"][1] == 712_130


@BOTH
def test_attention_of_gamma_zero_is_not_there(player, draw):
    x = draw()
    variables = players.initialise(player, x)
    lesser = {
        collection: {name: leaf for name, leaf in tree.items() if name != "attention_16"}
        for collection, tree in variables.items()
    }
    y = np.asarray(players.run(player, variables, x, players.LABELS, True))
    without = players.run(player.clone(attention_at=()), lesser, x, players.LABELS, True)
    np.testing.assert_array_equal(y, without)
    y_attentive = players.run(player, _attentive(player, x), x, players.LABELS, True)
    assert np.abs(y - y_attentive).max() > 1e-4


@MOSTLY_SMALL
def test_attention_in_blocks_is_attention(player, draw):
    x = draw()
    variables = _attentive(player, x)
    y, in_blocks = (
        players.run(player.clone(attention_block=block), variables, x, players.LABELS, False)
        for block in (0, 100)
    )
    # Float32 rounding, in sums of another shape.
    np.testing.assert_allclose(in_blocks, y, rtol=1e-5, atol=1e-5)


@MOSTLY_SMALL
def test_computing_activations_again_changes_nothing(player, draw):
    x = draw()
    variables = _attentive(player, x)
    held = {name: tree for name, tree in variables.items() if name != "params"}

    def found(player):
        def loss(params):
            own = {"params": params, **held}
            y, changed = player.apply(own, x, players.LABELS, True, mutable=list(held))
            return jnp.square(y).sum(), changed

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])

    (value, changed), gradient = found(player)
    (value_again, changed_again), gradient_again = found(player.clone(remat=True))
    np.testing.assert_allclose(value_again, value, rtol=1e-6)
    _assert_close(changed_again, changed, 1e-6)
    _assert_close(gradient_again, gradient, 1e-5)


def _assert_close(found, expected, share):
    """Leaves apart by no more than a share of the largest value of all.

    Of all: the gradient of a bias before a BatchNorm is 0, and only rounding there.
    """
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=share * scale)


@BOTH
def test_in_bfloat16_all_that_is_kept_is_float32(player, draw):
    x = draw()
    variables = _attentive(player, x)
    narrow = player.clone(dtype=jnp.bfloat16)
    own = jax.eval_shape(lambda: narrow.init(jax.random.key(0), x, players.LABELS, True))
    assert jax.tree.structure(own) == jax.tree.structure(variables)
    y, changed = jax.jit(
        lambda: narrow.apply(variables, x, players.LABELS, True, mutable=list(variables))
    )()
    kept = jax.tree.leaves((y, own, changed))
    assert {leaf.dtype for leaf in kept} == {np.dtype(np.float32)}
    wide = np.asarray(players.run(player, variables, x, players.LABELS, True))
    apart = np.abs(np.asarray(y) - wide).max() / np.abs(wide).max()
    # A bfloat16 has 8 bits; were it not used at all, the two would be equal.
    assert 1e-6 < apart < 0.06


@pytest.mark.parametrize("name", GENERATORS)
def test_weights_of_one_class_are_its_label(name):
    generator, latents = GENERATORS[name], players.draw_latents()
    variables = players.initialise(generator, latents)
    one_hot = np.eye(players.CLASSES, dtype=np.float32)[players.LABELS]
    images, of_weights = (
        players.run(generator, variables, latents, labels, False)
        for labels in (players.LABELS, one_hot)
    )
    np.testing.assert_array_equal(of_weights, images)


@pytest.mark.parametrize("name", CRITICS)
def test_each_scale_is_a_network_of_its_own(name):
    critic = CRITICS[name].clone(scales=2)
    images = players.draw_images()
    variables = players.initialise(critic, images)
    logits = np.asarray(players.run(critic, variables, images, players.LABELS, False))
    assert logits.shape == (players.BATCH, 2)
    halves = images.reshape(players.BATCH, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    for scale, (seen, there) in enumerate([(images, (16,)), (halves, ())]):
        own = {collection: tree[f"scale_{scale}"] for collection, tree in variables.items()}
        alone = CRITICS[name].clone(attention_at=there)
        expected = players.run(alone, own, seen, players.LABELS, False)
        np.testing.assert_allclose(logits[:, scale], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("player", [RESIDUAL.clone(size=30), RESIDUAL_CRITIC])
def test_residual_networks_refuse_what_they_cannot_halve(player):
    x = players.draw_latents() if isinstance(player, sagan_resnet.Generator) else None
    with pytest.raises(InputError, match="without a rest"):
        players.count(player, players.draw_images(30) if x is None else x)


@pytest.mark.parametrize("size", [64, 128])
def test_the_paper_s_networks_are_of_its_size(size):
    options = sagan_resnet.paper(size)
    generator, discriminator = (
        {key: value for key, value in options[player].items() if key != "name"}
        for player in ("generator", "discriminator")
    )
    images = jax.eval_shape(
        lambda: sagan_resnet.Generator(size, 3, None, **generator).init_with_output(
            jax.random.key(0), jnp.zeros((2, 128)), None, True
        )
    )[0]
    assert images.shape == (2, size, size, 3)
    logits = jax.eval_shape(
        lambda: sagan_resnet.Discriminator(None, **discriminator).init_with_output(
            jax.random.key(0), jnp.zeros((2, size, size, 3)), None, True
        )
    )[0]
    assert logits.shape == (2,)


@partial(jax.jit, static_argnums=0)
def _converged(player, variables, x):
    """The variables after so many power iterations that more change nothing."""

    def once(_, own):
        changed = player.apply({**variables, "spectral": own}, x, players.LABELS, True, **MUTABLE)
        return changed[1]["spectral"]

    return {**variables, "spectral": jax.lax.fori_loop(0, 2_000, once, variables["spectral"])}


MUTABLE = {"mutable": ["spectral", "batch_stats"]}


@MOSTLY_SMALL
def test_the_largest_singular_value_of_every_layer_becomes_one(player, draw, tmp_path):
    x = draw()
    variables = jax.device_get(_converged(player, _attentive(player, x), x))
    found = spectral.kernels(variables["params"], variables["spectral"])
    wrapped = [leaf for leaf in jax.tree.leaves(variables["params"]) if np.ndim(leaf) > 1]
    unwrapped = 0 if "Discriminator" in type(player).__name__ else _plain_kernels(player)
    assert len(found) == len(wrapped) - unwrapped
    for name, (kernel, sigma) in found.items():
        matrix = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
        largest = np.linalg.svd(matrix / float(sigma), compute_uv=False)[0]
        assert abs(largest - 1) < 1e-3, name
        assert abs(float(sigma) - 1) > 1e-2, name
        assert abs(_by_torch(matrix) / float(sigma) - 1) < 1e-3, name
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(1, variables)
        restored = checkpoints.restore(jax.tree.map(np.zeros_like, variables))
    for kept, back in zip(
        jax.tree.leaves(variables["spectral"]), jax.tree.leaves(restored["spectral"]), strict=True
    ):
        assert np.asarray(kept).tobytes() == np.asarray(back).tobytes()


def _plain_kernels(player):
    """The gains and biases that a label gives to BatchNorm are not normalised: two a norm."""
    norms = 2 * len(player.widths) if isinstance(player, sagan_resnet.Generator) else 3
    return 2 * norms


def _by_torch(matrix):
    """The singular value by which PyTorch's spectral_norm divides the same weights."""
    layer = torch.nn.Linear(*matrix.shape, bias=False, dtype=torch.float64)
    weight = torch.tensor(matrix.T)
    layer.weight.data = weight.clone()
    normalised = torch.nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=2_000)
    return float((weight.norm() / normalised.weight.norm()).detach())
