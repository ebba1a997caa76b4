"""The progress of training is a bar on a terminal, and plain lines elsewhere."""

import io
import logging
import re
import sys
import time

import pytest

from gaxn.distributed import multihost
from gaxn.io import progress
from gaxn.io.progress import Progress


def test_a_line_has_losses_speed_and_the_time_left(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    progress = Progress(first=10, steps=40, batch=8)
    now[0] += 5
    with progress.pause():
        now[0] += 60
    assert progress.log(20, {"d/loss": 1.0, "g/loss": 2.5, "d/real": 3.0}) == pytest.approx(16)
    now[0] += 1
    assert progress.log(30, {}) == pytest.approx(80)
    progress.close()
    assert capsys.readouterr().out.splitlines() == [
        "step 20/40  d/loss 1.000  g/loss 2.500  16 images/s  10 s left",
        "step 30/40    80 images/s  1 s left",
    ]


class Terminal(io.StringIO):
    """A terminal; only carriage returns and new lines move its cursor."""

    def isatty(self):
        return True

    def screen(self):
        """Returns the lines that it shows."""
        lines = []
        for text in self.getvalue().split("\n"):
            line = ""
            for part in text.split("\r"):
                line = part + line[len(part) :]
            lines.append(line.rstrip())
        return lines


def use_terminal(monkeypatch):
    """Returns a terminal that is standard output and error from now on."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_a_bar_goes_on_with_losses_speed_and_the_time_left(monkeypatch):
    terminal = use_terminal(monkeypatch)
    bar = Progress(first=10, steps=40, batch=8)
    assert "25%" in terminal.screen()[-1] and " 10/40 [" in terminal.screen()[-1]
    for step in range(11, 21):
        bar.update(step)
    bar.log(20, {"d/loss": 1.0, "g/loss": 2.5, "d/real": 3.0})
    (line,) = terminal.screen()
    losses = "d/loss=1.000, g/loss=2.500, images/s="
    assert re.match(rf" 50%\|.*\| 20/40 \[00:00<00:\d\d, .*, {losses}", line)
    assert "d/real" not in line
    bar.close()


def test_lines_and_warnings_stand_above_the_bar(monkeypatch):
    terminal = use_terminal(monkeypatch)
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(terminal)])
    bar = Progress(first=0, steps=4, batch=8)
    bar.update(2)
    progress.write("step 2: modes 8")
    logging.getLogger("gaxn").warning("a warning")
    *lines, last = terminal.screen()
    assert lines == ["step 2: modes 8", "a warning"] and " 2/4 " in last
    bar.close()
    logging.getLogger("gaxn").warning("another")
    assert terminal.screen()[3:] == ["another", ""]


def test_a_pause_does_not_count_for_the_bar(monkeypatch):
    terminal = use_terminal(monkeypatch)
    bar = Progress(first=0, steps=4, batch=8)
    bar.update(1)
    with bar.pause():
        time.sleep(0.5)
    assert bar._bar.format_dict["elapsed"] < 0.4
    bar.close()
    assert " 1/4 " in terminal.getvalue()


def test_only_the_first_process_has_a_bar(monkeypatch):
    terminal = use_terminal(monkeypatch)
    monkeypatch.setattr(multihost, "is_first", lambda: False)
    Progress(first=0, steps=4, batch=8).close()
    assert terminal.getvalue() == ""


def test_a_line_is_printed_as_it_is_without_a_bar(capsys):
    progress.write("step 2: modes 8")
    assert capsys.readouterr() == ("step 2: modes 8\n", "")
