"""MNIST (LeCun et al., 1998) and Fashion-MNIST (Xiao et al., 2017), from their IDX files."""

import dataclasses
import functools
import hashlib
import math
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gaxn import data
from gaxn.io import downloads, files
from gaxn.types import Batch, InputError, check

PREFIXES = {"train": "train", "test": "t10k"}
EXAMPLES = {"train": 60_000, "test": 10_000}
SIDE = 28


class _Set(NamedTuple):
    """A data set: its files and the names of its classes.

    Attributes:
        mirrors: URLs of folders with the files.
        class_names: names of the labels 0 to 9.
        sha256: hash of each decompressed file, by the beginning of its name.
    """

    mirrors: tuple[str, ...]
    class_names: tuple[str, ...]
    sha256: dict[str, str]


SETS = {
    "mnist": _Set(
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist",
            "https://ossci-datasets.s3.amazonaws.com/mnist",
        ),
        tuple("0123456789"),
        {
            "train-images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion-mnist": _Set(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",),
        (
            *("t-shirt", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
        {
            "train-images": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
}


@dataclasses.dataclass(frozen=True)
class Source(data.Source):
    """28x28 gray images in ten classes: 60,000 for training, 10,000 for tests.

    The four .gz files are read from `directory`, else from the directory in the environment
    variable `GAXN_DATA`, or from a folder there that has the name of the data set. If neither
    is set, they are downloaded once to the cache. The SHA-256 of their decompressed content is
    checked.

    Attributes:
        dataset: "mnist" or "fashion-mnist".
        directory: directory of the files; "" for the one in the environment variable `GAXN_DATA`,
            else the cache.
    """

    dataset: str = "mnist"
    directory: str = ""

    image_shape = (SIDE, SIDE, 1)

    def __post_init__(self):
        super().__post_init__()
        check("dataset", self.dataset, self.dataset in SETS, " or ".join(SETS))

    @property
    def class_names(self) -> tuple[str, ...]:
        return SETS[self.dataset].class_names

    @property
    def identity(self) -> str:
        return f"{self.dataset} size={SIDE}"

    def __len__(self) -> int:
        return EXAMPLES[self.split]

    @functools.cached_property
    def table(self) -> Batch:
        """All images and labels, read from the files.

        Raises:
            InputError: a file is missing, cut short, damaged or of another data set.
        """
        images = self._read("images", (len(self), SIDE, SIDE))
        labels = self._read("labels", (len(self),))
        return Batch(images[..., None], labels.astype(np.int32))

    def _read(self, kind: str, shape: tuple[int, ...]) -> np.ndarray:
        start = f"{PREFIXES[self.split]}-{kind}"
        sha256 = SETS[self.dataset].sha256[start]
        return read(self._find(f"{start}-idx{len(shape)}-ubyte.gz", sha256), shape, sha256)

    def _find(self, name: str, sha256: str) -> Path:
        directory = self.directory or os.environ.get("GAXN_DATA", "")
        if not directory:
            urls = [f"{mirror}/{name}" for mirror in SETS[self.dataset].mirrors]
            path = downloads.directory(self.dataset) / name
            return downloads.fetch(urls, path, lambda part: _mismatch(part, sha256))
        folder = files.expand(directory)
        for path in (folder / name, folder / self.dataset / name):
            if path.exists():
                return path
        field = "directory" if self.directory else "the environment variable GAXN_DATA"
        raise InputError(
            f"{field} must be a directory that contains {name} or {self.dataset}/{name}, got "
            f"{directory!r}"
        )


def read(path: Path, shape: tuple[int, ...], sha256: str) -> np.ndarray:
    """Returns the array in a gzipped IDX file of bytes, uint8.

    Args:
        path: of the file.
        shape: expected shape of the array.
        sha256: expected hash of the decompressed content.

    Raises:
        InputError: it is cut short (says in which example), damaged or another file.
    """
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
    content, problem = _decompress(path)
    if content[: len(header)] != header[: len(content)]:
        raise InputError(f"{path} is not an IDX file of {shape} bytes")
    body = content[len(header) :]
    if len(body) < math.prod(shape):
        example = len(body) // math.prod(shape[1:])
        raise InputError(
            f"{path} ends in example {example} of {shape[0]:,}{problem and f' ({problem})'}; "
            "download it again"
        )
    if problem or hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path} does not match its SHA-256; download it again")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _decompress(path: Path) -> tuple[bytes, str]:
    """Returns as much of a gzip file as can be read, and the problem, "" for none."""
    # The gzip module discards the part of a block that it has read when the file ends within. 16
    # adds the header and the checksum of gzip.
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    chunks = []
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 12):
                chunks.append(stream.decompress(chunk))
    except zlib.error as error:
        return b"".join(chunks), str(error)
    return b"".join(chunks), "" if stream.eof else "cut short"


def _mismatch(path: Path, sha256: str) -> str | None:
    content, problem = _decompress(path)
    matches = not problem and hashlib.sha256(content).hexdigest() == sha256
    return None if matches else "its content does not match its SHA-256"
