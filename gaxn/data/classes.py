"""Classes of images: numbered from labels of any form, and shared out between the splits."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from gaxn.types import InputError

NAMED_CLASSES = 10
"""Classes that a note names; it counts the others."""

EXPECTED = "one integer label per image, 0 or more (or a text, or one-hot)"


def number_classes(
    labels: np.ndarray | Sequence, count: int
) -> tuple[Int[np.ndarray, "count"], tuple[str, ...]]:
    """Returns the class of each image, from 0, and the names of the classes.

    The classes are the labels that occur, in their order, and named by them.

    Args:
        labels: whole numbers of any type or texts, of shape [count] or [count, 1]; or one-hot,
            [count, labels].
        count: number of images.

    Raises:
        InputError: they are anything else; the message says what they are.
    """
    try:
        values = np.asarray(labels)
    except ValueError:
        raise InputError(f"{EXPECTED}, got lists of several lengths") from None
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    is_per_image = count in (values.size, *values.shape[:1])
    if values.dtype.kind not in "iufU" or not is_per_image:
        raise InputError(f"{EXPECTED}, got {values.dtype} {list(values.shape)} of {count:,} images")
    values = values.reshape(-1) if values.size == count else _read_one_hot(values)
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
        is_whole = (np.abs(values) < 2**53) & (values == np.round(values))
        if not is_whole.all():
            raise InputError(f"{EXPECTED}, got {values[~is_whole][0]}")
        values = values.astype(np.int64)
    if values.dtype.kind == "i" and values.min() < 0:
        raise InputError(f"{EXPECTED}, got {values.min()}, which often marks images without one")
    names, classes = np.unique(values, return_inverse=True)
    texts = [str(name) for name in names]
    if all(text.isdecimal() for text in texts):
        # Numbers that were read as text, such as those of a .csv.
        order = sorted(range(len(texts)), key=lambda number: int(texts[number]))
        texts, classes = [texts[number] for number in order], np.argsort(order)[classes]
    return classes.astype(np.int32), tuple(texts)


def _read_one_hot(values: np.ndarray) -> Int[np.ndarray, "count"]:
    """Returns the column of the 1 in each row.

    Raises:
        InputError: a row is not one-hot.
    """
    if values.ndim != 2 or values.dtype.kind == "U":
        raise InputError(f"{EXPECTED}, got {values.dtype} {list(values.shape)}")
    is_binary = ((values == 0) | (values == 1)).all(axis=1)
    counts = np.count_nonzero(values, axis=1)
    wrong = np.flatnonzero(~is_binary | (counts != 1))
    if wrong.size:
        row = wrong[0]
        kind = f"multi-hot labels: {counts[row]}" if is_binary[row] else f"{values[row, :8]}"
        raise InputError(f"{EXPECTED}, got {kind} of {values.shape[1]} for image {row}")
    return values.argmax(axis=1)


def choose_tests(
    ranks: Int[np.ndarray, "n"], below: float, classes: Int[np.ndarray, "n"]
) -> Bool[np.ndarray, "n"]:
    """Returns whether each image is in the test split: if its rank is `below`.

    But the lowest of each class is, so that a small class is in the test split, and the highest is
    not, so that a class is never in the test split alone. Other images stay where they are.
    """
    is_test = ranks < below
    order = np.lexsort((ranks, classes))
    ends = np.flatnonzero(np.diff(classes[order], append=-1))
    is_test[order[np.append(0, ends[:-1] + 1)]] = True
    is_test[order[ends]] = False
    return is_test


def describe_untested(names: Sequence[str]) -> tuple[str, ...]:
    """Returns a note about classes without an image in the test split, if there are any."""
    others = len(names) - NAMED_CLASSES
    more = f" and {others:,} more" if others > 0 else ""
    return (f"no image for tests of {', '.join(names[:NAMED_CLASSES])}{more}",) if names else ()
