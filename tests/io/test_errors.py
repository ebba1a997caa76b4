"""Errors of the operating system: a user's are one line, gaxn's own keep their traceback."""

import errno
import logging
import os
import subprocess
import sys

import pytest

from gaxn import commands
from gaxn.io import errors
from gaxn.main import main


def test_only_a_full_disk_and_paths_that_the_user_named_are_the_users(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("data")
    inside = str(tmp_path / "data" / "a.png")

    def describe(number, name, *paths):
        return errors.describe_user_error(OSError(number, os.strerror(number), name), paths)

    expected = f"Permission denied ({inside})"
    assert describe(errno.EACCES, inside, tmp_path / "data") == expected
    assert describe(errno.EACCES, inside, "elsewhere", "link") == expected
    assert describe(errno.EACCES, os.fsencode(inside), "data") == expected
    assert describe(errno.EACCES, inside, "dat", "elsewhere") == ""
    assert describe(errno.ENOENT, None, "data") == ""
    assert describe(errno.ENOSPC, None) == "No space left on device"
    assert errors.describe_user_error(OSError("of any kind"), ["data"]) == ""


@pytest.mark.parametrize("is_named", [True, False])
def test_an_error_of_a_file_that_is_not_the_users_keeps_its_traceback(
    tmp_path, capsys, monkeypatch, is_named
):
    workdir = tmp_path / "run"
    file = str((workdir if is_named else tmp_path) / "table.bin")

    def fail(*_):
        raise FileNotFoundError(errno.ENOENT, "No such file", file)

    monkeypatch.setattr(commands, "run", fail)
    command = ["gaxn", "--config=configs/ring.py:gan+tiny", f"--workdir={workdir}"]
    if is_named:
        assert main(command) == 2
        assert capsys.readouterr().err == f"gaxn: No such file ({file})\n"
    else:
        with pytest.raises(FileNotFoundError):
            main(command)


def test_warnings_of_libraries_are_shown_by_their_names():
    code = (
        "import logging; from gaxn.main import main; main(['gaxn', '--help']); "
        "logging.getLogger('absl').warning('of %s', 'Orbax'); "
        "logging.getLogger('gaxn.io.files').warning('of ours'); "
        "logging.getLogger('absl').info('of no interest')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr == "absl: of Orbax\ngaxn: of ours\n"
    assert logging.getLogger("absl").level <= logging.WARNING
