"""Networks that grow equal networks of each resolution, and mixtures of two in between."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

from gaxn.models import sagan, sagan_resnet
from gaxn.nn.growing import Growth, Stage
from gaxn.types import InputError

GROWTH = Growth((8, 16, 32), (0, 10, 20), 4)
SHARES = {10: 1 / 5, 12: 3 / 5, 13: 4 / 5, 14: 1, 20: 1}
"""Shares of 16 pixels by step; from step 20 on those of 32 pixels are theirs ten steps before."""

GENERATORS = {
    "plain": sagan.Generator(
        32, 3, networks.CLASSES, 16, (16, 8), attention_at=(8, 16), spectral_norm=True
    ),
    "residual": sagan_resnet.Generator(
        32, 3, networks.CLASSES, 16, (16, 8, 8), attention_at=(8, 32), attention_pool=1
    ),
}
DISCRIMINATORS = {
    "plain": sagan.Discriminator(networks.CLASSES, (8, 16, 16), attention_at=(4, 8)),
    "residual": sagan_resnet.Discriminator(
        networks.CLASSES, (8, 16, 16), attention_at=(4, 16), attention_pool=1, last=16
    ),
}


def _variables(network, x):
    """Returns random variables of a network that grows, with attention that is not 0."""
    variables = networks.initialize(network.clone(growing=GROWTH), x)

    def draw(path, leaf):
        return np.float32(0.5) if path[-1].key == "gamma" else leaf

    return jax.tree_util.tree_map_with_path(draw, variables)


def _at(variables, step):
    return {**variables, "growing": {"step": np.int32(step)}}


def _of_size(variables, size):
    """Returns the variables of the network of a size, as such a network calls them."""
    renamed = {}
    for collection, tree in variables.items():
        of_images = tree.get(f"from_{size}")
        blocks = {} if of_images is None else {f"to_{size // 2}": of_images}
        renamed[collection] = {**tree, **tree.get(f"image_{size}", {}), **blocks}
    return {name: tree for name, tree in renamed.items() if name != "growing"}


def _generator_of_size(name, size):
    generator = GENERATORS[name]
    count = {8: 0, 16: 1, 32: 2}[size] + (name == "residual")
    attention_at = tuple(s for s in generator.attention_at if s < size + (name == "residual"))
    return generator.clone(size=size, widths=generator.widths[:count], attention_at=attention_at)


def _discriminator_of_size(name, size):
    discriminator = DISCRIMINATORS[name]
    widths = discriminator.widths[{8: 2, 16: 1, 32: 0}[size] :]
    attention_at = tuple(s for s in discriminator.attention_at if s < size)
    return discriminator.clone(widths=widths, attention_at=attention_at)


def _enlarge(images):
    return images.repeat(2, axis=1).repeat(2, axis=2)


def _shrink(images, size):
    factor = images.shape[1] // size
    return images.reshape(len(images), size, factor, size, factor, -1).mean(axis=(2, 4))


def test_stages_have_one_resolution_or_a_pair_that_fades():
    assert GROWTH.stages == (
        Stage(0, (8,)),
        Stage(10, (8, 16)),
        Stage(14, (16,)),
        Stage(20, (16, 32)),
        Stage(24, (32,)),
    )
    steps = (0, 9, 10, 13, 14, 20, 24, 1_000)
    assert [GROWTH.stage_at(step) for step in steps] == [0, 0, 1, 1, 2, 3, 4, 4]
    at_once = Growth((8, 16, 32), (0, 10, 20))
    assert at_once.stages == (Stage(0, (8,)), Stage(10, (16,)), Stage(20, (32,)))
    always = Growth((8, 16, 32), (0, 10, 20), 10)
    assert [stage.first for stage in always.stages] == [0, 10, 20, 30]
    assert [stage.resolutions for stage in always.stages] == [(8,), (8, 16), (16, 32), (32,)]


def test_a_resolution_has_a_share_from_its_first_step_on():
    for step, share in SHARES.items():
        np.testing.assert_allclose(GROWTH.share(16, jnp.int32(step)), share, rtol=1e-6)
        np.testing.assert_allclose(GROWTH.share(32, jnp.int32(step + 10)), share, rtol=1e-6)
    assert GROWTH.share(16, jnp.int32(9)) == GROWTH.share(32, jnp.int32(19)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("train", [False, True])
def test_a_generator_is_that_of_each_size_or_a_mixture(name, train):
    generator, latents = GENERATORS[name], networks.draw_latents()
    variables = _variables(generator, latents)

    def draw(network, variables):
        return np.asarray(networks.apply(network, variables, latents, networks.LABELS, train))

    of_size = {
        size: draw(_generator_of_size(name, size), _of_size(variables, size))
        for size in GROWTH.resolutions
    }
    assert min(images.std(axis=0).max() for images in of_size.values()) > 0.01
    cases = {
        9: of_size[8],
        12: 0.4 * _enlarge(of_size[8]) + 0.6 * of_size[16],
        19: of_size[16],
        20: 0.8 * _enlarge(of_size[16]) + 0.2 * of_size[32],
        24: of_size[32],
    }
    for step, expected in cases.items():
        growth = GROWTH.at(GROWTH.stage_at(step))
        images = draw(generator.clone(growing=growth), _at(variables, step))
        np.testing.assert_allclose(images, expected, rtol=0, atol=2e-6)
        # With all layers, as for samples, the images have the last size.
        large = draw(generator.clone(growing=GROWTH), _at(variables, step))
        while len(expected[0]) < 32:
            expected = _enlarge(expected)
        np.testing.assert_allclose(large, expected, rtol=0, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_a_discriminator_is_that_of_each_size_or_a_mixture(name):
    discriminator, images = DISCRIMINATORS[name], networks.draw_images()
    variables = _variables(discriminator, images)

    def of_size(size, replaced=None):
        """Returns logits, and the output of the block before the last; or with another output."""
        outputs = []

        def replace(call, inputs, options, context):
            output = call(*inputs, **options)
            if context.module.name == f"to_{resolution}" and context.method_name == "__call__":
                outputs.append(output)
                return output if replaced is None else replaced
            return output

        network, smaller = _discriminator_of_size(name, size), _of_size(variables, size)
        with nn.intercept_methods(replace):
            logits = network.apply(smaller, _shrink(images, size), networks.LABELS, False)
        return logits, outputs[0]

    cases = {9: (8, 8, 1.0), 12: (8, 16, 0.6), 19: (16, 16, 1.0), 20: (16, 32, 0.2)}
    cases[24] = 32, 32, 1.0
    for step, (before, size, share) in cases.items():
        resolution = before // 2
        of_before, of_new = of_size(before)[1], of_size(size)[1]
        expected, _ = of_size(before, (1 - share) * of_before + share * of_new)
        if before == size:
            np.testing.assert_array_equal(expected, of_size(size)[0])
        growth = GROWTH.at(GROWTH.stage_at(step))
        for grown, x in ((growth, _shrink(images, size)), (GROWTH, images)):
            network = discriminator.clone(growing=grown)
            logits = network.apply(_at(variables, step), x, networks.LABELS, False)
            np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_real_images_are_reduced_as_the_generator_makes_its_own():
    images = networks.draw_images()
    small, middle = _shrink(images, 8), _shrink(images, 16)
    mixture = 0.4 * _enlarge(small) + 0.6 * middle
    for step, expected in {0: small, 12: mixture, 14: middle, 24: images}.items():
        growth = GROWTH.at(GROWTH.stage_at(step))
        reduced = growth.reduce(jnp.asarray(images), jnp.int32(step))
        np.testing.assert_allclose(reduced, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("network, draw", [(GENERATORS, "latents"), (DISCRIMINATORS, "images")])
def test_a_resolution_that_a_network_does_not_have_is_refused(network, draw):
    growth = Growth((2, 4, 8, 16, 32), (0, 1, 2, 3, 4))
    x = networks.draw_images() if draw == "images" else networks.draw_latents()
    with pytest.raises(InputError, match=r"resolutions must be the last of \((4, )?8, 16, 32\),"):
        networks.count_parameters(network["residual"].clone(growing=growth), x)
    with pytest.raises(InputError, match=r"resolutions must be each twice the one before, got"):
        Growth((8, 32), (0, 1))


def test_several_scales_do_not_grow():
    discriminator = DISCRIMINATORS["plain"].clone(scales=2, growing=GROWTH)
    with pytest.raises(InputError, match="scales must be 1 in a network that grows, got 2"):
        networks.count_parameters(discriminator, networks.draw_images())
