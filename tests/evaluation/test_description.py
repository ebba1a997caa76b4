"""A description has the numbers of the run, fits its width, and compiles and writes nothing."""

import re
import types
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gaxn import config as configs
from gaxn.data import npz
from gaxn.data.folder import Source as Folder
from gaxn.evaluation import description
from gaxn.evaluation.description import describe
from gaxn.experiment import make_experiment, make_run
from gaxn.experiment.settings import defaults_of
from gaxn.gans.gan import GAN
from gaxn.objectives.losses import hinge
from gaxn.objectives.objective import make_objective
from gaxn.types import Batch

ROOT = Path(__file__).parents[2]
SPLITS = ("train", "test")
COMPILATION = "/jax/core/compile/backend_compile_duration"


class Layer(nn.Module):
    """A dense layer and a scale."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, name="dense")(x)
        return nn.relu(x) * self.param("scale", nn.initializers.ones, (self.width,))


class Generator(nn.Module):
    """Latents, [batch, 3], to images, [batch, 4, 4, 1]."""

    @nn.compact
    def __call__(self, latents, labels, train):
        x = Layer(5, name="layer")(latents)
        return nn.Dense(16, use_bias=False, name="last")(x).reshape(-1, 4, 4, 1)


class Discriminator(nn.Module):
    """Images to logits, through a layer without parameters."""

    layers: int

    @nn.compact
    def __call__(self, images, labels, train):
        x = nn.Dropout(0.5, deterministic=True)(images).reshape(images.shape[0], -1)
        for index in range(self.layers):
            x = Layer(2, name=f"layer_{index}")(x)
        return nn.Dense(1, name="logit")(x)[:, 0]


IMAGES = jax.ShapeDtypeStruct((6, 4, 4, 1), jnp.uint8)


def _make_gan(layers):
    """Returns the small GAN, its discriminator with a number of layers."""
    objective = make_objective(hinge(), {}, {}, ())
    return GAN(Generator(), Discriminator(layers), objective, 3, False)


def _modules(layers=1):
    """Returns rows (path, type, output, parameters) of the small GAN's players."""
    gan, batch = _make_gan(layers), Batch(IMAGES, None)
    key = jax.eval_shape(lambda: jax.random.key(0))
    calls = description.trace_calls(gan, batch, key)
    variables = jax.eval_shape(lambda key, batch: gan.init(key, batch, key), key, batch)
    players = {}
    for player in ("generator", "discriminator"):
        leaves = jax.tree_util.tree_leaves_with_path({player: variables["params"][player]})
        sizes = {tuple(part.key for part in path): leaf.size for path, leaf in leaves}
        rows = description.list_modules((player,), calls, sizes)
        players[player] = [
            ("/".join(row.path), row.call.type, row.call.output, row.parameters) for row in rows
        ]
    return players


def test_modules_have_the_parameters_of_a_hand_count():
    assert _modules() == {
        "generator": [
            ("", "Generator", [(6, 4, 4, 1)], 0),
            ("layer", "Layer", [(6, 5)], 5),
            ("layer/dense", "Dense", [(6, 5)], 3 * 5 + 5),
            ("last", "Dense", [(6, 16)], 5 * 16),
        ],
        "discriminator": [
            ("", "Discriminator", [(6,)], 0),
            ("layer_0", "Layer", [(6, 2)], 2),
            ("layer_0/dense", "Dense", [(6, 2)], 16 * 2 + 2),
            ("logit", "Dense", [(6, 1)], 2 + 1),
        ],
    }


def test_of_many_modules_the_deep_ones_are_counted_with_those_that_contain_them():
    layers = description.MAX_MODULES // 2
    rows = _modules(layers)["discriminator"]
    assert len(rows) == layers + 2
    first, other = 16 * 2 + 2 + 2, 2 * 2 + 2 + 2
    assert [row[-1] for row in rows] == [0, first, *[other] * (layers - 1), 3]


@pytest.mark.filterwarnings("ignore:shape requires ndarray")
def test_modules_are_those_of_flax():
    batch = Batch(np.zeros(IMAGES.shape, np.uint8), None)
    options = {"width": 1000, "force_terminal": False}
    flax_table = nn.tabulate(_make_gan(1), jax.random.key(0), console_kwargs=options)
    lines = flax_table(batch, jax.random.key(0)).replace(",", ", ").splitlines()
    for player, rows in _modules().items():
        for path, kind, (output,), _ in rows:
            name = re.escape("/".join([player, path] if path else [player]))
            row = rf"│ {name} +│ {kind} +│.*│ float32{re.escape(str(list(output)))} +│.*"
            assert any(re.fullmatch(row, line) for line in lines), path


@pytest.fixture(scope="module")
def points(ring):
    """Two runs at once of points."""
    return make_experiment(ring(variant="gan+tiny"), "points")


@pytest.fixture(scope="module")
def shapes(tiny):
    """The small conditional GAN, with schedules and a penalty."""
    return make_experiment(tiny("run.sample_every=3"), "shapes")


@pytest.fixture(scope="module")
def text(shapes):
    """The description of the small conditional GAN."""
    return describe(shapes)


def _value(text, name):
    """Returns the text after a name at the beginning of a line."""
    return re.search(rf"(?m)^{name} {{2,}}(.*)$", text)[1]


def test_parameters_of_all_players_are_those_of_a_hand_count(points):
    text = describe(points)
    # Two hidden layers of 8 with BatchNorm; two of 4 maxout units of 5 pieces.
    generator = 2 * 8 + 16 + 8 * 8 + 16 + 8 * 2 + 2
    discriminator = (2 + 1) * 20 + (4 + 1) * 20 + 4 + 1
    assert f"Player generator: {generator:,} parameters" in text
    assert f"Player discriminator: {discriminator:,} parameters" in text
    expected = (
        f"{generator + discriminator:,} (discriminator {discriminator}, generator {generator})"
    )
    assert _value(text, "parameters") == expected


@pytest.mark.slow
def test_the_operations_of_a_step_are_those_of_the_cost(shapes, text):
    flops = shapes.cost()["flops_a_step"]
    expected = f"{flops / 1e9:.4g}, {8 * flops / 1e12:.4g} TFLOP in all steps"
    assert _value(text, "GFLOP a training step") == expected


@pytest.mark.slow
def test_of_equal_updates_one_is_counted_as_often_as_there_are(ring):
    overrides = "update_rule={'name': 'alternating'}", "discriminator_steps=3"
    experiment = make_experiment(ring(*overrides, variant="gan+tiny"), "points")
    expected = experiment.cost()["flops_a_step"]
    # Each of three updates has a gradient norm for the log; a step has that of the last one.
    norms = 2 * 2 * experiment.cost()["parameters"]["discriminator"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(experiment), "cost", None)
        flops = description.count_flops(experiment)
    assert expected < flops < expected + 1.5 * norms < 1.05 * expected


def test_images_and_epochs(ring, monkeypatch):
    monkeypatch.setattr(description, "count_flops", lambda _: None)
    overrides = "discriminator_steps=3", "generator_steps=2"
    experiment = make_experiment(ring(*overrides, variant="gan+tiny"), "points")
    lines = dict(description._cost_lines(experiment))
    expected = "192 (8 steps x 8 x 3 a step), 3 epochs of 64"
    assert lines["real points of the discriminator"] == expected
    assert lines["real points of all updates"] == "320 (8 steps x 8 x 5 a step), 5 epochs of 64"
    assert lines["population"] == "2 such runs at once, of seeds 0 to 1"
    assert lines["GFLOP a training step"] == "not known: JAX has no CPU backend"


def test_memory_is_that_of_a_state(points):
    state = points.create_state(points.key)
    text = describe(points)
    for name, tree in (
        ("parameters", state.params),
        ("optimizer state", state.opt_state),
        ("EMA of the generator", state.ema),
        ("collection batch_stats", state.collections["batch_stats"]),
        ("state", state),
    ):
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
        memory = text[text.index("Memory of the state") :]
        assert _value(memory, name) == f"{size / 1e6:,.3f}", name


def test_memory_on_a_device_is_that_of_a_split_state(ring):
    overrides = "population=1", "batch_size=8", "parallel=sharded", "discriminator.widths=(64, 64)"
    experiment = make_experiment(ring(*overrides, variant="gan+tiny"), "points")
    spec = jax.eval_shape(experiment.create_state, experiment.key)
    placed = experiment.parallelism.place(
        jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), spec)
    )
    leaves = jax.tree.leaves(placed)
    on_device = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
    size = sum(leaf.nbytes for leaf in leaves)
    assert on_device < size / 2
    memory = description._describe_memory(experiment, spec)
    assert "4 of 4 cpu devices share a copy" in memory
    assert re.search(rf"(?m)^state +{size / 1e6:.3f} +{on_device / 1e6:.3f}$", memory)


def test_intervals_are_those_of_the_loop(text):
    intervals = text[text.index("Intervals") :]
    # After steps 3, 6 and 8, and of step 0.
    assert _value(intervals, "samples").split()[:2] == ["3", "4"]
    assert _value(intervals, "checkpoints").split()[:2] == ["4", "2"]
    assert "the last 2 stay" in intervals and "60 samples" in intervals


def test_objective_and_optimizers_are_in_a_line_each(text):
    assert _value(text, "penalties") == "r1 (weight 0.5)"
    assert _value(text, "updates a step") == "discriminator 1, generator 1"
    expected = "adam, b1 0, b2 0.99, learning_rate linear 0.002 at 25% -> 0.0001 at 100%"
    assert _value(text, "optimizer of generator") == expected


def test_points_of_a_schedule_may_be_in_thousands_of_images():
    spec = {"name": "cosine", "points": ((0, 0.9), (10_000, 0.99)), "unit": "kimg"}
    assert description._value(spec) == "cosine 0.9 at 0 -> 0.99 at 10000 kimg"


def test_nothing_is_compiled_or_written(shapes, tmp_path, monkeypatch):
    compiled = []

    def count(event, *_, **__):
        compiled.extend([event] * (event == COMPILATION))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAXN_CACHE", str(tmp_path))
    jax.monitoring.register_event_duration_secs_listener(count)
    describe(shapes)
    assert not compiled
    assert not list(tmp_path.iterdir())
    jax.jit(lambda x: x + 1)(1.0)
    assert compiled


def test_a_histogram_has_counts_and_bars(tmp_path):
    for name, count in (("cat", 12), ("dog", 3)):
        (tmp_path / name).mkdir()
        for index in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{index}.png")
    sources = [Folder(split, path=str(tmp_path), size=8, test_share=0.2) for split in SPLITS]
    text = description._describe_data(*sources)
    for name in ("cat", "dog"):
        train, test = (source.counts[name] for source in sources)
        bar = "#" * round(description.BAR_WIDTH * train / sources[0].counts["cat"])
        assert _value(text, name).split() == [str(train), str(test), bar]
    assert _value(text, "example") == "8 x 8 x 3, uint8"
    assert _value(text, "training") == f"{len(sources[0])} examples"


def test_a_long_histogram_and_its_names_are_cut():
    counts = {f"{'class ' * 9}{index}": 10**9 - index for index in range(30)}
    text = description._histogram(counts, counts)
    assert text.endswith("\nand 10 more classes")
    assert text.count("#" * description.BAR_WIDTH) == description.MAX_CLASSES
    assert _width(text) <= 100


def test_classes_without_counts_are_counted_from_labels_in_memory(tmp_path):
    path, labels = tmp_path / "images.npz", np.arange(40) % 4 // 2
    np.savez(path, images=np.zeros((40, 8, 8, 3), np.uint8), labels=labels)
    train = npz.Source("train", path=str(path))
    uncounted = types.SimpleNamespace(
        split="train", class_names=train.class_names, table=train.table
    )
    assert description._count_classes(uncounted) == train.counts
    assert sum(train.counts.values()) == len(train) and set(train.counts) == {"0", "1"}
    uncounted.table = None
    assert description._count_classes(uncounted) is None


def test_captions_are_counted(tmp_path):
    lines = ["file_name,text"]
    for index in range(10):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index}.png")
        lines += [f"{index}.png,a gray square"] * (index % 2)
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    sources = [Folder(split, path=str(tmp_path), size=8, test_share=0.3) for split in SPLITS]
    count = sum(map(bool, sources[0].captions))
    expected = f"{count} of {len(sources[0])}, such as 'a gray square'"
    assert 0 < count < len(sources[0])
    assert _value(description._describe_data(*sources), "captions") == expected


def test_a_lab_has_its_fields():
    run = make_run(*_parse("attention_lab.py:tiny"))
    text = describe(run, "Self-attention, made visible")
    assert text.startswith("attention_lab: Self-attention, made visible\n\nThe lab attention")
    assert _value(text, "sentence") == "le chat est sur le tapis"


def test_further_players_are_described(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "third_gan")
    config, name = _parse(ROOT / "tests" / "third_gan" / "encoder_gan_shapes.py")
    text = describe(make_run(config, name))
    # Two 4x4 convolutions to 8 channels, and 8 x 8 x 8 numbers to 4.
    encoder = 16 * 3 * 8 + 8 + 16 * 8 * 8 + 8 + 512 * 4 + 4
    assert f"Player encoder: {encoder:,} parameters" in text
    assert _value(text, "optimizer of encoder").startswith("rmsprop")
    assert _width(text) <= 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    [
        "attn_cgan_shapes.py",
        "attn_cyclegan_shapes.py",
        "grid.py:pacgan4",
        "ring.py:r3gan",
    ],
)
def test_lines_of_complete_configs_are_short(variant):
    text = describe(make_run(*_parse(variant)), "A title, " * 20)
    assert 90 < _width(text) <= 100
    assert len(text.splitlines()) < 120


def test_two_networks_of_one_architecture_are_listed_once():
    run = make_run(*_parse("attn_cyclegan_shapes.py:tiny"))
    state = jax.eval_shape(run.create_state, run.key)
    discriminator, generator = description._describe_networks(run)
    half = sum(leaf.size for leaf in jax.tree.leaves(state.params["generator"])) // 2
    assert re.search(rf"(?m)^generator/b +as generator/a .*\] +{half:,}$", generator)
    assert f"Player generator: {2 * half:,} parameters" in generator
    assert "discriminator/a" in discriminator and "as discriminator/a" in discriminator
    data = description._describe_data(run.train_source, run.test_source)
    assert _value(data, "B").split()[:2] == ["50,000", "10,000"]


def _parse(file):
    """Returns config and name of a config file."""
    path = ROOT / "configs" / file
    arguments = configs.parse(["gaxn", f"--config={path}"], defaults_of)
    return arguments.config, arguments.name


def _width(text):
    return max(map(len, text.splitlines()))
