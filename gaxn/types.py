"""Array types, and the few records and errors that every part of gaxn shares."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

Images = Float[Array, "batch height width channels"]
Image = Float[Array, "height width channels"]
Pixels = UInt8[Array, "batch height width channels"]
Vectors = Float[Array, "batch features"]
Latents = Float[Array, "batch latent"]
Logits = Float[Array, "batch *places"]
Indices = Int[Array, "..."]
PRNGKey = Key[Array, ""]
PyTree = Any
Scalars = dict[str, jax.Array]
Variables = Mapping[str, PyTree]

HostPixels = UInt8[np.ndarray, "batch height width channels"]
HostLatents = Float[np.ndarray, "batch latent"]
HostLabels = Int[np.ndarray, "batch"]
HostIndices = Int[np.ndarray, "batch"]
AttentionMaps = Mapping[str, Float[np.ndarray, "batch heads queries keys"]]


class SentenceCondition(NamedTuple):
    """Sentences as a network takes them, in place of labels.

    Attributes:
        sentence: a vector of each sentence.
        words: vectors of its words.
        mask: true for its words, false for what fills up shorter sentences.
    """

    sentence: Float[Array, "*batch features"]
    words: Float[Array, "*batch words features"]
    mask: Bool[Array, "*batch words"]


Labels = Int[Array, "batch"] | Vectors | SentenceCondition
"""The condition of each image: its class, a vector, or a sentence."""


class Batch(NamedTuple):
    """Training examples, as a data source gives them and a GAN takes them.

    Attributes:
        images: uint8 pixels in [0, 255], shape [..., batch, height, width, channels]; float32
            [..., batch, features] of points; [..., batch, 2, height, width, channels] of two
            domains.
        labels: int32 classes in [0, classes), shape [..., batch]; or vectors or sentences; None
            if the source has no classes.
    """

    images: Pixels
    labels: Labels | None


class DiscriminatorOutput(NamedTuple):
    """The output of a discriminator.

    Attributes:
        logits: real or generated, one per image or pack; more axes for several scales or
            places, over which the losses average.
        class_logits: of the classes, for a discriminator with a class head.
    """

    logits: Logits
    class_logits: Float[Array, "batch classes"] | None = None


class Measurement(NamedTuple):
    """The result of one evaluator.

    Attributes:
        protocol: all that a reader needs to repeat the measurement.
        figures: scalar results by name.
        tables: other results, ready for JSON.
        pictures: by their path without ending, functions that draw them: RGB, uint8, shape
            [height, width, 3]; or that return arrays by name instead, for a .npz file. They are
            called after the figures are written.
        timing: seconds and speed; they vary, so they are no part of the protocol.
    """

    protocol: Mapping[str, Any]
    figures: Mapping[str, float]
    tables: Mapping[str, Any]
    pictures: Mapping[str, Callable[[], np.ndarray]]
    timing: Mapping[str, float] = {}


class Sampler(NamedTuple):
    """Trained networks, as an evaluator sees them.

    Attributes:
        sample: (indices, labels) -> generated images. An index always has the same latent.
            Labels are None for an unconditional generator.
        generator_attention: (indices, labels) -> attention weights by layer.
        discriminator_attention: (images, labels) -> attention weights by layer.
        word_attention: as generator_attention, of the words of sentences.
        gammas: the learned scale of each attention layer that has one, by "player/layer".
        facts: step, seed, weights and the like, for protocols.
        latents: indices -> the latents of those samples; None if samples come from images.
        render: (latents, labels) -> generated images; instead of labels also what `mix` returns.
            None if there are no latents.
        mix: weights of all classes or captions, float [batch, number] -> conditions.
        variables: of all networks, with those of the generator that samples.
    """

    sample: Callable[[HostIndices, HostLabels | None], HostPixels]
    generator_attention: Callable[[HostIndices, HostLabels | None], AttentionMaps]
    discriminator_attention: Callable[[HostPixels, HostLabels | None], AttentionMaps]
    gammas: Mapping[str, float]
    facts: Mapping[str, Any]
    latents: Callable[[HostIndices], HostLatents] | None = None
    render: Callable[[HostLatents, Any], HostPixels] | None = None
    mix: Callable[[np.ndarray], Any] | None = None
    word_attention: Callable[[HostIndices, Any], AttentionMaps] | None = None
    variables: Variables | None = None


class InputError(Exception):
    """A mistake that the user can correct; the message is one line."""


def check(name: str, value: Any, condition: bool, expected: str) -> None:
    """Raises an InputError, "NAME must be EXPECTED, got VALUE", unless the condition holds."""
    if not condition:
        raise InputError(f"{name} must be {expected}, got {value!r}")
