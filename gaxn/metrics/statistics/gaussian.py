"""Gaussians as mergeable moments, and the Frechet distance between two."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

MAX_BYTES = 2**31
"""Largest total size of the covariances of one set."""


class Moments(NamedTuple):
    """Moments of one set of examples, or of several groups stacked along the first axis.

    Attributes:
        count: number of examples.
        mean: of their features.
        scatter: sum of the outer products of their deviations from the mean.
    """

    count: np.ndarray
    mean: Float[np.ndarray, "*groups features"]
    scatter: Float[np.ndarray, "*groups features features"]


def empty_moments(features: int) -> Moments:
    """Returns the moments of no example."""
    return Moments(np.array(0), np.zeros(features), np.zeros((features, features)))


def moments(features: Float[np.ndarray, "batch features"]) -> Moments:
    """Returns the moments of a batch of one or more examples."""
    return add_batch(empty_moments(features.shape[1]), features)


def add_batch(state: Moments, features: Float[np.ndarray, "batch features"]) -> Moments:
    """Returns the moments with a batch of one or more examples added."""
    features = np.asarray(features, np.float64)
    count = state.count + len(features)
    mean = features.mean(axis=0)
    shift = mean - state.mean
    # The last term of `merge` as one more row: a product is faster than a sum of products.
    between = shift * np.sqrt(state.count * len(features) / count)
    rows = np.concatenate([features - mean, between[None]])
    scatter = rows.T @ rows
    scatter += state.scatter
    return Moments(count, state.mean + shift * (len(features) / count), scatter)


def merge(a: Moments, b: Moments) -> Moments:
    """Returns the moments of both sets together (Chan et al., 1983, eq. 2.1)."""
    if not a.count or not b.count:
        return a if a.count else b
    count = a.count + b.count
    shift = b.mean - a.mean
    mean = a.mean + shift * (b.count / count)
    scatter = a.scatter + b.scatter + np.outer(shift, shift) * (a.count * b.count / count)
    return Moments(count, mean, scatter)


def empty_groups(features: int, groups: int) -> Moments:
    """Returns the stacked moments of groups without examples.

    Raises:
        ValueError: the covariances would take more than `MAX_BYTES`.
    """
    size = 8 * groups * features**2
    if size > MAX_BYTES:
        raise ValueError(
            f"keeps {groups} covariances of {features} features, {size / 2**30:.1f} GiB, which "
            f"must be {MAX_BYTES / 2**30:.0f} GiB or less"
        )
    scatter = np.zeros((groups, features, features))
    return Moments(np.zeros(groups, np.int64), np.zeros((groups, features)), scatter)


def group(stacked: Moments, index: int) -> Moments:
    """Returns the moments of one group."""
    return Moments(*(field[index] for field in stacked))


def add_to_groups(
    stacked: Moments, groups: np.ndarray, features: Float[np.ndarray, "batch features"]
) -> Moments:
    """Returns stacked moments with each example of a batch added to its group, int [batch]."""
    fields = [field.copy() for field in stacked]
    for index in np.unique(groups):
        updated = add_batch(group(stacked, index), features[groups == index])
        for field, value in zip(fields, updated, strict=True):
            field[index] = value
    return Moments(*fields)


def merge_groups(a: Moments, b: Moments) -> Moments:
    """Returns the moments of both together, group by group."""
    merged = [merge(group(a, index), group(b, index)) for index in range(len(a.count))]
    return Moments(*(np.stack(fields) for fields in zip(*merged, strict=True)))


def check_moments(mean: np.ndarray, covariance: np.ndarray) -> None:
    """Checks that two arrays are the mean and the covariance of a Gaussian.

    Raises:
        ValueError: wrong shapes, numbers that are not real and finite, or a matrix that is not
            symmetric and positive semidefinite.
    """
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise ValueError(
            f"mu and sigma must have the shapes (n,) and (n, n), got {mean.shape} and "
            f"{covariance.shape}"
        )
    fields = mean, covariance
    if any(each.dtype.kind not in "fiu" or not np.isfinite(each).all() for each in fields):
        raise ValueError("mu and sigma must be finite real numbers")
    # Rounding to float32 makes a matrix asymmetric, and eigenvalues negative, by this much.
    tolerance = 1e-4 * np.abs(covariance).max(initial=0)
    if np.abs(covariance - covariance.T).max(initial=0) > tolerance:
        raise ValueError("sigma must be symmetric")
    smallest = np.linalg.eigvalsh(covariance).min(initial=0)
    if smallest < -tolerance * len(mean):
        raise ValueError(f"sigma must have no negative eigenvalue, got {smallest:g}")


def covariance(moments: Moments) -> Float[np.ndarray, "features features"]:
    """Returns the covariance with ddof 1.

    Raises:
        ValueError: there are fewer than two examples.
    """
    if moments.count < 2:
        raise ValueError(f"the number of examples must be 2 or more, got {moments.count}")
    return moments.scatter / (moments.count - 1)


def square_root(matrix: Float[np.ndarray, "size size"]) -> Float[np.ndarray, "size size"]:
    """Returns the symmetric square root; negative eigenvalues, from rounding, count as 0."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


class Reference(NamedTuple):
    """The mean of a Gaussian, and the trace and the square root of its covariance."""

    mean: Float[np.ndarray, "features"]
    trace: float
    root: Float[np.ndarray, "features features"]


def make_reference(moments: Moments) -> Reference:
    """Prepares a Gaussian for comparison with many others."""
    matrix = covariance(moments)
    return Reference(moments.mean, float(np.trace(matrix)), square_root(matrix))


def distance(moments: Moments, reference: Reference) -> float:
    """Returns the squared Frechet distance, 0 or more (Heusel et al., 2017, eq. 6).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S2^1/2 S1 S2^1/2)^1/2); negative results of rounding count as 0.
    """
    matrix = covariance(moments)
    cross = np.linalg.eigvalsh(reference.root @ matrix @ reference.root)
    shift = moments.mean - reference.mean
    total = np.trace(matrix) + reference.trace - 2 * np.sqrt(np.clip(cross, 0, None)).sum()
    return max(0.0, float(shift @ shift + total))
