"""A real Slurm of two nodes on this machine: a run is preempted, queued again, and goes on.

A node has one CPU: with a second one both jobs fit, and nothing is preempted.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ports import free_ports

ROOT = Path(__file__).parents[2]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
STEPS = 120
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}

CONFIGURATION = """\
ClusterName=gaxn
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
MailProg=/bin/true
AuthType=auth/munge
AuthInfo=socket={root}/run/munge.sock,cred_expire=5
CredType=cred/munge
SlurmctldPort={control}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmctldParameters=node_reg_mem_percent=1
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
ReturnToService=2
KillWait=5
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 Port={first} CPUs=1 RealMemory=2000 State=UNKNOWN
NodeName={host}b NodeAddr=127.0.0.1 Port={second} CPUs=1 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP PriorityTier=1 GraceTime=30 PreemptMode=REQUEUE
PartitionName=high Nodes=ALL State=UP PriorityTier=10 PreemptMode=OFF
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)) or os.geteuid() != 0,
        reason="needs root, and slurm-wlm and munge: apt-get install slurm-wlm munge",
    ),
]


def _wait_for(condition, seconds, description):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {description}"
        time.sleep(0.2)


@pytest.fixture
def slurm():
    """The environment variables for the commands of a cluster, which ends with the test."""
    # The path of a socket has to be short.
    root = Path(subprocess.check_output(["mktemp", "-d", "/tmp/slurm.XXXX"], text=True).strip())
    for name in ("run", "log", "state"):
        (root / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    control, first, second = free_ports(3)
    configuration = root / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(host=host, root=root, control=control, first=first, second=second)
    )
    key = root / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    files = {
        "key-file": key,
        "socket": root / "run" / "munge.sock",
        "pid-file": root / "run" / "munged.pid",
        "log-file": root / "log" / "munged.log",
        "seed-file": root / "munge.seed",
    }
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    try:
        flags = [f"--{name}={path}" for name, path in files.items()]
        subprocess.run(["munged", "--force", *flags], check=True)
        subprocess.run(["slurmctld", "-f", configuration, "-i"], check=True)
        for node in (host, f"{host}b"):
            (root / f"spool.{node}").mkdir()
            subprocess.run(["slurmd", "-N", node, "-f", configuration], check=True)

        def idle():
            command = ["sinfo", "-h", "-p", "main", "-o", "%T %D"]
            return subprocess.run(
                command, env=environment, capture_output=True, text=True
            ).stdout.split() == ["idle", "2"]

        _wait_for(idle, 60, "two idle nodes")
        yield environment
    finally:
        for path in (root / "run").glob("*.pid"):
            subprocess.run(["kill", path.read_text().strip()], check=False)
        time.sleep(1)
        shutil.rmtree(root, ignore_errors=True)


def _checksums(workdir, step):
    text = (workdir / "checkpoints" / str(step) / "checksums" / "metadata").read_text()
    return json.loads(text)


def test_a_preempted_job_goes_on_and_ends_as_the_uninterrupted_run(slurm, tmp_path):
    config = [
        f"--config={ROOT / 'configs' / 'attn_cgan_shapes.py'}:tiny",
        f"--config.num_train_steps={STEPS}",
        "--config.run.checkpoint_every=20",
        f"--config.run.sample_every={STEPS}",
        "--config.evaluation.metrics=('frechet',)",
        "--config.evaluation.memorization=False",
    ]
    environment = {
        **slurm,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
    workdir, log = tmp_path / "preempted", tmp_path / "log.txt"

    def submit(*arguments):
        command = ["sbatch", "--parsable", *arguments]
        return subprocess.check_output(command, env=environment, text=True, cwd=tmp_path).strip()

    def state(job):
        command = ["scontrol", "show", "job", job]
        text = subprocess.run(command, env=environment, capture_output=True, text=True).stdout
        words = dict(word.split("=", 1) for word in text.split() if "=" in word)
        return words.get("JobState"), int(words.get("Restarts", 0))

    script = ROOT / "launch" / "slurm.sbatch"
    job = submit("--nodes=2", f"--output={log}", script, *config, f"--workdir={workdir}")
    _wait_for((workdir / "checkpoints" / "20").exists, 240, "the first checkpoint")
    submit("--nodes=2", "-p", "high", "--output=/dev/null", "--wrap", "sleep 2")
    _wait_for(lambda: state(job)[1] == 1 or state(job)[0] in ENDED, 120, "the job queued again")
    # Slurm lets a job that is queued again wait for two minutes.
    command = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
    subprocess.run(command, env=environment, check=False)
    _wait_for(lambda: state(job)[0] in ENDED, 300, "the end of the job")
    text = log.read_text()
    assert state(job) == ("COMPLETED", 1), text
    assert "stopped and saved at step" in text and "ended with status 42" in text
    uninterrupted = tmp_path / "uninterrupted"
    subprocess.run(
        [sys.executable, "-m", "gaxn.main", *config, f"--workdir={uninterrupted}"],
        env={**environment, "JAX_NUM_CPU_DEVICES": "2"},
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=300,
    )
    assert _checksums(workdir, STEPS) == _checksums(uninterrupted, STEPS)
