"""Feature extractors, one a file, each with a `load`: options -> `Extractor`.

`load`'s parameters are what a user can choose; with none, all that the extractor needs is there.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.errors
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from gaxn.types import InputError, Pixels, PyTree


class Seen(NamedTuple):
    """What an extractor sees in images; None where it has no such thing.

    Attributes:
        features: float32.
        logits: of its classes, float32.
        modes: which of the known modes each image is.
    """

    features: Float[Array, "batch features"]
    logits: Float[Array, "batch classes"] | None = None
    modes: Int[Array, "batch"] | None = None


@dataclasses.dataclass(frozen=True)
class Extractor:
    """From images to features.

    Attributes:
        apply: (params, uint8 images) -> `Seen`; traceable by jit. The features of an image
            do not depend on the others.
        params: what `apply` reads.
        card: what the extractor is, for protocols: name, SHA-256 of the weights, resizing.
        modes: how many modes it knows; 0 for none.
        classes: names of the modes, where they have any.
        channels: what images need; None where any number will do.
    """

    apply: Callable[[PyTree, Pixels], Seen]
    params: PyTree
    card: Mapping[str, Any]
    modes: int = 0
    classes: tuple[str, ...] = ()
    channels: int | None = None

    def outline(self, image_shape: tuple[int, ...]) -> Seen:
        """The shapes and types of what is seen in one image.

        Raises:
            InputError: it cannot take such images.
        """
        if self.channels not in (None, image_shape[-1]):
            raise InputError(
                f"the images have {image_shape[-1]} channels; valid for the extractor "
                f"{self.card['extractor']} is {self.channels}"
            )
        dtype = np.uint8 if len(image_shape) == 3 else np.float32
        try:
            return jax.eval_shape(
                self.apply, self.params, jax.ShapeDtypeStruct((1, *image_shape), dtype)
            )
        except (TypeError, ZeroDivisionError, flax.errors.ScopeParamShapeError):
            raise InputError(
                f"the extractor {self.card['extractor']} was not made for images of "
                f"{'x'.join(map(str, image_shape))}"
            ) from None
