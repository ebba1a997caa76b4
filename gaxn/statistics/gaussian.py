"""Gaussians by their moments, which can be merged, and the Frechet distance between two."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

LIMIT = 2**31
"""Bytes that the covariances of one set may take."""


class Moments(NamedTuple):
    """How many examples, their mean and the sum of the outer products of their deviations."""

    count: np.ndarray
    mean: Float[np.ndarray, "*groups features"]
    scatter: Float[np.ndarray, "*groups features features"]


def nothing(features: int) -> Moments:
    """The moments of no example."""
    return Moments(np.array(0), np.zeros(features), np.zeros((features, features)))


def moments(features: Float[np.ndarray, "batch features"]) -> Moments:
    """Those of a batch, of one example or more."""
    return extend(nothing(features.shape[1]), features)


def extend(known: Moments, features: Float[np.ndarray, "batch features"]) -> Moments:
    """The moments of what was known and of a batch of one example or more."""
    features = np.asarray(features, np.float64)
    count = known.count + len(features)
    mean = features.mean(axis=0)
    shift = mean - known.mean
    # The last term of `merge` as one more row: a product is faster than a sum of products.
    between = shift * np.sqrt(known.count * len(features) / count)
    rows = np.concatenate([features - mean, between[None]])
    scatter = rows.T @ rows
    scatter += known.scatter
    return Moments(count, known.mean + shift * (len(features) / count), scatter)


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both together (Chan et al., 1983, eq. 2.1)."""
    if not a.count or not b.count:
        return a if a.count else b
    count = a.count + b.count
    shift = b.mean - a.mean
    mean = a.mean + shift * (b.count / count)
    scatter = a.scatter + b.scatter + np.outer(shift, shift) * (a.count * b.count / count)
    return Moments(count, mean, scatter)


def grouped(features: int, groups: int) -> Moments:
    """The moments of no example in each group, stacked.

    Raises:
        ValueError: so many covariances of this size take too much memory.
    """
    size = 8 * groups * features**2
    if size > LIMIT:
        raise ValueError(
            f"keeps {groups} covariances of {features} features, {size / 2**30:.1f} GiB; valid is "
            f"up to {LIMIT / 2**30:.0f} GiB"
        )
    return Moments(
        np.zeros(groups, np.int64),
        np.zeros((groups, features)),
        np.zeros((groups, features, features)),
    )


def group(stacked: Moments, index: int) -> Moments:
    """The moments of one group."""
    return Moments(*(field[index] for field in stacked))


def add(
    stacked: Moments, groups: np.ndarray, features: Float[np.ndarray, "batch features"]
) -> Moments:
    """Adds a batch to stacked moments, each example to its group: int [batch]."""
    fields = [field.copy() for field in stacked]
    for index in np.unique(groups):
        found = extend(group(stacked, index), features[groups == index])
        for field, value in zip(fields, found, strict=True):
            field[index] = value
    return Moments(*fields)


def merge_groups(a: Moments, b: Moments) -> Moments:
    """Group by group, the moments of both together."""
    merged = [merge(group(a, index), group(b, index)) for index in range(len(a.count))]
    return Moments(*(np.stack(fields) for fields in zip(*merged, strict=True)))


def check(mean: np.ndarray, covariance: np.ndarray) -> None:
    """Refuses what is no Gaussian's.

    Raises:
        ValueError: wrong shapes, no finite real numbers, or a covariance that is none.
    """
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise ValueError(
            f"mu has the shape {mean.shape} and sigma {covariance.shape}; valid is (n,) and (n, n)"
        )
    if any(
        field.dtype.kind not in "fiu" or not np.isfinite(field).all()
        for field in (mean, covariance)
    ):
        raise ValueError("mu and sigma have to be finite real numbers")
    # Rounding in float32 leaves eigenvalues as far below 0.
    slack = 1e-4 * np.abs(covariance).max(initial=0)
    if np.abs(covariance - covariance.T).max(initial=0) > slack:
        raise ValueError("sigma has to be symmetric")
    if np.linalg.eigvalsh(covariance).min(initial=0) < -slack * len(mean):
        raise ValueError("sigma has a negative eigenvalue")


def covariance(moments: Moments) -> Float[np.ndarray, "features features"]:
    """With ddof 1.

    Raises:
        ValueError: there are fewer than two examples.
    """
    if moments.count < 2:
        raise ValueError(f"a covariance needs 2 examples or more; there are {moments.count}")
    return moments.scatter / (moments.count - 1)


def root(matrix: Float[np.ndarray, "size size"]) -> Float[np.ndarray, "size size"]:
    """The symmetric square root; eigenvalues below 0, which are rounding, count as 0."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


class Fixed(NamedTuple):
    """One side of a distance, its root taken once for many others.

    Attributes:
        mean: of the Gaussian.
        trace: of its covariance.
        root: of its covariance.
    """

    mean: Float[np.ndarray, "features"]
    trace: float
    root: Float[np.ndarray, "features features"]


def fix(moments: Moments) -> Fixed:
    """A Gaussian, ready to be held against many."""
    matrix = covariance(moments)
    return Fixed(moments.mean, float(np.trace(matrix)), root(matrix))


def distance(moments: Moments, reference: Fixed) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S2^1/2 S1 S2^1/2)^1/2) (Heusel et al., 2017, eq. 6).

    0 or more: what rounding leaves below counts as 0.
    """
    matrix = covariance(moments)
    cross = np.linalg.eigvalsh(reference.root @ matrix @ reference.root)
    shift = moments.mean - reference.mean
    total = np.trace(matrix) + reference.trace - 2 * np.sqrt(np.clip(cross, 0, None)).sum()
    return max(0.0, float(shift @ shift + total))
