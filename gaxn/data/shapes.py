"""Squares, circles and triangles, drawn on the device from (seed, index) alone."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from gaxn import keys
from gaxn.types import Batch, Indices, InputError, PRNGKey

CLASSES = ("square", "circle", "triangle")
BACKGROUNDS = ("dark", "random")
TEST_EXAMPLES = 10_000

Colour = Float[Array, "3"]


class Scene(NamedTuple):
    """What is in one picture; lengths in units of the image's height, angles in radians."""

    label: Int[Array, ""]
    colour: Colour
    background: Colour
    centre: Float[Array, "2"]
    radius: Float[Array, ""]
    angle: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Source:
    """An endless supply of pictures of one filled, anti-aliased shape.

    The radius is that of the circle, and of the discs of equal area for the others.

    Attributes:
        split: "train" or "test"; they share no index.
        examples: size of the training set; the test set has 10,000.
        size: height and width, in pixels.
        background: "dark" (plain, near black) or "random" (any colour whose luminance
            differs from the shape's by at least 0.25).
        texture: amplitude of stripes across shape and background, in [0, 0.5].
        noise: standard deviation of pixel noise, in [0, 0.5] of the full range.
        seed: seed of the data set, apart from the experiment's.
    """

    split: str = "train"
    examples: int = 50_000
    size: int = 32
    background: str = "dark"
    texture: float = 0.0
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self):
        if self.background not in BACKGROUNDS:
            raise InputError(f"background is {self.background!r}; valid are {BACKGROUNDS}")
        for name in ("texture", "noise"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise InputError(f"{name} is {getattr(self, name)}; valid is 0 to 0.5")
        if self.size < 16:
            raise InputError(f"size is {self.size}; valid is 16 or more")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.size, self.size, 3

    @property
    def class_names(self) -> tuple[str, ...]:
        return CLASSES

    def __len__(self) -> int:
        return TEST_EXAMPLES if self.split == "test" else self.examples

    def batch(self, indices: Indices) -> Batch:
        """Draws the examples of `indices`, int [...], under jit or not."""
        split = keys.stream(jax.random.key(self.seed), self.split)
        example_keys = keys.per_example(split, indices.reshape(-1))
        images, labels = jax.vmap(self._example)(example_keys)
        return Batch(
            images.reshape(*indices.shape, *self.image_shape), labels.reshape(indices.shape)
        )

    def _example(self, key: PRNGKey) -> tuple[UInt8[Array, "size size 3"], Int[Array, ""]]:
        scene = _scene(keys.stream(key, "scene"), self.background)
        image = _render(scene, self.size)
        return image, scene.label


def _scene(key: PRNGKey, background: str) -> Scene:
    def uniform(name, shape=(), low=0.0, high=1.0):
        return jax.random.uniform(keys.stream(key, name), shape, minval=low, maxval=high)

    label = jax.random.randint(keys.stream(key, "label"), (), 0, len(CLASSES))
    radius = uniform("radius", low=0.17, high=0.28)
    extent = radius * jnp.array([1.2533, 1.0, 1.5552])[label]
    centre = 0.5 + (0.5 - extent) * uniform("centre", (2,), low=-1.0)
    return Scene(
        label, _colour(uniform("hue"), uniform("sat", low=0.5), uniform("val", low=0.6)), jnp.full((3,), 0.05), centre, radius, uniform("angle", high=2 * jnp.pi)
    )


def _colour(hue, saturation, value) -> Colour:
    """HSV to RGB."""
    phase = jnp.mod(hue * 6 + jnp.array([5.0, 3.0, 1.0]), 6)
    return value * (1 - saturation * jnp.clip(jnp.minimum(phase, 4 - phase), 0, 1))


def _render(scene: Scene, size: int) -> UInt8[Array, "size size 3"]:
    centres = (jnp.arange(size) + 0.5) / size
    y, x = jnp.meshgrid(centres - scene.centre[0], centres - scene.centre[1], indexing="ij")
    cos, sin = jnp.cos(scene.angle), jnp.sin(scene.angle)
    x, y = cos * x + sin * y, cos * y - sin * x
    half = scene.radius * jnp.sqrt(jnp.pi) / 2
    inner = scene.radius * jnp.sqrt(jnp.pi / (3 * jnp.sqrt(3.0)))
    square = jnp.maximum(jnp.abs(x), jnp.abs(y)) - half
    circle = jnp.sqrt(x * x + y * y) - scene.radius
    slant = jnp.sqrt(3.0) / 2
    triangle = jnp.maximum(-y, jnp.abs(x) * slant + y / 2) - inner
    distance = jnp.stack([square, circle, triangle])[scene.label]
    coverage = jnp.clip(0.5 - distance * size, 0, 1)[..., None]
    image = coverage * scene.colour + (1 - coverage) * scene.background
    return jnp.round(image * 255).astype(jnp.uint8)
