"""Evaluators, one per file: a `Sampler` in, a `Measurement` out."""

from typing import Protocol

from gaxn.types import Measurement, Sampler


class Evaluator(Protocol):
    """A measurement that is ready to be taken of any sampler.

    Attributes:
        figures: names of its figures, without those of errors and of real images.
    """

    figures: set[str]

    def __call__(self, sampler: Sampler) -> Measurement: ...
