"""Two domains: folders and archives of them, orders of their own, and what cannot be."""

import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from gaxn import mesh
from gaxn.data import reader, unpaired
from gaxn.feed import make_feed, make_indices
from gaxn.population import members
from gaxn.types import InputError

A = {"name": "folder", "train_folder": "trainA", "test_folder": "testA"}
B = {"name": "folder", "train_folder": "trainB", "test_folder": "testB"}
COUNTS = {"trainA": 7, "trainB": 4, "testA": 3, "testB": 2}


def _picture(path, value, mode="RGB", size=(12, 10)):
    colour = value if mode in ("L", "1") else (value,) * len(mode)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folders(tmp_path):
    """Pictures of one colour, 10 a number higher; those of B are 100 lighter."""
    root = tmp_path / "leaves"
    for name, count in COUNTS.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            _picture(root / name / f"{index}.png", 10 * index + 100 * name.endswith("B"))
    return root


def _source(root, split="train", **options):
    return unpaired.Source(split, A, B, str(root), **{"size": 8, **options})


def test_each_domain_is_read_from_its_folder(folders):
    train, test = (_source(folders, split) for split in ("train", "test"))
    assert train.sizes == (7, 4) and len(train) == 7
    assert test.sizes == (3, 2) and len(test) == 3
    # 286 of 256: 8 becomes 9.
    assert train.image_shape == (2, 9, 9, 3) and test.image_shape == (2, 8, 8, 3)
    indices = np.array([[6, 3], [0, 1]])
    for images in (reader(train)(indices).images, train.read(indices).images):
        assert images.shape == (2, 2, 9, 9, 3)
        np.testing.assert_array_equal(np.asarray(images)[:, :, 4, 4, 0], [[60, 130], [0, 110]])


def test_an_archive_is_the_folder_it_holds(folders, tmp_path):
    archive = tmp_path / "leaves.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        for path in folders.rglob("*.png"):
            writer.write(path, path.relative_to(tmp_path))
    indices = np.array([[2, 3], [5, 0]])
    found = [_source(root).read(indices).images for root in (folders, archive)]
    np.testing.assert_array_equal(*found)


def test_each_domain_has_an_order_of_its_own_and_all_of_it_in_an_epoch(folders):
    of_step = make_indices(jax.random.key(0), _source(folders), 2, 14)
    indices = np.concatenate([of_step(step).reshape(-1, 2) for step in range(2)])
    for place, size in enumerate((7, 4)):
        for epoch in range(56 // size):
            own = indices[epoch * size : (epoch + 1) * size, place]
            np.testing.assert_array_equal(np.sort(own), np.arange(size))
    assert len({tuple(indices[first : first + 4, 1]) for first in range(0, 28, 4)}) > 1


def test_the_batches_are_the_same_however_they_are_placed(folders):
    whole = _source(folders)
    apart = unpaired.Source(
        "train", {**A, "resident_bytes": 0}, {**B, "resident_bytes": 0}, str(folders), 8
    )
    assert whole.table is not None and apart.table is None
    runs = members(0, 1)
    feeds = [
        make_feed(source, runs, 2, 8, place(jax.devices()))
        for source in (whole, apart)
        for place in (mesh.jitted, mesh.pmapped)
    ]
    for step in (0, 3):
        one, *others = (np.asarray(feed(step).images) for feed in feeds)
        assert one.shape == (2, 8, 2, 9, 9, 3)
        for other in others:
            if other.shape != one.shape:
                # By device first.
                other = other.swapaxes(0, 1).reshape(one.shape)
            np.testing.assert_array_equal(one, other)


def test_other_files_modes_and_sizes_are_handled(folders):
    (folders / "trainA" / "notes.txt").write_text("no picture")
    for mode in ("L", "RGBA", "LA", "1"):
        _picture(folders / "trainA" / f"z{mode}.png", 1 if mode == "1" else 200, mode)
    _picture(folders / "trainA" / "zz.png", 50, size=(1, 1))
    source = _source(folders)
    assert source.sizes == (12, 4)
    images = source.read(np.array([[index, 0] for index in range(12)])).images[:, 0]
    assert images.shape == (12, 9, 9, 3)
    assert (images[-1] == 50).all()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: [p.unlink() for p in (root / "trainB").iterdir()], "trainB.*trainA"),
        (lambda root: [p.unlink() for p in (root / "testA").iterdir()], "testA.*testB, trainA"),
        (lambda root: (root / "trainA" / "0.png").write_text("text"), "0.png.* is no picture"),
        (lambda root: _picture(root / "loose.png", 0), "loose.png lies beside folders"),
    ],
    ids=["no trainB", "an empty domain", "a text file as picture", "a picture beside the folders"],
)
def test_bad_folders_are_one_clear_line(folders, break_it, message):
    break_it(folders)
    with pytest.raises(InputError, match=message) as told:
        source = _source(folders)
        _ = source.table
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"enlarge": 0.5}, "enlarge is 0.5"),
        ({"size": 0}, "size is 0"),
        ({"b": {**B, "channels": 1}}, r"a has images of \(9, 9, 3\), b of \(9, 9, 1\)"),
        ({"b": {"name": "foldr"}}, "config.data.b.name is 'foldr.*folder"),
        ({"b": {**B, "test_folder": ""}}, "test_folder is ''"),
    ],
)
def test_wrong_fields_are_one_clear_line(folders, options, message):
    fields = {"a": A, "b": B, "path": str(folders), "size": 8, **options}
    with pytest.raises(InputError, match=message):
        unpaired.Source("train", **fields)


def test_domains_can_be_classes(tmp_path):
    for name, count in (("healthy", 30), ("rust", 20), ("scab", 20)):
        (tmp_path / name).mkdir()
        for index in range(count):
            _picture(tmp_path / name / f"{index}.png", index)
    a = {"name": "folder", "classes": ("healthy",)}
    b = {"name": "folder", "classes": ("rust", "scab")}
    train, test = (unpaired.Source(split, a, b, str(tmp_path), 8) for split in ("train", "test"))
    assert [x + y for x, y in zip(train.sizes, test.sizes, strict=True)] == [30, 40]
    with pytest.raises(InputError, match=r"classes is 'mildew'.*healthy, rust, scab"):
        unpaired.Source("train", {**a, "classes": ("mildew",)}, b, str(tmp_path), 8)


def test_the_domains_are_labels(folders):
    train = _source(folders)
    labelled = train.labelled
    assert labelled.class_names == ("A", "B") and len(labelled) == 11
    assert labelled.image_shape == (8, 8, 3) == train.still.image_shape[1:]
    indices = np.array([10, 0, 6, 7])
    apart = unpaired.Source(
        "train", {**A, "resident_bytes": 0}, {**B, "resident_bytes": 0}, str(folders), 8
    )
    for source in (labelled, apart.labelled):
        found = jax.device_get(reader(source)(indices))
        np.testing.assert_array_equal(found.images[:, 4, 4, 0], [130, 0, 60, 100])
        np.testing.assert_array_equal(found.labels, [1, 0, 0, 1])
    square = labelled.look_up(labelled.table, indices.reshape(2, 2))
    np.testing.assert_array_equal(square.images.reshape(4, 8, 8, 3), found.images)


def test_pairs_are_as_many_in_both_domains(folders):
    _source(folders, "train", paired=True)
    with pytest.raises(InputError, match="paired is True; valid is False where A and B have 3 and"):
        _source(folders, "test", paired=True)
