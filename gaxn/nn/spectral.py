"""Layers with spectral normalization (Miyato et al., 2018), one power iteration per call.

The vectors of the power iteration are in a mutable collection, `spectral`.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from gaxn.types import PyTree

COLLECTION = "spectral"
EPSILON = 1e-12
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


def kernels(params: PyTree, vectors: PyTree) -> dict[str, tuple[np.ndarray, float]]:
    """Returns each normalized kernel as a matrix, and the singular value by which it is divided.

    That value is the estimate of the layer's next call, by one power iteration from the stored
    vector; the stored estimate is of the kernel before its last update.

    Args:
        params: the parameters, nested by module.
        vectors: the collection `spectral`, nested in the same way.

    Returns:
        (matrix [inputs, outputs], singular value), in float64, by the path of the layer.
    """
    flat = flax.traverse_util.flatten_dict(params)
    pairs = {}
    for (*path, name), vector in flax.traverse_util.flatten_dict(vectors).items():
        *layer, kind = name.split("/")
        if kind == "u":
            # The paths of `vectors` also name our wrapper and Flax's, those of `params` do not.
            kernel_path = (*path[:-2], *layer)
            kernel = np.asarray(flat[kernel_path], np.float64)
            matrix = kernel.reshape(-1, kernel.shape[-1])
            pairs["/".join(kernel_path[:-1])] = matrix, _estimate(matrix, np.asarray(vector[0]))
    return pairs


def _estimate(matrix: np.ndarray, vector: np.ndarray) -> float:
    """Returns the norm of v'W for v = Wu / |Wu|: one power iteration from u."""
    image = matrix @ vector
    return float(np.linalg.norm(image @ matrix) / max(np.linalg.norm(image), EPSILON))


def wrap(normalize: bool, layer: nn.Module, name: str | None = None) -> Layer:
    """Returns `layer` as a function of (x, train, *inputs), spectrally normalized if wanted."""
    return (SpectralNorm if normalize else Plain)(layer, name=name)
