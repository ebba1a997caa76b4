"""MNIST and Fashion-MNIST from files, complete and damaged, and from a server."""

import gzip
import hashlib
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from file_server import Server

from gaxn.data import idx
from gaxn.types import InputError

MNIST_LABELS = {
    "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}


@pytest.fixture
def data():
    """Returns the folder of the real files."""
    folder = Path(os.environ.get("GAXN_DATA", ""))
    if not (folder / "mnist" / "t10k-images-idx3-ubyte.gz").exists():
        pytest.skip("no MNIST at GAXN_DATA")
    return folder


@pytest.fixture
def copied(data, tmp_path):
    """Copies MNIST's test files, to damage them; returns their folder."""
    for file in (data / "mnist").glob("t10k-*"):
        shutil.copyfile(file, tmp_path / file.name)
    return tmp_path


def _split(directory) -> idx.Source:
    return idx.Source("test", "mnist", str(directory))


@pytest.mark.parametrize("dataset", idx.SETS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_table_equals_the_bytes_of_the_real_files(data, dataset, split):
    source = idx.Source(split, dataset, str(data))
    part, count = {"train": ("train", 60_000), "test": ("t10k", 10_000)}[split]
    images, labels = source.table
    assert images.shape == (count, 28, 28, 1) == (len(source), *source.image_shape)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    counts = np.bincount(labels, minlength=10)
    assert tuple(counts) == (
        MNIST_LABELS[split] if dataset == "mnist" else (len(source) // 10,) * 10
    )
    for kind, array, size in (("images-idx3", images, 784), ("labels-idx1", labels, 1)):
        with gzip.open(data / dataset / f"{part}-{kind}-ubyte.gz") as file:
            content = file.read()
        assert struct.unpack_from(">HBBI", content) == (0, 8, 3 if size > 1 else 1, count)
        body = content[16 if size > 1 else 8 :]
        assert len(body) == count * size
        for index in (0, 1, count // 2, count - 1):
            expected = struct.unpack_from(f"{size}B", body, index * size)
            np.testing.assert_array_equal(array[index].reshape(-1), expected)


def test_look_up_takes_rows_of_the_table(data):
    source = _split(data)
    indices = np.array([[3, 9_999], [0, 3]])
    batch = source.look_up(source.table, indices)
    np.testing.assert_array_equal(batch.images[0, 1], source.table.images[9_999])
    np.testing.assert_array_equal(batch.labels, source.table.labels[indices])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_file_cut_short_is_refused_with_the_example_it_ends_in(copied, share):
    path = copied / "t10k-images-idx3-ubyte.gz"
    content = path.read_bytes()
    content = content[: int(share * len(content))]
    path.write_bytes(content)
    size = len(zlib.decompressobj(31).decompress(content))
    with pytest.raises(InputError) as caught:
        _split(copied).table  # noqa: B018
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert f"ends in example {max(size - 16, 0) // 784} of 10,000" in str(caught.value)


def test_a_damaged_byte_is_detected(copied):
    path = copied / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"t10k-labels.*download it again"):
        _split(copied).table  # noqa: B018


def test_other_content_in_the_same_format_is_detected(copied):
    path = copied / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[100] = (content[100] + 1) % 10
    path.write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match="does not match its SHA-256"):
        _split(copied).table  # noqa: B018


@pytest.mark.parametrize(
    "content",
    # Without the time in the archive, so that all pytest workers give the test one name.
    [b"<html>not found</html>", gzip.compress(b"\0\0\x08\x01" * 9, mtime=0)],
    ids=["a page", "an archive"],
)
def test_another_file_is_detected(copied, content):
    (copied / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte.gz (is not an IDX|ends in)"):
        _split(copied).table  # noqa: B018


def test_a_missing_file_is_named(copied):
    (copied / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        InputError, match=r"directory must be .*contains t10k-labels-idx1-ubyte.gz or"
    ):
        _split(copied).table  # noqa: B018


def test_the_field_directory_precedes_the_environment(data, copied, monkeypatch):
    path = copied / "t10k-labels-idx1-ubyte.gz"
    path.unlink()
    monkeypatch.setenv("GAXN_DATA", str(copied))
    assert len(_split(data).table.labels) == 10_000
    with pytest.raises(InputError, match=r"GAXN_DATA must be a directory that contains"):
        _split("").table  # noqa: B018
    monkeypatch.setenv("GAXN_DATA", str(data))
    assert len(_split("").table.labels) == 10_000


def test_a_data_set_without_directory_is_downloaded_once(data, tmp_path, monkeypatch):
    server = Server(data / "mnist")
    monkeypatch.setitem(idx.SETS, "mnist", idx.SETS["mnist"]._replace(mirrors=(server.url,)))
    monkeypatch.delenv("GAXN_DATA")
    monkeypatch.setenv("GAXN_CACHE", str(tmp_path))
    fetched = _split("").table
    server.close()
    again = _split("").table
    assert len(server.requests) == 2
    np.testing.assert_array_equal(fetched.images, _split(data).table.images)
    np.testing.assert_array_equal(fetched.images, again.images)
    file = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    content = gzip.decompress(file.read_bytes())
    assert hashlib.sha256(content).hexdigest().startswith("ff7bcfd416de33731a308c3f266cc351")
