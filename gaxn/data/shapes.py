"""Squares, circles and triangles in three styles, drawn on the device from (seed, index) alone."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from gaxn import data, keys
from gaxn.types import Batch, Image, Indices, PRNGKey, check

CLASSES = ("square", "circle", "triangle")
BACKGROUNDS = ("dark", "random")
STYLES = ("plain", "warm", "cool")
TEST_EXAMPLES = 10_000
CONTRAST = 0.25
"""Smallest difference of the luminances of a shape and a random background."""
LINE = 0.09
"""Width of an outline, in units of the image height."""

CIRCUMRADIUS = np.array([np.sqrt(np.pi / 2), 1.0, np.sqrt(4 * np.pi / np.sqrt(27))], np.float32)
"""Circumradius of each shape, if its area is that of the unit circle."""


class Scene(NamedTuple):
    """Parameters of one image; lengths in units of the image height.

    Attributes:
        label: index into `CLASSES`.
        color: color of the shape, RGB in [0, 1].
        background: RGB in [0, 1].
        center: center of the shape, (y, x) in [0, 1].
        radius: radius of the circle that has the shape's area.
        angle: rotation of the shape, in radians.
    """

    label: Int[Array, "*batch"]
    color: Float[Array, "*batch 3"]
    background: Float[Array, "*batch 3"]
    center: Float[Array, "*batch 2"]
    radius: Float[Array, "*batch"]
    angle: Float[Array, "*batch"]


@dataclasses.dataclass(frozen=True)
class Source(data.Source):
    """Images of one anti-aliased shape, fully inside the frame.

    The rotation is uniform, the radius of the circle of equal area uniform in [0.22, 0.30] of the
    height, and the position uniform where the shape fits. Plain shapes are filled: hue is uniform,
    saturation in [0.5, 1], value in [0.6, 1].

    Warm and cool are two renderings of the same scenes. A warm shape is filled, on a dark
    background; its hue is uniform in the third of [0, 60) degrees that belongs to its class. A
    cool shape is an outline, on a light background, with the hue shifted by 180 degrees. So either
    image determines the other, and colors show which classes correspond. The training images of
    the two styles have no scene in common; test images of one index show the same scene.

    Attributes:
        examples: size of the training set; the test set has 10,000.
        size: height and width, in pixels, 16 or more.
        style: "plain" (filled, of any hue), "warm" (filled, on a dark background) or "cool" (an
            outline, on a light background).
        background: for the plain style, "dark" (near black) or "random" (any color whose luminance
            differs from the shape's by 0.25 or more).
        texture: amplitude of stripes across shape and background, in [0, 0.5].
        noise: standard deviation of pixel noise, in [0, 0.5] of the full range.
        seed: seed of the data set, independent of the experiment's seed.
    """

    examples: int = 50_000
    size: int = 32
    style: str = "plain"
    background: str = "dark"
    texture: float = 0.0
    noise: float = 0.0
    seed: int = 0

    class_names = CLASSES
    table = ()

    def __post_init__(self):
        super().__post_init__()
        backgrounds = BACKGROUNDS if self.style == "plain" else BACKGROUNDS[:1]
        check("style", self.style, self.style in STYLES, " or ".join(STYLES))
        expected = " or ".join(backgrounds) + f" with the style {self.style}"
        check("background", self.background, self.background in backgrounds, expected)
        check("examples", self.examples, self.examples >= 1, "1 or more")
        check("size", self.size, self.size >= 16, "16 or more")
        check("texture", self.texture, 0 <= self.texture <= 0.5, "from 0 to 0.5")
        check("noise", self.noise, 0 <= self.noise <= 0.5, "from 0 to 0.5")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.size, self.size, 3

    @property
    def identity(self) -> str:
        name = f"shapes size={self.size} background={self.background} "
        name += f"texture={self.texture} noise={self.noise}"
        return name if self.style == "plain" else f"{name} style={self.style}"

    def __len__(self) -> int:
        return TEST_EXAMPLES if self.split == "test" else self.examples

    def look_up(self, table: tuple[()], indices: Indices) -> Batch:
        """Draws the images at `indices`, int [...]."""
        images, scenes = jax.vmap(self._draw)(self._keys(indices))
        return Batch(
            images.reshape(*indices.shape, *self.image_shape), scenes.label.reshape(indices.shape)
        )

    def scenes(self, indices: Int[Array, " batch"]) -> Scene:
        """Returns the parameters of the images at `indices`, with a batch axis."""
        return jax.vmap(self._scene)(self._keys(indices))

    def _keys(self, indices: Indices) -> jax.Array:
        separate = self.style != "plain" and self.split == "train"
        name = f"{self.split} {self.style}" if separate else self.split
        split_key = keys.stream(jax.random.key(self.seed), name)
        return keys.per_example(split_key, indices.reshape(-1))

    def _draw(self, key: PRNGKey) -> tuple[UInt8[Array, "size size 3"], Scene]:
        scene = self._scene(key)
        image = render(scene, self.size, self.style == "cool")
        if self.texture:
            image = _striped(image, self.texture, keys.stream(key, "texture"))
        if self.noise:
            noise = jax.random.normal(keys.stream(key, "noise"), image.shape)
            image = image + self.noise * noise
        return quantize(image), scene

    def _scene(self, key: PRNGKey) -> Scene:
        def uniform(name, low=0.0, high=1.0, shape=()):
            return jax.random.uniform(keys.stream(key, name), shape, minval=low, maxval=high)

        label = jax.random.randint(keys.stream(key, "label"), (), 0, len(CLASSES))
        hue = uniform("hue")
        if self.style == "plain":
            color = hsv_to_rgb(hue, uniform("saturation", 0.5), uniform("value", 0.6))
            tone = 0.05
        else:
            shift, value, tone = (0.5, 0.7, 0.95) if self.style == "cool" else (0.0, 0.95, 0.05)
            hue = (label + hue) / len(CLASSES) / 6 + shift
            color = hsv_to_rgb(hue, jnp.array(0.9), jnp.array(value))
        radius = uniform("radius", 0.22, 0.30)
        room = 0.5 - radius * jnp.asarray(CIRCUMRADIUS)[label]
        background = jnp.full((3,), tone)
        if self.background == "random":
            background = _contrasting(color, uniform("background", shape=(3,)), uniform("tone"))
        # A stream's name, "centre", fixes the data set: it is never respelled.
        return Scene(
            label=label,
            color=color,
            background=background,
            center=0.5 + room * uniform("centre", -1.0, shape=(2,)),
            radius=radius,
            angle=uniform("angle", high=2 * jnp.pi),
        )


def luminance(color: Float[Array, "... 3"]) -> Float[Array, "..."]:
    """Returns the sum of RGB with Rec. 709 weights, without gamma correction, in [0, 1]."""
    return color @ jnp.array([0.2126, 0.7152, 0.0722])


def hsv_to_rgb(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> Float[Array, "3"]:
    """Converts one color from HSV, each in [0, 1], to RGB."""
    phase = jnp.mod(hue * 6 + jnp.array([5.0, 3.0, 1.0]), 6)
    return value * (1 - saturation * jnp.clip(jnp.minimum(phase, 4 - phase), 0, 1))


def _contrasting(
    color: Float[Array, "3"], tint: Float[Array, "3"], tone: jax.Array
) -> Float[Array, "3"]:
    """Darkens or lightens `tint` to a luminance that differs by `CONTRAST` from the color's.

    `tone`, uniform in [0, 1], selects the luminance uniformly from those that differ enough.
    """
    center = luminance(color)
    below, above = jnp.maximum(center - CONTRAST, 0), jnp.maximum(1 - center - CONTRAST, 0)
    position = tone * (below + above)
    target = jnp.where(position < below, position, center + CONTRAST + position - below)
    current = luminance(tint)
    darker = tint * target / jnp.maximum(current, 1e-6)
    lighter = tint + (1 - tint) * (target - current) / jnp.maximum(1 - current, 1e-6)
    return jnp.where(target < current, darker, lighter)


def render(scene: Scene, size: int, outlined: bool = False) -> Image:
    """Returns the image of a scene, in [0, 1], with each edge blended over one pixel."""
    pixel = (jnp.arange(size) + 0.5) / size
    y, x = jnp.meshgrid(pixel - scene.center[0], pixel - scene.center[1], indexing="ij")
    cos, sin = jnp.cos(scene.angle), jnp.sin(scene.angle)
    distance = _distance(cos * x + sin * y, cos * y - sin * x, scene.radius)[scene.label]
    if outlined:
        distance = jnp.maximum(distance, -distance - LINE)
    coverage = jnp.clip(0.5 - distance * size, 0, 1)[..., None]
    return coverage * scene.color + (1 - coverage) * scene.background


def quantize(image: Image) -> UInt8[Array, "height width channels"]:
    """Rounds an image in [0, 1] to the nearest uint8; clips values outside the range."""
    return jnp.round(255 * jnp.clip(image, 0, 1)).astype(jnp.uint8)


def _distance(x: jax.Array, y: jax.Array, radius: jax.Array) -> Float[Array, "3 size size"]:
    """Returns signed distances to the edges of a square, a circle and a triangle of equal area."""
    half_side = radius * CIRCUMRADIUS[0] / jnp.sqrt(2.0)
    inradius = radius * CIRCUMRADIUS[2] / 2
    square = jnp.maximum(jnp.abs(x), jnp.abs(y)) - half_side
    circle = jnp.sqrt(x * x + y * y) - radius
    triangle = jnp.maximum(-y, jnp.abs(x) * jnp.sqrt(3.0) / 2 + y / 2) - inradius
    return jnp.stack([square, circle, triangle])


def _striped(image: Image, amplitude: float, key: PRNGKey) -> Image:
    """Adds bright and dark stripes of a random direction, 3 to 6 across the image."""
    direction, stripes, phase = jax.random.uniform(
        key, (3,), minval=jnp.array([0.0, 3.0, 0.0]), maxval=jnp.array([jnp.pi, 6.0, 1.0])
    )
    pixel = (jnp.arange(image.shape[0]) + 0.5) / image.shape[0]
    along = pixel[:, None] * jnp.sin(direction) + pixel[None, :] * jnp.cos(direction)
    wave = jnp.sin(2 * jnp.pi * (stripes * along + phase))
    return image * (1 + amplitude * wave[..., None])
