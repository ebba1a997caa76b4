"""Products and distances between all rows of two tables, a block at a time, on every core."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float

BLOCK = 1 << 22
"""Entries of a block, 32 MB."""

Rows = Float[np.ndarray, "rows features"]


def over_blocks(size: int, columns: int, work: Callable[[slice], Any]) -> list[Any]:
    """What `work` gives for each block of rows, in their order.

    Args:
        size: rows in all.
        columns: entries of a row, from which the rows of a block follow.
        work: rows -> anything; runs on several threads at once.
    """
    height = max(1, BLOCK // max(columns, 1))
    blocks = [slice(first, min(first + height, size)) for first in range(0, size, height)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(work, blocks))


def squared_distances(a: Rows, b: Rows) -> Float[np.ndarray, "a b"]:
    """|x - y|^2 for each x of `a` and y of `b`; 0 or more."""
    product = a @ b.T
    product *= -2
    product += np.einsum("ij,ij->i", a, a)[:, None]
    product += np.einsum("ij,ij->i", b, b)
    return np.maximum(product, 0, out=product)


def centred(a: Rows, b: Rows) -> tuple[Rows, Rows]:
    """Both moved by the mean of `b`: distances are the same and lose fewer digits."""
    mean = b.mean(axis=0)
    return a - mean, b - mean
