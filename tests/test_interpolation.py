"""Ways between latents against the geometry that they are said to have."""

import numpy as np
import pytest

from gaxn import interpolation
from gaxn.interpolation import lerp, route, slerp

SHARES = np.linspace(0, 1, 9)


def test_an_arc_in_the_plane_turns_evenly():
    start, end = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    angles = SHARES * np.pi / 2
    expected = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    np.testing.assert_allclose(slerp(start, end, SHARES), expected, atol=1e-6)


def test_lengths_go_in_a_line_and_angles_evenly():
    start, end = np.random.default_rng(0).normal(size=(2, 5, 128))
    found = slerp(start, end, SHARES).astype(np.float64)
    lengths = [np.linalg.norm(point, axis=-1) for point in (start, end)]
    expected = np.outer(1 - SHARES, lengths[0]) + np.outer(SHARES, lengths[1])
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), expected, rtol=1e-6)
    directions = found / np.linalg.norm(found, axis=-1, keepdims=True)
    turns = np.arccos((directions[1:] * directions[:-1]).sum(axis=-1))
    whole = np.arccos((directions[-1] * directions[0]).sum(axis=-1))
    # Float32 latents.
    np.testing.assert_allclose(turns, np.broadcast_to(whole / 8, turns.shape), rtol=1e-4)


def test_the_ends_are_the_latents():
    start, end = np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32)
    found = slerp(start, end, SHARES)
    np.testing.assert_allclose(found[0], start, rtol=1e-6)
    np.testing.assert_allclose(found[-1], end, rtol=1e-6)


def test_from_a_latent_to_itself_nothing_moves():
    point = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    found = slerp(point, point, SHARES)
    np.testing.assert_allclose(found, np.broadcast_to(point, found.shape), rtol=1e-6)


@pytest.mark.parametrize("closed, frames", [(True, 12), (False, 9)])
def test_a_route_comes_by_every_stop(closed, frames):
    stops = np.eye(3, dtype=np.float32)
    found = route(lerp, stops, 4, closed)
    assert len(found) == frames
    np.testing.assert_array_equal(found[[0, 4, 8]], stops)
    # The middle of a leg.
    np.testing.assert_allclose(found[2], [0.5, 0.5, 0], atol=1e-7)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-6)
    # No step is longer than the others, also from the last frame to the first.
    steps = np.diff(found, axis=0, append=found[:1] if closed else found[-1:] + np.nan)
    lengths = np.linalg.norm(steps, axis=-1)
    np.testing.assert_allclose(lengths[np.isfinite(lengths)], np.sqrt(2) / 4, rtol=1e-6)


def _latents(rows):
    return np.random.default_rng(0).normal(size=(interpolation.needed(rows), 8)).astype(np.float32)


def test_without_labels_each_row_ends_where_the_next_begins():
    latents = _latents(5)
    planned = interpolation.plan(latents, 0, 5)
    assert set(planned) == {"latents"}
    grid, frames = planned["latents"]
    assert grid.classes is None
    assert grid.latents.shape == (5, interpolation.COLUMNS, 8)
    np.testing.assert_allclose(grid.latents[:, 0], latents[:5], rtol=1e-5)
    np.testing.assert_allclose(grid.latents[:, -1], np.roll(latents[:5], -1, axis=0), rtol=1e-5)
    assert len(frames) == interpolation.STOPS * interpolation.LEG
    np.testing.assert_allclose(frames[0].latents.reshape(-1, 8), latents[:16], rtol=1e-5)


def test_with_labels_rows_are_classes_or_go_from_class_to_class():
    latents = _latents(5)
    planned = interpolation.plan(latents, 3, 5)
    assert set(planned) == {"latents", "classes"}
    of_latents, across = planned["latents"].picture, planned["classes"].picture
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
    everywhere = [grid for ways in planned.values() for grid in (ways.picture, *ways.animation)]
    for grid in everywhere:
        np.testing.assert_allclose(grid.classes.sum(axis=-1), 1, atol=1e-6)
        assert grid.latents.shape[:2] == grid.classes.shape[:2]
