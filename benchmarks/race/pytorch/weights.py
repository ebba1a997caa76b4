"""Copies the weights of Flax networks into PyTorch's, and weights and gradients back, by name.

The submodules of a PyTorch network have the names of Flax's; its leaves are parameters and
persistent buffers. A `layers.Kernel` knows the axes of Flax's kernel; all other leaves have equal
names and shapes on both sides.
"""

from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.race.pytorch.layers import Kernel
from gaxn.nn import spectral

Path = tuple[str, ...]
KERNELS = ("kernel", "embedding")
"""The names that Flax's layers give to their kernels."""


def load(network: nn.Module, params: Mapping[str, Any], collections: Mapping[str, Any]) -> None:
    """Copies a player's parameters, and its variables in `collections`, into a network.

    Args:
        network: of PyTorch.
        params: the player's tree of arrays.
        collections: by collection, the player's tree of arrays; `batch_stats` and `spectral` are
            read.

    Raises:
        ValueError: a leaf is on one side only, or has another shape.
    """
    arrays = flax.traverse_util.flatten_dict(params)
    arrays |= flax.traverse_util.flatten_dict(collections.get("batch_stats", {}))
    arrays |= spectral_vectors(collections.get(spectral.COLLECTION, {}))
    leaves = _leaves(network, network.state_dict(keep_vars=True))
    pairs = _pair(leaves, arrays)
    with torch.no_grad():
        for path, (leaf, array) in pairs.items():
            if leaf.shape != array.shape:
                shapes = f"{tuple(leaf.shape)} in PyTorch, {array.shape} in Flax"
                raise ValueError(f"{'/'.join(path)} has the shapes {shapes}")
            leaf.copy_(torch.from_numpy(np.array(array)))


def read(network: nn.Module, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters of a network as a tree of arrays, like `params`.

    Raises:
        ValueError: a leaf is on one side only.
    """
    return _read(network, dict(network.named_parameters()), params)


def read_gradients(network: nn.Module, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the gradients in the parameters of a network as a tree of arrays, like `params`.

    Raises:
        ValueError: a leaf is on one side only, or a parameter has no gradient.
    """
    parameters = dict(network.named_parameters())
    for name, parameter in parameters.items():
        if parameter.grad is None:
            raise ValueError(f"{name} must have a gradient")
    return _read(network, {name: leaf.grad for name, leaf in parameters.items()}, params)


def spectral_vectors(collection: Mapping[str, Any]) -> dict[Path, np.ndarray]:
    """Returns the vectors of the power iteration by the paths of their layers, and "u".

    Flax's paths also name the two modules that wrap a layer. The estimates of singular values are
    left out: no step reads them.
    """
    vectors = {}
    for (*path, name), vector in flax.traverse_util.flatten_dict(collection).items():
        layer, _, kind = name.split("/")
        if kind == "u":
            vectors[(*path[:-2], layer, "u")] = np.asarray(vector)[0]
    return vectors


def _read(
    network: nn.Module, tensors: Mapping[str, Tensor], params: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns tensors, by the names of a network's parameters, as a tree like `params`."""
    pairs = _pair(_leaves(network, tensors), flax.traverse_util.flatten_dict(params))
    arrays = {path: leaf.detach().cpu().numpy() for path, (leaf, _) in pairs.items()}
    return flax.traverse_util.unflatten_dict(arrays)


def _leaves(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[Path, Tensor]:
    """Returns tensors by the paths of Flax, with Flax's axes; a kernel's name is "kernel"."""
    leaves = {}
    for name, tensor in tensors.items():
        *path, leaf = name.split(".")
        layer = network.get_submodule(".".join(path))
        if isinstance(layer, Kernel) and leaf == "weight":
            leaf, tensor = "kernel", tensor.permute(layer.AXES)
        leaves[(*path, leaf)] = tensor
    return leaves


def _pair(
    leaves: Mapping[Path, Tensor], arrays: Mapping[Path, np.ndarray]
) -> dict[Path, tuple[Tensor, np.ndarray]]:
    """Pairs leaves of equal paths, by Flax's paths."""
    names = {path: (*path[:-1], _common_name(path[-1])) for path in arrays}
    for missing, side in (
        (leaves.keys() - names.values(), "Flax"),
        (set(names.values()) - leaves.keys(), "PyTorch"),
    ):
        if missing:
            paths = ", ".join(sorted("/".join(path) for path in missing))
            raise ValueError(f"{side} lacks {paths}")
    return {path: (leaves[names[path]], array) for path, array in arrays.items()}


def _common_name(leaf: str) -> str:
    return "kernel" if leaf in KERNELS else leaf
