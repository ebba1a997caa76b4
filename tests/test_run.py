"""Whole runs by the command line: they end as they should, however they are interrupted."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import finish, running

from gaxn.main import main

CONFIGS = Path(__file__).parents[1] / "configs"
IMAGES = f"--config={CONFIGS / 'attn_cgan_shapes.py'}:tiny"
# A schedule over the run would fix its length.
CONSTANT_RATES = [
    IMAGES,
    "--config.optimizers.generator.learning_rate=2e-3",
    "--config.optimizers.discriminator.learning_rate=1e-3",
]
OFTEN = ["--config.run.checkpoint_every=5", "--config.run.sample_every=20"]
LONGER = [IMAGES, "--config.num_train_steps=60", *OFTEN]

# For runs whose evaluation is not compared.
BRIEF = [
    *LONGER,
    "--config.evaluation.samples=20",
    "--config.evaluation.metrics=('frechet',)",
    "--config.evaluation.memorization=False",
]

# How a run ends, and goes on, does not depend on what it trains; points are quick.
POINTS = [f"--config={CONFIGS / 'ring.py'}:gan+tiny", "--config.population=1"]
LONGER_POINTS = [*POINTS, *OFTEN, "--config.num_train_steps=60"]
ENDLESS = [
    "--config.num_train_steps=1000000",
    "--config.run.checkpoint_every=5",
    "--config.run.sample_every=1000000",
]


def _start(workdir, *arguments, count=1):
    """Starts a run on two devices: of one process, or of two."""
    return running("-m", "gaxn.main", f"--workdir={workdir}", *arguments, count=count)


def _finish(process, status=0):
    (end,) = finish([process])
    assert end.returncode == status, end.stderr
    return end.stdout


def _run(workdir, *arguments):
    with _start(workdir, *arguments) as (process,):
        return _finish(process)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    _run(workdir, *LONGER)
    return workdir


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("points") / "run"
    _run(workdir, *LONGER_POINTS)
    return workdir


def _outcome(workdir):
    """Returns the last step, the checksums of every leaf there, and the samples."""
    step = _last_step(workdir)
    sums = (workdir / "checkpoints" / str(step) / "checksums" / "metadata").read_text()
    samples = {path.name: path.read_bytes() for path in (workdir / "samples").iterdir()}
    return step, json.loads(sums), samples


def _last_step(workdir):
    """Returns the last checkpoint's step, 0 without one."""
    names = (path.name for path in (workdir / "checkpoints").glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=0)


def _evaluation(workdir):
    """Returns evaluation.json without times."""
    document = json.loads((workdir / "evaluation.json").read_text())
    assert document["classifier"].pop("timing")["seconds"] > 0
    return document


def _history(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


def _wait_until(condition: Callable[[], bool], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_finished_run_has_all_its_files(uninterrupted):
    for name in ("config.json", "metrics.jsonl", "evaluations.jsonl", "checkpoints"):
        assert (uninterrupted / name).exists()
    document = json.loads((uninterrupted / "evaluation.json").read_text())
    assert document["step"] == 60
    part = document["classifier"]
    assert np.sum(part["tables"]["confusion"]) == part["protocol"]["samples"] == 60
    assert part["protocol"]["sha256"] and part["protocol"]["seed"] == 0
    assert part["protocol"]["reference_count"] == 200
    assert part["figures"]["frechet_distance_real"] > 0
    for picture in ("curves.png", "confusion.png", "samples/step_00000060.png"):
        assert np.asarray(Image.open(uninterrupted / picture)).std() > 0
    assert Image.open(uninterrupted / "samples.gif").n_frames == 4
    assert len(list((uninterrupted / "attention").glob("*.png"))) == 4
    with np.load(uninterrupted / "attention" / "maps.npz") as maps:
        assert len(maps) > 0
    report = (uninterrupted / "report.html").read_text()
    assert report.startswith("<!doctype html>") and '"kind":"done"' in report.replace(" ", "")
    assert [row["step"] for row in _history(uninterrupted)] == list(range(0, 61, 2))


@pytest.mark.slow
def test_the_same_command_again_says_that_it_is_done(uninterrupted):
    before = _outcome(uninterrupted)
    assert "is done: 60 steps" in _run(uninterrupted, *LONGER)
    assert _outcome(uninterrupted) == before


@pytest.mark.slow
def test_evaluate_and_sample_repeat_the_results_of_training(uninterrupted):
    before = _evaluation(uninterrupted)
    samples = _outcome(uninterrupted)[2]
    _run(uninterrupted, *LONGER, "--mode=evaluate")
    assert _evaluation(uninterrupted) == before
    printed = _run(uninterrupted, *LONGER, "--mode=sample").strip()
    assert Path(printed).read_bytes() == samples["step_00000060.png"]


@pytest.mark.slow
def test_interpolations_of_latents_and_classes_are_drawn(uninterrupted, capsys):
    assert main(["gaxn", f"--workdir={uninterrupted}", "--mode=interpolate"]) == 0
    paths = sorted((uninterrupted / "interpolation").iterdir())
    names = ["classes.gif", "classes.png", "latents.gif", "latents.png"]
    assert [path.name for path in paths] == names
    assert sorted(capsys.readouterr().out.splitlines()[-4:]) == [str(path) for path in paths]
    for path in paths:
        with Image.open(path) as picture:
            assert np.asarray(picture).std() > 0
            assert path.suffix == ".png" or picture.n_frames >= 48


@pytest.mark.slow
def test_a_signal_saves_and_the_same_command_goes_on(uninterrupted, tmp_path):
    workdir, step = tmp_path / "run", 0
    for number, status in ((signal.SIGTERM, 42), (signal.SIGINT, 130)):
        with _start(workdir, *BRIEF) as (process,):
            _wait_until(lambda step=step: _last_step(workdir) > step)
            process.send_signal(number)
            output = _finish(process, status)
        before, step = step, int(output.split("saved at step ")[1].split(";")[0])
        assert (workdir / "checkpoints" / str(step)).is_dir() and before < step < 60
    _run(workdir, *BRIEF)
    assert _outcome(workdir) == _outcome(uninterrupted)
    assert _history(workdir) == _history(uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("untouched", "config", "kills"),
    [("points", LONGER_POINTS, 2), ("uninterrupted", LONGER, 10)],
    ids=["points", "images"],
)
def test_kill_9_at_random_moments_changes_nothing(request, tmp_path, untouched, config, kills):
    """In training, drawing or evaluation."""
    untouched, workdir = request.getfixturevalue(untouched), tmp_path / "run"
    moments = random.Random(kills)
    for _ in range(kills):
        with _start(workdir, *config) as (process,):
            _wait_until((workdir / "config.json").exists)
            time.sleep(moments.uniform(0, 12))
            process.kill()
    _run(workdir, *config)
    assert _outcome(workdir) == _outcome(untouched)
    assert _history(workdir) == _history(untouched)


@pytest.mark.slow
def test_a_longer_run_goes_on_from_a_shorter_one(points, tmp_path):
    _run(tmp_path / "run", *LONGER_POINTS, "--config.num_train_steps=30")
    _run(tmp_path / "run", *LONGER_POINTS)
    step, sums, samples = _outcome(tmp_path / "run")
    expected = _outcome(points)
    assert (step, sums) == expected[:2]
    assert expected[2].items() <= samples.items()


@pytest.fixture
def disk(tmp_path):
    """A small file system, and a function that changes its options, as `mount` takes them."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", path]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command).returncode:
        pytest.skip("cannot mount a disk here")
    yield (
        path,
        lambda options: subprocess.run(["mount", "-o", f"remount,{options}", path], check=True),
    )
    subprocess.run(["umount", path], check=True)


@pytest.mark.slow
def test_a_full_disk_costs_only_the_steps_since_the_last_save(points, disk):
    path, remount = disk
    workdir, command = path / "run", [*LONGER_POINTS, "--config.run.keep=100"]

    def expect_error(words):
        with _start(workdir, *command) as (process,):
            (end,) = finish([process])
        # Pictures and the report that cannot be written are warnings.
        *warnings, line = end.stderr.splitlines()
        assert all("gaxn: warning: " in warning for warning in warnings), warnings
        assert end.returncode == 2 and words in line.lower()

    expect_error("no space left")
    remount("size=600k")
    expect_error("no space left")
    assert 5 <= _last_step(workdir) < 60
    remount("ro")
    expect_error("read-only")
    remount("rw,size=100m")
    _run(workdir, *command)
    assert _outcome(workdir)[:2] == _outcome(points)[:2]
    assert [row["step"] for row in _history(workdir)] == [row["step"] for row in _history(points)]


@pytest.mark.slow
def test_a_run_on_four_devices_in_this_process(tmp_path, capsys):
    arguments = ["gaxn", *POINTS, f"--workdir={tmp_path / 'run'}"]
    assert main([*arguments, "--config.parallel=pmap"]) == 0
    assert main(arguments) == 0
    assert "is done" in capsys.readouterr().out


# ---------------------------------------------------------------- two processes

# A run whose process VICTIM kills itself. Orbax still writes in the background when `save` returns;
# before the other two functions return, both processes have to call them.
KILLED = """
import os, signal, sys
from gaxn import main
from gaxn.distributed import multihost
from gaxn.io.checkpoints import Checkpoints
moment, victim, *flags = sys.argv[1:]
owner, name = {
    "step": (multihost, "agree_to_stop"),
    "save": (Checkpoints, "save"),
    "evaluation": (multihost, "gather_bytes"),
}[moment]
function, calls = getattr(owner, name), []
def call(*arguments):
    calls.append(name)
    is_last = len(calls) == 2 and multihost.index() == int(victim)
    if is_last and moment == "save":
        function(*arguments)
    if is_last:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments)
setattr(owner, name, call)
multihost.exit_together(main.main(["gaxn", *flags]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_and_the_same_command_goes_on(points, tmp_path, victim):
    workdir = tmp_path / "run"
    best = "--config.evaluation.best=lowest modes/frechet_distance"
    config = [*LONGER_POINTS, "--config.evaluation.every=10", best]
    for moment in ("step", "save", "evaluation"):
        flags = [moment, victim, f"--workdir={workdir}", *config]
        with running("-c", KILLED, *flags, count=2) as pair:
            assert pair[victim].wait(600) == -signal.SIGKILL
            killed = time.monotonic()
            (end,) = finish([pair[1 - victim]], 30)
        print(f"{moment}, {victim}: {end.returncode} after {time.monotonic() - killed:.1f} s")
        assert end.returncode == -signal.SIGABRT and "Traceback" not in end.stderr, end.stderr
    assert 0 < _last_step(workdir) < 60
    with _start(workdir, *config, count=2) as pair:
        for process in pair:
            _finish(process)
    # The step and every leaf of the state; pictures are rounded from other batches.
    assert _outcome(workdir)[:2] == _outcome(points)[:2]


@pytest.mark.slow
def test_sigterm_to_one_of_two_processes_saves_and_one_process_goes_on(tmp_path):
    workdir = tmp_path / "run"
    with _start(workdir, *POINTS, *ENDLESS, count=2) as pair:
        _wait_until(lambda: _last_step(workdir) > 0)
        pair[1].send_signal(signal.SIGTERM)
        first, second = finish(pair)
    assert (first.returncode, second.returncode) == (42, 42), first.stderr + second.stderr
    # Only the first prints; gloo reports its connections on any.
    stopped = int(first.stdout.split("saved at step ")[1].split(";")[0])
    assert "step" not in second.stdout and "evaluation" not in second.stdout
    assert (workdir / "checkpoints" / str(stopped)).is_dir()
    _check_end(workdir, *POINTS)


def _check_end(workdir, *config):
    """Ends a run 5 steps later; compares it with an untouched run of one process."""
    untouched, steps = workdir.with_name("untouched"), _last_step(workdir) + 5
    for directory in (workdir, untouched):
        _run(directory, *config, *ENDLESS, f"--config.num_train_steps={steps}")
    assert _outcome(workdir)[:2] == _outcome(untouched)[:2]


@pytest.mark.soak
def test_forty_random_ends_of_two_processes_lose_nothing(tmp_path):
    """SIGKILL and SIGTERM in turns, to either, at random moments from the first output on."""
    workdir, chance = tmp_path / "run", random.Random(40)
    for end in range(40):
        with _start(workdir, *CONSTANT_RATES, *ENDLESS, count=2) as pair:
            # After gloo, the first process prints the number of images.
            assert any(not line.startswith("[Gloo]") for line in pair[0].stdout)
            time.sleep(chance.uniform(0, 12))
            victim, number = chance.randrange(2), (signal.SIGKILL, signal.SIGTERM)[end % 2]
            pair[victim].send_signal(number)
            started = time.monotonic()
            ends = finish(pair, 30 if number == signal.SIGKILL else 90)
        statuses = [process.returncode for process in ends]
        errors = ends[1 - victim].stderr
        print(f"{number.name} to {victim}: {statuses} after {time.monotonic() - started:.1f} s")
        if number == signal.SIGTERM:
            assert statuses == [42, 42], errors
        else:
            assert statuses[victim] == -signal.SIGKILL
            assert statuses[1 - victim] == -signal.SIGABRT, errors
            assert "Traceback" not in errors
    _check_end(workdir, *CONSTANT_RATES)


@pytest.mark.slow
def test_a_mistake_in_the_config_of_two_processes_ends_both(tmp_path):
    with _start(tmp_path / "run", *POINTS, "--config.batch_size=7", count=2) as pair:
        ends = finish(pair)
    for end in ends:
        assert end.returncode == 2
        assert "config.batch_size must be a multiple of the 2 devices, got 7" in end.stderr
    assert not (tmp_path / "run").exists()
