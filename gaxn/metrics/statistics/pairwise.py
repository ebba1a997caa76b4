"""Distances between all rows of two tables, computed block by block on all CPU cores."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

BLOCK = 1 << 22
"""Entries of a block, 32 MB in float64."""

ROUNDING = 1e-12
"""Largest rounding of a squared distance, relative to the longest squared rows."""

Rows = Float[np.ndarray, "rows features"]


def map_blocks(size: int, columns: int, function: Callable[[slice], Any]) -> list[Any]:
    """Returns `function` of each block of rows of a matrix, in order.

    Args:
        size: number of rows.
        columns: entries per row; a block has `BLOCK` entries, or one row.
        function: rows -> any result; runs in several threads at once.
    """
    height = max(1, BLOCK // max(columns, 1))
    blocks = [slice(first, min(first + height, size)) for first in range(0, size, height)]
    if len(blocks) == 1:
        return [function(blocks[0])]
    # Products that start threads of their own would take turns on the cores.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(function, blocks))


def squared_distances(a: Rows, b: Rows) -> Float[np.ndarray, "a b"]:
    """Returns |x - y|^2 for each row x of `a` and y of `b`; exactly 0 for equal rows.

    Distances below a millionth of the longest rows are rounding, and count as 0.
    """
    product = a @ b.T
    product *= -2
    squares = [np.einsum("ij,ij->i", each, each) for each in (a, b)]
    product += squares[0][:, None]
    product += squares[1]
    rounding = ROUNDING * sum(each.max(initial=0) for each in squares)
    product[product < rounding] = 0
    return product


def centered(a: Rows, b: Rows) -> tuple[Rows, Rows]:
    """Returns both tables minus the mean of `b`, so that distances lose fewer digits."""
    mean = b.mean(axis=0)
    return a - mean, b - mean
