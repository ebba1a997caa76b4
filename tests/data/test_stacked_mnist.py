"""Stacked MNIST: three digits of the split, drawn from the index alone."""

import os

import jax
import numpy as np
import pytest

from gaxn.config import instantiate
from gaxn.data import KnownModes, batch_spec, make_reader, stacked_mnist
from gaxn.metrics import modes as counted
from gaxn.types import InputError

COUNT = 20_000


def _numbered(count):
    """Returns images whose first two pixels are their number."""
    table = np.zeros((count, 28, 28), np.uint8)
    table[:, 0, 0], table[:, 0, 1] = np.divmod(np.arange(count), 256)
    return table


def _numbers(images):
    """Returns the number of the table's image in each channel: [..., 28, 28, 3] -> [..., 3]."""
    return 256 * images[..., 0, 0, :].astype(int) + images[..., 0, 1, :]


def _drawn(split):
    source = stacked_mnist.Source(split)
    table = _numbered(60_000 if split == "train" else 10_000)
    return np.asarray(jax.jit(source.look_up)(table, np.arange(COUNT)).images)


def test_channels_are_independent_uniformly_drawn_digits():
    numbers = _numbers(_drawn("train")) / 60_000
    # Uniform in [0, 1]: 4 standard errors of the mean and of a correlation; two of them equal by
    # chance once in 60,000.
    np.testing.assert_allclose(numbers.mean(axis=0), 0.5, atol=4 * np.sqrt(1 / 12 / COUNT))
    correlation = np.corrcoef(numbers.T) - np.eye(3)
    np.testing.assert_allclose(correlation, 0, atol=4 / np.sqrt(COUNT))
    assert (numbers[:, 0] == numbers[:, 1]).sum() < 6
    assert len(np.unique(numbers)) > 37_000  # 60,000 (1 - 1 / e) = 37,927 of as many draws


def test_an_index_is_always_the_same_image():
    source = stacked_mnist.Source("test")
    table, indices = _numbered(10_000), np.array([[7, 3], [25_999, 7]])
    batch = source.look_up(table, indices)
    assert batch.labels is None and batch.images.shape == (2, 2, 28, 28, 3)
    assert batch_spec(source, (2, 2)).images.dtype == batch.images.dtype == np.uint8
    numbers = _numbers(np.asarray(batch.images))
    np.testing.assert_array_equal(numbers[0, 0], numbers[1, 1])
    alone = source.look_up(table, np.array([25_999])).images
    np.testing.assert_array_equal(_numbers(np.asarray(alone))[0], numbers[1, 0])
    assert len(source) == 26_000 and numbers.max() < 10_000


@pytest.mark.parametrize(
    "options, field", [({"split": "all"}, "split"), ({"examples": 0}, "examples")]
)
def test_fields_out_of_range_are_refused(options, field):
    with pytest.raises(InputError, match=f"{field} must be"):
        stacked_mnist.Source(**options)


@pytest.mark.slow
@pytest.mark.skipif("GAXN_DATA" not in os.environ, reason="GAXN_DATA names no directory")
def test_real_images_have_all_1000_modes():
    source = stacked_mnist.Source("test")
    assert isinstance(source, KnownModes)
    extractor = instantiate("features", source.modes, "modes", "load")
    read, extract = make_reader(source), jax.jit(extractor.apply)
    state = counted.State(np.zeros(1_000, np.int64), np.array(0))
    for indices in np.arange(10_000).reshape(10, 1_000):
        output = extract(extractor.params, read(indices).images)
        state = counted.update(state, None, np.asarray(output.modes))
    figures = counted.compute(state).figures
    assert figures["modes"] == 1_000
    # 999 / (2 10,000) = 0.05 from sampling, and 0.02 because digits are not equally frequent.
    assert 0.04 < figures["modes_reverse_kl"] < 0.1
