"""Image data sets of TensorFlow Datasets (tfds), read without TensorFlow.

    python -m gaxn.data.tfds DATASET [--directory DIR] [--downloads DIR]

prepares a data set, once; only this needs TensorFlow, `pip install -e '.[tfds]'`.
"""

import argparse
import dataclasses
import difflib
import functools
import operator
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from gaxn import data
from gaxn.data import image_preparation
from gaxn.types import InputError, check

if TYPE_CHECKING:
    # Importing tfds takes seconds, so only the functions that use it do.
    import tensorflow_datasets as tfds

FORMAT = "array_record"


class _Split(NamedTuple):
    """A prepared split.

    Attributes:
        full_name: name of the data set, with its configuration and version.
        shape: (height, width, channels) of the images; None for a side that varies.
        class_names: names of the labels; empty if there are no labels.
        records: examples by index, each a dict.
    """

    full_name: str
    shape: tuple[int | None, int | None, int]
    class_names: tuple[str, ...]
    records: Sequence[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Source(data.ImageFiles):
    """Images, prepared by `image_preparation.prepare`.

    Attributes:
        dataset: the data set, "NAME", "NAME:VERSION" or "NAME/CONFIGURATION:VERSION" as in tfds.
        directory: directory of prepared data sets; "" for the default of tfds.
        train_split: part of the data set for training, such as "train" or "train[:90%]".
        test_split: part of the data set for tests, such as "test" or "train[90%:]".
        image: name of the image feature.
        label: name of the label feature, of classes or of truth values (with the class names "no"
            and "yes"); "attributes/Smiling" is a feature within another; "" for no labels.
        size: height and width of the images, in pixels; 0 for the original size, if all are
            squares of one size.
        crop: side of the centered square, in pixels of the original; 0 for the largest one.
    """

    dataset: str = "mnist"
    directory: str = ""
    train_split: str = "train"
    test_split: str = "test"
    image: str = "image"
    label: str = "label"
    size: int = 0
    crop: int = 0

    def __post_init__(self):
        super().__post_init__()
        image_preparation.check_sizes(self.size, self.crop)
        height, width, _ = self._prepared.shape
        valid = self.size > 0 or (height is not None and height == width)
        expected = f"1 or more, as the images of {self.dataset} are not all squares of one size"
        check("size", self.size, valid, expected)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, _, channels = self._prepared.shape
        size = self.size or height
        return size, size, 1 if channels == 1 else 3

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._prepared.class_names

    @property
    def identity(self) -> str:
        size, _, channels = self.image_shape
        return (
            f"{self._prepared.full_name} {image_preparation.describe(size, self.crop)} "
            f"channels={channels} train_split={self.train_split}"
        )

    def __len__(self) -> int:
        return len(self._prepared.records)

    @property
    def place(self) -> str:
        return f"{self._prepared.full_name}, the {self.split} split"

    def name_example(self, index: int) -> str:
        return f"example {index}"

    def read_example(self, index: int) -> tuple[np.ndarray, int]:
        size, _, channels = self.image_shape
        try:
            record = self._prepared.records[index]
            pixels = record[self.image]
            picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            image = image_preparation.prepare(picture, size, self.crop, channels)
            if not self.label:
                return image, 0
            label = int(functools.reduce(operator.getitem, self.label.split("/"), record))
            expected = f"0 to {len(self.class_names) - 1}; -1 marks images without one (label='')"
            check("its label", label, 0 <= label < len(self.class_names), expected)
            return image, label
        except Exception as error:  # noqa: BLE001
            # Decoders raise errors of every type on damaged files.
            reason = data.one_line(error)
        raise InputError(reason)

    @functools.cached_property
    def _prepared(self) -> _Split:
        import tensorflow_datasets as tfds

        builder = _builder(self.dataset, self.directory)
        features = dict(builder.info.features)
        image = features.get(self.image)
        images = [name for name, kind in features.items() if isinstance(kind, tfds.features.Image)]
        expected = " or ".join(images) or f"an image feature, which {self.dataset} does not have"
        check("image", self.image, self.image in images, expected)
        labels = _labels(features)
        expected = ", ".join([*labels, "or '' for no labels"])
        check("label", self.label, self.label in ("", *labels), expected)
        expected = f"a feature of type uint8, not {image.np_dtype}"
        check("image", self.image, image.np_dtype == np.uint8, expected)
        return _Split(
            builder.info.full_name,
            image.shape,
            labels.get(self.label, ()),
            self._records(builder),
        )

    def _records(self, builder: "tfds.core.DatasetBuilder") -> Sequence[dict[str, Any]]:
        field = f"{self.split}_split"
        part = getattr(self, field)
        try:
            return builder.as_data_source(split=part)
        except Exception as error:  # noqa: BLE001
            # tfds raises errors of many types: AssertionError, ValueError, KeyError, OSError.
            reason = data.one_line(error)
        if not builder.is_prepared():
            raise InputError(
                f"dataset must be prepared in {builder.data_dir}, got {self.dataset!r}, which is "
                f"not; run {_command(self.dataset, self.directory)}"
            )
        formats = sorted(form.value for form in builder.info.available_file_formats())
        if FORMAT not in formats:
            raise InputError(
                f"dataset must be prepared as {FORMAT}, got {self.dataset!r} in "
                f"{builder.data_dir} as {', '.join(formats)}; with another directory, run "
                f"{_command(self.dataset, self.directory or 'DIR')}"
            )
        splits = ", ".join(builder.info.splits)
        raise InputError(f"{field} must be of {self.dataset}'s {splits}, got {part!r} ({reason})")


def _builder(dataset: str, directory: str) -> "tfds.core.DatasetBuilder":
    """Returns the tfds builder of a data set.

    Raises:
        InputError: tfds does not know the data set, or not this version.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(dataset, data_dir=directory or None)
    except tfds.core.DatasetNotFoundError:
        close = difflib.get_close_matches(
            dataset.partition(":")[0], tfds.list_builders(with_community_datasets=False)
        )
        expected = f"a data set of tfds, such as {', '.join(close)}," if close else "in tfds"
        raise InputError(
            f"dataset must be {expected} or prepared in {directory or 'the directory of tfds'}, "
            f"got {dataset!r}"
        ) from None
    except Exception as error:  # noqa: BLE001
        # A name that tfds cannot parse, an unknown version, a missing package.
        raise InputError(
            f"dataset must be a name that tfds can load, got {dataset!r}: {data.one_line(error)}"
        ) from None


def _labels(features: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[str, ...]]:
    """Returns the class names of each feature that can be a label, by its path."""
    import tensorflow_datasets as tfds

    labels = {}
    for name, feature in features.items():
        path = f"{prefix}{name}"
        if isinstance(feature, tfds.features.FeaturesDict):
            labels |= _labels(feature, f"{path}/")
        elif isinstance(feature, tfds.features.ClassLabel):
            labels[path] = tuple(feature.names)
        elif feature.shape == () and feature.np_dtype == np.bool_:
            labels[path] = ("no", "yes")
    return labels


def _command(dataset: str, directory: str) -> str:
    option = f" --directory {directory}" if directory else ""
    return f"pip install -e '.[tfds]' && python -m gaxn.data.tfds {dataset}{option}"


def prepare(dataset: str, directory: str = "", downloads: str = "") -> Path:
    """Downloads a data set and writes it in the format that `Source` reads.

    Args:
        dataset: name, as for `Source`.
        directory: directory to write to; "" for the default of tfds.
        downloads: directory of files that were downloaded by hand, if any.

    Returns:
        The folder of the data set.

    Raises:
        InputError: there is no such data set, TensorFlow is missing, or a download failed.
    """
    import tensorflow_datasets as tfds

    builder = _builder(dataset, directory)
    config = tfds.download.DownloadConfig(manual_dir=downloads or None)
    try:
        builder.download_and_prepare(download_config=config, file_format=FORMAT)
    except ImportError as error:
        raise InputError(
            f"preparing {dataset} requires {error.name}; run {_command(dataset, directory)}"
        ) from None
    except Exception as error:  # noqa: BLE001
        # No network, changed content, a data set to download by hand.
        raise InputError(f"{dataset} could not be prepared: {data.one_line(error)}") from None
    return Path(builder.data_dir)


def main(argv: Sequence[str]) -> int:
    """Prepares the data set of a command line; returns the exit status."""
    parser = argparse.ArgumentParser("python -m gaxn.data.tfds", description=__doc__.split("\n")[0])
    parser.add_argument("dataset", help="name in tfds, such as cifar10")
    parser.add_argument("--directory", default="", help="output; default: that of tfds")
    parser.add_argument("--downloads", default="", help="of files downloaded by hand")
    options = parser.parse_args(argv[1:])
    try:
        print(prepare(options.dataset, options.directory, options.downloads))
    except InputError as error:
        print(f"gaxn: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
