"""Squares, circles and triangles, drawn on the device from (seed, index) alone, in three styles."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from gaxn import keys
from gaxn.types import Batch, Image, Indices, PRNGKey, require

CLASSES = ("square", "circle", "triangle")
SPLITS = ("train", "test")
BACKGROUNDS = ("dark", "random")
STYLES = ("plain", "warm", "cool")
TEST_EXAMPLES = 10_000
CONTRAST = 0.25
LINE = 0.09
"""Width of an outline, in heights of the image."""

_CIRCUMRADIUS = np.array([np.sqrt(np.pi / 2), 1.0, np.sqrt(4 * np.pi / np.sqrt(27))], np.float32)
"""Of each shape whose area is that of the unit circle."""


class Scene(NamedTuple):
    """What is in one picture; lengths in units of the image's height.

    Attributes:
        label: index into `CLASSES`.
        colour: of the shape, RGB in [0, 1].
        background: RGB in [0, 1].
        centre: of the shape, (y, x) in [0, 1].
        radius: of the circle that has the shape's area.
        angle: of the shape's rotation, in radians.
    """

    label: Int[Array, "*batch"]
    colour: Float[Array, "*batch 3"]
    background: Float[Array, "*batch 3"]
    centre: Float[Array, "*batch 2"]
    radius: Float[Array, "*batch"]
    angle: Float[Array, "*batch"]


@dataclasses.dataclass(frozen=True)
class Source:
    """Pictures of one anti-aliased shape, whole within the frame.

    Rotation is uniform, the radius of the circle of equal area in [0.22, 0.30] of the height,
    the place uniform where the shape fits. Plain shapes are filled: hue is uniform, saturation
    in [0.5, 1], value in [0.6, 1].

    Warm and cool ones are two renderings of the same scenes. A warm shape is filled, on dark,
    its hue uniform in the third of [0, 60) degrees that belongs to its class; a cool one is an
    outline, on light, 180 degrees away. So each can be told from the other, and colours say
    which class goes with which. Training images of one show scenes that none of the other does;
    test images of an index show the same scene.

    Attributes:
        split: "train" or "test"; their pictures come from different keys.
        examples: size of the training set; the test set has 10,000.
        size: height and width, in pixels, 16 or more.
        style: "plain", "warm" or "cool".
        background: of plain ones: "dark" (near black) or "random" (any colour whose luminance
            differs from the shape's by 0.25 or more).
        texture: amplitude of stripes across shape and background, in [0, 0.5].
        noise: standard deviation of pixel noise, in [0, 0.5] of the full range.
        seed: seed of the data set, apart from the experiment's.
    """

    split: str = "train"
    examples: int = 50_000
    size: int = 32
    style: str = "plain"
    background: str = "dark"
    texture: float = 0.0
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self):
        require("split", self.split, self.split in SPLITS, " or ".join(SPLITS))
        require(
            "background", self.background, self.background in BACKGROUNDS, " or ".join(BACKGROUNDS)
        )
        require("style", self.style, self.style in STYLES, " or ".join(STYLES))
        plain = self.style == "plain" or self.background == "dark"
        require("background", self.background, plain, f"dark with the style {self.style}")
        require("examples", self.examples, self.examples >= 1, "1 or more")
        require("size", self.size, self.size >= 16, "16 or more")
        require("texture", self.texture, 0 <= self.texture <= 0.5, "0 to 0.5")
        require("noise", self.noise, 0 <= self.noise <= 0.5, "0 to 0.5")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.size, self.size, 3

    @property
    def class_names(self) -> tuple[str, ...]:
        return CLASSES

    @property
    def identity(self) -> str:
        return (
            f"shapes size={self.size} background={self.background} "
            f"texture={self.texture} noise={self.noise}"
        ) + ("" if self.style == "plain" else f" style={self.style}")

    @property
    def table(self) -> tuple[()]:
        return ()

    def __len__(self) -> int:
        return TEST_EXAMPLES if self.split == "test" else self.examples

    def look_up(self, table: tuple[()], indices: Indices) -> Batch:
        """Draws the pictures of `indices`, int [...]."""
        images, scenes = jax.vmap(self._draw)(self._keys(indices))
        return Batch(
            images.reshape(*indices.shape, *self.image_shape),
            scenes.label.reshape(indices.shape),
        )

    def scenes(self, indices: Int[Array, "batch"]) -> Scene:
        """What is in the pictures of `indices`: a scene whose fields have a batch axis."""
        return jax.vmap(self._scene)(self._keys(indices))

    def _keys(self, indices: Indices) -> jax.Array:
        own = self.style != "plain" and self.split == "train"
        name = f"{self.split} {self.style}" if own else self.split
        split_key = keys.stream(jax.random.key(self.seed), name)
        return keys.per_example(split_key, indices.reshape(-1))

    def _draw(self, key: PRNGKey) -> tuple[UInt8[Array, "size size 3"], Scene]:
        scene = self._scene(key)
        image = _render(scene, self.size, self.style == "cool")
        if self.texture:
            image = _striped(image, self.texture, keys.stream(key, "texture"))
        if self.noise:
            noise = jax.random.normal(keys.stream(key, "noise"), image.shape)
            image = image + self.noise * noise
        return jnp.round(255 * jnp.clip(image, 0, 1)).astype(jnp.uint8), scene

    def _scene(self, key: PRNGKey) -> Scene:
        def uniform(name, low=0.0, high=1.0, shape=()):
            return jax.random.uniform(keys.stream(key, name), shape, minval=low, maxval=high)

        label = jax.random.randint(keys.stream(key, "label"), (), 0, len(CLASSES))
        hue = uniform("hue")
        if self.style == "plain":
            colour = _colour(hue, uniform("saturation", 0.5), uniform("value", 0.6))
            tone = 0.05
        else:
            turn, value, tone = (0.5, 0.7, 0.95) if self.style == "cool" else (0.0, 0.95, 0.05)
            colour = _colour(
                (label + hue) / len(CLASSES) / 6 + turn, jnp.array(0.9), jnp.array(value)
            )
        radius = uniform("radius", 0.22, 0.30)
        room = 0.5 - radius * jnp.asarray(_CIRCUMRADIUS)[label]
        background = jnp.full((3,), tone)
        if self.background == "random":
            background = _contrasting(colour, uniform("background", shape=(3,)), uniform("tone"))
        return Scene(
            label=label,
            colour=colour,
            background=background,
            centre=0.5 + room * uniform("centre", -1.0, shape=(2,)),
            radius=radius,
            angle=uniform("angle", high=2 * jnp.pi),
        )


def luminance(colour: Float[Array, "... 3"]) -> Float[Array, "..."]:
    """Rec. 709 weights on the values as they are, in [0, 1]."""
    return colour @ jnp.array([0.2126, 0.7152, 0.0722])


def _colour(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> Float[Array, "3"]:
    """HSV, each in [0, 1], to RGB."""
    phase = jnp.mod(hue * 6 + jnp.array([5.0, 3.0, 1.0]), 6)
    return value * (1 - saturation * jnp.clip(jnp.minimum(phase, 4 - phase), 0, 1))


def _contrasting(
    colour: Float[Array, "3"], tint: Float[Array, "3"], tone: jax.Array
) -> Float[Array, "3"]:
    """`tint`, darkened or lightened to a luminance at least `CONTRAST` from the colour's.

    `tone`, uniform in [0, 1], picks that luminance uniformly from what is allowed.
    """
    own = luminance(colour)
    below, above = jnp.maximum(own - CONTRAST, 0), jnp.maximum(1 - own - CONTRAST, 0)
    place = tone * (below + above)
    target = jnp.where(place < below, place, own + CONTRAST + place - below)
    current = luminance(tint)
    darker = tint * target / jnp.maximum(current, 1e-6)
    lighter = tint + (1 - tint) * (target - current) / jnp.maximum(1 - current, 1e-6)
    return jnp.where(target < current, darker, lighter)


def _render(scene: Scene, size: int, outlined: bool) -> Image:
    """The scene in [0, 1], each edge blended over one pixel by its distance."""
    pixel = (jnp.arange(size) + 0.5) / size
    y, x = jnp.meshgrid(pixel - scene.centre[0], pixel - scene.centre[1], indexing="ij")
    cos, sin = jnp.cos(scene.angle), jnp.sin(scene.angle)
    distance = _distance(cos * x + sin * y, cos * y - sin * x, scene.radius)[scene.label]
    if outlined:
        distance = jnp.maximum(distance, -distance - LINE)
    coverage = jnp.clip(0.5 - distance * size, 0, 1)[..., None]
    return coverage * scene.colour + (1 - coverage) * scene.background


def _distance(x: jax.Array, y: jax.Array, radius: jax.Array) -> Float[Array, "3 size size"]:
    """Signed distance to the edges of a square, a circle and a triangle of equal area."""
    half_side = radius * _CIRCUMRADIUS[0] / jnp.sqrt(2.0)
    inradius = radius * _CIRCUMRADIUS[2] / 2
    square = jnp.maximum(jnp.abs(x), jnp.abs(y)) - half_side
    circle = jnp.sqrt(x * x + y * y) - radius
    triangle = jnp.maximum(-y, jnp.abs(x) * jnp.sqrt(3.0) / 2 + y / 2) - inradius
    return jnp.stack([square, circle, triangle])


def _striped(image: Image, amplitude: float, key: PRNGKey) -> Image:
    """Brightens and darkens in stripes of a random direction, 3 to 6 across the picture."""
    direction, stripes, phase = jax.random.uniform(
        key, (3,), minval=jnp.array([0.0, 3.0, 0.0]), maxval=jnp.array([jnp.pi, 6.0, 1.0])
    )
    pixel = (jnp.arange(image.shape[0]) + 0.5) / image.shape[0]
    along = pixel[:, None] * jnp.sin(direction) + pixel[None, :] * jnp.cos(direction)
    wave = jnp.sin(2 * jnp.pi * (stripes * along + phase))
    return image * (1 + amplitude * wave[..., None])
