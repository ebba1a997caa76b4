"""Interpolation between latents, along arcs, and between classes, along lines."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

COLUMNS = 9
"""Images of a row from one latent to another."""

STOPS, SIDE, LEG = 4, 4, 16
"""Of an animation: latents on its path, images per side of its grid, frames between two latents."""

CLASS_LEG = 4
"""Images of a row from one class to the next."""

MAX_CLASS_ROWS = 20


class Grid(NamedTuple):
    """The latents and class weights of the images of a grid; `classes` is None without labels."""

    latents: Float[np.ndarray, "rows columns latent"]
    classes: Float[np.ndarray, "rows columns classes"] | None


class Interpolation(NamedTuple):
    """The inputs of a picture whose rows are interpolations, and of each frame of an animation."""

    picture: Grid
    animation: Sequence[Grid]


def select_classes(num_classes: int) -> Int[np.ndarray, " rows"]:
    """Returns the classes that have a row in a picture: all, or 20 from the first to the last."""
    return np.linspace(0, num_classes - 1, min(num_classes, MAX_CLASS_ROWS)).round().astype(int)


def num_latents(rows: int) -> int:
    """Returns how many latents `make_interpolations` needs."""
    return max(rows, STOPS * SIDE**2)


def make_interpolations(
    latents: Float[np.ndarray, "n latent"], num_classes: int, rows: int
) -> Mapping[str, Interpolation]:
    """Returns the interpolation between "latents" and, with labels, between "classes".

    Between latents without labels, each row of the picture goes from a latent to the next one.
    With labels there is a row per class of `select_classes`, and all rows have the same latents.
    Between classes, each row has one latent and goes from class to class.

    Args:
        latents: `num_latents(rows)` of them.
        num_classes: 0 without labels.
        rows: of the pictures that do not have a row per class.
    """
    corners = latents[: STOPS * SIDE**2].reshape(STOPS, SIDE, SIDE, -1)
    frames = interpolate_path(slerp, corners, LEG, closed=True)
    fractions = np.linspace(0, 1, COLUMNS)
    if not num_classes:
        ends = np.roll(latents[:rows], -1, axis=0)
        picture = Grid(slerp(latents[:rows], ends, fractions).swapaxes(0, 1), None)
        return {"latents": Interpolation(picture, [Grid(frame, None) for frame in frames])}
    one_hot = np.eye(num_classes, dtype=np.float32)[select_classes(num_classes)]
    arc = slerp(latents[0], latents[1], fractions)
    animation = [_combine(one_hot, frame[0]) for frame in frames]
    between_latents = Interpolation(_combine(one_hot, arc), animation)
    line = interpolate_path(lerp, one_hot, CLASS_LEG, closed=False)
    ring = interpolate_path(lerp, one_hot, LEG, closed=True)
    picture = Grid(*(np.swapaxes(each, 0, 1) for each in _combine(line, latents[:rows])))
    animation = [
        Grid(corners[0], np.broadcast_to(weights, (SIDE, SIDE, num_classes))) for weights in ring
    ]
    return {"latents": between_latents, "classes": Interpolation(picture, animation)}


def _combine(
    classes: Float[np.ndarray, "rows classes"], latents: Float[np.ndarray, "columns latent"]
) -> Grid:
    """Returns a grid with a row for each class weighting and a column for each latent."""
    shape = len(classes), len(latents)
    return Grid(
        np.broadcast_to(latents, (*shape, latents.shape[-1])),
        np.broadcast_to(classes[:, None], (*shape, classes.shape[-1])),
    )


def slerp(
    start: Float[np.ndarray, "... latent"],
    end: Float[np.ndarray, "... latent"],
    fractions: Float[np.ndarray, " frames"],
) -> Float[np.ndarray, "frames ... latent"]:
    """Interpolates spherically (Shoemake, 1985; for latents White, 2016).

    The direction moves along the great circle at constant speed, and the length linearly. Samples
    of a Gaussian in many dimensions lie near a sphere; a straight line between two of them leaves
    it.

    Args:
        start, end: not 0, and not opposite to each other.
        fractions: of the way, from 0 to 1.
    """
    start, end = (np.asarray(point, np.float64) for point in (start, end))
    lengths = [np.linalg.norm(point, axis=-1, keepdims=True) for point in (start, end)]
    directions = start / lengths[0], end / lengths[1]
    cosine = np.sum(directions[0] * directions[1], axis=-1, keepdims=True)
    angle = np.arccos(np.clip(cosine, -1, 1))
    t = np.asarray(fractions, np.float64).reshape(-1, *[1] * start.ndim)
    # sin(t angle) / sin(angle), which is t where the angle is 0.
    weights = [np.sinc(part * angle / np.pi) / np.sinc(angle / np.pi) * part for part in (1 - t, t)]
    direction = weights[0] * directions[0] + weights[1] * directions[1]
    return (direction * ((1 - t) * lengths[0] + t * lengths[1])).astype(np.float32)


def lerp(
    start: Float[np.ndarray, "..."],
    end: Float[np.ndarray, "..."],
    fractions: Float[np.ndarray, " n"],
) -> Float[np.ndarray, "n ..."]:
    """Interpolates linearly; class weights stay a distribution."""
    t = np.asarray(fractions, np.float32).reshape(-1, *[1] * np.ndim(start))
    return ((1 - t) * start + t * end).astype(np.float32)


def interpolate_path(
    interpolate: Callable[..., np.ndarray],
    stops: Float[np.ndarray, "stops ..."],
    frames: int,
    closed: bool,
) -> Float[np.ndarray, "frames ..."]:
    """Interpolates from stop to stop.

    Args:
        interpolate: `slerp` or `lerp`.
        stops: two or more.
        frames: from a stop, included, to the next, excluded.
        closed: whether the path returns to the first stop; otherwise the last stop is one frame
            more.
    """
    fractions = np.arange(frames) / frames
    ends = np.roll(stops, -1, axis=0) if closed else stops[1:]
    legs = [interpolate(start, end, fractions) for start, end in zip(stops, ends, strict=False)]
    last = [] if closed else [interpolate(stops[-1], stops[-1], np.ones(1))]
    return np.concatenate(legs + last)
