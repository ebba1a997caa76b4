"""What processes agree on, and how they end."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import pytest
from ports import free_ports

from gaxn.experiment import make_experiment
from gaxn.data import batch_spec
from gaxn.distributed import multihost, sharding, watchdog
from gaxn.distributed.multihost import Cluster
from gaxn.main import main
from gaxn.training import cost
from gaxn.types import InputError

RING = Path(__file__).parents[2] / "configs" / "ring.py"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--processes=2", "--process=0"], "--coordinator is ''; valid is HOST:PORT"),
        (["--coordinator=host", "--processes=2", "--process=0"], "--coordinator is 'host'"),
        (["--coordinator=host:99999", "--processes=2", "--process=0"], "--coordinator is"),
        (["--coordinator=host:80"], "--processes is 0; valid is 1 or more"),
        (["--coordinator=host:80", "--processes=2"], "--process is -1; valid is 0 to 1"),
        (["--coordinator=host:80", "--processes=2", "--process=2"], "--process is 2; valid is 0"),
    ],
)
def test_a_wrong_cluster_is_one_clear_line(capsys, flags, message):
    assert main(["gaxn", "--config=configs/attn_cgan_shapes.py:tiny", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_one_process_joins_nobody(monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: pytest.fail("asked"))
    multihost.join(Cluster(), {"HOME": "/"})
    assert multihost.count() == 1 and multihost.is_first()
    multihost.barrier("nobody")
    assert not multihost.agree_to_stop(1)


@pytest.mark.parametrize("mark", multihost.SCHEDULERS.values())
def test_a_scheduler_is_asked_where_it_started_the_process(monkeypatch, mark):
    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **options: asked.append(options))
    multihost.join(Cluster(), {mark: "something"})
    assert asked == [multihost.WAITS]


@pytest.mark.parametrize(
    ("cluster", "environment", "count"),
    [
        (Cluster(), {}, 1),
        (Cluster("host:80", 3, 0), {}, 3),
        (Cluster(), {"SLURM_STEP_NODELIST": "a,b"}, 0),
        (Cluster("host:80", 3, 0), {"SLURM_STEP_NODELIST": "a,b"}, 3),
    ],
)
def test_how_many_are_expected(cluster, environment, count):
    assert multihost.expected(cluster, environment) == count


def test_who_is_not_found_is_one_clear_line(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED: nobody came\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(InputError, match=r"no cluster by host:80: DEADLINE_EXCEEDED: nobody came$"):
        multihost.join(Cluster("host:80", 2, 1), {})


STUCK = """
import time
from gaxn.distributed.watchdog import over_steps
with over_steps(0.5) as watchdog:
    for _ in range(4):
        time.sleep(0.3)
        watchdog.hear()
    print("alive", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_the_watchdog_ends_what_is_stuck_and_leaves_what_is_slow():
    started = time.monotonic()
    found = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True)
    assert found.returncode == watchdog.STUCK and found.stdout == "alive\n"
    assert "no step has ended for 0.5 s" in found.stderr and found.stderr.count("\n") == 1
    assert time.monotonic() - started < 45


@pytest.mark.slow
def test_the_watchdog_of_a_run_that_ended_is_quiet():
    code = STUCK.replace("    time.sleep(60)\n", "time.sleep(2)\n")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


LINKED = """
import sys, time
from gaxn import liveness, processes
port, index = sys.argv[1], int(sys.argv[2])
processes.join(processes.Cluster(f"127.0.0.1:{port}", 2, index))
with liveness.linked("127.0.0.1"):
    print("linked", file=sys.stderr, flush=True)
    time.sleep(60)
"""

# Processes that have done their work; one of them is late, which does not count as gone.
ENDING = """
import sys, time
from gaxn import liveness, processes
port, index, count, late = map(int, sys.argv[1:])
processes.join(processes.Cluster(f"127.0.0.1:{port}", count, index))
with liveness.linked("127.0.0.1"):
    processes.gather(b"done")
    if index == late:
        time.sleep(2 * liveness.GRACE)
processes.end(0)
"""

# A run that fails once it is told to.
FAILING = """
import sys
from gaxn import main, modes
port, index, config = sys.argv[1:]
main.build = lambda *_: None
def start(*_):
    print("linked", file=sys.stderr, flush=True)
    sys.stdin.readline()
    raise ValueError("of any kind")
modes.start = start
cluster = [f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process={index}"]
sys.exit(main.main(["gaxn", f"--config={config}", *cluster]))
"""


@pytest.fixture
def linked():
    """Starts two processes that are linked; ends them."""
    started = []

    def start(code, last):
        (port,) = free_ports()
        for index in range(2):
            command = [sys.executable, "-c", code, str(port), str(index), last]
            quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
            environment = {**os.environ, **quick}
            pipes = dict.fromkeys(("stdin", "stderr"), subprocess.PIPE)
            started.append(subprocess.Popen(command, text=True, env=environment, **pipes))
        return started

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_who_waits_for_a_killed_process_ends_with_one_line(linked, victim):
    pair = linked(LINKED, "waits")
    for process in pair:
        assert process.stderr.readline() == "linked\n"
    pair[victim].kill()
    killed = time.monotonic()
    _, errors = pair[1 - victim].communicate(timeout=60)
    assert time.monotonic() - killed < 15
    # JAX aborts who is left by its coordinator, unless our line was faster.
    ends = {watchdog.LOST, -signal.SIGABRT} if victim == 0 else {watchdog.LOST}
    assert pair[1 - victim].returncode in ends
    lines = errors.splitlines()
    assert lines.count(f"gaxn: process {victim} is gone; {watchdog.ONWARD}") == 1


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_an_error_is_ones_own_unless_another_process_is_gone(linked, killed):
    pair = linked(FAILING, f"{RING}:gan+tiny")
    for process in pair:
        assert process.stderr.readline() == "linked\n"
    if killed:
        pair[1].kill()
    _, errors = pair[0].communicate("\n", timeout=60)
    if killed:
        assert (pair[0].returncode, errors.count("process 1 is gone")) == (watchdog.LOST, 1)
        assert "Traceback" not in errors
    else:
        assert pair[0].returncode == 1
        assert "ValueError: of any kind" in errors and "gaxn: ValueError; see above" in errors


# One that comes alone, and has less patience than a cluster.
ALONE = """
import functools, sys
from gaxn import liveness, main
liveness.over_arrivals = functools.partial(liveness.over_arrivals, 3)
port, index, config = sys.argv[1:]
cluster = [f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process={index}"]
sys.exit(main.main(["gaxn", f"--config={config}", *cluster]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_who_waits_for_others_that_never_come_ends_with_one_line(index):
    command = [sys.executable, "-c", ALONE, str(*free_ports()), str(index), f"{RING}:gan+tiny"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert found.returncode == watchdog.LOST
    assert found.stderr == f"gaxn: not all processes have come within 3 s; {watchdog.ONWARD}\n"


# Those that train evaluate for long; those that evaluate begin it.
MEASURING = """
import sys, time
from gaxn import main, modes, outputs
port, index, last = sys.argv[1:]
mode, config, workdir = last.split()
def wait(*_):
    print("linked", file=sys.stderr, flush=True)
    time.sleep(60)
outputs.evaluate = wait
if mode == "evaluate":
    main.build = lambda *_: None
    modes.start = wait
cluster = [f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process={index}"]
flags = [f"--config={config}", f"--workdir={workdir}", f"--mode={mode}"]
sys.exit(main.main(["gaxn", *flags, *cluster]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_sigterm_ends_an_evaluation_of_several(linked, tmp_path, mode):
    pair = linked(MEASURING, f"{mode} {RING}:gan+tiny {tmp_path / 'run'}")
    for process in pair:
        assert any(line == "linked\n" for line in process.stderr)
    pair[1].terminate()
    _, errors = pair[0].communicate(timeout=60)
    assert (pair[0].returncode, errors.count("process 1 is gone")) == (watchdog.LOST, 1)
    assert pair[1].wait(timeout=60) == -signal.SIGTERM


def _ends(count, late):
    """Starts so many processes that end; their exit statuses, and what they wrote of it."""
    (port,) = free_ports()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", ENDING, *map(str, (port, index, count, late))],
            text=True,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for index in range(count)
    ]
    try:
        errors = [process.communicate(timeout=300)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [process.returncode for process in started], errors


@pytest.mark.slow
@pytest.mark.parametrize(("count", "late"), [(2, 0), (2, 1), (4, 2)])
def test_processes_that_are_done_end_with_0_whoever_is_late(count, late):
    assert _ends(count, late) == ([0] * count, [""] * count)


@pytest.mark.soak
@pytest.mark.parametrize(("groups", "count"), [(300, 2), (30, 4)])
def test_hundreds_of_groups_end_with_0(groups, count):
    """Twenty-four processes at a time: the load of one group is the others."""
    with ThreadPoolExecutor(24 // count) as pool:
        ends = list(pool.map(_ends, [count] * groups, (group % count for group in range(groups))))
    for group, (statuses, errors) in enumerate(ends):
        assert statuses == [0] * count, f"group {group}: {errors}"


@pytest.mark.slow
def test_the_sharded_step_sends_only_sums(tiny):
    """Every collective of the compiled step is an all-reduce, of about what is trained."""
    experiment = make_experiment(tiny(), "tiny", sharding.jitted(jax.devices()))
    state = jax.eval_shape(experiment.create, experiment.key)
    batches = batch_spec(experiment.train, (len(experiment.turns), experiment.batch))
    key = jax.ShapeDtypeStruct((), experiment.key.dtype)
    program = experiment.placement.step(experiment.step)
    kinds, sent = cost.collectives(program.lower(state, batches, key).compile().as_text())
    assert set(kinds) == {"all-reduce"}, kinds
    trained = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    statistics = sum(leaf.size for leaf in jax.tree.leaves(state.collections))
    turns = len(experiment.turns)
    assert 4 * trained <= sent <= 4 * (trained + 8 * turns * statistics + 100_000)
