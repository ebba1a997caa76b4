"""Mixtures of Gaussians, the extent of their modes, and networks for points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn.config import instantiate
from gaxn.data import SPLITS, KnownModes, batch_spec, make_reader, mixture
from gaxn.models import mlp
from gaxn.types import InputError

CENTERS = ((0.0, 1.0), (2.0, -1.0), (-3.0, 0.5))


def test_points_are_around_their_centers_equally_many_each():
    source = mixture.Source("train", CENTERS, 0.05, 30_000)
    assert isinstance(source, KnownModes) and not source.class_names
    batch = make_reader(source)(np.arange(len(source)))
    assert batch.labels is None and batch.images.dtype == np.float32
    points = np.asarray(batch.images, np.float64).reshape(-1, 3, 2)
    # 10,000 points per mode: standard errors of 0.0005 and 0.00035.
    np.testing.assert_allclose(points.mean(axis=0), CENTERS, atol=2.5e-3)
    np.testing.assert_allclose(points.std(axis=0), np.full((3, 2), 0.05), atol=1.5e-3)
    images = batch_spec(source, (4, 5)).images
    assert images.shape == (4, 5, 2) and images.dtype == np.float32


def test_the_splits_share_no_point():
    train, test = (mixture.Source(split, CENTERS, 0.05, 3_000) for split in SPLITS)
    assert len(test) == mixture.TEST_EXAMPLES and train.identity == test.identity
    both = [set(map(tuple, source.table.images.tolist())) for source in (train, test)]
    assert not both[0] & both[1]


@pytest.mark.parametrize(
    "options, field",
    [
        ({"centers": ()}, "centers"),
        ({"centers": ((0.0,), (1.0, 2.0))}, "centers"),
        ({"centers": CENTERS, "deviation": 0.0}, "deviation"),
        ({"centers": CENTERS, "examples": 0}, "examples"),
        ({"centers": CENTERS, "split": "all"}, "split"),
    ],
)
def test_fields_out_of_range_are_refused(options, field):
    with pytest.raises(InputError, match=f"{field} must be"):
        mixture.Source(**options)


def test_a_mode_ends_three_deviations_from_its_center():
    source = mixture.Source("train", CENTERS, 0.1)
    extractor = instantiate("features", source.modes, "modes", "load")
    points = np.array([[0, 1], [0, 1.29], [0, 1.31], [2.2, -1.2], [1.7, -0.9]], np.float32)
    output = extractor.apply(extractor.params, points)
    np.testing.assert_array_equal(output.features, points)
    np.testing.assert_array_equal(output.modes, [0, 0, -1, 1, -1])
    assert extractor.modes == 3 and extractor.output_spec((2,)).features.shape == (1, 2)


def test_maxout_is_the_largest_of_its_pieces():
    network = mlp.Discriminator(widths=(4,), pieces=3)
    points = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    variables = network.init(jax.random.key(0), points, None, True)
    first, last = (variables["params"][f"Dense_{k}"] for k in range(2))
    pieces = (points @ first["kernel"] + first["bias"]).reshape(5, 3, 4)
    expected = pieces.max(axis=1) @ last["kernel"] + last["bias"]
    logits = network.apply(variables, points, None, True)
    np.testing.assert_allclose(logits, expected[:, 0], rtol=1e-5)
    with pytest.raises(InputError, match="False with the networks of mlp"):
        network.apply(variables, points, jnp.zeros(5, jnp.int32), True)
