"""A run directory is continued only by the config and the format that it was written in."""

import json
import os
import subprocess
import sys

import pytest

from gaxn.io import files, run_directory
from gaxn.io.run_directory import check_same_config, check_same_data, read_run_record
from gaxn.types import InputError

CONFIG = {"seed": 0, "sizes": (1, 2), "data": {"name": "shapes", "workers": 0}}
FREE = {"steps", "data.workers"}


def open_run(*arguments):
    """Opens a run directory and lets go of it."""
    with run_directory.open_run(*arguments):
        pass


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


DATA = {
    "identity": "photos 1a",
    "image_shape": [8, 8, 3],
    "classes": ["a", "b"],
    "examples": [9, 1],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"identity": "photos 2b", "examples": [12, 1]},
            "identity was photos 1a, is photos 2b; examples was [9, 1], is [12, 1]; name another "
            "directory; --config.run.accept_new_data=True goes on with them",
        ),
        (
            {"classes": ("a", "b", "c")},
            "classes was ['a', 'b'], is ['a', 'b', 'c']; name another directory",
        ),
    ],
)
def test_other_data_are_told_and_accepted_only_in_the_same_shapes(tmp_path, change, message):
    open_run(tmp_path, CONFIG, FREE, {"data": DATA})
    before = (tmp_path / "config.json").read_bytes()
    open_run(tmp_path, CONFIG, FREE, {"data": DATA})
    data = {**DATA, **change}
    accepts = [False] if "identity" in change else [False, True]
    for accept in accepts:
        for refused in (
            lambda accept=accept: open_run(tmp_path, CONFIG, FREE, {"data": data}, accept),
            lambda accept=accept: check_same_data(tmp_path, data, accept),
        ):
            with pytest.raises(InputError) as error:
                refused()
            expected = f"--workdir {tmp_path} was trained on other data: {message}"
            assert str(error.value) == expected
    assert (tmp_path / "config.json").read_bytes() == before
    if "identity" in change:
        open_run(tmp_path, CONFIG, FREE, {"data": data}, True)
        check_same_data(tmp_path, data)


HOLD = """
import sys
from pathlib import Path
from gaxn.io import run_directory
with run_directory.open_run(Path(sys.argv[1]), {}, set(), {}):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_trains_in_a_directory(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "open\n"
        message = f"--workdir {tmp_path} is in use: process {process.pid} of .* trains there; wait"
        with pytest.raises(InputError, match=message):
            open_run(tmp_path, {}, set(), {})
        # Reading is allowed.
        check_same_config(tmp_path, {}, set())
        process.kill()
    # What a killed process leaves behind does not count.
    open_run(tmp_path, {}, set(), {})


def test_a_field_that_an_older_version_lacked_counts_as_its_default(tmp_path):
    old = {"seed": 1, "penalties": {"r1": {"weight": 2.0}}}
    open_run(tmp_path, old, FREE, {"name": "x"})
    defaults = {"start": {}, "penalties": {}, "halflife": 0.0}
    new = {**old, "start": {}, "halflife": 0.0}
    check_same_config(tmp_path, new, FREE, defaults)
    for change in ({"start": {"run": "y"}}, {"halflife": 1.0}, {"penalties": {}}):
        with pytest.raises(InputError, match=f"{next(iter(change))}.* there, "):
            check_same_config(tmp_path, {**new, **change}, FREE, defaults)
    with pytest.raises(InputError, match="halflife"):
        check_same_config(tmp_path, new, FREE)
