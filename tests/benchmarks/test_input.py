"""The benchmark of the input pipeline: shares of a loop's time by a clock that the test moves."""

import pytest

from benchmarks import input as benchmark


class Clock:
    """Time that passes only if something sleeps."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(benchmark, "time", clock)
    return clock


def test_devices_wait_for_batches_that_come_late(clock):
    """Batches that take 4 ticks for a step of 3: the devices wait for 1 of 4."""
    steps = []

    def batches(step):
        steps.append(step)
        clock.sleep(4 / 64)

    assert benchmark.time_steps(batches, 3 / 64, 4.0) == (4 / 64, 1 / 64)
    # Four seconds after the warm-up; all in order.
    assert steps == list(range(benchmark.WARM_UP + 64))


def test_devices_do_not_wait_for_batches_that_are_made_while_a_step_runs(clock):
    total, waiting = benchmark.time_steps(lambda step: clock.sleep(2 / 64), 3 / 64, 3.0)
    assert (total, waiting) == (3 / 64, 0.0)


def test_what_devices_do_for_a_batch_adds_to_the_step(clock, monkeypatch):
    monkeypatch.setattr(benchmark.jax, "block_until_ready", lambda _: clock.sleep(1 / 64))
    total, waiting = benchmark.time_steps(lambda step: None, 3 / 64, 4.0)
    assert (total, waiting) == (4 / 64, 1 / 64)


def test_what_the_warm_up_waits_does_not_count(clock):
    def batches(step):
        clock.sleep(5.0 if step < benchmark.WARM_UP else 0.0)

    assert benchmark.time_steps(batches, 1 / 64, 0.0) == (1 / 64, 0.0)


def test_times_are_given_for_each_config_or_none():
    times = benchmark.step_times(["sagan_folder", "ring"], [4.0, 2.0])
    assert [times[name].milliseconds for name in ("sagan_folder", "ring")] == [4.0, 2.0]
    assert benchmark.step_times(["ring"], None) == {"ring": None}
    assert benchmark.step_times(["sagan_folder"], None)["sagan_folder"].milliseconds == 5
    with pytest.raises(SystemExit, match="must have 2 times, got 1"):
        benchmark.step_times(["sagan_folder", "ring"], [4.0])


def test_pictures_are_read_at_the_size_of_the_config(tmp_path):
    benchmark.make_files(tmp_path, count=9, side=20)
    config = benchmark.load_config("sagan_folder:tiny")
    folder = {"name": "folder", "path": str(tmp_path / "jpeg"), "size": 32}
    streamed = {**folder, "resident_bytes": 0, "workers": 2}
    assert benchmark.make_data(config, "folder", tmp_path) == folder
    assert benchmark.make_data(config, "jpeg_2", tmp_path) == streamed
    assert benchmark.make_data(config, "idx", tmp_path) is None
    assert benchmark.make_data(config, "npz_flip", tmp_path)["flip"]
    pair = benchmark.load_config("attn_cyclegan_shapes:tiny")
    domains = benchmark.make_data(pair, "zip", tmp_path)
    assert domains["a"] == domains["b"]
    assert domains["a"]["path"] == str(tmp_path / "jpeg.zip")
    assert benchmark.make_data(pair, "jpeg_flip", tmp_path) is None
