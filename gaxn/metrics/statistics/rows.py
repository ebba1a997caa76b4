"""Rows of numbers, one per image, in the order of the images' indices."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class State(NamedTuple):
    """Parts of a table: the indices, int [rows], and values, [rows, ...], of their images."""

    indices: tuple[np.ndarray, ...]
    values: tuple[np.ndarray, ...]


def empty(_: object = None) -> State:
    """Returns a table without rows."""
    return State((), ())


def update(state: State, indices: Int[np.ndarray, " batch"], values: np.ndarray) -> State:
    """Adds the rows of a batch of any size, without copying them."""
    return State((*state.indices, indices), (*state.values, values))


def merge(a: State, b: State) -> State:
    """Returns the rows of both."""
    return State(a.indices + b.indices, a.values + b.values)


def table(state: State) -> np.ndarray:
    """Returns all rows in the order of their indices, [rows, ...].

    Raises:
        ValueError: there are no rows, or an index occurs twice.
    """
    if not state.indices:
        raise ValueError("there are no rows")
    indices = np.concatenate(state.indices)
    order = np.argsort(indices, kind="stable")
    if (np.diff(indices[order]) == 0).any():
        raise ValueError("an index occurs twice")
    return np.concatenate(state.values)[order]


def features(state: State, min_count: int = 1) -> np.ndarray:
    """Returns the `table` as float64 [rows, features].

    Raises:
        ValueError: it has fewer than `min_count` rows.
    """
    values = table(state)
    if len(values) < min_count:
        raise ValueError(f"the number of images must be {min_count} or more, got {len(values)}")
    return values.astype(np.float64)


def compact(state: State) -> State:
    """Returns the same rows as a single part."""
    return update(empty(), np.sort(np.concatenate(state.indices)), table(state))
