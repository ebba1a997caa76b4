"""The record of a measurement says which code and packages were measured."""

import json
import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks import record

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone")
def test_a_record_names_the_commit_and_the_packages():
    facts = record.record("gaxn", "no-such-package")
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert facts["commit"].removesuffix("-dirty") == head
    versions = facts["versions"]
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == np.__version__
    assert versions["no-such-package"] is None
    assert facts["machine"]["cores"] >= 1
    assert facts["machine"]["memory_bytes"] > 2**28


def test_a_written_document_is_json(tmp_path):
    document = {"record": record.record(), "ratio": 1.5}
    record.write(tmp_path / "results" / "speed.json", document)
    assert json.loads((tmp_path / "results" / "speed.json").read_text()) == document
