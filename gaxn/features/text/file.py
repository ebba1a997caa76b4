"""Embeddings of captions that were computed elsewhere, in a .npz file."""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from gaxn.data import Source, find_path, printable
from gaxn.features.text import TextEncoder
from gaxn.types import InputError, SentenceCondition, check


def load(train: Source, test: Source, path: str) -> TextEncoder:
    """Loads a .npz with `captions`, str [n], and `sentences`, float [n, features].

    It may have `words`, float [n, words, features], and `mask`, bool [n, words]; else the sentence
    is the only word.

    Args:
        train, test: not used, as the vectors do not depend on the images.
        path: of the file.

    Raises:
        InputError: it is no such file; or, later, a caption is not in it.
    """
    content = find_path(path).read_bytes()
    check("config.text.path", path, zipfile.is_zipfile(io.BytesIO(content)), "a .npz file")
    try:
        with np.load(io.BytesIO(content)) as file:
            arrays = dict(file)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, zlib.error):
        raise InputError(f"config.text.path must be a .npz file, got {path!r}") from None
    for name, axes in (("captions", 1), ("sentences", 2)):
        shape = arrays[name].shape if name in arrays else None
        expected = f"an array with {axes} {'axis' if axes == 1 else 'axes'}"
        check(f"{name} in {path}", shape, shape is not None and len(shape) == axes, expected)
    captions, sentences = (arrays[name] for name in ("captions", "sentences"))
    expected = "str, as of np.array(['a caption'])"
    check(
        f"the type of captions in {path}", str(captions.dtype), captions.dtype.kind == "U", expected
    )
    words = arrays.get("words", sentences[:, None])
    mask = arrays.get("mask", np.ones(words.shape[:2], bool)).astype(bool)
    for name, array in (("sentences", sentences), ("words", words), ("mask", mask)):
        expected = f"{len(captions)}, one row for each caption"
        check(f"rows of {name} in {path}", len(array), len(array) == len(captions), expected)
    valid = words.ndim == 3 and mask.shape == words.shape[:2] and mask.any(axis=1).all()
    expected = "[n, words, features], and a mask [n, words] with a word for each caption"
    check(f"words in {path}", (words.shape, mask.shape), bool(valid), expected)
    finite = bool(np.isfinite(sentences).all() and np.isfinite(words).all())
    check(f"embeddings in {path}", "NaN or infinity", finite, "finite numbers")
    rows = {str(caption): row for row, caption in enumerate(captions)}

    def encode(captions: Sequence[str]) -> SentenceCondition:
        for caption in captions:
            if caption not in rows:
                raise InputError(f"{path} has no embedding of the caption {printable(caption)!r}")
        chosen = [rows[caption] for caption in captions]
        return SentenceCondition(
            np.asarray(sentences[chosen], np.float32),
            np.asarray(words[chosen], np.float32),
            mask[chosen],
        )

    def number_words(caption: str) -> list[str]:
        return [str(place) for place in range(int(mask[rows[caption]].sum()))]

    return TextEncoder(encode, f"file {hashlib.sha256(content).hexdigest()}", number_words)
