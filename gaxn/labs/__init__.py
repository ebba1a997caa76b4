"""Labs, one a file, each with a `Lab`: something small made visible, without players or data.

The fields of a `Lab` are the fields of its config, beside `lab`, which names the file.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from gaxn.types import Report


class Lab(Protocol):
    """All that is to be seen, computed afresh at every call and the same every time."""

    def __call__(self) -> Report: ...


@dataclasses.dataclass(frozen=True)
class LabRun:
    """One run of a lab.

    Attributes:
        name: of the config file.
        config: resolved, ready for JSON.
        lab: what is done.
    """

    name: str
    config: Mapping[str, Any]
    lab: Lab
