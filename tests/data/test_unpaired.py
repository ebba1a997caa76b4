"""Two domains: folders and archives of them, independent orders, and refused input."""

import pickle
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from gaxn.data import make_reader, unpaired
from gaxn.data.pipeline import make_batches, make_indices
from gaxn.distributed import sharding
from gaxn.types import InputError

A = {"name": "folder", "train_folder": "trainA", "test_folder": "testA"}
B = {"name": "folder", "train_folder": "trainB", "test_folder": "testB"}
COUNTS = {"trainA": 7, "trainB": 4, "testA": 3, "testB": 2}


def _image(path, value, mode="RGB", size=(12, 10)):
    color = value if mode in ("L", "1") else (value,) * len(mode)
    Image.new(mode, size, color).save(path)


@pytest.fixture
def folders(tmp_path):
    """Writes images of one color, 10 lighter per index; those of B are 100 lighter."""
    root = tmp_path / "leaves"
    for name, count in COUNTS.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            _image(root / name / f"{index}.png", 10 * index + 100 * name.endswith("B"))
    return root


def _source(root, split="train", **options):
    return unpaired.Source(split, A, B, str(root), **{"size": 8, **options})


def _streamed(root):
    a, b = ({**spec, "resident_bytes": 0} for spec in (A, B))
    return unpaired.Source("train", a, b, str(root), 8)


def test_each_domain_is_read_from_its_folder(folders):
    train, test = (_source(folders, split) for split in ("train", "test"))
    assert train.sizes == (7, 4) and len(train) == 7
    assert test.sizes == (3, 2) and len(test) == 3
    # 286 of 256: 8 becomes 9.
    assert train.image_shape == (2, 9, 9, 3) and test.image_shape == (2, 8, 8, 3)
    indices = np.array([[6, 3], [0, 1]])
    for images in (make_reader(train)(indices).images, train.read(indices).images):
        assert images.shape == (2, 2, 9, 9, 3)
        np.testing.assert_array_equal(np.asarray(images)[:, :, 4, 4, 0], [[60, 130], [0, 110]])


def test_an_archive_gives_the_same_images_as_its_folder(folders, tmp_path):
    archive = tmp_path / "leaves.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        for path in folders.rglob("*.png"):
            writer.write(path, path.relative_to(tmp_path))
    indices = np.array([[2, 3], [5, 0]])
    np.testing.assert_array_equal(
        *(_source(root).read(indices).images for root in (folders, archive))
    )


def test_each_domain_has_its_own_order_with_every_image_once_per_epoch(folders):
    of_step = make_indices(jax.random.key(0), _source(folders), 2, 14)
    indices = np.concatenate([of_step(step).reshape(-1, 2) for step in range(2)])
    for domain, size in enumerate((7, 4)):
        for epoch in range(56 // size):
            of_epoch = indices[epoch * size : (epoch + 1) * size, domain]
            np.testing.assert_array_equal(np.sort(of_epoch), np.arange(size))
    assert len({tuple(indices[first : first + 4, 1]) for first in range(0, 28, 4)}) > 1


def test_the_batches_do_not_depend_on_streaming_or_parallelism(folders):
    resident, streamed = _source(folders), _streamed(folders)
    assert resident.table is not None and streamed.table is None
    pipelines = [
        make_batches(source, [jax.random.key(0)], 2, 8, place(jax.devices()))
        for source in (resident, streamed)
        for place in (sharding.jit_parallelism, sharding.pmap_parallelism)
    ]
    for step in (0, 3):
        expected, *rest = (np.asarray(batches(step).images) for batches in pipelines)
        assert expected.shape == (2, 8, 2, 9, 9, 3)
        for images in rest:
            if images.shape != expected.shape:
                # pmap puts the axis of devices first.
                images = images.swapaxes(0, 1).reshape(expected.shape)
            np.testing.assert_array_equal(images, expected)


def test_other_files_are_ignored_and_all_modes_and_sizes_are_read(folders):
    (folders / "trainA" / "notes.txt").write_text("not an image")
    for mode in ("L", "RGBA", "LA", "1"):
        _image(folders / "trainA" / f"z{mode}.png", 1 if mode == "1" else 200, mode)
    _image(folders / "trainA" / "zz.png", 50, size=(1, 1))
    source = _source(folders)
    assert source.sizes == (12, 4)
    images = source.read(np.array([[index, 0] for index in range(12)])).images[:, 0]
    assert images.shape == (12, 9, 9, 3)
    assert (images[-1] == 50).all()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: [p.unlink() for p in (root / "trainB").iterdir()],
            "testB, trainA.*got 'trainB'",
        ),
        (
            lambda root: [p.unlink() for p in (root / "testA").iterdir()],
            "testB, trainA.*got 'testA'",
        ),
        (lambda root: (root / "trainA" / "0.png").write_text("text"), "0.png.* is not an image"),
        (lambda root: _image(root / "loose.png", 0), "loose.png is beside folders"),
    ],
    ids=["no trainB", "an empty domain", "a text file as image", "an image beside the folders"],
)
def test_bad_folders_are_refused_in_one_line(folders, damage, message):
    damage(folders)
    with pytest.raises(InputError, match=message) as caught:
        source = _source(folders)
        _ = source.table
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"enlarge": 0.5}, "enlarge must be 1 or more, got 0.5"),
        ({"size": 0}, "size must be 1 or more, got 0"),
        ({"b": {**B, "channels": 1}}, r"a and b must be .*, got \[\(9, 9, 3\), \(9, 9, 1\)\]"),
        ({"b": {"name": "foldr"}}, "config.data.b.name must be .*folder.* got 'foldr'"),
        (
            {"b": {**B, "test_folder": ""}},
            "test_folder must be set if, and only if, train_folder is, got ''",
        ),
    ],
)
def test_wrong_fields_are_refused(folders, options, message):
    fields = {"a": A, "b": B, "path": str(folders), "size": 8, **options}
    with pytest.raises(InputError, match=message):
        unpaired.Source("train", **fields)


def test_domains_can_be_classes(tmp_path):
    for name, count in (("healthy", 30), ("rust", 20), ("scab", 20)):
        (tmp_path / name).mkdir()
        for index in range(count):
            _image(tmp_path / name / f"{index}.png", index)
    a = {"name": "folder", "classes": ("healthy",)}
    b = {"name": "folder", "classes": ("rust", "scab")}
    train, test = (unpaired.Source(split, a, b, str(tmp_path), 8) for split in ("train", "test"))
    assert [x + y for x, y in zip(train.sizes, test.sizes, strict=True)] == [30, 40]
    with pytest.raises(InputError, match=r"classes must be .*healthy, rust, scab.*got 'mildew'"):
        unpaired.Source("train", {**a, "classes": ("mildew",)}, b, str(tmp_path), 8)


def test_the_labels_are_the_domains(folders):
    train = _source(folders)
    labeled = train.labeled
    assert labeled.class_names == ("A", "B") and len(labeled) == 11
    assert labeled.image_shape == (8, 8, 3) == train.at_test_size.image_shape[1:]
    indices = np.array([10, 0, 6, 7])
    for source in (labeled, _streamed(folders).labeled):
        batch = jax.device_get(make_reader(source)(indices))
        np.testing.assert_array_equal(batch.images[:, 4, 4, 0], [130, 0, 60, 100])
        np.testing.assert_array_equal(batch.labels, [1, 0, 0, 1])
    square = labeled.look_up(labeled.table, indices.reshape(2, 2))
    np.testing.assert_array_equal(square.images.reshape(4, 8, 8, 3), batch.images)


def test_a_source_that_was_read_can_be_sent_to_another_process(folders):
    source = unpaired.Source("train", {**A, "resident_bytes": 0}, B, str(folders), 8)
    indices = np.array([[6, 3], [0, 1]])
    images, labeled = source.read(indices).images, source.labeled.read(np.array([10, 0])).images
    assert source.table is None
    sent = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(sent.read(indices).images, images)
    np.testing.assert_array_equal(sent.labeled.read(np.array([10, 0])).images, labeled)


def test_paired_domains_have_equally_many_test_images(folders):
    _source(folders, "train", paired=True)
    with pytest.raises(
        InputError, match=r"paired must be False where A and B have 3 and 2 .*, got True"
    ):
        _source(folders, "test", paired=True)
