"""Two sets of images, never paired: domain A and domain B, each any other source."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaxn import data, schema
from gaxn.types import Batch, Indices, InputError, PyTree, require

SPLITS = ("train", "test")
DOMAINS = ("A", "B")


@dataclasses.dataclass(frozen=True)
class Source:
    """An image of A beside one of B: [2, height, width, channels].

    Training images are larger than those for tests, so that a random square of them can be seen.

    Attributes:
        split: "train" or "test".
        a: of domain A: the "name" of a file in gaxn/data, and its fields.
        b: of domain B.
        path: that of both, where they have none of their own; "" for none.
        size: height and width of the images for tests, in pixels.
        enlarge: how many times as high and wide training images are; 286 / 256 in the CycleGAN.
        paired: whether test images of an index show the same in A and in B, so that translations
            can be held against the truth.
    """

    split: str = "train"
    a: dict = dataclasses.field(default_factory=dict)
    b: dict = dataclasses.field(default_factory=dict)
    path: str = ""
    size: int = 128
    enlarge: float = 286 / 256
    paired: bool = False

    def __post_init__(self):
        require("split", self.split, self.split in SPLITS, " or ".join(SPLITS))
        require("size", self.size, self.size >= 1, "1 or more")
        require("enlarge", self.enlarge, self.enlarge >= 1, "1 or more")
        shapes = [domain.image_shape for domain in self.domains]
        if any(len(shape) != 3 for shape in shapes):
            raise InputError(
                f"a and b have examples of {shapes[0]} and {shapes[1]}; valid are images"
            )
        if shapes[0] != shapes[1]:
            raise InputError(f"a has images of {shapes[0]}, b of {shapes[1]}; valid are equal ones")
        holds = not self.paired or self.split == "train" or self.sizes[0] == self.sizes[1]
        valid = "False where A and B have {} and {} test images".format(*self.sizes)
        require("paired", self.paired, holds, valid)

    @functools.cached_property
    def domains(self) -> tuple[data.Source, data.Source]:
        """A and B, each a source of its own."""
        return self._domain("a", self.a), self._domain("b", self.b)

    @property
    def sizes(self) -> tuple[int, int]:
        """Images of A and of B."""
        return tuple(map(len, self.domains))

    @property
    def image_shape(self) -> tuple[int, ...]:
        return 2, *self.domains[0].image_shape

    @property
    def class_names(self) -> tuple[str, ...]:
        return ()

    @property
    def identity(self) -> str:
        a, b = self.domains
        return f"A: {a.identity}; B: {b.identity}"

    @property
    def counts(self) -> Mapping[str, int]:
        """Images of each domain."""
        return dict(zip(DOMAINS, self.sizes, strict=True))

    @functools.cached_property
    def still(self) -> "Source":
        return dataclasses.replace(self, enlarge=1.0)

    @functools.cached_property
    def labelled(self) -> "Labelled":
        return Labelled(self.still)

    @functools.cached_property
    def table(self) -> PyTree:
        """The tables of A and B, or None where one has none."""
        tables = tuple(domain.table for domain in self.domains)
        return None if any(table is None for table in tables) else tables

    @property
    def resident_bytes(self) -> int:
        return sum(getattr(domain, "resident_bytes", 0) for domain in self.domains)

    @property
    def workers(self) -> int:
        return max(getattr(domain, "workers", 0) for domain in self.domains)

    def __len__(self) -> int:
        return max(self.sizes)

    def look_up(self, table: PyTree, indices: Indices) -> Batch:
        """The images of `indices`, int [..., 2]: one of A, one of B."""
        images = [
            domain.look_up(own, indices[..., place]).images
            for place, (domain, own) in enumerate(zip(self.domains, table, strict=True))
        ]
        return Batch(jnp.stack(images, axis=-4), None)

    def read(self, indices: np.ndarray) -> Batch:
        """The images of `indices`, int [n, 2], on the host.

        Raises:
            InputError: one of them cannot be read.
        """
        images = [
            jax.device_get(read(indices[:, place])).images
            for place, read in enumerate(self._readers)
        ]
        return Batch(np.stack(images, axis=1), None)

    @functools.cached_property
    def _readers(self) -> tuple[Callable[[np.ndarray], Batch], ...]:
        return tuple(map(data.reader, self.domains))

    def _domain(self, name: str, spec: Mapping[str, Any]) -> data.Source:
        size = round(self.size * self.enlarge) if self.split == "train" else self.size
        field = f"config.data.{name}"
        takes = schema.defaults(schema.named("data", "Source", spec, field))
        shared = {"size": size, **({"path": self.path} if self.path else {})}
        shared = {name: value for name, value in shared.items() if name in takes}
        return schema.instance("data", {**shared, **spec}, field, "Source", split=self.split)


@dataclasses.dataclass(frozen=True)
class Labelled:
    """The images of A, then those of B, each labelled with its domain.

    Attributes:
        pair: where they come from.
    """

    pair: Source

    @property
    def split(self) -> str:
        return self.pair.split

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.pair.image_shape[1:]

    @property
    def class_names(self) -> tuple[str, ...]:
        return DOMAINS

    @property
    def identity(self) -> str:
        return self.pair.identity

    @property
    def table(self) -> PyTree:
        return self.pair.table

    @property
    def resident_bytes(self) -> int:
        return self.pair.resident_bytes

    @property
    def workers(self) -> int:
        return self.pair.workers

    def __len__(self) -> int:
        return sum(self.pair.sizes)

    def look_up(self, table: PyTree, indices: Indices) -> Batch:
        """The images of `indices`, int [...], and their domains."""
        first = self.pair.sizes[0]
        of_b = indices >= first
        places = jnp.stack([jnp.where(of_b, 0, indices), jnp.where(of_b, indices - first, 0)], -1)
        images = self.pair.look_up(table, places).images
        a, b = images[..., 0, :, :, :], images[..., 1, :, :, :]
        return Batch(jnp.where(of_b[..., None, None, None], b, a), of_b.astype(jnp.int32))

    def read(self, indices: np.ndarray) -> Batch:
        """The images of `indices`, int [n], and their domains, on the host.

        Raises:
            InputError: one of them cannot be read.
        """
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        first = self.pair.sizes[0]
        labels = np.asarray(indices >= first, np.int32)
        for label, read in enumerate(self.pair._readers):
            own = labels == label
            if own.any():
                images[own] = jax.device_get(read(indices[own] - label * first)).images
        return Batch(images, labels)
