"""A run directory is continued only by the config and the format that it was written in."""

import json
import os
import subprocess
import sys

import pytest

from gaxn.io import files, run_directory
from gaxn.io.run_directory import check_same_config, open_run, read_run_record
from gaxn.types import InputError

CONFIG = {"seed": 0, "sizes": (1, 2), "data": {"name": "shapes", "workers": 0}}
FREE = {"steps", "data.workers"}


@pytest.fixture
def workdir(tmp_path):
    """The directory of a run."""
    open_run(tmp_path / "run", CONFIG, FREE, {"name": "x", "versions": {"gaxn": "0.2.0"}})
    return tmp_path / "run"


def test_the_record_has_the_config_and_the_format(workdir):
    record = read_run_record(workdir)
    assert record == {
        "format": 3,
        "config": {"seed": 0, "sizes": [1, 2], "data": {"name": "shapes", "workers": 0}},
        "name": "x",
        "versions": {"gaxn": "0.2.0"},
    }


def test_free_fields_may_change(workdir):
    config = {**CONFIG, "steps": 9, "data": {"name": "shapes", "workers": 4}}
    open_run(workdir, config, FREE, {"name": "y"})
    record = read_run_record(workdir)
    assert record["config"]["steps"] == 9 and record["name"] == "y"


def test_unfinished_files_of_killed_processes_are_removed(workdir):
    (workdir / "samples").mkdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    unfinished = workdir / "samples" / f".step_00000004.{ended.pid}.png"
    others = workdir / f".curves.{os.getpid()}.png", workdir / "samples" / "step_00000004.png"
    for path in (unfinished, *others):
        path.write_bytes(b"")
    open_run(workdir, CONFIG, FREE, {"name": "x"})
    assert not unfinished.exists()
    assert all(path.exists() for path in others)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, r"another config: seed \(0 there, 1 here\); name another"),
        ({"batch": 8}, r"another config: batch \(absent there, 8 here\)"),
        ({"data": {"name": "npz", "workers": 0}}, r"data\.name \(shapes there, npz here\)"),
    ],
)
def test_another_config_is_refused(workdir, change, message):
    before = (workdir / "config.json").read_bytes()
    with pytest.raises(InputError, match=message):
        open_run(workdir, {**CONFIG, **change}, FREE, {})
    assert (workdir / "config.json").read_bytes() == before


FORMATS = {
    # format and versions in the file: how the message names them
    "no format": ({"versions": {"gaxn": "0.1.0"}}, "format 1 of gaxn 0.1.0"),
    "a later format": ({"format": 4, "versions": {"gaxn": "0.9"}}, "format 4 of gaxn 0.9"),
    "no version": ({}, "format 1"),
    "damaged versions": ({"versions": []}, "format 1"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_another_format_is_refused_in_one_line(workdir, monkeypatch, name):
    monkeypatch.setattr(run_directory.importlib.metadata, "version", lambda _: "0.2.0")
    record, written = FORMATS[name]
    text = json.dumps({"config": CONFIG, **record})
    (workdir / "config.json").write_text(text)
    for refused in (
        lambda: read_run_record(workdir),
        lambda: open_run(workdir, CONFIG, FREE, {}),
        lambda: check_same_config(workdir, CONFIG, FREE),
    ):
        with pytest.raises(InputError) as error:
            refused()
        assert str(error.value) == (
            f"{workdir} was written in {written}; this is gaxn 0.2.0, which reads format 3; "
            "use the version that wrote it, or another --workdir"
        )
    assert (workdir / "config.json").read_text() == text


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"config": 3}', '{"format": 3}'])
def test_a_damaged_config_is_refused(workdir, content):
    (workdir / "config.json").write_text(content)
    for refused in (
        lambda: read_run_record(workdir),
        lambda: open_run(workdir, CONFIG, FREE, {}),
    ):
        with pytest.raises(InputError, match=r"config.json is not the config of a run; name"):
            refused()


def test_no_run_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(InputError, match="holds no run; train one first"):
            read_run_record(place)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--workdir .* cannot be written"):
        open_run(tmp_path / "file" / "run", CONFIG, FREE, {})


def test_a_rewound_log_ends_at_the_step(tmp_path):
    path = tmp_path / "log.jsonl"
    run_directory.rewind(path, 2)
    assert not path.exists()
    files.write_lines(path, [{"step": step} for step in (0, 2, 4)])
    run_directory.rewind(path, 2)
    assert [row["step"] for row in files.read_lines(path)] == [0, 2]
