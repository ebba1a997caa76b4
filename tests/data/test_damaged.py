"""Images that cannot be decoded: all are named at once, or left out and counted."""

import dataclasses
import zipfile

import jax
import numpy as np
import pytest
from pictures import fill, noise, save, zip_folder

from gaxn.data import describe_counts, folder, unpaired
from gaxn.data.pipeline import make_batches
from gaxn.distributed import sharding
from gaxn.experiment import make_experiment
from gaxn.types import InputError

DAMAGE = {
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "another file": lambda content: b"<html>",
    "damaged header": lambda content: content[:20] + b"\xff\xff\xff\xff" + content[24:],
    "zeros at the end": lambda content: content[:-40] + bytes(40),
}
REMEDY = "; repair or remove them, or set skip_damaged=True"


def _wrong_byte(content: bytes) -> bytes:
    """Changes pixels, so that only decoding shows it."""
    return content[:200] + bytes([content[200] ^ 1]) + content[201:]


def _source(path, split="train", **options) -> folder.Source:
    return folder.Source(split, str(path), **{"size": 12, "test_share": 0.3, **options})


def _damage(root, change, *rows: int, split: str = "train") -> list[str]:
    """Changes the files of some images of a split; returns their names."""
    names = [_source(root, split).names[row] for row in rows]
    for name in names:
        (root / name).write_bytes(change((root / name).read_bytes()))
    return names


def _refusal(source) -> str:
    with pytest.raises(InputError) as caught:
        _ = source.table
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _batches(source):
    parallelism = sharding.jit_parallelism(jax.devices()[:1])
    return make_batches(source, [jax.random.key(3)], 1, 8, parallelism)


@pytest.mark.parametrize("resident_bytes", [0, 2**20])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", DAMAGE)
def test_all_damaged_images_are_named_before_training(tmp_path, damage, packed, resident_bytes):
    root = fill(tmp_path / "set", "a", "b")
    names = [
        *_damage(root, DAMAGE[damage], 2, 5, 9),
        *_damage(root, DAMAGE[damage], 1, split="test"),
    ]
    path = zip_folder(root) if packed else root
    source = _source(path, resident_bytes=resident_bytes)
    line = _refusal(source)
    assert line.startswith(f"{path}: 4 images cannot be used: ") and line.endswith(REMEDY)
    assert all(f"{name} (" in line for name in names)
    with pytest.raises(InputError, match="4 images cannot be used"):
        _batches(source)


def test_the_first_ten_are_named_and_all_are_counted(tmp_path):
    root = fill(tmp_path / "set", "a", "b")
    _damage(root, DAMAGE["empty"], *range(len(_source(root))))
    count = len(_source(root))
    line = _refusal(_source(root))
    assert line.startswith(f"{root}: {count} images cannot be used: a/000.png (it is empty), ")
    assert line.count("(it is empty)") == 10 and f" and {count - 10} more; repair" in line


def test_one_damaged_image_is_one(tmp_path):
    root = fill(tmp_path / "set", "a")
    (name,) = _damage(root, DAMAGE["another file"], 3)
    reason = "it is not an image that Pillow opens"
    assert _refusal(_source(root)) == f"{root}: 1 image cannot be used: {name} ({reason}){REMEDY}"


@pytest.mark.parametrize("form", ["jpeg", "png", "gif", "webp", "bmp", "tiff"])
def test_complete_pictures_of_every_format_pass(tmp_path, form):
    for index in range(3):
        save(tmp_path / "set" / f"{index}.{form}", noise(index))
    with (tmp_path / "set" / f"0.{form}").open("ab") as file:
        file.write(b"some bytes that a camera adds")
    assert _source(tmp_path / "set", resident_bytes=0).table is None
    content = (tmp_path / "set" / f"1.{form}").read_bytes()
    (tmp_path / "set" / f"1.{form}").write_bytes(content[: len(content) // 2])
    assert f"1 image cannot be used: 1.{form} (" in _refusal(
        _source(tmp_path / "set", resident_bytes=0)
    )


def test_the_next_image_replaces_one_with_a_wrong_byte_in_a_stream(tmp_path, caplog):
    root = fill(tmp_path / "set", "a", "b")
    last = len(_source(root)) - 1
    (name,) = _damage(root, _wrong_byte, last)
    assert f"1 image cannot be used: {name} (" in _refusal(_source(root))
    source = _source(root, resident_bytes=0)
    assert source.table is None
    read = source.read(np.array([4, last, 5, last]))
    # After the last image comes the first, of another class.
    expected = source.read(np.array([4, 0, 5, 0]))
    assert expected.labels[0] == 0 and source.class_names[-1] == "b"
    jax.tree.map(np.testing.assert_array_equal, read, expected)
    (line,) = caplog.messages
    assert line.startswith(f"warning: {root}: 1 image cannot be used: {name} (")
    assert line.endswith("; the next one takes its place")


def test_a_stream_ends_where_too_many_cannot_be_used_or_a_file_is_gone(tmp_path, caplog):
    root = fill(tmp_path / "set", "a", "b")
    source = _source(root, resident_bytes=0)
    assert source.table is None and len(source) >= 17
    names = [_damage(root, _wrong_byte, index)[0] for index in range(16)]
    with pytest.raises(InputError, match=rf"1 image cannot be used: {names[0]} \("):
        source.read(np.array([0]))
    # Ten are named, and one line counts no more.
    assert len(caplog.messages) == 11
    source.read(np.array([1, 2]))
    assert len(caplog.messages) == 11
    (root / source.names[16]).unlink()
    with pytest.raises(InputError, match=r"1 image cannot be used: .* \(.*No such file"):
        source.read(np.array([16]))


def test_a_wrong_byte_in_an_archive_is_found_at_once(tmp_path):
    archive = zip_folder(fill(tmp_path / "set", "a", "b"))
    name = _source(archive).names[3]
    with zipfile.ZipFile(archive) as file:
        position = file.getinfo(name).header_offset + 200
    content = bytearray(archive.read_bytes())
    content[position] ^= 1
    archive.write_bytes(content)
    for resident_bytes in (0, 2**20):
        assert f"1 image cannot be used: {name} (Bad CRC-32" in _refusal(
            _source(archive, resident_bytes=resident_bytes)
        )


def test_an_experiment_is_not_made_of_damaged_images(tiny, tmp_path):
    root = fill(tmp_path / "set", "a", "b")
    fields = {"name": "folder", "path": str(root), "size": 16, "test_share": 0.3}

    def make(**options):
        config = tiny()
        config.unlock()
        config.data = {**fields, **options}
        return make_experiment(config, "tiny")

    (name,) = _damage(root, _wrong_byte, 5)
    # A stream is not decoded before training.
    assert make(resident_bytes=0).train_source.table is None
    with pytest.raises(InputError, match=f"1 image cannot be used: {name}"):
        make()
    _damage(root, DAMAGE["cut short"], 1, split="test")
    with pytest.raises(InputError, match="2 images cannot be used"):
        make()
    with pytest.raises(InputError, match="1 image cannot be used"):
        make(resident_bytes=0)
    assert len(make(skip_damaged=True).train_source) == len(_source(root)) - 1


def test_the_images_of_a_domain_are_checked(tmp_path):
    a, b = (
        {"name": "folder", "path": str(fill(tmp_path / name, ""))} for name in ("first", "second")
    )
    (tmp_path / "second" / "003.png").write_bytes(b"")
    source = unpaired.Source("train", a, b, size=8)
    assert _refusal(source).startswith(f"{tmp_path / 'second'}: 1 image cannot be used: 003.png")
    skipping = unpaired.Source("train", a, {**b, "skip_damaged": True}, size=8)
    assert skipping.sizes[1] == source.sizes[1] - 1
    assert skipping.notes == ("B: left out: 1 image cannot be used: 003.png (it is empty)",)


def test_images_of_several_sizes_are_named(tmp_path):
    root = fill(tmp_path / "set", "")
    save(root / "005.png", noise(0, 10, 14))
    line = _refusal(_source(root, size=0))
    assert "1 image cannot be used: 005.png (it has 14x10 pixels, others have 12x12: " in line
    (root / "000.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 image cannot be used: 000\.png \(it is empty\)"):
        _ = _source(root, size=0, test_share=1e-9).image_shape


# ---------------------------------------------------------------- left out


@pytest.mark.parametrize("change", [DAMAGE["empty"], _wrong_byte])
def test_damaged_images_are_left_out_and_counted(capsys, tmp_path, change):
    root = fill(tmp_path / "set", "a", "b")
    plain = {split: _source(root, split) for split in ("train", "test", "all")}
    names = [*_damage(root, change, 2, 5), *_damage(root, change, 1, split="test")]
    for split, source in plain.items():
        skipping = _source(root, split, skip_damaged=True)
        # The others stay in their split, in their order.
        assert skipping.names == tuple(name for name in source.names if name not in names)
        rows = [source.names.index(name) for name in skipping.names]
        np.testing.assert_array_equal(skipping.table.images, source.read(np.array(rows)).images)
    assert capsys.readouterr().out == (
        f"{root}: all 24 images are read once, to skip damaged ones\n"
    )
    train, test = (_source(root, split, skip_damaged=True) for split in ("train", "test"))
    line = describe_counts(train, test)
    assert line.startswith(f"{len(train)} images for training + {len(test)} for tests: a ")
    assert "; left out: 3 images cannot be used: " in line
    assert all(f"{name} (" in line for name in names)
    assert train.identity != plain["train"].identity
    assert train.identity == test.identity


def test_a_damaged_image_leaves_out_none_that_looks_like_it(tmp_path):
    root = fill(tmp_path / "set", "a", count=4)
    save(root / "a" / r"\n.png", noise(9))
    (root / "a" / "\n.png").write_bytes(b"")
    names = _source(root, "all", skip_damaged=True).names
    assert names == tuple(sorted((*(f"a/00{index}.png" for index in range(4)), r"a/\n.png")))


@pytest.mark.slow
def test_batches_without_damaged_images_do_not_depend_on_workers(tmp_path):
    root = fill(tmp_path / "set", "a", "b")
    _damage(root, _wrong_byte, 2, 5, 7)
    resident = _source(root, skip_damaged=True)
    streamed = dataclasses.replace(resident, resident_bytes=0)
    pipelines = [
        _batches(source)
        for source in (resident, streamed, dataclasses.replace(streamed, workers=1))
    ]
    for step in range(3):
        expected, *others = (jax.device_get(batches(step)) for batches in pipelines)
        for batch in others:
            np.testing.assert_array_equal(batch.images, expected.images)
            np.testing.assert_array_equal(batch.labels, expected.labels)


def test_a_class_of_damaged_images_is_none(tmp_path):
    root = fill(tmp_path / "set", "a", "b", "c", count=5)
    for file in (root / "b").iterdir():
        file.write_bytes(b"")
    source = _source(root, skip_damaged=True)
    assert source.class_names == ("a", "c")
    assert set(source.table.labels) == {0, 1}


def test_a_class_without_a_training_image_is_left_out(tmp_path):
    root = fill(tmp_path / "set", "a", "b", count=2)
    (name,) = (name for name in _source(root).names if name.startswith("b/"))
    (root / name).write_bytes(b"")
    train, test = (_source(root, split, skip_damaged=True) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("a",)
    assert test.counts == {"a": 1}
    assert "; b is left out, without an image for training" in describe_counts(train, test)


def test_nothing_but_damaged_images_is_one_line(tmp_path):
    root = fill(tmp_path / "set", "a", count=3)
    for file in (root / "a").iterdir():
        file.write_bytes(b"")
    with pytest.raises(InputError, match=r"leave images for the train split, got 0\.3 of the 0"):
        _source(root, skip_damaged=True)
