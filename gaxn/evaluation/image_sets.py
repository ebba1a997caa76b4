"""Figures of a set of images from anywhere, compared with a reference set.

gaxn/evaluation/__main__.py says what a set and a reference may be.
"""

import collections
import dataclasses
import inspect
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from gaxn.config import bind, resolve
from gaxn.data import Source, find_path, folder, npz
from gaxn.evaluation import figures, plan, scoring
from gaxn.evaluation.scoring import ImageSet, Metrics, SetStatistics
from gaxn.features import FeatureExtractor
from gaxn.io import files, plots, provenance
from gaxn.metrics import SetSpec
from gaxn.types import Batch, HostLabels, HostPixels, InputError, check


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Arrays(Source):
    """Images that are in memory.

    Attributes:
        images: uint8 [n, height, width, 1 or 3].
    """

    images: HostPixels

    notes = ()

    def __post_init__(self):
        super().__post_init__()
        shape, dtype = self.images.shape, self.images.dtype
        valid = dtype == np.uint8 and len(shape) == 4 and shape[-1] in (1, 3) and shape[0] > 0
        expected = "uint8 [n, height, width, 1 or 3], n at least 1"
        check("a set of images", f"{dtype} {list(shape)}", valid, expected)

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    @property
    def identity(self) -> str:
        return f"array {zlib.crc32(np.ascontiguousarray(self.images)):08x}"

    @property
    def table(self) -> Batch:
        return Batch(self.images, None)

    def __len__(self) -> int:
        return len(self.images)


def load_extractor(features: str, weights: str = "", preprocessing: str = "") -> FeatureExtractor:
    """Loads a feature extractor.

    Args:
        features: the name of a module of gaxn/features.
        weights, preprocessing: arguments of its `load`; "" for the defaults.

    Raises:
        InputError: there is no such extractor, or it does not take these arguments.
    """
    load = resolve("features", features, "features", "load")
    parameters = inspect.signature(load).parameters
    expected = f"left out: the extractor {features} takes {', '.join(parameters) or 'no options'}"
    options = {"weights": weights, "preprocessing": preprocessing}
    options = {name: text for name, text in options.items() if text}
    for name, text in options.items():
        check(name, text, name in parameters, expected)
    return bind(load, options, "features")


def evaluate_sets(
    path: str | HostPixels,
    reference: str | HostPixels,
    extractor: FeatureExtractor,
    *,
    metrics: Sequence[str] = (),
    samples: int = 0,
    size: int = 0,
    real: str | HostPixels = "",
    split_by: str = "auto",
) -> dict[str, Any]:
    """Computes the figures of a set.

    Args:
        path: of the set; or its images, uint8 [n, height, width, 1 or 3].
        reference: the set that it is compared with, in the same form, or the path of a file of its
            statistics.
        extractor: of the features.
        metrics: names of the metrics; none for all that apply.
        samples: images of each set; 0 for all.
        size: to which pictures are cropped and resized, in pixels; 0 to leave them as they are.
        real: a second set of real images, disjoint from the reference. As many of them as
            `path` has are compared with the reference too: the best generator could reach their
            figures.
        split_by: what folders such as train and test are, as for `data.folder.Source`; the images
            of both are read.

    Returns:
        "figures", "tables", "protocol", "timing" and "measured_by", ready for JSON.

    Raises:
        InputError: a set cannot be read, the sets have features of different lengths, or one of
            the metrics cannot be computed.
    """
    started = time.perf_counter()
    chosen = plan.resolve_metrics(tuple(metrics), "metrics")
    images, set_facts = _open_set(path, extractor, size, split_by, samples)
    sets = [images]
    loaded = _load_statistics(reference, chosen)
    if loaded is None:
        images, reference_facts = _open_set(reference, extractor, size, split_by, samples)
        sets.append(images)
    else:
        reference_statistics, reference_facts = loaded
        _check_same_extractor(extractor, reference_facts)
        chosen = chosen if metrics else reference_statistics.available(chosen)
    facts = {"set": set_facts, "reference": reference_facts}
    if isinstance(real, np.ndarray) or real:
        count = sets[0].count
        images, facts["real"] = _open_set(real, extractor, size, split_by, max_count=count)
        sets.append(images)
    if any(each.get("classes") != set_facts["classes"] for each in facts.values()):
        # Labels of different classes cannot be compared.
        sets = [_drop_labels(images) for images in sets]
    if {images.shape[-1] for images in sets} == {1, 3}:
        sets = [_to_rgb(images) for images in sets]
    specs = [scoring.set_spec(images, extractor) for images in sets]
    scoring.check_same_features([*specs, *([reference_statistics.spec] if loaded else [])])
    chosen = _select(chosen, specs, metrics)
    largest = max(images.count for images in sets)
    extract = scoring.make_extract(extractor, min(scoring.BATCH, largest))

    def collect(images: ImageSet, title: str) -> SetStatistics:
        return scoring.collect(images, extractor, chosen, extract, title)

    if loaded is None:
        reference_statistics = collect(sets[1], "reference")
    statistics = collect(sets[0], "set")
    values, tables = scoring.compute(chosen, statistics, reference_statistics)
    if "real" in facts:
        real_result = scoring.compute(chosen, collect(sets[-1], "real"), reference_statistics)
        values |= figures.add_real_suffix(real_result.figures)
    for name in metrics:
        figures.check_any(name, chosen[name].FIGURES, values)
    unreliable = scoring.select_unreliable(chosen, [statistics.spec, reference_statistics.spec])
    counts = {"metrics": list(chosen), "samples": sets[0].count, figures.FEW: unreliable}
    return {
        "figures": values,
        "tables": tables,
        "protocol": {**extractor.card, **counts, **facts, **scoring.PROTOCOL},
        "timing": scoring.timing(time.perf_counter() - started, statistics),
        "measured_by": provenance.record(),
    }


def write_statistics(
    path: str,
    target: Path,
    extractor: FeatureExtractor,
    *,
    metrics: Sequence[str] = (),
    samples: int = 0,
    size: int = 0,
    split_by: str = "auto",
) -> dict[str, Any]:
    """Writes the statistics of a set, for use as a reference.

    Args:
        path: of the set.
        target: path of the .npz.
        extractor, metrics, samples, size, split_by: as for `evaluate_sets`.

    Returns:
        Facts about the set, and the names of the "metrics".

    Raises:
        InputError: the set cannot be read, or one of the metrics cannot be computed.
    """
    chosen = plan.resolve_metrics(tuple(metrics), "metrics")
    images, facts = _open_set(path, extractor, size, split_by, samples)
    chosen = _select(chosen, [scoring.set_spec(images, extractor)], metrics)
    extract = scoring.make_extract(extractor, min(scoring.BATCH, images.count))
    statistics = scoring.collect(images, extractor, chosen, extract, path)
    protocol = {**extractor.card, **scoring.PROTOCOL, **facts}
    files.write_bytes(target, scoring.save(statistics, protocol))
    return {**facts, "metrics": list(chosen)}


def _open_set(
    path: str | HostPixels,
    extractor: FeatureExtractor,
    size: int,
    split_by: str,
    samples: int = 0,
    max_count: int | None = None,
) -> tuple[ImageSet, dict[str, Any]]:
    """Opens a set; returns its images, labeled by `_match_labels`, and facts for the protocol.

    Args:
        path: of the set, or its images.
        extractor: of the features.
        size: to which pictures are resized; 0 for none.
        split_by: what folders such as train and test are.
        samples: images that the set must have, and no more are read; 0 for all.
        max_count: images that are read at most, in place of `samples`.
    """
    source: Source
    if isinstance(path, np.ndarray):
        check("size", size, not size, "0 with arrays, whose pictures stay as they are")
        source = _Arrays(images=path)
        formats = {"array": len(source)}
    elif find_path(path).suffix == ".npz":
        check("size", size, not size, "0 with a .npz, whose pictures stay as they are")
        source = npz.Source("all", path)
        formats = {"npz": len(source)}
    else:
        channels = extractor.channels or 3
        source = folder.Source("all", path, size=size, channels=channels, split_by=split_by)
        formats = dict(collections.Counter(PurePosixPath(n).suffix.lower() for n in source.names))
    expected = f"{len(source)} or fewer, because the set has {len(source)} pictures"
    check("samples", samples, samples <= len(source), expected)
    images = scoring.from_source(source, samples or max_count)
    images = _match_labels(images, source.class_names, extractor)
    return images, {
        "pictures": source.identity,
        "formats": formats,
        "shape": list(images.shape),
        "count": images.count,
        "classes": list(extractor.classes or source.class_names) if images.labels else [],
        "notes": list(source.notes),
    }


def _match_labels(
    images: ImageSet, class_names: Sequence[str], extractor: FeatureExtractor
) -> ImageSet:
    """Returns the images with labels that are indices of the extractor's classes, or without."""
    if not extractor.classes:
        # Modes without names cannot be matched with labels.
        return _drop_labels(images) if extractor.modes else images
    if not class_names or not set(class_names) <= set(extractor.classes):
        return _drop_labels(images)
    order = np.array([extractor.classes.index(name) for name in class_names])

    def read(indices: np.ndarray) -> tuple[HostPixels, HostLabels]:
        pixels, labels = images.read(indices)
        return pixels, order[labels]

    return images._replace(labels=len(extractor.classes), read=read)


def _to_rgb(images: ImageSet) -> ImageSet:
    """Returns a set whose gray pictures are RGB."""
    if images.shape[-1] != 1:
        return images

    def read(indices: np.ndarray) -> tuple[HostPixels, HostLabels | None]:
        pixels, labels = images.read(indices)
        return plots.to_rgb(pixels), labels

    return images._replace(shape=(*images.shape[:-1], 3), read=read)


def _drop_labels(images: ImageSet) -> ImageSet:
    return images._replace(labels=0, read=lambda indices: (images.read(indices)[0], None))


def _load_statistics(
    path: str | HostPixels, metrics: Metrics
) -> tuple[SetStatistics, dict[str, Any]] | None:
    """Reads a file of statistics; returns None if the path is not a .npz with statistics alone.

    A file with images beside the mean and covariance of other features, as those of ADM's
    evaluation suite, is a set of images.
    """
    if isinstance(path, np.ndarray):
        return None
    place = find_path(path)
    if place.suffix != ".npz":
        return None
    with npz.open_arrays(place) as file:
        has_images = any(name in file for name in npz.IMAGES)
        is_statistics = "gaxn" in file or ("mu" in file and not has_images)
        arrays = dict(file) if is_statistics else None
    try:
        return None if arrays is None else scoring.load(arrays, metrics)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _check_same_extractor(extractor: FeatureExtractor, facts: Mapping[str, Any]) -> None:
    """Raises an InputError if statistics have features of another extractor, as far as they say."""
    for field in ("extractor", "sha256", "resize"):
        if field in facts and facts[field] != extractor.card.get(field):
            raise InputError(
                f"the reference was measured with {field} {facts[field]!r}, not "
                f"{extractor.card.get(field)!r}; write it again, or choose the same features"
            )


def _select(metrics: Metrics, specs: Sequence[SetSpec], required: Sequence[str]) -> Metrics:
    """Returns the metrics that apply to the sets and can be computed.

    Raises:
        InputError: a required metric is not among them, or no metric is left.
    """
    applicable = scoring.select_applicable(metrics, specs)
    for name in required:
        if name not in applicable:
            scale = " of the order of 1" * scoring.needs_unit_scale(metrics[name])
            inputs = ", ".join(metrics[name].INPUTS) + scale
            raise InputError(
                f"metric {name} takes {inputs}; with this extractor and these sets there are "
                f"{', '.join(applicable) or 'no metrics'}"
            )
    computable = scoring.select_computable(applicable, specs, required)
    # Without any metric this call names the problem of the first.
    return computable or scoring.select_computable(applicable, specs, tuple(applicable))
