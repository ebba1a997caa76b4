"""LPIPS diversity, path length and LPIPS of translations: exact for distances that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perceptual_weights import NARROW, package_content
from scipy import stats
from test_translation_errors import _keep, _sources, _translator

from gaxn.data import Recorded
from gaxn.distributed import sharding
from gaxn.evaluation import plan
from gaxn.evaluation.evaluators import lpips, path_length, translation_errors
from gaxn.evaluation.evaluators.lpips import pair_within
from gaxn.evaluation.kinds.gan import with_float32_activations
from gaxn.experiment import make_experiment
from gaxn.features import FeatureExtractor, array_pickles, vgg
from gaxn.metrics.statistics.standard_errors import trimmed_mean
from gaxn.models.vgg import from_flax
from gaxn.types import Batch, InputError, Sampler

SAMPLES = 130


def _absolute(params, a, b):
    """The mean absolute difference, of pixels in [0, 255] if they are uint8."""
    return jnp.abs(a.astype(jnp.float32) - b.astype(jnp.float32)).mean(axis=(1, 2, 3))


EXTRACTOR = FeatureExtractor(None, {}, {"extractor": "absolute", "sha256": "0"}, distance=_absolute)


class Grays(Recorded):
    """Images of one gray each: their index, in classes that follow one another."""

    @property
    def table(self):
        return None

    def read(self, indices):
        pixels = np.broadcast_to(
            indices.astype(np.uint8)[:, None, None, None], (len(indices), 2, 2, 1)
        )
        return Batch(pixels, (indices // 10 % 3).astype(np.int32))


def _grays(classes, count=60):
    record = {
        "identity": "grays",
        "image_shape": (2, 2, 1),
        "classes": [str(index) for index in range(classes)],
        "examples": [count, 0],
    }
    return Grays("train", record=record)


def test_diversity_is_the_mean_distance_of_pairs_of_one_condition():
    drawn = {}

    def sample(indices, labels):
        drawn.update(zip(indices.tolist(), labels.tolist(), strict=True))
        levels = (indices * (1 + labels)).astype(np.uint8)
        return np.broadcast_to(levels[:, None, None, None], (len(indices), 2, 2, 1))

    evaluator = lpips.Evaluator(_grays(3), EXTRACTOR, 3, SAMPLES)
    report = evaluator(Sampler(sample, None, None, {}, {"step": 3}))
    pairs = np.arange(SAMPLES // 2)
    assert drawn == {2 * pair + place: pair % 3 for pair in pairs for place in (0, 1)}
    # The two levels of a pair differ by 1 + its label; below 256 nothing wraps around.
    levels = [
        ((2 * pairs + place) * (1 + pairs % 3)).astype(np.uint8).astype(int) for place in (0, 1)
    ]
    expected = np.abs(levels[0] - levels[1])
    assert report.figures["lpips_diversity"] == pytest.approx(expected.mean(), rel=1e-6)
    error = expected.std(ddof=1) / np.sqrt(len(pairs))
    assert report.figures["lpips_diversity_error"] == pytest.approx(error, rel=1e-6)
    assert report.protocol["pairs"] == len(pairs) and report.protocol["step"] == 3
    assert evaluator.figures == {"lpips_diversity"}


def test_real_images_have_the_mean_distance_of_random_pairs_of_each_class():
    """In class c images differ by c + 1 times the difference of two random numbers below 20."""

    class Spread(Grays):
        def read(self, indices):
            labels = np.where(indices < 200, indices // 20 % 2, 2)
            levels = (indices % 20 * (1 + labels)).astype(np.uint8)
            pixels = np.broadcast_to(levels[:, None, None, None], (len(indices), 2, 2, 1))
            return Batch(pixels, labels.astype(np.int32))

    source = Spread("train", record={**_grays(3).record, "examples": [2_000, 0]})
    real = lpips.Evaluator(source, EXTRACTOR, 3, 2_000)._real["lpips_diversity"]
    # The mean distance of two of n equally likely numbers is (n^2 - 1) / 3n.
    expected = (20**2 - 1) / 60 * np.mean([1, 2, 3])
    assert real == pytest.approx(expected, rel=0.1)
    # Most images are of the last class.
    drawn = np.concatenate([np.full(100, 1), np.full(100, 2), np.full(1_800, 3)])
    assert abs((20**2 - 1) / 60 * drawn.mean() / expected - 1) > 0.3


def test_neighbors_in_a_folder_are_no_pairs():
    """Two neighbors differ by 1, two random ones of 60 by 20 in the mean."""
    real = lpips.Evaluator(_grays(0), EXTRACTOR, 0, SAMPLES)._real["lpips_diversity"]
    assert real == pytest.approx((60**2 - 1) / 180, rel=0.3)


def test_without_two_real_images_of_one_condition_there_is_no_figure_of_them():
    # Of captions there is one image each.
    assert lpips.Evaluator(_grays(0), EXTRACTOR, 7, SAMPLES)._real == {}
    assert lpips.Evaluator(_grays(3, count=1), EXTRACTOR, 3, SAMPLES)._real == {}


def test_an_odd_image_of_a_class_is_in_no_pair():
    pairs = pair_within(np.array([0, 1, 0, 2, 0, 1]))
    np.testing.assert_array_equal(pairs, [[0, 2], [1, 5]])


def test_the_path_length_is_the_mean_squared_speed_along_the_arc():
    """The image is the latent, the distance the squared one, so a path has a known speed."""
    random = np.random.default_rng(0)
    latents = random.normal(size=(2 * SAMPLES, 12)).astype(np.float32)
    extractor = FeatureExtractor(
        None, {}, {}, distance=lambda params, a, b: jnp.square(a - b).sum(axis=(1, 2, 3))
    )

    def generate(variables, latents, labels):
        return variables["scale"] * (latents + labels[:, None]).reshape(-1, 2, 2, 3)

    evaluator = path_length.Evaluator(extractor, 3, SAMPLES, generate, lambda labels: labels)
    sampler = Sampler(
        *(None, None, None, {}, {"step": 3}),
        latents=lambda indices: latents[indices],
        variables={"scale": np.float32(2)},
    )
    report = evaluator(sampler)
    a, b = latents[::2].astype(np.float64), latents[1::2].astype(np.float64)
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    angles = np.arccos((a * b).sum(axis=1) / lengths[0] / lengths[1])
    places = np.random.RandomState(path_length.SEED).uniform(size=SAMPLES)
    radii = (1 - places) * lengths[0] + places * lengths[1]
    speeds = 4 * ((radii * angles) ** 2 + (lengths[1] - lengths[0]) ** 2)
    low = np.percentile(speeds, 1, method="lower")
    high = np.percentile(speeds, 99, method="higher")
    expected = speeds[(low <= speeds) & (speeds <= high)]
    assert len(expected) < SAMPLES
    # Differences of 1e-4 between float32 numbers near 1.
    name = "perceptual_path_length"
    assert report.figures[name] == pytest.approx(expected.mean(), rel=3e-3)
    assert report.figures[f"{name}_error"] == pytest.approx(trimmed_mean(speeds, 0.01)[1], rel=1e-2)
    assert report.protocol["paths"] == SAMPLES and report.protocol["step"] == 3


def test_paths_are_of_images_with_float32_activations(tiny):
    """In bfloat16 a step of 1e-4 would be lost in rounding."""
    half, full = (
        make_experiment(tiny(f"dtype={dtype}"), "tiny").gan for dtype in ("bfloat16", "float32")
    )
    assert half.generator != full.generator
    assert with_float32_activations(half).generator == full.generator


@pytest.mark.parametrize("count", [2, 99, 100, 101, 1_000])
def test_the_trimmed_mean_leaves_out_what_lies_beyond_percentiles(count):
    values = np.random.default_rng(0).lognormal(size=count)
    mean, error = trimmed_mean(values, 0.01)
    low, high = (np.percentile(values, q, method=m) for q, m in ((1, "lower"), (99, "higher")))
    rest = values[(low <= values) & (values <= high)]
    assert mean == pytest.approx(rest.mean(), rel=1e-12)
    winsorized = np.clip(values, rest.min(), rest.max())
    expected = winsorized.std(ddof=1) / np.sqrt(count) / (len(rest) / count)
    assert error == pytest.approx(expected, rel=1e-12)


def test_the_error_of_a_trimmed_mean_is_how_much_it_varies():
    random = np.random.default_rng(0)
    means, errors = np.transpose(
        [trimmed_mean(random.standard_t(3, size=400), 0.05) for _ in range(2_000)]
    )
    assert errors.mean() == pytest.approx(means.std(), rel=0.05)
    assert stats.trim_mean(np.arange(100.0), 0.05) == trimmed_mean(np.arange(100.0), 0.051)[0]


def test_translations_have_the_distances_of_lpips(monkeypatch):
    monkeypatch.setattr(translation_errors, "MEAN_IMAGE_COUNT", 150)
    train, test = _sources(paired=True)
    extractor = FeatureExtractor(None, {}, {"extractor": "absolute"}, distance=_absolute)
    evaluators = [
        translation_errors.Evaluator(
            train, test, 60, lambda member: _translator(_keep, _keep), measure
        )
        for measure in (translation_errors.MAE, lpips.make_measure(extractor))
    ]
    translator = _translator(_keep, lambda images: 255 - images)
    mae, by_extractor = (evaluator(translator) for evaluator in evaluators)
    assert {name.replace("mae", "lpips") for name in mae.figures} == by_extractor.figures.keys()
    assert evaluators[1].figures <= by_extractor.figures.keys()
    for name, value in mae.figures.items():
        # Of images in [-1, 1], not in [0, 1].
        lpips_value = by_extractor.figures[name.replace("mae", "lpips")]
        assert lpips_value == pytest.approx(2 * value, rel=1e-5, abs=1e-7)
    assert by_extractor.protocol["extractor"] == "absolute" and "mae" not in by_extractor.protocol


@pytest.fixture
def narrow(monkeypatch):
    """A VGG with few channels in place of that of the weights' file."""
    params = from_flax(array_pickles.read(package_content(NARROW.widths)), NARROW)
    extractor = vgg.make_extractor(NARROW, params, (5,), {"extractor": "narrow", "sha256": "0"})
    monkeypatch.setattr(plan.vgg, "load", lambda weights: extractor)


@pytest.mark.slow
@pytest.mark.parametrize("truncation", [0.0, 0.5])
def test_a_gan_is_evaluated_by_lpips_and_path_length(tiny, narrow, truncation):
    fields = "evaluation.lpips=package", f"evaluation.truncation={truncation}"
    config = tiny(*fields, "evaluation.samples=20")
    experiment = make_experiment(config, "tiny", sharding.jit_parallelism(jax.devices()[:1]))
    evaluators = experiment.evaluation.evaluators()
    sampler = experiment.evaluation.sampler(jax.device_get(experiment.create_state(experiment.key)))
    for part, name in (("lpips", "lpips_diversity"), ("path_length", "perceptual_path_length")):
        report = evaluators[part](sampler)
        assert report.figures[name] > 0 and report.figures[f"{name}_error"] > 0
        assert report.protocol["truncation"] == (truncation or "none")
    interim = experiment.evaluation.interim_evaluators()
    assert not {"lpips", "path_length"} & interim.keys()


@pytest.mark.slow
def test_a_cyclegan_is_evaluated_by_lpips(ring, narrow):
    fields = "evaluation.lpips=package", "evaluation.samples=20"
    config = ring(*fields, variant="tiny", name="attn_cyclegan_shapes")
    experiment = make_experiment(config, "tiny", sharding.jit_parallelism(jax.devices()[:1]))
    evaluators = experiment.evaluation.evaluators()
    state = jax.device_get(experiment.create_state(experiment.key))
    report = evaluators["lpips"](experiment.evaluation.sampler(state))
    assert report.figures.keys() >= {"lpips_a2b", "lpips_b2a_mean_image", "cycle_lpips_a"}
    # The networks before the first step are the baseline of that name.
    assert report.figures["lpips_a2b"] == report.figures["lpips_a2b_untrained"] > 0


def test_images_that_a_vgg_does_not_take_are_refused_before_training(ring, narrow):
    config = ring("population=1", "evaluation.lpips=package", variant="gan+tiny")
    experiment = make_experiment(config, "tiny", sharding.jit_parallelism(jax.devices()[:1]))
    with pytest.raises(InputError, match="the number of channels must be 1 or 3, got 2"):
        experiment.evaluation.check()
