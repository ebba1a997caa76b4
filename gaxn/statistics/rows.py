"""Rows of numbers by the index of their example: in order whatever order they came in."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class State(NamedTuple):
    """Parts of a table, as they came; equal lengths of both fields.

    Attributes:
        indices: of the examples, int [rows] a part.
        values: of the examples, [rows, ...] a part.
    """

    indices: tuple[np.ndarray, ...]
    values: tuple[np.ndarray, ...]


def empty(_: object = None) -> State:
    """No row yet."""
    return State((), ())


def update(state: State, indices: Int[np.ndarray, "batch"], values: np.ndarray) -> State:
    """Adds the rows of a batch of any size; keeps them as they are, and copies nothing."""
    return State((*state.indices, indices), (*state.values, values))


def merge(a: State, b: State) -> State:
    """The rows of both."""
    return State(a.indices + b.indices, a.values + b.values)


def table(state: State) -> np.ndarray:
    """All rows in the order of their indices, [rows, ...].

    Raises:
        ValueError: there is none, or an index came twice.
    """
    if not state.indices:
        raise ValueError("there are no rows")
    indices = np.concatenate(state.indices)
    order = np.argsort(indices, kind="stable")
    if (np.diff(indices[order]) == 0).any():
        raise ValueError("an index came twice")
    return np.concatenate(state.values)[order]


def features(state: State) -> np.ndarray:
    """`table`, as float64 [rows, features]."""
    return table(state).astype(np.float64)


def compact(state: State) -> State:
    """The same rows as one part."""
    return update(empty(), np.sort(np.concatenate(state.indices)), table(state))
