"""Captioned images whose conditions are the vectors of their sentences, in place of labels."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gaxn import data
from gaxn.types import Batch, Indices, InputError, Labels, PyTree, SentenceCondition

NAMED = 3
"""Images without a caption that an error names."""


def check_captions(source: data.Source) -> None:
    """Raises an InputError, which names some images, unless all of a source have captions."""
    missing = [place for place, text in enumerate(source.captions) if not text.strip()]
    if missing:
        places = ", ".join(map(str, missing[:NAMED])) + ", ..." * (len(missing) > NAMED)
        raise InputError(
            f"config.text needs a caption for each image; {len(missing):,} of "
            f"{len(source):,} {source.split} images have none (images {places})"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Sentences(data.Source):
    """The images of a source, with a condition for each caption.

    Its labels are conditions. The numbers of its different captions, in alphabetical order, stand
    for them where a class would do: in grids, requests and evaluations.

    Attributes:
        source: of the images.
        conditioner: captions -> conditions, on the host.
    """

    source: data.Source = None
    conditioner: Callable[[Sequence[str]], Labels] = None

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.source.image_shape

    @property
    def identity(self) -> str:
        return self.source.identity

    @property
    def notes(self) -> tuple[str, ...]:
        return self.source.notes

    @property
    def workers(self) -> int:
        return self.source.workers

    @functools.cached_property
    def captions(self) -> tuple[str, ...]:
        """The different captions, by number."""
        return tuple(sorted(set(self.source.captions)))

    @functools.cached_property
    def numbers(self) -> np.ndarray:
        """The number of each image's caption, int32 [len]."""
        places = {caption: place for place, caption in enumerate(self.captions)}
        return np.array([places[caption] for caption in self.source.captions], np.int32)

    @functools.cached_property
    def conditions(self) -> Labels:
        """The conditions of all captions, by number."""
        return self.conditioner(self.captions)

    @functools.cached_property
    def table(self) -> PyTree:
        images = self.source.table
        return None if images is None else (images, self.numbers, self.conditions)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def num_conditions(self) -> int:
        return len(self.captions)

    def condition_of(self, labels: np.ndarray) -> Labels:
        """Returns the conditions of captions by number, int [n], or of mixtures of captions.

        Args:
            labels: numbers, or weights of all captions, float [n, captions], each row with sum 1.
                A mixture has the mean of their vectors, and the words of the heaviest.
        """
        if labels.ndim == 1:
            # NumPy takes no traced indices.
            take = np.take if isinstance(labels, np.ndarray) else jnp.take
            return jax.tree.map(lambda leaf: take(leaf, labels, axis=0), self.conditions)
        heaviest = self.condition_of(labels.argmax(axis=1))
        if not isinstance(heaviest, SentenceCondition):
            return labels @ self.conditions
        return heaviest._replace(sentence=labels @ self.conditions.sentence)

    def label_spec(self, shape: tuple[int, ...]) -> PyTree:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((*shape, *leaf.shape[1:]), leaf.dtype),
            self.conditions,
        )

    def look_up(self, table: PyTree, indices: Indices) -> Batch:
        """Returns the images at `indices`, int [...], with their conditions."""
        of_images, numbers, conditions = table
        images, _ = self.source.look_up(of_images, indices)
        rows = numbers[indices]
        return Batch(images, jax.tree.map(lambda leaf: leaf[rows], conditions))

    def read(self, indices: np.ndarray) -> Batch:
        """Reads the images at `indices`, int [n], with their conditions."""
        if isinstance(self.source, data.ImageFiles):
            # An image that takes the place of a damaged one comes with its own caption.
            (images, _), indices = self.source.read_usable(indices)
        else:
            images, _ = self.source.read(indices)
        return Batch(images, self.condition_of(self.numbers[indices]))

    def __getstate__(self):
        # A worker process gets the conditions, not the encoder that made them.
        _ = self.conditions, self.numbers
        return {**vars(self), "conditioner": None}
