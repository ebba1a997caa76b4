"""Two sets of images without pairs, domain A and domain B, each from any other source."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaxn import config, data
from gaxn.types import Batch, Indices, PyTree, check

DOMAINS = ("A", "B")


@dataclasses.dataclass(frozen=True)
class Source:
    """One image of A and one of B per example: [2, height, width, channels].

    Training images are larger than test images, for random crops.

    Attributes:
        split: "train" or "test".
        a: source of domain A: "name" of a module in gaxn/data, and its fields.
        b: source of domain B.
        path: default for the path of both; "" for none.
        size: height and width of the test images, in pixels.
        enlarge: ratio of the sizes of training and test images; 286 / 256 in CycleGAN.
        paired: whether the two test images at one index show the same thing, so that
            translations can be compared with the truth.
    """

    split: str = "train"
    a: dict = dataclasses.field(default_factory=dict)
    b: dict = dataclasses.field(default_factory=dict)
    path: str = ""
    size: int = 128
    enlarge: float = 286 / 256
    paired: bool = False

    def __post_init__(self):
        data.check_split(self.split)
        check("size", self.size, self.size >= 1, "1 or more")
        check("enlarge", self.enlarge, self.enlarge >= 1, "1 or more")
        shapes = [domain.image_shape for domain in self.domains]
        equal = len(shapes[0]) == 3 and shapes[0] == shapes[1]
        check("a and b", shapes, equal, "images of one shape")
        valid = not self.paired or self.split == "train" or self.sizes[0] == self.sizes[1]
        expected = "False where A and B have {} and {} test images".format(*self.sizes)
        check("paired", self.paired, valid, expected)

    @functools.cached_property
    def domains(self) -> tuple[data.Source, data.Source]:
        """The sources of A and of B."""
        return self._domain("a", self.a), self._domain("b", self.b)

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of images of A and of B."""
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
        """Numbers of images by domain."""
        return dict(zip(DOMAINS, self.sizes, strict=True))

    @functools.cached_property
    def at_test_size(self) -> "Source":
        return dataclasses.replace(self, enlarge=1.0)

    @functools.cached_property
    def labeled(self) -> "Labeled":
        return Labeled(self.at_test_size)

    @functools.cached_property
    def table(self) -> PyTree:
        """The tables of A and B; None if either has no table."""
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
        """Returns the images at `indices`, int [..., 2]: one of A, one of B."""
        images = [
            domain.look_up(domain_table, indices[..., number]).images
            for number, (domain, domain_table) in enumerate(zip(self.domains, table, strict=True))
        ]
        return Batch(jnp.stack(images, axis=-4), None)

    def read(self, indices: np.ndarray) -> Batch:
        """Returns the images at `indices`, int [n, 2], on the host.

        Raises:
            InputError: one of them cannot be read.
        """
        images = [
            jax.device_get(read(indices[:, number])).images
            for number, read in enumerate(self.readers)
        ]
        return Batch(np.stack(images, axis=1), None)

    @functools.cached_property
    def readers(self) -> tuple[Callable[[np.ndarray], Batch], ...]:
        """Functions from the indices, int [n], of A and of B to examples."""
        return tuple(map(data.make_reader, self.domains))

    def _domain(self, name: str, spec: Mapping[str, Any]) -> data.Source:
        size = round(self.size * self.enlarge) if self.split == "train" else self.size
        field = f"config.data.{name}"
        takes = config.defaults(config.resolve("data", spec.get("name"), f"{field}.name", "Source"))
        shared = {"size": size, **({"path": self.path} if self.path else {})}
        shared = {name: value for name, value in shared.items() if name in takes}
        return config.instantiate("data", {**shared, **spec}, field, "Source", split=self.split)


@dataclasses.dataclass(frozen=True)
class Labeled:
    """The images of A, then those of B, each labeled with its domain.

    Attributes:
        pair: source of the images.
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
        """Returns the images at `indices`, int [...], and their domains."""
        first_b = self.pair.sizes[0]
        is_b = indices >= first_b
        pairs = jnp.stack([jnp.where(is_b, 0, indices), jnp.where(is_b, indices - first_b, 0)], -1)
        images = self.pair.look_up(table, pairs).images
        a, b = images[..., 0, :, :, :], images[..., 1, :, :, :]
        return Batch(jnp.where(is_b[..., None, None, None], b, a), is_b.astype(jnp.int32))

    def read(self, indices: np.ndarray) -> Batch:
        """Returns the images at `indices`, int [n], and their domains, on the host.

        Raises:
            InputError: one of them cannot be read.
        """
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        first_b = self.pair.sizes[0]
        labels = np.asarray(indices >= first_b, np.int32)
        for label, read in enumerate(self.pair.readers):
            rows = labels == label
            if rows.any():
                images[rows] = jax.device_get(read(indices[rows] - label * first_b)).images
        return Batch(images, labels)
