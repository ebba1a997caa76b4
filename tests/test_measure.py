"""Sets are streamed: on any devices, by any processes, through a file, with the same figures."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from ports import free_ports

from gaxn import evaluations, measure, mesh
from gaxn.data import shapes
from gaxn.extractors import classifier, pixels, stacked_mnist
from gaxn.measure import ImageSet
from gaxn.types import InputError

COUNT = 450

CLOSE = {"rtol": 1e-4, "atol": 1e-9}
"""Of figures in float64 from features in float32. Where a subset of KID is all there is, their
deviation is 0 and what is found is rounding, about 1e-10."""


@pytest.fixture(scope="module")
def sets():
    """Generated and real, of the classifier's kind."""
    made = shapes.Source(split="train", examples=1_000), shapes.Source(split="test")
    return [measure.of_source(source, COUNT) for source in made]


@pytest.fixture(scope="module")
def extractor():
    return classifier.load("shapes")


def _metrics(*names):
    return evaluations.choose(names, "names")


def _observed(images, extractor, metrics):
    return measure.observe(images, extractor, metrics, measure.looking(extractor), "")


def _result(sets, extractor, metrics):
    found, reference = (_observed(images, extractor, metrics) for images in sets)
    return measure.compute(metrics, found, reference)


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
    alone = _result(sets, extractor, _metrics())
    for name, value in expected.figures.items():
        np.testing.assert_allclose(alone.figures[name], value, **CLOSE, err_msg=name)


def test_a_program_may_get_any_number_of_rows():
    program = mesh.spread(jax.jit(lambda fixed, x, y: (fixed * x, y)), np.float32(3))
    for rows in (1, 3, 4, 9):
        x = np.arange(rows, dtype=np.float32)
        tripled, nothing = program(x, None)
        np.testing.assert_array_equal(tripled, 3 * x)
        assert nothing is None


def test_no_more_than_a_batch_is_held(extractor):
    held = []

    def read(numbers):
        held.append(len(numbers))
        return np.zeros((len(numbers), 32, 32, 3), np.uint8), None

    _observed(ImageSet(COUNT, (32, 32, 3), 0, read), extractor, _metrics("frechet"))
    assert sum(held) == COUNT and max(held) <= measure.BATCH


def test_sources_that_are_sorted_by_class_are_read_in_another_order(sets):
    source = shapes.Source(split="test")
    images = measure.of_source(source, 100)
    labels = images.read(np.arange(100))[1]
    assert len(set(labels)) == 3
    again = measure.of_source(source, 50).read(np.arange(50))[1]
    np.testing.assert_array_equal(again, labels[:50])
    whole = measure.of_source(shapes.Source(split="train", examples=30))
    assert sorted(whole.read(np.arange(30))[0].sum(axis=(1, 2, 3)).tolist()) == sorted(
        measure.of_source(shapes.Source(split="train", examples=30), 30)
        .read(np.arange(29, -1, -1))[0]
        .sum(axis=(1, 2, 3))
        .tolist()
    )


@pytest.mark.parametrize("numbers", [[3], [6, 0, 3], [*range(7), *range(7)], []])
def test_a_program_reads_any_number_of_images(numbers):
    images = measure.of_source(shapes.Source(split="train", examples=7))
    whole = images.read(np.arange(7))
    numbers = np.array(numbers, int)
    for found, expected in zip(images.read(numbers), whole, strict=True):
        np.testing.assert_array_equal(found, expected[numbers])


def test_statistics_come_back_from_a_file(sets, extractor, expected):
    metrics = _metrics()
    reference = _observed(sets[1], extractor, metrics)
    content = measure.save(reference, {"pictures": "some"})
    loaded, facts = measure.load(_arrays(content), metrics)
    assert facts == {"pictures": "some"} and loaded.outline == reference.outline
    found = _observed(sets[0], extractor, metrics)
    result = measure.compute(metrics, found, loaded)
    for name, value in expected.figures.items():
        np.testing.assert_allclose(result.figures[name], value, rtol=1e-9, err_msg=name)


def _arrays(content):
    import io

    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return dict(stored)


def test_a_file_of_pytorch_fid_is_a_reference_and_so_is_ours_for_it(sets, extractor, expected):
    metrics = _metrics("frechet")
    content = _arrays(measure.save(_observed(sets[1], extractor, metrics), {}))
    plain = {name: content[name] for name in ("mu", "sigma")}
    loaded, facts = measure.load(plain, metrics)
    assert facts == {"samples": "unknown"}
    result = measure.compute(metrics, _observed(sets[0], extractor, metrics), loaded)
    np.testing.assert_allclose(
        result.figures["frechet_distance"], expected.figures["frechet_distance"], rtol=1e-9
    )
    found = _observed(sets[0], extractor, _metrics("kid"))
    with pytest.raises(InputError, match="metric kid needs rows of features, which the reference"):
        measure.compute(_metrics("kid"), found, loaded)
    other = {"mu": plain["mu"][:-1], "sigma": plain["sigma"][:-1, :-1]}
    with pytest.raises(InputError, match="valid is pictures of one size, by one extractor"):
        measure.compute(metrics, found, measure.load(other, metrics)[0])


def test_other_files_are_refused():
    with pytest.raises(InputError, match="no file of statistics"):
        measure.load({"gaxn": np.array("{}")}, _metrics())
    with pytest.raises(InputError, match="no file of statistics"):
        measure.load({"images": np.zeros(3)}, _metrics())


def test_too_few_images_are_one_line(extractor):
    few = measure.of_source(shapes.Source(split="train", examples=100), 4)
    whole = measure.outline(few, extractor)
    assert "manifolds" not in measure.fitting(_metrics(), [whole])
    with pytest.raises(InputError, match="metric manifolds needs 6 images or more; a set has 4"):
        measure.fitting(_metrics(), [whole], ["manifolds"])
    with pytest.raises(InputError, match="metric manifolds: a neighbourhood needs 6 examples"):
        _result([few, few], extractor, _metrics("manifolds"))


def test_an_extractor_refuses_other_images(extractor):
    for shape, message in (((32, 32, 1), "have 1 channels"), ((28, 28, 3), "28x28x3")):
        with pytest.raises(InputError, match=message):
            extractor.outline(shape)


def test_pixels_are_features():
    seen = pixels.load()
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 1), np.uint8)
    np.testing.assert_allclose(
        seen.apply({}, images).features, images.reshape(3, -1) / 127.5 - 1, atol=1e-6
    )


@pytest.mark.skipif("GAXN_DATA" not in os.environ, reason="GAXN_DATA names no directory")
def test_stacked_digits_are_their_three_digits():
    from gaxn.data import idx, reader

    batch = reader(idx.Source(split="test", dataset="mnist"))(np.arange(300))
    digits, labels = (np.asarray(leaf) for leaf in batch)
    stacked = np.concatenate([digits[:100], digits[100:200], digits[200:]], axis=-1)
    extractor = stacked_mnist.load()
    seen = extractor.apply(extractor.params, stacked)
    expected = labels[:100] * 100 + labels[100:200] * 10 + labels[200:]
    # Three digits, each right on more than 0.99.
    assert np.mean(seen.modes == expected) > 0.95
    assert extractor.outline((28, 28, 3)).features.shape == (1, 192)
    metrics = measure.applicable(
        _metrics(), [measure.outline(ImageSet(100, (28, 28, 3), 0, None), extractor)]
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
from gaxn import evaluations, measure, processes
from gaxn.data import shapes
from gaxn.extractors import classifier
assert processes.count() == 2
assert processes.gather(b"x" * (3 + 4 * index)) == [b"xxx", b"xxxxxxx"]
extractor = classifier.load("shapes")
metrics = evaluations.choose((), "names")
look = measure.looking(extractor)
read = []
def counted(images):
    def of_numbers(numbers):
        read.append(len(numbers))
        return images.read(numbers)
    return images._replace(read=of_numbers)
sets = shapes.Source(split="train", examples=1_000), shapes.Source(split="test")
found, reference = (
    measure.observe(counted(measure.of_source(source, 450)), extractor, metrics, look, "")
    for source in sets
)
assert sum(read) == 2 * (250 if index == 0 else 200)
for name, value in measure.compute(metrics, found, reference).figures.items():
    print(name, repr(value))
"""


@pytest.mark.slow
def test_two_processes_look_at_half_each_and_both_get_all(expected):
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
        dict(line.split() for line in printed.splitlines() if "Gloo" not in line)
        for printed, _ in outcomes
    )
    assert first == second
    for name, value in expected.figures.items():
        np.testing.assert_allclose(float(first[name]), value, **CLOSE, err_msg=name)
