"""A GAN: InfoGAN (Chen et al., 2016), whose third player reads codes from generated images."""

import flax.linen as nn
import jax.numpy as jnp

from gaxn.gans.gan import GAN
from gaxn.types import Images, Latents


class Encoder(nn.Module):
    """Image -> codes, float [batch, codes]: convolutions of stride 2, then a dense layer."""

    codes: int
    widths: tuple[int, ...] = (32, 64)

    @nn.compact
    def __call__(self, images: Images) -> Latents:
        x = images
        for width in self.widths:
            x = nn.leaky_relu(nn.Conv(width, (4, 4), strides=2)(x), 0.2)
        return nn.Dense(self.codes)(x.reshape(x.shape[0], -1))


class InfoGAN(GAN):
    """L_Q = |c - Q(G(z))|^2 / 2,   L_G = L_G of the GAN + information L_Q.

    The codes c are the first numbers of the latent z. The encoder Q is the mean of a Gaussian of
    variance 1, so an image contains codes / 2 - L_Q nats or more about its codes (eq. 5).
    """

    encoder: nn.Module
    information: float = 1.0

    def losses(self):
        further = {"generator": InfoGAN.generator_loss, "encoder": InfoGAN.encoder_loss}
        return {**super().losses(), **further}

    def __call__(self, batch, key):
        self.encoder(jnp.zeros(batch.images.shape))
        return super().__call__(batch, key)

    def generator_loss(self, batch, examples, key, step):
        inputs = self._inputs(batch, examples, key, step)
        loss, scalars = self.discriminator_objective.generator_loss(inputs)
        return loss + self.information * self._code_loss(inputs), scalars

    def encoder_loss(self, batch, examples, key, step):
        loss = self._code_loss(self._inputs(batch, examples, key, step))
        return loss, {"information": self.encoder.codes / 2 - loss}

    def _code_loss(self, inputs):
        codes = inputs.generator_inputs[:, : self.encoder.codes]
        return jnp.square(codes - self.encoder(inputs.generated)).sum(axis=1).mean() / 2
