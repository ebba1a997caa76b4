"""Metrics of sets of images of any size: images are read, and features extracted, in batches.

All batches have one size (the last one is padded, and its padding discarded), so that neither the
batch size nor the order changes the features. Each of several processes reads its share of the
images, and all of them return the figures of the full set.
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
from jaxtyping import Float
from tqdm import tqdm

from gaxn.data import Source, make_reader
from gaxn.distributed import multihost, sharding
from gaxn.features import ExtractorOutput, FeatureExtractor
from gaxn.metrics import (
    Observations,
    Result,
    SetSpec,
    frechet,
    inception_score,
    intra_frechet,
    kid,
    ms_ssim,
    precision_recall,
    sliced_wasserstein,
)
from gaxn.metrics.statistics import nearest_neighbors, packing, rows
from gaxn.types import HostLabels, HostPixels, InputError

BATCH = 200
"""Images per batch: a multiple of the blocks from which MS-SSIM draws its pairs."""

PAIRS = 50
"""Pairs of images per batch of distances; networks of LPIPS need more memory than others."""

UPDATE_SIZE = 8_000
"""Feature vectors per update of a state: moments are much cheaper in large batches."""

ORDER_SEED = 2020

PROTOCOL = {
    "order": f"by permutation, seed {ORDER_SEED}, but for whole sets without classes",
    "quantized": "uint8",
    "dtype": "float32 features, float64 statistics",
    "covariance_ddof": 1,
    "frechet_error": f"{frechet.FOLDS} folds, seed {frechet.SEED}",
    "kid": f"{kid.SUBSETS} subsets of up to {kid.SUBSET_SIZE}, seed {kid.SEED}",
    "inception_score": f"{inception_score.SPLITS} splits, seed {inception_score.SEED}",
    "neighbors": f"{precision_recall.PRECISION_NEIGHBORS} for precision and recall, "
    f"{precision_recall.DENSITY_NEIGHBORS} for density and coverage",
    "ms_ssim": f"pairs within each {ms_ssim.PAIRING_BLOCK}, seed {ms_ssim.SEED}",
    "copied": f"nearer to a training image than {1 - nearest_neighbors.COPY_QUANTILE:g} "
    "of unseen ones",
    "directions": f"{sliced_wasserstein.DIRECTIONS}, seed {sliced_wasserstein.SEED}",
}
"""The part of the protocol that is the same in every evaluation by this code."""

Metrics = Mapping[str, Any]
"""Modules of gaxn/metrics by their names."""

Extract = Callable[[HostPixels], ExtractorOutput]
"""Images on the host -> features on the host."""

Distance = Callable[[np.ndarray, np.ndarray], Float[np.ndarray, " pairs"]]
"""Images and as many others, on the host -> the distance of each pair, float64."""


class ImageSet(NamedTuple):
    """Images by their indices.

    Attributes:
        count: number of images.
        shape: (height, width, channels), or (features,) of points.
        labels: number of labels; 0 without labels.
        read: indices, int [n] in [0, count) -> uint8 images [n, ...], and labels or None.
    """

    count: int
    shape: tuple[int, ...]
    labels: int
    read: Callable[[np.ndarray], tuple[HostPixels, HostLabels | None]]


def from_source(source: Source, count: int | None = None) -> ImageSet:
    """Returns images of a source.

    All images of a source without classes keep their order, so that splits and subsets are those
    of other implementations. Otherwise the order is a fixed permutation, because many sources are
    sorted by class.

    Args:
        source: of the images.
        count: the largest number of images; None for all.
    """
    size = len(source)
    count = size if count is None else min(count, size)
    keep_order = count == size and not source.class_names
    random = np.random.RandomState(ORDER_SEED)
    order = np.arange(size) if keep_order else random.permutation(size)
    read = make_reader(source)

    # Padding to one width compiles one program; a source that reads files reads no padding.
    width = 1 if source.table is None else min(BATCH, count)

    def read_padded(indices: np.ndarray) -> tuple[HostPixels, HostLabels | None]:
        padded = np.resize(indices, -(-len(indices) // width) * width)
        batch = jax.device_get(read(order[padded]))
        return jax.tree.map(lambda leaf: leaf[: len(indices)], batch)

    return ImageSet(count, source.image_shape, len(source.class_names), read_padded)


@dataclasses.dataclass(frozen=True)
class SetStatistics:
    """The states of all metrics of one set of images.

    Attributes:
        spec: of the set.
        states: by `_state_name`; metrics that collect the same share one state.
        seconds: that reading the images and extracting features took.
    """

    spec: SetSpec
    states: Mapping[str, Any]
    seconds: float = 0.0

    def available(self, metrics: Metrics) -> dict[str, Any]:
        """Returns the metrics whose states were collected."""
        return {name: each for name, each in metrics.items() if _state_name(each) in self.states}

    def state(self, name: str, metric: Any) -> Any:
        """Returns the state of one metric.

        Raises:
            InputError: it was not collected.
        """
        key = _state_name(metric)
        if key not in self.states:
            raise InputError(
                f"metric {name} needs {key}, which the reference does not have; "
                f"it has {', '.join(self.states) or 'nothing'}"
            )
        return self.states[key]


def select_applicable(metrics: Metrics, specs: Sequence[SetSpec]) -> dict[str, Any]:
    """Returns the metrics whose inputs every set provides, at a scale that they take."""
    has_unit_scale = all(spec.unit_scale for spec in specs)
    counts = [{**spec._asdict(), "images": spec.pictures, "logits": spec.classes} for spec in specs]
    return {
        name: metric
        for name, metric in metrics.items()
        if all(each[field] for each in counts for field in metric.INPUTS)
        and (has_unit_scale or not needs_unit_scale(metric))
    }


def select_unreliable(metrics: Metrics, specs: Iterable[SetSpec]) -> list[str]:
    """Returns the names of the metrics that mean little for sets as small as these.

    A covariance needs more images than features, too; one of each class, as many of each.
    """
    covariances = {frechet: lambda spec: 1, intra_frechet: lambda spec: spec.labels}

    def least(metric: Any, spec: SetSpec) -> int:
        count = covariances[metric](spec) if metric in covariances else 0
        return max(getattr(metric, "RELIABLE_COUNT", 0), count * (spec.features + 1))

    known = [spec for spec in specs if spec.count]
    return [
        name
        for name, metric in metrics.items()
        if any(spec.count < least(metric, spec) for spec in known)
    ]


def needs_unit_scale(metric: Any) -> bool:
    """Returns whether a metric needs features of the order of 1, as KID does."""
    return getattr(metric, "NEEDS_UNIT_SCALE", False)


def select_computable(
    metrics: Metrics, specs: Sequence[SetSpec], required: Collection[str] = ()
) -> dict[str, Any]:
    """Returns the applicable metrics for which no set is too small or too large.

    Args:
        metrics: applicable ones.
        specs: of the sets.
        required: names of metrics that must be computable.

    Raises:
        InputError: a required metric is not computable.
    """
    computable = {}
    for name, metric in metrics.items():
        problem = next(filter(None, (_problem(metric, spec) for spec in specs)), "")
        if problem and name in required:
            raise InputError(f"metric {name} {problem}")
        if not problem:
            computable[name] = metric
    return computable


def check_same_features(specs: Sequence[SetSpec]) -> None:
    """Raises an InputError unless all sets have features of one length."""
    lengths = sorted({spec.features for spec in specs})
    if len(lengths) > 1:
        raise InputError(
            "the sets must have equally many features per image, got "
            f"{' and '.join(f'{n:,}' for n in lengths)}: give pictures of one size, "
            "and use one feature extractor"
        )


def set_spec(images: ImageSet, extractor: FeatureExtractor) -> SetSpec:
    """Returns the spec of a set with these features.

    Raises:
        InputError: the extractor does not accept such images.
    """
    output = extractor.output_spec(images.shape)
    classes = 0 if output.logits is None else output.logits.shape[-1]
    is_picture = int(len(images.shape) == 3)
    features = output.features.shape[-1]
    sizes = images.count, features, classes, extractor.modes, images.labels, is_picture
    side = min(images.shape[:2]) if is_picture else 0
    return SetSpec(*sizes, int(extractor.unit_scale), side)


def make_extract(extractor: FeatureExtractor, size: int = BATCH) -> Extract:
    """Returns a function from up to `size` images to their features, compiled once."""
    program = sharding.data_parallel(jax.jit(extractor.apply), extractor.params)

    def extract(images: HostPixels) -> ExtractorOutput:
        if len(images) > size:
            raise ValueError(f"images must be {size} or fewer, got {len(images)}")
        padded = images[np.minimum(np.arange(size), len(images) - 1)]
        return jax.tree.map(lambda leaf: leaf[: len(images)], program(padded))

    return extract


def make_distance(extractor: FeatureExtractor) -> Distance:
    """Returns a function from images, uint8 or in [-1, 1], and as many others to their distances.

    They are computed in batches of `PAIRS`, by a program that is compiled once.
    """
    program = sharding.data_parallel(jax.jit(extractor.distance), extractor.params)

    def distance(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " pairs"]:
        parts = [program(a[indices], b[indices]) for indices in batches(len(a))]
        return np.concatenate(parts)[: len(a)].astype(np.float64)

    return distance


def batches(count: int) -> list[np.ndarray]:
    """Returns the indices of `count` pairs in batches of one size, of `PAIRS` at most.

    Programs are compiled for one size, so the last batch is filled up with a part of it again.
    """
    parts = np.split(np.arange(count), range(PAIRS, count, PAIRS))
    return [np.resize(part, min(PAIRS, count)) for part in parts]


def collect(
    images: ImageSet,
    extractor: FeatureExtractor,
    metrics: Metrics,
    extract: Extract,
    title: str,
) -> SetStatistics:
    """Reads every image once and collects the states of the metrics.

    Args:
        images, extractor, extract: the set, and `make_extract(extractor)`.
        metrics: the metrics to compute, all of them applicable.
        title: of the progress bar.

    Raises:
        InputError: the state of a metric would be too large.
    """
    started = time.perf_counter()
    spec = set_spec(images, extractor)
    collectors = {_state_name(metric): metric for metric in metrics.values()}
    try:
        empty = {name: metric.empty(spec) for name, metric in collectors.items()}
    except ValueError as error:
        raise InputError(f"a metric of {title} {error}") from None
    states = dict(empty)
    pending: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in collectors}

    def update(name: str) -> None:
        if pending[name]:
            columns = (np.concatenate(parts) for parts in zip(*pending[name], strict=True))
            states[name] = collectors[name].update(states[name], *columns)
            pending[name] = []

    share = multihost.process_share(_batches(images.count))
    for indices in tqdm(share, title, leave=False, disable=None):
        pixels, labels = images.read(indices)
        features, logits, modes = extract(pixels)
        if not np.isfinite(features).all():
            raise InputError(f"the features of {title} must be finite numbers")
        batch = Observations(np.asarray(pixels), features, logits, modes, labels)
        for name, metric in collectors.items():
            inputs = (getattr(batch, field) for field in metric.INPUTS)
            pending[name].append((indices, *inputs))
            rows_pending = sum(len(part[0]) for part in pending[name])
            if "images" in metric.INPUTS or rows_pending >= UPDATE_SIZE:
                update(name)
    for name in collectors:
        update(name)
    if multihost.count() > 1:
        contents = multihost.gather_bytes(_to_npz(_to_arrays(states)))
        shares = [_from_npz(content, empty) for content in contents]
        states = {
            name: functools.reduce(metric.merge, [share[name] for share in shares])
            for name, metric in collectors.items()
        }
    return SetStatistics(spec, states, time.perf_counter() - started)


def compute(metrics: Metrics, statistics: SetStatistics, reference: SetStatistics) -> Result:
    """Returns all figures and tables of a set, compared with the reference.

    Raises:
        InputError: a set is too small for a metric, or the reference has other features or lacks
            a state.
    """
    check_same_features([statistics.spec, reference.spec])
    figures, tables = {}, {}
    for name, metric in metrics.items():
        try:
            result = metric.compute(statistics.state(name, metric), reference.state(name, metric))
        except ValueError as error:
            raise InputError(f"metric {name}: {error}") from None
        figures |= result.figures
        tables |= result.tables
    return Result(figures, tables)


def timing(seconds: float, statistics: SetStatistics) -> dict[str, float]:
    """Returns all seconds, with compilation and reference, and the speed of the scored set."""
    speed = statistics.spec.count / statistics.seconds
    return {"seconds": round(seconds, 2), "images_per_second": round(speed, 1)}


def iterate_features(
    images: ImageSet, extract: Extract, title: str
) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Yields the indices and features of each batch, of all batches in every process."""
    for indices, output in iterate_outputs(images, extract, title):
        yield indices, output.features


def iterate_outputs(
    images: ImageSet, extract: Extract, title: str
) -> Iterable[tuple[np.ndarray, ExtractorOutput]]:
    """Yields the indices and the output of each batch, of all batches in every process."""
    for indices in tqdm(_batches(images.count), title, leave=False, disable=None):
        yield indices, extract(images.read(indices)[0])


def save(statistics: SetStatistics, facts: Mapping[str, Any]) -> bytes:
    """Returns the content of a .npz of statistics; it has `mu` and `sigma` like pytorch-fid's.

    `facts` is the protocol, ready for JSON.
    """
    arrays = _to_arrays(statistics.states)
    state = statistics.states.get(_state_name(frechet))
    if state is not None:
        fitted = frechet.fit(state)
        is_factor = fitted.covariance is None
        sigma = fitted.factor.T @ fitted.factor if is_factor else fitted.covariance
        arrays |= {"mu": fitted.mean, "sigma": sigma}
    # "outline" is the name in files of every version.
    arrays["gaxn"] = np.array(json.dumps({"outline": statistics.spec, "facts": facts}))
    return _to_npz(arrays)


def load(
    content: Mapping[str, np.ndarray], metrics: Metrics
) -> tuple[SetStatistics, dict[str, Any]]:
    """Returns statistics and facts that `save` or pytorch-fid wrote.

    Args:
        content: the arrays of the .npz file.
        metrics: whose states are loaded, if the file has them.

    Raises:
        InputError: it is not a file of statistics, or it is damaged.
    """
    if "gaxn" not in content and {"mu", "sigma"} <= content.keys():
        try:
            state = frechet.from_gaussian(content["mu"], content["sigma"])
        except ValueError as error:
            raise InputError(f"not a file of statistics: {error}") from None
        spec = SetSpec(0, len(content["mu"]))
        return SetStatistics(spec, {_state_name(frechet): state}), {"samples": "unknown"}
    try:
        document = json.loads(str(content["gaxn"]))
        spec, facts = SetSpec(*document["outline"]), document["facts"]
    except (KeyError, TypeError, ValueError):
        raise InputError("not a file of statistics") from None
    states = {}
    for metric in metrics.values():
        name = _state_name(metric)
        if any(key.startswith(f"{name}/") for key in content):
            try:
                states[name] = packing.unpack(metric.empty(spec), content, name)
            except (KeyError, ValueError) as error:
                raise InputError(
                    f"its {name} are damaged, or of another version of gaxn ({error})"
                ) from None
    return SetStatistics(spec, states), facts


def _problem(metric: Any, spec: SetSpec) -> str:
    """Returns why a metric of a set cannot be computed, or ""; a count of 0 is unknown."""
    if 0 < spec.count < metric.MIN_COUNT:
        return f"needs {metric.MIN_COUNT} images or more, got {spec.count}"
    try:
        metric.empty(spec)
    except ValueError as error:
        return str(error)
    return ""


def _state_name(metric: Any) -> str:
    """Returns a name for the state of a metric: the module of its `update`, and its inputs."""
    module = metric.update.__module__.rpartition(".")[2]
    return f"{module} of {', '.join(metric.INPUTS)}"


def _batches(count: int) -> list[np.ndarray]:
    return [np.arange(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]


def _to_arrays(states: Mapping[str, Any]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, state in states.items():
        if isinstance(state, rows.State) and state.indices:
            state = rows.compact(state)
        arrays |= packing.pack(state, name)
    return arrays


def _to_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _from_npz(content: bytes, empty: Mapping[str, Any]) -> dict[str, Any]:
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    return {name: packing.unpack(state, arrays, name) for name, state in empty.items()}
