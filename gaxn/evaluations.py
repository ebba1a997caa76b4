"""What a run measures, when, and of which checkpoint: the fields of `config.evaluation`."""

import dataclasses
import functools
import json
import math
import pkgutil
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from gaxn import figures
from gaxn import metrics as metrics_folder
from gaxn.data import Modal, Source, Unpaired
from gaxn.evaluators import Evaluator, attention, direction, measured, translation
from gaxn.extractors import Extractor
from gaxn.extractors import classifier as classifier_network
from gaxn.extractors import inception as inception_network
from gaxn.metrics import neighbours
from gaxn.preprocessing import PREPROCESSINGS
from gaxn.sampling import Choice
from gaxn.schema import instance, resolve
from gaxn.state import GanState
from gaxn.translation import DIRECTIONS, Translator
from gaxn.types import InputError, Subject, require

FEWEST = 10
"""Samples without which some metric is not defined."""

ALL, LAST, BEST = "all", "last", "best"
SENSES = {"lowest": min, "highest": max}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run measures.

    Attributes:
        subject: host state -> what is measured.
        evaluators: the full evaluation, by the name of each part in evaluation.json.
        interim: the smaller one, during training.
        every: steps between two of those; 0 for never.
        best: "lowest" or "highest", and the figure by which the best checkpoint is kept.
        checkpoint: "last", "best", "all" or a step: what `--mode evaluate` looks at.
        labelled: the training and the test split, as a classifier of the data learns them.
    """

    subject: Callable[..., Subject | Translator]
    evaluators: Callable[[], Mapping[str, Evaluator]]
    interim: Callable[[], Mapping[str, Any]]
    every: int
    best: str
    checkpoint: str
    labelled: tuple[Source, Source]

    def check(self) -> None:
        """Finds out, before training, what could not be measured after it.

        Raises:
            InputError: an extractor or a metric cannot be had, or the figure that `best` names.
        """
        self.evaluators()
        if not self.every:
            return
        known = [
            f"{part}/{name}"
            for part, evaluator in self.interim().items()
            for name in sorted(evaluator.figures)
        ]
        there = ", ".join(known) or "none: the data has no classes, and there is no inception"
        figure = self.best.partition(" ")[2]
        require(
            "config.evaluation.best", self.best, figure in known, f"lowest or highest, and {there}"
        )

    def figure(self, document: Mapping[str, Any]) -> float | None:
        """The figure that `best` names, in what an interim evaluation wrote, if it is there."""
        part, _, name = self.best.partition(" ")[2].partition("/")
        return document.get(part, {}).get("figures", {}).get(name)

    def earlier(
        self, document: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]
    ) -> list[float]:
        """That figure in those of earlier interim evaluations that measured it the same way."""
        part = self.best.partition(" ")[2].partition("/")[0]
        method = figures.method(json.loads(json.dumps(document[part]["protocol"])))
        alike = [
            line
            for line in lines
            if line.get("interim")
            and part in line
            and figures.method(line[part]["protocol"]) == method
        ]
        return [value for line in alike if (value := self.figure(line)) is not None]

    def is_best(self, value: float, before: list[float]) -> bool:
        """Whether a figure is better than all that came before it."""
        chosen = SENSES[self.best.partition(" ")[0]]
        return not before or (value != chosen(before) and chosen([value, *before]) == value)


class _Aim(NamedTuple):
    """Real images that generated ones are held against.

    Attributes:
        train: the training split.
        test: the test split.
        most: generated images that there are.
        direction: of the translation that leads there; "" where nothing is translated.
    """

    train: Source
    test: Source
    most: float
    direction: str

    def named(self, part: str) -> str:
        """A part of the evaluation, as evaluation.json calls it."""
        return "_".join(filter(None, (part, self.direction)))

    def evaluator(self, measurement: Any) -> Any:
        """That takes what is measured here."""
        if not self.direction:
            return measurement
        return direction.Evaluator(self.direction, measurement)


def plan(
    train: Source,
    test: Source,
    conditional: bool,
    subject: Callable[[Choice], Callable[..., Subject | Translator]],
    start: Callable[[], GanState],
    *,
    samples: int,
    reference_count: int = 0,
    metrics: tuple[str, ...] = (),
    classifier: bool = True,
    inception: str = "",
    preprocessing: str = "tf",
    memorisation: bool = True,
    weights: str = "ema",
    statistics: str = "standing",
    truncation: float = 0.0,
    checkpoint: str = LAST,
    every: int = 0,
    interim_samples: int = 1_000,
    interim_metrics: tuple[str, ...] = ("frechet", "confusion"),
    best: str = "lowest classifier/frechet_distance",
) -> Plan:
    """The plan that a config describes.

    Args:
        train: the training split.
        test: the test split.
        conditional: whether the generator takes labels.
        subject: what makes subjects, of the weights and statistics that are chosen.
        start: () -> the host state before the first step.
        samples: images that a full evaluation generates, or translates each way if there are
            as many in the test split.
        reference_count: images of the test split that they are held against as a set; 0 for all.
        metrics: names in gaxn/metrics; none for all that apply.
        classifier: whether a classifier of the data's classes looks at them; of unpaired data,
            one that tells the domains apart.
        inception: "" for none; the path of the Inception network's weights; or "download".
        preprocessing: how images are resized for Inception: "tf", "torch" or "clean".
        memorisation: whether the training images nearest to samples are looked for.
        weights: "ema" or "raw".
        statistics: "standing" or "running".
        truncation: the largest absolute value of a number of a latent; 0 for no bound.
        checkpoint: "last", "best", "all" or a step.
        every: steps between interim evaluations; 0 for none.
        interim_samples: images that one of those generates.
        interim_metrics: names in gaxn/metrics; of those that apply.
        best: "lowest" or "highest", then "part/figure".

    Raises:
        InputError: a field is out of range.
    """
    require("samples", samples, samples >= FEWEST, f"{FEWEST} or more")
    holds = reference_count == 0 or reference_count >= FEWEST
    require("reference_count", reference_count, holds, f"0, for all, or {FEWEST} or more")
    valid = f"{FEWEST} or more"
    require("interim_samples", interim_samples, interim_samples >= FEWEST, valid)
    require(
        "preprocessing", preprocessing, preprocessing in PREPROCESSINGS, ", ".join(PREPROCESSINGS)
    )
    require("every", every, every >= 0, "0, for never, or more")
    holds = checkpoint in (LAST, BEST, ALL) or checkpoint.isdecimal()
    require("checkpoint", checkpoint, holds, f"{LAST}, {BEST}, {ALL} or a step")
    holds = best.partition(" ")[0] in SENSES and "/" in best
    require("best", best, holds, "lowest or highest, and part/figure, with a space between")
    chosen = choose(metrics, "config.evaluation.metrics")
    quick = choose(interim_metrics, "config.evaluation.interim_metrics")
    translates = isinstance(train, Unpaired) and isinstance(test, Unpaired)
    aims = [_Aim(train, test, math.inf, "")]
    labelled = train, test
    if translates:
        labelled = train.labelled, test.labelled
        domains = zip(train.still.domains, test.domains, reversed(test.sizes), strict=True)
        aims = [_Aim(*own, way) for own, way in zip(domains, reversed(DIRECTIONS), strict=True)]
    makes = subject(Choice(weights, statistics, truncation))

    @functools.cache
    def references() -> dict[tuple[str, _Aim], measured.Reference]:
        extractors: dict[str, Extractor] = {}
        if inception:
            extractors["inception"] = inception_network.load(inception, preprocessing)
        if classifier and len(labelled[0].class_names) > 1:
            extractors = {"classifier": classifier_network.of(*labelled), **extractors}
        if isinstance(test, Modal):
            extractors["modes"] = instance("extractors", test.modes, "the data's modes", "load")
        files = {**chosen, **quick} if every else chosen
        most = max(samples, interim_samples, len(train), len(test))
        if translates:
            # What is right is one of its two classes, and no coverage of modes.
            extractors = {
                name: dataclasses.replace(own, modes=0) for name, own in extractors.items()
            }
        return {
            (name, aim): measured.Reference(
                aim.test, extractor, files, conditional, most, reference_count or None
            )
            for name, extractor in extractors.items()
            for aim in aims
        }

    def measure(
        count: int, files: Mapping[str, Any], asked: Collection[str], searches: bool
    ) -> dict[str, Any]:
        found = {}
        if translates:
            untrained = functools.cache(lambda member: makes(start(), member))
            found["translation"] = translation.Evaluator(train.still, test, count, untrained)
        for (name, aim), reference in references().items():
            of = int(min(count, aim.most))
            own = measured.Evaluator(name, aim.train, reference, files, asked, of, searches)
            found[aim.named(name)] = aim.evaluator(own)
        return found

    @functools.cache
    def full() -> Mapping[str, Evaluator]:
        pictures = len(test.image_shape) > 1
        found = measure(samples, chosen, metrics, memorisation and pictures)
        shown = {
            aim.named("attention"): aim.evaluator(attention.Evaluator(aim.test, conditional))
            for aim in aims
            if pictures
        }
        return found | shown

    @functools.cache
    def interim() -> Mapping[str, Any]:
        return measure(interim_samples, quick, (), False)

    return Plan(makes, full, interim, every, best, checkpoint, labelled)


def choose(names: tuple[str, ...], field: str) -> dict[str, Any]:
    """Files of gaxn/metrics by name; all of them where there is no name.

    Raises:
        InputError: there is no such metric.
    """
    found = names or tuple(item.name for item in pkgutil.iter_modules(metrics_folder.__path__))
    files = {name: resolve("metrics", name, field) for name in found}
    if neighbours in files.values() and names:
        raise InputError(
            f"{field} has neighbours, which is no metric of a set; valid are "
            f"{', '.join(choose((), field))}"
        )
    return {name: file for name, file in files.items() if file is not neighbours}
