"""Progressive growing: networks that begin at a low resolution (Karras et al., 2018, section 2).

The layers of a resolution fade in: for some steps an image is a mixture of the new resolution and
of the one before, enlarged. All layers have their variables from the start.
"""

import bisect
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gaxn.nn.attention import apply_self_attention
from gaxn.nn.resampling import average_pool, repeat, resolutions
from gaxn.types import Images, check

COLLECTION = "growing"
"""The collection of the training step, from which a network computes how far layers faded in."""


class Stage(NamedTuple):
    """Training steps with the same layers.

    Attributes:
        first: the first of these steps.
        resolutions: those that the images are made of: one, or two while the second fades in.
    """

    first: int
    resolutions: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Growth:
    """Which resolutions a GAN's networks have at which step.

    Attributes:
        resolutions: heights and widths of images, each twice the one before; the last is that of
            the data.
        starts: the first step of each, ascending from 0.
        fade_steps: steps in which each but the first fades in.
        stage: index of the stage whose layers a network has; None for all layers, which suits
            any step: images then have the last resolution.
    """

    resolutions: tuple[int, ...]
    starts: tuple[int, ...] = (0,)
    fade_steps: int = 0
    stage: int | None = None

    def __post_init__(self):
        valid = all(2 * first == second for first, second in pairwise(self.resolutions))
        check("resolutions", self.resolutions, valid, "each twice the one before")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of a run: of each resolution, that in which it fades in, and the rest."""
        stages = [Stage(0, self.resolutions[:1])]
        for pair, start in zip(pairwise(self.resolutions), self.starts[1:], strict=True):
            # A resolution may be fading in until the next one comes.
            stages = [stage for stage in stages if stage.first < start]
            stages += [Stage(start, pair)] * (self.fade_steps > 0)
            stages.append(Stage(start + self.fade_steps, pair[1:]))
        return tuple(stages)

    @property
    def active(self) -> tuple[int, ...]:
        """The resolutions that images are made of in this stage; all without a stage."""
        return self.resolutions if self.stage is None else self.stages[self.stage].resolutions

    def at(self, stage: int) -> "Growth":
        """Returns the growth of networks that have the layers of a stage."""
        return dataclasses.replace(self, stage=stage)

    def stage_at(self, step: int) -> int:
        """Returns the index of the stage of a training step."""
        return bisect.bisect_right([stage.first for stage in self.stages], step) - 1

    def share(self, resolution: int, step: jax.Array) -> jax.Array:
        """Returns alpha, the weight of a resolution in the mixture, in [0, 1].

        It is 0 before the first step of the resolution, 1 / (fade_steps + 1) in it, and 1 from
        `fade_steps` steps later on. The first resolution has none.

        It is above 0 in its first step, as Adam's update after a gradient of 0 would be too large.
        """
        start = self.starts[self.resolutions.index(resolution)]
        return jnp.clip((step + 1 - start) / (self.fade_steps + 1), 0, 1)

    def fade(
        self, before: jax.Array | None, new: jax.Array, resolution: int, step: jax.Array
    ) -> jax.Array:
        """Returns (1 - share) before + share new; `new` without `before`."""
        if before is None:
            return new
        share = self.share(resolution, step)
        return ((1 - share) * before + share * new).astype(new.dtype)

    def fade_image(
        self, before: Images | None, new: Images, resolution: int, step: jax.Array
    ) -> Images:
        """As `fade`, with the image of the resolution before enlarged to that of the new one."""
        enlarged = None if before is None else repeat(before)
        return self.fade(enlarged, new, resolution, step)

    def reduce(self, images: Images, step: jax.Array) -> Images:
        """Returns real images averaged down, and mixed as the generated ones."""
        reduced = None
        for resolution in self.active:
            new = shrink(images, resolution)
            reduced = self.fade_image(reduced, new, resolution, step)
        return reduced


def growth_and_step(
    network: nn.Module, available: Sequence[int]
) -> tuple[Growth, jax.Array | None]:
    """Returns the growth of a network, and the training step by which its layers fade in.

    Without growth these are one resolution and None. Called once within the compact method of a
    network with the field `growing`.

    Args:
        network: the network.
        available: resolutions of images that it can make or take in, ascending; the last is that
            of all its layers.

    Raises:
        InputError: the growth has other resolutions.
    """
    growth = network.growing
    if growth is None:
        return Growth(tuple(available[-1:])), None
    valid = tuple(available[-len(growth.resolutions) :]) == growth.resolutions
    expected = f"the last of {tuple(available)}, which the networks can have"
    check("resolutions", growth.resolutions, valid, expected)
    return growth, network.variable(COLLECTION, "step", jnp.zeros, (), jnp.int32).value


def with_step(collections: Mapping[str, Any], step: jax.Array) -> dict[str, Any]:
    """Returns the collections of a state with this step for networks that grow."""
    if COLLECTION not in collections:
        return dict(collections)
    steps = jax.tree.map(lambda leaf: jnp.asarray(step, leaf.dtype), collections[COLLECTION])
    return {**collections, COLLECTION: steps}


def shrink(images: Images, resolution: int) -> Images:
    """Halves height and width by area averages until they are the resolution."""
    while images.shape[1] > resolution:
        images = average_pool(images)
    return images


class ImageLayers(nn.Module):
    """A generator's layers for images of a resolution below its last.

    Attributes:
        make_image: see the function `make_image`.
        channels, spectral_norm, dtype: of the generator.
    """

    make_image: Callable[..., Images]
    channels: int
    spectral_norm: bool
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: Images, size: int, train: bool) -> Images:
        return self.make_image(self, x, size, train)


def make_image(
    network: nn.Module, make: Callable[..., Images], x: Images, size: int, train: bool
) -> Images:
    """Returns an image that a generator makes of a map, by layers for its resolution.

    Called within the compact method of a network with the fields `size`, `channels`,
    `spectral_norm` and `dtype`. The layers of the last resolution have the names of those of a
    network that does not grow.

    Args:
        network: the generator.
        make: (module that gets the layers, x, size, train) -> an image.
        x: the map.
        size: height and width of the image.
        train: input of the network.
    """
    if size == network.size:
        return make(network, x, size, train)
    options = network.channels, network.spectral_norm, network.dtype
    return ImageLayers(make, *options, name=f"image_{size}")(x, size, train)


def run_halvings(
    network: nn.Module,
    images: Images,
    make_block: Callable[[int, bool, str], nn.Module],
    train: bool,
) -> jax.Array:
    """Returns the features of images after a discriminator's halving blocks and self-attention.

    Of a discriminator that grows, each resolution has a block that takes in images, as the first
    block does in a network of that size. Called within the compact method of a network with the
    fields `widths`, `scales` and `growing`, and those of `apply_self_attention`.

    Args:
        network: the discriminator.
        images: of the last active resolution.
        make_block: (channels, whether it takes in images, name) -> a block.
        train: input of the network.

    Raises:
        InputError: the fields or the images' size do not suit each other.
    """
    sizes = resolutions(full_size(network, images), len(network.widths))[::-1]
    growth, step = growth_and_step(network, sizes[-2::-1])
    x = None
    for width, (before, size) in zip(network.widths, pairwise(sizes), strict=True):
        if x is not None:
            x = make_block(width, False, f"to_{size}")(x, train)
        if before in growth.active:
            name = f"to_{size}" if before == sizes[0] else f"from_{before}"
            of_images = make_block(width, True, name)(shrink(images, before), train)
            x = of_images if x is None else growth.fade(of_images, x, 2 * before, step)
        if x is not None:
            x = apply_self_attention(network, x, train)
    return images if x is None else x


def full_size(network: nn.Module, images: Images) -> int:
    """Returns height and width of the images that a discriminator takes in when it is complete."""
    return images.shape[1] if network.growing is None else network.growing.resolutions[-1]
