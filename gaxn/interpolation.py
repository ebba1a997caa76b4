"""Ways between latents, along arcs, and between classes, along lines."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

COLUMNS = 9
"""Images of a row, from one latent to another."""

STOPS, SIDE, LEG = 4, 4, 16
"""Of an animation: latents that it comes by, images in a row, frames from one to the next."""

CLASS_LEG = 4
"""Images of a row from one class to the next."""


class Grid(NamedTuple):
    """What each image of a grid is made from.

    Attributes:
        latents: of each.
        classes: the weights of each; None without labels.
    """

    latents: Float[np.ndarray, "rows columns latent"]
    classes: Float[np.ndarray, "rows columns classes"] | None


class Ways(NamedTuple):
    """A picture whose rows go from one end to another, and an animation that goes round."""

    picture: Grid
    animation: Sequence[Grid]


def needed(rows: int) -> int:
    """How many latents `plan` takes."""
    return max(rows, STOPS * SIDE**2)


def plan(latents: Float[np.ndarray, "n latent"], classes: int, rows: int) -> Mapping[str, Ways]:
    """What is drawn: "latents", and with labels "classes".

    Without labels, each row of the first goes from a latent to the next. With labels all of them
    go the same way, a row a class; a row of the second has one latent and goes from class to class.

    Args:
        latents: `needed(rows)` of them.
        classes: how many; 0 without labels.
        rows: of the pictures, where they are not one a class.
    """
    corners = latents[: STOPS * SIDE**2].reshape(STOPS, SIDE, SIDE, -1)
    tour = route(slerp, corners, LEG, closed=True)
    shares = np.linspace(0, 1, COLUMNS)
    if not classes:
        ends = np.roll(latents[:rows], -1, axis=0)
        arcs = slerp(latents[:rows], ends, shares).swapaxes(0, 1)
        return {"latents": Ways(Grid(arcs, None), [Grid(frame, None) for frame in tour])}
    pure = np.eye(classes, dtype=np.float32)
    arc = slerp(latents[0], latents[1], shares)
    of_latents = Ways(_crossed(pure, arc), [_crossed(pure, frame[0]) for frame in tour])
    line, ring = (
        route(lerp, pure, leg, closed) for leg, closed in ((CLASS_LEG, False), (LEG, True))
    )
    across = Grid(*(np.swapaxes(each, 0, 1) for each in _crossed(line, latents[:rows])))
    still = corners[0]
    animation = [Grid(still, np.broadcast_to(at, (SIDE, SIDE, classes))) for at in ring]
    return {"latents": of_latents, "classes": Ways(across, animation)}


def _crossed(
    classes: Float[np.ndarray, "rows classes"], latents: Float[np.ndarray, "columns latent"]
) -> Grid:
    """Every class weighting with every latent."""
    shape = len(classes), len(latents)
    return Grid(
        np.broadcast_to(latents, (*shape, latents.shape[-1])),
        np.broadcast_to(classes[:, None], (*shape, classes.shape[-1])),
    )


def slerp(
    start: Float[np.ndarray, "... latent"],
    end: Float[np.ndarray, "... latent"],
    shares: Float[np.ndarray, "frames"],
) -> Float[np.ndarray, "frames ... latent"]:
    """Spherical linear interpolation (Shoemake, 1985; of latents White, 2016).

    The direction turns evenly along the great circle from one to the other, and the length goes
    in a line: a Gaussian's samples lie near a sphere, and a straight way between two of them goes
    through a middle where none lie.

    Args:
        start, end: not 0, and not opposite to each other.
        shares: how far, from 0 to 1.
    """
    start, end = (np.asarray(point, np.float64) for point in (start, end))
    lengths = [np.linalg.norm(point, axis=-1, keepdims=True) for point in (start, end)]
    directions = start / lengths[0], end / lengths[1]
    cosine = np.sum(directions[0] * directions[1], axis=-1, keepdims=True)
    angle = np.arccos(np.clip(cosine, -1, 1))
    share = np.asarray(shares, np.float64).reshape(-1, *[1] * start.ndim)
    # sin(share angle) / sin(angle), which is the share itself where the angle is 0.
    of = [
        np.sinc(part * angle / np.pi) / np.sinc(angle / np.pi) * part for part in (1 - share, share)
    ]
    direction = of[0] * directions[0] + of[1] * directions[1]
    return (direction * ((1 - share) * lengths[0] + share * lengths[1])).astype(np.float32)


def lerp(
    start: Float[np.ndarray, "..."], end: Float[np.ndarray, "..."], shares: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "n ..."]:
    """In a line; of the weights of classes, each stays a distribution."""
    share = np.asarray(shares, np.float32).reshape(-1, *[1] * np.ndim(start))
    return ((1 - share) * start + share * end).astype(np.float32)


def route(
    way: Callable[..., np.ndarray], stops: Float[np.ndarray, "stops ..."], frames: int, closed: bool
) -> Float[np.ndarray, "frames ..."]:
    """From stop to stop, each leg `frames` long, and back to the first if closed.

    Args:
        way: `slerp` or `lerp`.
        stops: two or more.
        frames: of a leg, its start counted and its end not.
        closed: whether it ends where it began; an open tour has its last stop as one frame more.
    """
    shares = np.arange(frames) / frames
    ends = np.roll(stops, -1, axis=0) if closed else stops[1:]
    legs = [way(start, end, shares) for start, end in zip(stops, ends, strict=False)]
    last = [] if closed else [way(stops[-1], stops[-1], np.ones(1))]
    return np.concatenate(legs + last)
