"""Evaluators, one a file, each with an `Evaluator`: a `Subject` in, a `Report` out.

Those of translations take a `Translator` instead.
"""

from typing import Protocol

from gaxn.types import Report, Subject


class Evaluator(Protocol):
    """One measurement, ready to be taken of any subject."""

    def __call__(self, subject: Subject) -> Report: ...
