"""Every mistake of a user's is one clear line and exit status 2, and harms nothing."""

import json
from pathlib import Path

import pytest

from gaxn.main import main

CONFIG = Path(__file__).parents[1] / "configs" / "attn_cgan_shapes.py"

OVERRIDES = {
    # override: what the line has to say
    "sed=1": ["config.sed is unknown", "seed"],
    "generator.width=(8,)": ["config.generator.width is unknown", "widths"],
    "seed=x": ["config.seed is 'x'", "int"],
    "seed=-1": ["config.seed is -1", "0 to 2^32"],
    "num_train_steps=0": ["config.steps is 0", "1 or more"],
    "batch_size=6": ["config.batch is 6", "multiple of the 4 devices"],
    "ema_decay=1.5": ["config.ema_decay is 1.5", "below 1"],
    "parallel=pmpa": ["config.parallel is 'pmpa'", "pmap"],
    "accumulation_steps=3": ["config.accumulate is 3", "a divisor of config.batch, 8"],
    "accumulation_steps=0": ["config.accumulate is 0", "a divisor of config.batch, 8"],
    "accumulation_steps=4": ["config.batch is 8", "4 devices times config.accumulate, 4"],
    "dtype=float16": ["config.dtype is 'float16'", "bfloat16"],
    "dtype=bfloat16": ["config.dtype is 'bfloat16'", "float32"],
    "discriminator_steps=0": ["config.critic_turns is 0", "1 or more"],
    "generator_steps=0": ["config.generator_turns is 0", "1 or more"],
    "regularizers={'lekam': {}}": ["config.regularizers", "lecam"],
    "regularizers={'lecam': {'wieght': 1.0}}": ["config.regularizers.lecam.wieght", "weight"],
    "objective.packing=2": ["config.objective.packing is 2", "1 with labels"],
    "objective.top_share=0.0": ["config.objective.top_share is 0.0", "0 < share <= 1"],
    "generator.widths=(8,'a')": ["config.generator.widths", "tuple[int, ...]"],
    "generator.widths=(8,8,8,8,8,8)": ["widths has 6 entries", "halved 5 times"],
    "generator.attention_at=(12,)": ["attention_at has 12", "(8, 16, 32)"],
    "generator.heads=3": ["heads is 3", "divide"],
    "generator.name=attn_cgan.Generater": ["config.generator.name", "Generator"],
    "discriminator.name=atn_cgan.Discriminator": ["config.discriminator.name", "attn_cgan"],
    "gan.latent_size=x": ["config.game.latent is 'x'", "int"],
    "loss.name=hing": ["config.loss.name is 'hing'", "hinge"],
    "loss={'name': 'non_saturating', 'real_target': 2.0}": ["real_target is 2.0", "<= 1"],
    "loss={'name': 'hinge', 'margin': 2.0}": ["config.loss.margin is unknown"],
    "penalties={'r3': 1.0}": ["config.penalties.r3", "r1"],
    "penalties={'r1': -1.0}": ["config.penalties.r1 is -1.0", "0 or more"],
    "augmentations={'translatoin': {}}": ["config.augmentations", "translation"],
    "augmentations={'translation': {'ratio': 3.0}}": ["ratio is 3.0", "0 to 1"],
    "optimizers.generator.name=adm": ["config.optimizers.generator.name is 'adm'"],
    "optimizers.generator.learning_rate=-1": ["learning_rate is -1", "above 0"],
    "optimizers.discriminator.b1=1.0": ["config.optimizers.discriminator.b1 is 1.0", "below 1"],
    "data.name=shape": ["config.data.name is 'shape.Source'", "shapes"],
    "data.background=red": ["config.data.background is 'red'", "dark or random"],
    "data.size=8": ["config.data.size is 8", "16 or more"],
    "data={'name': 'folder', 'path': 'nowhere'}": ["config.data.path is 'nowhere'", "GAXN_DATA"],
    "data={'name': 'tfds', 'dataset': 'mnits'}": ["config.data.dataset is 'mnits'", "mnist"],
    "evaluation.samples=1": ["config.evaluation.samples is 1", "10 or more"],
    "evaluation.reference_count=5": ["config.evaluation.reference_count is 5", "0, for all"],
    "evaluation.metrics=('frechett',)": ["config.evaluation.metrics is 'frechett'", "frechet"],
    "evaluation.metrics=('neighbors',)": ["config.evaluation.metrics", "frechet"],
    "evaluation.preprocessing=tff": ["config.evaluation.preprocessing is 'tff'", "clean"],
    "evaluation.weights=mean": ["config.evaluation.weights is 'mean'", "ema or raw"],
    "evaluation.statistics=batch": ["config.evaluation.statistics is 'batch'", "running"],
    "evaluation.checkpoint=first": ["config.evaluation.checkpoint is 'first'", "or a step"],
    "evaluation.every=-1": ["config.evaluation.every is -1", "0, for never"],
    "evaluation.interim_samples=3": ["config.evaluation.interim_samples is 3", "10 or more"],
    "evaluation.best=frechet_distance": ["config.evaluation.best", "lowest or highest"],
    "evaluation.truncation=-1.0": ["config.evaluation.truncation is -1.0", "0 for none"],
    "run.log_every=0": ["config.run.log_every is 0", "1 or more"],
    "run.checkpoint_every=0": ["config.run.checkpoint_every is 0", "1 or more"],
    "run.keep=0": ["config.run.keep is 0", "1 or more"],
}


def _refused(capsys, *arguments: str) -> str:
    """The one line with which a command is refused."""
    assert main(["gaxn", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gaxn: ")
    assert "Traceback" not in line
    return line


@pytest.mark.parametrize("override", OVERRIDES)
def test_overrides(capsys, tmp_path, override):
    workdir = tmp_path / "run"
    line = _refused(
        capsys, f"--config={CONFIG}:tiny", f"--workdir={workdir}", f"--config.{override}"
    )
    for part in OVERRIDES[override]:
        assert part in line
    assert not workdir.exists()


COMMANDS = {
    "no config": ([], "--config is missing"),
    "no such config": (["--config=configs/nothing.py"], "no such file"),
    "no such variant": ([f"--config={CONFIG}:tny"], "variant is 'tny'; this config has tiny"),
    "no such mode": ([f"--config={CONFIG}", "--mode=trian"], "train"),
    "no such flag": ([f"--config={CONFIG}", "--wrkdir=x"], "workdir"),
    "a word too many": ([f"--config={CONFIG}", "now"], "'now' is not understood"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(capsys, name):
    arguments, part = COMMANDS[name]
    assert part in _refused(capsys, *arguments)


def test_a_config_that_does_not_run_is_named(capsys, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("def get_config():\n    return 1 / 0\n")
    assert "ZeroDivisionError" in _refused(capsys, f"--config={broken}")


@pytest.mark.parametrize("mode", ["evaluate", "sample", "interpolate"])
def test_nothing_trained_yet(capsys, tmp_path, mode):
    line = _refused(capsys, f"--config={CONFIG}:tiny", f"--workdir={tmp_path}", f"--mode={mode}")
    assert "holds no run" in line


def test_another_config_in_the_same_directory(capsys, tiny, tmp_path):
    there = {**tiny().to_dict(), "seed": 7}
    (tmp_path / "config.json").write_text(json.dumps({"config": there}))
    line = _refused(capsys, f"--config={CONFIG}:tiny", f"--workdir={tmp_path}")
    assert "seed (7 there, 0 here)" in line
    assert json.loads((tmp_path / "config.json").read_text())["config"]["seed"] == 7


def test_a_directory_that_is_a_file(capsys, tmp_path):
    (tmp_path / "run").write_text("mine")
    line = _refused(capsys, f"--config={CONFIG}:tiny", f"--workdir={tmp_path / 'run'}")
    assert "cannot be written" in line
    assert (tmp_path / "run").read_text() == "mine"


def test_a_scalar_that_is_not_finite(capsys, tmp_path):
    line = _refused(
        capsys,
        f"--config={CONFIG.with_name('ring.py')}:gan+tiny",
        f"--workdir={tmp_path / 'run'}",
        "--config.population=1",
        "--config.optimizers.generator.learning_rate=1e30",
        "--config.run.checkpoint_every=1",
    )
    assert " at step " in line and (" is nan" in line or " is inf" in line)
    step = int(line.split(" at step ")[1].split(";")[0])
    kept = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept and max(kept) < step
