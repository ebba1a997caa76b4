"""Layers with spectral normalisation (Miyato et al., 2018), one power iteration a call.

The power-iteration vectors live in their own mutable collection, `spectral`.
"""

from collections.abc import Callable

import flax.linen as nn
import jax

COLLECTION = "spectral"
Layer = Callable[[jax.Array, bool], jax.Array]


class Plain(nn.Module):
    """A layer as it is, with the interface of a normalised one."""

    layer: nn.Module

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.layer(x)


class SpectralNorm(nn.Module):
    """A layer whose kernel, as a matrix [inputs, outputs], has a largest singular value near 1.

    The power iteration is stored only where `train` is true.
    """

    layer: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.SpectralNorm(self.layer, collection_name=COLLECTION)(x, update_stats=train)


def wrap(normalise: bool, layer: nn.Module, name: str | None = None) -> Layer:
    """`layer`, called as (x, train), spectrally normalised or as it is."""
    return (SpectralNorm if normalise else Plain)(layer, name=name)
