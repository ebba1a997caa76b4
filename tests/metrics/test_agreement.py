"""Agreement of metrics with torch-fidelity, pytorch-fid and prdc on equal features."""

import numpy as np
import pytest

from gaxn.metrics import SetSpec, frechet, inception_score, kid, precision_recall
from gaxn.metrics.statistics import rows


@pytest.fixture(scope="module")
def features():
    """Generated and real features, float32, nonnegative and correlated as after a ReLU."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(64, 64)) / 8
    generated = np.maximum(random.normal(0.3, 1, (1_300, 64)) @ mixing + 0.5, 0)
    real = np.maximum(random.normal(0.0, 1, (1_500, 64)) @ mixing + 0.5, 0)
    return generated.astype(np.float32), real.astype(np.float32)


def _rows(features):
    return rows.update(rows.empty(), np.arange(len(features)), features)


def _moments(features):
    spec = SetSpec(len(features), features.shape[1])
    return frechet.update(frechet.empty(spec), np.arange(len(features)), features)


def _silent(**options):
    return {"verbose": False, "rng_seed": 2020, **options}


def test_frechet_distance_is_that_of_torch_fidelity(features):
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("torch_fidelity.metric_fid")
    statistics = [
        # In float64, because they take the mean of float32 rows in float32.
        theirs.fid_features_to_statistics(torch.from_numpy(side.astype(np.float64)))
        for side in features
    ]
    expected = theirs.fid_statistics_to_metric(*statistics, verbose=False)
    distance = frechet.compute(*map(_moments, features)).figures["frechet_distance"]
    np.testing.assert_allclose(distance, expected["frechet_inception_distance"], rtol=1e-6)


def test_frechet_distance_is_that_of_pytorch_fid(features):
    theirs = pytest.importorskip("pytorch_fid.fid_score")
    statistics = [
        value
        for side in features
        for value in (side.astype(np.float64).mean(axis=0), np.cov(side, rowvar=False))
    ]
    expected = theirs.calculate_frechet_distance(*statistics)
    distance = frechet.compute(*map(_moments, features)).figures["frechet_distance"]
    np.testing.assert_allclose(distance, expected, rtol=1e-6)


@pytest.mark.slow
def test_kid_is_that_of_torch_fidelity_subset_by_subset(features):
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    expected = theirs.kid_features_to_metric(
        *(torch.from_numpy(side.astype(np.float64)) for side in features),
        **_silent(kid_subsets=100, kid_subset_size=1_000),
    )
    figures = kid.compute(*map(_rows, features)).figures
    mean, deviation = expected.values()
    np.testing.assert_allclose(figures["kid"], mean, rtol=1e-9)
    np.testing.assert_allclose(figures["kid_subset_deviation"], deviation, rtol=1e-9)


def test_the_full_estimate_of_kid_is_that_of_torch_fidelity(features):
    pytest.importorskip("torch")
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    generated, real = (side[:1_300].astype(np.float64) for side in features)
    options = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None}
    expected = theirs.kernel_mmd(generated, real, **options, kid_kernel_poly_coef0=1)
    estimate, _ = kid.unbiased(generated, real)
    np.testing.assert_allclose(estimate, expected, rtol=1e-9)


def test_inception_score_is_that_of_torch_fidelity():
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("torch_fidelity.metric_isc")
    logits = (3 * np.random.default_rng(0).normal(size=(1_003, 20))).astype(np.float32)
    expected = theirs.isc_features_to_metric(torch.from_numpy(logits)).values()
    state = inception_score.empty(SetSpec(len(logits), 1, classes=20))
    for part in np.array_split(np.arange(len(logits)), 7):
        state = inception_score.update(state, part, logits[part])
    figures = inception_score.compute(state).figures.values()
    np.testing.assert_allclose(list(figures), list(expected), rtol=1e-10)


def test_precision_and_recall_are_those_of_torch_fidelity(features):
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("torch_fidelity.metric_prc")
    expected = theirs.prc_features_to_metric(
        *(torch.from_numpy(side.astype(np.float64)) for side in features),
        **_silent(prc_neighborhood=3, prc_batch_size=500, save_cpu_ram=False),
    )
    figures = precision_recall.compute(*map(_rows, features)).figures
    for name in ("precision", "recall"):
        assert 0.1 < expected[name] < 0.999
        # They take the mean of counts in float32.
        np.testing.assert_allclose(figures[name], expected[name], rtol=1e-6)


@pytest.mark.parametrize("swapped", [False, True])
def test_density_and_coverage_are_those_of_prdc(features, swapped):
    theirs = pytest.importorskip("prdc")
    generated, real = features[::-1] if swapped else features
    expected = theirs.compute_prdc(
        real.astype(np.float64), generated.astype(np.float64), nearest_k=5
    )
    figures = precision_recall.compute(_rows(generated), _rows(real)).figures
    for name in ("density", "coverage"):
        assert 0.1 < expected[name] < 1.5
        np.testing.assert_allclose(figures[name], expected[name], rtol=1e-12)
