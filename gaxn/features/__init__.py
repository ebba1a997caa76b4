"""Feature extractors: each is a module with a function `load`, which returns a `FeatureExtractor`.

The parameters of `load` are the options of the extractor. The other modules serve extractors.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gaxn.objectives.regularizers import ImageFeatures
from gaxn.types import Images, InputError, Pixels, PyTree, check


class ExtractorOutput(NamedTuple):
    """The output of a feature extractor for a batch; None for what it does not compute.

    Attributes:
        features: float32.
        logits: of the extractor's classes, float32.
        modes: the known mode that each image belongs to, -1 if it belongs to none.
    """

    features: Float[Array, "batch features"]
    logits: Float[Array, "batch classes"] | None = None
    modes: Int[Array, " batch"] | None = None


@dataclasses.dataclass(frozen=True)
class FeatureExtractor:
    """A function from images to features, with its parameters and description.

    Attributes:
        apply: (params, images) -> `ExtractorOutput`; can be traced by jit, and differentiated in
            images in [-1, 1], which it takes as well as uint8 ones. The output for an image does
            not depend on the other images of the batch.
        params: first argument of `apply`.
        card: description for evaluation protocols: name, SHA-256 of the weights, resizing.
        modes: number of known modes; 0 for none.
        classes: names of the modes; empty if they have no names.
        channels: number of channels that images must have; None for any number.
        unit_scale: whether features are of the order of 1, as the kernel of KID expects; those
            of a classifier that was trained without such a bound are not.
        distance: (params, images, images) -> a perceptual distance of each pair, such as
            LPIPS; None for the mean square difference of the features.
    """

    apply: Callable[[PyTree, Pixels | Images], ExtractorOutput]
    params: PyTree
    card: Mapping[str, Any]
    modes: int = 0
    classes: tuple[str, ...] = ()
    channels: int | None = None
    unit_scale: bool = True
    distance: Callable[[PyTree, Images, Images], Float[Array, " batch"]] | None = None

    @property
    def for_losses(self) -> ImageFeatures:
        """Features and distances as functions of images alone."""

        def features(images: Images) -> Float[Array, "batch features"]:
            return self.apply(_as_variables(self.params), images).features

        def distance(a: Images, b: Images) -> Float[Array, " batch"]:
            if self.distance is not None:
                return self.distance(_as_variables(self.params), a, b)
            return jnp.square(features(a) - features(b)).mean(axis=-1)

        return ImageFeatures(features, distance)

    def output_spec(self, image_shape: tuple[int, ...]) -> ExtractorOutput:
        """Returns the shapes and dtypes of the output for a batch of one image.

        Raises:
            InputError: the extractor cannot take images of this shape.
        """
        name, channels = self.card["extractor"], image_shape[-1]
        expected = f"{self.channels} for the extractor {name}"
        valid = self.channels in (None, channels)
        check("the number of channels", channels, valid, expected)
        dtype = np.uint8 if len(image_shape) == 3 else np.float32
        images = jax.ShapeDtypeStruct((1, *image_shape), dtype)
        try:
            return jax.eval_shape(self.apply, self.params, images)
        except (TypeError, ZeroDivisionError, flax.errors.ScopeParamShapeError):
            size = "x".join(map(str, image_shape))
            raise InputError(f"the extractor {name} was not made for images of {size}") from None


def _as_variables(params: PyTree) -> PyTree:
    """Returns parameters that XLA does not compute with while it compiles.

    Transposing constants of millions of numbers would take it seconds for each layer.
    """
    return jax.lax.optimization_barrier(params) if jax.tree.leaves(params) else params


def without_logits(extractor: FeatureExtractor) -> FeatureExtractor:
    """Returns the extractor with `logits=None`, as they are not of the classes of the data."""

    def apply(params: PyTree, images: Pixels | Images) -> ExtractorOutput:
        return extractor.apply(params, images)._replace(logits=None)

    return dataclasses.replace(extractor, apply=apply)
