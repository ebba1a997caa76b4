"""The efficiency on paper against numbers worked out by hand, and the reading of programs."""

import argparse

import pytest

from benchmarks import scaling
from benchmarks.scaling import Cluster, Link

# Four accelerators a machine: 100 bytes a second within, 10 between.
CLUSTER = Cluster(4, Link(100.0, 0.25), Link(10.0, 2.0))


@pytest.mark.parametrize(
    ("devices", "seconds"),
    [
        (1, 0.0),
        # 2 steps of 0.25 s for each of 3 operations, and 2 * 1/2 * 800 / 100.
        (2, 3 * 2 * 0.25 + 8.0),
        # 6 steps, and 2 * 3/4 * 800 / 100.
        (4, 3 * 6 * 0.25 + 12.0),
    ],
)
def test_a_ring_sends_all_but_one_part_twice(devices, seconds):
    assert scaling.ring_all_reduce(800, 3, devices, CLUSTER.within) == pytest.approx(seconds)
    assert scaling.all_reduce(800, 3, devices, CLUSTER) == pytest.approx(seconds)


def test_machines_reduce_a_part_on_each_of_their_accelerators():
    within = 3 * 6 * 0.25 + 12.0
    # Two machines, each accelerator with 800 / 4 bytes: 2 steps of 2 s, and 2 * 1/2 * 200 / 10.
    between = 3 * 2 * 2.0 + 20.0
    assert scaling.all_reduce(800, 3, 8, CLUSTER) == pytest.approx(within + between)
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        scaling.all_reduce(800, 3, 6, CLUSTER)


def test_the_efficiency_is_the_share_of_the_step_that_computes():
    assert scaling.efficiency(16.5, 800, 3, 4, CLUSTER) == pytest.approx(0.5)
    assert scaling.efficiency(16.5, 800, 3, 1, CLUSTER) == 1.0


def test_the_largest_cluster_is_limited_by_the_slow_links():
    """A gigabyte over 256 H100: twice 31/32 of 125 MB between machines, 1.75 GB within."""
    seconds = scaling.all_reduce(1e9, 1, 256, scaling.DGX_H100)
    transfer = 1.75e9 / 450e9 + 2 * 31 / 32 * 125e6 / 50e9
    assert seconds == pytest.approx(transfer + 14 * 3.4e-6 + 62 * 9.6e-6)


PROGRAM = """
  %all-reduce.1 = (f32[64]{0}, f32[2,3]{1,0}) all-reduce(%a, %b), to_apply=%add
  %get-tuple-element.1 = f32[64]{0} get-tuple-element(%all-reduce.1), index=0
  %all-gather.1 = bf16[8,4]{1,0} all-gather(%all-reduce.1), dimensions={0}
  ROOT %tuple = (f32[64]{0}) tuple(%get-tuple-element.1)
"""


def test_operations_are_counted_by_their_kind():
    kinds = scaling.count_collectives(PROGRAM)
    assert kinds.pop("all-reduce") == {"operations": 1, "bytes": 4 * (64 + 6)}
    assert kinds.pop("all-gather") == {"operations": 1, "bytes": 2 * 32}
    assert all(counts == {"operations": 0, "bytes": 0} for counts in kinds.values())


def _row(parallel="auto", work=1.0, reduced=0, gathered=0, exchanges=0, history_bytes=0):
    kinds = {"all-reduce": (1, reduced), "all-gather": (1, gathered), "all-to-all": (exchanges, 8)}
    return {
        "parallel": parallel,
        "work": work,
        "state_bytes": 100,
        "history_bytes": history_bytes,
        "collectives": {k: {"operations": n, "bytes": size} for k, (n, size) in kinds.items()},
    }


@pytest.mark.parametrize(
    ("row", "problems"),
    [
        (_row(), 0),
        (_row(work=None), 0),
        (_row(work=1.5), 1),
        (_row(reduced=100), 0),
        (_row(reduced=101), 1),
        (_row(gathered=1), 1),
        (_row(gathered=9, history_bytes=9), 0),
        (_row("sharded", gathered=100), 0),
        (_row("sharded", gathered=101), 1),
        (_row("sharded", work=8.0, reduced=101, gathered=101, exchanges=1), 4),
    ],
)
def test_a_row_is_a_problem_for_each_thing_that_it_must_not_have(row, problems):
    assert len(scaling.find_problems(row)) == problems


def test_work_is_compared_with_one_device(monkeypatch, capsys):
    def run_process(name, parallel, devices, multiple):
        assert multiple == 4
        sizes = {"state_bytes_a_device": 1e6, "memory_bytes": 2e6, "flops": 100 / devices + 10}
        return {**_row(parallel), "config": name, "devices": devices, **sizes}

    monkeypatch.setattr(scaling, "run_process", run_process)
    options = argparse.Namespace(devices=[1, 4], parallel=["auto"])
    rows = scaling.measure_config("c", options)
    assert [row["work"] for row in rows] == [1.0, 4 * 35 / 110]
    assert [len(row["problems"]) for row in rows] == [0, 1]
    lines = capsys.readouterr().out.splitlines()
    assert ["PROBLEM" in line for line in lines] == [False, True]
