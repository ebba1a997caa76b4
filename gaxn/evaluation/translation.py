"""Trained translators between two domains, A and B, as evaluators see them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from gaxn.data import Source, make_reader
from gaxn.types import HostIndices, HostPixels, Sampler

DIRECTIONS = ("a2b", "b2a")
"""From A to B, and from B to A."""

ORDER_SEED = 2020

Read = Callable[[HostIndices], HostPixels]
"""Indices -> images of one domain."""


class Translator(NamedTuple):
    """Both generators of a CycleGAN.

    Attributes:
        to_a: images of B, of any size that the generators take -> images of A.
        to_b: images of A -> images of B.
        samplers: by direction. Samples are translated test images, in the order of
            `ordered_reader`; the discriminator is that of the target domain.
        multiple: the images' sides must be multiples of it.
        member: the run of a population.
    """

    to_a: Callable[[HostPixels], HostPixels]
    to_b: Callable[[HostPixels], HostPixels]
    samplers: Mapping[str, Sampler]
    multiple: int = 1
    member: int = 0


def ordered_reader(domain: Source) -> Read:
    """Returns a function from indices, int [n], to images of a domain, uint8, in a random order.

    The order is drawn once, since many sources are sorted by class, and repeats after its end.
    Domains of one size have the same order.
    """
    order = np.random.RandomState(ORDER_SEED).permutation(len(domain))
    read = make_reader(domain)
    return lambda indices: jax.device_get(read(order[np.asarray(indices) % len(order)])).images
