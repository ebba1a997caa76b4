"""SAGAN (Zhang et al., 2019) in a small form: few convolutions, attention in both networks.

The networks are plain convolutions as in DCGAN; the residual ones of the paper are in
`sagan_resnet`.
"""

from functools import partial

import flax.linen as nn
from jax.typing import DTypeLike

from gaxn.nn import growing, precision, spectral
from gaxn.nn.attention import apply_self_attention, check_resolutions
from gaxn.nn.conditioning import Projection, condition_vectors
from gaxn.nn.growing import Growth
from gaxn.nn.norms import normalize
from gaxn.nn.resampling import StridedConvolution, TransposedConvolution, resolutions
from gaxn.nn.scales import discriminate_scales
from gaxn.types import Images, Labels, Latents, Logits


class Generator(nn.Module):
    """Latent and label -> image.

    A dense layer to a small map, BatchNorm, ReLU; then one 4x4 transposed convolution per width,
    BatchNorm, ReLU, and self-attention if the resolution is in `attention_at`; last a
    transposed convolution to the channels of the image, with a bias, and tanh. A label modulates
    every BatchNorm.

    Attributes:
        size: height and width of the image, in pixels.
        channels: channels of the image.
        classes: number of labels; None for an unconditional generator.
        first: channels of the first map, before the first doubling.
        widths: channels after each doubling but the last.
        attention_at: heights of the feature maps with self-attention; () for none.
        heads: attention heads.
        attention_pool: factor by which the keys and values of attention are max-pooled along
            height and width.
        attention_block: queries of attention that are computed at a time, which saves memory; 0
            for all.
        spectral_norm: whether every layer is spectrally normalized, as in the paper
            (Zhang et al., 2019, section 3.1).
        remat: whether activations within a block are computed again for the gradient instead of
            stored, which saves memory.
        growing: the resolutions with which the network grows, each with a layer from its map to
            an image; None for the last alone.
        dtype: of activations and products; parameters, statistics and the image are float32.
    """

    size: int
    channels: int
    classes: int | None
    first: int = 256
    widths: tuple[int, ...] = (128, 64)
    attention_at: tuple[int, ...] = (16,)
    heads: int = 1
    attention_pool: int = 1
    attention_block: int = 0
    spectral_norm: bool = False
    remat: bool = False
    growing: Growth | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, latents: Latents, labels: Labels | None, train: bool) -> Images:
        """Returns images in [-1, 1], float32; of a stage of growth, at its last resolution.

        Args:
            latents: float [batch, latent].
            labels: int [batch], or class weights, float [batch, classes].
            train: whether BatchNorm uses the statistics of the batch.
        """
        start, *sizes = resolutions(self.size, len(self.widths) + 1)
        check_resolutions(self.attention_at, sizes[:-1])
        condition = None if self.classes is None else condition_vectors(labels, self.classes)
        wrap = partial(spectral.wrap, self.spectral_norm)
        dense = nn.Dense(start * start * self.first, use_bias=False, dtype=self.dtype)
        x = wrap(dense, "dense")(latents, train).reshape(-1, start, start, self.first)
        x = nn.relu(normalize(x, condition, train, self.dtype))
        block = nn.remat(_Doubling, static_argnums=(3,)) if self.remat else _Doubling
        growth, step = growing.growth_and_step(self, sizes)
        image = None
        for width, size in zip((*self.widths, None), sizes, strict=True):
            if size in growth.active:
                new = growing.make_image(self, _make_image, x, size, train)
                image = growth.fade_image(image, new, size, step)
            if size < growth.active[-1]:
                layer = block(width, size, self.spectral_norm, self.dtype, name=f"to_{size}")
                x = layer(x, condition, train)
                x = apply_self_attention(self, x, train)
        return image


class Discriminator(nn.Module):
    """Image and label -> logits, without batch statistics.

    One 4x4 convolution of stride 2 per width, LeakyReLU 0.2, and self-attention if the new
    resolution is in `attention_at`; then a dense layer. A label conditions by projection.

    Attributes:
        classes: number of labels; None for an unconditional discriminator.
        widths: channels after each halving.
        attention_at: heights of the feature maps with self-attention; () for none.
        heads: attention heads.
        attention_pool: factor by which the keys and values of attention are max-pooled along
            height and width.
        attention_block: queries of attention that are computed at a time, which saves memory; 0
            for all.
        spectral_norm: whether every layer is spectrally normalized.
        scales: number of copies of this network, each with the image at half the resolution of the
            one before (Wang et al., 2018, section 3.2).
        remat: whether activations within a block are computed again for the gradient instead of
            stored, which saves memory.
        growing: the resolutions with which the network grows, each with a block from an image to
            its map; None for the last alone.
        dtype: of activations and products; parameters, statistics and logits are float32.
    """

    classes: int | None
    widths: tuple[int, ...] = (64, 128, 256)
    attention_at: tuple[int, ...] = (16,)
    heads: int = 1
    attention_pool: int = 1
    attention_block: int = 0
    spectral_norm: bool = True
    scales: int = 1
    remat: bool = False
    growing: Growth | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, images: Images, labels: Labels | None, train: bool) -> Logits:
        """Returns logits, float [batch], for images in [-1, 1] and labels, int [batch].

        With several scales they are [batch, scales]. In a stage of growth the images have its last
        resolution.
        """
        sizes = resolutions(growing.full_size(self, images), len(self.widths))
        check_resolutions(self.attention_at, sizes[-2::-1])
        if self.scales > 1:
            return discriminate_scales(self, len(self.widths), images, labels, train)
        block = nn.remat(_Halving, static_argnums=(2,)) if self.remat else _Halving

        def make_block(width: int, takes_images: bool, name: str) -> nn.Module:
            return block(width, self.spectral_norm, self.dtype, name=name)

        x = growing.run_halvings(self, images, make_block, train)
        features = precision.widen(x).reshape(x.shape[0], -1)
        self.sow("intermediates", "features", features)
        logits = spectral.wrap(self.spectral_norm, nn.Dense(1), "logit")(features, train)[:, 0]
        if self.classes is not None:
            logits += Projection(self.classes, self.spectral_norm)(features, labels, train)
        return logits


class _Doubling(nn.Module):
    """A transposed convolution to height and width `size`, BatchNorm, ReLU."""

    width: int
    size: int
    spectral_norm: bool
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: Images, condition, train: bool) -> Images:
        layer = TransposedConvolution(self.width, dtype=self.dtype)
        x = spectral.wrap(self.spectral_norm, layer)(x, train, self.size)
        return nn.relu(normalize(x, condition, train, self.dtype))


def _make_image(network: nn.Module, x: Images, size: int, train: bool) -> Images:
    """Returns an image of height and width `size`, by a transposed convolution and tanh.

    Called within the compact method of a network with the fields `channels`, `spectral_norm` and
    `dtype`.
    """
    layer = TransposedConvolution(network.channels, dtype=network.dtype)
    layer = spectral.wrap(network.spectral_norm, layer, "image")
    bias = network.param("bias", nn.initializers.zeros, (network.channels,))
    return nn.tanh(precision.widen(layer(x, train, size)) + bias)


class _Halving(nn.Module):
    """A strided convolution and LeakyReLU 0.2."""

    width: int
    spectral_norm: bool
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Images:
        layer = StridedConvolution(self.width, dtype=self.dtype)
        return nn.leaky_relu(spectral.wrap(self.spectral_norm, layer)(x, train), 0.2)
