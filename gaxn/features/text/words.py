"""A small Transformer over words, trained on the captions and images of a data set.

Image and caption are matched within a batch (contrastively; Radford et al., 2021). The vocabulary
is that of the training captions; other words are unknown, and a warning names each once.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gaxn.data import Recorded, Source, make_reader, pixels, printable
from gaxn.features import networks
from gaxn.features.text import TextEncoder, TokenNetwork
from gaxn.models.text import TextMatcher, TextTransformer
from gaxn.types import PyTree, SentenceCondition, check

log = logging.getLogger(__name__)

BATCH_SIZE, LEARNING_RATE = 128, 1e-3
ABSENT, UNKNOWN = 0, 1
WORD = r"\w+(?:['-]\w+)*"
"""Pattern of a word in a caption of lower-case letters."""

SPARE = 4
"""Words that a caption may have beyond the longest one of the training split."""

FILE = "text_encoder.npz"
"""Copy of the weights in the directory of a run, with its card beside it."""

ENCODER = networks.Kind("text encoder", "gaxn.models.text.TextTransformer", "text")
MATCHER = networks.Kind("matcher of captions", "gaxn.models.text.TextMatcher", "text")


class Matcher(NamedTuple):
    """A network that says how well images and captions match.

    Attributes:
        similarity: (images, uint8 [n, height, width, channels], m captions) -> [n, m].
        tokenize: m captions -> token ids, int32 [m, words]; captions with equal ids are one to it.
        card: its description.
    """

    similarity: Callable[[np.ndarray, Sequence[str]], np.ndarray]
    tokenize: Callable[[Sequence[str]], np.ndarray]
    card: Mapping[str, Any]


def load(
    train: Source, test: Source, run_folder: str, width: int = 64, num_steps: int = 4_000
) -> TextEncoder:
    """Loads the encoder of a run; else that of a data set, shipped or cached; else trains one.

    Args:
        train: captioned images to train on.
        test: not used, as tests must not have a part in it.
        run_folder: the directory of a run, which has a copy of its encoder; "" for a new run.
        width: length of the vectors.
        num_steps: gradient steps, if it is trained.

    Raises:
        InputError: the cache is needed, and cannot be written; or the data cannot be read.
    """

    def make() -> tuple[PyTree, Mapping[str, Any]]:
        params, card, _ = _read_or_train_matcher(train, width, num_steps)
        identity = _identity(train, width, num_steps)
        facts = {**card, "extractor": ENCODER.extractor, "trained_on": identity}
        return {"params": params["params"]["text"]}, facts

    identity = _identity(train, width, num_steps)
    path = Path(run_folder) / FILE
    if run_folder and path.is_file():
        return _make_encoder(networks.read_named(ENCODER, str(path)))
    has_data = not isinstance(train, Recorded)
    return _make_encoder(networks.read_or_train(ENCODER, identity, make if has_data else None))


def load_matcher(train: Source, width: int = 64, num_steps: int = 4_000) -> Matcher:
    """Loads the network that matches images and captions; the arguments are those of `load`."""
    params, card, _ = _read_or_train_matcher(train, width, num_steps)
    network = TextMatcher(_network(card["vocabulary"], card["width"]))
    apply = jax.jit(network.apply)

    def tokenize_any(captions: Sequence[str]) -> np.ndarray:
        # Test captions may be longer than all that it learned from, or have no word at all.
        sentences = [split_words(caption)[: card["words"]] or [""] for caption in captions]
        return tokenize_words(sentences, card["vocabulary"], card["words"])

    def similarity(images: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        return np.asarray(apply(params, pixels.decode(images), tokenize_any(captions)))

    return Matcher(similarity, tokenize_any, card)


def _identity(train: Source, width: int, num_steps: int) -> str:
    return f"words width={width} num_steps={num_steps}; {train.identity}"


def _read_or_train_matcher(train: Source, width: int, num_steps: int) -> networks.Trained:
    identity = f"matcher, {_identity(train, width, num_steps)}"

    def make() -> tuple[PyTree, Mapping[str, Any]]:
        vocabulary, length, params = train_matcher(train, width, num_steps)
        return params, {
            "extractor": MATCHER.extractor,
            "trained_on": identity,
            "vocabulary": vocabulary,
            "words": length,
            "width": width,
        }

    return networks.read_or_train(MATCHER, identity, make)


def train_matcher(
    source: Source, width: int, num_steps: int, seed: int = 0
) -> tuple[list[str], int, PyTree]:
    """Trains both networks with AdamW on the symmetric cross-entropy (Radford et al., 2021).

    Returns:
        The vocabulary, the number of words of a caption, and the parameters of `TextMatcher`.
    """
    captions = source.captions
    split = [split_words(caption) for caption in captions]
    vocabulary = sorted({word for words in split for word in words})
    length = max(map(len, split), default=0) + SPARE
    tokens = jnp.asarray(tokenize(captions, vocabulary, length), jnp.int32)
    network = TextMatcher(_network(vocabulary, width))
    key = jax.random.key(seed)
    optimizer = optax.adamw(optax.cosine_decay_schedule(LEARNING_RATE, num_steps))

    def loss_fn(params, images, tokens):
        similarity = network.apply(params, pixels.decode(images), tokens)
        matches = jnp.arange(len(images))
        losses = optax.softmax_cross_entropy_with_integer_labels
        return (losses(similarity, matches) + losses(similarity.T, matches)).mean() / 2

    read = make_reader(source)

    def read_pairs(indices):
        return read(indices).images, tokens[indices]

    images = jnp.zeros((1, *source.image_shape))
    params = jax.jit(network.init)(key, images, tokens[:1])
    params = networks.fit(
        params, loss_fn, optimizer, read_pairs, len(source), BATCH_SIZE, key, num_steps
    )
    return vocabulary, length, params


def split_words(caption: str) -> list[str]:
    """Returns the words of a caption in lower case, without punctuation."""
    return re.findall(WORD, caption.lower())


def tokenize(captions: Sequence[str], vocabulary: Sequence[str], length: int) -> np.ndarray:
    """Returns the token ids of captions, int32 [n, length]; 0 after the last word.

    Raises:
        InputError: a caption has no word, or too many.
    """
    sentences = [split_words(caption) for caption in captions]
    for caption, words in zip(captions, sentences, strict=True):
        valid = 1 <= len(words) <= length
        check("a caption", printable(caption), valid, f"a sentence of 1 to {length} words")
    return tokenize_words(sentences, vocabulary, length)


def tokenize_words(
    sentences: Sequence[Sequence[str]], vocabulary: Sequence[str], length: int
) -> np.ndarray:
    """Returns the token ids of sentences of at most `length` words, int32 [n, length]."""
    numbers = {word: place + UNKNOWN + 1 for place, word in enumerate(vocabulary)}
    tokens = np.full((len(sentences), length), ABSENT, np.int32)
    for row, words in enumerate(sentences):
        tokens[row, : len(words)] = [numbers.get(word, UNKNOWN) for word in words]
    return tokens


def _network(vocabulary: Sequence[str], width: int) -> TextTransformer:
    return TextTransformer(len(vocabulary) + UNKNOWN + 1, width)


def _make_encoder(trained: networks.Trained) -> TextEncoder:
    params, card, content = trained
    vocabulary, length = card["vocabulary"], card["words"]
    network = _network(vocabulary, card["width"])
    apply = jax.jit(network.apply)
    known, named = set(vocabulary), set()

    def encode(captions: Sequence[str]) -> SentenceCondition:
        unknown = {word for caption in captions for word in split_words(caption)} - known - named
        for word in sorted(unknown):
            log.warning("warning: the text encoder does not know the word %r", printable(word))
        named.update(unknown)
        tokens = tokenize(captions, vocabulary, length)
        sentence, words = jax.device_get(apply(params, tokens))
        return SentenceCondition(sentence, words, tokens != ABSENT)

    copies = {
        FILE: content,
        str(Path(FILE).with_suffix(".json")): json.dumps(card, indent=2).encode(),
    }
    numbered = TokenNetwork(lambda tokens: network.apply(params, tokens), (*vocabulary,), length)
    return TextEncoder(encode, f"words {card['sha256']}", split_words, copies, numbered)
