"""Single generated images: one of each seed, or one of each seed and label; in memory or files."""

import contextlib
import io
import itertools
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

from gaxn.data import Source
from gaxn.data.sentences import Sentences
from gaxn.distributed import sharding
from gaxn.evaluation import scoring
from gaxn.evaluation.sampling import balanced_labels
from gaxn.io import files
from gaxn.types import HostIndices, HostLabels, HostPixels, Labels, Sampler, check

MAX_SEED = 2**31 - 1
ROWS_PER_DEVICE = 32
"""Images that a device generates at a time, however many are asked for."""

ARCHIVES = (".npz", ".zip")
METADATA = "metadata.jsonl"


class Requests(NamedTuple):
    """The images to generate, in their order.

    Attributes:
        seeds: int [n], each from 0 to `MAX_SEED`.
        labels: int [n]; None for an unconditional generator.
        names_labels: whether an image is named after its label too, since a seed has several.
        captions: the sentences that labels are numbers of, if they are.
        conditions: of these sentences, as networks take them.
    """

    seeds: HostIndices
    labels: HostLabels | None
    names_labels: bool = False
    captions: tuple[str, ...] = ()
    conditions: Labels | None = None

    def conditions_of(self, rows: np.ndarray) -> HostLabels | Labels | None:
        """Returns what a sampler takes for some of the images: labels or conditions."""
        if self.labels is None or self.conditions is None:
            return None if self.labels is None else self.labels[rows]
        return jax.tree.map(lambda leaf: leaf[self.labels[rows]], self.conditions)


def make_requests(
    seeds: Sequence[int] | np.ndarray, labels: Sequence[int] | None, classes: int
) -> Requests:
    """Returns every label for every seed; without labels, each seed with the label seed % classes.

    Args:
        seeds: whole numbers.
        labels: whole numbers, or None.
        classes: labels that the generator takes; 0 for an unconditional one.

    Raises:
        InputError: a seed or a label is out of range, or none is given.
    """
    seeds = np.asarray(seeds)
    is_list = seeds.ndim == 1 and seeds.size and np.issubdtype(seeds.dtype, np.integer)
    valid = is_list and seeds.min() >= 0 and seeds.max() <= MAX_SEED
    check("seeds", _shorten(seeds), bool(valid), f"one or more whole numbers, 0 to {MAX_SEED}")
    if labels is None:
        return Requests(seeds, balanced_labels(seeds, classes))
    check("labels", labels, classes > 0, "left out, as the generator takes none")
    values = np.asarray(labels)
    is_list = values.ndim == 1 and values.size and np.issubdtype(values.dtype, np.integer)
    valid = is_list and values.min() >= 0 and values.max() < classes
    check("labels", _shorten(values), bool(valid), f"one or more whole numbers, 0 to {classes - 1}")
    return Requests(np.repeat(seeds, len(values)), np.tile(values, len(seeds)), True)


def request_captions(
    seeds: Sequence[int] | np.ndarray, captions: Sequence[str], source: Source
) -> Requests:
    """Returns every caption for every seed.

    Args:
        seeds: whole numbers.
        captions: sentences.
        source: of the run.

    Raises:
        InputError: the generator takes no sentences, or not these.
    """
    expected = "left out, as the generator takes no sentences (config.text)"
    check("captions", list(captions), isinstance(source, Sentences), expected)
    check("captions", list(captions), len(captions) > 0, "one or more sentences")
    numbers = range(len(captions))
    requests = make_requests(seeds, numbers, len(captions))
    conditions = source.conditioner(captions)
    return requests._replace(captions=tuple(captions), conditions=conditions)


def _shorten(values: np.ndarray) -> list:
    return values.ravel()[:5].tolist()


def parse_seeds(text: str) -> np.ndarray:
    """Returns the seeds of a text such as "5", "0-63" or "1,4,10-19", int [n].

    Raises:
        InputError: it is no such text.
    """
    expected = "whole numbers and ranges, such as 0-63 or 1,4,10-19"
    parts = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})\s*(?:-\s*(\d{1,10})\s*)?", part)
        check("--seeds", text, match is not None, expected)
        first, last = int(match[1]), int(match[2] or match[1])
        valid = first <= last <= MAX_SEED
        check("--seeds", text, valid, f"{expected}, ascending and at most {MAX_SEED}")
        parts.append(np.arange(first, last + 1))
    seeds = np.concatenate(parts)
    check("--seeds", text, len(np.unique(seeds)) == len(seeds), "seeds of which each is there once")
    return seeds


def find_labels(labels: Sequence[int | str], class_names: Sequence[str]) -> list[int]:
    """Returns the numbers of labels that may be given as names of classes.

    A string that is the name of a class is that class, even if it looks like a number; an int is
    always a number.

    Raises:
        InputError: one is neither.
    """
    check("labels", list(labels), bool(class_names), "left out, as the generator takes none")
    numbers = []
    for label in _expand(labels, class_names):
        text = str(label).strip()
        is_name = isinstance(label, str) and text in class_names
        number = class_names.index(text) if is_name else -1
        if not is_name and re.fullmatch(r"\d{1,9}", text):
            number = int(text)
        known = ", ".join(class_names[:20]) + ", ..." * (len(class_names) > 20)
        expected = f"0 to {len(class_names) - 1}, or a class ({known})"
        check("a label", label, 0 <= number < len(class_names), expected)
        numbers.append(number)
    return numbers


def _expand(labels: Sequence[int | str], class_names: Sequence[str]) -> Iterator[int | str]:
    """Yields labels, those of a range such as "0-9" one by one."""
    for label in labels:
        match = re.fullmatch(r"\s*(\d{1,9})\s*-\s*(\d{1,9})\s*", str(label))
        if match and str(label) not in class_names:
            yield from range(int(match[1]), int(match[2]) + 1)
        else:
            yield label


def generate(sampler: Sampler, requests: Requests, title: str = "") -> Iterator[HostPixels]:
    """Yields the images in batches, uint8 [n, height, width, channels] (float32 of points).

    An image depends on its seed and label alone: every device always generates as many at a time,
    so rounding is the same too.

    Args:
        sampler: of the generator.
        requests: what to generate.
        title: of a progress bar; "" for none.
    """
    count, size = len(requests.seeds), sharding.rows_on_devices(ROWS_PER_DEVICE)
    disable = None if title else True
    with tqdm(total=count, desc=title, unit="image", leave=False, disable=disable) as progress:
        for first in range(0, count, size):
            rows = np.minimum(np.arange(first, first + size), count - 1)
            conditions = requests.conditions_of(rows)
            images = sampler.sample(requests.seeds[rows], conditions)[: count - first]
            yield images
            progress.update(len(images))


def check_output(output: Path, field: str = "--output") -> None:
    """Raises an InputError unless images can be written there without overwriting anything."""
    expected = "the path of a folder, of FILE.npz or of FILE.zip"
    valid = output != Path() and output.suffix not in (".png", ".jpg", ".gif")
    check(field, str(output), valid, expected)
    is_empty = output.is_dir() and output.suffix not in ARCHIVES and not any(output.iterdir())
    valid = is_empty or not output.exists()
    check(field, str(output), valid, "a path where nothing is, so that nothing is written over")
    files.check_writable(output if output.suffix in ARCHIVES else output / "0.png", field)


def write(
    output: Path,
    sampler: Sampler,
    requests: Requests,
    class_names: Sequence[str] = (),
    class_folders: bool = False,
) -> None:
    """Writes generated images, as they come, to a folder, a .zip or a .npz.

    A folder and a .zip have PNG files, SEED.png or SEED_LABEL.png; a .npz has `arr_0`, uint8
    [n, height, width, channels], and, of a conditional generator, `labels`, int64 [n]. Of captions
    there are also metadata.jsonl, with the file and the text of each image, or `texts`.

    Args:
        output: the path, as `check_output` wants it.
        sampler: of the generator.
        requests: what to generate.
        class_names: by label.
        class_folders: whether PNG files are in a folder per class.
    """
    batches = generate(sampler, requests, str(output))
    if output.suffix == ".npz":
        check("--class_folders", class_folders, not class_folders, "left out with a .npz")
        files.write_with(output, lambda path: _write_npz(path, batches, requests))
        return
    check(
        "--class_folders",
        class_folders,
        not class_folders or bool(class_names),
        "left out with a generator that takes no labels",
    )
    images = (image for batch in batches for image in batch)
    names = list(_names(requests, class_names if class_folders else ()))
    named = zip(names, images, strict=True)
    if output.suffix == ".zip":
        files.write_with(output, lambda path: _write_zip(path, named, _metadata(requests, names)))
        return
    with removed_on_failure(output):
        for name, image in named:
            files.write_bytes(output / name, encode_png(image))
        if requests.captions:
            files.write_bytes(output / METADATA, _metadata(requests, names))


@contextlib.contextmanager
def removed_on_failure(folder: Path) -> Iterator[None]:
    """Removes a folder, which was new or empty before, if not all is written into it."""
    try:
        yield
    except BaseException:
        # Some of the images would look like all of them.
        shutil.rmtree(folder, ignore_errors=True)
        raise


def check_real(source: Source, count: int) -> None:
    """Raises an InputError unless a source has at least `count` images."""
    expected = f"1 to {len(source)}, as the {source.split} split has no more images"
    check("--real", count, 1 <= count <= len(source), expected)


def write_real(output: Path, source: Source, count: int) -> None:
    """Writes real images as PNG files, 000000.png and so on, in the fixed order of evaluations.

    Args:
        output: a folder.
        source: of the images.
        count: how many.
    """
    images = scoring.from_source(source, count)
    batches = np.split(np.arange(count), range(scoring.BATCH, count, scoring.BATCH))
    for indices in tqdm(batches, str(output), leave=False, disable=None):
        for index, image in zip(indices, images.read(indices)[0], strict=True):
            files.write_bytes(output / f"{index:06d}.png", encode_png(image))


def encode_png(image: np.ndarray) -> bytes:
    """Returns the PNG of an image, uint8 [height, width, 1 or 3]: gray or RGB."""
    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(stream, "png")
    return stream.getvalue()


def _names(requests: Requests, class_names: Sequence[str]) -> Iterator[PurePosixPath]:
    """Yields the path of each image within a folder."""
    for index, seed in enumerate(requests.seeds):
        label = None if requests.labels is None else int(requests.labels[index])
        suffix = f"_{label}" if requests.names_labels else ""
        folder = re.sub(r"[/\\]", "_", class_names[label]) if class_names else ""
        yield PurePosixPath(folder) / f"{seed:06d}{suffix}.png"


def _metadata(requests: Requests, names: Sequence[PurePosixPath]) -> bytes:
    """Returns a line of JSON for each image: its file and its caption; none without captions."""
    labels = requests.labels if requests.captions else ()
    lines = (
        json.dumps({"file_name": str(name), "text": requests.captions[label]})
        for name, label in zip(names, labels, strict=False)
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _write_zip(
    path: Path, images: Iterator[tuple[PurePosixPath, np.ndarray]], metadata: bytes
) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, image in images:
            # A date of its own would make equal images unequal files.
            archive.writestr(zipfile.ZipInfo(str(name)), encode_png(image))
        if metadata:
            archive.writestr(zipfile.ZipInfo(METADATA), metadata)


def _write_npz(path: Path, batches: Iterator[HostPixels], requests: Requests) -> None:
    first = next(batches)
    header = {
        "descr": np.lib.format.dtype_to_descr(first.dtype),
        "fortran_order": False,
        "shape": (len(requests.seeds), *first.shape[1:]),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        entry = zipfile.ZipInfo("arr_0.npy")
        with archive.open(entry, "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for batch in itertools.chain([first], batches):
                file.write(np.ascontiguousarray(batch).tobytes())
        if requests.labels is not None:
            with archive.open(zipfile.ZipInfo("labels.npy"), "w") as file:
                np.lib.format.write_array(file, np.asarray(requests.labels, np.int64))
        if requests.captions:
            texts = np.array([requests.captions[label] for label in requests.labels])
            with archive.open(zipfile.ZipInfo("texts.npy"), "w") as file:
                np.lib.format.write_array(file, texts)
