"""Moments of Gaussians for any order of batches, and the Frechet distance in closed form."""

import itertools

import numpy as np
import pytest
import scipy.linalg

from gaxn.metrics import SetSpec, frechet, intra_frechet
from gaxn.metrics.statistics import gaussian
from gaxn.metrics.statistics.gaussian import moments


def _features(count, width, seed, shift=0.0):
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(width, width))
    return random.normal(size=(count, width)) @ mixing + shift


def _distance(a, b):
    return gaussian.distance(gaussian.from_moments(a), gaussian.from_moments(b))


def test_frechet_distance_is_the_formula():
    a, b = _features(300, 7, 0), _features(200, 7, 1, shift=0.5)
    first, second = np.cov(a.T, ddof=1), np.cov(b.T, ddof=1)
    shift = a.mean(axis=0) - b.mean(axis=0)
    root = scipy.linalg.sqrtm(first @ second)
    assert np.abs(np.imag(root)).max() < 1e-6
    expected = shift @ shift + np.trace(first + second - 2 * np.real(root))
    np.testing.assert_allclose(_distance(moments(a), moments(b)), expected, rtol=1e-6)
    np.testing.assert_allclose(_distance(moments(b), moments(a)), expected, rtol=1e-6)


def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form():
    random = np.random.default_rng(0)
    means, deviations = random.normal(size=(2, 5)), random.uniform(0.1, 2, (2, 5))
    counts = 11, 101
    states = [
        gaussian.Moments(np.array(count), mean, np.diag(deviation**2) * (count - 1))
        for count, mean, deviation in zip(counts, means, deviations, strict=True)
    ]
    expected = ((means[0] - means[1]) ** 2 + (deviations[0] - deviations[1]) ** 2).sum()
    np.testing.assert_allclose(_distance(*states), expected, rtol=1e-12)


def test_frechet_distance_of_a_set_to_itself_is_zero():
    state = moments(_features(100, 8, 0))
    trace = np.trace(state.scatter) / (state.count - 1)
    # Two traces and their cross term cancel up to rounding.
    assert abs(_distance(state, state)) < 1e-12 * trace


def test_frechet_distance_without_full_rank():
    state = moments(_features(5, 16, 0))
    trace = np.trace(state.scatter) / (state.count - 1)
    # Eigenvalues of 0 come out as 1e-16, whose roots are 1e-8.
    assert abs(_distance(state, state)) < 1e-6 * trace
    a, b = np.zeros((5, 8)), np.zeros((6, 8))
    a[:, :4], b[:, 4:] = _features(5, 4, 1), _features(6, 4, 2)
    shift = a.mean(axis=0) - b.mean(axis=0)
    expected = shift @ shift + a.var(axis=0, ddof=1).sum() + b.var(axis=0, ddof=1).sum()
    np.testing.assert_allclose(_distance(moments(a), moments(b)), expected, rtol=1e-6)


@pytest.mark.parametrize("sizes", [(1,) * 60, (7,) * 8 + (4,), (60,), (0, 59, 0, 1)])
def test_moments_do_not_depend_on_the_batches(sizes):
    features = _features(60, 4, 0, shift=1000.0)
    state = gaussian.empty_moments(4)
    for part in np.split(features, np.cumsum(sizes)[:-1]):
        state = gaussian.merge(state, moments(part)) if len(part) else state
    _assert_moments(state, features)


def test_moments_do_not_depend_on_the_order_of_merging():
    features = _features(60, 4, 0, shift=1000.0)
    parts = [moments(part) for part in np.split(features, [3, 4, 40])] + [gaussian.empty_moments(4)]
    for order in itertools.permutations(parts):
        a, b, c, d, e = order
        merge = gaussian.merge
        _assert_moments(merge(merge(merge(merge(a, b), c), d), e), features)
        _assert_moments(merge(merge(a, b), merge(c, merge(d, e))), features)


def test_float32_features_are_summed_in_float64():
    features = _features(60, 4, 0, shift=1000.0).astype(np.float32)
    _assert_moments(moments(features), features.astype(np.float64))


def _assert_moments(state, features):
    assert state.count == len(features)
    np.testing.assert_allclose(state.mean, features.mean(axis=0), rtol=1e-12)
    covariance = np.cov(features.T, ddof=1)
    scale = np.abs(covariance).max()
    np.testing.assert_allclose(
        state.scatter / (state.count - 1), covariance, rtol=1e-9, atol=1e-9 * scale
    )


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_examples_are_refused(count):
    small = moments(_features(1, 3, 0)) if count else gaussian.empty_moments(3)
    large = moments(_features(9, 3, 0))
    for pair in ((small, large), (large, small)):
        with pytest.raises(ValueError, match=f"must be 2 or more, got {count}"):
            _distance(*pair)


def _state(features):
    spec = SetSpec(len(features), features.shape[1])
    return frechet.update(frechet.empty(spec), np.arange(len(features)), features)


def test_the_figure_is_the_distance_and_its_error_is_the_spread_over_new_sets():
    width, count = 6, 400
    reference, features = _features(5_000, width, 0), _features(count, width, 0, shift=1.0)
    figures = frechet.compute(_state(features), _state(reference)).figures
    expected = _distance(moments(features), moments(reference))
    np.testing.assert_allclose(figures["frechet_distance"], expected, rtol=1e-9)
    random = np.random.default_rng(3)
    mixing = random.normal(size=(width, width))
    samples = [
        frechet.compute(
            _state(random.normal(size=(count, width)) @ mixing + 2), _state(reference)
        ).figures
        for _ in range(60)
    ]
    spread = np.std([figures["frechet_distance"] for figures in samples])
    errors = np.mean([figures["frechet_distance_error"] for figures in samples])
    assert 0.7 * spread < errors < 1.4 * spread


def test_an_empty_fold_leaves_no_error():
    figures = frechet.compute(_state(_features(9, 2, 0)), _state(_features(9, 2, 1))).figures
    assert figures.keys() == {"frechet_distance"}


def test_intra_frechet_distance_is_the_mean_of_the_distances_of_each_class():
    features, labels = _features(90, 4, 0), np.arange(90) % 3
    real = _features(60, 4, 1)
    spec = SetSpec(90, 4, labels=4)

    def state(rows, labels):
        return intra_frechet.update(intra_frechet.empty(spec), None, labels, rows)

    result = intra_frechet.compute(state(features, labels), state(real, labels[:60]))
    expected = [
        _distance(moments(features[labels == c]), moments(real[labels[:60] == c])) for c in range(3)
    ]
    np.testing.assert_allclose(result.tables["intra_frechet_distance"][:3], expected, rtol=1e-9)
    assert result.tables["intra_frechet_distance"][3] is None
    np.testing.assert_allclose(result.figures["intra_frechet_distance"], np.mean(expected))


def test_intra_frechet_distance_of_few_images_is_that_of_a_singular_value_decomposition():
    features, real = _features(50, 40, 0), _features(120, 40, 1, shift=0.5)
    labels, real_labels = np.arange(50) % 3, np.arange(120) % 3
    labels[:3] = 0, 0, 3
    parts = np.split(np.random.default_rng(0).permutation(50), [20])

    def update(state, indices):
        return intra_frechet.update(state, indices, labels[indices], features[indices])

    empty = intra_frechet.empty(SetSpec(50, 40, labels=4))
    state = intra_frechet.merge(update(empty, parts[1]), update(empty, parts[0]))
    reference = intra_frechet.empty(SetSpec(120, 40, labels=4))
    reference = intra_frechet.update(reference, np.arange(120), real_labels, real)
    result = intra_frechet.compute(state, reference)
    expected = [
        _by_singular_values(features[labels == c], real[real_labels == c]) for c in range(3)
    ]
    np.testing.assert_allclose(result.tables["intra_frechet_distance"][:3], expected, rtol=1e-9)
    assert result.tables["intra_frechet_distance"][3] is None


def test_rows_give_the_distances_of_moments(monkeypatch):
    features, real = _features(100, 8, 0), _features(120, 8, 1, shift=0.5)
    by_rows = frechet.compute(_state(features), _state(real)).figures
    assert frechet.empty(SetSpec(100, 8)) == frechet.empty(SetSpec(7, 8)) == ((), ())
    monkeypatch.setattr(gaussian, "is_kept_as_rows", lambda *_: False)
    assert isinstance(_state(features), frechet.State)
    by_moments = frechet.compute(_state(features), _state(real)).figures
    assert by_rows == pytest.approx(by_moments, rel=1e-9)


def test_a_singular_covariance_has_a_factor():
    features = _features(30, 6, 0)
    features[:, 4] = 0
    features[:, 5] = features[:, 0]
    covariance = np.cov(features.T)
    for matrix in (covariance, covariance[:4, :4]):
        factor = gaussian.factorize(matrix)
        np.testing.assert_allclose(factor.T @ factor, matrix, rtol=1e-9, atol=1e-12)


def test_covariances_that_take_too_much_memory_are_refused():
    with pytest.raises(ValueError, match=r"1000 covariances of 2048 features, 31.2 GiB"):
        intra_frechet.empty(SetSpec(5_000_000, 2048, labels=1000))
    with pytest.raises(ValueError, match=r"10 covariances of 12288 features"):
        frechet.empty(SetSpec(50_000, 64 * 64 * 3))


def _by_singular_values(a, b):
    """Returns the distance from the singular values of the product of deviations, in float64."""
    (x, m), (y, n) = ((s - s.mean(axis=0), len(s) - 1) for s in (a, b))
    nuclear = np.linalg.svd(x @ y.T, compute_uv=False).sum() / np.sqrt(m * n)
    shift = a.mean(axis=0) - b.mean(axis=0)
    return shift @ shift + (x**2).sum() / m + (y**2).sum() / n - 2 * nuclear


@pytest.mark.parametrize(
    ("count", "reference_count", "width"),
    [(30, 30, 400), (30, 900, 400), (900, 30, 400), (60, 50, 20), (400, 30, 40)],
)
def test_the_distance_of_few_images_is_that_of_a_singular_value_decomposition(
    count, reference_count, width
):
    features, real = _features(count, width, 0), _features(reference_count, width, 1, shift=0.5)
    figures = frechet.compute(_state(features), _state(real)).figures
    expected = _by_singular_values(features, real)
    np.testing.assert_allclose(figures["frechet_distance"], expected, rtol=1e-9)
    folds = np.random.RandomState(frechet.SEED).permutation(count) * 10 // count
    rest = [_by_singular_values(features[folds != fold], real) for fold in range(10)]
    error = np.sqrt(0.9 * ((rest - np.mean(rest)) ** 2).sum())
    np.testing.assert_allclose(figures["frechet_distance_error"], error, rtol=1e-5)


def test_few_images_are_kept_as_they_are_in_any_order():
    features = _features(30, 400, 0)
    state = frechet.empty(SetSpec(30, 400))
    parts = [frechet.update(state, part, features[part]) for part in np.split(np.arange(30), 3)]
    merged = frechet.merge(frechet.merge(parts[2], parts[0]), parts[1])
    real = _state(_features(40, 400, 1))
    assert frechet.compute(merged, real) == frechet.compute(_state(features), real)
    assert frechet.compute(merged, _state(features)).figures["frechet_distance"] < 1e-9


def test_the_error_of_a_set_sorted_by_class_is_close_to_that_of_the_shuffled_set():
    # Two distant classes: a tenth of the sorted set would hold a single class.
    random = np.random.default_rng(0)
    features = random.normal(size=(400, 3))
    features[200:] += 20
    reference = _state(features[::2] + random.normal(size=(200, 3)))
    shuffled = features[random.permutation(400)]
    errors = [
        frechet.compute(_state(rows), reference).figures["frechet_distance_error"]
        for rows in (features, shuffled)
    ]
    np.testing.assert_allclose(errors[0], errors[1], rtol=0.6)


def test_the_distance_of_a_set_to_itself_is_never_negative():
    for seed in range(5):
        same = _state(_features(50, 64, seed).astype(np.float32))
        assert frechet.compute(same, same).figures["frechet_distance"] >= 0


INVALID_GAUSSIANS = {
    "shapes": (np.zeros(3), np.eye(4), "must have the shapes"),
    "words": (np.array(["a", "b"]), np.eye(2), "finite real"),
    "complex numbers": (np.zeros(2), np.eye(2) * 1j, "finite real"),
    "not a number": (np.array([0, np.nan]), np.eye(2), "finite real"),
    "asymmetry": (np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
    "a negative variance": (np.zeros(2), np.diag([1.0, -1.0]), "negative eigenvalue"),
}


@pytest.mark.parametrize("name", INVALID_GAUSSIANS)
def test_arrays_that_are_not_a_gaussian_are_refused(name):
    mean, covariance, message = INVALID_GAUSSIANS[name]
    with pytest.raises(ValueError, match=message):
        frechet.from_gaussian(mean, covariance)
