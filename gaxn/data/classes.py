"""Classes of images: numbered from labels of any form, and shared out between the splits."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from gaxn.data import printable
from gaxn.types import InputError

NAMED_CLASSES = 10
"""Classes that a note names; it counts the others."""

EXPECTED = "one integer label per image, 0 or more (or a text, or one-hot)"

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+|nan)\s*", re.IGNORECASE)
"""Texts that are numbers, as a .csv has them."""

MAX_DIGITS = 4300
"""Digits of a whole number that Python reads."""

LIST = re.compile(r"[\[(][\d\s.,+-]*[\])]")
"""Texts that are lists of numbers."""


def number_classes(
    labels: np.ndarray | Sequence, count: int
) -> tuple[Int[np.ndarray, " count"], tuple[str, ...]]:
    """Returns the class of each image, from 0, and the names of the classes.

    The classes are the labels that occur, in their order, and named by them. Texts are numbers if
    all of them are.

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
    names, classes = np.unique(values, return_inverse=True)
    names = names.tolist()
    numbers = [_to_number(name) for name in names]
    if None in numbers:
        if any(isinstance(label, int | float) for label in np.asarray(labels, object).ravel()):
            text = printable(names[numbers.index(None)])
            raise InputError(f"{EXPECTED}, got numbers and texts, such as {text}")
        return classes.astype(np.int32), show_names(names)
    name_of = {}
    for name, number in zip(names, numbers, strict=True):
        is_exact = isinstance(number, int) or abs(number) < 2**53
        if number % 1 or not is_exact:
            raise InputError(f"{EXPECTED}, got {number}")
        if number < 0:
            raise InputError(f"{EXPECTED}, got {number:g}, which often marks images without one")
        name_of.setdefault(number, str(name) if str(name).isdecimal() else str(int(number)))
    ranks = {number: rank for rank, number in enumerate(sorted(name_of))}
    classes = np.array([ranks[number] for number in numbers], np.int32)[classes]
    return classes, tuple(name_of[number] for number in ranks)


def _to_number(label: int | float | str) -> int | float | None:
    """Returns the number that a label is; None if it is a text.

    Raises:
        InputError: the text is a list of numbers.
    """
    if not isinstance(label, str):
        return label
    if LIST.fullmatch(label):
        raise InputError(f"{EXPECTED}, got {printable(label)}")
    if label.isdecimal() and len(label) <= MAX_DIGITS:
        return int(label)
    return float(label) if NUMBER.fullmatch(label) else None


def show_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of classes as parts of a line.

    Raises:
        InputError: two of them look alike.
    """
    texts = tuple(map(printable, names))
    for name, text in zip(names, texts, strict=True):
        if text != name and texts.count(text) > 1:
            raise InputError(f"classes with different names, got two that are shown as {text}")
    return texts


def _read_one_hot(values: np.ndarray) -> Int[np.ndarray, " count"]:
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
    ranks: Int[np.ndarray, " n"], threshold: float, classes: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Returns whether each image is in the test split.

    An image is in it if its rank is below the threshold. In each class of two or more, the image of
    the lowest rank is always a test image, and that of the highest rank always a training image.
    """
    is_test = ranks < threshold
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
