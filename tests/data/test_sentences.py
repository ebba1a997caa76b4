"""A source of sentences gives the vector of each image's caption in place of a label."""

import dataclasses
import json
import pickle

import jax
import numpy as np
import pytest
from pictures import fill

from gaxn import data
from gaxn.data import Source, folder, make_reader
from gaxn.data.sentences import Sentences, check_captions
from gaxn.types import Batch, InputError, SentenceCondition

TEXTS = ("blue disc", "a red disc", "blue disc", "green box", "a red disc")
VECTORS = {"a red disc": [1.0, 2.0], "blue disc": [3.0, 4.0], "green box": [5.0, 6.0]}


@dataclasses.dataclass(frozen=True)
class Captions(Source):
    """Five images with captions."""

    texts: tuple[str, ...] = TEXTS
    is_read: bool = False

    class_names = ("x", "y")
    image_shape = (2, 2, 3)
    identity = "five"

    @property
    def captions(self):
        return self.texts

    @property
    def table(self):
        return None if self.is_read else self.read(np.arange(5))

    def __len__(self):
        return 5

    def read(self, indices):
        images = np.asarray(indices, np.uint8)[:, None, None, None] * np.ones((2, 2, 3), np.uint8)
        return Batch(images, np.zeros(len(indices), np.int32))


def _condition(captions):
    return np.array([VECTORS[caption] for caption in captions], np.float32)


def _with_words(captions):
    words = np.array([[[len(word)] * 3 for word in caption.split()[:2]] for caption in captions])
    return SentenceCondition(_condition(captions), words, np.ones(words.shape[:2], bool))


def _source(condition=_condition, **fields):
    return Sentences("train", source=Captions(**fields), conditioner=condition)


@pytest.mark.parametrize("is_read", [False, True])
def test_labels_are_the_vectors_of_the_captions(is_read):
    source = _source(is_read=is_read)
    assert (source.table is None) == is_read
    images, labels = jax.device_get(make_reader(source)(np.array([4, 0, 3])))
    np.testing.assert_array_equal(images[:, 0, 0, 0], [4, 0, 3])
    np.testing.assert_array_equal(labels, [[1, 2], [3, 4], [5, 6]])
    spec = data.batch_spec(source, (7, 3))
    assert spec.labels.shape == (7, 3, 2) and spec.labels.dtype == np.float32
    assert source.class_names == () and source.num_conditions == 3


def test_captions_have_numbers_and_mixtures():
    source = _source(_with_words)
    assert source.captions == ("a red disc", "blue disc", "green box")
    np.testing.assert_array_equal(source.numbers, [1, 0, 1, 2, 0])
    two = source.condition_of(np.array([2, 0]))
    np.testing.assert_array_equal(two.sentence, [[5, 6], [1, 2]])
    np.testing.assert_array_equal(two.words[:, :, 0], [[5, 3], [1, 3]])
    mixture = source.condition_of(np.array([[0.25, 0.0, 0.75]], np.float32))
    np.testing.assert_allclose(mixture.sentence, [[4, 5]])
    np.testing.assert_array_equal(mixture.words[:, :, 0], [[5, 3]])
    labels = jax.device_get(make_reader(source)(np.array([1]))).labels
    np.testing.assert_array_equal(labels.words, [[[1] * 3, [3] * 3]])


def test_a_worker_process_needs_no_encoder():
    source = _source(lambda captions: _condition(captions), is_read=True)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read(np.array([2])).labels, [[3, 4]])


def test_images_without_captions_are_named():
    source = _source(texts=("a", "", "b", "c", " ")).source
    with pytest.raises(InputError, match=r"2 of 5 train images have none \(images 1, 4\)"):
        check_captions(source)


def test_an_image_in_place_of_a_damaged_one_has_its_own_caption(tmp_path):
    root = fill(tmp_path / "set", "", count=4)
    rows = [{"file_name": f"{i:03}.png", "text": f"caption {i}"} for i in range(4)]
    lines = "\n".join(map(json.dumps, rows))
    (root / "metadata.jsonl").write_text(lines)
    damaged = root / "001.png"
    damaged.write_bytes(damaged.read_bytes()[:60] + b"x" * 20 + damaged.read_bytes()[80:])
    source = folder.Source("all", path=str(root), resident_bytes=0)

    def condition(captions):
        return np.array([[int(caption.split()[1])] for caption in captions], np.float32)

    sentences = Sentences("train", source=source, conditioner=condition)
    images, labels = sentences.read(np.array([0, 1, 2, 1]))
    np.testing.assert_array_equal(labels[:, 0], [0, 2, 2, 2])
    np.testing.assert_array_equal(images[1], images[2])
