"""The contract of all metrics, and each metric against scipy, scikit-learn or a closed form."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import scipy.ndimage
import scipy.spatial
import scipy.special
import scipy.stats
from sklearn import metrics as sklearn_metrics

from gaxn import metrics
from gaxn.metrics import (
    Observations,
    SetSpec,
    confidence,
    confusion,
    diversity,
    inception_score,
    kid,
    modes,
    ms_ssim,
    precision_recall,
    sliced_wasserstein,
)
from gaxn.metrics.statistics import nearest_neighbors, rows

FILES = [
    importlib.import_module(module.name)
    for module in pkgutil.iter_modules(metrics.__path__, "gaxn.metrics.")
    if not module.ispkg
]

SPEC = SetSpec(count=230, features=6, classes=5, modes=7, labels=5)


def _observations(seed, count=SPEC.count):
    random = np.random.default_rng(seed)
    return Observations(
        images=random.integers(0, 256, (count, 24, 22, 3), np.uint8),
        features=(random.normal(size=(count, 6)) + 3 + seed).astype(np.float32),
        logits=(3 * random.normal(size=(count, 5))).astype(np.float32),
        modes=random.integers(0, 6, count),
        labels=random.integers(0, 5, count),
    )


def _inputs(file, observations, indices):
    return [getattr(observations, field)[indices] for field in file.INPUTS]


def _state(file, observations, parts):
    """Makes a state of each part and merges them in order."""
    states = [
        file.update(file.empty(SPEC), part, *_inputs(file, observations, part)) for part in parts
    ]
    merged = file.empty(SPEC)
    for state in states:
        merged = file.merge(merged, state)
    return merged


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.split(".")[-1])
def test_every_metric_follows_the_contract(file):
    first = {"update": "state", "merge": "a", "compute": "state"}
    for name, parameter in first.items():
        assert next(iter(inspect.signature(getattr(file, name)).parameters)) == parameter
    assert file.State and set(file.INPUTS) <= set(Observations._fields)
    state = _state(file, _observations(0), [np.arange(SPEC.count)])
    figures = file.compute(state, state).figures
    assert {name for name in figures if not name.endswith("_error")} == set(file.FIGURES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.split(".")[-1])
def test_results_do_not_depend_on_batches_or_the_order_of_merging(file):
    observations = _observations(0)
    everything = np.arange(SPEC.count)
    reference = _state(file, _observations(1), [everything])
    expected = file.compute(_state(file, observations, [everything]), reference)
    assert expected.figures
    random = np.random.default_rng(2)
    for cuts in ([1, 2, 100], [77], range(7, 230, 7)):
        parts = np.split(everything, list(cuts))
        for order in (parts, parts[::-1], [parts[i] for i in random.permutation(len(parts))]):
            result = file.compute(_state(file, observations, order), reference)
            _assert_equal(result, expected)
        streamed = file.empty(SPEC)
        for part in parts:
            streamed = file.update(streamed, part, *_inputs(file, observations, part))
        _assert_equal(file.compute(streamed, reference), expected)
    shuffled = random.permutation(everything)
    result = file.compute(_state(file, observations, np.split(shuffled, 5)), reference)
    _assert_equal(result, expected)


def _assert_equal(result, expected):
    assert result.figures.keys() == expected.figures.keys()
    for name, value in expected.figures.items():
        np.testing.assert_allclose(result.figures[name], value, rtol=1e-9, err_msg=name)
    assert result.tables.keys() == expected.tables.keys()
    for name, value in expected.tables.items():
        np.testing.assert_allclose(result.tables[name], value, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.split(".")[-1])
def test_states_are_not_changed_in_place(file):
    observations, half = _observations(0), np.arange(115)
    reference = _state(file, _observations(1), [np.arange(SPEC.count)])
    before = _state(file, observations, [half])
    expected = file.compute(before, reference)
    file.update(before, half + 115, *_inputs(file, observations, half + 115))
    file.merge(before, _state(file, observations, [half + 115]))
    _assert_equal(file.compute(before, reference), expected)


def _rows(features):
    return rows.update(rows.empty(), np.arange(len(features)), features)


# Rows


def test_an_index_that_occurs_twice_is_refused():
    state = rows.merge(_rows(np.zeros((3, 1))), _rows(np.zeros((2, 1))))
    with pytest.raises(ValueError, match="twice"):
        rows.table(state)


# KID


def test_kid_of_gaussians_is_the_closed_form():
    """E k(x, y) of the cubic kernel for independent x ~ N(m, 1), y ~ N(n, 1) in one dimension."""
    random = np.random.default_rng(0)

    def expected_kernel(m, n):
        # Moments of the product of two normals of variance 1.
        first, second = m * n, (m * m + 1) * (n * n + 1)
        third = (m**3 + 3 * m) * (n**3 + 3 * n)
        return 1 + 3 * first + 3 * second + third

    truth = expected_kernel(0.5, 0.5) + expected_kernel(0, 0) - 2 * expected_kernel(0.5, 0)
    estimates = [
        kid.unbiased(random.normal(0.5, 1, (300, 1)), random.normal(0, 1, (200, 1)))
        for _ in range(200)
    ]
    values, errors = np.transpose(estimates)
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(len(values))
    assert 0.8 * values.std() < errors.mean() < 1.25 * values.std()


def test_kid_of_equal_distributions_is_zero_within_its_error():
    random = np.random.default_rng(1)
    estimates = [kid.unbiased(*random.normal(size=(2, 200, 8))) for _ in range(100)]
    values, errors = np.transpose(estimates)
    assert abs(values.mean()) < 3 * values.std() / 10
    assert np.mean(np.abs(values) < 3 * errors) > 0.95


def test_kid_is_the_mean_over_pairs_written_out():
    random = np.random.default_rng(2)
    x, y = random.normal(size=(5, 3)), random.normal(size=(4, 3))

    def kernel(a, b):
        return (a @ b / 3 + 1) ** 3

    within = [
        np.mean([kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j])
        for s in (x, y)
    ]
    across = np.mean([kernel(a, b) for a in x for b in y])
    np.testing.assert_allclose(kid.unbiased(x, y)[0], sum(within) - 2 * across, rtol=1e-12)


# Precision and recall


def test_precision_recall_density_and_coverage_match_a_direct_computation():
    real = np.arange(8.0)[:, None]
    generated = np.array([0.5, 1.5, 2.5, 3.5, 4.5, 50, 60, 70, 80, 90])[:, None]
    figures = precision_recall.compute(_rows(generated), _rows(real)).figures
    radius = {k: np.sort(np.abs(real - real.T), axis=1)[:, k] for k in (3, 5)}
    generated_radius = np.sort(np.abs(generated - generated.T), axis=1)[:, 3]
    distances = np.abs(real - generated.T)
    np.testing.assert_allclose(figures["precision"], 0.5)
    np.testing.assert_allclose(
        figures["recall"], (distances <= generated_radius).any(axis=1).mean()
    )
    np.testing.assert_allclose(figures["density"], (distances < radius[5][:, None]).mean() * 8 / 5)
    np.testing.assert_allclose(figures["coverage"], (distances.min(axis=1) < radius[5]).mean())


def test_precision_includes_the_surface_of_a_ball_and_density_does_not():
    real, generated = np.arange(6.0)[:, None], np.full((6, 1), 8.0)
    generated[:] += np.arange(6)[:, None] * 100
    figures = precision_recall.compute(_rows(generated), _rows(real)).figures
    # 8 is as far from 5 as 5 is from its third nearest, 2.
    np.testing.assert_allclose(figures["precision"], 1 / 6)
    edge = np.array([[10.0]] + [[1000.0 * n] for n in range(1, 6)])
    # 10 is as far from 5 as 5 is from its fifth nearest, 0.
    assert precision_recall.compute(_rows(edge), _rows(real)).figures["density"] == 0


def test_sets_without_a_fifth_neighbor_are_refused():
    with pytest.raises(ValueError, match="must be 6 or more, got 5"):
        precision_recall.compute(_rows(np.eye(5)), _rows(np.eye(9, 5)))


# Diversity and sliced Wasserstein


def test_diversity_is_the_mean_distance_over_pairs():
    features = np.random.default_rng(0).normal(size=(30, 4)) + 100
    figures = diversity.compute(_rows(features)).figures
    np.testing.assert_allclose(
        figures["diversity"], scipy.spatial.distance.pdist(features).mean(), rtol=1e-10
    )
    leave_one_out = [
        scipy.spatial.distance.pdist(np.delete(features, i, axis=0)).mean() for i in range(30)
    ]
    error = np.sqrt(29 * np.var(leave_one_out))
    np.testing.assert_allclose(figures["diversity_error"], error, rtol=1e-9)


@pytest.mark.parametrize("sizes", [(40, 40), (30, 45), (7, 100)])
def test_sliced_wasserstein_is_that_of_scipy(sizes):
    random = np.random.default_rng(0)
    a, b = random.normal(size=(sizes[0], 3)), random.normal(1, 2, (sizes[1], 3))
    axes = sliced_wasserstein.directions(3)
    expected = np.mean([scipy.stats.wasserstein_distance(a @ d, b @ d) for d in axes.T])
    figures = sliced_wasserstein.compute(_rows(a), _rows(b)).figures
    np.testing.assert_allclose(figures["sliced_wasserstein"], expected, rtol=1e-10)


def test_sliced_wasserstein_of_a_shift_is_its_length_times_the_mean_cosine():
    a = np.random.default_rng(0).normal(size=(50, 2))
    result = sliced_wasserstein.compute(_rows(a + np.array([3.0, 4.0])), _rows(a))
    # The mean of |cos| over the circle is 2 / pi; over 512 directions within 4 deviations.
    assert abs(result.figures["sliced_wasserstein"] - 10 / np.pi) < 4 * 5 * 0.31 / np.sqrt(512)


# MS-SSIM


def test_ms_ssim_is_that_of_scipy_filters():
    random = np.random.default_rng(0)
    a = scipy.ndimage.gaussian_filter(random.uniform(0, 255, (48, 50)), 2)
    a = ((a - a.min()) / (a.max() - a.min()) * 255).astype(np.uint8)
    b = np.clip(a + random.normal(0, 20, a.shape), 0, 255).astype(np.uint8)

    def smooth(x):
        full = scipy.ndimage.gaussian_filter(x, 1.5, truncate=5 / 1.5, mode="constant")
        return full[5:-5, 5:-5]

    x, y = a.astype(float), b.astype(float)
    weights = np.array([0.0448, 0.2856, 0.3001]) / (0.0448 + 0.2856 + 0.3001)
    expected = 1.0
    for scale in range(3):
        c1, c2 = 2.55**2, 7.65**2
        mx, my = smooth(x), smooth(y)
        vx, vy = smooth(x * x) - mx**2, smooth(y * y) - my**2
        contrast = (2 * (smooth(x * y) - mx * my) + c2) / (vx + vy + c2)
        luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        expected *= (contrast * (luminance if scale == 2 else 1)).mean() ** weights[scale]
        x, y = (scipy.ndimage.uniform_filter(z, 2, origin=-1)[::2, ::2] for z in (x, y))
        x, y = (z[: a.shape[0] >> (scale + 1), : a.shape[1] >> (scale + 1)] for z in (x, y))
    similarity = ms_ssim.similarity(a[None, :, :, None], b[None, :, :, None])
    assert 0.3 < expected < 0.97
    np.testing.assert_allclose(similarity, [expected], rtol=1e-10)


def test_ms_ssim_is_1_for_equal_images_and_0_for_a_negative():
    image = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1), np.uint8)
    np.testing.assert_allclose(ms_ssim.similarity(image, image), [1], rtol=1e-12)
    assert ms_ssim.similarity(image, 255 - image)[0] == 0


@pytest.mark.parametrize(("side", "count"), [(11, 1), (21, 1), (22, 2), (28, 2), (64, 3), (999, 5)])
def test_scales_are_those_of_11_pixels_or_more(side, count):
    assert ms_ssim.scales(side) == count


def test_images_too_small_for_a_window_have_no_ms_ssim():
    with pytest.raises(ValueError, match="got 10"):
        ms_ssim.scales(10)
    with pytest.raises(ValueError, match="needs images of 11 pixels or more per side, got 10"):
        ms_ssim.empty(SetSpec(8, 1, side=10))


@pytest.mark.parametrize("count", [2, 5, 30, 99, 100, 130, 250])
def test_all_images_have_a_partner_but_the_last_of_an_odd_number(count):
    pictures = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 1), np.uint8)
    state = ms_ssim.update(ms_ssim.empty(SetSpec(count, 1)), np.arange(count), pictures)
    odd = count % 2
    assert len(rows.table(state.values)) == (count - odd) // 2
    assert sum(map(len, state.waiting.indices)) == odd
    values = rows.table(state.values)
    np.testing.assert_allclose(ms_ssim.compute(state).figures["ms_ssim"], values.mean())


COUNT = 60
DEGENERATE = {
    # indices of the images of the set, and of the reference
    "equal sets": (np.arange(COUNT), np.arange(COUNT)),
    "each image ten times": (np.arange(COUNT) // 10, np.arange(COUNT) // 10),
    "copies of one image": (np.zeros(COUNT, int), np.zeros(COUNT, int)),
    "copies of one image, beside others": (np.zeros(COUNT, int), np.arange(COUNT)),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.split(".")[-1])
def test_figures_of_equal_sets_and_of_copies_are_finite_and_right(file, name):
    spec, observations = SPEC._replace(count=COUNT), _observations(0, COUNT)

    def state(indices):
        return file.update(
            file.empty(spec), np.arange(COUNT), *_inputs(file, observations, indices)
        )

    generated, real = map(state, DEGENERATE[name])
    values = file.compute(generated, real).figures
    assert values and np.isfinite(list(values.values())).all()
    if name != "copies of one image, beside others":
        expected = {
            **dict.fromkeys(("frechet_distance", "intra_frechet_distance"), 0),
            "sliced_wasserstein": 0,
            **dict.fromkeys(("precision", "recall", "coverage"), 1),
        }
        for figure in expected.keys() & values.keys():
            np.testing.assert_allclose(values[figure], expected[figure], atol=1e-9, err_msg=figure)
    elif file is precision_recall:
        assert values["precision"] == 1 and values["recall"] == 1 / COUNT
        assert 1 / COUNT <= values["coverage"] < 0.5
    if name == "copies of one image":
        assert values.get("ms_ssim", 1) == pytest.approx(1) and values.get("diversity", 0) == 0
        assert values.get("inception_score", 1) == pytest.approx(1)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.split(".")[-1])
def test_a_single_image_is_refused_or_has_finite_figures(file):
    spec, observations = SPEC._replace(count=1), _observations(0, 1)
    state = file.update(file.empty(spec), np.arange(1), *_inputs(file, observations, [0]))
    if file.MIN_COUNT > 1:
        return
    assert np.isfinite(list(file.compute(state, state).figures.values())).all()


# Classes


def test_inception_score_of_certain_and_balanced_classes_is_their_number():
    logits = np.where(np.eye(4)[np.arange(400) % 4] == 1, 100.0, 0.0)
    state = inception_score.empty(SetSpec(400, 1, classes=4))
    figures = inception_score.compute(inception_score.update(state, np.arange(400), logits)).figures
    # In a split of 40 the classes are not exactly balanced.
    assert 3.5 < figures["inception_score"] < 4
    state = inception_score.empty(SetSpec(40, 1, classes=4))
    uniform = inception_score.update(state, np.arange(40), np.ones((40, 4)))
    np.testing.assert_allclose(inception_score.compute(uniform).figures["inception_score"], 1)


def test_confidence_is_the_mean_of_the_largest_probability():
    logits = np.random.default_rng(0).normal(size=(50, 5))
    state = confidence.update(confidence.empty(), np.arange(50), logits)
    expected = scipy.special.softmax(logits, axis=1).max(axis=1)
    figures = confidence.compute(state).figures
    np.testing.assert_allclose(figures["confidence"], expected.mean(), rtol=1e-12)
    np.testing.assert_allclose(figures["confidence_error"], scipy.stats.sem(expected), rtol=1e-10)


def test_modes_and_reverse_kl_match_a_direct_computation():
    state = modes.empty(SetSpec(8, 1, modes=4))
    state = modes.update(state, np.arange(8), np.array([0, 0, 0, 1, 3, 3, -1, -1]))
    result = modes.compute(state)
    shares = np.array([3, 1, 0, 2]) / 6
    expected = scipy.special.rel_entr(shares, np.full(4, 0.25)).sum()
    assert result.figures["modes"] == 3 and result.figures["modes_quality"] == 0.75
    np.testing.assert_allclose(result.figures["modes_reverse_kl"], expected)
    np.testing.assert_allclose(result.tables["mode_shares"], shares)


def _predictions(seed):
    """Returns labels without class 3 and predictions without class 4, of five classes."""
    random = np.random.default_rng(seed)
    return random.choice([0, 1, 2, 4], 200), random.choice([0, 0, 1, 2, 3], 200)


def _scores(labels, predictions):
    state = confusion.empty(SetSpec(len(labels), 1, modes=5))
    return confusion.compute(confusion.update(state, None, labels, predictions))


def test_confusion_scores_are_those_of_scikit_learn():
    labels, predictions = _predictions(0)
    result = _scores(labels, predictions)
    classes = range(5)
    expected = sklearn_metrics.confusion_matrix(labels, predictions, labels=classes)
    np.testing.assert_array_equal(result.tables["confusion"], expected)
    scores = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, labels=classes, zero_division=0
    )
    for name, values in zip(("precision", "recall", "f1"), scores[:3], strict=True):
        np.testing.assert_allclose(result.tables[f"class_{name}"], values, rtol=1e-12)
        assert result.figures[f"class_{name}_worst"] == min(values)
    accuracy = sklearn_metrics.accuracy_score(labels, predictions)
    np.testing.assert_allclose(result.figures["conditional_accuracy"], accuracy, rtol=1e-12)
    assert 0 < accuracy < 1
    error = scipy.stats.sem(labels == predictions, ddof=0)
    np.testing.assert_allclose(result.figures["conditional_accuracy_error"], error, rtol=1e-12)


def test_confusion_scores_without_images_are_zero():
    result = confusion.compute(confusion.empty(SetSpec(0, 1, modes=4)))
    assert set(result.figures.values()) == {0}


# Neighbors


def test_nearest_neighbors_are_those_of_scipy_in_any_order_of_the_stream():
    random = np.random.default_rng(0)
    queries, stream = random.normal(size=(9, 3)), random.normal(size=(60, 3))
    tree = scipy.spatial.KDTree(stream)
    distances, indices = tree.query(queries, 5)
    empty = nearest_neighbors.empty(queries)
    parts = [
        nearest_neighbors.update(empty, part, stream[part])
        for part in np.split(random.permutation(60), [2, 30])
    ]
    merged = nearest_neighbors.merge(nearest_neighbors.merge(parts[2], parts[0]), parts[1])
    np.testing.assert_array_equal(merged.indices, indices)
    np.testing.assert_allclose(np.sqrt(merged.distances), distances, rtol=1e-7)


def test_copies_raise_the_share_of_copies_and_new_samples_do_not():
    random = np.random.default_rng(0)
    training, unseen, generated = random.normal(size=(3, 2_000, 8))

    def nearest(queries):
        return nearest_neighbors.update(
            nearest_neighbors.empty(queries), np.arange(2_000), training
        )

    reference = nearest(unseen)
    median, expected, share, _ = nearest_neighbors.compute(nearest(generated), reference)
    assert abs(median - expected) < 0.05 * expected and share < 0.03
    half = np.concatenate([training[:1_000], generated[:1_000]])
    _, _, share, _ = nearest_neighbors.compute(nearest(half), reference)
    assert 0.5 < share < 0.53


@pytest.mark.parametrize("count", [2, 10, 30, 100, 1_000])
def test_without_copies_the_share_of_copies_is_the_expected_one(count):
    random = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        squares = (np.square(random.exponential(size=(n, 1))) for n in (1_000, count))
        states = (nearest_neighbors.State(None, each, None) for each in squares)
        _, _, share, expected = nearest_neighbors.compute(*states)
        shares.append(share)
    error = np.std(shares) / np.sqrt(len(shares))
    # The expected share takes the distribution between two order statistics for a line.
    assert abs(np.mean(shares) - expected) < 4 * error + 0.06 * expected
