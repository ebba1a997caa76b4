"""The convolutional GAN (DCGAN; Radford et al., 2016), conditional where there are labels."""

import flax.linen as nn
import jax.numpy as jnp

from gaxn.nn import norms
from gaxn.nn.conditioning import ClassHead, LabelMap, embed
from gaxn.nn.resampling import StridedConvolution, TransposedConvolution, resolutions
from gaxn.types import Images, Labels, Latents, Logits, Verdict

INITIAL = nn.initializers.normal(0.02)
"""Every kernel at the start (Radford et al., 2016, section 4)."""


class Generator(nn.Module):
    """Latent and label -> image.

    A dense layer to a small map, then one 4x4 transposed convolution a width, each doubling
    the resolution (less one, where that is odd), with BatchNorm and ReLU; last a 3x3 convolution
    and tanh. A label's embedding is concatenated to the latent (Mirza & Osindero, 2014).

    Attributes:
        size: height and width of the image, in pixels.
        channels: channels of the image.
        classes: number of labels; None for an unconditional generator.
        widths: channels after each doubling.
        embedding: features of the label's embedding.
        first: channels of the first map; 0 for `widths[0]`.
    """

    size: int
    channels: int
    classes: int | None
    widths: tuple[int, ...] = (64, 32)
    embedding: int = 50
    first: int = 0

    @nn.compact
    def __call__(self, latents: Latents, labels: Labels | None, train: bool) -> Images:
        """Args: latents, float [batch, latent]; labels, int [batch]. Returns images in [-1, 1]."""
        start, *doubled = resolutions(self.size, len(self.widths))
        first = self.first or self.widths[0]
        x = latents
        if self.classes is not None:
            x = jnp.concatenate([x, embed(labels, self.classes, self.embedding)], axis=-1)
        x = nn.Dense(start * start * first, use_bias=False, kernel_init=INITIAL)(x)
        x = x.reshape(-1, start, start, first)
        x = nn.relu(norms.batch_norm(train)(x))
        for width, resolution in zip(self.widths, doubled, strict=True):
            x = TransposedConvolution(width, INITIAL)(x, resolution)
            x = nn.relu(norms.batch_norm(train)(x))
        return nn.tanh(nn.Conv(self.channels, (3, 3), kernel_init=INITIAL)(x))


class Discriminator(nn.Module):
    """Image and label -> one logit.

    One 4x4 convolution of stride 2 a width, with LeakyReLU 0.2, then a dense layer. A label
    enters as one more channel of the image.

    Attributes:
        classes: number of labels; None for an unconditional discriminator.
        widths: channels after each halving.
        batch_norm: BatchNorm after each convolution but the first, as in the paper; it
            couples the images of a batch, so that no gradient penalty is possible.
        auxiliary: it names the class of an image (Odena et al., 2017) instead of seeing it.
    """

    classes: int | None
    widths: tuple[int, ...] = (32, 64)
    batch_norm: bool = False
    auxiliary: bool = False

    @nn.compact
    def __call__(self, images: Images, labels: Labels | None, train: bool) -> Logits | Verdict:
        """Args: images in [-1, 1]; labels, int [batch]. Returns logits, float [batch]."""
        resolutions(images.shape[1], len(self.widths))
        x = images
        if self.classes is not None and not self.auxiliary:
            x = LabelMap(self.classes)(x, labels)
        for index, width in enumerate(self.widths):
            x = StridedConvolution(width, INITIAL)(x)
            if self.batch_norm and index:
                x = norms.batch_norm(train)(x)
            x = nn.leaky_relu(x, 0.2)
        features = x.reshape(x.shape[0], -1)
        logits = nn.Dense(1, kernel_init=INITIAL)(features)[:, 0]
        if self.auxiliary:
            return Verdict(logits, ClassHead(self.classes)(features, train))
        return logits
