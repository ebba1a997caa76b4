"""Metrics: the folder's contract, and each against scipy or scikit-learn."""

import importlib
import inspect
import itertools
import pkgutil

import numpy as np
import pytest
import scipy.linalg
from sklearn import metrics as sklearn_metrics

from gaxn import metrics
from gaxn.metrics import confusion, frechet

FILES = [
    importlib.import_module(found.name)
    for found in pkgutil.iter_modules(metrics.__path__, "gaxn.metrics.")
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.split(".")[-1])
def test_every_metric_is_empty_update_merge_compute(file):
    first = {"update": "state", "merge": "a", "compute": "state"}
    for name, parameter in first.items():
        assert next(iter(inspect.signature(getattr(file, name)).parameters)) == parameter
    nothing = file.empty(3)
    assert isinstance(nothing, file.State)
    for field, merged in zip(nothing, file.merge(nothing, file.empty(3)), strict=True):
        np.testing.assert_array_equal(field, merged)


def _features(count, width, seed, shift=0.0):
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(width, width))
    return random.normal(size=(count, width)) @ mixing + shift


def _state(features):
    return frechet.update(frechet.empty(features.shape[1]), features)


def test_frechet_distance_is_the_formula():
    a, b = _features(300, 7, 0), _features(200, 7, 1, shift=0.5)
    first, second = np.cov(a.T, ddof=1), np.cov(b.T, ddof=1)
    shift = a.mean(axis=0) - b.mean(axis=0)
    root = scipy.linalg.sqrtm(first @ second)
    assert np.abs(np.imag(root)).max() < 1e-6
    expected = shift @ shift + np.trace(first + second - 2 * np.real(root))
    np.testing.assert_allclose(frechet.compute(_state(a), _state(b)), expected, rtol=1e-6)
    np.testing.assert_allclose(frechet.compute(_state(b), _state(a)), expected, rtol=1e-6)


def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form():
    random = np.random.default_rng(0)
    means, deviations = random.normal(size=(2, 5)), random.uniform(0.1, 2, (2, 5))
    counts = 11, 101
    states = [
        frechet.State(count, mean, np.diag(deviation**2) * (count - 1))
        for count, mean, deviation in zip(counts, means, deviations, strict=True)
    ]
    expected = ((means[0] - means[1]) ** 2 + (deviations[0] - deviations[1]) ** 2).sum()
    np.testing.assert_allclose(frechet.compute(*states), expected, rtol=1e-12)


def test_frechet_distance_of_a_set_to_itself_is_zero():
    state = _state(_features(100, 8, 0))
    trace = np.trace(state.scatter) / (state.count - 1)
    # Two traces and their cross term cancel; what is left is their rounding.
    assert abs(frechet.compute(state, state)) < 1e-12 * trace


def test_frechet_distance_without_full_rank():
    state = _state(_features(5, 16, 0))
    trace = np.trace(state.scatter) / (state.count - 1)
    # Eigenvalues of 0 come out as 1e-16, whose roots are 1e-8.
    assert abs(frechet.compute(state, state)) < 1e-6 * trace
    a, b = np.zeros((5, 8)), np.zeros((6, 8))
    a[:, :4], b[:, 4:] = _features(5, 4, 1), _features(6, 4, 2)
    shift = a.mean(axis=0) - b.mean(axis=0)
    apart = shift @ shift + a.var(axis=0, ddof=1).sum() + b.var(axis=0, ddof=1).sum()
    np.testing.assert_allclose(frechet.compute(_state(a), _state(b)), apart, rtol=1e-6)


@pytest.mark.parametrize("sizes", [(1,) * 60, (7,) * 8 + (4,), (60,), (0, 59, 0, 1)])
def test_moments_do_not_depend_on_the_batches(sizes):
    features = _features(60, 4, 0, shift=1000.0)
    state = frechet.empty(4)
    for part in np.split(features, np.cumsum(sizes)[:-1]):
        state = frechet.update(state, part)
    _assert_moments(state, features)


def test_moments_do_not_depend_on_the_order_of_merging():
    features = _features(60, 4, 0, shift=1000.0)
    parts = [_state(part) for part in np.split(features, [3, 4, 40])] + [frechet.empty(4)]
    for order in itertools.permutations(parts):
        a, b, c, d, e = order
        merge = frechet.merge
        _assert_moments(merge(merge(merge(merge(a, b), c), d), e), features)
        _assert_moments(merge(merge(a, b), merge(c, merge(d, e))), features)


def test_float32_features_are_summed_in_float64():
    features = _features(60, 4, 0, shift=1000.0).astype(np.float32)
    _assert_moments(_state(features), features.astype(np.float64))


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
    few, many = _state(_features(count, 3, 0)), _state(_features(9, 3, 0))
    for pair in ((few, many), (many, few)):
        with pytest.raises(ValueError, match=f"there are {count}"):
            frechet.compute(*pair)


def _answers(seed):
    """Labels without class 3 and predictions without class 4, of five classes."""
    random = np.random.default_rng(seed)
    return random.choice([0, 1, 2, 4], 200), random.choice([0, 0, 1, 2, 3], 200)


def _counted(labels, predictions):
    return confusion.update(confusion.empty(5), labels, predictions)


def test_confusion_scores_are_those_of_scikit_learn():
    labels, predictions = _answers(0)
    state = _counted(labels, predictions)
    classes = range(5)
    expected = sklearn_metrics.confusion_matrix(labels, predictions, labels=classes)
    np.testing.assert_array_equal(state.counts, expected)
    scores = confusion.compute(state)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, labels=classes, zero_division=0
    )
    np.testing.assert_allclose(scores.precision, precision, rtol=1e-12)
    np.testing.assert_allclose(scores.recall, recall, rtol=1e-12)
    np.testing.assert_allclose(scores.f1, f1, rtol=1e-12)
    accuracy = sklearn_metrics.accuracy_score(labels, predictions)
    np.testing.assert_allclose(scores.accuracy, accuracy, rtol=1e-12)
    assert 0 < scores.accuracy < 1


def test_merged_counts_are_those_of_the_concatenation():
    first, second = _answers(0), _answers(1)
    together = _counted(*np.concatenate([first, second], axis=1))
    merged = confusion.merge(_counted(*first), _counted(*second))
    np.testing.assert_array_equal(merged.counts, together.counts)
    streamed = confusion.update(_counted(*first), *second)
    np.testing.assert_array_equal(streamed.counts, together.counts)


def test_states_are_not_changed_in_place():
    before = _counted(*_answers(0))
    copy = before.counts.copy()
    confusion.update(before, *_answers(1))
    np.testing.assert_array_equal(before.counts, copy)
    moments = _state(_features(9, 3, 0))
    copies = [np.copy(field) for field in moments]
    frechet.update(moments, _features(9, 3, 1))
    for field, copy in zip(moments, copies, strict=True):
        np.testing.assert_array_equal(field, copy)


def test_nothing_counted_scores_zero():
    scores = confusion.compute(confusion.empty(4))
    assert scores.accuracy == 0
    for values in (scores.precision, scores.recall, scores.f1):
        np.testing.assert_array_equal(values, np.zeros(4))
