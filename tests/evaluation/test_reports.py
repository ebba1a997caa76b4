"""Pictures of a run that goes on: its curves are redrawn, and cost little however long it is."""

import numpy as np
import pytest

from gaxn.evaluation import reports
from gaxn.io import files


@pytest.fixture
def drawn(monkeypatch):
    """The histories and panels of the curves that are drawn, which are black pixels."""
    calls = []

    def curves(history, panels):
        calls.append((history, list(panels)))
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(reports.plots, "curves", curves)
    return calls


def _write(workdir, count):
    lines = [{"step": 0, "diagnostics/diversity": 0.5}]
    lines += [{"step": step, "d/real": 1.0, "g/loss": 2.0} for step in range(1, count)]
    files.write_lines(workdir / "metrics.jsonl", lines)


@pytest.mark.parametrize(
    ("count", "stride"),
    [(2, 1), (2_000, 1), (2_001, 2), (9_999, 5)],
)
def test_a_long_history_is_thinned_and_ends_with_its_last_line(tmp_path, drawn, count, stride):
    _write(tmp_path, count)
    reports.draw_curves(tmp_path)
    ((history, panels),) = drawn
    steps = [line["step"] for line in history]
    assert steps == list(range(count))[::-1][::stride][::-1]
    assert panels == ["losses", "logits"]
    assert (tmp_path / "curves.png").exists() and not (tmp_path / "samples.gif").exists()


def test_the_curves_of_a_finished_run_have_all_lines(tmp_path, drawn):
    _write(tmp_path, 2_001)
    reports.draw_training(tmp_path)
    ((history, panels),) = drawn
    assert len(history) == 2_001 and panels == ["losses", "logits"]


def test_without_curves_nothing_is_drawn(tmp_path, drawn, caplog):
    _write(tmp_path, 1)
    reports.draw_curves(tmp_path)
    assert not drawn and not caplog.messages


def test_figures_of_interim_evaluations_are_drawn_with_them(tmp_path, drawn):
    _write(tmp_path, 2)
    part = {"figures": {"mae_a2b": 0.5}, "protocol": {}}
    lines = [{"step": step, "translation": part} for step in (2, 4)]
    files.write_lines(tmp_path / "evaluations.jsonl", lines)
    reports.draw_curves(tmp_path)
    assert [panels for _, panels in drawn] == [["losses", "logits"], ["translation/mae_a2b"]]
    assert (tmp_path / "evaluations.png").exists()


def test_a_picture_that_fails_is_a_warning(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise MemoryError("of a picture")

    monkeypatch.setattr(reports.plots, "curves", fail)
    _write(tmp_path, 2)
    reports.draw_curves(tmp_path)
    assert caplog.messages == [f"warning: {tmp_path / 'curves.png'} cannot be drawn (of a picture)"]
