"""Points as they are, with the mode of a mixture that each belongs to."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gaxn.extractors import Extractor, Seen

REACH = 3.0
"""Standard deviations from its centre at which a mode ends (Srivastava et al., 2017)."""


def of(centres: Sequence[Sequence[float]], deviation: float) -> Extractor:
    """Features are the coordinates."""
    places = jnp.asarray(centres, jnp.float32)

    def apply(_, points):
        return Seen(points, None, assign(points, places, deviation))

    card = {
        "extractor": f"points; modes end {REACH:g} deviations of {deviation:g} from their centres",
        "resize": "none",
    }
    return Extractor(apply, {}, card, len(np.asarray(centres)))


def assign(
    points: Float[Array, "batch size"], centres: Float[Array, "modes size"], deviation: float
) -> Int[Array, "batch"]:
    """The nearest centre, or -1 beyond three standard deviations."""
    apart = jnp.linalg.norm(points[:, None] - centres, axis=-1)
    return jnp.where(apart.min(axis=1) < REACH * deviation, apart.argmin(axis=1), -1)
