"""Augmentations of what the discriminator sees, one a file, each with an `Augmentation`.

An augmentation is a frozen dataclass; called with images in [-1, 1], one key an example and
the step, it gives images of the same shape, differentiably.
"""

from collections.abc import Callable

import jax

from gaxn.types import Images

Augment = Callable[[Images, jax.Array, jax.Array], Images]
