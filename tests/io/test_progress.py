"""The progress of training without a terminal is plain lines with the speed."""

import time

import pytest

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
