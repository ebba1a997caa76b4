"""Coordinates of points as features, with the mode of a mixture that each point belongs to."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gaxn.features import ExtractorOutput, FeatureExtractor

REACH = 3.0
"""Radius of a mode, in standard deviations (Srivastava et al., 2017)."""


def load(centers: tuple[tuple[float, ...], ...], deviation: float) -> FeatureExtractor:
    """Returns an extractor whose features are the coordinates.

    Args:
        centers: of the modes.
        deviation: standard deviation of each coordinate around its center, above 0.
    """
    center_table = jnp.asarray(centers, jnp.float32)

    def apply(_, points):
        return ExtractorOutput(points, None, assign(points, center_table, deviation))

    card = {
        "extractor": f"points; modes end {REACH:g} deviations of {deviation:g} from their centers",
        "resize": "none",
    }
    return FeatureExtractor(apply, {}, card, len(centers))


def assign(
    points: Float[Array, "batch size"], centers: Float[Array, "modes size"], deviation: float
) -> Int[Array, " batch"]:
    """Returns the index of the nearest center, or -1 if it is three deviations away or more."""
    distances = jnp.linalg.norm(points[:, None] - centers, axis=-1)
    return jnp.where(distances.min(axis=1) < REACH * deviation, distances.argmin(axis=1), -1)
