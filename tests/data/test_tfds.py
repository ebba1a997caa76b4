"""Data sets of tfds, mocked and prepared in the tests, without TensorFlow."""

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from gaxn.data import tfds
from gaxn.types import InputError

COUNTS = {"train": 10, "test": 4}


def _pixels(split: str, index: int) -> np.ndarray:
    seed = index + 100 * (split == "test")
    return np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)


def _png(pixels: np.ndarray) -> io.BytesIO:
    """Returns an image file; tfds stores it unchanged, while encoding an array takes TensorFlow."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    file.seek(0)
    return file


class GaxnDots(tensorflow_datasets.core.GeneratorBasedBuilder):
    """Random images in two classes."""

    VERSION = tensorflow_datasets.core.Version("1.2.0")

    def _info(self):
        features = {
            "image": tensorflow_datasets.features.Image(shape=(None, None, 3)),
            "label": tensorflow_datasets.features.ClassLabel(names=["even", "odd"]),
            "weight": np.int64,
        }
        return tensorflow_datasets.core.DatasetInfo(
            builder=self, features=tensorflow_datasets.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split):
        for index in range(COUNTS[split]):
            image = _png(_pixels(split, index))
            yield index, {"image": image, "label": index % 2, "weight": index}


class GaxnNeedy(GaxnDots):
    """A data set whose preparation needs a package that is not installed."""

    VERSION = tensorflow_datasets.core.Version("1.0.0")

    def _split_generators(self, dl_manager):
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Prepares a data set by the command line; returns its directory."""
    directory = tmp_path_factory.mktemp("tfds")
    assert tfds.main(["tfds", "gaxn_dots", "--directory", str(directory)]) == 0
    return directory


def _source(prepared, split="train", **options) -> tfds.Source:
    return tfds.Source(split, "gaxn_dots", str(prepared), **{"size": 20, **options})


def _order(source: tfds.Source, split: str) -> list[int]:
    """Returns the original index of each example: tfds shuffles the examples that it writes."""
    squares = [_pixels(split, index)[:, 2:22] for index in range(COUNTS[split])]
    return [
        next(index for index, square in enumerate(squares) if np.array_equal(square, image))
        for image in source.table.images
    ]


@pytest.mark.parametrize("split", COUNTS)
def test_a_prepared_set_is_read_as_it_was_written(prepared, split):
    source = _source(prepared, split)
    assert len(source) == COUNTS[split]
    assert source.image_shape == (20, 20, 3)
    assert source.class_names == ("even", "odd")
    order = _order(source, split)
    assert sorted(order) == list(range(COUNTS[split]))
    labels = source.table.labels
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, np.array(order) % 2)
    assert source.identity.startswith("gaxn_dots/1.2.0 size=20 crop=0 bicubic")
    assert "tensorflow" not in sys.modules


def test_read_returns_rows_of_the_table(prepared):
    source = _source(prepared, resident_bytes=10 * 20 * 20 * 3 - 1)
    assert source.table is None
    indices = np.array([7, 0, 7])
    table = _source(prepared, resident_bytes=10 * 20 * 20 * 3).table
    np.testing.assert_array_equal(source.read(indices).images, table.images[indices])
    np.testing.assert_array_equal(source.read(indices).labels, table.labels[indices])


def test_a_source_can_be_sent_to_another_process(prepared):
    source = _source(prepared, resident_bytes=0)
    sent = pickle.loads(pickle.dumps(source))
    indices = np.arange(len(source))
    np.testing.assert_array_equal(sent.read(indices).images, source.read(indices).images)


def test_images_are_cropped_and_resized(prepared):
    index = _order(_source(prepared), "train")[3]
    image = _source(prepared, size=8, crop=16).read(np.array([3])).images[0]
    square = Image.fromarray(_pixels("train", index)[2:18, 4:20])
    np.testing.assert_array_equal(image, square.resize((8, 8), Image.Resampling.BICUBIC))


def test_splits_can_be_parts_of_one_split_of_tfds(prepared):
    parts = {"train_split": "train[:70%]", "test_split": "train[70%:]"}
    train, test = _source(prepared, **parts), _source(prepared, "test", **parts)
    assert (len(train), len(test)) == (7, 3)
    images = np.concatenate([train.table.images, test.table.images])
    np.testing.assert_array_equal(images, _source(prepared).table.images)


def test_labels_can_be_omitted(prepared):
    source = _source(prepared, label="")
    assert source.class_names == ()
    assert source.table.labels is None


def test_images_of_one_size_keep_it_by_default():
    with tensorflow_datasets.testing.mock_data(num_examples=7):
        source = tfds.Source("train", "mnist:3.0.1")
        expected = tensorflow_datasets.data_source("mnist", split="train")
        assert len(source) == 7
        assert source.image_shape == (28, 28, 1)
        assert source.class_names == tuple("0123456789")
        batch = source.read(np.array([5, 2]))
        for row, index in enumerate([5, 2]):
            np.testing.assert_array_equal(batch.images[row], expected[index]["image"])
            assert batch.labels[row] == expected[index]["label"]
    assert "tensorflow" not in sys.modules


def test_color_images_are_resized():
    with tensorflow_datasets.testing.mock_data(num_examples=3):
        source = tfds.Source("test", "cifar10", size=16)
        assert source.image_shape == (16, 16, 3)
        expected = tensorflow_datasets.data_source("cifar10", split="test")[1]["image"]
        image = source.read(np.array([1])).images[0]
        resized = Image.fromarray(expected).resize((16, 16), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(image, resized)


@pytest.mark.parametrize("label", ["attributes/Smiling", "attributes/Male"])
def test_faces_have_their_attributes_as_classes(label):
    with tensorflow_datasets.testing.mock_data(num_examples=12):
        source = tfds.Source("train", "celeb_a", size=64, crop=178, label=label)
        expected = tensorflow_datasets.data_source("celeb_a", split="train")
        assert source.image_shape == (64, 64, 3)
        assert source.class_names == ("no", "yes")
        batch = source.read(np.arange(12))
        for image, label_index, example in zip(batch.images, batch.labels, expected, strict=True):
            assert example["image"].shape == (218, 178, 3)
            square = Image.fromarray(example["image"][20:198])
            resized = square.resize((64, 64), Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(image, resized)
            assert label_index == example["attributes"][label.partition("/")[2]]
        assert set(batch.labels) == {0, 1}


def test_faces_without_an_attribute_have_no_classes():
    with tensorflow_datasets.testing.mock_data(num_examples=3):
        assert tfds.Source("test", "celeb_a", size=64, crop=178, label="").class_names == ()
        with pytest.raises(
            InputError, match=r"label must be .*attributes/Smiling.* got 'attributes/Smilin'"
        ):
            tfds.Source("test", "celeb_a", size=64, label="attributes/Smilin")


REFUSED = {
    # options, part of the line
    "size": ({"size": 0}, "size must be 1 or more, as the images of gaxn_dots are not all squares"),
    "split": (
        {"train_split": "trian"},
        "train_split must be of gaxn_dots's train, test, got 'trian'",
    ),
    "image": ({"image": "picture"}, "image must be image, got 'picture'"),
    "label": ({"label": "weight"}, "label must be label, or '' for no labels, got 'weight'"),
    "crop": ({"crop": -1}, "crop must be 0 (for the largest centered square) or more, got -1"),
    "workers": ({"workers": -1}, "workers must be 0 or more, got -1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_fields_are_refused(prepared, name):
    options, part = REFUSED[name]
    with pytest.raises(InputError) as caught:
        _source(prepared, **options)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_the_error_for_an_unprepared_set_gives_the_command(tmp_path):
    with pytest.raises(InputError) as caught:
        tfds.Source("train", "mnist", str(tmp_path))
    line = str(caught.value)
    assert line.startswith(f"dataset must be prepared in {tmp_path}") and "\n" not in line
    command = f"pip install -e '.[tfds]' && python -m gaxn.data.tfds mnist --directory {tmp_path}"
    assert line.endswith(command)


def test_names_unknown_to_tfds_are_refused(prepared):
    with pytest.raises(
        InputError, match=r"dataset must be a data set of tfds, such as mnist, .*'mnits'"
    ):
        tfds.Source("train", "mnits", str(prepared))
    with pytest.raises(InputError, match=r"dataset must be .* got 'gaxn_dots:9.9.9'.*only: 1.2.0"):
        tfds.Source("train", "gaxn_dots:9.9.9", str(prepared))


def test_an_image_smaller_than_crop_is_named(prepared):
    expected = r"gaxn_dots/1\.2\.0, the train split: 1 image .* example 4 \(.* fewer than crop, 21"
    with pytest.raises(InputError, match=expected):
        _source(prepared, crop=21, resident_bytes=0).read(np.array([4]))


class GaxnUnlabeled(GaxnDots):
    """Images whose labels are -1, as those of the split `unlabelled` of stl10."""

    def _generate_examples(self, split):
        for key, example in super()._generate_examples(split):
            yield key, {**example, "label": -1}


def test_labels_that_mark_images_without_one_are_refused(tmp_path):
    tfds.prepare("gaxn_unlabeled", str(tmp_path))
    with pytest.raises(InputError, match=r"its label must be 0 to 1; -1 marks images without one"):
        _ = tfds.Source("train", "gaxn_unlabeled", str(tmp_path), size=20).table
    table = tfds.Source("train", "gaxn_unlabeled", str(tmp_path), size=20, label="").table
    assert len(table.images) == COUNTS["train"]


def test_a_damaged_file_is_reported_in_one_line(tmp_path):
    tfds.prepare("gaxn_dots", str(tmp_path))
    (file,) = (tmp_path / "gaxn_dots").rglob("*-train.array_record*")
    content = bytearray(file.read_bytes())
    content[3000:3016] = bytes(16)
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"gaxn_dots/1\.2\.0, the train split: 1 image cannot be"):
        _source(tmp_path).table  # noqa: B018


def test_preparing_without_tensorflow_is_refused_in_one_line(capsys, tmp_path):
    assert tfds.main(["tfds", "gaxn_needy", "--directory", str(tmp_path)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("gaxn: preparing gaxn_needy requires tensorflow; run pip install")
    assert tfds.main(["tfds", "gaxn_dotz", "--directory", str(tmp_path)]) == 2
    assert "such as gaxn_dots" in capsys.readouterr().err.splitlines()[-1]


def test_importing_the_module_does_not_import_tfds():
    command = "import sys, gaxn.data.tfds; sys.exit('tensorflow_datasets' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)
