"""Array aliases and the few records that every floor shares. Imports nothing of ours."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

Images = Float[Array, "batch height width channels"]
Image = Float[Array, "height width channels"]
Pixels = UInt8[Array, "batch height width channels"]
Labels = Int[Array, "batch"]
Latents = Float[Array, "batch latent"]
Logits = Float[Array, "batch *places"]
Indices = Int[Array, "..."]
PRNGKey = Key[Array, ""]
PyTree = Any
Scalars = dict[str, jax.Array]
Variables = Mapping[str, PyTree]


class Batch(NamedTuple):
    """What a source gives and a game takes.

    Attributes:
        images: uint8 pixels in [0, 255], shape [..., batch, height, width, channels]; float32
            [..., batch, features] of points; [..., batch, 2, height, width, channels] of two
            domains.
        labels: int32 classes in [0, classes), shape [..., batch]; None where the
            source has no classes.
    """

    images: Pixels
    labels: Labels | None


class Report(NamedTuple):
    """What an evaluator found, and under which protocol.

    Attributes:
        protocol: everything that a reader needs to repeat the measurement.
        figures: scalar results by name.
        tables: results that are not scalars, ready for JSON.
        pictures: RGB pictures by their path without ending, uint8, shape [height, width, 3].
        timing: how long it took; not the same twice, so no part of the protocol.
    """

    protocol: Mapping[str, Any]
    figures: Mapping[str, float]
    tables: Mapping[str, Any]
    pictures: Mapping[str, np.ndarray]
    timing: Mapping[str, float] = {}


class Verdict(NamedTuple):
    """What a discriminator says of images.

    Attributes:
        logits: real or generated, one an image or a pack; of several scales or places in
            further axes, over whose mean the losses go.
        class_logits: of the classes, where it names them.
    """

    logits: Logits
    class_logits: Float[Array, "batch classes"] | None = None


HostPixels = UInt8[np.ndarray, "batch height width channels"]
HostLatents = Float[np.ndarray, "batch latent"]
HostLabels = Int[np.ndarray, "batch"]
AttentionMaps = Mapping[str, Float[np.ndarray, "batch heads queries keys"]]


class Subject(NamedTuple):
    """Trained players, as an evaluator may know them.

    Attributes:
        sample: (indices, labels) -> generated images; the latent of an index is always
            the same. Labels are None for an unconditional generator.
        generator_attention: (indices, labels) -> attention weights by layer.
        discriminator_attention: (images, labels) -> attention weights by layer.
        gammas: the learnt scale of each attention layer that has one, by "player/layer".
        facts: what the subject is: step, seed, running mean or not.
        latents: indices -> the latents of those samples; None where they come of images.
        render: (latents, labels) -> generated images; labels may be the weights of classes
            instead, float [batch, classes]; None where there are no latents.
    """

    sample: Callable[[HostLabels, HostLabels | None], HostPixels]
    generator_attention: Callable[[HostLabels, HostLabels | None], AttentionMaps]
    discriminator_attention: Callable[[HostPixels, HostLabels | None], AttentionMaps]
    gammas: Mapping[str, float]
    facts: Mapping[str, Any]
    latents: Callable[[HostLabels], HostLatents] | None = None
    render: Callable[[HostLatents, np.ndarray | None], HostPixels] | None = None


class InputError(Exception):
    """A mistake that a user can mend: what is wrong, in one line, with what would be valid."""


def require(field: str, value: Any, holds: bool, valid: str) -> None:
    """Refuses a value that is out of range.

    Raises:
        InputError: `holds` is false.
    """
    if not holds:
        raise InputError(f"{field} is {value!r}; valid is {valid}")
