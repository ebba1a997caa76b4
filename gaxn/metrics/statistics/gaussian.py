"""Gaussians as mergeable moments, and the Frechet distance between two."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

MAX_BYTES = 2**31
"""Largest size of the covariances of one set."""


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
    count, mean, rows = _rows_to_add(state, features)
    scatter = rows.T @ rows
    scatter += state.scatter
    return Moments(count, mean, scatter)


def _rows_to_add(
    state: Moments, features: Float[np.ndarray, "batch features"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the count and mean with a batch added, and rows R; the scatter grows by R'R."""
    features = np.asarray(features, np.float64)
    count = state.count + len(features)
    mean = features.mean(axis=0)
    shift = mean - state.mean
    # The last term of `merge` as one more row: a product is faster than a sum of products.
    between = shift * np.sqrt(state.count * len(features) / count)
    rows = np.concatenate([features - mean, between[None]])
    return count, state.mean + shift * (len(features) / count), rows


def merge(a: Moments, b: Moments) -> Moments:
    """Returns the moments of both sets together (Chan et al., 1983, eq. 2.1)."""
    if not a.count or not b.count:
        return a if a.count else b
    count = a.count + b.count
    shift = b.mean - a.mean
    mean = a.mean + shift * (b.count / count)
    scatter = a.scatter + b.scatter + np.outer(shift, shift) * (a.count * b.count / count)
    return Moments(count, mean, scatter)


def is_kept_as_rows(count: int, features: int, groups: int) -> bool:
    """Returns whether to keep the rows themselves, float32, in place of the covariances.

    Always if they are fewer than the features; else if they take less memory, and not too much.
    """
    are_smaller = count < 2 * groups * features and 4 * count * features <= MAX_BYTES
    return count > 0 and (count <= features or are_smaller)


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
    result = Moments(*(field.copy() for field in stacked))
    for index in np.unique(groups):
        count, mean, rows = _rows_to_add(group(stacked, index), features[groups == index])
        result.count[index], result.mean[index] = count, mean
        result.scatter[index] += rows.T @ rows
    return result


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
    smallest = np.linalg.eigvalsh(covariance.astype(np.float64)).min(initial=0)
    if smallest < -tolerance * len(mean):
        raise ValueError(f"sigma must have no negative eigenvalue, got {smallest:g}")


def covariance(moments: Moments) -> Float[np.ndarray, "features features"]:
    """Returns the covariance with ddof 1.

    Raises:
        ValueError: there are fewer than two examples.
    """
    _check_count(moments.count)
    return moments.scatter / (moments.count - 1)


def _check_count(count: int) -> None:
    if count < 2:
        raise ValueError(f"the number of examples must be 2 or more, got {count}")


def factorize(matrix: Float[np.ndarray, "size size"]) -> Float[np.ndarray, "size size"]:
    """Returns a matrix F with F'F = S, of a symmetric matrix S without negative eigenvalues.

    Cholesky's takes a tenth of the time of the eigenvectors, which a singular matrix needs.
    Negative eigenvalues, from rounding, count as 0.
    """
    try:
        return np.linalg.cholesky(matrix).T
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        return (vectors * np.sqrt(np.clip(values, 0, None))).T


@dataclasses.dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian by its covariance S or, with few examples, by a factor F of it.

    Attributes:
        mean: of the features.
        covariance: S; None if there is a factor.
        factor: one row per example, with F'F = S; None if there is a covariance.
    """

    mean: Float[np.ndarray, " features"]
    covariance: Float[np.ndarray, "features features"] | None = None
    factor: Float[np.ndarray, "examples features"] | None = None

    @functools.cached_property
    def trace(self) -> float:
        """The trace of S."""
        square = self.covariance if self.factor is None else np.square(self.factor)
        return float(np.trace(square) if self.factor is None else square.sum())

    @functools.cached_property
    def covariance_factor(self) -> Float[np.ndarray, "features features"]:
        """A square factor of the covariance, the same for all sets that are compared with this."""
        return factorize(self.covariance)


def from_moments(moments: Moments) -> Gaussian:
    """Returns the Gaussian of two or more examples, or raises a ValueError."""
    return Gaussian(moments.mean, covariance(moments))


def from_examples(features: Float[np.ndarray, "examples features"]) -> Gaussian:
    """Returns the Gaussian of two or more examples; or raises a ValueError.

    By their deviations, unless there are more examples than features.
    """
    _check_count(len(features))
    if len(features) > features.shape[1]:
        return from_moments(moments(features))
    mean = features.mean(axis=0)
    return Gaussian(mean, factor=(features - mean) / np.sqrt(len(features) - 1))


def distance(a: Gaussian, b: Gaussian) -> float:
    """Returns the squared Frechet distance, 0 or more (Heusel et al., 2017, eq. 6).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2); negative results of rounding count as 0.
    """
    shift = a.mean - b.mean
    # Of NaN this is NaN; Python's `max` would make it 0, the best value.
    return float(np.maximum(0.0, shift @ shift + a.trace + b.trace - 2 * _trace_of_root(a, b)))


def _trace_of_root(a: Gaussian, b: Gaussian) -> float:
    """Returns tr (S1 S2)^1/2.

    These are the singular values of F1 F2', without the loss of half the digits in the roots of
    the eigenvalues of S1 S2 that are 0.
    """
    if a.factor is not None and b.factor is not None:
        return float(np.linalg.svd(a.factor @ b.factor.T, compute_uv=False).sum())
    if a.factor is not None:
        factor, matrix = a.factor, b.covariance
    else:
        factor = b.covariance_factor if b.factor is None else b.factor
        matrix = a.covariance
    return _sum_of_roots(factor @ matrix @ factor.T)


def _sum_of_roots(matrix: Float[np.ndarray, "size size"]) -> float:
    return float(np.sqrt(np.clip(np.linalg.eigvalsh(matrix), 0, None)).sum())
