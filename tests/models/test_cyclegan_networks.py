"""The CycleGAN's networks and history: comparison with PyTorch, counts, sizes and options."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn.models.cyclegan import Discriminator, Generator
from gaxn.nn.dropout import Dropout
from gaxn.nn.history import ImageHistory
from gaxn.nn.norms import instance_norm
from gaxn.objectives.penalties import wgan_gp
from gaxn.types import InputError

ORIGINAL = {"attention": False, "spectral_norm": False}


def test_spectral_norm_changes_no_parameter_name():
    shapes = [
        jax.eval_shape(lambda n=network: n.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), True))
        for network in (Generator(3, 4, 1, attention=False), Generator(3, 4, 1, **ORIGINAL))
    ]
    chex.assert_trees_all_equal_shapes(*(variables["params"] for variables in shapes))
    assert "spectral" in shapes[0] and "spectral" not in shapes[1]


def _count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize(("blocks", "millions"), [(9, 11.378), (6, 7.838)])
def test_the_original_generator_has_the_published_size(blocks, millions):
    network = Generator(3, blocks=blocks, **ORIGINAL)
    images = jnp.zeros((1, 128, 128, 3))
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), images, True))
    assert round(_count(variables["params"]) / 1e6, 3) == millions
    assert set(variables) == {"params"}


def test_the_original_discriminator_has_the_published_size_and_patches():
    network = Discriminator(**ORIGINAL)
    images = jnp.zeros((1, 256, 256, 3))
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), images, None, True))
    assert round(_count(variables["params"]) / 1e6, 3) == 2.765
    logits = jax.eval_shape(lambda v: network.apply(v, images, None, False), variables)
    assert logits.shape == (1, 30, 30)


def test_a_logit_depends_on_70_pixels():
    network = Discriminator(width=2, instance_norm=False, **ORIGINAL)
    images = jnp.ones((1, 128, 128, 3))
    variables = jax.jit(lambda: network.init(jax.random.key(0), images, None, True))()
    slope = jax.jit(jax.grad(lambda x: network.apply(variables, x, None, False)[0, 7, 7]))(images)
    rows = np.flatnonzero(np.abs(slope[0]).sum(axis=(1, 2)))
    assert rows[-1] - rows[0] + 1 == 70


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_the_generator_equals_that_of_pytorch(size):
    torch_cyclegan = pytest.importorskip("torch_cyclegan")
    network = Generator(3, width=8, blocks=2, **ORIGINAL)
    original = torch_cyclegan.generator(8, 2)
    images = _images(2, *size, 3)
    params = torch_cyclegan.generator_weights(original, 2)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, True))
    chex.assert_trees_all_equal_shapes(params, shapes["params"])
    output = jax.jit(lambda: network.apply({"params": params}, images, False))()
    expected = torch_cyclegan.apply(original, images)
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-4)


def test_the_discriminator_equals_that_of_pytorch():
    torch_cyclegan = pytest.importorskip("torch_cyclegan")
    network, original = Discriminator(width=8, **ORIGINAL), torch_cyclegan.discriminator(8)
    images = _images(2, 48, 64, 3)
    params = torch_cyclegan.discriminator_weights(original)
    logits = jax.jit(lambda: network.apply({"params": params}, images, None, False))()
    expected = torch_cyclegan.apply(original, images)[..., 0]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


def test_initial_kernels_have_a_standard_deviation_of_2_percent():
    network = Generator(3, width=32, blocks=1, **ORIGINAL)
    images = jnp.zeros((1, 16, 16, 3))
    variables = jax.jit(lambda: network.init(jax.random.key(1), images, True))()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        name = jax.tree_util.keystr(path)
        if "kernel" in name:
            assert abs(float(leaf.std()) / 0.02 - 1) < 0.05, name
        else:
            assert not leaf.any(), name


def test_instance_norm_does_not_couple_images():
    x = _images(3, 5, 7, 4) * 3 + 1
    expected = (x - x.mean(axis=(1, 2), keepdims=True)) / np.sqrt(
        x.astype(np.float64).var(axis=(1, 2), keepdims=True) + 1e-5
    )
    np.testing.assert_allclose(instance_norm(x), expected, atol=1e-5)
    np.testing.assert_array_equal(instance_norm(x)[:1], instance_norm(x[:1]))


@pytest.mark.parametrize(
    ("make", "shape", "wrong"),
    [
        (lambda: Generator(3, width=4, blocks=1), (30, 32), "height and width"),
        (lambda: Generator(3, width=4, blocks=1), (4, 4), "height and width"),
        (lambda: Discriminator(width=4), (16, 16), "layers"),
        (lambda: Discriminator(width=4, dropout=1.0), (32, 32), "dropout"),
    ],
)
def test_invalid_sizes_and_options_are_refused(make, shape, wrong):
    network = make()
    inputs = (True,) if isinstance(network, Generator) else (None, True)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    with pytest.raises(InputError, match=wrong):
        network.init(rngs, jnp.zeros((1, *shape, 3)), *inputs)


def test_dropout_keeps_the_mean_and_depends_on_the_example():
    x, layer = jnp.ones((8, 100, 100)), Dropout(0.25)

    def drop(key, x=x, train=True):
        return layer.apply({}, x, train, rngs={"dropout": jax.random.key(key)})

    y = drop(0)
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    # 80,000 draws: the standard error of the mean is 0.002.
    assert abs(float(y.mean()) - 1) < 0.01
    assert not np.array_equal(y[0], y[1])
    np.testing.assert_array_equal(y[:4], drop(0, x[:4]))
    assert not np.array_equal(y, drop(1))
    np.testing.assert_array_equal(drop(0, train=False), x)


def test_the_history_processes_one_image_after_the_other():
    size, batch = 5, 4
    layer = ImageHistory(size)
    variables = layer.init(
        jax.random.key(0), jnp.zeros((batch, 2, 2, 1)), jax.random.split(jax.random.key(0), batch)
    )
    assert not int(variables["history"]["count"])
    apply = jax.jit(
        lambda variables, images, keys: layer.apply(variables, images, keys, mutable=["history"])
    )
    buffer, swaps = [], 0
    for step in range(40):
        images = np.full((batch, 2, 2, 1), 0, np.float32)
        images += step * batch + np.arange(batch, dtype=np.float32)[:, None, None, None] + 1
        keys = jax.random.split(jax.random.key(step), batch)
        outputs, variables = apply(variables, images, keys)
        for image, key, output in zip(images[:, 0, 0, 0], keys, outputs[:, 0, 0, 0], strict=True):
            choice_key, slot_key = jax.random.split(key)
            if len(buffer) < size:
                buffer.append(image)
                assert output == image
            elif jax.random.bernoulli(choice_key):
                slot = int(jax.random.randint(slot_key, (), 0, size))
                assert output == buffer[slot]
                buffer[slot] = image
                swaps += 1
            else:
                assert output == image
        np.testing.assert_array_equal(
            variables["history"]["images"][: len(buffer), 0, 0, 0], buffer
        )
    assert 0.35 < swaps / (40 * batch - size) < 0.65


@pytest.mark.slow
def test_the_gradient_penalty_has_the_slope_of_finite_differences():
    with jax.enable_x64(True):
        network = Discriminator(width=4, layers=2, dropout=0.3)
        images = jnp.asarray(_images(2, 16, 16, 3), jnp.float64)
        rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        variables = jax.jit(lambda: network.init(rngs, images, None, True))()
        variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
        # At 0, the attention's scale would take it out of the function.
        variables["params"]["attention"]["gamma"] = jnp.float64(0.7)
        # Of order 1, so that the penalty is.
        for name in ("still", "logits"):
            variables["params"][name]["kernel"] *= 3

        def discriminate(params, x):
            logits, _ = network.apply(
                {**variables, "params": params},
                x,
                None,
                True,
                rngs={"dropout": rngs["dropout"]},
                mutable=["spectral"],
            )
            return logits.mean(axis=(1, 2))

        real, fake = images, jnp.asarray(_images(2, 16, 16, 3, seed=1), jnp.float64)
        keys = jax.random.split(jax.random.key(2), 2)

        @jax.jit
        def penalty(params):
            return wgan_gp(1.0).values(lambda x: discriminate(params, x), real, fake, keys).sum()

        params = variables["params"]
        gradient = jax.jit(jax.grad(penalty))(params)
        random = np.random.default_rng(0)
        direction = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape)), params)
        step = 1e-6
        ends = [
            float(penalty(jax.tree.map(lambda p, w, s=s: p + s * step * w, params, direction)))
            for s in (1, -1)
        ]
        slope = sum(
            jax.tree.leaves(jax.tree.map(lambda g, w: float((g * w).sum()), gradient, direction))
        )
        assert abs(slope) > 1e-3
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-5)
