"""The convolutional GAN (DCGAN; Radford et al., 2016), conditional if there are labels."""

import flax.linen as nn
from jax.typing import DTypeLike

from gaxn.nn import norms, precision
from gaxn.nn.conditioning import ClassHead, LabelMap, append_embedding
from gaxn.nn.resampling import StridedConvolution, TransposedConvolution, resolutions
from gaxn.types import DiscriminatorOutput, Images, Labels, Latents, Logits

KERNEL_INIT = nn.initializers.normal(0.02)
"""Initializer of every kernel (Radford et al., 2016, section 4)."""


class Generator(nn.Module):
    """Latent and label -> image.

    A dense layer to a small map, then one 4x4 transposed convolution per width, each doubling
    the resolution (minus one, if it is odd), with BatchNorm and ReLU; last a 3x3 convolution
    and tanh. A label's embedding is concatenated to the latent (Mirza & Osindero, 2014).

    Attributes:
        size: height and width of the image, in pixels.
        channels: channels of the image.
        classes: number of labels; None for an unconditional generator.
        widths: channels after each doubling.
        embedding: features of the label's embedding.
        first: channels of the first map; 0 for `widths[0]`.
        dtype: of activations and products; parameters, statistics and the image are float32.
    """

    size: int
    channels: int
    classes: int | None
    widths: tuple[int, ...] = (64, 32)
    embedding: int = 50
    first: int = 0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, latents: Latents, labels: Labels | None, train: bool) -> Images:
        """Returns images in [-1, 1] for latents, float [batch, latent], and labels, int [batch]."""
        start, *sizes = resolutions(self.size, len(self.widths))
        first = self.first or self.widths[0]
        x = append_embedding(latents, labels, self.classes, self.embedding)
        units = start * start * first
        x = nn.Dense(units, use_bias=False, kernel_init=KERNEL_INIT, dtype=self.dtype)(x)
        x = x.reshape(-1, start, start, first)
        x = nn.relu(norms.batch_norm(train, self.dtype)(x))
        for width, size in zip(self.widths, sizes, strict=True):
            x = TransposedConvolution(width, KERNEL_INIT, self.dtype)(x, size)
            x = nn.relu(norms.batch_norm(train, self.dtype)(x))
        last = precision.Conv(self.channels, (3, 3), kernel_init=KERNEL_INIT, dtype=self.dtype)
        return nn.tanh(last(x))


class Discriminator(nn.Module):
    """Image and label -> one logit.

    One 4x4 convolution of stride 2 per width, with LeakyReLU 0.2, then a dense layer, or two. A
    label is added as one more channel of the image.

    Attributes:
        classes: number of labels; None for an unconditional discriminator.
        widths: channels after each halving.
        batch_norm: whether BatchNorm follows each convolution but the first, as in the paper. It
            couples the images of a batch, which rules out gradient penalties.
        hidden: features of a dense layer with LeakyReLU 0.2 before the last; 0 for none.
        auxiliary: whether the network predicts the label or the vector (Odena et al., 2017) instead
            of taking it, as the regularizer `auxiliary` needs.
        dtype: of activations and products; parameters, statistics and logits are float32.
    """

    classes: int | None
    widths: tuple[int, ...] = (32, 64)
    batch_norm: bool = False
    hidden: int = 0
    auxiliary: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, images: Images, labels: Labels | None, train: bool
    ) -> Logits | DiscriminatorOutput:
        """Returns logits, float [batch], for images in [-1, 1] and labels, int [batch].

        With `auxiliary`, returns them together with class logits.
        """
        resolutions(images.shape[1], len(self.widths))
        x = images
        if self.classes is not None and not self.auxiliary:
            x = LabelMap(self.classes)(x, labels)
        for index, width in enumerate(self.widths):
            x = StridedConvolution(width, KERNEL_INIT, self.dtype)(x)
            if self.batch_norm and index:
                x = norms.batch_norm(train, self.dtype)(x)
            x = nn.leaky_relu(x, 0.2)
        features = x.reshape(x.shape[0], -1)
        if self.hidden:
            hidden = precision.Dense(self.hidden, kernel_init=KERNEL_INIT, dtype=self.dtype)
            features = nn.leaky_relu(hidden(features), 0.2)
        features = precision.widen(features)
        self.sow("intermediates", "features", features)
        logits = nn.Dense(1, kernel_init=KERNEL_INIT)(features)[:, 0]
        if self.auxiliary:
            return DiscriminatorOutput(logits, ClassHead(self.classes)(features, train))
        return logits
