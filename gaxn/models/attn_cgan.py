"""The attention-augmented conditional GAN: convolutions with self-attention in both players."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from gaxn.nn import norms, spectral
from gaxn.nn.attention import SelfAttention, require_resolutions
from gaxn.nn.conditioning import ClassHead, LabelMap, Projection, embed
from gaxn.nn.coordinates import coordinates
from gaxn.nn.resampling import (
    ResizedConvolution,
    StridedConvolution,
    TransposedConvolution,
    resolutions,
)
from gaxn.types import Images, Labels, Latents, Logits, Verdict


class Generator(nn.Module):
    """Latent and label -> image.

    A dense layer to a small map, then one block a width: twice the resolution, BatchNorm,
    ReLU, and self-attention where the resolution is in `attention_at`; last a 3x3
    convolution and tanh.

    Attributes:
        size: height and width of the image, in pixels.
        channels: channels of the image.
        classes: number of labels; None for an unconditional generator.
        widths: channels after each doubling; the first map has `widths[0]`.
        attention_at: resolutions that are followed by self-attention; () for none.
        heads: attention heads.
        attention_pool: how far keys and values are pooled (see `SelfAttention`).
        embedding: channels of the label's embedding.
        transposed: 4x4 transposed convolutions (true) or repetition and a 3x3 convolution.
        spectral_attention: whether attention's convolutions are spectrally normalised.
        modulated: BatchNorm's gain and bias follow from latent and label.
        coordinates: the convolutions that double see where they are, in two more channels.
    """

    size: int
    channels: int
    classes: int | None
    widths: tuple[int, ...] = (128, 64, 32)
    attention_at: tuple[int, ...] = (16,)
    heads: int = 1
    attention_pool: int = 1
    embedding: int = 32
    transposed: bool = True
    spectral_attention: bool = False
    modulated: bool = False
    coordinates: bool = False

    @nn.compact
    def __call__(self, latents: Latents, labels: Labels | None, train: bool) -> Images:
        """Args: latents, float [batch, latent]; labels, int [batch]. Returns images in [-1, 1]."""
        start, *doubled = resolutions(self.size, len(self.widths))
        require_resolutions(self.attention_at, doubled)
        x = latents
        if self.classes is not None:
            x = jnp.concatenate([x, embed(labels, self.classes, self.embedding)], axis=-1)
        condition = x
        x = nn.Dense(start * start * self.widths[0], use_bias=False)(x)
        x = x.reshape(-1, start, start, self.widths[0])
        x = nn.relu(self._normalise(x, condition, train))
        upsample = TransposedConvolution if self.transposed else ResizedConvolution
        for width, resolution in zip(self.widths, doubled, strict=True):
            places = coordinates(x.shape[1])
            x = upsample(width)(x, resolution)
            if self.coordinates:
                # What two more channels of x would add, once for the whole batch.
                x += upsample(width, name=f"place_{resolution}")(places, resolution)
            x = nn.relu(self._normalise(x, condition, train))
            if resolution in self.attention_at:
                x = SelfAttention(
                    self.heads,
                    pool=self.attention_pool,
                    spectral_norm=self.spectral_attention,
                    name=f"attention_{resolution}",
                )(x, train)
        return nn.tanh(nn.Conv(self.channels, (3, 3))(x))

    def _normalise(self, x: Images, condition: Latents, train: bool) -> Images:
        if self.modulated:
            return norms.ModulatedBatchNorm()(x, condition, train)
        return norms.batch_norm(train)(x)


class Discriminator(nn.Module):
    """Image and label -> one logit, without batch statistics.

    One block a width: half the resolution by a 4x4 convolution, LeakyReLU 0.2, and
    self-attention where the new resolution is in `attention_at`; then a hidden dense layer,
    LeakyReLU 0.2, and a dense layer for the logit.

    Attributes:
        classes: number of labels; None for an unconditional discriminator.
        widths: channels after each halving.
        attention_at: resolutions that self-attention works at; () for none.
        heads: attention heads.
        attention_pool: how far keys and values are pooled (see `SelfAttention`).
        hidden: features of the hidden layer, which sees the whole last map; 0 for none.
        projection: condition by projection (true) or by a label map at the input.
        auxiliary: it names the class of an image (Odena et al., 2017) instead of seeing it.
        spectral_norm: whether every layer is spectrally normalised.
    """

    classes: int | None
    widths: tuple[int, ...] = (32, 64, 128)
    attention_at: tuple[int, ...] = (16,)
    heads: int = 1
    attention_pool: int = 1
    hidden: int = 0
    projection: bool = False
    auxiliary: bool = False
    spectral_norm: bool = True

    @nn.compact
    def __call__(self, images: Images, labels: Labels | None, train: bool) -> Logits | Verdict:
        """Args: images in [-1, 1]; labels, int [batch]. Returns logits, float [batch]."""
        halved = resolutions(images.shape[1], len(self.widths))[-2::-1]
        require_resolutions(self.attention_at, halved)
        wrap = partial(spectral.wrap, self.spectral_norm)
        conditional = self.classes is not None and not self.auxiliary
        x = images
        if conditional and not self.projection:
            x = LabelMap(self.classes)(x, labels)
        for width, resolution in zip(self.widths, halved, strict=True):
            x = nn.leaky_relu(wrap(StridedConvolution(width))(x, train), 0.2)
            if resolution in self.attention_at:
                x = SelfAttention(
                    self.heads,
                    pool=self.attention_pool,
                    spectral_norm=self.spectral_norm,
                    name=f"attention_{resolution}",
                )(x, train)
        features = x.reshape(x.shape[0], -1)
        if self.hidden:
            hidden = nn.Dense(self.hidden, kernel_init=nn.initializers.he_normal())
            features = nn.leaky_relu(wrap(hidden)(features, train), 0.2)
        logits = wrap(nn.Dense(1))(features, train)[:, 0]
        if conditional and self.projection:
            logits += Projection(self.classes, self.spectral_norm)(features, labels, train)
        if self.auxiliary:
            return Verdict(logits, ClassHead(self.classes, self.spectral_norm)(features, train))
        return logits
