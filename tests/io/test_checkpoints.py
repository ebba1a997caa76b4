"""Checkpoints are restored bit for bit, or not at all."""

import json
import logging

import jax
import ml_dtypes
import numpy as np
import pytest

from gaxn.io.checkpoints import Checkpoints, checksums
from gaxn.types import InputError


def _state(seed):
    random = np.random.default_rng(seed)
    return {
        "step": np.asarray(seed, np.int32),
        "weights": random.normal(size=(64, 32)).astype(np.float32),
        "nested": {"half": random.normal(size=7).astype(ml_dtypes.bfloat16)},
    }


@pytest.fixture
def directory(tmp_path):
    """A directory in which steps 1, 2 and 3 were saved, and the last two remain."""
    path = tmp_path / "checkpoints"
    with Checkpoints(path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, _state(step))
    return path


def _restore(path):
    with Checkpoints(path, keep=2) as checkpoints:
        return checkpoints.restore(_state(0))


def _assert_equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_the_newest_is_restored_bit_for_bit(directory):
    _assert_equal(_restore(directory), _state(3))
    assert sorted(path.name for path in directory.iterdir()) == ["2", "3"]


def test_an_empty_directory_restores_none(tmp_path):
    assert _restore(tmp_path / "checkpoints") is None


def _largest(path):
    return max((file for file in path.rglob("*") if file.is_file()), key=lambda f: f.stat().st_size)


def _flip(path):
    file = _largest(path / "state")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _truncate(path):
    file = _largest(path / "state")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _forge_checksum(path):
    (file,) = (path / "checksums").glob("metadata")
    sums = json.loads(file.read_text())
    sums["['weights']"] = "00000000"
    file.write_text(json.dumps(sums))


def _remove_checksums(path):
    (path / "checksums" / "metadata").unlink()


@pytest.mark.parametrize("damage", [_flip, _truncate, _forge_checksum, _remove_checksums])
def test_a_damaged_checkpoint_is_logged_and_the_one_before_is_restored(directory, caplog, damage):
    damage(directory / "3")
    with caplog.at_level(logging.WARNING):
        restored = _restore(directory)
    _assert_equal(restored, _state(2))
    assert any("checkpoint 3" in record.message for record in caplog.records)
    assert (directory.with_name("corrupt_checkpoints") / "3").is_dir()
    with Checkpoints(directory, keep=2) as checkpoints:
        checkpoints.save(3, _state(3))
    _assert_equal(_restore(directory), _state(3))


def test_only_damaged_checkpoints_restore_none(directory):
    for step in ("2", "3"):
        _flip(directory / step)
    assert _restore(directory) is None


def test_a_checksum_depends_on_bits_shape_and_dtype():
    base = np.zeros((2, 3), np.float32)
    others = [
        np.copysign(base, -1),
        base.reshape(3, 2),
        base.astype(np.float64),
        base.view(np.int32),
    ]
    sums = {checksums({"x": array})["['x']"] for array in [base, *others]}
    assert len(sums) == 5


def test_a_checkpoint_of_other_shapes_is_not_a_damaged_one(directory):
    other = {**_state(0), "weights": np.zeros((64, 33), np.float32)}
    for keep in (2, None):
        with Checkpoints(directory, keep) as checkpoints:
            message = r"checkpoint 3 in .* has weights of shape \(64, 32\), .* need \(64, 33\)"
            with pytest.raises(InputError, match=message):
                checkpoints.restore(other)
            with pytest.raises(InputError, match="has more of shape none"):
                checkpoints.restore({**_state(0), "more": np.zeros(2)})
    _assert_equal(_restore(directory), _state(3))


def test_a_reader_changes_nothing_on_the_disk(directory, tmp_path):
    _flip(directory / "3")
    (directory / "4.orbax-checkpoint-tmp-0").mkdir()
    before = sorted(path for path in tmp_path.rglob("*"))
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.steps() == [2, 3]
        _assert_equal(checkpoints.restore(_state(0)), _state(2))
    with Checkpoints(tmp_path / "nowhere") as checkpoints:
        assert checkpoints.steps() == [] and checkpoints.restore(_state(0)) is None
    assert sorted(path for path in tmp_path.rglob("*")) == before
