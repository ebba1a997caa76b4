"""Any image data set of TensorFlow Datasets, read without TensorFlow.

    python -m gaxn.data.tfds DATASET [--directory DIR] [--downloads DIR]

prepares one, once: that does take TensorFlow, `pip install -e '.[tfds]'`.
"""

import argparse
import dataclasses
import difflib
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from gaxn import framing
from gaxn.data import pick, resident
from gaxn.types import Batch, Indices, InputError, require

SPLITS = ("train", "test")
FORMAT = "array_record"


class _Opened(NamedTuple):
    """A prepared split.

    Attributes:
        full_name: of the data set, with its configuration and version.
        shape: of an image, (height, width, channels); None where it differs.
        class_names: of the labels, empty without.
        records: examples by index, each a dict.
    """

    full_name: str
    shape: tuple[int | None, int | None, int]
    class_names: tuple[str, ...]
    records: Sequence[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Source:
    """Images, cut to a centred square and resized with PIL's antialiased bicubic filter.

    Transparent images are laid on white.

    Attributes:
        split: "train" or "test".
        dataset: "NAME", "NAME:VERSION" or "NAME/CONFIGURATION:VERSION", as tfds names it.
        directory: where prepared data sets lie; "" for the default of tfds.
        train_split: what of the data set is for training, such as "train" or "train[:90%]".
        test_split: what of it is for tests, such as "test" or "train[90%:]".
        image: the feature that is the image.
        label: the feature that is the label, of classes or, then "no" and "yes", a truth value;
            "attributes/Smiling" is one within another; "" for none.
        size: height and width of the images, in pixels; 0 for their own, where all are
            squares of one size.
        crop: side of the centred square that is cut out, in pixels of the picture; 0 for
            the largest.
        resident_bytes: what all images may take together, decoded, to live on every device;
            beyond that they are read as they are needed.
        workers: processes that then read ahead; 0 for threads of this one.
    """

    split: str = "train"
    dataset: str = "mnist"
    directory: str = ""
    train_split: str = "train"
    test_split: str = "test"
    image: str = "image"
    label: str = "label"
    size: int = 0
    crop: int = 0
    resident_bytes: int = 2**30
    workers: int = 0

    def __post_init__(self):
        require("split", self.split, self.split in SPLITS, " or ".join(SPLITS))
        framing.check(self.size, self.crop, least=0)
        require("resident_bytes", self.resident_bytes, self.resident_bytes >= 0, "0 or more")
        require("workers", self.workers, self.workers >= 0, "0 or more")
        height, width, _ = self._opened.shape
        if not self.size and (height is None or height != width):
            raise InputError(
                f"size is 0; the images of {self.dataset} are not all squares of one size; "
                "valid is 1 or more"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, _, channels = self._opened.shape
        size = self.size or height
        return size, size, 1 if channels == 1 else 3

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._opened.class_names

    @property
    def identity(self) -> str:
        size, _, channels = self.image_shape
        return (
            f"{self._opened.full_name} {framing.describe(size, self.crop)} channels={channels} "
            f"train_split={self.train_split}"
        )

    @functools.cached_property
    def table(self) -> Batch | None:
        """All images and labels, or None where they take too much; reads the files.

        Raises:
            InputError: an example cannot be read.
        """
        return resident(self)

    def __len__(self) -> int:
        return len(self._opened.records)

    def look_up(self, table: Batch, indices: Indices) -> Batch:
        """The images and labels of `indices`."""
        return pick(table, indices)

    def read(self, indices: np.ndarray) -> Batch:
        """The images and labels of `indices`, int [n], from their files.

        Raises:
            InputError: an example cannot be read.
        """
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        labels = np.empty(len(indices), np.int32)
        for place, index in enumerate(indices):
            images[place], labels[place] = self._example(int(index))
        return Batch(images, labels if self.class_names else None)

    def _example(self, index: int) -> tuple[np.ndarray, int]:
        size, _, channels = self.image_shape
        try:
            record = self._opened.records[index]
            pixels = record[self.image]
            picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            image = framing.frame(picture, size, self.crop, channels)
            return image, int(_within(record, self.label)) if self.label else 0
        except Exception as error:  # noqa: BLE001
            # Decoders fail on damaged files in every way there is.
            reason = _in_line(error)
        raise InputError(
            f"example {index} of {self._opened.full_name}, the {self.split} split, cannot be "
            f"used: {reason}"
        )

    @functools.cached_property
    def _opened(self) -> _Opened:
        builder = _builder(self.dataset, self.directory)
        features = dict(builder.info.features)
        image = features.get(self.image)
        images = [own for own, kind in features.items() if isinstance(kind, tfds.features.Image)]
        require("image", self.image, self.image in images, ", ".join(images) or "no image there")
        labels = _labels(features)
        valid = ", ".join([*labels, "'' for none"])
        require("label", self.label, self.label in ("", *labels), valid)
        valid = image.np_dtype == np.uint8
        require("image", self.image, valid, f"a feature of type uint8, not {image.np_dtype}")
        return _Opened(
            builder.info.full_name,
            image.shape,
            labels.get(self.label, ()),
            self._records(builder),
        )

    def _records(self, builder: tfds.core.DatasetBuilder) -> Sequence[dict[str, Any]]:
        field = f"{self.split}_split"
        part = getattr(self, field)
        try:
            return builder.as_data_source(split=part)
        except Exception as error:  # noqa: BLE001
            # tfds raises what comes to hand: assertions, and errors of value, key and file.
            reason = _in_line(error)
        if not builder.is_prepared():
            raise InputError(
                f"dataset is {self.dataset!r}, which is not prepared in {builder.data_dir}; "
                f"run {_command(self.dataset, self.directory)}"
            )
        formats = sorted(form.value for form in builder.info.available_file_formats())
        if FORMAT not in formats:
            raise InputError(
                f"dataset is {self.dataset!r}, prepared in {builder.data_dir} as "
                f"{', '.join(formats)}; valid is {FORMAT}; with another directory, run "
                f"{_command(self.dataset, self.directory or 'DIR')}"
            )
        splits = ", ".join(builder.info.splits)
        raise InputError(f"{field} is {part!r}; {self.dataset} has {splits} ({reason})")


def _builder(dataset: str, directory: str) -> tfds.core.DatasetBuilder:
    """What tfds knows of a data set.

    Raises:
        InputError: nothing, or not of this version.
    """
    try:
        return tfds.builder(dataset, data_dir=directory or None)
    except tfds.core.DatasetNotFoundError:
        close = difflib.get_close_matches(
            dataset.partition(":")[0], tfds.list_builders(with_community_datasets=False)
        )
        raise InputError(
            f"dataset is {dataset!r}; tfds does not know it, and {directory or 'its directory'} "
            f"holds none of that name; valid is {', '.join(close) or 'a name in its catalogue'}"
        ) from None
    except Exception as error:  # noqa: BLE001
        # A name that tfds cannot parse, a version that it does not have, a missing package.
        raise InputError(f"dataset is {dataset!r}; {_in_line(error)}") from None


def _labels(features: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[str, ...]]:
    """The names of the classes of each feature that can be a label, by its path."""
    found = {}
    for name, feature in features.items():
        path = f"{prefix}{name}"
        if isinstance(feature, tfds.features.FeaturesDict):
            found |= _labels(feature, f"{path}/")
        elif isinstance(feature, tfds.features.ClassLabel):
            found[path] = tuple(feature.names)
        elif feature.shape == () and feature.np_dtype == np.bool_:
            found[path] = ("no", "yes")
    return found


def _within(record: Mapping[str, Any], path: str) -> Any:
    for name in path.split("/"):
        record = record[name]
    return record


def _command(dataset: str, directory: str) -> str:
    place = f" --directory {directory}" if directory else ""
    return f"pip install -e '.[tfds]' && python -m gaxn.data.tfds {dataset}{place}"


def _in_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def prepare(dataset: str, directory: str = "", downloads: str = "") -> Path:
    """Downloads a data set and writes it as this module reads it.

    Args:
        dataset: as `Source` takes it.
        directory: where to; "" for the default of tfds.
        downloads: where files that were downloaded by hand lie, if any.

    Returns: the folder of the data set.

    Raises:
        InputError: no such data set, TensorFlow is missing, or a download failed.
    """
    builder = _builder(dataset, directory)
    config = tfds.download.DownloadConfig(manual_dir=downloads or None)
    try:
        builder.download_and_prepare(download_config=config, file_format=FORMAT)
    except ImportError as error:
        raise InputError(
            f"preparing {dataset} takes {error.name}; run {_command(dataset, directory)}"
        ) from None
    except Exception as error:  # noqa: BLE001
        # No network, a file of another content, a set to be fetched by hand.
        raise InputError(f"{dataset} could not be prepared: {_in_line(error)}") from None
    return Path(builder.data_dir)


def main(argv: Sequence[str]) -> int:
    """Prepares the data set of one command line; returns the exit status."""
    parser = argparse.ArgumentParser("python -m gaxn.data.tfds", description=__doc__.split("\n")[0])
    parser.add_argument("dataset", help="as tfds names it, such as cifar10")
    parser.add_argument("--directory", default="", help="where to; the default is that of tfds")
    parser.add_argument("--downloads", default="", help="where files fetched by hand lie")
    given = parser.parse_args(argv[1:])
    try:
        print(prepare(given.dataset, given.directory, given.downloads))
    except InputError as error:
        print(f"gaxn: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
