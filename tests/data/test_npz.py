"""Images in a .npz are split without overlap, and arrays that are not images are refused."""

import numpy as np
import pytest

from gaxn.data import make_reader, npz
from gaxn.types import InputError


def _write(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_the_splits_are_disjoint_and_together_everything(tmp_path):
    images = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 5, 1), np.uint8)
    path = _write(tmp_path / "a.npz", arr_0=images, arr_1=np.eye(3)[np.arange(50) % 3])
    shades = {}
    for split in ("train", "test", "all"):
        source = npz.Source(split, path, test_share=0.2)
        batch = make_reader(source)(np.arange(len(source)))
        shades[split] = np.asarray(batch.images)[:, 0, 0, 0].tolist()
        np.testing.assert_array_equal(batch.labels, np.array(shades[split]) % 3)
        assert source.image_shape == (4, 5, 1) and source.class_names == ("0", "1", "2")
        assert sum(source.counts.values()) == len(source)
    assert sorted(shades["train"] + shades["test"]) == shades["all"] == list(range(50))
    assert len(shades["test"]) == 10
    identities = {npz.Source(split, path).identity for split in ("train", "test")}
    assert len(identities) == 1
    assert "test_share" not in npz.Source("all", path).identity


IMAGES = np.zeros((9, 4, 4, 3), np.uint8)

WRONG = [
    ({"images": np.zeros((3, 4, 4), np.uint8)}, "must contain an array images"),
    ({"images": np.zeros((3, 4, 4, 3))}, "must contain an array images"),
    ({"images": IMAGES, "labels": np.zeros(8, int)}, "must have one integer label per image"),
    ({"images": IMAGES, "labels": np.full(9, -1)}, "must have one integer label per image"),
    ({"images": IMAGES, "labels": np.full(9, 0.5)}, "must have one integer label per image"),
    ({"images": IMAGES, "labels": np.full(9, 2**32)}, "must have one integer label per image"),
    ({"images": np.array([object()], dtype=object)}, "must be a complete .npz of plain arrays"),
]


@pytest.mark.parametrize(("arrays", "message"), WRONG)
def test_arrays_that_are_not_images_are_refused(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message):
        npz.Source("all", _write(tmp_path / "a.npz", **arrays)).table  # noqa: B018
