"""Labs: small experiments without a GAN and without data, one `Lab` per file.

The fields of a `Lab` are the fields of its config, besides `lab`, the name of the file.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from gaxn.types import Measurement

Lab = Callable[[], Measurement]
"""A small experiment; it computes everything anew, with the same result every time."""


@dataclasses.dataclass(frozen=True)
class LabRun:
    """One run of a lab.

    Attributes:
        name: of the config file.
        config: resolved, ready for JSON.
        lab: the experiment.
    """

    name: str
    config: Mapping[str, Any]
    lab: Lab
