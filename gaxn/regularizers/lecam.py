"""LeCam: each side's logits stay near the other side's running mean (Tseng et al., 2021)."""

import jax
import jax.numpy as jnp

from gaxn import axis
from gaxn.regularizers import Base, View
from gaxn.types import Logits, require


class Regularizer(Base):
    """weight ((D(x) - a_fake)^2 + (D(G(z)) - a_real)^2), of the discriminator (eq. 4).

    Attributes:
        weight: 0 or more.
        decay: of the running means a_real and a_fake of the logits, which start at 0.
    """

    weight: float = 0.3
    decay: float = 0.99

    def setup(self):
        require("config.regularizers.lecam.weight", self.weight, self.weight >= 0, "0 or more")
        require("config.regularizers.lecam.decay", self.decay, 0 <= self.decay < 1, "0 to below 1")
        self.anchors = self.variable("lecam", "anchors", jnp.zeros, (2,))

    def discriminator(self, view: View, keys: jax.Array) -> Logits:
        real, fake = view.real_verdict.logits, view.fake_verdict.logits
        means = jax.lax.stop_gradient(jnp.stack([real.mean(), fake.mean()]))
        means = axis.mean_over_devices(means)
        anchors = self.decay * self.anchors.value + (1 - self.decay) * means
        if self.is_mutable_collection("lecam"):
            self.anchors.value = anchors
        return self.weight * (jnp.square(real - anchors[1]) + jnp.square(fake - anchors[0]))
