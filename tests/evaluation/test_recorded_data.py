"""Samples of a run are drawn without its data, of which config.json says enough."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import gaxn
from gaxn import config as configs
from gaxn.experiment import make_experiment
from gaxn.experiment.settings import defaults_of
from gaxn.io import run_directory
from gaxn.io.checkpoints import Checkpoints
from gaxn.main import main
from gaxn.training import restore

CONFIG = Path(__file__).parents[2] / "configs" / "sagan_folder.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a checkpoint, on two classes, and the folder of its data."""
    root = tmp_path_factory.mktemp("recorded")
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / "data" / name).mkdir(parents=True)
        for index in range(12):
            pixels = random.integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(root / "data" / name / f"{index}.png")
    argv = ["gaxn", f"--config={CONFIG}:conditional+tiny", f"--config.data.path={root / 'data'}"]
    small = "data.size=16", "generator.widths=(8,)", "discriminator.widths=(8, 8)"
    flags = [f"--config.{flag}" for flag in (*small, "generator.attention_at=()")]
    config = configs.parse([*argv, *flags, "--config.discriminator.attention_at=()"], defaults_of)
    experiment = make_experiment(config.config, "sagan_folder")
    record = {"name": "sagan_folder", "data": experiment.data_record}
    workdir = root / "run"
    with (
        run_directory.open_run(workdir, experiment.config, restore.FREE_FIELDS, record),
        Checkpoints(workdir / "checkpoints", 1) as checkpoints,
    ):
        checkpoints.save(1, jax.device_get(experiment.create_state(experiment.key)))
    return workdir, root / "data"


@pytest.mark.slow
def test_samples_and_interpolations_need_no_data(run, capsys):
    workdir, data = run
    pictures = []
    for _ in range(2):
        for mode in ("sample", "interpolate"):
            assert main(["gaxn", f"--workdir={workdir}", f"--mode={mode}"]) == 0
        paths = workdir / "sample.png", workdir / "interpolation" / "classes.png"
        pictures.append([path.read_bytes() for path in paths])
        shutil.rmtree(data, ignore_errors=True)
    assert pictures[0] == pictures[1] and not data.exists()
    output = workdir.parent / "samples"
    command = ["gaxn", f"--workdir={workdir}", "--mode=generate", f"--output={output}"]
    assert main([*command, "--count=5", "--class_folders"]) == 0
    names = sorted(str(path.relative_to(output)) for path in output.glob("*/*"))
    cats, dogs = [f"cat/{n:06d}.png" for n in (0, 2, 4)], [f"dog/{n:06d}.png" for n in (1, 3)]
    assert names == cats + dogs
    samples = [np.asarray(Image.open(output / name)) for name in names]
    assert all(sample.shape == (16, 16, 3) for sample in samples)
    assert len({sample.tobytes() for sample in samples}) == 5
    loaded = gaxn.load(workdir)
    assert loaded.class_names == ("cat", "dog")
    np.testing.assert_array_equal(loaded.sample([3], labels="dog")[0], samples[-1])
    capsys.readouterr()
    assert main(["gaxn", f"--workdir={workdir}", "--mode=evaluate"]) == 2
    assert "config.data.path" in capsys.readouterr().err
