"""Balanced consistency: an augmentation leaves the logit alone (Zhao et al., 2021, section 3.1)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gaxn.regularizers import Base, View
from gaxn.types import Images, Logits, require


class Regularizer(Base):
    """real (D(x) - D(T(x)))^2 + fake (D(G(z)) - D(T(G(z))))^2, of the discriminator.

    Attributes:
        augment: T, (images, keys) -> images.
        real: weight at real images, 0 or more.
        fake: weight at generated images, 0 or more; 0 is plain consistency (Zhang et al., 2020).
    """

    augment: Callable[[Images, jax.Array], Images]
    real: float = 10.0
    fake: float = 10.0

    STILL = True

    def setup(self):
        for name, weight in (("real", self.real), ("fake", self.fake)):
            require(f"config.regularizers.bcr.{name}", weight, weight >= 0, "0 or more")

    def discriminator(self, view: View, keys: jax.Array) -> Logits:
        sides = ((view.real, view.real_verdict), (view.fake, view.fake_verdict))
        # A pack goes by its first example, on whichever device it is.
        firsts = keys[:: keys.shape[0] // view.real.shape[0]]
        pairs = jax.vmap(jax.random.split)(firsts)
        apart = [
            jnp.square(verdict.logits - view.judge(self.augment(images, pairs[:, side])).logits)
            for side, (images, verdict) in enumerate(sides)
        ]
        return self.real * apart[0] + self.fake * apart[1]
