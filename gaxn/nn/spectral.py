"""Layers with spectral normalisation (Miyato et al., 2018), one power iteration a call.

The power-iteration vectors live in their own mutable collection, `spectral`.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax

from gaxn.types import PyTree

COLLECTION = "spectral"
Layer = Callable[..., jax.Array]


class Plain(nn.Module):
    """A layer as it is, with the interface of a normalised one."""

    layer: nn.Module

    def __call__(self, x: jax.Array, train: bool, *inputs: Any) -> jax.Array:
        return self.layer(x, *inputs)


class SpectralNorm(nn.Module):
    """A layer whose kernel, as a matrix [inputs, outputs], has a largest singular value near 1.

    The power iteration is stored only where `train` is true.
    """

    layer: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, *inputs: Any) -> jax.Array:
        normalised = nn.SpectralNorm(self.layer, collection_name=COLLECTION)
        return normalised(x, *inputs, update_stats=train)


def kernels(params: PyTree, vectors: PyTree) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Each normalised kernel, as it is stored, and the last estimate of its singular value.

    Args:
        params: the parameters, nested by module.
        vectors: the collection `spectral`, nested in the same way.

    Returns: by the path of the layer; the kernel in use is the first over the second.
    """
    flat = flax.traverse_util.flatten_dict(params)
    found = {}
    for (*path, name), sigma in flax.traverse_util.flatten_dict(vectors).items():
        *layer, which = name.split("/")
        if which == "sigma":
            # The wrapper and Flax's own lie between the layer's parent and the estimate.
            place = (*path[:-2], *layer)
            found["/".join(place[:-1])] = flat[place], sigma
    return found


def wrap(normalise: bool, layer: nn.Module, name: str | None = None) -> Layer:
    """`layer`, called as (x, train, *inputs), spectrally normalised or as it is."""
    return (SpectralNorm if normalise else Plain)(layer, name=name)
