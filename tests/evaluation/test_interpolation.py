"""Interpolations have the geometry that their docstrings claim."""

import numpy as np
import pytest

from gaxn.evaluation import interpolation
from gaxn.evaluation.interpolation import interpolate_path, lerp, slerp

FRACTIONS = np.linspace(0, 1, 9)


def test_an_arc_in_the_plane_has_constant_angular_speed():
    start, end = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    angles = FRACTIONS * np.pi / 2
    expected = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    np.testing.assert_allclose(slerp(start, end, FRACTIONS), expected, atol=1e-6)


def test_lengths_are_linear_and_angles_even():
    start, end = np.random.default_rng(0).normal(size=(2, 5, 128))
    points = slerp(start, end, FRACTIONS).astype(np.float64)
    lengths = [np.linalg.norm(point, axis=-1) for point in (start, end)]
    expected = np.outer(1 - FRACTIONS, lengths[0]) + np.outer(FRACTIONS, lengths[1])
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), expected, rtol=1e-6)
    directions = points / np.linalg.norm(points, axis=-1, keepdims=True)
    angles = np.arccos((directions[1:] * directions[:-1]).sum(axis=-1))
    total = np.arccos((directions[-1] * directions[0]).sum(axis=-1))
    # Float32 latents.
    np.testing.assert_allclose(angles, np.broadcast_to(total / 8, angles.shape), rtol=1e-4)


def test_the_ends_are_the_latents():
    start, end = np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32)
    points = slerp(start, end, FRACTIONS)
    np.testing.assert_allclose(points[0], start, rtol=1e-6)
    np.testing.assert_allclose(points[-1], end, rtol=1e-6)


def test_from_a_latent_to_itself_nothing_changes():
    point = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    points = slerp(point, point, FRACTIONS)
    np.testing.assert_allclose(points, np.broadcast_to(point, points.shape), rtol=1e-6)


@pytest.mark.parametrize("closed, frames", [(True, 12), (False, 9)])
def test_a_path_passes_every_stop(closed, frames):
    stops = np.eye(3, dtype=np.float32)
    path = interpolate_path(lerp, stops, 4, closed)
    assert len(path) == frames
    np.testing.assert_array_equal(path[[0, 4, 8]], stops)
    # The middle of a leg.
    np.testing.assert_allclose(path[2], [0.5, 0.5, 0], atol=1e-7)
    np.testing.assert_allclose(path.sum(axis=-1), 1, atol=1e-6)
    # No step is longer than the others, also from the last frame to the first.
    steps = np.diff(path, axis=0, append=path[:1] if closed else path[-1:] + np.nan)
    lengths = np.linalg.norm(steps, axis=-1)
    np.testing.assert_allclose(lengths[np.isfinite(lengths)], np.sqrt(2) / 4, rtol=1e-6)


def _latents(rows):
    return (
        np.random.default_rng(0)
        .normal(size=(interpolation.num_latents(rows), 8))
        .astype(np.float32)
    )


def test_without_labels_each_row_ends_at_the_start_of_the_next():
    latents = _latents(5)
    interpolations = interpolation.make_interpolations(latents, 0, 5)
    assert set(interpolations) == {"latents"}
    grid, frames = interpolations["latents"]
    assert grid.classes is None
    assert grid.latents.shape == (5, interpolation.COLUMNS, 8)
    np.testing.assert_allclose(grid.latents[:, 0], latents[:5], rtol=1e-5)
    np.testing.assert_allclose(grid.latents[:, -1], np.roll(latents[:5], -1, axis=0), rtol=1e-5)
    assert len(frames) == interpolation.STOPS * interpolation.LEG
    np.testing.assert_allclose(frames[0].latents.reshape(-1, 8), latents[:16], rtol=1e-5)


def test_with_labels_rows_are_classes_or_go_from_class_to_class():
    latents = _latents(5)
    interpolations = interpolation.make_interpolations(latents, 3, 5)
    assert set(interpolations) == {"latents", "classes"}
    of_latents, across = interpolations["latents"].picture, interpolations["classes"].picture
    assert of_latents.latents.shape == (3, interpolation.COLUMNS, 8)
    for row in range(3):
        np.testing.assert_array_equal(of_latents.latents[row], of_latents.latents[0])
        np.testing.assert_array_equal(
            of_latents.classes[row], np.tile(np.eye(3)[row], (interpolation.COLUMNS, 1))
        )
    columns = 2 * interpolation.CLASS_LEG + 1
    assert across.latents.shape == (5, columns, 8)
    for column in range(columns):
        np.testing.assert_array_equal(across.latents[:, column], latents[:5])
        np.testing.assert_array_equal(across.classes[:, column], across.classes[[0] * 5, column])
    np.testing.assert_array_equal(across.classes[0, [0, 4, 8]], np.eye(3))
    grids = [grid for each in interpolations.values() for grid in (each.picture, *each.animation)]
    for grid in grids:
        np.testing.assert_allclose(grid.classes.sum(axis=-1), 1, atol=1e-6)
        assert grid.latents.shape[:2] == grid.classes.shape[:2]


def test_of_many_classes_some_have_rows():
    np.testing.assert_array_equal(interpolation.select_classes(20), np.arange(20))
    chosen = interpolation.select_classes(1_000)
    assert len(chosen) == 20 and chosen[0] == 0 and chosen[-1] == 999
    assert set(np.diff(chosen)) <= {52, 53}
    latents = np.random.default_rng(0).normal(size=(interpolation.num_latents(5), 8))
    ways = interpolation.make_interpolations(latents, 1_000, 5)
    assert ways["latents"].picture.classes.shape[:1] == (20,)
    np.testing.assert_array_equal(ways["latents"].picture.classes[:, 0].argmax(axis=-1), chosen)
