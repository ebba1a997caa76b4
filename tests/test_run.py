"""Whole runs by the command line: they end as they should, however they are interrupted."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ports import free_ports

from gaxn.distributed.watchdog import LOST
from gaxn.main import main

CONFIGS = Path(__file__).parents[1] / "configs"
IMAGES = f"--config={CONFIGS / 'attn_cgan_shapes.py'}:tiny"
OFTEN = ["--config.run.checkpoint_every=5", "--config.run.sample_every=20"]
LONGER = [IMAGES, "--config.num_train_steps=60", *OFTEN]

# For runs whose own evaluation nobody looks at.
BRIEF = [
    *LONGER,
    "--config.evaluation.samples=20",
    "--config.evaluation.metrics=('frechet',)",
    "--config.evaluation.memorization=False",
]

# How a run ends, and goes on, has nothing to do with what it trains; points are quick.
POINTS = [f"--config={CONFIGS / 'ring.py'}:gan+tiny", "--config.population=1"]
ENDLESS = [
    "--config.num_train_steps=1000000",
    "--config.run.checkpoint_every=5",
    "--config.run.sample_every=1000000",
]


def _command(workdir: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "gaxn.main", f"--workdir={workdir}", *arguments]


@pytest.fixture(scope="module")
def environment():
    """Two devices, as on two cores."""
    return {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}


_STARTED: list[subprocess.Popen] = []


def _start(environment, workdir, *arguments):
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    command = _command(workdir, *arguments)
    _STARTED.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    return _STARTED[-1]


@pytest.fixture(autouse=True)
def nothing_stays():
    """A run without an end, whose test failed, would train beside all other tests."""
    yield
    for process in _STARTED:
        process.kill()
        process.wait()
    _STARTED.clear()


def _finish(process, status=0, timeout=600):
    output, errors = process.communicate(timeout=timeout)
    assert process.returncode == status, errors
    return output


def _run(environment, workdir, *arguments):
    return _finish(_start(environment, workdir, *arguments))


@pytest.fixture(scope="module")
def uninterrupted(environment, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    _run(environment, workdir, *LONGER)
    return workdir


def _outcome(workdir):
    """The checksums of every leaf at the last step, and the samples."""
    step = _reached(workdir)
    sums = (workdir / "checkpoints" / str(step) / "checksums" / "metadata").read_text()
    samples = {path.name: path.read_bytes() for path in (workdir / "samples").iterdir()}
    return step, json.loads(sums), samples


def _evaluation(workdir):
    """All but how long it took."""
    document = json.loads((workdir / "evaluation.json").read_text())
    assert document["classifier"].pop("timing")["seconds"] > 0
    return document


def _history(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


@pytest.mark.slow
def test_a_run_leaves_what_it_promises(uninterrupted):
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
    assert len(list((uninterrupted / "attention").iterdir())) == 4
    assert [row["step"] for row in _history(uninterrupted)] == list(range(0, 61, 2))


@pytest.mark.slow
def test_the_same_command_again_says_that_it_is_done(uninterrupted, environment):
    before = _outcome(uninterrupted)
    assert "is done: 60 steps" in _run(environment, uninterrupted, *LONGER)
    assert _outcome(uninterrupted) == before


@pytest.mark.slow
def test_evaluate_and_sample_repeat_what_training_left(uninterrupted, environment):
    before = _evaluation(uninterrupted)
    samples = _outcome(uninterrupted)[2]
    _run(environment, uninterrupted, *LONGER, "--mode=evaluate")
    assert _evaluation(uninterrupted) == before
    printed = _run(environment, uninterrupted, *LONGER, "--mode=sample").strip()
    assert Path(printed).read_bytes() == samples["step_00000060.png"]


@pytest.mark.slow
def test_ways_between_latents_and_between_classes_are_drawn(uninterrupted, capsys):
    assert main(["gaxn", f"--workdir={uninterrupted}", "--mode=interpolate"]) == 0
    there = sorted((uninterrupted / "interpolation").iterdir())
    names = ["classes.gif", "classes.png", "latents.gif", "latents.png"]
    assert [path.name for path in there] == names
    assert sorted(capsys.readouterr().out.splitlines()[-4:]) == [str(path) for path in there]
    for path in there:
        with Image.open(path) as picture:
            assert np.asarray(picture).std() > 0
            assert path.suffix == ".png" or picture.n_frames >= 48


@pytest.mark.slow
def test_a_signal_saves_and_the_same_command_goes_on(uninterrupted, environment, tmp_path):
    workdir, step = tmp_path / "run", 0
    for number, status in ((signal.SIGTERM, 42), (signal.SIGINT, 130)):
        process = _start(environment, workdir, *BRIEF)
        _wait_until(lambda step=step: _reached(workdir) > step)
        process.send_signal(number)
        output = _finish(process, status)
        before, step = step, int(output.split("saved at step ")[1].split(";")[0])
        assert (workdir / "checkpoints" / str(step)).is_dir() and before < step < 60
    _run(environment, workdir, *BRIEF)
    assert _outcome(workdir) == _outcome(uninterrupted)
    assert _history(workdir) == _history(uninterrupted)


def _wait_until(holds: Callable[[], bool], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def _reached(workdir):
    """The last checkpoint's step, 0 without one."""
    names = (path.name for path in (workdir / "checkpoints").glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whole", "config", "kills"),
    [
        ("points", [*POINTS, *OFTEN, "--config.num_train_steps=60"], 2),
        ("uninterrupted", LONGER, 10),
    ],
    ids=["points", "images"],
)
def test_kill_9_at_random_moments_changes_nothing(
    request, environment, tmp_path, whole, config, kills
):
    """In training, drawing or evaluation."""
    whole, workdir = request.getfixturevalue(whole), tmp_path / "run"
    moments = random.Random(kills)
    for _ in range(kills):
        process = _start(environment, workdir, *config)
        _wait_until((workdir / "config.json").exists)
        time.sleep(moments.uniform(0, 12))
        process.kill()
        process.communicate()
    _run(environment, workdir, *config)
    assert _outcome(workdir) == _outcome(whole)
    assert _history(workdir) == _history(whole)


@pytest.mark.slow
def test_a_longer_run_goes_on_from_a_shorter_one(environment, points, tmp_path):
    _run(environment, tmp_path / "run", *POINTS, *OFTEN, "--config.num_train_steps=30")
    _run(environment, tmp_path / "run", *POINTS, *OFTEN, "--config.num_train_steps=60")
    step, sums, samples = _outcome(tmp_path / "run")
    expected = _outcome(points)
    assert (step, sums) == expected[:2]
    assert expected[2].items() <= samples.items()


@pytest.fixture(scope="module")
def points(environment, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("points") / "run"
    _run(environment, workdir, *POINTS, *OFTEN, "--config.num_train_steps=60")
    return workdir


@pytest.fixture
def disk(tmp_path):
    """A small file system, and a function that changes its options, as `mount` takes them."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", place]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command).returncode:
        pytest.skip("cannot mount a disk here")
    yield (
        place,
        lambda options: subprocess.run(["mount", "-o", f"remount,{options}", place], check=True),
    )
    subprocess.run(["umount", place], check=True)


@pytest.mark.slow
def test_a_disk_without_room_costs_the_steps_since_the_last_save(points, environment, disk):
    place, change = disk
    command = (*POINTS, *OFTEN, "--config.num_train_steps=60", "--config.run.keep=100")

    def refused(word):
        process = _start(environment, place / "run", *command)
        _, errors = process.communicate(timeout=600)
        (line,) = errors.splitlines()
        assert process.returncode == 2 and word in line.lower()

    refused("no space left")
    change("size=600k")
    refused("no space left")
    assert 5 <= _reached(place / "run") < 60
    change("ro")
    refused("read-only")
    change("rw,size=100m")
    _run(environment, place / "run", *command)
    assert _outcome(place / "run")[:2] == _outcome(points)[:2]
    history = [row["step"] for row in _history(place / "run")]
    assert history == [row["step"] for row in _history(points)]


def test_a_run_on_four_devices_in_this_process(tmp_path, capsys):
    arguments = ["gaxn", *POINTS, f"--workdir={tmp_path / 'run'}"]
    assert main([*arguments, "--config.parallel=pmap"]) == 0
    assert main(arguments) == 0
    assert "is done" in capsys.readouterr().out


# ---------------------------------------------------------------- two processes


def _start_two(environment, workdir, *arguments):
    """Two processes with one device each, where one has two."""
    (port,) = free_ports()
    environment = {**environment, "JAX_NUM_CPU_DEVICES": "1"}
    cluster = [f"--coordinator=127.0.0.1:{port}", "--processes=2"]
    return [
        _start(environment, workdir, *arguments, *cluster, f"--process={index}")
        for index in range(2)
    ]


def _end(pair, timeout=600):
    """What they wrote, and their exit statuses; neither may hang."""
    format_figures = [process.communicate(timeout=timeout) for process in pair]
    return format_figures, [process.returncode for process in pair]


@pytest.mark.slow
def test_two_processes_are_one_whether_killed_or_stopped(environment, tmp_path):
    """Killed on two, stopped on two, ended on one: the run of one process with two devices."""
    workdir = tmp_path / "run"
    pair = _start_two(environment, workdir, *POINTS, *ENDLESS)
    _wait_until(lambda: _reached(workdir) > 0)
    pair[1].kill()
    format_figures, statuses = _end(pair)
    assert statuses == [LOST, -signal.SIGKILL] and format_figures[0][1].count("is gone") == 1, format_figures
    before = _reached(workdir)
    pair = _start_two(environment, workdir, *POINTS, *ENDLESS)
    _wait_until(lambda: _reached(workdir) > before)
    pair[1].send_signal(signal.SIGTERM)
    format_figures, statuses = _end(pair)
    assert statuses == [42, 42], format_figures
    # The first alone speaks; gloo says on any that it is connected.
    stopped = int(format_figures[0][0].split("saved at step ")[1].split(";")[0])
    assert [line for line in format_figures[1][0].splitlines() if not line.startswith("[Gloo]")] == []
    assert (workdir / "checkpoints" / str(stopped)).is_dir()
    # The step and every leaf of the state; pictures are rounded from other batches.
    whole = _end_beside(environment, workdir, POINTS)
    assert _outcome(workdir)[:2] == _outcome(whole)[:2]


def _end_beside(environment, workdir, config):
    """Ends a run a little after where it stands; the directory of one that nobody touched."""
    whole, steps = workdir.with_name("whole"), _reached(workdir) + 5
    for place in (workdir, whole):
        _run(environment, place, *config, *ENDLESS, f"--config.num_train_steps={steps}")
    return whole


@pytest.mark.soak
def test_forty_random_ends_of_two_processes_lose_nothing(environment, tmp_path):
    """SIGKILL and SIGTERM in turns, to either, at random moments from the first word on."""
    workdir, chance = tmp_path / "run", random.Random(40)
    for end in range(40):
        pair = _start_two(environment, workdir, IMAGES, *ENDLESS)
        # Gloo speaks, then the first: from here on each is watched by the other.
        assert any(not line.startswith("[Gloo]") for line in pair[0].stdout)
        time.sleep(chance.uniform(0, 12))
        victim, number = chance.randrange(2), (signal.SIGKILL, signal.SIGTERM)[end % 2]
        pair[victim].send_signal(number)
        began = time.monotonic()
        format_figures, statuses = _end(pair, 90)
        print(f"{number.name} to {victim}: {statuses} after {time.monotonic() - began:.1f} s")
        if number == signal.SIGTERM:
            assert statuses == [42, 42], format_figures
        else:
            # JAX aborts who is left by its coordinator, unless our line was faster.
            left = {LOST, -signal.SIGABRT} if victim == 0 else {LOST}
            assert statuses[victim] == -signal.SIGKILL
            assert statuses[1 - victim] in left, format_figures[1 - victim][1]
            assert format_figures[1 - victim][1].count("is gone") == 1, format_figures[1 - victim][1]
    whole = _end_beside(environment, workdir, [IMAGES])
    assert _outcome(workdir)[:2] == _outcome(whole)[:2]


@pytest.mark.slow
def test_what_is_wrong_for_two_processes_ends_both(environment, tmp_path):
    pair = _start_two(environment, tmp_path / "run", *POINTS, "--config.batch_size=7")
    format_figures, statuses = _end(pair)
    assert statuses == [2, 2]
    assert all("config.batch is 7" in errors for _, errors in format_figures)
    assert not (tmp_path / "run").exists()
