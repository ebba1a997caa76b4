"""Adversarial losses, one a file: `discriminator(real, fake)` and `generator(real, fake)`.

Both take the logits of real and generated images, float [batch], and give a value per
example, float [batch]. The pairing is by position.
"""

from collections.abc import Callable
from typing import NamedTuple

from gaxn.types import Logits


class Loss(NamedTuple):
    """The two sides of an adversarial loss, each (real, fake) -> values per example."""

    discriminator: Callable[[Logits, Logits], Logits]
    generator: Callable[[Logits, Logits], Logits]
