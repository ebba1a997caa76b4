"""Layers with spectral normalization (Miyato et al., 2018), one power iteration per call.

The vectors of the power iteration are in a mutable collection, `spectral`.
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
    """A layer without normalization, with the interface of `SpectralNorm`."""

    layer: nn.Module

    def __call__(self, x: jax.Array, train: bool, *inputs: Any) -> jax.Array:
        return self.layer(x, *inputs)


class SpectralNorm(nn.Module):
    """A layer whose kernel, as a matrix [inputs, outputs], has a largest singular value near 1.

    The power iteration is stored only if `train` is true.
    """

    layer: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, *inputs: Any) -> jax.Array:
        normalized = nn.SpectralNorm(self.layer, collection_name=COLLECTION)
        return normalized(x, *inputs, update_stats=train)


def kernels(params: PyTree, vectors: PyTree) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Returns each normalized kernel, as stored, and the last estimate of its singular value.

    Args:
        params: the parameters, nested by module.
        vectors: the collection `spectral`, nested in the same way.

    Returns:
        (kernel, singular value) by the path of the layer; the layer divides one by the other.
    """
    flat = flax.traverse_util.flatten_dict(params)
    pairs = {}
    for (*path, name), sigma in flax.traverse_util.flatten_dict(vectors).items():
        *layer, kind = name.split("/")
        if kind == "sigma":
            # The paths of `vectors` also name our wrapper and Flax's, those of `params` do not.
            kernel_path = (*path[:-2], *layer)
            pairs["/".join(kernel_path[:-1])] = flat[kernel_path], sigma
    return pairs


def wrap(normalize: bool, layer: nn.Module, name: str | None = None) -> Layer:
    """Returns `layer` as a function of (x, train, *inputs), spectrally normalized if wanted."""
    return (SpectralNorm if normalize else Plain)(layer, name=name)
