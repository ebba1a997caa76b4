"""Downloads that are complete, cut off, continued, wrong or from another mirror."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from file_server import Server

from gaxn.data import find_path
from gaxn.io import compilation_cache, downloads
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


def test_of_two_at_once_one_downloads(server, path):
    with ThreadPoolExecutor(2) as threads:
        fetched = [
            threads.submit(downloads.fetch, [f"{server.url}/file"], path, _verify) for _ in range(2)
        ]
        assert [each.result() for each in fetched] == [path, path]
    assert path.read_bytes() == CONTENT
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


def _without_home(monkeypatch):
    monkeypatch.delenv("GAXN_CACHE", raising=False)

    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)


def test_without_a_home_directory_the_variable_is_asked_for(monkeypatch):
    _without_home(monkeypatch)
    message = "GAXN_CACHE must name a directory for inception, since there is no home directory"
    with pytest.raises(InputError, match=message):
        downloads.directory("inception")
    monkeypatch.setenv("GAXN_CACHE", "somewhere")
    assert downloads.directory("inception") == Path("somewhere/inception")


def test_a_variable_that_no_shell_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GAXN_CACHE", "~/cache")
    assert downloads.directory("inception") == tmp_path / "cache" / "inception"
    (tmp_path / "data" / "leaves").mkdir(parents=True)
    monkeypatch.setenv("GAXN_DATA", "~/data")
    assert find_path("leaves") == tmp_path / "data" / "leaves"
    monkeypatch.setenv("GAXN_DATA", "~nobody9/data")
    with pytest.raises(InputError, match="the path '~nobody9/data' must begin with a home"):
        find_path("leaves")


def test_programs_are_not_kept_without_a_home_directory(monkeypatch, caplog):
    _without_home(monkeypatch)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        compilation_cache.enable()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    (record,) = caplog.records
    assert record.getMessage().startswith("warning: compiled programs cannot be kept (GAXN_CACHE ")


def test_a_directory_that_cannot_be_made_is_told_before_the_download(server, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(InputError, match="the file in GAXN_CACHE must be the path of a file in a"):
        downloads.fetch([f"{server.url}/file"], tmp_path / "cache" / "x" / "file", _verify)
    assert server.requests == []
