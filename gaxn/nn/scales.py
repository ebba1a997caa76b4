"""One network of a kind a scale of the image, all judging it (Wang et al., 2018, section 3.2)."""

import flax.linen as nn
import jax.numpy as jnp

from gaxn.nn.resampling import resolutions
from gaxn.nn.residual import shrink
from gaxn.types import Images, Labels, Logits


def judge_scales(
    network: nn.Module, levels: int, images: Images, labels: Labels | None, train: bool
) -> Logits:
    """The logits of `network.scales` copies of itself, float [batch, scales].

    To be called within its compact method. Each copy sees half the resolution of the one
    before, and has self-attention at those of `attention_at` that are left to it.

    Args:
        network: with fields `scales` and `attention_at`.
        levels: how often it halves what it sees.
        images: in [-1, 1].
        labels: int [batch], or None.
        train: as the network takes it.

    Raises:
        InputError: an image of the smallest scale cannot be halved so often.
    """
    logits = []
    for scale in range(network.scales):
        there = resolutions(images.shape[1], levels)[:-1]
        attention_at = tuple(own for own in network.attention_at if own in there)
        copy = network.clone(
            scales=1, attention_at=attention_at, name=f"scale_{scale}", parent=network
        )
        logits.append(copy(images, labels, train))
        images = shrink(images)
    return jnp.stack(logits, axis=-1)
