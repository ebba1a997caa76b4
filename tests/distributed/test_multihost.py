"""Processes of one run: how they join, agree and end, and how the loss of one ends the others."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import pytest
from ports import free_ports
from processes import finish, running

from gaxn.data import batch_spec
from gaxn.distributed import multihost, sharding, watchdog
from gaxn.distributed.multihost import Cluster
from gaxn.experiment import make_experiment
from gaxn.main import find_lost_peer, main
from gaxn.training import cost
from gaxn.types import InputError

RING = Path(__file__).parents[2] / "configs" / "ring.py"
RING_CONFIG = f"--config={RING}:gan+tiny"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--processes=2", "--process=0"], "--coordinator must be HOST:PORT, got ''"),
        (
            ["--coordinator=host", "--processes=2", "--process=0"],
            "--coordinator must be HOST:PORT, got 'host'",
        ),
        (
            ["--coordinator=host:99999", "--processes=2", "--process=0"],
            "--coordinator must be HOST:PORT, got 'host:99999'",
        ),
        (["--coordinator=host:80"], "--processes must be 1 or more, got 0"),
        (["--coordinator=host:80", "--processes=2"], "--process must be 0 to 1, got -1"),
        (
            ["--coordinator=host:80", "--processes=2", "--process=2"],
            "--process must be 0 to 1, got 2",
        ),
    ],
)
def test_a_wrong_cluster_is_one_clear_line(capsys, flags, message):
    assert main(["gaxn", RING_CONFIG, *flags]) == 2
    assert capsys.readouterr().err == f"gaxn: {message}\n"


def test_one_process_does_not_join(monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: pytest.fail("joined"))
    multihost.join(Cluster(), {"HOME": "/"})
    assert multihost.count() == 1 and multihost.is_first()
    multihost.barrier("alone")
    assert not multihost.agree_to_stop(1)


@pytest.mark.parametrize("variable", multihost.SCHEDULERS.values())
def test_a_process_of_a_scheduler_joins_by_its_environment(monkeypatch, variable):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **options: calls.append(options))
    multihost.join(Cluster(), {variable: "something"})
    assert calls == [multihost.TIMEOUTS]


@pytest.mark.parametrize(
    ("cluster", "environment", "count"),
    [
        (Cluster(), {}, 1),
        (Cluster("host:80", 3, 0), {}, 3),
        (Cluster(), {"SLURM_STEP_NODELIST": "a,b"}, 0),
        (Cluster("host:80", 3, 0), {"SLURM_STEP_NODELIST": "a,b"}, 3),
    ],
)
def test_the_expected_count_is_that_of_the_flags_or_of_the_scheduler(cluster, environment, count):
    assert multihost.expected_count(cluster, environment) == count


def test_a_cluster_that_cannot_be_joined_is_one_clear_line(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED: timed out\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(InputError, match=r"no cluster by host:80: DEADLINE_EXCEEDED: timed out$"):
        multihost.join(Cluster("host:80", 2, 1), {})


SLOW_THEN_STUCK = """
import time
from gaxn.distributed.watchdog import step_watchdog
with step_watchdog(0.5) as watchdog:
    for _ in range(4):
        time.sleep(0.3)
        watchdog.reset()
    print("alive", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_the_watchdog_ends_a_stuck_process_but_not_a_slow_one():
    started = time.monotonic()
    with running("-c", SLOW_THEN_STUCK) as process:
        (end,) = finish(process)
    assert (end.returncode, end.stdout) == (watchdog.STUCK, "alive\n")
    assert watchdog.STUCK == 18
    assert "no step has ended for 0.5 s" in end.stderr and end.stderr.count("\n") == 1
    assert time.monotonic() - started < 45


@pytest.mark.slow
def test_the_watchdog_of_a_run_that_ended_does_nothing():
    code = SLOW_THEN_STUCK.replace("    time.sleep(60)\n", "time.sleep(2)\n")
    with running("-c", code) as process:
        (end,) = finish(process)
    assert (end.returncode, end.stderr) == (0, "")


def _raised(error, cause=None):
    """Returns an error that was raised from a cause."""
    error.__cause__ = cause
    return error


GLOO = "UNKNOWN: Gloo AllGather failed: Read error: Connection reset by peer"
BARRIER = "DEADLINE_EXCEEDED: Barrier timed out"
TIMED_OUT = TimeoutError("Timed out while waiting for a barrier")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (jax.errors.JaxRuntimeError(f"{GLOO}\nmore"), GLOO),
        (ValueError(GLOO), GLOO),
        (_raised(OSError("not written"), _raised(TIMED_OUT, RuntimeError(BARRIER))), BARRIER),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), ""),
        (jax.errors.JaxRuntimeError("INVALID_ARGUMENT: shapes"), ""),
        (ValueError("INTERNALS are of any kind"), ""),
        (_raised(OSError(28, "No space left on device"), ValueError("of any kind")), ""),
    ],
)
def test_the_loss_of_another_process_is_recognized_by_the_error(error, reason):
    assert find_lost_peer(error) == reason


# A run in which each process does something else. Only the first has a standard output.
RUN = """
import sys, time
from gaxn import commands, main
from gaxn.distributed import multihost
patch, *actions, config, workdir, mode, coordinator, count, index = sys.argv[1:]
def act(*_, **__):
    print("acts", file=sys.stderr, flush=True)
    exec(actions[multihost.index()])
    return 0
exec(patch)
flags = [config, workdir, mode, coordinator, count, index]
multihost.exit_together(main.main(["gaxn", *flags]))
"""
AT_THE_START = "main.make_run = lambda *_: None; commands.run = act"
IN_THE_EVALUATION = "commands.run_evaluation.evaluate = act"
SLEEP, GATHER, END = "time.sleep(120)", "multihost.gather_bytes(b'')", ""


def _start(workdir, patch, *actions, mode="train"):
    """Starts a run of one process per action."""
    flags = [RING_CONFIG, f"--workdir={workdir}", f"--mode={mode}"]
    return running("-c", RUN, patch, *actions, *flags, count=len(actions))


def _wait_for_actions(processes):
    for process in processes:
        assert any(line == "acts\n" for line in process.stderr)


def _check_aborted(process):
    """Checks that the loss of another process ends this one within 30 s."""
    started = time.monotonic()
    (end,) = finish([process], 30)
    print(f"{end.returncode} after {time.monotonic() - started:.1f} s")
    assert end.returncode == -signal.SIGABRT and "Traceback" not in end.stderr, end.stderr


@pytest.mark.slow
@pytest.mark.parametrize("action", [SLEEP, GATHER, END], ids=["busy", "gathers", "ends"])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_whatever_it_does(tmp_path, victim, action):
    actions = [action, action]
    actions[victim] = SLEEP
    with _start(tmp_path, AT_THE_START, *actions) as pair:
        _wait_for_actions(pair)
        pair[victim].kill()
        _check_aborted(pair[1 - victim])


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        ("ValueError('of any kind')", 1, "ValueError: of any kind\ngaxn: ValueError; see above\n"),
        ("OSError(28, 'No space left', 'file')", 2, "gaxn: No space left (file)\n"),
    ],
    ids=["bug", "disk"],
)
def test_an_error_of_one_process_is_reported_and_ends_the_other(
    tmp_path, index, error, status, message
):
    actions = [GATHER, GATHER]
    actions[index] = f"raise {error}"
    with _start(tmp_path, AT_THE_START, *actions) as pair:
        (end,) = finish([pair[index]])
        assert end.returncode == status and end.stderr.endswith(message), end.stderr
        _check_aborted(pair[1 - index])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "patch"),
    [("train", IN_THE_EVALUATION), ("evaluate", AT_THE_START)],
    ids=["train", "evaluate"],
)
def test_sigterm_ends_an_evaluation_of_several_processes(tmp_path, mode, patch):
    with _start(tmp_path / "run", patch, SLEEP, SLEEP, mode=mode) as pair:
        _wait_for_actions(pair)
        pair[1].terminate()
        assert pair[1].wait(60) == -signal.SIGTERM
        _check_aborted(pair[0])


# A process that waits for another one for 3 s instead of minutes.
ALONE = """
import functools, sys
from gaxn import main
from gaxn.distributed import watchdog
watchdog.join_watchdog = functools.partial(watchdog.join_watchdog, 3)
sys.exit(main.main(["gaxn", *sys.argv[1:]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_no_other_joins_ends_with_one_line(index):
    (port,) = free_ports()
    cluster = [f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process={index}"]
    with running("-c", ALONE, RING_CONFIG, *cluster) as process:
        (end,) = finish(process, 60)
    assert end.returncode == watchdog.NEVER_JOINED == 17
    assert end.stderr == f"gaxn: not all processes have come within 3 s; {watchdog.RESUME}\n"


# Processes that have done their work; one of them is late, which does not count as lost.
DONE = """
import sys, time
from gaxn.distributed import multihost
late, *flags = sys.argv[1:]
coordinator, count, index = (flag.partition("=")[2] for flag in flags)
multihost.join(multihost.Cluster(coordinator, int(count), int(index)))
multihost.gather_bytes(b"done")
if index == late:
    time.sleep(2 * multihost.GRACE)
multihost.exit_together(0)
"""


def _run_to_the_end(count, late):
    """Returns the exit statuses of a group of processes, and what they wrote as errors."""
    with running("-c", DONE, late, count=count) as processes:
        ends = finish(processes, 300)
    return [end.returncode for end in ends], [end.stderr for end in ends]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "late"), [(2, 0), (2, 1), (4, 2)])
def test_processes_that_are_done_end_with_0_whoever_is_late(count, late):
    assert _run_to_the_end(count, late) == ([0] * count, [""] * count)


@pytest.mark.soak
@pytest.mark.parametrize(("groups", "count"), [(300, 2), (30, 4)])
def test_hundreds_of_groups_end_with_0(groups, count):
    """Twenty-four processes at a time: the load of one group is the others."""
    late = (group % count for group in range(groups))
    with ThreadPoolExecutor(24 // count) as pool:
        ends = list(pool.map(_run_to_the_end, [count] * groups, late))
    for group, (statuses, errors) in enumerate(ends):
        assert statuses == [0] * count, f"group {group}: {errors}"


@pytest.mark.slow
def test_the_sharded_step_sends_only_sums(tiny):
    """Every collective of the compiled step is an all-reduce, of about what the gradients take."""
    experiment = make_experiment(tiny(), "tiny", sharding.jit_parallelism(jax.devices()))
    state = jax.eval_shape(experiment.create_state, experiment.key)
    updates = len(experiment.updates)
    batches = batch_spec(experiment.train_source, (updates, experiment.settings.batch_size))
    key = jax.ShapeDtypeStruct((), experiment.key.dtype)
    program = experiment.compiled_step.lower(state, batches, key).compile()
    kinds, sent = cost.collectives(program.as_text())
    assert set(kinds) == {"all-reduce"}, kinds
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    statistics = sum(leaf.size for leaf in jax.tree.leaves(state.collections))
    assert 4 * parameters <= sent <= 4 * (parameters + 8 * updates * statistics + 100_000)
