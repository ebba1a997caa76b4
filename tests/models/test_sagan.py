"""SAGAN's networks, small and residual: sizes, attention, spectral norm, scales."""

from functools import partial

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
import torch

from gaxn.io.checkpoints import Checkpoints
from gaxn.models import sagan, sagan_resnet
from gaxn.nn import spectral
from gaxn.types import InputError

SMALL = sagan.Generator(32, 3, networks.CLASSES, 16, (16, 8), spectral_norm=True)
SMALL_DISCRIMINATOR = sagan.Discriminator(networks.CLASSES, (8, 16))
RESIDUAL = sagan_resnet.Generator(
    32, 3, networks.CLASSES, 16, (16, 8), attention_at=(16,), attention_pool=1
)
RESIDUAL_DISCRIMINATOR = sagan_resnet.Discriminator(
    networks.CLASSES, (8, 16), last=16, attention_at=(16,), attention_pool=1
)
GENERATORS = {"small": SMALL, "residual": RESIDUAL}
DISCRIMINATORS = {"small": SMALL_DISCRIMINATOR, "residual": RESIDUAL_DISCRIMINATOR}
NETWORKS = {
    **{
        f"{name} generator": (network, networks.draw_latents)
        for name, network in GENERATORS.items()
    },
    **{
        f"{name} discriminator": (network, networks.draw_images)
        for name, network in DISCRIMINATORS.items()
    },
}
MOSTLY_SMALL = pytest.mark.parametrize(
    "network, draw",
    [
        pytest.param(*case, id=name, marks=[pytest.mark.slow] * name.startswith("residual"))
        for name, case in NETWORKS.items()
    ],
)
BOTH = pytest.mark.parametrize("network, draw", NETWORKS.values(), ids=NETWORKS)


def _attentive(network, x):
    """Returns random variables with an attention scale that is not 0."""
    variables = networks.initialize(network, x)
    variables["params"]["attention_16"]["gamma"] = np.float32(0.5)
    return variables


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("channels, train", [(3, True), (1, False)])
def test_the_generator_gives_images_in_range(name, channels, train):
    generator = GENERATORS[name].clone(channels=channels)
    networks.check_images(generator, 32, channels, train)


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize("options", [{}, {"classes": None}, {"spectral_norm": False}])
def test_the_discriminator_gives_one_logit_per_image(name, options):
    discriminator = DISCRIMINATORS[name].clone(**options)
    normalized = {"spectral"} if discriminator.spectral_norm else set()
    networks.check_logits(discriminator, networks.draw_images(), {"params"} | normalized)


def _attention(width):
    """Counts queries, keys, values, output and gamma."""
    return 2 * width * (width // 8) + 2 * width * width + 1


def _up(before, after):
    """Counts two norms, two 3x3 convolutions and a shortcut, with biases."""
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
    "small discriminator": (
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
    "residual discriminator": (
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
def test_the_number_of_parameters(name):
    network, expected = COUNTS[name]
    x = np.zeros((2, 128) if "generator" in name else (2, 64, 64, 3), np.float32)
    assert networks.count_parameters(network, x) == expected


def test_the_small_networks_have_the_expected_size():
    # Added up by hand once more.
    assert COUNTS["small generator"][1] == 2_793_348
    assert COUNTS["small discriminator"][1] == 712_130


@BOTH
def test_attention_with_gamma_zero_changes_nothing(network, draw):
    x = draw()
    variables = networks.initialize(network, x)
    lesser = {
        collection: {name: leaf for name, leaf in tree.items() if name != "attention_16"}
        for collection, tree in variables.items()
    }
    y = np.asarray(networks.apply(network, variables, x, networks.LABELS, True))
    without = networks.apply(network.clone(attention_at=()), lesser, x, networks.LABELS, True)
    np.testing.assert_array_equal(y, without)
    y_attentive = networks.apply(network, _attentive(network, x), x, networks.LABELS, True)
    assert np.abs(y - y_attentive).max() > 1e-4


@MOSTLY_SMALL
def test_attention_in_blocks_gives_the_same_output(network, draw):
    x = draw()
    variables = _attentive(network, x)
    y, in_blocks = (
        networks.apply(network.clone(attention_block=block), variables, x, networks.LABELS, False)
        for block in (0, 100)
    )
    # Float32 rounding, in sums of another shape.
    np.testing.assert_allclose(in_blocks, y, rtol=1e-5, atol=1e-5)


@MOSTLY_SMALL
def test_rematerialization_changes_nothing(network, draw):
    x = draw()
    variables = _attentive(network, x)
    state = {name: tree for name, tree in variables.items() if name != "params"}

    def differentiate(network):
        def loss(params):
            y, changed = network.apply(
                {"params": params, **state}, x, networks.LABELS, True, mutable=list(state)
            )
            return jnp.square(y).sum(), changed

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])

    (value, changed), gradient = differentiate(network)
    (value_again, changed_again), gradient_again = differentiate(network.clone(remat=True))
    np.testing.assert_allclose(value_again, value, rtol=1e-6)
    _assert_close(changed_again, changed, 1e-6)
    _assert_close(gradient_again, gradient, 1e-5)


def _assert_close(values, expected, share):
    """Asserts that leaves differ by no more than a share of the largest value of all leaves.

    Not of each leaf: the gradient of a bias before a BatchNorm is 0 except for rounding.
    """
    assert jax.tree.structure(values) == jax.tree.structure(expected)
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for a, b in zip(jax.tree.leaves(values), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=share * scale)


@pytest.mark.parametrize("name", GENERATORS)
def test_one_hot_class_weights_equal_the_label(name):
    generator, latents = GENERATORS[name], networks.draw_latents()
    variables = networks.initialize(generator, latents)
    one_hot = np.eye(networks.CLASSES, dtype=np.float32)[networks.LABELS]
    images, of_weights = (
        networks.apply(generator, variables, latents, labels, False)
        for labels in (networks.LABELS, one_hot)
    )
    np.testing.assert_array_equal(of_weights, images)


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_each_scale_is_a_separate_network(name):
    discriminator = DISCRIMINATORS[name].clone(scales=2)
    images = networks.draw_images()
    variables = networks.initialize(discriminator, images)
    logits = np.asarray(networks.apply(discriminator, variables, images, networks.LABELS, False))
    assert logits.shape == (networks.BATCH, 2)
    halves = images.reshape(networks.BATCH, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    for scale, (x, attention_at) in enumerate([(images, (16,)), (halves, ())]):
        of_scale = {collection: tree[f"scale_{scale}"] for collection, tree in variables.items()}
        single = DISCRIMINATORS[name].clone(attention_at=attention_at)
        expected = networks.apply(single, of_scale, x, networks.LABELS, False)
        np.testing.assert_allclose(logits[:, scale], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", [RESIDUAL.clone(size=30), RESIDUAL_DISCRIMINATOR])
def test_residual_networks_refuse_sizes_that_are_not_multiples(network):
    x = networks.draw_latents() if isinstance(network, sagan_resnet.Generator) else None
    with pytest.raises(InputError, match=r"size must be a multiple of 4, .*, got 30"):
        networks.count_parameters(network, networks.draw_images(30) if x is None else x)


@pytest.mark.parametrize("size", [64, 128])
def test_the_published_networks_have_the_right_shapes(size):
    options = sagan_resnet.published_networks(size)
    generator, discriminator = (
        {key: value for key, value in options[network].items() if key != "name"}
        for network in ("generator", "discriminator")
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
def _converged(network, variables, x):
    """Returns the variables after 2,000 power iterations, when more change nothing."""

    def iterate(_, vectors):
        inputs = {**variables, "spectral": vectors}
        mutable = ["spectral", "batch_stats"]
        return network.apply(inputs, x, networks.LABELS, True, mutable=mutable)[1]["spectral"]

    return {**variables, "spectral": jax.lax.fori_loop(0, 2_000, iterate, variables["spectral"])}


@MOSTLY_SMALL
def test_the_largest_singular_value_of_every_layer_becomes_one(network, draw, tmp_path):
    x = draw()
    variables = jax.device_get(_converged(network, _attentive(network, x), x))
    kernels = spectral.kernels(variables["params"], variables["spectral"])
    matrices = [leaf for leaf in jax.tree.leaves(variables["params"]) if np.ndim(leaf) > 1]
    plain = 0 if "Discriminator" in type(network).__name__ else _plain_kernels(network)
    assert len(kernels) == len(matrices) - plain
    for name, (matrix, sigma) in kernels.items():
        largest = np.linalg.svd(matrix / sigma, compute_uv=False)[0]
        assert abs(largest - 1) < 1e-3, name
        assert abs(sigma - 1) > 1e-2, name
        assert abs(_by_torch(matrix) / sigma - 1) < 1e-3, name
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(1, variables)
        restored = checkpoints.restore(jax.tree.map(np.zeros_like, variables))
    for before, after in zip(
        jax.tree.leaves(variables["spectral"]), jax.tree.leaves(restored["spectral"]), strict=True
    ):
        assert np.asarray(before).tobytes() == np.asarray(after).tobytes()


def _plain_kernels(network):
    """Returns the number of kernels without spectral norm: gain and bias of each modulated norm."""
    norms = 2 * len(network.widths) if isinstance(network, sagan_resnet.Generator) else 3
    return 2 * norms


def _by_torch(matrix):
    """Returns the singular value by which PyTorch's spectral_norm divides the same weights."""
    layer = torch.nn.Linear(*matrix.shape, bias=False, dtype=torch.float64)
    weight = torch.tensor(matrix.T)
    layer.weight.data = weight.clone()
    normalized = torch.nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=2_000)
    return float((weight.norm() / normalized.weight.norm()).detach())
