"""Discriminators at several scales of the image (Wang et al., 2018, section 3.2)."""

import flax.linen as nn
import jax.numpy as jnp

from gaxn.nn.resampling import average_pool, resolutions
from gaxn.types import Images, Labels, Logits, check


def discriminate_scales(
    network: nn.Module, levels: int, images: Images, labels: Labels | None, train: bool
) -> Logits:
    """Returns the logits of `network.scales` copies of a discriminator, float [batch, scales].

    Called within its compact method. Each copy gets the image at half the resolution of the one
    before, and has self-attention at those of `attention_at` that are below its input's.

    Args:
        network: with the fields `scales`, `attention_at` and `growing`.
        levels: how often the network halves its input.
        images, labels, train: inputs of the network.

    Raises:
        InputError: the network grows, or an image of the smallest scale cannot be halved so often.
    """
    check("scales", network.scales, network.growing is None, "1 in a network that grows")
    logits = []
    for scale in range(network.scales):
        available = resolutions(images.shape[1], levels)[:-1]
        copy = network.clone(
            scales=1,
            attention_at=tuple(size for size in network.attention_at if size in available),
            name=f"scale_{scale}",
            parent=network,
        )
        logits.append(copy(images, labels, train))
        images = average_pool(images)
    return jnp.stack(logits, axis=-1)
