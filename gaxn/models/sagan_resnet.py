"""The residual networks of SAGAN (Zhang et al., 2019, section 4), at 64x64 and 128x128.

As in its authors' code: spectral norm in both networks, conditional BatchNorm, projection, and
attention with keys and values pooled by 2.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gaxn.models import sagan
from gaxn.nn import growing, precision, spectral
from gaxn.nn.attention import apply_self_attention, check_resolutions
from gaxn.nn.conditioning import Projection, condition_vectors
from gaxn.nn.norms import batch_norm
from gaxn.nn.resampling import resolutions
from gaxn.nn.residual import KERNEL_INIT, DownBlock, UpBlock, convolution
from gaxn.nn.scales import discriminate_scales
from gaxn.types import Images, Labels, Latents, Logits, check


def published_networks(size: int) -> dict[str, dict[str, Any]]:
    """Returns the config of the paper's generator and discriminator at 64 or 128 pixels.

    At 64 pixels they lack the widest block of those at 128 pixels.
    """
    widths = {64: (64, 128, 256, 512), 128: (64, 128, 256, 512, 1024)}[size]
    both = {"attention_at": (32,), "attention_pool": 2}
    generator = {"name": "sagan_resnet.Generator", "first": 1024, "widths": widths[::-1], **both}
    discriminator = {"name": "sagan_resnet.Discriminator", "widths": widths, "last": 1024, **both}
    return {"generator": generator, "discriminator": discriminator}


class Generator(sagan.Generator):
    """Latent and label -> image, with the fields of `sagan.Generator`.

    A dense layer to a small map; one residual block per width, each doubling the resolution, and
    self-attention if it is in `attention_at`; BatchNorm, ReLU, a 3x3 convolution and tanh.
    The label modulates the BatchNorm of every block.

    Attributes:
        widths: channels after each doubling.
    """

    first: int = 1024
    widths: tuple[int, ...] = (512, 256, 128, 64)
    attention_at: tuple[int, ...] = (32,)
    attention_pool: int = 2
    spectral_norm: bool = True

    @nn.compact
    def __call__(self, latents: Latents, labels: Labels | None, train: bool) -> Images:
        start, *sizes = _exact_resolutions(self.size, len(self.widths))
        check_resolutions(self.attention_at, sizes)
        condition = None if self.classes is None else condition_vectors(labels, self.classes)
        units = start * start * self.first
        dense = precision.Dense(units, kernel_init=KERNEL_INIT, dtype=self.dtype)
        x = spectral.wrap(self.spectral_norm, dense, "dense")(latents, train)
        x = x.reshape(-1, start, start, self.first)
        block = nn.remat(UpBlock, static_argnums=(3,)) if self.remat else UpBlock
        growth, step = growing.growth_and_step(self, (start, *sizes))
        image = None
        for width, size in zip((None, *self.widths), (start, *sizes), strict=True):
            if start < size <= growth.active[-1]:
                layer = block(width, self.spectral_norm, self.dtype, name=f"to_{size}")
                x = layer(x, condition, train)
                x = apply_self_attention(self, x, train)
            if size in growth.active:
                new = growing.make_image(self, _make_image, x, size, train)
                image = growth.fade_image(image, new, size, step)
        return image


class Discriminator(sagan.Discriminator):
    """Image and label -> logits, with the fields of `sagan.Discriminator`, and `last`.

    One residual block per width, each halving the resolution, and self-attention if the new one
    is in `attention_at`; a last block at the same resolution; ReLU, the sum over all positions,
    and a dense layer. A label conditions by projection.

    Attributes:
        last: channels of the last block.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    attention_at: tuple[int, ...] = (32,)
    attention_pool: int = 2
    last: int = 1024

    @nn.compact
    def __call__(self, images: Images, labels: Labels | None, train: bool) -> Logits:
        sizes = _exact_resolutions(growing.full_size(self, images), len(self.widths))
        check_resolutions(self.attention_at, sizes[-2::-1])
        if self.scales > 1:
            return discriminate_scales(self, len(self.widths), images, labels, train)
        block = nn.remat(DownBlock, static_argnums=(2,)) if self.remat else DownBlock

        def make_block(width: int, takes_images: bool, name: str) -> nn.Module:
            return block(width, takes_images, True, self.spectral_norm, self.dtype, name=name)

        x = growing.run_halvings(self, images, make_block, train)
        x = block(self.last, False, False, self.spectral_norm, self.dtype, name="last")(x, train)
        features = jnp.sum(nn.relu(precision.widen(x)), axis=(1, 2))
        self.sow("intermediates", "features", features)
        dense = nn.Dense(1, kernel_init=KERNEL_INIT)
        logits = spectral.wrap(self.spectral_norm, dense, "logit")(features, train)[:, 0]
        if self.classes is not None:
            logits += Projection(self.classes, self.spectral_norm)(features, labels, train)
        return logits


def _make_image(network: nn.Module, x: Images, size: int, train: bool) -> Images:
    """Returns an image of the resolution of x, by BatchNorm, ReLU, a 3x3 convolution and tanh.

    Called within the compact method of a network with the fields `channels`, `spectral_norm` and
    `dtype`.
    """
    x = nn.relu(batch_norm(train, network.dtype)(x))
    spectral_norm, channels = network.spectral_norm, network.channels
    return nn.tanh(convolution(spectral_norm, channels, 3, "image", dtype=network.dtype)(x, train))


def _exact_resolutions(size: int, levels: int) -> tuple[int, ...]:
    """Returns `resolutions`, after checking that no odd number is halved."""
    expected = f"a multiple of {2**levels}, because each of the {levels} widths halves it"
    check("the image's size", size, size % 2**levels == 0, expected)
    return resolutions(size, levels)
