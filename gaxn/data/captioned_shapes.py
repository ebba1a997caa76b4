"""Shapes with captions: sentences of size, color, shape and place, each word true of its image."""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from gaxn import data, keys
from gaxn.data import shapes
from gaxn.data.shapes import Scene
from gaxn.types import Batch, Indices, InputError, PRNGKey, check

GRAMMAR = {
    "size": {
        "small": ("small", "little", "tiny"),
        "medium": ("medium", "medium-sized"),
        "large": ("large", "big", "huge"),
    },
    "color": {
        "red": ("red", "scarlet"),
        "orange": ("orange", "tangerine"),
        "yellow": ("yellow", "lemon"),
        "green": ("green", "emerald"),
        "cyan": ("cyan", "turquoise"),
        "blue": ("blue", "sapphire"),
        "purple": ("purple", "violet"),
        "pink": ("pink", "rose"),
    },
    "shape": {
        "square": ("square", "box"),
        "circle": ("circle", "disc"),
        "triangle": ("triangle", "wedge"),
    },
    "place": {
        "top left": ("at the top left", "in the upper left corner"),
        "top": ("at the top", "in the upper middle"),
        "top right": ("at the top right", "in the upper right corner"),
        "left": ("at the left", "on the left side"),
        "center": ("in the center", "in the middle"),
        "right": ("at the right", "on the right side"),
        "bottom left": ("at the bottom left", "in the lower left corner"),
        "bottom": ("at the bottom", "in the lower middle"),
        "bottom right": ("at the bottom right", "in the lower right corner"),
    },
}
"""By attribute and word: the phrases for it, which captions have equally often."""

TEMPLATES = (
    "a {size} {color} {shape} {place}",
    "{place} there is a {size} {color} {shape}",
    "a {shape} {place} that is {size} and {color}",
)

FILLERS = frozenset(
    ("a", "an", "and", "at", "corner", "in", "is", "of", "on", "side", "that", "the", "there")
)
"""Words of a caption that name no attribute."""

WORDS = {attribute: tuple(phrases) for attribute, phrases in GRAMMAR.items()}

RADII = np.array([[0.105, 0.12], [0.15, 0.165], [0.195, 0.21]], np.float32)
"""Smallest and largest radius of each size, of the circle that has the shape's area."""

HUES = np.array([0, 32, 60, 120, 180, 230, 275, 328], np.float32) / 360
"""Mean hue of each color, in turns."""

HUE_JITTER = 6 / 360
"""Largest difference of a hue from that mean."""

MARGIN, CELL, MIDDLE = 0.17, 0.35, (0.45, 0.55)
"""Centers are from `MARGIN` (or further in, if the shape needs it) to `CELL` from an edge, or in
`MIDDLE`."""

TONES = (0.05, 0.95)
"""Gray values of the dark and of the light background."""

TEST_EXAMPLES = 2_000

_PHRASES = {attribute: tuple(words.values()) for attribute, words in GRAMMAR.items()}
_SHAPES = len(shapes.CLASSES)
_PAIRS = len(HUES) * _SHAPES


@dataclasses.dataclass(frozen=True)
class Source(data.Source):
    """Images of one filled shape on a dark or a light background, each with a sentence about it.

    A caption has one word for each of size, color, shape and place, such as "a small red circle at
    the top left", by one of three templates and with synonyms (`GRAMMAR`). All combinations are
    equally frequent. Only the pairs of a color and a shape that are held out, drawn by the seed,
    are in no training image; the test split has them as often as others. They differ in color, and
    the shapes take turns, so that training has each color with two shapes or more.

    Between two words is a gap: radii of the circle of equal area are in [0.105, 0.12], [0.15,
    0.165] or [0.195, 0.21] of the height; hues within 6 degrees of 0, 32, 60, 120, 180, 230, 275 or
    328, saturation and value in [0.8, 1]; centers in [0.17, 0.35], [0.45, 0.55] or [0.65, 0.83] of
    each axis, further in where a shape would leave the frame. The rotation is uniform. The
    background is near black or near white, which no word says.

    Attributes:
        examples: size of the training set; the test set has 2,000.
        size: height and width, in pixels, 16 or more.
        held_out: number of pairs of a color and a shape that training lacks, from 0 to 8.
        seed: seed of the data set, independent of the experiment's seed.
    """

    examples: int = 50_000
    size: int = 32
    held_out: int = 3
    seed: int = 0

    class_names = shapes.CLASSES
    words = WORDS
    table = ()

    def __post_init__(self):
        super().__post_init__()
        check("examples", self.examples, self.examples >= 1, "1 or more")
        check("size", self.size, self.size >= 16, "16 or more")
        most = len(HUES)
        check("held_out", self.held_out, 0 <= self.held_out <= most, f"from 0 to {most}")
        check("flip", self.flip, not self.flip, "False, as captions name left and right")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.size, self.size, 3

    @property
    def identity(self) -> str:
        name = f"captioned shapes size={self.size}"
        return f"{name} without {', '.join(self.held_out_pairs)}" if self.held_out else name

    @property
    def held_out_pairs(self) -> tuple[str, ...]:
        """Pairs that training lacks, such as "green triangle"."""
        return tuple(
            f"{WORDS['color'][pair // _SHAPES]} {WORDS['shape'][pair % _SHAPES]}"
            for pair in self._held_out
        )

    @property
    def complete(self) -> "Source":
        """This source with no pair held out."""
        return dataclasses.replace(self, held_out=0)

    def __len__(self) -> int:
        return TEST_EXAMPLES if self.split == "test" else self.examples

    def look_up(self, table: tuple[()], indices: Indices) -> Batch:
        """Draws the images at `indices`, int [...]; labels are the shapes."""
        images, labels = jax.vmap(self._draw)(self._keys(indices))
        return Batch(
            images.reshape(*indices.shape, *self.image_shape), labels.reshape(indices.shape)
        )

    def scenes(self, indices: Int[Array, " batch"]) -> Scene:
        """Returns the parameters of the images at `indices`, with a batch axis."""
        return jax.vmap(lambda key: _scene(key, self._attributes(key)))(self._keys(indices))

    def attributes(self, indices: Int[Array, " batch"]) -> dict[str, Int[Array, " batch"]]:
        """Returns for each attribute the index in `words` of the true word."""
        return jax.vmap(self._attributes)(self._keys(indices))

    def is_held_out(self, indices: Int[Array, " batch"]) -> Bool[Array, " batch"]:
        """Returns whether training lacks the color and shape of the images at `indices`."""
        words = self.attributes(indices)
        return jnp.isin(words["color"] * _SHAPES + words["shape"], jnp.asarray(self._held_out))

    @functools.cached_property
    def captions(self) -> tuple[str, ...]:
        """Sentences of all images, in the order of their indices."""
        words, choices = jax.device_get(jax.jit(self._describe)(np.arange(len(self))))
        columns = (words[attribute].tolist() for attribute in GRAMMAR)
        return tuple(map(_write, zip(*columns, strict=True), choices.tolist()))

    @functools.cached_property
    def _held_out(self) -> Int[np.ndarray, " pairs"]:
        """Held-out pairs: index of the color * 3 + index of the shape, ascending."""
        with jax.ensure_compile_time_eval():
            key = keys.stream(jax.random.key(self.seed), "held out")
            order = np.asarray(jax.random.uniform(key, (len(HUES) + _SHAPES,)))
        colors, turns = order[: len(HUES)].argsort(), order[len(HUES) :].argsort()
        places = np.arange(self.held_out)
        return np.sort(colors[places] * _SHAPES + turns[places % _SHAPES]).astype(np.int32)

    def _keys(self, indices: Indices) -> jax.Array:
        split_key = keys.stream(jax.random.key(self.seed), self.split)
        return keys.per_example(split_key, indices.reshape(-1))

    def _draw(self, key: PRNGKey) -> tuple[UInt8[Array, "size size 3"], Int[Array, ""]]:
        scene = _scene(key, self._attributes(key))
        return shapes.quantize(shapes.render(scene, self.size)), scene.label

    def _attributes(self, key: PRNGKey) -> dict[str, Int[Array, ""]]:
        pairs = np.arange(_PAIRS, dtype=np.int32)
        if self.split == "train":
            pairs = np.setdiff1d(pairs, self._held_out)
        counts = len(WORDS["size"]), len(pairs), len(WORDS["place"])
        # One draw compiles much faster than one for each attribute.
        choices = jax.random.uniform(keys.stream(key, "words"), (len(counts),))
        size, pair, place = (choices * jnp.array(counts)).astype(jnp.int32)
        color, shape = jnp.divmod(jnp.asarray(pairs)[pair], _SHAPES)
        return {"size": size, "color": color, "shape": shape, "place": place}

    def _describe(
        self, indices: Int[Array, " batch"]
    ) -> tuple[dict[str, Int[Array, " batch"]], Float[Array, "batch choices"]]:
        """Returns the words, and what chooses a phrase for each attribute and a template."""

        def choose(key):
            return jax.random.uniform(keys.stream(key, "phrases"), (len(GRAMMAR) + 1,))

        return self.attributes(indices), jax.vmap(choose)(self._keys(indices))


def parse(caption: str) -> dict[str, str]:
    """Returns the words that a sentence names, by attribute, synonyms as the word they stand for.

    The order of the words does not matter, and attributes may be missing.

    Raises:
        InputError: the sentence names nothing, has a word that is not of the grammar, or two
            different words for one attribute.
    """
    named: dict[str, str] = {}
    remaining = _significant(caption)
    check("a caption", caption, bool(remaining), 'a sentence such as "a small red circle"')
    while remaining:
        length = 2 if " ".join(remaining[:2]) in _MEANINGS else 1
        phrase = " ".join(remaining[:length])
        remaining = remaining[length:]
        if phrase not in _MEANINGS:
            known = ", ".join(word for words in WORDS.values() for word in words)
            raise InputError(
                f"words of a caption must be {known}, or synonyms, got {phrase!r} in {caption!r}"
            )
        attribute, word = _MEANINGS[phrase]
        if named.setdefault(attribute, word) != word:
            raise InputError(
                f"a caption must name one {attribute}, got {named[attribute]} and {word} in "
                f"{caption!r}"
            )
    return named


def _significant(text: str) -> list[str]:
    """Returns the words of a text that may name an attribute, in lower case."""
    return [word for word in re.findall(r"[\w-]+", text.lower()) if word not in FILLERS]


_MEANINGS = {
    " ".join(_significant(phrase)): (attribute, word)
    for attribute, words in GRAMMAR.items()
    for word, phrases in words.items()
    for phrase in phrases
}
"""Attribute and word of each phrase, without fillers."""


def _write(words: Sequence[int], choices: Sequence[float]) -> str:
    """Returns a sentence.

    Args:
        words: index of the word of each attribute.
        choices: numbers in [0, 1): of the phrase of each attribute, and of the template.
    """
    *phrase_choices, template_choice = choices
    phrases = {
        attribute: _pick(_PHRASES[attribute][word], choice)
        for attribute, word, choice in zip(GRAMMAR, words, phrase_choices, strict=True)
    }
    return _pick(TEMPLATES, template_choice).format(**phrases)


def _pick(options: Sequence[str], choice: float) -> str:
    return options[int(choice * len(options))]


def _scene(key: PRNGKey, words: Mapping[str, Int[Array, ""]]) -> Scene:
    """Draws a scene of which the words are true."""

    def uniform(name, low=0.0, high=1.0, shape=()):
        return jax.random.uniform(keys.stream(key, name), shape, minval=low, maxval=high)

    hue = jnp.asarray(HUES)[words["color"]] + uniform("hue", -HUE_JITTER, HUE_JITTER)
    radius = uniform("radius", *jnp.asarray(RADII)[words["size"]])
    edge = jnp.maximum(MARGIN, radius * jnp.asarray(shapes.CIRCUMRADIUS)[words["shape"]])
    low = jnp.stack([edge, jnp.array(MIDDLE[0]), jnp.array(1 - CELL)])
    high = jnp.stack([jnp.array(CELL), jnp.array(MIDDLE[1]), 1 - edge])
    cells = jnp.stack([words["place"] // 3, words["place"] % 3])
    tone = jnp.where(uniform("background") < 0.5, *TONES)
    return Scene(
        label=words["shape"],
        color=shapes.hsv_to_rgb(hue, uniform("saturation", 0.8), uniform("value", 0.8)),
        background=jnp.full((3,), tone),
        center=low[cells] + (high - low)[cells] * uniform("center", shape=(2,)),
        radius=radius,
        angle=uniform("angle", high=2 * jnp.pi),
    )
