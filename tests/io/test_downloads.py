"""Downloads that are complete, cut off, continued, wrong or from another mirror."""

from pathlib import Path

import numpy as np
import pytest
from file_server import Server

from gaxn.io import downloads
from gaxn.types import InputError

CONTENT = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    (folder / "wrong").mkdir(parents=True)
    (folder / "file").write_bytes(CONTENT)
    (folder / "wrong" / "file").write_bytes(CONTENT[::-1])
    server = Server(folder)
    yield server
    server.close()


def _verify(path: Path) -> str | None:
    return None if path.read_bytes() == CONTENT else "its content is wrong"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "file"


def test_a_file_is_downloaded_once(server, path):
    assert downloads.fetch([f"{server.url}/file"], path, _verify) == path
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["file"]
    downloads.fetch([f"{server.url}/file"], path, _verify)
    assert server.requests == [("/file", None)]


def test_a_download_that_was_cut_off_is_continued(server, path):
    server.ends_after = 100_000
    with pytest.raises(InputError, match="file could not be downloaded"):
        downloads.fetch([f"{server.url}/file"], path, _verify)
    assert not path.exists()
    size = path.with_name("file.part").stat().st_size
    assert 0 < size <= 100_000
    server.ends_after = None
    downloads.fetch([f"{server.url}/file"], path, _verify)
    assert path.read_bytes() == CONTENT
    assert server.requests == [("/file", None), ("/file", f"bytes={size}-")]


def test_a_complete_part_is_renamed(server, path):
    path.parent.mkdir()
    path.with_name("file.part").write_bytes(CONTENT)
    downloads.fetch([f"{server.url}/file"], path, _verify)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"of another file", CONTENT + b"and more"])
def test_a_part_of_another_file_is_discarded(server, path, part):
    path.parent.mkdir()
    path.with_name("file.part").write_bytes(part)
    downloads.fetch([f"{server.url}/file"], path, _verify)
    assert path.read_bytes() == CONTENT


def test_wrong_content_is_removed_and_refused(server, path):
    with pytest.raises(InputError) as caught:
        downloads.fetch([f"{server.url}/wrong/file"], path, _verify)
    line = str(caught.value)
    assert "wrong/file (its content is wrong)" in line and str(path) in line
    assert "\n" not in line
    assert not list(path.parent.iterdir())


def test_the_next_mirror_is_tried(server, path):
    mirrors = [f"{server.url}/missing/file", f"{server.url}/wrong/file", f"{server.url}/file"]
    downloads.fetch(mirrors, path, _verify)
    assert path.read_bytes() == CONTENT
    with pytest.raises(InputError, match=r"missing/file \(HTTPError\); .*wrong/file \(its content"):
        downloads.fetch(mirrors[:2], path.with_name("other"), _verify)


def test_a_missing_server_is_reported_in_one_line(path):
    with pytest.raises(InputError, match=r"could not be downloaded: .*\(ConnectionError\)"):
        downloads.fetch(["http://127.0.0.1:9/file"], path, _verify)
