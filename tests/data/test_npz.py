"""Images in a .npz are split without overlap, and arrays that are not images are refused."""

import os
import zipfile

import numpy as np
import pytest
from pictures import fill, zip_folder

from gaxn.data import describe_counts, make_reader, npz
from gaxn.types import InputError


def _write(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_the_splits_are_disjoint_and_together_everything(tmp_path):
    images = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 5, 1), np.uint8)
    path = _write(tmp_path / "a.npz", arr_0=images, arr_1=np.eye(3)[np.arange(50) % 3])
    shades = {}
    for split in ("train", "test", "all"):
        source = npz.Source(split, path, test_share=0.2)
        batch = make_reader(source)(np.arange(len(source)))
        shades[split] = np.asarray(batch.images)[:, 0, 0, 0].tolist()
        np.testing.assert_array_equal(batch.labels, np.array(shades[split]) % 3)
        assert source.image_shape == (4, 5, 1) and source.class_names == ("0", "1", "2")
        assert sum(source.counts.values()) == len(source)
    assert sorted(shades["train"] + shades["test"]) == shades["all"] == list(range(50))
    assert len(shades["test"]) == 10
    identities = {npz.Source(split, path).identity for split in ("train", "test")}
    assert len(identities) == 1
    assert "test_share" not in npz.Source("all", path).identity


IMAGES = np.zeros((9, 4, 4, 3), np.uint8)


def test_a_file_that_was_written_anew_is_read_again(tmp_path):
    for level in (3, 7):
        np.savez(tmp_path / "a.npz", images=np.full((4, 2, 2, 1), level, np.uint8))
        os.utime(tmp_path / "a.npz", (level, level))
        source = npz.Source("all", path=str(tmp_path / "a.npz"))
        assert (np.asarray(make_reader(source)(np.arange(4)).images) == level).all()


def test_texts_are_captions(tmp_path):
    texts = np.array([f"number {n}" for n in range(9)])
    images = np.arange(9, dtype=np.uint8)[:, None, None, None] + IMAGES
    path = _write(tmp_path / "a.npz", images=images, texts=texts)
    for split in ("train", "test"):
        source = npz.Source(split, path, test_share=0.3)
        shades = np.asarray(make_reader(source)(np.arange(len(source))).images)[:, 0, 0, 0]
        assert source.captions == tuple(f"number {n}" for n in shades)
        assert source.notes == ()
    others = _write(tmp_path / "b.npz", images=images, texts=texts[::-1])
    assert npz.Source("all", others).identity != npz.Source("all", path).identity
    without = npz.Source("all", _write(tmp_path / "c.npz", images=images))
    assert set(without.captions) == {""}


WRONG = [
    ({"images": np.zeros((3, 4, 4), np.uint8)}, "must contain an array images"),
    ({"images": np.zeros((3, 4, 4, 3))}, "must contain an array images"),
    ({"images": IMAGES, "texts": np.array(["a"] * 8)}, r"one text per image .* got <U1 \[8\]"),
    ({"images": IMAGES, "texts": np.arange(9)}, r"one text per image .* got int64 \[9\]"),
    ({"images": IMAGES, "labels": np.zeros(8, int)}, "must have one integer label per image"),
    ({"images": IMAGES, "labels": np.full(9, -1)}, "must have one integer label per image"),
    ({"images": IMAGES, "labels": np.full(9, 0.5)}, "must have one integer label per image"),
    ({"images": IMAGES, "labels": np.full(9, np.nan)}, "must have one integer label .* got nan"),
    ({"images": IMAGES, "labels": np.zeros((9, 2, 2), int)}, r"got int64 \[9, 2, 2\]"),
    ({"images": IMAGES, "labels": np.eye(9)[:, :8]}, "got multi-hot labels: 0 of 8 for image 8"),
    (
        {"images": IMAGES, "labels": np.arange(36).reshape(9, 4) % 3 % 2},
        "one-hot.*, got multi-hot labels: 2 of 4 for image 1",
    ),
    ({"images": IMAGES, "labels": np.full((9, 3), 1 / 3)}, r"got \[0.33.* of 3 for image 0"),
    ({"images": IMAGES, "labels": np.arange(18).reshape(9, 2)}, r"got \[2 3\] of 2 for image 1"),
    ({"images": IMAGES, "labels": np.full((9, 3), -1)}, r"got \[-1 -1 -1\] of 3 for image 0"),
    ({"images": np.array([object()], dtype=object)}, "must be a complete .npz of plain arrays"),
    ({"images": IMAGES, "labels": np.full(9, "-1")}, "got -1, which often marks"),
    ({"images": IMAGES, "labels": np.full(9, "0.5")}, "got 0.5"),
    ({"images": IMAGES, "labels": np.full(9, "9" * 5000)}, "got inf"),
    ({"images": IMAGES, "labels": np.array(["\n", r"\n", "x"] * 3)}, r"that are shown as \\n"),
    *(
        ({"images": IMAGES[:0], "labels": labels}, "a .npz with images for the all split")
        for labels in (np.zeros(0, int), np.zeros(0), np.zeros((0, 3)), np.zeros(0, "U3"))
    ),
]


@pytest.mark.parametrize(("arrays", "message"), WRONG)
def test_arrays_that_are_not_images_are_refused(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message):
        npz.Source("all", _write(tmp_path / "a.npz", **arrays)).table  # noqa: B018


def test_what_is_no_array_is_refused(tmp_path):
    path = zip_folder(fill(tmp_path / "set", "", count=4))
    with pytest.raises(InputError, match=r"uint8 .* got 000\.png, no array;"):
        npz.Source("all", str(path))
    for content in (b"text", b""):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("images.npy", content)
        with pytest.raises(InputError, match=r"got images, no array$"):
            npz.Source("all", str(tmp_path / "a.npz"))
        (tmp_path / "a.npz").unlink()
        npz._read.cache_clear()


def test_other_arrays_are_named(tmp_path):
    images = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    plain = _write(tmp_path / "a.npz", images=images)
    path = _write(tmp_path / "b.npz", images=images, y=np.arange(9), **{"x\n": np.zeros(2)})
    train, test = (npz.Source(split, path) for split in ("train", "test"))
    assert describe_counts(train, test).endswith(r"; passed over: other arrays (2: y, x\n)")
    assert train.class_names == () and npz.Source("train", plain).notes == ()
    assert train.identity == npz.Source("train", plain).identity


def test_names_of_classes_are_parts_of_a_line(tmp_path):
    path = _write(tmp_path / "a.npz", images=IMAGES, labels=np.array(["a\nb", "c", "\x1b"] * 3))
    assert npz.Source("all", path).class_names == (r"\x1b", r"a\nb", "c")


NUMBERS = np.array([7, 3, 7, 100, 3, 7, 3, 100, 100])
TYPES = [
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.float16, np.float32, np.float64, str),
]
FLOAT_TEXTS = NUMBERS.astype(float).astype(str)


@pytest.mark.parametrize("shape", [(9,), (9, 1), (1, 9), (9, 1, 1)])
@pytest.mark.parametrize("dtype", TYPES)
def test_the_classes_are_the_labels_that_occur(tmp_path, dtype, shape):
    path = _write(tmp_path / "a.npz", images=IMAGES, labels=NUMBERS.astype(dtype).reshape(shape))
    source = npz.Source("all", path)
    assert source.class_names == ("3", "7", "100")
    np.testing.assert_array_equal(source.table.labels, [1, 0, 1, 2, 0, 1, 0, 2, 2])
    assert source.table.labels.dtype == np.int32
    assert source.counts == {"3": 3, "7": 3, "100": 3}


def test_whole_numbers_as_texts_of_floats_are_numbers(tmp_path):
    source = npz.Source("all", _write(tmp_path / "a.npz", images=IMAGES, labels=FLOAT_TEXTS))
    assert source.counts == {"3": 3, "7": 3, "100": 3}


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_one_hot_labels_are_the_columns_that_occur(tmp_path, dtype):
    labels = np.eye(101)[NUMBERS].astype(dtype)
    source = npz.Source("all", _write(tmp_path / "a.npz", images=IMAGES, labels=labels))
    assert source.class_names == ("3", "7", "100")
    np.testing.assert_array_equal(source.table.labels, [1, 0, 1, 2, 0, 1, 0, 2, 2])


def test_truth_values_are_two_classes(tmp_path):
    path = _write(tmp_path / "a.npz", images=IMAGES, labels=NUMBERS == 7)
    assert npz.Source("all", path).counts == {"0": 6, "1": 3}


@pytest.mark.parametrize("share", [1e-9, 0.1, 0.9])
def test_each_class_of_two_or_more_is_in_both_splits(tmp_path, share):
    images = np.arange(60, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    labels = np.repeat([0, 1, 2, 3], [50, 7, 2, 1])
    path = _write(tmp_path / "a.npz", images=images, labels=labels)
    train, test = (npz.Source(split, path, share) for split in ("train", "test"))
    for name in "012":
        assert train.counts[name] >= 1 and test.counts[name] >= 1
    assert train.counts["3"] == 1 and test.counts["3"] == 0
    assert describe_counts(train, test).endswith("; no image for tests of 3")
    # All others are where the random order puts them.
    order = np.random.RandomState(npz.ORDER_SEED).permutation(60)
    moved = set(test.table.images[:, 0, 0, 0].tolist()) ^ set(order[: int(60 * share)].tolist())
    assert len(moved) <= 4


def test_the_identity_is_that_of_the_arrays(tmp_path):
    images = np.arange(2 * 9 * 16, dtype=np.uint8)[: 9 * 16].reshape(9, 4, 4, 1)
    path = _write(tmp_path / "a.npz", images=images, labels=NUMBERS)
    same = _write(tmp_path / "b.npz", arr_0=images, arr_1=NUMBERS.astype(float))
    others = [
        _write(tmp_path / "c.npz", images=images, labels=NUMBERS[::-1]),
        _write(tmp_path / "d.npz", images=images[::-1], labels=NUMBERS),
        _write(tmp_path / "e.npz", images=images.reshape(9, 2, 8, 1), labels=NUMBERS),
        _write(tmp_path / "f.npz", images=images),
        _write(tmp_path / "g.npz", images=images, labels=NUMBERS + 1),
    ]
    identity = npz.Source("train", path).identity
    assert npz.Source("train", same).identity == identity
    assert len({identity, *(npz.Source("train", other).identity for other in others)}) == 6
