"""Figures do not depend on devices, processes, batches, or a detour through a file."""

import io
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from ports import free_ports

from gaxn.data import shapes
from gaxn.distributed import sharding
from gaxn.evaluation import plan, scoring
from gaxn.evaluation.scoring import ImageSet
from gaxn.features import classifier, pixels, stacked_mnist
from gaxn.metrics import SetSpec
from gaxn.types import InputError

COUNT = 450

CLOSE = {"rtol": 1e-4, "atol": 1e-9}
"""Tolerances of float64 figures of float32 features. A KID with one subset has a deviation of 0,
computed as a rounding error of about 1e-10."""


@pytest.fixture(scope="module")
def sets():
    """Two sets of images that the classifier knows, as generated and as real ones."""
    sources = shapes.Source(split="train", examples=1_000), shapes.Source(split="test")
    return [scoring.from_source(source, COUNT) for source in sources]


@pytest.fixture(scope="module")
def extractor():
    return classifier.load("shapes")


def _metrics(*names):
    return plan.resolve_metrics(names, "names")


def _collect(images, extractor, metrics):
    return scoring.collect(images, extractor, metrics, scoring.make_extract(extractor), "")


def _result(sets, extractor, metrics):
    statistics, reference = (_collect(images, extractor, metrics) for images in sets)
    return scoring.compute(metrics, statistics, reference)


@pytest.fixture(scope="module")
def expected(sets, extractor):
    return _result(sets, extractor, _metrics())


def test_every_metric_gives_figures(expected):
    names = ("frechet_distance", "kid", "inception_score", "precision", "density", "modes")
    assert expected.figures.keys() >= set(names)
    assert all(np.isfinite(value) for value in expected.figures.values())
    assert expected.figures["conditional_accuracy"] > 0.99


def test_metrics_declare_their_figures(expected):
    declared = {name for metric in _metrics().values() for name in metric.FIGURES}
    errors = {f"{name}_error" for name in declared}
    assert declared <= expected.figures.keys() <= declared | errors


def test_the_number_of_devices_does_not_matter(sets, extractor, expected, monkeypatch):
    devices = jax.local_devices()
    assert len(devices) == 4
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:1])
    on_one_device = _result(sets, extractor, _metrics())
    for name, value in expected.figures.items():
        np.testing.assert_allclose(on_one_device.figures[name], value, **CLOSE, err_msg=name)


def test_a_spread_program_takes_any_number_of_rows():
    program = sharding.data_parallel(jax.jit(lambda fixed, x, y: (fixed * x, y)), np.float32(3))
    for rows in (1, 3, 4, 9):
        x = np.arange(rows, dtype=np.float32)
        tripled, nothing = program(x, None)
        np.testing.assert_array_equal(tripled, 3 * x)
        assert nothing is None


def test_no_more_than_a_batch_is_read_at_once(extractor):
    sizes = []

    def read(indices):
        sizes.append(len(indices))
        return np.zeros((len(indices), 32, 32, 3), np.uint8), None

    _collect(ImageSet(COUNT, (32, 32, 3), 0, read), extractor, _metrics("frechet"))
    assert sum(sizes) == COUNT and max(sizes) <= scoring.BATCH


def test_sources_that_are_sorted_by_class_are_read_in_another_order(sets):
    source = shapes.Source(split="test")
    images = scoring.from_source(source, 100)
    labels = images.read(np.arange(100))[1]
    assert len(set(labels)) == 3
    again = scoring.from_source(source, 50).read(np.arange(50))[1]
    np.testing.assert_array_equal(again, labels[:50])
    source = shapes.Source(split="train", examples=30)
    sums = [
        scoring.from_source(source, count).read(indices)[0].sum(axis=(1, 2, 3))
        for count, indices in ((None, np.arange(30)), (30, np.arange(29, -1, -1)))
    ]
    assert sorted(sums[0]) == sorted(sums[1])


@pytest.mark.parametrize("indices", [[3], [6, 0, 3], [*range(7), *range(7)], []])
def test_any_number_of_images_can_be_read(indices):
    images = scoring.from_source(shapes.Source(split="train", examples=7))
    indices = np.array(indices, int)
    for leaf, full in zip(images.read(indices), images.read(np.arange(7)), strict=True):
        np.testing.assert_array_equal(leaf, full[indices])


def test_statistics_from_a_file_give_the_same_figures(sets, extractor, expected):
    metrics = _metrics()
    reference = _collect(sets[1], extractor, metrics)
    content = scoring.save(reference, {"pictures": "some"})
    loaded, facts = scoring.load(_arrays(content), metrics)
    assert facts == {"pictures": "some"} and loaded.spec == reference.spec
    result = scoring.compute(metrics, _collect(sets[0], extractor, metrics), loaded)
    for name, value in expected.figures.items():
        np.testing.assert_allclose(result.figures[name], value, rtol=1e-9, err_msg=name)


def _arrays(content):
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file)


def test_a_file_of_pytorch_fid_is_a_reference(sets, extractor, expected):
    metrics = _metrics("frechet")
    content = _arrays(scoring.save(_collect(sets[1], extractor, metrics), {}))
    plain = {name: content[name] for name in ("mu", "sigma")}
    loaded, facts = scoring.load(plain, metrics)
    assert facts == {"samples": "unknown"}
    result = scoring.compute(metrics, _collect(sets[0], extractor, metrics), loaded)
    np.testing.assert_allclose(
        result.figures["frechet_distance"], expected.figures["frechet_distance"], rtol=1e-9
    )
    statistics = _collect(sets[0], extractor, _metrics("kid"))
    with pytest.raises(InputError, match="metric kid needs rows of features, which the reference"):
        scoring.compute(_metrics("kid"), statistics, loaded)
    other = {"mu": plain["mu"][:-1], "sigma": plain["sigma"][:-1, :-1]}
    with pytest.raises(
        InputError, match="must have equally many features per image, got 63 and 64"
    ):
        scoring.compute(metrics, statistics, scoring.load(other, metrics)[0])


def test_other_files_are_refused():
    for content in ({"gaxn": np.array("{}")}, {"images": np.zeros(3)}):
        with pytest.raises(InputError, match="not a file of statistics"):
            scoring.load(content, _metrics())


def test_too_few_images_are_one_line(extractor):
    few = scoring.from_source(shapes.Source(split="train", examples=100), 4)
    spec = scoring.set_spec(few, extractor)
    assert "precision_recall" not in scoring.select_computable(_metrics(), [spec])
    with pytest.raises(InputError, match="metric precision_recall needs 6 images or more, got 4"):
        scoring.select_computable(_metrics(), [spec], ["precision_recall"])
    with pytest.raises(
        InputError, match="metric precision_recall: the number of images must be 6 or more"
    ):
        _result([few, few], extractor, _metrics("precision_recall"))


def test_a_covariance_needs_more_images_than_features_and_one_of_each_class_as_many_of_each():
    modules = _metrics("frechet", "intra_frechet")

    def unreliable(count, features, labels):
        spec = SetSpec(count, features, labels=labels)
        return scoring.select_unreliable(modules, [spec])

    assert unreliable(5_000, 2_048, 100) == ["intra_frechet"]
    assert unreliable(2_000, 2_048, 100) == ["frechet", "intra_frechet"]
    assert unreliable(6_500, 64, 100) == []
    assert unreliable(6_499, 64, 100) == ["intra_frechet"]


def test_features_that_are_not_finite_are_one_line(extractor):
    blank = np.zeros((4, 32, 32, 3), np.uint8)
    images = ImageSet(4, (32, 32, 3), 0, lambda indices: (blank[indices], None))

    def extract(pixels):
        return np.full((len(pixels), 2), np.nan), None, None

    with pytest.raises(InputError, match="the features of samples must be finite numbers"):
        scoring.collect(images, extractor, {}, extract, "samples")


def test_an_extractor_refuses_other_images(extractor):
    for shape, message in (((32, 32, 1), "channels must be 3 .*, got 1"), ((28, 28, 3), "28x28x3")):
        with pytest.raises(InputError, match=message):
            extractor.output_spec(shape)


def test_pixels_are_features():
    extractor = pixels.load()
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 1), np.uint8)
    np.testing.assert_allclose(
        extractor.apply({}, images).features, images.reshape(3, -1) / 127.5 - 1, atol=1e-6
    )


@pytest.mark.skipif("GAXN_DATA" not in os.environ, reason="GAXN_DATA names no directory")
def test_stacked_digits_are_their_three_digits():
    from gaxn.data import idx, make_reader

    batch = make_reader(idx.Source(split="test", dataset="mnist"))(np.arange(300))
    digits, labels = (np.asarray(leaf) for leaf in batch)
    stacked = np.concatenate([digits[:100], digits[100:200], digits[200:]], axis=-1)
    extractor = stacked_mnist.load()
    output = extractor.apply(extractor.params, stacked)
    expected = labels[:100] * 100 + labels[100:200] * 10 + labels[200:]
    # Three digits, each with an accuracy above 0.99.
    assert np.mean(output.modes == expected) > 0.95
    assert extractor.output_spec((28, 28, 3)).features.shape == (1, 192)
    metrics = scoring.select_applicable(
        _metrics(), [scoring.set_spec(ImageSet(100, (28, 28, 3), 0, None), extractor)]
    )
    assert "modes" in metrics and "inception_score" not in metrics


PROGRAM = """
import sys
import jax
import numpy as np
jax.config.update("jax_num_cpu_devices", 2)
port, index = sys.argv[1], int(sys.argv[2])
address = f"127.0.0.1:{port}"
jax.distributed.initialize(
    address, 2, index, coordinator_bind_address=address, initialization_timeout=60
)
from gaxn.data import shapes
from gaxn.distributed import multihost
from gaxn.evaluation import plan, scoring
from gaxn.features import classifier
assert multihost.count() == 2
assert multihost.gather_bytes(b"x" * (3 + 4 * index)) == [b"xxx", b"xxxxxxx"]
extractor = classifier.load("shapes")
metrics = plan.resolve_metrics((), "names")
extract = scoring.make_extract(extractor)
sizes = []
def count_reads(images):
    def read(indices):
        sizes.append(len(indices))
        return images.read(indices)
    return images._replace(read=read)
statistics, reference = (
    scoring.collect(
        count_reads(scoring.from_source(source, 450)), extractor, metrics, extract, ""
    )
    for source in (shapes.Source(split="train", examples=1_000), shapes.Source(split="test"))
)
assert sum(sizes) == 2 * (250 if index == 0 else 200)
for name, value in scoring.compute(metrics, statistics, reference).figures.items():
    print("figure", name, repr(value))
"""


@pytest.mark.slow
def test_two_processes_read_half_of_the_images_each_and_both_get_all_figures(expected):
    (port,) = free_ports()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(port), str(index)],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outcomes = [process.communicate(timeout=240) for process in running]
    for process, (_, errors) in zip(running, outcomes, strict=True):
        assert process.returncode == 0, errors
    first, second = (
        # Gloo prints lines of its own, whose parts may be mixed.
        dict(re.findall(r"figure (\S+) (\S+)\n", printed))
        for printed, _ in outcomes
    )
    assert first == second
    for name, value in expected.figures.items():
        np.testing.assert_allclose(float(first[name]), value, **CLOSE, err_msg=name)
