"""Launch scripts with programs that stand in for a cluster; manifests; sweeps."""

import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import kubernetes_validate
import numpy as np
import pytest
import yaml

from gaxn import config
from gaxn.experiment.settings import defaults_of

LAUNCH = Path(__file__).parents[2] / "launch"
VERSION = "1.31"


def _manifest(name):
    return list(yaml.safe_load_all((LAUNCH / "kubernetes" / name).read_text()))


def _validate(document):
    kubernetes_validate.validate(document, VERSION, strict=True)


def _job_of(jobset):
    template = jobset["spec"]["replicatedJobs"][0]["template"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **template}


def _jobs():
    _, job = _manifest("job.yaml")
    (jobset,) = _manifest("jobset.yaml")
    return {"job": job, "jobset": _job_of(jobset)}


def test_manifests_are_valid():
    for document in (*_manifest("job.yaml"), *_jobs().values()):
        _validate(document)


@pytest.mark.parametrize("path", [("spec",), ("spec", "template", "spec")])
@pytest.mark.parametrize("name", ["job", "jobset"])
def test_a_misspelled_field_is_refused(name, path):
    document = fields = json.loads(json.dumps(_jobs()[name]))
    for field in path:
        fields = fields[field]
    fields["completionMod"] = "Indexed"
    with pytest.raises(kubernetes_validate.ValidationError, match="completionMod"):
        _validate(document)


def test_a_jobset_has_only_fields_of_its_reference():
    """Reference: jobset.x-k8s.io/v1alpha2."""
    (jobset,) = _manifest("jobset.yaml")
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2" and jobset["kind"] == "JobSet"
    spec = jobset["spec"]
    assert set(spec) <= {
        "replicatedJobs",
        "network",
        "successPolicy",
        "failurePolicy",
        "startupPolicy",
        "suspend",
        "coordinator",
        "managedBy",
        "ttlSecondsAfterFinished",
    }
    assert set(spec["network"]) <= {"enableDNSHostnames", "subdomain", "publishNotReadyAddresses"}
    assert set(spec["failurePolicy"]) <= {"maxRestarts", "rules", "restartStrategy"}
    (replicated,) = spec["replicatedJobs"]
    assert set(replicated) <= {"name", "replicas", "template", "dependsOn", "groupName"}


@pytest.mark.parametrize("name", ["job", "jobset"])
def test_every_pod_of_a_job_takes_part(name):
    spec = _jobs()[name]["spec"]
    command = spec["template"]["spec"]["containers"][0]["command"]
    assert spec["completions"] == spec["parallelism"] == 2
    assert f"--processes={spec['completions']}" in command
    assert "--process=$(JOB_COMPLETION_INDEX)" in command
    # The working directory of the container has configs/.
    words = [word.replace("$(JOB_COMPLETION_INDEX)", "1") for word in command[2:]]
    words = [word.replace("=configs/", f"={LAUNCH.parent}/configs/") for word in words]
    cluster = config.parse(words, defaults_of).cluster
    assert (cluster.count, cluster.index) == (2, 1)
    cluster.check()


# ---------------------------------------------------------------- programs that stand in for Slurm


@pytest.fixture
def slurm(tmp_path):
    """A function that starts the batch script; its argument is the body of `srun`."""
    programs = tmp_path / "programs"
    programs.mkdir()

    def write(name, text):
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (programs / name).chmod(0o755)

    write("scontrol", f'echo "$@" >> {tmp_path}/requeued')

    def start(srun, *arguments, **environment):
        write("srun", f'printf "%s\\n" "$@" > {tmp_path}/command\n{srun}')
        return subprocess.Popen(
            ["bash", LAUNCH / "slurm.sbatch", *arguments],
            env={
                **os.environ,
                "PATH": f"{programs}:{os.environ['PATH']}",
                "SLURM_JOB_ID": "7",
                "SLURM_JOB_NAME": "gaxn",
                **environment,
            },
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"),
    [
        (0, 0, False),
        (2, 0, False),
        (42, 0, True),
        (42, 99, True),
        (17, 0, True),
        (134, 0, True),
        (134, 9, True),
        (134, 10, False),
        (137, 3, True),
    ],
)
def test_the_status_of_its_tasks_decides_whether_a_job_is_queued_again(
    slurm, tmp_path, status, restarts, requeued
):
    process = slurm(f"exit {status}", "--config", "x.py", SLURM_RESTART_COUNT=str(restarts))
    process.communicate(timeout=30)
    assert process.returncode == status
    assert (tmp_path / "requeued").exists() == requeued
    if requeued:
        assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    command = (tmp_path / "command").read_text().splitlines()
    assert command[-4:] == ["-m", "gaxn.main", "--config", "x.py"]


def test_a_task_of_an_array_trains_its_seed(slurm, tmp_path):
    slurm("exit 0", "--config", "x.py", SLURM_ARRAY_TASK_ID="3").communicate(timeout=30)
    command = (tmp_path / "command").read_text().splitlines()
    assert command[-2:] == ["--config.seed=3", "--workdir=runs/gaxn/seed_3"]


def test_the_script_waits_for_tasks_that_save(slurm, tmp_path):
    save = f"trap 'sleep 1; touch {tmp_path}/saved; exit 42' TERM; touch {tmp_path}/on; "
    process = slurm(save + "while :; do sleep 0.05; done")
    end = time.monotonic() + 20
    while not (tmp_path / "on").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 42
    assert (tmp_path / "saved").exists() and (tmp_path / "requeued").exists()


# ---------------------------------------------------------------- other scripts


def test_scripts_refuse_wrong_arguments_in_one_line():
    for script, *arguments in (
        ["local.sh"],
        ["local.sh", "two"],
        ["local.sh", "0"],
        ["tpu_pod.sh", "x"],
        ["measure.sh"],
        ["measure.sh", "folder", "long"],
    ):
        command = ["bash", LAUNCH / script, *arguments]
        process = subprocess.run(command, capture_output=True, text=True)
        assert process.returncode == 2
        assert re.fullmatch(rf"launch/{script}: .* must be .*, got .*\n", process.stderr)


@pytest.mark.slow
def test_the_measurements_of_a_gpu_run_in_their_smallest_form(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(LAUNCH.parent), "JAX_PLATFORMS": "cpu"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.run(
        ["bash", LAUNCH / "measure.sh", tmp_path, "--tiny"],
        env=environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    for name in ("race_cpu", "race_cpu_deterministic"):
        rows = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
        assert rows["DCGAN, MNIST"]["gaxn"]["seconds"] > 0
    assert (tmp_path / "stacked_mnist" / "quarter+dcgan+tiny" / "evaluation.json").exists()


def test_the_status_of_several_processes_is_that_of_the_first_that_failed(tmp_path):
    python = tmp_path / "python"
    # Of three processes the last is killed, and the second aborts.
    python.write_text(
        '#!/usr/bin/env bash\ncase "${@: -1}" in 0) ;; 1) exit 134 ;; 2) exit 137 ;; esac'
    )
    python.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "GAXN_PORT": "1"}
    command = ["bash", LAUNCH / "local.sh", "3", "--config", "x.py"]
    assert subprocess.run(command, env=environment, timeout=30).returncode == 134


@pytest.mark.parametrize("state", ["NONE", "ACTIVE", "SUSPENDED"])
def test_a_tpu_slice_is_requested_once_and_all_its_workers_train(tmp_path, state):
    calls, state_file = tmp_path / "calls", tmp_path / "state"
    state_file.write_text(state)
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(
        f"""#!/usr/bin/env bash
echo "$@" >> {calls}
case "$*" in
    *describe*) [[ $(cat {state_file}) == NONE ]] && exit 1; cat {state_file} ;;
    *create*) echo ACTIVE > {state_file} ;;
esac
"""
    )
    gcloud.chmod(0o755)
    subprocess.run(
        [
            "bash",
            LAUNCH / "tpu_pod.sh",
            "mine",
            "zone",
            "v4-16",
            "base",
            "gs://bucket/x",
            "--config",
            "configs/a b.py",
        ],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=True,
        timeout=60,
    )
    lines = calls.read_text().splitlines()
    assert sum("queued-resources create mine" in line for line in lines) == (state != "ACTIVE")
    assert sum("queued-resources delete mine" in line for line in lines) == (state == "SUSPENDED")
    assert all("--worker=all" in line for line in lines if " ssh " in line or " scp " in line)
    command = r"GAXN_TPU_SLICE=1 ../venv/bin/python -m gaxn.main --config configs/a\ b.py"
    assert command in lines[-1]
    assert any(
        "$HOME/.local/bin/uv venv -q --allow-existing --python 3.12" in line for line in lines
    )
    # gcsfuse mounts a bucket, of it a folder, and renames folders only by a flag.
    (mount,) = (line for line in lines if "gcsfuse" in line)
    assert "--rename-dir-limit" in mount and "--only-dir x bucket /mnt/runs" in mount


# ---------------------------------------------------------------- sweeps


@pytest.fixture(scope="module")
def sweep():
    spec = importlib.util.spec_from_file_location("sweep", LAUNCH / "sweep.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["sweep"] = module
    spec.loader.exec_module(module)
    return module


COMMAND = [
    "--config",
    "configs/attn_cgan_shapes.py:tiny",
    "--set",
    "batch_size=32,64",
    "--seeds",
    "1-3",
]


def test_a_sweep_is_every_combination_once(sweep, tmp_path, capsys):
    weights = ["--set", "penalties.r1.weight=0.1,1.0"]
    assert sweep.main(["--runs", str(tmp_path), *COMMAND, *weights]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) == 2 * 2 * 3
    places = {re.search(r"--workdir=(\S+)", line)[1] for line in lines}
    assert len(places) == 12
    for line in lines:
        batch, r1, seed = (
            re.search(rf"--config.{field}=(\S+)", line)[1]
            for field in ("batch_size", "penalties.r1.weight", "seed")
        )
        assert f"batch_size={batch},penalties.r1.weight={r1}/seed_{seed}" in line


PENALTIES = "{'r1': {'weight': 1.0, 'interval': 4}}"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("(64,32)", ["(64,32)"]),
        ("(64,32),(32,16)", ["(64,32)", "(32,16)"]),
        (f"{PENALTIES},{{}}", [PENALTIES, "{}"]),
        ("'a,(b',c", ["'a,(b'", "c"]),
        ("1,2", ["1", "2"]),
    ],
)
def test_values_with_brackets_are_not_split(sweep, tmp_path, capsys, values, expected):
    assert sweep.main(["--runs", str(tmp_path), "--config", "c.py", "--set", f"x={values}"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [line[5] for line in lines] == [f"--config.x={value}" for value in expected]


def test_the_array_of_a_sweep_runs_the_commands(sweep, tmp_path, capsys):
    script = tmp_path / "sweep.sbatch"
    assert sweep.main(["--runs", str(tmp_path / "my runs"), *COMMAND, "--slurm", str(script)]) == 0
    assert "#SBATCH --array=0-5\n" in script.read_text()
    capsys.readouterr()
    sweep.main(["--runs", str(tmp_path / "my runs"), *COMMAND])
    expected = capsys.readouterr().out.splitlines()
    srun = tmp_path / "srun"
    command = tmp_path / "command"
    srun.write_text(f'#!/usr/bin/env bash\nshift 2\nprintf "%q " "$@" > {command}\n')
    srun.chmod(0o755)
    for index in (0, 5):
        subprocess.run(
            ["bash", script],
            env={
                **os.environ,
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "SLURM_ARRAY_TASK_ID": str(index),
                "SLURM_JOB_ID": "7",
            },
            check=True,
            timeout=30,
        )
        assert shlex.split(command.read_text()) == shlex.split(expected[index])


def _evaluated(path, value, metrics="all"):
    path.mkdir(parents=True)
    part = {
        "figures": {"fid": value, "fid_error": 9.0},
        "protocol": {"metrics": metrics, "seed": 1},
    }
    (path / "evaluation.json").write_text(json.dumps({"name": "x", "step": 1, "classifier": part}))


def test_the_table_of_a_sweep_has_means_over_seeds(sweep, tmp_path, capsys):
    values = {32: [1.0, 2.0, 6.0], 64: [3.0]}
    for batch, each in values.items():
        for seed, value in enumerate(each, 1):
            _evaluated(
                tmp_path / f"attn_cgan_shapes,tiny,batch_size={batch}" / f"seed_{seed}", value
            )
    assert sweep.main(["--runs", str(tmp_path), *COMMAND, "--table"]) == 0
    document = json.loads((tmp_path / "sweep.json").read_text())
    for batch, each in values.items():
        row = document[f"attn_cgan_shapes,tiny,batch_size={batch}"]
        assert row["seeds"] == len(each)
        fid = row["figures"]["classifier/fid"]
        assert fid["mean"] == np.mean(each)
        error = np.std(each, ddof=1) / np.sqrt(len(each)) if len(each) > 1 else 0
        np.testing.assert_allclose(fid["error"], error)
    assert (tmp_path / "sweep.md").read_text() == capsys.readouterr().out


def test_runs_of_different_protocols_are_not_averaged(sweep, tmp_path, capsys):
    for seed, metrics in ((1, "all"), (2, "some")):
        _evaluated(tmp_path / "attn_cgan_shapes,tiny,batch_size=32" / f"seed_{seed}", 1.0, metrics)
    assert sweep.main(["--runs", str(tmp_path), *COMMAND, "--table"]) == 2
    assert "measured in another way" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "3-1"], "--seeds must be N, or FIRST-LAST, got '3-1'"),
        (["--set", "a=(1,2"], r"--set must be values with closed brackets, got '\(1,2'"),
        (["--set", "a=1,"], "--set must be values with closed brackets, got '1,'"),
        (["--set", "seed"], "--set must be FIELD=VALUE.*, got 'seed'"),
        (["--set", "batch_size=1"], "--set must be given once per field, got 'batch_size=1'"),
        (["--seeds", "1", "--set", "num_train_steps=4,4"], "the directories .* must be of one run"),
        (["--local", "0"], "--local must be 1 or more, got 0"),
        (["--table"], "no run of the sweep has been evaluated"),
        (["--tables"], "unrecognized arguments|--tables"),
    ],
)
def test_a_wrong_sweep_is_one_clear_line(sweep, tmp_path, capsys, flags, message):
    assert sweep.main(["--runs", str(tmp_path), *COMMAND, *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
