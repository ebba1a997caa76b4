"""Fine-tuning: what a run takes over from trained networks, what is new, and what stays fixed."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import ONE_BLOCK

from gaxn import commands
from gaxn import config as configs
from gaxn.data import batch_spec
from gaxn.distributed import sharding
from gaxn.evaluation.export import write_networks
from gaxn.evaluation.sampling import SamplingOptions
from gaxn.experiment import make_experiment
from gaxn.experiment.settings import defaults_of
from gaxn.gans.cyclegan import CycleGAN
from gaxn.io import files, run_directory, shipped
from gaxn.io.checkpoints import Checkpoints
from gaxn.models import cyclegan
from gaxn.objectives.losses import hinge
from gaxn.objectives.objective import make_objective
from gaxn.training import fine_tuning, restore
from gaxn.training.fine_tuning import list_layers
from gaxn.types import Batch, InputError

POINTS = ("population=1",)
KEY = jax.eval_shape(lambda: jax.random.key(0))


def _images(size=16, classes=3):
    """Returns a description of images, with which an experiment needs no data."""
    return {
        "identity": "noise",
        "image_shape": [size, size, 3],
        "classes": [f"class {index}" for index in range(classes)],
        "examples": [90, 90],
    }


def _make(config, record=None):
    return make_experiment(config, "run", sharding.jit_parallelism(jax.devices()[:1]), record)


def _draw(experiment, seed=0):
    """Draws a host state from normal distributions, which needs no compilation."""
    random = np.random.default_rng(seed)
    spec = jax.eval_shape(experiment.create_state, experiment.key)
    state = jax.tree.map(lambda x: random.normal(size=x.shape).astype(x.dtype), spec)
    return state.replace(step=np.full_like(state.step, seed))


def _save(experiment, workdir, seed=1):
    """Writes a run with a checkpoint of a random state, at step `seed`; returns the state."""
    state = _draw(experiment, seed)
    record = {"name": "before", "data": experiment.data_record}
    with (
        run_directory.open_run(workdir, experiment.config, set(), record),
        Checkpoints(workdir / "checkpoints", 9) as checkpoints,
    ):
        checkpoints.save(seed, state)
    return state


def _assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def points(ring):
    """A function from overrides to an experiment on points, of one member."""
    return lambda *overrides: _make(ring(*POINTS, *overrides, variant="gan+tiny"))


@pytest.fixture
def conditional(tiny):
    """A function from overrides to one on images of 3 classes, or of others."""

    def make(*overrides, record=None):
        return _make(tiny(*ONE_BLOCK, *overrides), record or _images())

    return make


@pytest.fixture
def unevaluated(monkeypatch):
    """Training without the evaluation at its end, which takes most of the time."""
    for name in ("evaluate", "draw_training", "draw_evaluations"):
        monkeypatch.setattr(commands.run_evaluation, name, lambda *_, **__: None)


@pytest.fixture
def interrupted(monkeypatch):
    """Training that ends before its first step."""

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.loop, "train", stop)


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_a_run_takes_over_networks_but_no_optimizer_states(points, tmp_path, weights):
    source = _save(points(), tmp_path / "a")
    experiment = points(f"start.run={tmp_path / 'a'}", f"start.weights={weights}")
    before = _draw(experiment, 5)
    match = restore.read_start(experiment, tmp_path / "b")
    state = fine_tuning.take_over(before, match)
    generator = source.ema if weights == "ema" else source.params["generator"]
    _assert_equal(state.params, {**source.params, "generator": generator})
    _assert_equal(state.ema, source.ema)
    _assert_equal(state.collections, source.collections)
    assert state.collections["batch_stats"]["generator"]
    _assert_equal(state.opt_state, before.opt_state)
    assert state.step == before.step == 5
    assert not match.new and not match.surplus
    # Donated buffers must not be shared.
    pairs = zip(*map(jax.tree.leaves, (state.ema, state.params["generator"])), strict=True)
    assert not any(np.shares_memory(a, b) for a, b in pairs)


def test_every_member_of_a_population_gets_the_networks_of_the_first(ring, points, tmp_path):
    source = _save(_make(ring("population=3", variant="gan+tiny")), tmp_path / "a")
    config = ring("population=2", f"start.run={tmp_path / 'a'}", variant="gan+tiny")
    experiment = _make(config)
    state = fine_tuning.take_over(_draw(experiment), restore.read_start(experiment, tmp_path / "b"))
    first = jax.tree.map(lambda leaf: leaf[0], source)
    for member in range(2):
        part = jax.tree.map(lambda leaf, index=member: leaf[index], state)
        _assert_equal(part.params["discriminator"], first.params["discriminator"])
        _assert_equal(part.params["generator"], first.ema)


def test_a_shipped_run_is_a_start(tmp_path, capsys):
    name = "attn_cgan_mnist"
    flags = [f"--config={name}", f"--config.start.run={name}"]
    config = configs.parse(["gaxn", *flags], defaults_of).config
    experiment = _make(config, shipped.read_card(name)["data"])
    match = restore.read_start(experiment, tmp_path)
    networks = shipped.read_networks(shipped.FOLDER / f"{name}.safetensors")
    state = fine_tuning.take_over(_draw(experiment), match)
    _assert_equal(state.params, networks["params"])
    _assert_equal(state.ema, networks["params"]["generator"])
    _assert_equal(state.collections["batch_stats"], networks["batch_stats"])
    _assert_equal(state.collections["spectral"]["generator"], networks["spectral"]["generator"])
    count = len(jax.tree.leaves(networks))
    expected = f"start: {name}, {name} at step 6,000: {count} arrays taken over\n"
    assert capsys.readouterr().out == expected
    for field, value in (("step", 3), ("weights", "raw")):
        config.start[field] = str(value)
        with pytest.raises(InputError, match=rf"config\.start\.{field} must be '.*' with .*, got"):
            restore.read_start(_make(config, shipped.read_card(name)["data"]), tmp_path)
        config.start[field] = defaults_of(config, ("start",))[field]


CLASSES = [
    "params.discriminator.LabelMap_0.Embed_0.embedding ([3, 256] there, [5, 256] here)",
    "params.generator.Embed_0.embedding ([3, 4] there, [5, 4] here)",
]


def test_networks_of_other_classes_are_refused_or_partly_new(conditional, tmp_path, capsys):
    source = _save(conditional(), tmp_path / "a")
    fields = f"start.run={tmp_path / 'a'}", "start.mismatch=new"
    others = conditional(fields[0], record=_images(classes=5))
    with pytest.raises(InputError) as error:
        restore.read_start(others, tmp_path / "b")
    assert ", ".join(CLASSES) in str(error.value) and "\n" not in str(error.value)
    experiment = conditional(*fields, record=_images(classes=5))
    before = _draw(experiment, 5)
    state = fine_tuning.take_over(before, restore.read_start(experiment, tmp_path / "b"))
    assert capsys.readouterr().out.endswith(f"; 2 new: {', '.join(CLASSES)}\n")
    discriminator, expected = state.params["discriminator"], source.params["discriminator"]
    for tree in (state.params["generator"], state.ema):
        _assert_equal(tree["Conv_0"], source.ema["Conv_0"])
    _assert_equal(discriminator["Dense_0"], expected["Dense_0"])
    new = before.params["discriminator"]["LabelMap_0"]
    _assert_equal(discriminator["LabelMap_0"], new)
    _assert_equal(state.params["generator"]["Embed_0"], before.params["generator"]["Embed_0"])
    _assert_equal(state.ema["Embed_0"], before.ema["Embed_0"])


def test_missing_and_surplus_layers_are_counted(points, tmp_path):
    _save(points(), tmp_path / "a")
    fields = f"start.run={tmp_path / 'a'}", "discriminator.widths=(4,)"
    with pytest.raises(InputError) as error:
        restore.read_start(points(*fields), tmp_path / "b")
    assert "Dense_0" not in str(error.value)
    assert "params.discriminator.Dense_1.bias ([20] there, [1] here)" in str(error.value)
    match = restore.read_start(points(*fields, "start.mismatch=new"), tmp_path / "b")
    texts = [text.partition(" ")[0].removeprefix("params.discriminator.") for text in match.new]
    assert texts == ["Dense_1.bias", "Dense_1.kernel"]
    assert len(match.surplus) == 2
    assert all(" there, none here)" in text for text in match.surplus)


def test_a_long_list_is_shortened():
    assert fine_tuning.shorten("ab") == "a, b"
    assert fine_tuning.shorten("abcde") == "a, b, c and 2 more"


def test_an_export_is_a_start(conditional, tmp_path):
    spectral = "discriminator.name=attn_cgan.Discriminator", "discriminator.attention_at=()"
    source = conditional(*spectral)
    state = _draw(source)
    variables = {**state.collections, "params": {**state.params, "generator": state.ema}}
    facts = {"config": "before", "step": "7", "seed": "0"}
    for name, content in write_networks(source, variables, facts, SamplingOptions()).items():
        files.write_bytes(tmp_path / name, content)
    experiment = conditional(*spectral, f"start.run={tmp_path}")
    before = _draw(experiment, 5)
    match = restore.read_start(experiment, tmp_path / "b")
    assert match.facts == {"name": "before", "step": 7} and not match.new + match.surplus
    after = fine_tuning.take_over(before, match)
    _assert_equal(after.params, variables["params"])
    _assert_equal(after.ema, state.ema)
    _assert_equal(after.collections["batch_stats"], state.collections["batch_stats"])
    kernel = state.params["discriminator"]["StridedConvolution_0"]["kernel"]
    matrix = np.float64(kernel.reshape(-1, kernel.shape[-1]))
    vectors = after.collections["spectral"]["discriminator"]["SpectralNorm_0"]["SpectralNorm_0"]
    u = vectors["StridedConvolution_0/kernel/u"]
    assert u.shape == (1, kernel.shape[-1])
    singular = np.linalg.norm(matrix, 2)
    np.testing.assert_allclose(vectors["StridedConvolution_0/kernel/sigma"], singular, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(matrix @ u[0]), singular, rtol=1e-6)

    one = conditional(*spectral, f"start.run={tmp_path / 'discriminator.safetensors'}")
    after = fine_tuning.take_over(before, restore.read_start(one, tmp_path / "b"))
    _assert_equal(after.params["discriminator"], state.params["discriminator"])
    _assert_equal(after.params["generator"], before.params["generator"])
    _assert_equal(after.ema, before.ema)


def test_frozen_layers_stay_bit_equal_and_the_others_move(points):
    optimizer = "{'name': 'novograd', 'learning_rate': 0.1, 'weight_decay': 0.1, 'orthogonal': 0.1}"
    experiment = points(
        f"optimizers.discriminator={optimizer}", "start.run=a", "start.freeze_discriminator=2"
    )
    state = before = _draw(experiment)
    for step in range(2):
        state, _ = experiment.compiled_step(
            experiment.parallelism.place(state), experiment.batches(step), experiment.key
        )
    params, old = jax.device_get((state.params, before.params))
    layers = params["discriminator"]
    assert sorted(layers) == ["Dense_0", "Dense_1", "Dense_2"]
    for name in ("Dense_0", "Dense_1"):
        _assert_equal(layers[name], old["discriminator"][name])
    assert (layers["Dense_2"]["kernel"] != old["discriminator"]["Dense_2"]["kernel"]).all()
    assert (params["generator"]["Dense_0"]["kernel"] != old["generator"]["Dense_0"]["kernel"]).any()
    # The moments of the frozen layers are not stored.
    assert len(jax.tree.leaves(state.opt_state["discriminator"])) < len(
        jax.tree.leaves(state.opt_state["generator"])
    )


def test_layers_are_in_the_order_in_which_they_run(conditional):
    def layers(experiment):
        batch = batch_spec(experiment.train_source, (8,))
        return [
            [".".join(path) for path in paths] for paths in list_layers(experiment.gan, batch, KEY)
        ]

    attention = (
        "discriminator={'name': 'attn_cgan.Discriminator', 'widths': (8, 8), "
        "'attention_at': (8,), 'projection': True}"
    )
    expected = ["StridedConvolution_0", "attention_8", "StridedConvolution_1", "Dense_0"]
    assert layers(conditional(attention)) == [[*expected, "Projection_0"]]
    assert layers(conditional()) == [["LabelMap_0", "StridedConvolution_0", "Dense_0"]]
    scales = (
        "discriminator={'name': 'sagan.Discriminator', 'widths': (8, 8), 'attention_at': (), "
        "'scales': 2, 'remat': True}"
    )
    expected = [
        [f"scale_{scale}.{name}" for name in (*blocks, "Dense_0", "Projection_0")]
        for scale, blocks in enumerate([("to_8", "to_4"), ("to_4", "to_2")])
    ]
    assert layers(conditional(scales)) == expected


def test_the_first_layers_of_both_discriminators_of_a_cyclegan_are_frozen():
    gan = CycleGAN(
        cyclegan.Generator(3, 4, 0, attention=False),
        cyclegan.Discriminator(4, 1),
        make_objective(hinge(), {}, {}, ()),
        conditional=False,
        size=16,
    )
    batch = Batch(jax.ShapeDtypeStruct((2, 2, 20, 20, 3), jnp.uint8), None)
    names = "down_0", "attention", "still", "logits"
    layers = list_layers(gan, batch, KEY)
    assert layers == [[(domain, name) for name in names] for domain in "ab"]
    frozen = fine_tuning.frozen_layers(gan, batch, KEY, 1)
    assert frozen == {("a", "down_0"), ("b", "down_0")}
    expected = "must be 0 to 4, as the layers of the discriminator are down_0, .*, logits, got 5"
    with pytest.raises(InputError, match=rf"config\.start\.freeze_discriminator {expected}"):
        fine_tuning.frozen_layers(gan, batch, KEY, 5)


@pytest.mark.slow
@pytest.mark.usefixtures("unevaluated")
def test_a_resumed_run_is_bit_equal_without_its_source(points, tmp_path):
    _save(points(), tmp_path / "a")
    fields = f"start.run={tmp_path / 'a'}", "start.freeze_discriminator=1"
    picture = np.zeros((8, 8, 3), np.uint8)
    long = dataclasses.replace(
        points(*fields, "num_train_steps=4"),
        draw_samples=lambda *_: picture,
        diagnostics=lambda _: {},
    )
    # One compiled step for all.
    short = dataclasses.replace(
        long, settings=dataclasses.replace(long.settings, num_train_steps=2)
    )
    states = {}
    for workdir, experiments in (("straight", [long]), ("stopped", [short, long])):
        for experiment in experiments:
            assert commands.train(experiment, tmp_path / workdir) == 0
            if experiment is short:
                shutil.rmtree(tmp_path / "a")
        states[workdir] = restore.restore_state(long, tmp_path / workdir, "last")
        record = json.loads((tmp_path / workdir / "config.json").read_text())
        assert record["start"]["name"] == "before" and record["start"]["step"] == 1
        assert len(record["start"]["sha256"]) == 64
    assert states["straight"].step == 4
    _assert_equal(states["straight"], states["stopped"])
    # The networks may be elsewhere by now, but a run that has a start keeps it.
    moved = points("start.run=elsewhere", fields[1], "num_train_steps=4")
    restore.restore_state(moved, tmp_path / "stopped", "last")
    for missing in (points("num_train_steps=4"), points(fields[0], "num_train_steps=4")):
        with pytest.raises(InputError, match=r"holds a run of another config: .*start"):
            restore.restore_state(missing, tmp_path / "stopped", "last")


@pytest.mark.usefixtures("interrupted")
def test_before_the_first_checkpoint_the_source_must_have_the_same_networks(points, tmp_path):
    _save(points(), tmp_path / "a")

    def train(*fields, run="a"):
        commands.train(points(f"start.run={tmp_path / run}", *fields), tmp_path / "b")

    with pytest.raises(KeyboardInterrupt):
        train()
    first = json.loads((tmp_path / "b" / "config.json").read_text())
    shutil.copytree(tmp_path / "a", tmp_path / "moved")
    _save(points(), tmp_path / "a", seed=2)
    message = r"config\.start\.run must be as it was when .*b began, step 1 .* has step 2 with"
    with pytest.raises(InputError, match=message):
        train()
    with pytest.raises(KeyboardInterrupt):
        train("start.step=1")
    with pytest.raises(InputError, match=message.replace("step 2", "step 1")):
        train("start.step=1", "start.weights=raw")
    with pytest.raises(KeyboardInterrupt):
        train(run="moved")
    after = json.loads((tmp_path / "b" / "config.json").read_text())
    assert after["start"] == first["start"]


@pytest.mark.usefixtures("interrupted")
def test_a_start_is_not_added_to_a_run(points, tmp_path):
    _save(points(), tmp_path / "a")
    _save(points(), tmp_path / "b")
    with pytest.raises(InputError, match=r"another config: start\.run \( there"):
        commands.train(points(f"start.run={tmp_path / 'a'}"), tmp_path / "b")
    assert "start" not in json.loads((tmp_path / "b" / "config.json").read_text())


def test_a_start_needs_a_checkpoint_of_this_version(points, tmp_path):
    experiment = points(f"start.run={tmp_path / 'a'}")

    def message(*fields):
        with pytest.raises(InputError) as error:
            commands.train(points(f"start.run={tmp_path / 'a'}", *fields), tmp_path / "b")
        assert "\n" not in str(error.value) and not (tmp_path / "b").exists()
        return str(error.value)

    path = tmp_path / "a"
    assert message().startswith(f"config.start.run: {path} holds no run; train one first")
    _save(experiment, path)
    expected = f"config.start.step must be last, best or a step of {path}: 1, got '2'"
    assert message("start.step=2") == expected
    expected = f"config.start.step must be last or a step, as {path} has no best one, got 'best'"
    assert message("start.step=best") == expected
    arrays = [file for file in (path / "checkpoints/1/state").rglob("*") if file.is_file()]
    largest = max(arrays, key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    assert message() == f"config.start.run: {path} has no checkpoint 'last' that is not damaged"
    shutil.rmtree(path / "checkpoints")
    assert message() == f"config.start.run: {path} has no checkpoint; train it first"
    record = json.loads((path / "config.json").read_text())
    files.write_json(path / "config.json", {**record, "format": 2})
    assert f"config.start.run: {path} was written in format 2; this is gaxn " in message()
    assert message().endswith("or another run")
    files.write_json(path / "config.json", {**record, "config": {"lab": "attention"}})
    assert message() == f"config.start.run must be a run of a GAN, not of a lab, got '{path}'"


def test_a_file_must_be_of_an_export(points, tmp_path):
    file = tmp_path / "encoder.safetensors"

    def message():
        with pytest.raises(InputError) as error:
            restore.read_start(points(f"start.run={file}"), tmp_path / "b")
        return str(error.value)

    assert message().startswith(f"{file} cannot be read as a .safetensors (")
    file.write_bytes(b"something")
    assert message().startswith(f"{file} cannot be read as a .safetensors (")
    arrays = {"params": {"kernel": np.ones(2, np.float32)}}
    file.write_bytes(shipped.to_bytes(arrays, {"name": "x"}))
    assert message() == f"{file} must be PLAYER.safetensors that --mode export wrote"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("step", "first", "last, best or the step of a checkpoint"),
        ("weights", "mean", "ema or raw"),
        ("mismatch", "drop", "refuse or new"),
        ("freeze_discriminator", -1, r"0 \(for none\) or more"),
        ("freeze_discriminator", 4, "0 to 3, as the layers .* are Dense_0, Dense_1, Dense_2"),
    ],
)
def test_fields_out_of_range_are_refused(points, field, value, expected):
    message = rf"config\.start\.{field} must be {expected}, got {value!r}"
    with pytest.raises(InputError, match=message):
        points("start.run=a", f"start.{field}={value}")
    with pytest.raises(InputError, match=r"config\.start\.run must be the directory of a run or"):
        points("start.mismatch=new")


def test_a_start_is_given_from_python_as_one_field(ring):
    config = ring()
    configs.set_field(config, "start", {"run": "a", "step": 4}, defaults_of)
    experiment = _make(config)
    assert experiment.config["start"] == {**defaults_of(config, ("start",)), "run": "a", "step": 4}
    assert SimpleNamespace(**_make(ring()).config["start"]).run == ""
