"""Attention that is kept for the report: the largest weight of a query is 255, bytes are few."""

import numpy as np
import pytest

from gaxn.evaluation.evaluators import attention
from gaxn.evaluation.evaluators.attention import Bounds, NetworkAttention


def _weights(images, heads, queries, keys):
    """Draws weights that sum to 1 over the keys."""
    weights = np.random.default_rng(0).random((images, heads, queries, keys))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


def test_maps_are_kept_to_half_a_level():
    weights = _weights(3, 2, 16, 4)
    images = np.zeros((3, 8, 8, 1), np.uint8)
    views = {
        "generator_generated": NetworkAttention(images, {"a/b": weights}, {"a/b": 0.5}),
        "discriminator_real": NetworkAttention(images, {}, {}),
    }
    arrays = attention.pack(views)
    assert set(arrays) == {
        f"generator_generated/{name}" for name in ("images", "a/b/maps", "a/b/gamma")
    }
    maps = arrays["generator_generated/a/b/maps"]
    assert maps.dtype == np.uint8 and maps.shape == weights.shape
    assert (maps.max(axis=-1) == 255).all()
    scaled = 255 * weights / weights.max(axis=-1, keepdims=True)
    assert np.abs(maps - scaled).max() <= 0.501
    assert arrays["generator_generated/a/b/gamma"] == 0.5


@pytest.mark.parametrize(
    ("shapes", "max_bytes", "bounds"),
    [
        # 6 x 2 x 64^2 x 32^2 = 50,331,648 bytes, and 3,072 of a smaller map.
        ([(6, 2, 4096, 1024), (6, 2, 16, 16)], 60_000_000, Bounds(6, 2, 64)),
        ([(6, 2, 4096, 1024), (6, 2, 16, 16)], 50_334_720, Bounds(6, 2, 64)),
        ([(6, 2, 4096, 1024), (6, 2, 16, 16)], 50_334_719, Bounds(5, 2, 64)),
        # 4 x 2 x 32^2 x 32^2 = 8,388,608.
        ([(6, 2, 4096, 1024)], 8_388_608, Bounds(4, 2, 63)),
        # 4 x 1 x 16^4 = 262,144.
        ([(6, 2, 4096, 1024)], 262_144, Bounds(4, 1, 16)),
        ([(6, 2, 4096, 1024)], 131_072, Bounds(2, 1, 16)),
        ([(6, 2, 4096, 1024)], 4_096, Bounds(1, 1, 15)),
        ([(6, 2, 4096, 1024)], 0, Bounds(1, 1, 1)),
    ],
)
def test_images_then_cells_then_heads_are_given_up(shapes, max_bytes, bounds):
    assert attention.choose_bounds(shapes, max_bytes) == bounds


def test_of_fewer_cells_neighboring_keys_are_added():
    weights = _weights(2, 3, 36, 16)
    # Sides of at most 3 cells: 3 for the 6 of the queries, 2 for the 4 of the keys.
    views = {"v": NetworkAttention(np.zeros((2, 4, 4, 1), np.uint8), {"a": weights}, {})}
    arrays = attention.pack(views, max_bytes=9 * 4)
    assert arrays["v/images"].shape[0] == 1
    (query,) = arrays["v/a/maps"][0, 0, 5:6]
    # Cell (1, 2) of 3 x 3 is cell (3, 5) of 6 x 6.
    row = weights[0, 0, 3 * 6 + 5].reshape(4, 4)
    expected = np.array([[row[:2, :2].sum(), row[:2, 2:].sum()], [row[2:, :2].sum(), 0]])
    expected[1, 1] = row[2:, 2:].sum()
    assert arrays["v/a/maps"].shape == (1, 1, 9, 4)
    np.testing.assert_array_equal(query, np.rint(255 * expected.ravel() / expected.max()))
