"""Files are written completely or not at all, and read back as they were."""

import os

import numpy as np
import pytest
from PIL import Image

from gaxn.io import files
from gaxn.types import InputError


def test_json_has_null_for_numbers_that_are_not_finite(tmp_path):
    path = tmp_path / "new" / "value.json"
    files.write_json(path, {"a": (1.5, float("nan")), "b": {"c": float("-inf")}})
    assert files.read_json(path) == {"a": [1.5, None], "b": {"c": None}}


def test_lines_are_appended_and_a_cut_off_line_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    assert files.read_lines(path) == []
    files.append_line(path, {"step": 1, "loss": float("nan")})
    files.append_line(path, {"step": 2})
    path.write_text(path.read_text() + '{"step": 3')
    assert files.read_lines(path) == [{"step": 1, "loss": None}, {"step": 2}]
    files.append_line(path, {"step": 4})
    assert files.read_lines(path) == [{"step": 1, "loss": None}, {"step": 2}, {"step": 4}]
    files.write_lines(path, [{"step": 5}])
    assert path.read_text() == '{"step": 5}\n'


def test_pictures_are_read_as_they_were_written(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    files.write_png(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(files.read_png(tmp_path / "a.png"), picture)


def test_the_last_frame_of_an_animation_is_shown_longer(tmp_path):
    frames = [np.full((4, 4, 3), shade, np.uint8) for shade in (0, 100, 200)]
    files.write_gif(tmp_path / "a.gif", frames, seconds=3, pause=0.5)
    durations = []
    with Image.open(tmp_path / "a.gif") as animation:
        for index in range(animation.n_frames):
            animation.seek(index)
            durations.append(animation.info["duration"])
    assert durations == [1000, 1000, 1500]


def test_the_sides_of_an_animation_are_bounded(tmp_path):
    frames = [np.full((66_000, 3, 3), shade, np.uint8) for shade in (0, 100)]
    files.write_gif(tmp_path / "a.gif", frames)
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 2 and animation.size == (1, 3_883)


def test_a_failed_write_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    files.write_json(path, 1)

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        files.write_json(path, 2)
    assert files.read_json(path) == 1 and os.listdir(tmp_path) == ["value.json"]


def test_a_symbolic_link_stays_one(tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "target.json")
    files.write_json(link, 1)
    assert link.is_symlink() and files.read_json(tmp_path / "target.json") == 1


def test_paths_where_nothing_can_be_written_are_refused(tmp_path):
    (tmp_path / "set.npz").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "set.npz")
    files.check_writable(tmp_path / "new" / "a.json", "--json")
    files.check_writable(tmp_path / "set.npz", "--json")
    for path, message in (
        (tmp_path, "--json must be the path of a file, got"),
        ("/dev/null", "--json must be the path of a file, got '/dev/null'"),
        (tmp_path / "set.npz" / "a", "must be the path of a file in a directory"),
        (tmp_path / "link", "must be another path than that of a set"),
    ):
        with pytest.raises(InputError, match=message):
            files.check_writable(type(tmp_path)(path), "--json", [tmp_path / "set.npz"])
