"""Text encoders, one per file: captions -> vectors of sentences and words, the conditions of a GAN.

Each file defines `load`, which returns a `TextEncoder`; its parameters besides the training data
are the options in `config.text`. Encoders do not change while a GAN trains. Vectors of more than
`BATCH` captions are cached in `GAXN_CACHE`, by the SHA-256 of encoder and captions.
"""

import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gaxn.data import printable
from gaxn.io import downloads, files
from gaxn.types import InputError, SentenceCondition, Vectors, check

BATCH = 1_000
"""Sentences that are encoded at a time."""

SMALLEST = 1e-6
"""Deviation below which a feature is taken as constant."""


class TokenNetwork(NamedTuple):
    """The network of a text encoder that numbers words, for programs without gaxn.

    Attributes:
        apply: numbers of words, int32 [batch, words], 0 after the last -> vectors of the sentences
            and of their words.
        vocabulary: the words by number, without 0 (no word) and 1 (an unknown one).
        words: the most words of a caption.
    """

    apply: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    vocabulary: tuple[str, ...]
    words: int


class TextEncoder(NamedTuple):
    """A function from captions to vectors.

    Attributes:
        encode: captions -> float32 vectors of the sentences and of their words, on the host; the
            number of words is the same in every call.
        identity: name and SHA-256 of what determines the vectors.
        split: a caption -> the words that it has vectors of, for pictures.
        copies: by name, contents of files with which a run keeps the encoder in its directory.
        network: of this encoder; None for one of another library or of a file.
    """

    encode: Callable[[Sequence[str]], SentenceCondition]
    identity: str
    split: Callable[[str], list[str]] = str.split
    copies: Mapping[str, bytes] = {}
    network: TokenNetwork | None = None


def encode(encoder: TextEncoder, captions: Sequence[str]) -> SentenceCondition:
    """Returns the vectors of captions, from the cache if they are there.

    Raises:
        InputError: a caption is empty, or the cache cannot be written.
    """
    for place, caption in enumerate(captions):
        check(f"caption {place}", caption, bool(caption.strip()), "a sentence, not empty")
    content = "\n".join([encoder.identity, *captions]).encode()
    path = downloads.directory("text") / f"{hashlib.sha256(content).hexdigest()[:24]}.npz"
    if path.is_file():
        try:
            with np.load(path) as arrays:
                return SentenceCondition(*(arrays[field] for field in SentenceCondition._fields))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            # A damaged file is written anew.
            pass
    parts = [
        encoder.encode(captions[first : first + BATCH]) for first in range(0, len(captions), BATCH)
    ]
    vectors = SentenceCondition(*map(np.concatenate, zip(*parts, strict=True)))
    if len(captions) > BATCH:
        stream = io.BytesIO()
        np.savez(stream, **vectors._asdict())
        files.check_writable(path, "the vectors of captions in GAXN_CACHE")
        files.write_bytes(path, stream.getvalue())
    return vectors


@dataclasses.dataclass(frozen=True)
class Conditioner:
    """A function from captions to the conditions of a GAN.

    Attributes:
        encoder: of the captions.
        mean, deviation: of each feature of the sentences of the training split; conditions are
            standardized.
        word_scale: root mean square of the words' vectors in the training split.
        has_words: whether conditions have the words too.
    """

    encoder: TextEncoder
    mean: np.ndarray
    deviation: np.ndarray
    word_scale: float
    has_words: bool

    @property
    def features(self) -> int:
        """Length of the vector of a sentence."""
        return len(self.mean)

    def __call__(self, captions: Sequence[str]) -> Vectors | SentenceCondition:
        """Returns the conditions, on the host.

        Raises:
            InputError: a caption is empty, or the encoder does not take it.
        """
        return self.standardize(encode(self.encoder, captions))

    def standardize(self, vectors: SentenceCondition) -> Vectors | SentenceCondition:
        """Returns the conditions that vectors of the encoder become; can be traced by jit."""
        sentence = ((vectors.sentence - self.mean) / self.deviation).astype(np.float32)
        if not self.has_words:
            return sentence
        words = (vectors.words / self.word_scale).astype(np.float32)
        return SentenceCondition(sentence, words, vectors.mask)

    @property
    def record(self) -> dict[str, Any]:
        """Describes the function, ready for JSON."""
        return {
            "encoder": self.encoder.identity,
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "word_scale": self.word_scale,
        }


def make_conditioner(encoder: TextEncoder, captions: Sequence[str], has_words: bool) -> Conditioner:
    """Returns the conditioner that standardizes by the captions of a training split."""
    vectors = encode(encoder, captions)
    deviation = vectors.sentence.std(axis=0)
    # A constant feature says nothing, and must not be divided by 0.
    deviation = np.where(deviation > SMALLEST, deviation, 1.0)
    scale = float(np.sqrt(np.square(vectors.words[vectors.mask]).mean()))
    return Conditioner(encoder, vectors.sentence.mean(axis=0), deviation, scale, has_words)


def restore_conditioner(
    encoder: TextEncoder,
    record: Mapping[str, Any],
    has_words: bool,
    accepts_another: bool = False,
) -> Conditioner:
    """Returns the conditioner that a record describes.

    Args:
        encoder: of the captions.
        record: `Conditioner.record`.
        has_words: whether conditions have the words too.
        accepts_another: whether the encoder may be another one, such as a file with more captions.

    Raises:
        InputError: the encoder is another one, and must not be.
    """
    if record["encoder"] != encoder.identity and not accepts_another:
        raise InputError(
            f"the text encoder must be the one of the run, {printable(record['encoder'])}, got "
            f"{encoder.identity}; name another --workdir, or go on with the vectors of this one by "
            "--config.run.accept_new_data=True"
        )
    mean, deviation = (np.array(record[name], np.float32) for name in ("mean", "deviation"))
    return Conditioner(encoder, mean, deviation, record["word_scale"], has_words)
