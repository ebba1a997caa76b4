"""`python -m gaxn.evaluate A B`: two sets of images held against each other, whoever made them.

    python -m gaxn.evaluate A B [--floor C] [--extractor NAME] [--metrics NAME ...] [--json FILE]
    python -m gaxn.evaluate B --write STATISTICS.npz
    python -m gaxn.evaluate A STATISTICS.npz

A is what is scored and B the reference: a folder of pictures (one folder a class, or flat), a
.zip of one, or a .npz with `images` (or `arr_0`), uint8 [n, height, width, 1 or 3]. In place of
B a file of statistics will do, written by this program or, for the Frechet distance alone, by
pytorch-fid. C is a second set of real images, disjoint from B: its figures, by as many images as
A has, are what the best generator could reach. Pictures of one set are of one size, and are taken
as they are unless --size says otherwise.
"""

import argparse
import collections
import inspect
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from gaxn import compilation_cache, evaluations, figures, measure, mesh, provenance, sinks
from gaxn.data import Source, find, folder, npz
from gaxn.extractors import Extractor
from gaxn.measure import ImageSet, Metrics, Statistics
from gaxn.schema import bind, resolve
from gaxn.types import HostLabels, HostPixels, InputError, require


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise InputError(f"{message}; usage: python -m gaxn.evaluate A B; --help says more")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = _Parser("python -m gaxn.evaluate", description=__doc__)
    found.formatter_class = argparse.RawDescriptionHelpFormatter
    found.add_argument("sets", nargs="+", metavar="SET", help="A and B; or B alone, with --write")
    found.add_argument(
        "--extractor", default="inception", help="a file of gaxn/extractors; default: inception"
    )
    found.add_argument(
        "--weights",
        default="",
        help='of the extractor: a path; for inception also "download"; for classifier also '
        "mnist, fashion-mnist or shapes",
    )
    found.add_argument(
        "--preprocessing",
        default="",
        help="of inception: tf (as torch-fidelity; the default), torch (as pytorch-fid) or clean "
        "(as clean-fid)",
    )
    found.add_argument("--metrics", nargs="+", default=(), help="default: all that apply")
    found.add_argument("--samples", type=int, default=0, help="of each set; default: all")
    found.add_argument("--size", type=int, default=0, help="cut to squares and resize to this")
    found.add_argument("--floor", default="", metavar="SET", help="more real images than B")
    found.add_argument("--json", type=Path, help="also write figures and protocol to this file")
    found.add_argument("--write", type=Path, help="write the statistics of SET to this .npz")
    found.add_argument(
        "--nocompilation_cache",
        dest="compilation_cache",
        action="store_false",
        help="compile every program again; by default they are kept in GAXN_CACHE/xla",
    )
    return found


def run(argv: Sequence[str]) -> None:
    """Does what a command line asks for, and prints it.

    Raises:
        InputError: whatever is wrong with it.
    """
    given = parser().parse_args(argv)
    valid = 1 if given.write else 2
    count = len(given.sets)
    require(
        "the number of sets",
        count,
        count == valid,
        f"{valid} {'with' if given.write else 'without'} --write",
    )
    require("--samples", given.samples, given.samples >= 0, "1 or more, or 0 for all")
    require("--size", given.size, given.size >= 0, "1 or more, or 0 for pictures as they are")
    if given.write:
        valid = "left out with --write, whose protocol is in its file"
        require("--json", str(given.json), given.json is None, valid)
        require("--floor", given.floor, not given.floor, "left out with --write")
        require(
            "--write", str(given.write), given.write.suffix == ".npz", "a path that ends in .npz"
        )
    if given.compilation_cache:
        compilation_cache.enable()
    kept = [find(path) for path in (*given.sets, given.floor) if path]
    for field in ("write", "json"):
        if getattr(given, field):
            sinks.writable(getattr(given, field), f"--{field}", kept)
    extractor = _extractor(given)
    metrics = evaluations.choose(tuple(given.metrics), "--metrics")
    first, facts = _open(given.sets[0], given, extractor)
    if given.write:
        chosen = _applicable(metrics, [measure.outline(first, extractor)], given.metrics)
        protocol = {**extractor.card, **measure.PROTOCOL, **facts}
        look = measure.looking(extractor, min(measure.BATCH, first.count))
        statistics = measure.observe(first, extractor, chosen, look, given.sets[0])
        sinks.write_bytes(given.write, measure.save(statistics, protocol))
        print(f"{given.write}: {first.count:,} images, {', '.join(chosen)}")
        return
    started = time.perf_counter()
    sets, wanted = [first], metrics
    reference = _statistics(given.sets[1], metrics)
    if reference is None:
        second, other = _open(given.sets[1], given, extractor)
        sets.append(second)
    else:
        against, other = reference
        _refuse_another(extractor, other)
        wanted = metrics if given.metrics else against.among(metrics)
    if given.floor:
        real, of_floor = _open(given.floor, given, extractor, first.count)
        sets.append(real)
    if facts["classes"] != other.get("classes"):
        # Labels of other classes say nothing of one another.
        sets = [_unlabelled(images) for images in sets]
    wholes = [measure.outline(images, extractor) for images in sets]
    measure.alike([*wholes, *([] if reference is None else [against.outline])])
    chosen = _applicable(wanted, wholes, given.metrics)
    most = max(images.count for images in sets)
    look = measure.looking(extractor, min(measure.BATCH, most))
    if reference is None:
        against = measure.observe(sets[1], extractor, chosen, look, given.sets[1])
    found = measure.observe(sets[0], extractor, chosen, look, given.sets[0])
    result = measure.compute(chosen, found, against)
    told = dict(result.figures)
    if given.floor:
        real = measure.observe(sets[-1], extractor, chosen, look, given.floor)
        told |= figures.floors(measure.compute(chosen, real, against).figures)
    document = {
        "figures": told,
        "tables": result.tables,
        "protocol": {
            **extractor.card,
            "metrics": list(chosen),
            "samples": first.count,
            "set": facts,
            "reference": other,
            **({"floor": of_floor} if given.floor else {}),
            **measure.PROTOCOL,
        },
        "timing": measure.timing(time.perf_counter() - started, found),
        "measured_by": provenance.record(),
    }
    if given.json:
        sinks.write_json(given.json, document)
    for name, text in figures.told(told, ".6g").items():
        print(f"{name}: {text}")
    for name, value in document["protocol"].items():
        print(f"  {name}: {json.dumps(value)}")


def main(argv: Sequence[str]) -> int:
    """Runs one command line; returns its exit status, 2 for a mistake of the user's."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.basicConfig(format="gaxn: %(message)s", level=logging.WARNING)
    mesh.use_cores(measure.BATCH)
    try:
        run(argv[1:])
        return 0
    except InputError as error:
        print(f"gaxn: {error}", file=sys.stderr)
    except MemoryError as error:
        print(f"gaxn: not enough memory: {error}; fewer features need less", file=sys.stderr)
    except KeyboardInterrupt:
        print("gaxn: interrupted; nothing was written", file=sys.stderr)
        return 130
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        print(f"gaxn: {error.strerror or error}{place}", file=sys.stderr)
    return 2


def _extractor(given: argparse.Namespace) -> Extractor:
    load = resolve("extractors", given.extractor, "--extractor").load
    options = {"weights": given.weights, "preprocessing": given.preprocessing}
    takes = inspect.signature(load).parameters
    for name, text in options.items():
        valid = (
            f"left out: the extractor {given.extractor} takes {', '.join(takes) or 'no options'}"
        )
        require(f"--{name}", text, not text or name in takes, valid)
    return bind(load, {name: text for name, text in options.items() if text}, "extractor")


def _open(
    path: str, given: argparse.Namespace, extractor: Extractor, most: int | None = None
) -> tuple[ImageSet, dict[str, Any]]:
    """The pictures at a path, and what is to be said of them.

    Labels are those of the extractor's classes, by their names; where the names are others,
    there are none.

    Args:
        path: of the set.
        given: the command line.
        extractor: what looks at them.
        most: how many at most; None for `--samples`.
    """
    place = find(path)
    source: Source
    if place.suffix == ".npz":
        valid = "0 with a .npz: its pictures stay as they are"
        require("--size", given.size, not given.size, valid)
        source = npz.Source("all", path)
        formats = {"npz": len(source)}
    else:
        source = folder.Source("all", path, size=given.size, channels=extractor.channels or 3)
        formats = dict(collections.Counter(PurePosixPath(n).suffix.lower() for n in source.names))
    if most is None and given.samples > len(source):
        raise InputError(f"--samples is {given.samples}; {path} has {len(source)} pictures")
    count = given.samples or None if most is None else most
    images = _labelled(measure.of_source(source, count), source, extractor)
    facts = {
        "pictures": source.identity,
        "formats": formats,
        "shape": list(images.shape),
        "count": images.count,
        "classes": list(extractor.classes or source.class_names) if images.labels else [],
    }
    return images, facts


def _labelled(images: ImageSet, source: Source, extractor: Extractor) -> ImageSet:
    if not extractor.classes:
        # Modes without names are no labels.
        return _unlabelled(images) if extractor.modes else images
    order = [extractor.classes.index(n) for n in source.class_names if n in extractor.classes]
    if not order or len(order) < len(source.class_names):
        return _unlabelled(images)

    def read(numbers: np.ndarray) -> tuple[HostPixels, HostLabels]:
        pictures, labels = images.read(numbers)
        return pictures, np.array(order)[labels]

    return images._replace(labels=len(extractor.classes), read=read)


def _unlabelled(images: ImageSet) -> ImageSet:
    return images._replace(labels=0, read=lambda numbers: (images.read(numbers)[0], None))


def _statistics(path: str, metrics: Metrics) -> tuple[Statistics, dict[str, Any]] | None:
    """What a file of statistics says; None where the path is no such file."""
    place = find(path)
    if place.suffix != ".npz":
        return None
    with npz.opened(place) as stored:
        arrays = dict(stored) if "mu" in stored or "gaxn" in stored else None
    try:
        return None if arrays is None else measure.load(arrays, metrics)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _applicable(metrics: Metrics, wholes: Sequence, asked: Sequence[str]) -> Mapping[str, Any]:
    chosen = measure.applicable(metrics, wholes)
    for name in asked:
        if name not in chosen:
            needs = ", ".join(metrics[name].TAKES)
            raise InputError(
                f"--metrics has {name}, which takes {needs}; this extractor and these sets give "
                f"{', '.join(chosen) or 'none'}"
            )
    fitting = measure.fitting(chosen, wholes, asked)
    if not fitting:
        measure.fitting(chosen, wholes, chosen)
    return fitting


def _refuse_another(extractor: Extractor, facts: Mapping[str, Any]) -> None:
    """Statistics of other features mean nothing here; those that do not say are taken."""
    for field in ("extractor", "sha256", "resize"):
        if field in facts and facts[field] != extractor.card.get(field):
            raise InputError(
                f"the reference was measured with {field} {facts[field]!r}, not "
                f"{extractor.card.get(field)!r}; write it anew, or choose the same extractor"
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv))
