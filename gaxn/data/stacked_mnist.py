"""Stacked MNIST (Srivastava et al., 2017; Lin et al., 2018): three digits as red, green and blue.

A thousand modes, as likely as MNIST's own digits: which one each channel is.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaxn.data import idx
from gaxn.types import Batch, Indices, Pixels, require

CHANNELS = 3
TEST_EXAMPLES = 26_000
"""As many as the protocol generates."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Images of 28x28x3, each of three MNIST images of the split, drawn by its index alone.

    Attributes:
        split: "train" or "test".
        directory: where MNIST's files lie, as in `gaxn.data.idx`.
        examples: size of the training set; the test set has as many, but at most 26,000.
    """

    split: str = "train"
    directory: str = ""
    examples: int = 128_000

    def __post_init__(self):
        require("split", self.split, self.split in idx.PARTS, " or ".join(idx.PARTS))
        require("examples", self.examples, self.examples >= 1, "1 or more")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return idx.SIDE, idx.SIDE, CHANNELS

    @property
    def class_names(self) -> tuple[str, ...]:
        return ()

    @property
    def identity(self) -> str:
        return f"stacked mnist size={idx.SIDE}"

    @property
    def modes(self) -> dict[str, Any]:
        """The three digits, by the shipped MNIST classifier."""
        return {"name": "stacked_mnist"}

    @functools.cached_property
    def table(self) -> Pixels:
        """MNIST's own images; reads the files.

        Raises:
            InputError: as in `gaxn.data.idx`.
        """
        return np.ascontiguousarray(self._digits.table.images[..., 0])

    def __len__(self) -> int:
        return self.examples if self.split == "train" else min(self.examples, TEST_EXAMPLES)

    def look_up(self, table: Pixels, indices: Indices) -> Batch:
        """The images of `indices`, put together where they are needed."""
        key = jax.random.key(0)

        def chosen(index):
            own = jax.random.fold_in(key, index)
            return jax.random.randint(own, (CHANNELS,), 0, len(self._digits))

        channels = table[jax.vmap(chosen)(indices.reshape(-1))]
        images = jnp.moveaxis(channels, 1, -1)
        return Batch(images.reshape(*indices.shape, *self.image_shape), None)

    @property
    def _digits(self) -> idx.Source:
        return idx.Source(self.split, "mnist", self.directory)
