"""Points as they are, with the mode of a mixture that each belongs to."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gaxn.extractors import Extractor, Seen

REACH = 3.0
"""Standard deviations from its centre at which a mode ends (Srivastava et al., 2017)."""


def load(centres: tuple[tuple[float, ...], ...], deviation: float) -> Extractor:
    """Features are the coordinates.

    Args:
        centres: of the modes.
        deviation: of each coordinate around its centre, above 0.
    """
    places = jnp.asarray(centres, jnp.float32)

    def apply(_, points):
        return Seen(points, None, assign(points, places, deviation))

    card = {
        "extractor": f"points; modes end {REACH:g} deviations of {deviation:g} from their centres",
        "resize": "none",
    }
    return Extractor(apply, {}, card, len(centres))


def assign(
    points: Float[Array, "batch size"], centres: Float[Array, "modes size"], deviation: float
) -> Int[Array, "batch"]:
    """The nearest centre, or -1 beyond three standard deviations."""
    apart = jnp.linalg.norm(points[:, None] - centres, axis=-1)
    return jnp.where(apart.min(axis=1) < REACH * deviation, apart.argmin(axis=1), -1)
