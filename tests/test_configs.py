"""Every config, shrunk: trains, stops, goes on, evaluates and draws."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaxn import arguments
from gaxn.main import main
from gaxn.modes import MODES

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
NAMES_OF_FILES = ('"idx"', '"stacked_mnist"')
OF_FILES = {path for path in CONFIGS if any(name in path.read_text() for name in NAMES_OF_FILES)}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_config_runs_to_its_end(config, tmp_path, capsys):
    if config in OF_FILES and "GAXN_DATA" not in os.environ:
        pytest.skip("GAXN_DATA names no directory")
    workdir = tmp_path / "run"
    command = ["gaxn", f"--config={config}:tiny", f"--workdir={workdir}"]
    shorter = ["--config.steps=4"] if '"steps"' in config.read_text() else []
    assert main([*command, *shorter]) == 0
    assert main(command) == 0
    capsys.readouterr()
    assert main(command) == 0
    assert "is done" in capsys.readouterr().out
    document = json.loads((workdir / "evaluation.json").read_text())
    assert document["name"] == config.stem
    drawn = list(workdir.rglob("*.png"))
    assert drawn and all(np.asarray(Image.open(path)).std() > 0 for path in drawn)
    if shorter:
        assert document["step"] == 8
        assert (workdir / "samples" / "step_00000008.png").exists()
        assert Image.open(workdir / "samples.gif").n_frames == 3


@pytest.mark.parametrize("size", ["", "half+", "quarter+"])
@pytest.mark.parametrize("packing", [2, 3, 4])
def test_a_batch_of_stacked_digits_is_one_of_packs(size, packing):
    file = f"--config={CONFIGS[0].parent / 'stacked_mnist.py'}:{size}pacdcgan{packing}"
    config = arguments.parse(["gaxn", file], MODES).config
    assert config.objective.packing == packing
    assert config.batch == packing * (128 if size else 64)
