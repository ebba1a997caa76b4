"""Text encoders turn captions into vectors that depend on encoder and caption alone."""

import dataclasses
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn.data import Source
from gaxn.features import text
from gaxn.features.text import file, sentences, words
from gaxn.io import downloads
from gaxn.models.text import TextMatcher, TextTransformer
from gaxn.types import Batch, InputError, SentenceCondition

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255,) * 3}
SIDE = 8


@dataclasses.dataclass(frozen=True)
class Colors(Source):
    """Images of one color and a caption that names it."""

    sentence: str = "a {} square"

    image_shape = (SIDE, SIDE, 3)
    identity = "colors"

    @property
    def captions(self) -> tuple[str, ...]:
        names = list(COLORS)
        return tuple(self.sentence.format(names[i % len(names)]) for i in range(len(self)))

    @property
    def table(self):
        values = np.array([*COLORS.values()], np.uint8)
        images = np.broadcast_to(
            values[np.arange(len(self)) % len(values), None, None], (40, 8, 8, 3)
        )
        return Batch(images, None)

    def __len__(self) -> int:
        return 40


TRAIN, TEST = Colors("train"), Colors("test")
NUMBERS = {"num_steps": 30, "width": 8}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """An encoder that was trained for a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAXN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield words.load(TRAIN, TEST, "", **NUMBERS)


def test_words_are_split_and_numbered():
    assert words.split_words("A medium-sized, RED disc; it's there!") == [
        *("a", "medium-sized", "red", "disc", "it's", "there")
    ]
    tokens = words.tokenize(["red disc", "a red zebra"], ["a", "disc", "red"], 4)
    # 0 is no word, and 1 an unknown one.
    np.testing.assert_array_equal(tokens, [[4, 3, 0, 0], [2, 4, 1, 0]])
    for caption in ("!", "a a a a a"):
        with pytest.raises(InputError, match="a caption must be a sentence of 1 to 4 words"):
            words.tokenize([caption], ["a"], 4)


def test_what_fills_up_a_sentence_does_not_count():
    network = TextTransformer(9, width=8)
    tokens = jnp.array([[3, 4, 5], [6, 2, 0]])
    params = network.init(jax.random.key(0), tokens)
    sentence, of_words = network.apply(params, tokens)
    longer, of_longer = network.apply(params, jnp.pad(tokens, ((0, 0), (0, 4))))
    np.testing.assert_allclose(longer, sentence, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_longer[0, :3], of_words[0], rtol=1e-5, atol=1e-6)
    alone, _ = network.apply(params, tokens[1:, :2])
    np.testing.assert_allclose(alone[0], sentence[1], rtol=1e-5, atol=1e-6)
    swapped, _ = network.apply(params, tokens[:, ::-1].at[1].set(jnp.array([2, 6, 0])))
    assert np.abs(np.asarray(swapped - sentence)).max() > 1e-3


def test_similarity_is_the_scaled_cosine():
    network = TextMatcher(TextTransformer(9, width=8), widths=(4,))
    images = jax.random.normal(jax.random.key(1), (3, SIDE, SIDE, 3))
    tokens = jnp.array([[3, 4], [6, 2]])
    params = network.init(jax.random.key(0), images, tokens)
    similarity = network.apply(params, images, tokens)
    bound = network.bind(params)
    a, b = (np.asarray(x, np.float64) for x in (bound.image(images)[0], bound.text(tokens)[0]))
    cosine = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(similarity, cosine / 0.07, rtol=1e-4, atol=1e-4)


def _cards():
    return list(downloads.directory("text").glob("*.json"))


def test_an_encoder_matches_images_and_is_trained_once(encoder, capsys, monkeypatch):
    paths = {text.files.read_json(path)["extractor"]: path for path in _cards()}
    assert paths.keys() == {words.ENCODER.extractor, words.MATCHER.extractor}
    card = text.files.read_json(paths[words.ENCODER.extractor])
    assert card["vocabulary"] == ["a", "blue", "green", "red", "square", "white"]
    assert card["words"] == 3 + words.SPARE
    monkeypatch.setattr(words, "train_matcher", None)
    images = np.array([*COLORS.values()], np.uint8)[:, None, None] * np.ones(
        (1, SIDE, SIDE, 1), np.uint8
    )
    captions = [f"a {color} square" for color in COLORS]
    similarity = words.load_matcher(TRAIN, **NUMBERS).similarity(images, captions)
    np.testing.assert_array_equal(similarity.argmax(axis=1), range(len(COLORS)))
    again = words.load(TRAIN, TEST, "", **NUMBERS)
    assert again.identity == encoder.identity and card["sha256"] in again.identity
    for a, b in zip(
        again.encode(TEST.captions[:5]), encoder.encode(TEST.captions[:5]), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert "training" not in capsys.readouterr().out
    weights = paths[words.ENCODER.extractor].with_suffix(".npz")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"x")
    with pytest.raises(InputError, match="does not match the SHA-256 in its card"):
        words.load(TRAIN, TEST, "", **NUMBERS)
    weights.write_bytes(content)


def test_an_unknown_word_is_named_once(encoder, caplog):
    for _ in range(2):
        encoder.encode(["a mauve square", "a mauve red square"])
    assert [record.message for record in caplog.records] == [
        "warning: the text encoder does not know the word 'mauve'"
    ]


def test_vectors_are_cached_by_encoder_and_captions(encoder, monkeypatch):
    monkeypatch.setattr(text, "BATCH", 3)
    calls = []

    def encode(captions: Sequence[str]) -> SentenceCondition:
        calls.append(len(captions))
        return encoder.encode(captions)

    counting = text.TextEncoder(encode, "counting")
    captions = [f"a {color} square" for color in (*COLORS, *COLORS)]
    expected = encoder.encode(captions)
    folder = downloads.directory("text")
    before = set(folder.glob("*.npz"))
    for _ in range(2):
        for a, b in zip(text.encode(counting, captions), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert calls == [3, 3, 2]
    (path,) = set(folder.glob("*.npz")) - before
    for damaged in (b"no vectors", path.read_bytes()[:-30]):
        path.write_bytes(damaged)
        text.encode(counting, captions)
    text.encode(counting._replace(identity="another"), captions)
    assert calls == 4 * [3, 3, 2]
    with pytest.raises(InputError, match="caption 1 must be a sentence, not empty, got ' '"):
        text.encode(counting, ["a red square", " "])


def test_conditions_are_standardized_by_the_training_captions():
    random = np.random.default_rng(0)
    table = random.normal(3, 2, (50, 4)).astype(np.float32)
    table[:, 2] = 7
    of_words = random.normal(0, 5, (50, 6, 3)).astype(np.float32)
    mask = np.arange(6) < random.integers(1, 7, 50)[:, None]

    def encode(captions):
        rows = list(map(int, captions))
        return SentenceCondition(table[rows], of_words[rows], mask[rows])

    encoder = text.TextEncoder(encode, "rows")
    condition = text.make_conditioner(encoder, list(map(str, range(40))), True)
    expected = (table[:40] - table[:40].mean(axis=0)) / [*table[:40].std(axis=0)[:2], 1, 1]
    expected[:, 3] /= table[:40, 3].std()
    values = condition(list(map(str, range(40))))
    np.testing.assert_allclose(values.sentence, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.square(values.words[mask[:40]]).mean(), 1, rtol=1e-5)
    restored = text.restore_conditioner(encoder, condition.record, False)
    np.testing.assert_allclose(restored(["45"]), condition(["45"]).sentence, rtol=1e-6)
    with pytest.raises(InputError, match="must be the one of the run, rows, got others"):
        text.restore_conditioner(text.TextEncoder(encode, "others"), condition.record, False)


def _write(path, **arrays):
    content = {
        "captions": np.array(["a red square", "a blue square"]),
        "sentences": np.array([[1.0, 2.0], [3.0, 4.0]]),
    }
    content = {name: array for name, array in {**content, **arrays}.items() if array is not None}
    np.savez(path, **content)
    return str(path)


def test_embeddings_of_a_file(tmp_path):
    encoder = file.load(TRAIN, TEST, _write(tmp_path / "a.npz"))
    vectors = encoder.encode(["a blue square", "a red square", "a blue square"])
    np.testing.assert_array_equal(vectors.sentence, [[3, 4], [1, 2], [3, 4]])
    np.testing.assert_array_equal(vectors.words[:, 0], vectors.sentence)
    assert vectors.mask.all() and vectors.mask.shape == (3, 1)
    of_words, mask = np.arange(12.0).reshape(2, 3, 2), np.array([[1, 1, 0], [1, 0, 0]], bool)
    path = _write(tmp_path / "b.npz", words=of_words, mask=mask)
    vectors = file.load(TRAIN, TEST, path).encode(["a red square"])
    np.testing.assert_array_equal(vectors.words, of_words[:1])
    np.testing.assert_array_equal(vectors.mask, mask[:1])
    with pytest.raises(InputError, match=r"has no embedding of the caption 'a green square'"):
        encoder.encode(["a green square"])


WRONG = {
    "no captions": ({"captions": None}, "captions in .* must be an array with 1 axis, got None"),
    "one vector": ({"sentences": np.ones(2)}, "sentences in .* must be an array with 2 axes"),
    "other count": ({"sentences": np.ones((3, 2))}, "rows of sentences in .* must be 2, .* got 3"),
    "bytes": (
        {"captions": np.array([b"a", b"b"])},
        "type of captions in .* must be str, .* got '.S1'",
    ),
    "nan": ({"sentences": np.full((2, 2), np.nan)}, "embeddings in .* must be finite numbers"),
    "no word": (
        {"words": np.ones((2, 3, 4)), "mask": np.zeros((2, 3), bool)},
        "words in .* must be .* a word for each caption",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_are_no_embeddings_are_one_line(tmp_path, name):
    arrays, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        file.load(TRAIN, TEST, _write(tmp_path / "a.npz", **arrays))


def test_a_file_that_is_none_is_one_line(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"text")
    np.save(tmp_path / "a.npy", np.ones(3))
    for name in ("a.npz", "a.npy"):
        with pytest.raises(InputError, match=r"config.text.path must be a \.npz file"):
            file.load(TRAIN, TEST, str(tmp_path / name))


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"pip install -e '.\[text\]'"):
        sentences.load(TRAIN, TEST)


@pytest.mark.slow
def test_sentences_are_the_mean_of_the_tokens_of_a_pretrained_model():
    """As the model is defined: the mean over tokens, of length 1; here from its parts by torch."""
    encoder = sentences.load(TRAIN, TEST, words=16)
    captions = ["a red square", "a scarlet box, somewhere", "two dogs that run on a beach"]
    vectors = encoder.encode(captions)
    assert vectors.sentence.shape == (3, 384) and vectors.words.shape == (3, 16, 384)
    mean = np.array([words[mask].mean(axis=0) for words, mask in zip(*vectors[1:], strict=True)])
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors.sentence, expected, rtol=1e-4, atol=1e-5)
    similarity = vectors.sentence @ vectors.sentence.T
    assert similarity[0, 1] > similarity[0, 2] + 0.2
    # Alone, without what fills up a batch.
    alone = encoder.encode(captions[:1])
    np.testing.assert_allclose(alone.sentence[0], vectors.sentence[0], rtol=1e-4, atol=1e-5)
    assert encoder.split(captions[0]) == ["[CLS]", "a", "red", "square", "[SEP]"]
    np.testing.assert_array_equal(vectors.mask.sum(axis=1)[:1], [5])


@pytest.mark.slow
def test_a_folder_that_is_no_model_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"config.text.path must be a model of sentence-trans"):
        sentences.load(TRAIN, TEST, path=str(tmp_path))
