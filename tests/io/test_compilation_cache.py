"""Compiled programs are stored for later processes, and no damage to them ends a run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from gaxn.io import compilation_cache

ROOT = Path(__file__).parents[2]

COUNTED = """
import collections, json, sys
import jax
counts = collections.Counter()
def count(event, **_):
    counts[event.rpartition("/")[2]] += 1
jax.monitoring.register_event_listener(count)
"""

PROGRAM = (
    COUNTED
    + """
import logging
from gaxn.io import compilation_cache
logging.basicConfig(format="gaxn: %(message)s", level=logging.WARNING)
compilation_cache.enable()
@jax.jit
def doubled(x):
    return 2 * x
assert int(doubled(21)) == 42
print(json.dumps([counts["cache_hits"], counts["cache_misses"]]))
"""
)

RUN = (
    COUNTED
    + """
from gaxn.main import main
status = main(["gaxn", *sys.argv[1:]])
print(json.dumps([counts["cache_hits"], counts["cache_misses"]]))
sys.exit(status)
"""
)


def _start(code, cache, *arguments):
    """Returns [cache hits, cache misses] of a new process, and its stderr."""
    environment = {**os.environ, "GAXN_CACHE": str(cache), "JAX_PLATFORMS": "cpu"}
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"):
        environment.pop(name, None)
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1]), result.stderr


@pytest.mark.slow
def test_a_damaged_program_is_compiled_again_and_replaced(tmp_path):
    assert _start(PROGRAM, tmp_path) == ([0, 1], "")
    (program,) = tmp_path.rglob("jit_doubled-*")
    content = program.read_bytes()
    assert _start(PROGRAM, tmp_path) == ([1, 0], "")
    damages = {
        "cut off": content[: len(content) // 2],
        "a flipped bit": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "empty": b"",
    }
    for damaged in damages.values():
        program.write_bytes(damaged)
        counts, errors = _start(PROGRAM, tmp_path)
        assert counts == [0, 1]
        expected = "gaxn: warning: the kept program jit_doubled is damaged; it is compiled again\n"
        assert errors == expected
    assert _start(PROGRAM, tmp_path) == ([1, 0], "")


def test_a_directory_that_cannot_be_created_gives_one_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    counts, errors = _start(PROGRAM, tmp_path / "file")
    assert counts == [0, 0]
    (line,) = errors.splitlines()
    assert line.startswith("gaxn: warning: compiled programs cannot be kept in ")
    assert line.endswith("(Not a directory)")


@pytest.mark.slow
def test_a_directory_that_cannot_be_written_is_read(tmp_path):
    _start(PROGRAM, tmp_path)
    binding = ["mount", "--bind", tmp_path, tmp_path]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(binding).returncode:
        pytest.skip("cannot mount a directory here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path], check=True)
        counts, errors = _start(PROGRAM, tmp_path)
        other_counts, other_errors = _start(PROGRAM.replace("2 * x", "x + x"), tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert (counts, other_counts) == ([1, 0], [0, 0])
    for text in (errors, other_errors):
        assert text.count("\n") == 1 and "(Read-only file system)" in text


def test_the_oldest_programs_are_removed(tmp_path):
    for age, name in enumerate(("new", "middle", "old")):
        path = tmp_path / name
        path.write_bytes(b"x" * 100)
        os.utime(path, (1_000 - age, 1_000 - age))
    compilation_cache.remove_oldest(tmp_path, 299)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "middle"}
    compilation_cache.remove_oldest(tmp_path, 200)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "middle"}
    compilation_cache.remove_oldest(tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_the_user_chose_is_not_replaced(monkeypatch, tmp_path):
    monkeypatch.setenv("GAXN_CACHE", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    assert before
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir == before and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_second_start_compiles_nothing_and_changes_nothing(tmp_path):
    def start(name, *flags):
        workdir = tmp_path / name
        arguments = ["--config=configs/attn_cgan_shapes.py:tiny", f"--workdir={workdir}", *flags]
        counts, errors = _start(RUN, tmp_path / "cache", *arguments)
        assert "warning: compiled" not in errors and "warning: the kept" not in errors
        (sums,) = workdir.glob("checkpoints/8/checksums/metadata")
        samples = (workdir / "samples" / "step_00000008.png").read_bytes()
        document = json.loads((workdir / "evaluation.json").read_text())
        return counts, (json.loads(sums.read_text()), samples, document["classifier"]["figures"])

    (hits, compiled), cold = start("cold")
    assert compiled > 20
    (hits, compiled), warm = start("warm")
    assert hits > 20 and compiled == 0
    (hits, compiled), without = start("without", "--nocompilation_cache")
    assert hits == compiled == 0
    assert cold == warm == without
