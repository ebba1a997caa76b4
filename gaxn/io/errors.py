"""Warnings and errors on a command line: by the package they come from, in one line."""

import errno
import logging
import os
from collections.abc import Iterable
from pathlib import Path

FULL_DISK = {errno.ENOSPC, errno.EDQUOT}


class _Formatter(logging.Formatter):
    """Writes "package: message"."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.name.partition('.')[0]}: {record.getMessage()}"


def show_warnings() -> None:
    """Sends warnings, of gaxn and of libraries, to standard error."""
    root = logging.getLogger()
    # A library that logs while it is imported leaves a handler with another format.
    for handler in [each for each in root.handlers if type(each) is logging.StreamHandler]:
        root.removeHandler(handler)
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    root.addHandler(handler)
    root.setLevel(logging.WARNING)


def describe_user_error(error: OSError, paths: Iterable[str | Path]) -> str:
    """Returns one line for an error that the user can mend, or "".

    These are a full disk, and any error of a file at or below one of the paths. All
    others are faults of gaxn, whose traceback matters.

    Args:
        error: of the operating system.
        paths: that the user named.
    """
    name = error.filename if isinstance(error.filename, str | bytes | os.PathLike) else ""
    reason = error.strerror or str(error)
    place = f" ({os.fsdecode(name)})" if name else ""
    if error.errno in FULL_DISK:
        return f"{reason}{place}"
    if not name:
        return ""
    file = Path(os.path.realpath(os.fsdecode(name)))
    is_below = any(file.is_relative_to(os.path.realpath(path)) for path in paths)
    return f"{reason}{place}" if is_below else ""
