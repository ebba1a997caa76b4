"""The comparison with other libraries: equal figures are required, and ratios are theirs / ours."""

import numpy as np
import pytest

from benchmarks import evaluation, evaluation_sides
from benchmarks.evaluation_sides import Size

ROW = evaluation.Row("kid", "torch_fidelity", "kid")


def _runs(value, *measurements):
    return [
        {"figures": {"kid": value}, "seconds": seconds, "core_seconds": 2.0, "peak_bytes": peak}
        for seconds, peak in measurements
    ]


def test_ratios_are_of_median_seconds_and_of_largest_peaks():
    ours = _runs(1.0, (2.0, 100), (3.0, 150), (10.0, 120))
    theirs = _runs(1.0005, (9.0, 600), (9.0, 500), (1.0, 450))
    result = evaluation.compare_runs(ROW, Size(10, 4), ours, theirs)
    assert result["time_ratio"] == 9.0 / 3.0
    assert result["memory_ratio"] == 600 / 150
    assert result["work_ratio"] == 1.0
    assert result["seconds"] == {"gaxn": 3.0, "torch_fidelity": 9.0}


@pytest.mark.parametrize("value", [1.002, -1.0, float("nan")])
def test_different_figures_are_no_comparison(value):
    with pytest.raises(SystemExit, match="kid differs"):
        evaluation.compare_runs(ROW, Size(10, 4), _runs(1.0, (1, 1)), _runs(value, (1, 1)))


def test_features_depend_on_their_set_and_their_place():
    blocks = [
        evaluation_sides.make_block(seed, first, 5, 7)
        for seed, first in ((0, 0), (0, 5), (1, 0), (0, 0))
    ]
    assert all((block >= 0).all() and block.dtype == np.float32 for block in blocks)
    np.testing.assert_array_equal(blocks[0], blocks[3])
    assert not any(np.array_equal(blocks[0], block) for block in blocks[1:3])


def test_the_time_in_which_features_are_made_does_not_count(monkeypatch):
    clock = {"now": 0.0}

    def make_block(seed, first, rows, width):
        clock["now"] += 100.0
        return np.full((rows, width), seed, np.float32)

    def compute(generated, real, size):
        blocks = [*generated, *real]
        clock["now"] += 3.0
        return {"rows": sum(map(len, blocks)), "sum": float(sum(block.sum() for block in blocks))}

    monkeypatch.setattr(evaluation_sides, "make_block", make_block)
    monkeypatch.setattr(evaluation_sides.time, "perf_counter", lambda: clock["now"])
    result = evaluation_sides._measure_metric(compute, Size(evaluation_sides.BLOCK + 5, 1))
    assert result["seconds"] == 3.0
    rows = evaluation_sides.BLOCK + 5
    assert result["figures"] == {"rows": 2 * rows, "sum": rows}
