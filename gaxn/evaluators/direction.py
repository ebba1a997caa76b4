"""An evaluator of samples, of one direction of a translation."""

import dataclasses

from gaxn.evaluators import Evaluator as Measurement
from gaxn.translation import Translator
from gaxn.types import Report


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """What another evaluator finds in the translated images; its pictures in a folder.

    Attributes:
        direction: "a2b" or "b2a".
        measurement: of the images of the domain that it leads to.
    """

    direction: str
    measurement: Measurement

    @property
    def figures(self) -> set[str]:
        """The names of what it finds, but for errors and floors."""
        return self.measurement.figures

    def __call__(self, translator: Translator) -> Report:
        report = self.measurement(translator.subjects[self.direction])
        shown = {f"{self.direction}/{name}": drawn for name, drawn in report.pictures.items()}
        return report._replace(pictures=shown)
