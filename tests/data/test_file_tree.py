"""Files are listed once each, from folders and archives alike, by any name."""

import os
import shutil
import stat
import zipfile

import numpy as np
import pytest
from pictures import fill, noise, save, zip_folder
from PIL import Image

from gaxn.data import describe_counts, folder
from gaxn.types import InputError


def _source(path, split="all", **options):
    return folder.Source(split, str(path), **{"size": 12, **options})


def _line(path) -> str:
    return describe_counts(_source(path, "train"), _source(path, "test"))


# ---------------------------------------------------------------- archives


@pytest.mark.parametrize("separator", ["/", "\\"])
@pytest.mark.parametrize("top", ["", "wrapper"])
def test_an_archive_gives_the_examples_and_the_identity_of_its_folder(tmp_path, top, separator):
    root = fill(tmp_path / "set", "a", "b/c")
    archive = zip_folder(root, top, separator)
    for split in ("train", "test"):
        plain, packed = _source(root, split), _source(archive, split)
        assert packed.class_names == ("a", "b")
        assert packed.identity == plain.identity
        for expected, array in zip(plain.table, packed.table, strict=True):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("prefix", ["./", "C:\\x\\", ".\\"])
def test_names_of_an_archive_are_paths_within(tmp_path, prefix):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in fill(tmp_path / "set", "a", "b").rglob("*.png"):
            archive.writestr(f"{prefix}{file.parent.name}/{file.name}", file.read_bytes())
    assert _source(tmp_path / "set.zip").counts == {"a": 12, "b": 12}


@pytest.mark.parametrize("prefix", ["/", "../", "\\", "a\\..\\..\\"])
def test_paths_outside_of_an_archive_and_links_in_it_are_passed_over(tmp_path, prefix):
    archive = zip_folder(fill(tmp_path / "set", "a", "b"))
    identity = _source(archive).identity
    with zipfile.ZipFile(archive, "a") as writer:
        writer.writestr(f"{prefix}a/x.png", b"")
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        writer.writestr(link, "000.png")
    assert _source(archive).identity == identity
    assert _line(archive).endswith(
        "; passed over: links in a .zip (1), paths outside of the .zip (1)"
    )


def test_an_archive_that_was_written_anew_is_read_anew(tmp_path):
    archive = zip_folder(fill(tmp_path / "set", "a", "b"))
    assert _source(archive).counts == {"a": 12, "b": 12}
    shutil.rmtree(tmp_path / "set" / "b")
    zip_folder(fill(tmp_path / "set", "c"))
    os.utime(archive, ns=(1, 1))
    assert _source(archive).counts == {"a": 12, "c": 12}


def test_a_damaged_directory_of_an_archive_is_one_line(tmp_path):
    archive = zip_folder(fill(tmp_path / "set", "a"))
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"neither a folder nor a complete \.zip"):
        _source(archive)


def test_an_encrypted_archive_is_one_line(tmp_path):
    archive = zip_folder(fill(tmp_path / "set", "", count=2))
    content = archive.read_bytes()
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        parts = content.split(header)
        marked = [part[: offset - 4] + b"\x01" + part[offset - 3 :] for part in parts[1:]]
        content = header.join((parts[0], *marked))
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"2 images cannot be used: 000\.png \(.*encrypted"):
        _ = _source(archive).table


# ---------------------------------------------------------------- links


def test_a_link_to_a_folder_around_it_adds_nothing(tmp_path):
    root = fill(tmp_path / "outer" / "set", "a", "b")
    save(tmp_path / "outer" / "elsewhere" / "x.png", noise(0))
    identity = _source(root).identity
    (root / "a" / "loop").symlink_to(root)
    (root / "loop").symlink_to("..")
    (root / "b" / "here").symlink_to(".")
    (root / "z").symlink_to(root / "a")
    source = _source(root)
    assert source.counts == {"a": 12, "b": 12}
    assert source.identity == identity
    assert "passed over: links to folders that are read already (4)" in _line(root)


def test_each_real_file_counts_once_under_its_real_name(tmp_path):
    root = fill(tmp_path / "set", "b")
    (root / "a").mkdir()
    for index in range(12):
        (root / "a" / f"{index}.png").symlink_to(root / "b" / f"{index:03d}.png")
    (root / "b" / "gone.png").symlink_to("nowhere.png")
    source = _source(root)
    assert source.counts == {"b": 12}
    assert _line(root).endswith(
        "; passed over: links to images that are counted already (12), links without a target (1)"
    )


def test_links_to_files_and_folders_elsewhere_are_followed(tmp_path):
    store = fill(tmp_path / "store", "x", "y/deep")
    (store / "y" / "back").symlink_to(store)
    root = tmp_path / "set"
    (root / "a").mkdir(parents=True)
    for index in range(12):
        (root / "a" / f"{index}.png").symlink_to(store / "x" / f"{index:03d}.png")
    (root / "b").symlink_to(store / "y")
    (root / "c").symlink_to(store / "y")
    assert _source(root).counts == {"a": 12, "b": 12}
    images = _source(root, classes=("b",)).table.images
    np.testing.assert_array_equal(images[3], noise(1003))


def test_files_that_are_no_regular_files_are_not_opened(tmp_path):
    root = fill(tmp_path / "set", "a")
    os.mkfifo(root / "a" / "pipe.png")
    assert len(_source(root)) == 12


# ---------------------------------------------------------------- names


NAMES = {
    "bytes that are no UTF-8": b"caf\xe9.png",
    "letters": "Grüße 東京.png".encode(),
    "a line break": b"two\nlines.png",
    "quotes": b'it\'s "x".png',
    "an ending in capitals": b"X.PnG",
}


def _write_named(root: bytes, name: bytes, damage: bool = False) -> None:
    """Writes ten images, one of them of this name, in two folders of this name."""
    for number in range(2):
        path = os.path.join(root, str(number).encode() + name)
        os.makedirs(path)
        for index in range(10):
            save_path = os.path.join(path, b"%d.png" % index if index else name)
            with open(save_path, "wb") as file:
                if damage and not index:
                    continue
                Image.fromarray(noise(10 * number + index)).save(file, "png")


@pytest.mark.parametrize("name", NAMES)
def test_images_and_classes_have_any_names(tmp_path, name):
    root = tmp_path / "set"
    _write_named(os.fsencode(root), NAMES[name])
    train, test = (_source(root, split) for split in ("train", "test"))
    assert sum(len(source.table.images) for source in (train, test)) == 20
    line = describe_counts(train, test)
    line.encode("utf-8")
    assert "\n" not in line and train.identity.isascii()
    for class_name in train.class_names:
        class_name.encode("utf-8")
        assert class_name.isprintable()
    _write_named(os.fsencode(tmp_path / "damaged"), NAMES[name], damage=True)
    with pytest.raises(InputError) as caught:
        _ = _source(tmp_path / "damaged").table
    str(caught.value).encode("utf-8")
    assert "\n" not in str(caught.value) and "2 images cannot be used" in str(caught.value)


def test_bytes_of_a_name_are_shown_as_escapes(tmp_path):
    _write_named(os.fsencode(tmp_path / "set"), b"caf\xe9")
    assert _source(tmp_path / "set").class_names == (r"0caf\xe9", r"1caf\xe9")


@pytest.mark.parametrize(
    ("name", "system"),
    [
        (b"caf\xe9", 3),
        ("é".encode(), 3),
        ("é".encode(), 0),
    ],
)
def test_names_of_an_archive_without_a_code_page_are_those_of_the_folder(tmp_path, name, system):
    """Zip on Unix writes the bytes of the file system without a flag for UTF-8."""
    root, placeholder = tmp_path / "set", b"_" * len(name)
    _write_named(os.fsencode(root), placeholder)
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        for file in sorted(root.rglob("*")):
            if file.is_file():
                info = zipfile.ZipInfo(file.relative_to(root).as_posix())
                info.create_system = system
                writer.writestr(info, file.read_bytes())
    archive.write_bytes(archive.read_bytes().replace(placeholder, name))
    shutil.rmtree(root)
    _write_named(os.fsencode(root), name)
    plain, packed = _source(root), _source(archive)
    assert packed.names == plain.names and packed.identity == plain.identity
    np.testing.assert_array_equal(packed.table.images, plain.table.images)


def test_names_of_an_archive_of_windows_are_in_code_page_437(tmp_path):
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        for name in ("caf_", "x"):
            info = zipfile.ZipInfo(f"{name}/0.png")
            info.create_system = 0
            writer.writestr(info, b"")
    archive.write_bytes(archive.read_bytes().replace(b"caf_", b"caf\x82"))
    assert _source(archive).class_names == ("café", "x")


ENDINGS = {
    **dict.fromkeys((".jpg", ".JPG", ".jpeg", ".JPE", ".jpe", ".jfif"), "jpeg"),
    **dict.fromkeys((".png", ".PNG", ""), "png"),
    **{".webp": "webp", ".bmp": "bmp", ".dib": "bmp", ".gif": "gif", ".tif": "tiff"},
    **{".TIFF": "tiff", ".ppm": "ppm", ".pgm": "ppm", ".pnm": "ppm", ".jp2": "jpeg2000"},
    # Content decides how a picture is decoded, not its ending.
    **{".jPg": "png", ".Png": "jpeg"},
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_pictures_are_known_by_habit_or_by_content(tmp_path, ending):
    (tmp_path / "set").mkdir()
    for index in range(3):
        gray = Image.fromarray(np.full((12, 12, 3), 100, np.uint8))
        gray.save(tmp_path / "set" / f"{index}{ending}", ENDINGS[ending])
    source = _source(tmp_path / "set")
    assert len(source) == 3
    np.testing.assert_allclose(source.table.images, 100, atol=2)


def test_pictures_that_pillow_cannot_open_are_passed_over(tmp_path):
    root = fill(tmp_path / "set", "")
    known = Image.registered_extensions()
    for ending in (".avif", ".heic"):
        (root / f"x{ending}").write_bytes(b"")
    assert len(_source(root)) == 12 + sum(ending in known for ending in (".avif", ".heic"))


def test_hidden_files_and_those_of_systems_never_count(tmp_path):
    root = fill(tmp_path / "set", "a", "b")
    expected = _source(root).identity, _line(root)
    for name in (
        *(".DS_Store", "a/.hidden.png", "__MACOSX/a/._000.png", ".git/x.png", "a/._000.png"),
        *("Thumbs.db", "a/Thumbs.db", "desktop.ini", "a/@eaDir/000.png", "$RECYCLE.BIN/x.png"),
        *("RECYCLER/x.png", "#recycle/x.png"),
    ):
        save(root / f"{name}.png", noise(0))
        (root / f"{name}.png").rename(root / name)
    assert (_source(root).identity, _line(root)) == expected
    archive = zip_folder(root)
    assert (_source(archive).identity, _line(archive)) == expected


def test_files_that_are_passed_over_are_counted_by_ending_once(tmp_path):
    root = fill(tmp_path / "set", "a", "b")
    identity = _source(root).identity
    for name in ("notes.txt", "a/x.txt", "b/film.MP4", "README"):
        (root / name).write_text("no picture")
    for path in (root, zip_folder(root)):
        note = "4 files passed over (.txt 2, .mp4 1, no ending 1)"
        assert _line(path).count(note) == 1
        assert _source(path).identity == identity
    for index in range(6):
        (root / f"x.e{index}").write_text("no picture")
    assert "10 files passed over (.txt 2, " in _line(root)
    assert " and 4 more endings)" in _line(root)
