"""Stacked MNIST (Srivastava et al., 2017; Lin et al., 2018): three digits as red, green and blue.

It has 1,000 modes, the triples of digits.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from gaxn import data
from gaxn.data import idx
from gaxn.types import Batch, Indices, Pixels, check

CHANNELS = 3
TEST_EXAMPLES = 26_000
"""The protocol generates as many."""


@dataclasses.dataclass(frozen=True)
class Source(data.Source):
    """Images, 28x28x3, each of three MNIST images that are drawn from its index alone.

    Attributes:
        directory: directory of MNIST's files; "" for the one in the environment variable
            `GAXN_DATA`, else the cache.
        examples: size of the training set; the test set has as many, at most 26,000.
    """

    directory: str = ""
    examples: int = 128_000

    image_shape = (idx.SIDE, idx.SIDE, CHANNELS)
    identity = f"stacked mnist size={idx.SIDE}"

    def __post_init__(self):
        super().__post_init__()
        check("examples", self.examples, self.examples >= 1, "1 or more")

    @property
    def modes(self) -> dict[str, str]:
        """Classifies the three digits by gaxn's MNIST classifier."""
        return {"name": "stacked_mnist"}

    @functools.cached_property
    def table(self) -> Pixels:
        """MNIST images of the split, [examples, height, width], read from the files.

        Raises:
            InputError: as in `gaxn.data.idx`.
        """
        return np.ascontiguousarray(self._digits.table.images[..., 0])

    def __len__(self) -> int:
        return self.examples if self.split == "train" else min(self.examples, TEST_EXAMPLES)

    def look_up(self, table: Pixels, indices: Indices) -> Batch:
        """Returns the images at `indices`, stacked from the table."""
        key = jax.random.key(0)

        def draw_digits(index):
            index_key = jax.random.fold_in(key, index)
            return jax.random.randint(index_key, (CHANNELS,), 0, len(self._digits))

        channels = table[jax.vmap(draw_digits)(indices.reshape(-1))]
        images = jnp.moveaxis(channels, 1, -1)
        return Batch(images.reshape(*indices.shape, *self.image_shape), None)

    @property
    def _digits(self) -> idx.Source:
        return idx.Source(self.split, "mnist", self.directory)
