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


class _TwoDomains(data.Source):
    """Base of the sources that are made of two others, `domains`."""

    domains: tuple[data.Source, data.Source]

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of images of A and of B."""
        return tuple(map(len, self.domains))

    @property
    def identity(self) -> str:
        return "A: {}; B: {}".format(*(domain.identity for domain in self.domains))

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of A, then those of B."""
        return tuple(
            f"{name}: {note}"
            for name, domain in zip(DOMAINS, self.domains, strict=True)
            for note in domain.notes
        )

    @functools.cached_property
    def table(self) -> PyTree:
        """The tables of A and B; None if either has no table."""
        tables = tuple(domain.table for domain in self.domains)
        return None if any(table is None for table in tables) else tables

    @property
    def workers(self) -> int:
        return max(domain.workers for domain in self.domains)

    @functools.cached_property
    def _readers(self) -> list[Callable[[np.ndarray], Batch]]:
        return [data.make_reader(domain) for domain in self.domains]

    def _read(self, domain: int, indices: np.ndarray) -> np.ndarray:
        """Returns images of one domain on the host."""
        return jax.device_get(self._readers[domain](indices)).images

    def __getstate__(self):
        # Compiled readers cannot be sent to a worker process.
        return {name: value for name, value in vars(self).items() if name != "_readers"}


@dataclasses.dataclass(frozen=True)
class Source(_TwoDomains):
    """One image of A and one of B per example: [2, height, width, channels].

    Training images are larger than test images, for random crops.

    Attributes:
        a: the images of domain A, must be set: "name" of a module in gaxn/data, and its fields.
        b: the images of domain B, in the same form.
        path: `path` of a and b, where they do not set it; "" for none.
        size: height and width of the test images, in pixels.
        enlarge: ratio of the sizes of training and test images; 286 / 256 in CycleGAN.
        paired: whether the two test images at one index show the same thing, so that
            translations can be compared with the truth.
    """

    a: dict = dataclasses.field(default_factory=dict)
    b: dict = dataclasses.field(default_factory=dict)
    path: str = ""
    size: int = 128
    enlarge: float = 286 / 256
    paired: bool = False

    def __post_init__(self):
        super().__post_init__()
        check("size", self.size, self.size >= 1, "1 or more")
        check("enlarge", self.enlarge, self.enlarge >= 1, "1 or more")
        flips = self.flip or any(domain.flip for domain in self.domains)
        check("flip", flips, not flips, "False with two domains; config.gan.mirror mirrors them")
        shapes = [domain.image_shape for domain in self.domains]
        equal = len(shapes[0]) == 3 and shapes[0] == shapes[1]
        check("a and b", shapes, equal, "images of one shape")
        valid = not self.paired or self.split == "train" or self.sizes[0] == self.sizes[1]
        expected = "False where A and B have {} and {} test images".format(*self.sizes)
        check("paired", self.paired, valid, expected)

    @functools.cached_property
    def domains(self) -> tuple[data.Source, data.Source]:
        return self._domain("a", self.a), self._domain("b", self.b)

    @property
    def image_shape(self) -> tuple[int, ...]:
        return 2, *self.domains[0].image_shape

    @property
    def counts(self) -> Mapping[str, int]:
        """Numbers of images by domain."""
        return dict(zip(DOMAINS, self.sizes, strict=True))

    @functools.cached_property
    def at_test_size(self) -> "Source":
        return dataclasses.replace(self, enlarge=1.0)

    @functools.cached_property
    def labeled(self) -> "Labeled":
        return Labeled(self.split, self.at_test_size.domains)

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
        """Returns the images at `indices`, int [n, 2]: one of A, one of B."""
        images = [self._read(domain, indices[:, domain]) for domain in range(2)]
        return Batch(np.stack(images, axis=1), None)

    def _domain(self, name: str, spec: Mapping[str, Any]) -> data.Source:
        size = round(self.size * self.enlarge) if self.split == "train" else self.size
        field = f"config.data.{name}"
        takes = config.defaults(config.resolve("data", spec.get("name"), f"{field}.name", "Source"))
        shared = {"size": size, **({"path": self.path} if self.path else {})}
        shared = {name: value for name, value in shared.items() if name in takes}
        return config.instantiate("data", {**shared, **spec}, field, "Source", split=self.split)


@dataclasses.dataclass(frozen=True)
class Labeled(_TwoDomains):
    """The images of A, then those of B, each labeled with its domain."""

    domains: tuple[data.Source, ...] = ()

    class_names = DOMAINS

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.domains[0].image_shape

    def __len__(self) -> int:
        return sum(self.sizes)

    def look_up(self, table: PyTree, indices: Indices) -> Batch:
        first_b = self.sizes[0]
        is_b = indices >= first_b
        a, b = (
            domain.look_up(domain_table, jnp.where(is_b == label, indices - label * first_b, 0))
            for label, (domain, domain_table) in enumerate(zip(self.domains, table, strict=True))
        )
        images = jnp.where(is_b[..., None, None, None], b.images, a.images)
        return Batch(images, is_b.astype(jnp.int32))

    def read(self, indices: np.ndarray) -> Batch:
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        first_b = self.sizes[0]
        labels = np.asarray(indices >= first_b, np.int32)
        for label in range(2):
            rows = labels == label
            if rows.any():
                images[rows] = self._read(label, indices[rows] - label * first_b)
        return Batch(images, labels)
