"""Writers get each step once, however often a run is resumed, and their failure ends no run."""

import json
import os
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from processes import finish, running
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from gaxn import commands
from gaxn.distributed import multihost
from gaxn.experiment import make_experiment
from gaxn.io import files, writers
from gaxn.io.writers import JsonLines, Writer, Writers
from gaxn.main import main
from gaxn.training import loop
from gaxn.types import InputError

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = {"seed": 3, "sizes": [1, 2], "data": {"name": "shapes"}, "loss": {}}
PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def _events(folder):
    """Returns all events of all files, whatever a reader would hide."""
    paths = sorted(folder.glob("*.tfevents.*"))
    return [event for path in paths for event in LegacyEventFileLoader(str(path)).Load()]


def _counts(folder):
    """Returns how often each tag has each step."""
    events = _events(folder)
    return Counter((value.tag, event.step) for event in events for value in event.summary.value)


def _read(folder):
    accumulator = EventAccumulator(str(folder), {"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def test_tensorboard_has_scalars_pictures_and_the_config(tmp_path):
    writer = writers.tensorboard(tmp_path, "points", -1)
    writer.config(CONFIG)
    writer.picture(0, "samples", PICTURE)
    writer.scalars(0, {"diagnostics/diversity": 0.5})
    writer.scalars(2, {"d/loss": 1.25, "g/loss": -3.0})
    # Before it is closed, so a reader sees a run that goes on.
    reader = _read(tmp_path / "tensorboard")
    assert sorted(reader.Tags()["scalars"]) == ["d/loss", "diagnostics/diversity", "g/loss"]
    assert [(event.step, event.value) for event in reader.Scalars("g/loss")] == [(2, -3.0)]
    (image,) = reader.Images("samples")
    (tmp_path / "samples.png").write_bytes(image.encoded_image_string)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "samples.png")), PICTURE)
    (text,) = reader.Tensors("config/text_summary")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    assert all(line.startswith("    ") for line in lines)
    assert json.loads("\n".join(lines)) == CONFIG
    (start,) = (reader.summary_metadata["_hparams_/session_start_info"].plugin_data.content,)
    assert b"data.name" in start and b"shapes" in start and b"[1, 2]" in start
    writer.close()


def test_tensorboard_has_each_step_once_after_a_kill(tmp_path):
    folder = tmp_path / "tensorboard"
    first = writers.tensorboard(tmp_path, "points", -1)
    first.config(CONFIG)
    for step in range(7):
        first.scalars(step, {"d/loss": 0.5, "g/loss": 0.25})
    first.picture(6, "samples", PICTURE)
    (path,) = folder.iterdir()
    with path.open("ab") as file:
        # The process was killed while it wrote.
        file.write(struct.pack("<Q", 1000) + b"half")
    # Killed again before it wrote anything.
    writers.tensorboard(tmp_path, "points", 4)
    second = writers.tensorboard(tmp_path, "points", 4)
    second.config({**CONFIG, "seed": 4})
    for step in range(5, 9):
        second.scalars(step, {"d/loss": 2.0})
    second.close()
    assert _counts(folder) == {
        **{("d/loss", step): 1 for step in range(9)},
        **{("g/loss", step): 1 for step in range(5)},
        **{("config/text_summary", 0): 1, ("_hparams_/session_start_info", 0): 1},
    }
    reader = _read(folder)
    assert [event.step for event in reader.Scalars("d/loss")] == list(range(9))
    assert [event.value for event in reader.Scalars("d/loss")] == [0.5] * 5 + [2.0] * 4
    assert b'"seed": 4' in reader.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    # Killed before the first checkpoint, all is written again.
    writers.tensorboard(tmp_path, "points", -1).close()
    assert not _counts(folder)


def test_json_lines_go_on_after_a_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for first, steps in ((-1, (0, 2, 4)), (2, (4, 6))):
        writer = JsonLines(path, first)
        for step in steps:
            writer.scalars(step, {"first": first})
        writer.picture(steps[-1], "samples", PICTURE)
        writer.close()
    lines = [(line["step"], line["first"]) for line in files.read_lines(path)]
    assert lines == [(0, -1), (2, -1), (4, 2), (6, 2)]


@pytest.fixture
def wandb(monkeypatch):
    """A package wandb, offline, that notes what it gets."""
    calls = []

    def init(**options):
        calls.append(options)
        return SimpleNamespace(
            offline=package.offline,
            starting_step=package.starting_step,
            config=SimpleNamespace(update=lambda values, **_: calls.append(values)),
            log=lambda values, step: calls.append((step, values)),
            finish=lambda: calls.append("finish"),
        )

    package = SimpleNamespace(init=init, Image=lambda pixels: pixels.shape, __spec__=object())
    package.offline, package.starting_step = True, 0
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return calls


def test_wandb_goes_on_with_the_same_run_and_has_each_step_once(wandb, tmp_path):
    first = writers.wandb(tmp_path, "points", -1)
    first.config(CONFIG)
    first.picture(0, "samples", PICTURE)
    first.scalars(0, {"d/loss": 0.0})
    first.scalars(2, {"d/loss": 0.2})
    first.scalars(4, {"d/loss": 0.4})
    options, config, *logged = wandb
    assert options["project"] == "gaxn" and options["name"] == "points"
    assert options["dir"] == str(tmp_path) and options["resume"] == "allow"
    assert config == CONFIG
    sent = [(0, {"samples": (6, 9, 3)}), (0, {"d/loss": 0.0}), (2, {"d/loss": 0.2})]
    assert logged == [*sent, (4, {"d/loss": 0.4})]
    wandb.clear()
    # Killed at step 4, which wandb sends with the next one; the last checkpoint is of step 0.
    second = writers.wandb(tmp_path, "points", -1)
    for step in (0, 2, 4, 6):
        second.scalars(step, {"d/loss": step / 10})
    second.scalars(6, {"evaluation/modes/modes": 8.0})
    second.close()
    again, *logged = wandb
    assert again == options
    figures = (6, {"evaluation/modes/modes": 8.0})
    assert logged == [(4, {"d/loss": 0.4}), (6, {"d/loss": 0.6}), figures, "finish"]
    wandb.clear()
    # A run that ended, and is made longer.
    third = writers.wandb(tmp_path, "points", 6)
    third.scalars(6, {"d/loss": 0.6})
    third.scalars(8, {"d/loss": 0.8})
    assert wandb == [options, (8, {"d/loss": 0.8})]


def test_the_server_of_wandb_knows_which_steps_it_has(wandb, tmp_path):
    sys.modules["wandb"].offline = False
    first = writers.wandb(tmp_path, "points", -1)
    for step in (0, 2, 4, 6):
        first.scalars(step, {"d/loss": 1.0})
    assert [step for step, _ in wandb[1:]] == [0, 2, 4, 6]
    wandb.clear()
    # Step 2 was the last that came there.
    sys.modules["wandb"].starting_step = 3
    second = writers.wandb(tmp_path, "points", -1)
    for step in (0, 2, 4, 6):
        second.scalars(step, {"d/loss": 1.0})
    assert [step for step, _ in wandb[1:]] == [4, 6]


def test_the_environment_names_the_project(wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    writers.wandb(tmp_path, "points", -1)
    assert wandb[0]["project"] == "mine"


class Notes(Writer):
    """A writer from elsewhere, which fails at one step, if any."""

    def __init__(self, workdir, name, step, fails_at=None):
        self.place, self.steps, self.closed, self.fails_at = (workdir, name, step), [], 0, fails_at

    def scalars(self, step, values):
        if step == self.fails_at:
            raise OSError("no space\nleft")
        self.steps.append(step)

    def close(self):
        self.closed += 1


def test_a_writer_that_fails_is_switched_off_with_one_warning(tmp_path, caplog):
    notes = []

    def make(fails_at):
        def make_notes(*place):
            notes.append(Notes(*place, fails_at))
            return notes[-1]

        return make_notes

    with Writers({"bad": make(2), "good": make(None)}, tmp_path, "points") as both:
        both.open(0, CONFIG)
        for step in (0, 2, 4):
            both.scalars(step, {})
            both.picture(step, "samples", PICTURE)
    bad, good = notes
    assert bad.place == good.place == (tmp_path, "points", -1)
    assert bad.steps == [0] and not bad.closed
    assert good.steps == [0, 2, 4] and good.closed == 1
    (warning,) = caplog.messages
    assert warning == "warning: the writer bad is switched off (no space)"


def test_tensorboard_on_a_full_disk_fails_at_once(tmp_path, monkeypatch, caplog):
    """Not in a thread, for which training would wait."""
    with Writers({"tensorboard": writers.tensorboard}, tmp_path, "points") as writer:
        writer.open(0, CONFIG)

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        for step in range(50):
            writer.scalars(step, {"d/loss": 1.0})
    (warning,) = caplog.messages
    assert warning == (
        "warning: the writer tensorboard is switched off ([Errno 28] No space left on device)"
    )


def test_a_writer_that_cannot_be_opened_ends_only_a_new_run(tmp_path, caplog):
    def fail(*_):
        raise ConnectionError("no route")

    failing = Writers({"wandb": fail}, tmp_path, "points")
    with pytest.raises(InputError) as error:
        failing.open(0, CONFIG)
    assert str(error.value) == "config.run.writers: wandb cannot be opened (no route)"
    assert not caplog.messages
    failing.open(6, CONFIG)
    failing.scalars(8, {})
    assert caplog.messages == ["warning: the writer wandb is switched off (no route)"]


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboardX"), ("wandb",) * 2])
def test_a_missing_package_is_named_with_its_command(name, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    for step in (0, 6):
        with pytest.raises(InputError) as error:
            Writers({name: getattr(writers, name)}, tmp_path, "points").open(step, {})
        message = f"config.run.writers needs the package {package}: pip install {package}"
        assert str(error.value) == message


def _make(names, workdir):
    experiment = SimpleNamespace(run=SimpleNamespace(writers=names), name="points", config=CONFIG)
    return loop.make_writers(experiment, workdir)


def test_an_unknown_name_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(InputError) as error:
        _make(("tensorbord",), tmp_path)
    assert str(error.value) == (
        "config.run.writers must be one of tensorboard, wandb of gaxn.io.writers (or "
        "module:attribute), got 'tensorbord'"
    )


def test_a_writer_from_elsewhere_is_named_with_its_module(tmp_path):
    name = f"{__name__}:Notes"
    several = _make((name,), tmp_path)
    several.open(6, CONFIG)
    (notes,) = several._open.values()
    several.scalars(8, {})
    assert notes.place == (tmp_path, "points", 6) and notes.steps == [8]
    no_writer = _make((f"{__name__}:read_nothing",), tmp_path)
    with pytest.raises(InputError, match=r"writers must be a function that returns a Writer, got"):
        no_writer.open(0, CONFIG)


def read_nothing(*_):
    return None


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(multihost, "is_first", lambda: False)
    several = _make(("tensorboard",), tmp_path)
    several.open(0, CONFIG)
    several.scalars(0, {"d/loss": 1.0})
    several.close()
    assert not list(tmp_path.iterdir())


BRIEF = (
    "population=1",
    "run.log_every=1",
    "run.sample_every=2",
    "evaluation.samples=20",
    "evaluation.metrics=('frechet',)",
    "evaluation.memorization=False",
    "evaluation.interim_samples=20",
    "evaluation.best=lowest modes/frechet_distance",
)


@pytest.fixture(scope="module")
def run(ring, tmp_path_factory):
    """The directory of a run of 4 steps, evaluated at 2 and 4, with events for TensorBoard."""
    workdir = tmp_path_factory.mktemp("run")
    steps = ("num_train_steps=4", "steps_per_call=2", "evaluation.every=2")
    writer = "run.writers=('tensorboard',)"
    experiment = make_experiment(ring(*BRIEF, *steps, writer, variant="gan+tiny"), "points")
    assert commands.train(experiment, workdir) == 0
    return workdir


def test_a_run_writes_its_steps_in_order(run):
    """Weights & Biases drops what is earlier than its last step."""
    steps = [event.step for event in _events(run / "tensorboard")]
    assert set(steps) == {0, 1, 2, 3, 4}
    assert steps == sorted(steps)


@pytest.mark.slow
def test_a_run_writes_the_same_scalars_as_its_files(run):
    assert set(_counts(run / "tensorboard").values()) == {1}
    reader = _read(run / "tensorboard")
    written = {
        (event.step, name): event.value
        for name in reader.Tags()["scalars"]
        for event in reader.Scalars(name)
    }
    logged = {
        (line["step"], name): value
        for line in files.read_lines(run / "metrics.jsonl")
        for name, value in line.items()
        if name != "step"
    }
    for line in files.read_lines(run / "evaluations.jsonl"):
        kind = "interim" if line.get("interim") else "evaluation"
        for name, value in line["modes"]["figures"].items():
            logged[line["step"], f"{kind}/modes/{name}"] = value
    assert (2, "interim/modes/frechet_distance") in logged
    assert (4, "evaluation/modes/frechet_distance") in logged
    assert written == pytest.approx(logged, rel=1e-6)


def test_a_run_writes_its_pictures_of_samples(run):
    pictures = _read(run / "tensorboard").Images("samples")
    assert [image.step for image in pictures] == [0, 2, 4]
    for image in pictures:
        (run / "image.png").write_bytes(image.encoded_image_string)
        samples = files.read_png(run / "samples" / f"step_{image.step:08d}.png")
        np.testing.assert_array_equal(files.read_png(run / "image.png"), samples)


@pytest.mark.slow
def test_curves_are_redrawn_with_the_samples(ring, tmp_path, monkeypatch):
    """But for the last ones, after which the finished run is drawn."""
    drawn = []

    def draw_curves(workdir):
        drawn.append(files.read_lines(workdir / "metrics.jsonl")[-1]["step"])

    monkeypatch.setattr(loop.run_evaluation, "draw_curves", draw_curves)
    steps = ("num_train_steps=5", "evaluation.every=0")
    experiment = make_experiment(ring(*BRIEF, *steps, variant="gan+tiny"), "points")
    assert commands.train(experiment, tmp_path) == 0
    assert drawn == [2, 4]
    assert (tmp_path / "curves.png").exists() and (tmp_path / "samples.gif").exists()


def test_a_missing_package_ends_a_run_before_it_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = f"{CONFIGS / 'ring.py'}:gan+tiny"
    flags = ["--config.population=1", "--config.run.writers=('wandb',)", f"--workdir={tmp_path}"]
    assert main(["gaxn", f"--config={config}", *flags]) == 2
    message = "gaxn: config.run.writers needs the package wandb: pip install wandb\n"
    assert capsys.readouterr().err == message
    assert not (tmp_path / "metrics.jsonl").exists()


# Points are quick; a long run is killed while it trains.
KILLED = (
    f"--config={CONFIGS / 'ring.py'}:gan+tiny",
    *(f"--config.{field}" for field in BRIEF),
    "--config.num_train_steps=400",
    "--config.run.checkpoint_every=100",
    "--config.run.sample_every=50",
    "--config.run.writers=('tensorboard', 'wandb')",
)


def _last_step(workdir):
    lines = files.read_lines(workdir / "metrics.jsonl")
    return lines[-1]["step"] if lines else -1


@pytest.mark.slow
def test_a_killed_run_has_each_step_once(tmp_path):
    """Read back from TensorBoard's event files and from those of wandb, offline."""
    arguments = ("-m", "gaxn.main", f"--workdir={tmp_path}", *KILLED)
    for least in (20, 250):
        with running(*arguments, WANDB_MODE="offline") as (process,):
            while _last_step(tmp_path) < least:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.01)
            process.kill()
            process.wait()
    killed_at = _last_step(tmp_path)
    with running(*arguments, WANDB_MODE="offline") as processes:
        (end,) = finish(processes)
    assert end.returncode == 0, end.stderr
    lines = files.read_lines(tmp_path / "metrics.jsonl")
    losses = {line["step"]: line["d/loss"] for line in lines if "d/loss" in line}
    assert list(losses) == list(range(1, 401))
    counts = _counts(tmp_path / "tensorboard")
    assert set(counts.values()) == {1}
    assert {step for tag, step in counts if tag == "d/loss"} == set(losses)
    assert {step for tag, step in counts if tag == "samples"} == set(range(0, 401, 50))
    identity = files.read_json(tmp_path / "wandb" / "gaxn.json")["id"]
    paths = sorted((tmp_path / "wandb").glob(f"offline-run-*/run-{identity}.wandb"))
    assert len(paths) == 3
    rows = [row for path in paths for row in _read_wandb(path)]
    saved = Counter(row["_step"] for row in rows if "d/loss" in row)
    assert set(saved.values()) == {1}
    # A kill costs what wandb's process had not yet written.
    assert set(range(killed_at + 1, 401)) <= saved.keys() <= losses.keys()
    for row in rows:
        assert "d/loss" not in row or row["d/loss"] == losses[row["_step"]]
    assert "evaluation/modes/frechet_distance" in rows[-1]


def _read_wandb(path):
    """Returns the history in a .wandb file: LevelDB's log, blocks of 32 KiB with chunks of records.

    A chunk is a checksum (4 bytes), the length of its data (2), a type (1), and the data. Types
    are 1 for a whole record, and 2, 3 and 4 for its first part, further ones and the last.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    content, start, data, rows = path.read_bytes(), 7, b"", []
    while start + 7 <= len(content):
        if start % 2**15 > 2**15 - 7:
            start += -start % 2**15
            continue
        _, length, kind = struct.unpack_from("<IHB", content, start)
        chunk = content[start + 7 : start + 7 + length]
        data = data + chunk if kind in (3, 4) else chunk
        start += 7 + length
        if kind in (1, 4):
            items = Record.FromString(data).history.item
            rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
    return [row for row in rows if row]
