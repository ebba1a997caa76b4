"""The attention cGAN: a conditional convolutional GAN with self-attention in both networks."""

from functools import partial

import flax.linen as nn
from jax.typing import DTypeLike

from gaxn.nn import precision, spectral
from gaxn.nn.attention import SelfAttention, WordAttention, check_resolutions
from gaxn.nn.conditioning import ClassHead, LabelMap, Projection, append_embedding
from gaxn.nn.coordinates import coordinates
from gaxn.nn.norms import normalize
from gaxn.nn.resampling import (
    ResizedConvolution,
    StridedConvolution,
    TransposedConvolution,
    resolutions,
)
from gaxn.types import (
    DiscriminatorOutput,
    Images,
    Labels,
    Latents,
    Logits,
    SentenceCondition,
    check,
)


class Generator(nn.Module):
    """Latent and condition -> image.

    A dense layer to a small map, then one block per width: twice the resolution, BatchNorm,
    ReLU, self-attention if the resolution is in `attention_at`, and attention to the words of a
    sentence if it is in `words_at`; last a 3x3 convolution and tanh.

    Attributes:
        size: height and width of the image, in pixels.
        channels: channels of the image.
        classes: number of labels, or length of the conditions' vectors; None for an unconditional
            generator.
        widths: channels after each doubling; the first map has `widths[0]`.
        attention_at: heights of the feature maps with self-attention; () for none.
        heads: attention heads.
        attention_pool: factor by which the keys and values of attention are max-pooled along
            height and width.
        embedding: features of the label's embedding.
        transposed: whether resolution is doubled by a 4x4 transposed convolution (true) or by
            repetition and a 3x3 convolution (false).
        spectral_attention: whether the linear maps of attention are spectrally normalized, also
            those of attention to words.
        modulated: whether BatchNorm's gain and bias depend on latent and label.
        coordinates: whether the doubling convolutions get two more channels, the coordinates y
            and x of each position.
        words_at: heights of the feature maps that attend to the words of a sentence; () for none.
        dtype: of activations and products; parameters, statistics and the image are float32.
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
    words_at: tuple[int, ...] = ()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, latents: Latents, labels: Labels | None, train: bool) -> Images:
        """Returns images in [-1, 1] for latents, float [batch, latent], and their conditions."""
        start, *sizes = resolutions(self.size, len(self.widths))
        check_resolutions(self.attention_at, sizes)
        check_resolutions(self.words_at, sizes, "words_at")
        valid = not self.words_at or isinstance(labels, SentenceCondition)
        check("words_at", self.words_at, valid, "() without captions (config.text)")
        x = append_embedding(latents, labels, self.classes, self.embedding)
        condition = x if self.modulated else None
        x = nn.Dense(start * start * self.widths[0], use_bias=False, dtype=self.dtype)(x)
        x = x.reshape(-1, start, start, self.widths[0])
        x = nn.relu(normalize(x, condition, train, self.dtype))
        attention = partial(SelfAttention, self.heads, pool=self.attention_pool, dtype=self.dtype)
        upsample = TransposedConvolution if self.transposed else ResizedConvolution
        for width, size in zip(self.widths, sizes, strict=True):
            grid = coordinates(x.shape[1])
            x = upsample(width, dtype=self.dtype)(x, size)
            if self.coordinates:
                # What two more channels of x would add, once for the whole batch.
                x += upsample(width, name=f"place_{size}")(grid, size)
            x = nn.relu(normalize(x, condition, train, self.dtype))
            if size in self.attention_at:
                name = f"attention_{size}"
                x = attention(spectral_norm=self.spectral_attention, name=name)(x, train)
            if size in self.words_at:
                options = {"spectral_norm": self.spectral_attention, "dtype": self.dtype}
                x = WordAttention(self.heads, **options, name=f"words_{size}")(x, labels, train)
        return nn.tanh(precision.Conv(self.channels, (3, 3), dtype=self.dtype)(x))


class Discriminator(nn.Module):
    """Image and condition -> one logit, without batch statistics.

    One block per width: half the resolution by a 4x4 convolution, LeakyReLU 0.2, and
    self-attention if the new resolution is in `attention_at`; then a hidden dense layer,
    LeakyReLU 0.2, and a dense layer for the logit.

    Attributes:
        classes: number of labels, or length of the conditions' vectors; None for an unconditional
            discriminator.
        widths: channels after each halving.
        attention_at: heights of the feature maps with self-attention; () for none.
        heads: attention heads.
        attention_pool: factor by which the keys and values of attention are max-pooled along
            height and width.
        hidden: features of the hidden layer, after the flattened last map; 0 for none.
        projection: whether the condition acts by projection (true; Miyato & Koyama, 2018) or as
            one more channel of the image (false).
        auxiliary: whether the network predicts the label or the vector (Odena et al., 2017), as the
            regularizer `auxiliary` needs. Its features do not see the label then, so that it acts
            by projection or not at all.
        spectral_norm: whether every layer is spectrally normalized.
        dtype: of activations and products; parameters, statistics and logits are float32.
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
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, images: Images, labels: Labels | None, train: bool
    ) -> Logits | DiscriminatorOutput:
        """Returns logits, float [batch], for images in [-1, 1] and their conditions.

        With `auxiliary`, returns them together with class logits.
        """
        sizes = resolutions(images.shape[1], len(self.widths))[-2::-1]
        check_resolutions(self.attention_at, sizes)
        wrap = partial(spectral.wrap, self.spectral_norm)
        attention = partial(SelfAttention, self.heads, pool=self.attention_pool, dtype=self.dtype)
        projection = self.projection and self.classes is not None
        x = images
        if self.classes is not None and not self.projection and not self.auxiliary:
            x = LabelMap(self.classes)(x, labels)
        for width, size in zip(self.widths, sizes, strict=True):
            x = nn.leaky_relu(wrap(StridedConvolution(width, dtype=self.dtype))(x, train), 0.2)
            if size in self.attention_at:
                x = attention(spectral_norm=self.spectral_norm, name=f"attention_{size}")(x, train)
        features = x.reshape(x.shape[0], -1)
        if self.hidden:
            he = nn.initializers.he_normal()
            hidden = precision.Dense(self.hidden, kernel_init=he, dtype=self.dtype)
            features = nn.leaky_relu(wrap(hidden)(features, train), 0.2)
        features = precision.widen(features)
        self.sow("intermediates", "features", features)
        logits = wrap(nn.Dense(1))(features, train)[:, 0]
        if projection:
            logits += Projection(self.classes, self.spectral_norm)(features, labels, train)
        if self.auxiliary:
            class_logits = ClassHead(self.classes, self.spectral_norm)(features, train)
            return DiscriminatorOutput(logits, class_logits)
        return logits
