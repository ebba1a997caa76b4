"""The examples: what they compute, how long they are, and their commands."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import draw_variables
from PIL import Image
from scipy import optimize, special, stats
from scipy.spatial.distance import cdist, pdist

from gaxn.config import instantiate, resolve
from gaxn.evaluation.image_sets import evaluate_sets
from gaxn.features import pixels
from gaxn.gans.gan import GAN
from gaxn.main import main
from gaxn.objectives import losses
from gaxn.objectives.losses import wasserstein
from gaxn.objectives.objective import make_objective
from gaxn.types import Batch, InputError

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
FOLDER = EXAMPLES / "extending"
FILES = sorted(path.name for path in FOLDER.glob("*.py"))
TWO_FILES = {"info_gan.py", "info_gan_shapes.py"}

PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", PAGE)
COMMANDS = [text.replace("\\\n", " ") for _, text in BLOCKS if "-m gaxn.main" in text]

RATE = 0.1
"""Learning rate of the Dirac-GAN."""

BRIEF = ["--config.num_train_steps=2", "--config.run.log_every=1"]


@pytest.fixture(scope="module", autouse=True)
def python_path():
    """Puts the examples where PYTHONPATH puts them in the commands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        patch.syspath_prepend(FOLDER)
        yield


def _part(name):
    """Returns what a name in a config means."""
    return resolve("models", name, "name")


def _words(example):
    """Returns the flags of the one command that names an example."""
    (command,) = [command for command in COMMANDS if example in command]
    variable, python, *words = shlex.split(command)
    assert (variable, python) == (f"PYTHONPATH={FOLDER.relative_to(ROOT)}", "python")
    assert words[:2] == ["-m", "gaxn.main"]
    return words[2:]


def _config(example):
    """Returns the --config of an example's command, whatever the working directory is."""
    words = _words(example)
    return f"--config={ROOT / words[words.index('--config') + 1]}"


def _overrides(*examples):
    """Returns the fields that the commands of some examples set."""
    words = [word for example in examples for word in _words(example)]
    return [word for word in words if word.startswith("--config.")]


def _last_line(workdir):
    return json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])


def _first_loss(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return next(line["d/loss"] for line in lines if "d/loss" in line)


@pytest.mark.parametrize("name", FILES)
def test_the_page_repeats_every_file(name):
    text = (FOLDER / name).read_text()
    assert ("python", text) in BLOCKS
    assert f"`examples/extending/{name}`" in PAGE


def test_every_block_of_python_on_the_page_is_a_file():
    texts = {(FOLDER / name).read_text() for name in FILES}
    assert {text for language, text in BLOCKS if language == "python"} == texts


def test_a_part_is_one_short_file_and_a_gan_two():
    lines = {name: len((FOLDER / name).read_text().splitlines()) for name in FILES}
    assert lines.keys() > TWO_FILES and len(lines) == 7
    assert all(count < 30 for name, count in lines.items() if name not in TWO_FILES), lines
    assert sum(lines[name] for name in TWO_FILES) < 80, lines


def test_all_that_the_page_names_exists():
    assert len(COMMANDS) == 6
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE)
    assert links and not [link for link in links if not (ROOT / "docs" / link).exists()]
    paths = re.findall(r"(?<![\w/.])(?:gaxn|tests|docs|configs|examples)/[\w./]+", PAGE)
    paths = {path.rstrip("./") for path in paths}
    assert not [path for path in paths if not (ROOT / path).exists()]
    rows = re.findall(
        r"(?m)^\| .*\| `(gaxn/[\w./]+)`[^|]* \| `(\w+)` of `(gaxn/[\w./]+)` \|$", PAGE
    )
    assert len(rows) >= 10
    for _, name, file in rows:
        assert re.search(rf"(?m)^(class {name}\b|{name} = )", (ROOT / file).read_text()), name


F = {
    "kl": lambda u: u * np.log(u),
    "reverse_kl": lambda u: -np.log(u),
    "pearson": lambda u: (u - 1) ** 2,
    "squared_hellinger": lambda u: (np.sqrt(u) - 1) ** 2,
    "jensen_shannon": lambda u: u * np.log(u) - (u + 1) * np.log((u + 1) / 2),
}
"""The convex function of each divergence (Nowozin et al., 2016, table 1)."""


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("divergence", F)
def test_the_least_loss_of_an_f_gan_is_minus_the_divergence(divergence):
    assert _part("f_gan:DIVERGENCES").keys() == F.keys()
    loss = _part("f_gan:f_gan")(divergence)
    data, samples = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.1, 0.3])

    def mean(logit, p, q, fixed=0.3):
        """Returns the discriminator's loss where a share p is real and a share q generated."""
        of_data = loss.discriminator(logit, fixed) + loss.generator(logit, fixed)
        return float(p * of_data - q * loss.generator(fixed, logit))

    pairs = zip(data, samples, strict=True)
    least = sum(optimize.minimize_scalar(mean, (-1, 1), args=pair).fun for pair in pairs)
    np.testing.assert_allclose(-least, samples @ F[divergence](data / samples), rtol=1e-9)


@pytest.mark.usefixtures("float64")
def test_the_approximate_r1_of_a_linear_discriminator_is_chi_squared():
    random = np.random.default_rng(0)
    real = jnp.asarray(random.normal(size=(5_000, 2, 3, 1)))
    w = random.normal(size=real.shape[1:])
    keys = jax.random.split(jax.random.key(0), len(real))

    def values(rows):
        penalty = _part("approximate_r1:approximate_r1")(weight=1.0, deviation=0.1)
        return penalty.values(
            lambda x: jnp.einsum("bhwc,hwc->b", x, w), real[rows], None, keys[rows]
        )

    # d.w is normal with the variance 0.1^2 |w|^2.
    variance = 0.1**2 * (w**2).sum()
    together = values(slice(None))
    np.testing.assert_allclose(together.mean(), variance, rtol=0.1)
    assert stats.kstest(together / variance, "chi2", (1,)).pvalue > 0.01
    few = slice(7, 2, -1)
    np.testing.assert_allclose(values(few), together[few], rtol=1e-9)


def _paint(params, latents, labels, size):
    """Returns the images of pixel_mlp.py in NumPy, for two hidden layers."""

    def dense(number, x):
        layer = params[f"Dense_{number}"]
        return x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])

    line = np.linspace(-1, 1, size)
    style = np.concatenate([latents, np.asarray(params["Embed_0"]["embedding"])[labels]], axis=1)
    x = np.sin(dense(0, np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1)))
    for layer in (1, 3):
        x = dense(layer + 1, x * (1 + dense(layer, style))[:, None, None])
        x = np.maximum(x, 0.2 * x)
    return np.tanh(dense(5, x))


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_the_pixels_of_a_generator_do_not_depend_on_each_other():
    latents, labels = np.random.default_rng(0).normal(size=(3, 4)), np.array([0, 2, 1])

    def network(size):
        return _part("pixel_mlp:Generator")(size, channels=3, classes=3, widths=(6, 5))

    variables = draw_variables(network(5), latents, labels, True)
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    small, large = (network(n).apply(variables, latents, labels, train=True) for n in (5, 9))
    assert small.shape == (3, 5, 5, 3) and small.std() > 0.1
    np.testing.assert_allclose(small, _paint(variables["params"], latents, labels, 5), rtol=1e-6)
    # Every second pixel of the larger image has the place of one of the smaller image.
    np.testing.assert_allclose(large[:, ::2, ::2], small, rtol=1e-9)


def test_the_checkerboard_is_uniform_on_its_dark_squares():
    train, test = (_part("checkerboard:Checkerboard")(split) for split in ("train", "test"))
    points = np.asarray(train.table.images)
    assert points.shape == (len(train), *train.image_shape) == (10_000, 2)
    squares, counts = np.unique(np.floor(points), axis=0, return_counts=True)
    assert len(squares) == 8 and (counts == 1_250).all()
    assert (squares.sum(axis=1) % 2 == 1).all() and np.abs(points).max() <= 2
    assert stats.kstest((points % 1).ravel(), "uniform").pvalue > 0.01
    assert not set(map(tuple, points)) & set(map(tuple, test.table.images))


def test_the_share_of_the_checkerboard_in_its_modes_is_that_of_the_discs():
    source = _part("checkerboard:Checkerboard")()
    extractor = instantiate("features", source.modes, "modes", "load")
    modes = np.asarray(extractor.apply({}, source.table.images).modes)
    error = np.sqrt(np.pi / 4 * (1 - np.pi / 4) / len(modes))
    assert abs((modes >= 0).mean() - np.pi / 4) < 3 * error
    assert set(modes[modes >= 0]) == set(range(8)) and extractor.modes == 8


def test_the_energy_distance_of_numbers_in_a_row_has_a_closed_form():
    metric = _part("energy_distance:EnergyDistance")

    def state(start, count):
        """Returns the state of start, start + 1, ..., added in two parts."""
        table = np.arange(start, start + count, dtype=np.float32)[:, None]
        parts = np.split(np.arange(count), [2])
        updated = [metric.update(metric.empty(None), part, table[part]) for part in parts]
        return metric.merge(*updated[::-1])

    # The mean distance of two of n numbers in a row is (n + 1) / 3.
    result = metric.compute(state(0, 7), state(20, 5)).figures["energy_distance"]
    np.testing.assert_allclose(result, 2 * (22 - 3) - 8 / 3 - 6 / 3, rtol=1e-12)
    same = metric.compute(state(0, 6), state(0, 6)).figures["energy_distance"]
    np.testing.assert_allclose(same, 2 * (7 / 3 * 5 / 6) - 2 * 7 / 3, rtol=1e-12)


def test_two_sets_of_images_are_compared_by_the_energy_distance(tmp_path):
    random, sets = np.random.default_rng(0), []
    for name, count in (("a", 30), ("b", 25)):
        sets.append(random.integers(0, 256, (count, 4, 4, 3), np.uint8))
        np.savez(tmp_path / f"{name}.npz", images=sets[-1])
    paths = [str(tmp_path / f"{name}.npz") for name in "ab"]
    metrics = ["energy_distance:EnergyDistance"]
    document = evaluate_sets(*paths, pixels.load(), metrics=metrics)
    x, y = (images.reshape(len(images), -1) / 127.5 - 1 for images in sets)
    expected = 2 * cdist(x, y).mean() - pdist(x).mean() - pdist(y).mean()
    np.testing.assert_allclose(document["figures"]["energy_distance"], expected, rtol=1e-4)


class LatentImages(nn.Module):
    """A generator whose pixels are the latent's numbers."""

    def __call__(self, latents, labels, train):
        return latents.reshape(-1, 2, 2, 1)


class Reader(nn.Module):
    """An encoder that finds `scale` times the codes, plus `shift`, in those pixels."""

    scale: float
    shift: float
    codes: int = 2

    def __call__(self, images):
        return self.scale * images.reshape(len(images), -1)[:, : self.codes] + self.shift


class Sum(nn.Module):
    """A discriminator that adds up all pixels."""

    def __call__(self, images, labels, train):
        return images.sum(axis=(1, 2, 3))


@pytest.mark.parametrize(
    ("scale", "shift", "code_loss", "tolerance"),
    [(1.0, 0.0, 0.0, 1e-9), (1.0, 0.5, 0.25, 1e-6), (0.0, 0.0, 1.0, 0.05)],
)
def test_the_information_of_an_info_gan_is_known_for_known_encoders(
    scale, shift, code_loss, tolerance
):
    gan_class, count = _part("info_gan:InfoGAN"), 4_000
    gan = gan_class(
        generator=LatentImages(),
        discriminator=Sum(),
        objective=make_objective(wasserstein(), {}, {}, ()),
        latent_size=4,
        conditional=False,
        encoder=Reader(scale, shift),
        information=3.0,
    )
    batch = Batch(jnp.zeros((count, 2, 2, 1)), None)

    def loss(method):
        arguments = batch, jnp.arange(count), jax.random.key(0), 0
        return gan.apply({}, *arguments, method=method)

    value, scalars = loss(gan_class.encoder_loss)
    assert abs(value - code_loss) <= tolerance
    # Two codes of variance 1: at most 1 nat.
    np.testing.assert_allclose(scalars["information"], 1 - value, atol=1e-6)
    of_gan = loss(GAN.generator_loss)[0]
    np.testing.assert_allclose(loss(gan_class.generator_loss)[0] - of_gan, 3 * value, atol=1e-5)
    assert list(gan.losses()) == ["discriminator", "generator", "encoder"]
    assert gan.losses()["generator"] is not GAN.generator_loss


def test_the_other_scripts_are_short():
    lines = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert lines.keys() == {"custom_loss.py", "dirac_gan.py"}
    assert all(count < 60 for count in lines.values()), lines


def _points(method, loss=losses.minimax):
    """Returns (theta, psi) of the Dirac-GAN before each step of one of its methods, [500, 2]."""
    arguments = _part("dirac_gan:METHODS")[method]
    path = _part("dirac_gan:trajectory")(*arguments, loss=loss, rate=RATE, steps=500)
    return np.stack(path, axis=1)


@pytest.mark.usefixtures("float64")
def test_simultaneous_descent_leaves_the_equilibrium_of_the_dirac_gan():
    points = _points("simultaneous")
    np.testing.assert_array_equal(points[0], (1, 1))
    # The gradient has the length s(psi theta) |(theta, psi)|, and is orthogonal to the point.
    slope, distance = special.expit(points.prod(axis=1)), np.hypot(*points.T)
    growth = np.sqrt(1 + (RATE * slope[:-1]) ** 2)
    np.testing.assert_allclose(distance[1:] / distance[:-1], growth, rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_alternating_descent_goes_round_the_equilibrium_of_the_dirac_gan():
    points = _points("alternating")
    distance, angle = np.hypot(*points.T), np.unwrap(np.arctan2(*points.T))
    assert distance.min() > 0.97 * distance[0] and distance.max() < 1.01 * distance[0]
    assert angle[-1] - angle[0] > 3 * 2 * np.pi
    # With a linear loss, a step is two shears, and stays on an ellipse.
    theta, psi = _points("alternating", loss=wasserstein).T
    np.testing.assert_allclose(theta**2 + psi**2 - RATE * theta * psi, 2 - RATE, rtol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("method", "damping"),
    [("simultaneous, R1", (0, 0.3)), ("consensus", (1 / 4, 1 / 4))],
    ids=["r1", "consensus"],
)
def test_regularized_descent_converges_on_the_dirac_gan(method, damping):
    points = _points(method)
    # Near the equilibrium s = 1/2: R1 is 0.3 / 2 psi^2, and |v|^2 / 2 is |(theta, psi)|^2 / 8.
    step = np.eye(2) + RATE * (np.array([[0, 0.5], [-0.5, 0]]) - np.diag(damping))
    np.testing.assert_allclose(points[-1], step @ points[-2], rtol=1e-6)
    factor = np.abs(np.linalg.eigvals(step)).max()
    assert factor < 1
    assert np.linalg.norm(points[-1]) < 2 * factor**499 * np.linalg.norm(points[0])


def test_the_paths_of_the_dirac_gan_are_drawn(tmp_path, monkeypatch):
    path = tmp_path / "paths.png"
    monkeypatch.setattr(sys, "argv", ["dirac_gan.py", f"--output={path}"])
    runpy.run_path(str(EXAMPLES / "dirac_gan.py"), run_name="__main__")
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    assert width > 3 * height
    blue = (pixels[..., 2] - pixels[..., 0] > 100).sum(axis=0)
    panels = [part.sum() for part in np.array_split(blue, 4)]
    # The longest path is the one that leaves; the shortest, that of consensus optimization.
    assert panels == sorted(panels, reverse=True) and panels[-1] > 50


def test_the_tempered_loss_lies_between_known_losses():
    logits = jnp.array([-3.0, 0.5, 2.0]), jnp.array([1.0, -0.25, 4.0])
    real, fake = logits
    tempered = _part("custom_loss:tempered")
    for side in ("discriminator", "generator"):
        usual = getattr(losses.non_saturating(), side)(*logits)
        np.testing.assert_allclose(getattr(tempered(), side)(*logits), usual, rtol=1e-6)
    cold, warm = tempered(1e-3), tempered(1e4)
    np.testing.assert_allclose(
        cold.discriminator(*logits), nn.relu(-real) + nn.relu(fake), atol=1e-5
    )
    slopes = [jax.vmap(jax.grad(warm.discriminator, side))(*logits) for side in (0, 1)]
    np.testing.assert_allclose(slopes, [[-0.5] * 3, [0.5] * 3], rtol=1e-3)
    with pytest.raises(InputError, match=r"temperature must be above 0, got 0\.0"):
        tempered(0.0)


@pytest.mark.slow
def test_a_loss_is_scored_against_the_usual_one(tmp_path, monkeypatch, capsys):
    arguments = [f"--config={ROOT / 'configs' / 'ring.py'}:tiny", f"--workdir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["custom_loss.py", *arguments])
    runpy.run_path(str(EXAMPLES / "custom_loss.py"), run_name="__main__")
    row = r"(?m)^(usual|tempered): (\w+) -?\d+\.\d+ \+- \d+\.\d+$"
    printed = re.findall(row, capsys.readouterr().out)
    assert len(printed) == len(set(printed)) == 6
    usual, tempered = (_first_loss(tmp_path / name) for name in ("usual", "tempered"))
    # Of logits near 0, 2 log 2 times the temperature.
    np.testing.assert_allclose([usual, tempered], 2 * np.log(2) * np.array([1, 5]), rtol=1e-2)


@pytest.mark.slow
def test_a_loss_a_penalty_and_a_network_train_together(tmp_path):
    parts = _overrides("f_gan", "approximate_r1", "pixel_mlp")
    small = [
        "--config.data.size=16",
        "--config.discriminator={'name': 'dcgan.Discriminator', 'widths': (8,)}",
        "--config.evaluation.classifier=False",
    ]
    (config,) = {_config(name) for name in ("f_gan", "approximate_r1", "pixel_mlp")}
    assert main(["gaxn", config, f"--workdir={tmp_path}", *parts, *small, *BRIEF]) == 0
    line = _last_line(tmp_path)
    assert line["step"] == 2 and all(np.isfinite(value) for value in line.values())
    penalty = line["d/approximate_r1:approximate_r1"]
    np.testing.assert_allclose(line["d/loss"], line["d/adversarial"] + 100 * penalty, rtol=1e-5)
    assert penalty > 0


@pytest.mark.slow
def test_a_data_set_and_a_metric_are_evaluated_together(tmp_path):
    parts = _overrides("checkerboard", "energy_distance")
    (config,) = {_config(name) for name in ("checkerboard", "energy_distance")}
    flags = f"--workdir={tmp_path}", *parts, *BRIEF, "--config.population=1"
    assert main(["gaxn", config, *flags]) == 0
    part = json.loads((tmp_path / "evaluation.json").read_text())["modes"]
    figures = part["figures"]
    assert part["protocol"]["reference"] == "checkerboard, test split"
    assert figures["modes_real"] == 8 and abs(figures["modes_quality_real"] - np.pi / 4) < 0.2
    # Real points have no distance from real points; all samples lie near the origin.
    assert abs(figures["energy_distance_real"]) < 0.1 < figures["energy_distance"]


@pytest.mark.slow
def test_an_info_gan_trains_three_players(tmp_path):
    small = [
        "--config.data.size=16",
        "--config.generator.widths=(8,)",
        "--config.discriminator.widths=(8,)",
        "--config.networks.encoder.widths=(8,)",
        "--config.evaluation.classifier=False",
        "--config.evaluation.metrics=()",
    ]
    flags = f"--workdir={tmp_path}", *small, *BRIEF
    assert main(["gaxn", _config("info_gan"), *flags]) == 0
    line = _last_line(tmp_path)
    assert line["step"] == 2 and all(np.isfinite(value) for value in line.values())
    np.testing.assert_allclose(line["encoder/information"], 2 - line["encoder/loss"], rtol=1e-5)
    cost = json.loads((tmp_path / "evaluation.json").read_text())["cost"]
    assert cost["parameters"].keys() == {"discriminator", "encoder", "generator"}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=re.findall(r"--workdir runs/(\w+)", PAGE))
def test_a_command_works_as_it_is_printed(command, tmp_path):
    python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = ["bash", "-c", f"{command.strip()} --workdir {shlex.quote(str(tmp_path / 'run'))}"]
    environment = {**os.environ, "PATH": python}
    subprocess.run(shell, check=True, cwd=ROOT, env=environment, timeout=300)
    assert (tmp_path / "run" / "evaluation.json").exists()
