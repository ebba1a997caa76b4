"""Metrics of sets of images, streamed: no set is ever held whole.

The images of a set are numbered; batches are of one size (the last is filled up and cut), so
that neither the batch nor the order changes what an extractor sees. Each process looks at its
share, and all of them get the figures of the whole.
"""

import dataclasses
import functools
import io
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from gaxn import mesh, processes
from gaxn.data import Source, reader
from gaxn.extractors import Extractor
from gaxn.metrics import (
    Observed,
    Outline,
    Result,
    frechet,
    inception_score,
    kid,
    manifolds,
    ms_ssim,
    neighbours,
    sliced_wasserstein,
)
from gaxn.statistics import gaussian, packing, rows
from gaxn.types import HostLabels, HostPixels, InputError

BATCH = 200
"""Images at a time: a multiple of the hundreds that MS-SSIM draws its pairs from."""

PORTION = 2_000
"""Images' features at a time: moments are cheaper by far in large portions."""

ORDER_SEED = 2020

PROTOCOL = {
    "order": f"by permutation, seed {ORDER_SEED}, but for whole sets without classes",
    "quantised": "uint8",
    "dtype": "float32 features, float64 statistics",
    "covariance_ddof": 1,
    "frechet_error": f"{frechet.FOLDS} folds, seed {frechet.SEED}",
    "kid": f"{kid.SUBSETS} subsets of up to {kid.SUBSET_SIZE}, seed {kid.SEED}",
    "inception_score": f"{inception_score.SPLITS} splits, seed {inception_score.SEED}",
    "neighbours": f"{manifolds.NEAR} for precision and recall, {manifolds.FAR} for density "
    "and coverage",
    "ms_ssim": f"pairs within each {ms_ssim.HUNDRED}, seed {ms_ssim.SEED}",
    "copied": f"nearer to a training image than {1 - neighbours.CLOSE:g} of unseen ones",
    "directions": f"{sliced_wasserstein.DIRECTIONS}, seed {sliced_wasserstein.SEED}",
}
"""What is the same in every evaluation by this code."""

Metrics = Mapping[str, Any]
"""Files of gaxn/metrics by their names."""


class ImageSet(NamedTuple):
    """Images by their number.

    Attributes:
        count: how many.
        shape: (height, width, channels), or (features,) of points.
        labels: number of labels; 0 where there are none.
        read: int [n] in [0, count) -> uint8 images [n, ...] and their labels, or None.
    """

    count: int
    shape: tuple[int, ...]
    labels: int
    read: Callable[[np.ndarray], tuple[HostPixels, HostLabels | None]]


def of_source(source: Source, count: int | None = None) -> ImageSet:
    """Images of a source.

    All of a set without classes keep their order, so that what is drawn from it (splits,
    subsets) is the same as elsewhere. Others get an order that is drawn once: many sources are
    sorted by class.

    Args:
        source: where they come from.
        count: how many at most; None for all.
    """
    size = len(source)
    count = size if count is None else min(count, size)
    as_listed = count == size and not source.class_names
    random = np.random.RandomState(ORDER_SEED)
    order = np.arange(size) if as_listed else random.permutation(size)
    read = reader(source)

    # One compiled program for any number of images; what reads files reads no more than it has to.
    width = 1 if source.table is None else min(BATCH, count)

    def of_numbers(numbers: np.ndarray) -> tuple[HostPixels, HostLabels | None]:
        filled = np.resize(numbers, -(-len(numbers) // width) * width)
        found = jax.device_get(read(order[filled]))
        return jax.tree.map(lambda leaf: leaf[: len(numbers)], found)

    return ImageSet(count, source.image_shape, len(source.class_names), of_numbers)


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What is left of a set of images: all that its metrics need.

    Attributes:
        outline: of the set.
        states: of the metrics, by `_collector`; those that collect the same share one.
        seconds: that it took to look at the images.
    """

    outline: Outline
    states: Mapping[str, Any]
    seconds: float = 0.0

    def among(self, metrics: Metrics) -> dict[str, Any]:
        """Those of the metrics whose states are here."""
        return {
            name: metric for name, metric in metrics.items() if _collector(metric) in self.states
        }

    def of(self, name: str, metric: Any) -> Any:
        """The state of one metric.

        Raises:
            InputError: it is not among what was collected.
        """
        if _collector(metric) not in self.states:
            raise InputError(
                f"metric {name} needs {_collector(metric)}, which the reference does not have; "
                f"it has {', '.join(self.states) or 'nothing'}"
            )
        return self.states[_collector(metric)]


def applicable(metrics: Metrics, outlines: Sequence[Outline]) -> dict[str, Any]:
    """Those of the metrics for which every set has what they take."""
    return {
        name: metric
        for name, metric in metrics.items()
        if all(_has(outline, field) for outline in outlines for field in metric.TAKES)
    }


def fitting(
    metrics: Metrics, outlines: Sequence[Outline], asked: Collection[str] = ()
) -> dict[str, Any]:
    """Those of the applicable metrics for which every set has images enough, and not too many.

    Args:
        metrics: applicable ones.
        outlines: of the sets.
        asked: the names of those that somebody asked for.

    Raises:
        InputError: one of those is left out.
    """
    found = {}
    for name, metric in metrics.items():
        problem = next(filter(None, (_problem(metric, whole) for whole in outlines)), "")
        if problem and name in asked:
            raise InputError(f"metric {name} {problem}")
        if not problem:
            found[name] = metric
    return found


def timing(seconds: float, found: Statistics) -> dict[str, float]:
    """How long an evaluation took, as it tells it.

    Args:
        seconds: all of it, compilation and reference included.
        found: the set that it scored.
    """
    return {
        "seconds": round(seconds, 2),
        "images_per_second": round(found.outline.count / found.seconds, 1),
    }


def alike(outlines: Sequence[Outline]) -> None:
    """Refuses sets whose features cannot be held against each other.

    Raises:
        InputError: they are of different lengths.
    """
    lengths = sorted({whole.features for whole in outlines})
    if len(lengths) > 1:
        raise InputError(
            f"the sets have {' and '.join(f'{n:,}' for n in lengths)} features an image; valid is "
            "pictures of one size, by one extractor"
        )


def outline(images: ImageSet, extractor: Extractor) -> Outline:
    """What there will be of a set.

    Raises:
        InputError: the extractor cannot take such images.
    """
    seen = extractor.outline(images.shape)
    classes = 0 if seen.logits is None else seen.logits.shape[-1]
    pictures = int(len(images.shape) == 3)
    width = seen.features.shape[-1]
    return Outline(images.count, width, classes, extractor.modes, images.labels, pictures)


def looking(extractor: Extractor, size: int = BATCH) -> Callable[[HostPixels], Any]:
    """Up to so many images on the host -> what the extractor sees, on the host."""
    program = mesh.spread(jax.jit(extractor.apply), extractor.params)

    def look(images: HostPixels) -> Any:
        if len(images) > size:
            raise ValueError(f"{len(images)} images at a time; valid is up to {size}")
        full = np.minimum(np.arange(size), len(images) - 1)
        return jax.tree.map(lambda leaf: leaf[: len(images)], program(images[full]))

    return look


def observe(
    images: ImageSet,
    extractor: Extractor,
    metrics: Metrics,
    look: Callable[[HostPixels], Any],
    title: str,
) -> Statistics:
    """Looks at every image once.

    Args:
        images: the set.
        extractor: what sees features in them.
        metrics: those that are to be computed, all applicable.
        look: `looking(extractor)`, kept so that it compiles once.
        title: what a progress bar says.

    Raises:
        InputError: a metric's state would be too large.
    """
    started = time.perf_counter()
    whole = outline(images, extractor)
    collectors = {_collector(metric): metric for metric in metrics.values()}
    try:
        empty = {name: metric.empty(whole) for name, metric in collectors.items()}
    except ValueError as error:
        raise InputError(f"a metric of {title} {error}") from None
    states = dict(empty)
    waiting: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in collectors}

    def update(name: str) -> None:
        if waiting[name]:
            together = (np.concatenate(parts) for parts in zip(*waiting[name], strict=True))
            states[name] = collectors[name].update(states[name], *together)
            waiting[name] = []

    share = processes.own_share(_batches(images.count))
    for numbers in tqdm(share, title, leave=False, disable=None):
        observed = _observed(images, look, numbers)
        for name, metric in collectors.items():
            taken = (getattr(observed, field) for field in metric.TAKES)
            waiting[name].append((numbers, *taken))
            held = sum(len(part[0]) for part in waiting[name])
            if "images" in metric.TAKES or held >= PORTION:
                update(name)
    for name in collectors:
        update(name)
    if processes.count() > 1:
        everyone = [_unpacked(part, empty) for part in processes.gather(_npz(_compacted(states)))]
        states = {
            name: functools.reduce(metric.merge, [part[name] for part in everyone])
            for name, metric in collectors.items()
        }
    return Statistics(whole, states, time.perf_counter() - started)


def compute(metrics: Metrics, statistics: Statistics, reference: Statistics) -> Result:
    """All figures and tables of a set, held against the reference.

    Raises:
        InputError: a set is too small for a metric, the reference lacks what it needs, or has
            other features.
    """
    alike([statistics.outline, reference.outline])
    figures, tables = {}, {}
    for name, metric in metrics.items():
        try:
            result = metric.compute(statistics.of(name, metric), reference.of(name, metric))
        except ValueError as error:
            raise InputError(f"metric {name}: {error}") from None
        figures |= result.figures
        tables |= result.tables
    return Result(figures, tables)


def features(
    images: ImageSet, look: Callable[[HostPixels], Any], title: str
) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Numbers and features, batch by batch; every process sees all of them."""
    for numbers in tqdm(_batches(images.count), title, leave=False, disable=None):
        yield numbers, look(images.read(numbers)[0]).features


def save(statistics: Statistics, facts: Mapping[str, Any]) -> bytes:
    """Statistics as the content of a .npz file, with `mu` and `sigma` as pytorch-fid has them.

    Args:
        statistics: what was observed.
        facts: the protocol, ready for JSON.
    """
    arrays = _compacted(statistics.states)
    for state in statistics.states.values():
        if isinstance(state, frechet.State):
            moments = frechet.together(state)
            arrays |= {"mu": moments.mean, "sigma": gaussian.covariance(moments)}
    arrays["gaxn"] = np.array(json.dumps({"outline": statistics.outline, "facts": facts}))
    return _npz(arrays)


def load(content: Mapping[str, np.ndarray], metrics: Metrics) -> tuple[Statistics, dict[str, Any]]:
    """What `save` kept, or pytorch-fid, and its facts.

    Args:
        content: the arrays of the .npz file.
        metrics: those that are wanted; the file may have others.

    Raises:
        InputError: it is not such a file.
    """
    if "gaxn" not in content and {"mu", "sigma"} <= content.keys():
        try:
            state = frechet.of_gaussian(content["mu"], content["sigma"])
        except ValueError as error:
            raise InputError(f"it is no file of statistics: {error}") from None
        whole = Outline(0, len(content["mu"]))
        return Statistics(whole, {_collector(frechet): state}), {"samples": "unknown"}
    try:
        kept = json.loads(str(content["gaxn"]))
        whole, facts = Outline(*kept["outline"]), kept["facts"]
    except (KeyError, TypeError, ValueError):
        raise InputError("it is no file of statistics") from None
    states = {}
    for metric in metrics.values():
        name = _collector(metric)
        if any(key.startswith(f"{name}/") for key in content):
            try:
                states[name] = packing.unpack(metric.empty(whole), content, name)
            except (KeyError, ValueError) as error:
                raise InputError(f"its {name} are damaged ({error})") from None
    return Statistics(whole, states), facts


def _has(whole: Outline, field: str) -> bool:
    counts = {
        "images": whole.pictures,
        "logits": whole.classes,
        "modes": whole.modes,
        "labels": whole.labels,
    }
    return counts.get(field, 1) > 0


def _problem(metric: Any, whole: Outline) -> str:
    """Why a metric cannot be had of a set; a count of 0 is unknown."""
    if 0 < whole.count < metric.FEWEST:
        return f"needs {metric.FEWEST} images or more; a set has {whole.count}"
    try:
        metric.empty(whole)
    except ValueError as error:
        return str(error)
    return ""


def _collector(metric: Any) -> str:
    """What a metric collects: the home of its `update`, and what that takes."""
    home = metric.update.__module__.rpartition(".")[2]
    return f"{home} of {', '.join(metric.TAKES)}"


def _batches(count: int) -> list[np.ndarray]:
    return [np.arange(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]


def _observed(images: ImageSet, look: Callable, numbers: np.ndarray) -> Observed:
    pictures, labels = images.read(numbers)
    seen = look(pictures)
    return Observed(np.asarray(pictures), seen.features, seen.logits, seen.modes, labels)


def _compacted(states: Mapping[str, Any]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, state in states.items():
        if isinstance(state, rows.State) and state.indices:
            state = rows.compact(state)
        arrays |= packing.pack(state, name)
    return arrays


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _unpacked(content: bytes, empty: Mapping[str, Any]) -> dict[str, Any]:
    with np.load(io.BytesIO(content)) as stored:
        arrays = dict(stored)
    return {name: packing.unpack(state, arrays, name) for name, state in empty.items()}
