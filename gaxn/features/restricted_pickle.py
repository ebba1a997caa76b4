"""Pickles that are read without running the code in them.

A pickle is a program that could do anything. In this reader it can look up only the names that its
caller knows; each stands for a record or a function of the caller that cannot be modified.
"""

import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

ERRORS = (
    *(AttributeError, EOFError, IndexError, KeyError, MemoryError, OverflowError, RuntimeError),
    *(TypeError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile),
)
"""Exceptions besides ValueError that a damaged pickle or zip can raise."""


class Function(NamedTuple):
    """A function that a pickle cannot modify, because a tuple's attributes cannot be set."""

    make: Callable

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)


class Unpickler(pickle.Unpickler):
    """An unpickler that finds only known names.

    Args:
        stream: at the first byte of a pickle.
        known: by "module.name", what it stands for.
        content: what such a file has to hold, for errors.
    """

    def __init__(self, stream: io.BytesIO, known: Mapping[str, Any], content: str) -> None:
        _check_memo(stream)
        super().__init__(stream)
        self.known, self.content = known, content

    def find_class(self, module: str, name: str) -> Any:
        record = self.known.get(f"{module}.{name}")
        if record is None:
            raise ValueError(f"it asks for {module}.{name}, which no {self.content} needs")
        return record

    def persistent_load(self, reference: Any) -> Any:
        raise ValueError(f"it refers to something outside of it, which no {self.content} needs")


def _check_memo(stream: io.BytesIO) -> None:
    """Raises a ValueError if a pickle is damaged, or would make the unpickler take much memory."""
    start = stream.tell()
    try:
        names = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(stream)]
    except ValueError as error:
        raise ValueError(f"damaged or cut off ({error})") from None
    for count, (name, argument) in enumerate(names):
        # Ten bytes that store a memo entry at index 2**32 would make the unpickler take 64 GiB.
        if name.endswith("PUT") and argument > count:
            raise ValueError(f"damaged: its memo has an index {argument} after {count} opcodes")
    stream.seek(start)
