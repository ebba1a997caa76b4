"""Files that are damaged at random places."""

from collections.abc import Iterator

import numpy as np

COUNT = 2_000


def damage(content: bytes) -> Iterator[bytes]:
    """Yields copies of a file in which one to three bytes are others."""
    random = np.random.default_rng(0)
    for _ in range(COUNT):
        damaged = bytearray(content)
        for place in random.integers(len(content), size=random.integers(1, 4)):
            damaged[place] = random.integers(256)
        yield bytes(damaged)
