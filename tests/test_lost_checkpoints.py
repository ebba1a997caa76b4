"""A run without a checkpoint that can be read keeps its best one, and says so."""

import shutil

import pytest

from gaxn import commands
from gaxn.experiment import make_experiment
from gaxn.types import InputError

FIELDS = (
    *("population=1", "num_train_steps=4", "run.checkpoint_every=100", "run.sample_every=4"),
    *("evaluation.every=2", "evaluation.best=lowest modes/frechet_distance"),
)


@pytest.fixture
def experiment(ring):
    return make_experiment(ring(*FIELDS, variant="gan+tiny"), "ring")


@pytest.mark.slow
def test_a_best_checkpoint_survives_the_others(experiment, tmp_path):
    workdir = tmp_path / "run"
    assert commands.train(experiment, workdir) == 0
    history = (workdir / "metrics.jsonl").read_bytes()
    best = sorted(path.name for path in (workdir / "best").iterdir())
    for way in ("damaged", "gone"):
        if way == "damaged":
            for file in (workdir / "checkpoints").rglob("*"):
                if file.is_file():
                    file.write_bytes(file.read_bytes()[:5])
        else:
            shutil.rmtree(workdir / "checkpoints")
        with pytest.raises(InputError, match=r"no checkpoint that can be read, but a best one of"):
            commands.train(experiment, workdir)
        assert sorted(path.name for path in (workdir / "best").iterdir()) == best
        assert (workdir / "metrics.jsonl").read_bytes() == history
    shutil.rmtree(workdir / "best")
    assert commands.train(experiment, workdir) == 0
