"""Latent consistency: of near latents, near logits, unlike images (Zhao et al., 2021, 3.2)."""

import jax
import jax.numpy as jnp

from gaxn.regularizers import Base, View
from gaxn.types import Logits, require


class Regularizer(Base):
    """With z' = z + noise: of the discriminator its weight times (D(G(z)) - D(G(z')))^2; of the
    generator, less its weight times the mean square over pixels of G(z) - G(z').

    Attributes:
        discriminator_weight: 0 or more.
        generator_weight: 0 or more.
        deviation: of the noise in each coordinate, above 0.
    """

    discriminator_weight: float = 5.0
    generator_weight: float = 0.5
    deviation: float = 0.03

    STILL = True

    def setup(self):
        field = "config.regularizers.zcr"
        for name in ("discriminator_weight", "generator_weight"):
            require(f"{field}.{name}", getattr(self, name), getattr(self, name) >= 0, "0 or more")
        require(f"{field}.deviation", self.deviation, self.deviation > 0, "above 0")

    def discriminator(self, view: View, keys: jax.Array) -> Logits:
        other = view.judge(view.show(view.generate(self._moved(view, keys)))).logits
        return self.discriminator_weight * jnp.square(view.fake_verdict.logits - other)

    def generator(self, view: View, keys: jax.Array) -> Logits:
        apart = jnp.square(view.generate(view.inputs) - view.generate(self._moved(view, keys)))
        return -self.generator_weight * apart.mean(axis=tuple(range(1, apart.ndim)))

    def _moved(self, view: View, keys: jax.Array) -> jax.Array:
        inputs = view.inputs
        draw = jax.vmap(lambda key: jax.random.normal(key, inputs.shape[1:], inputs.dtype))
        return inputs + self.deviation * draw(keys)
