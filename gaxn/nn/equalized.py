"""Equalized learning rate (Karras et al., 2018, section 4.1), for networks of your own.

None of gaxn/models has it: their recipes were tuned without.
"""

import math

import flax.linen as nn
import jax

from gaxn.types import PyTree


class Equalized(nn.Module):
    """A layer with the kernel c w, where w is stored and c = sqrt(2 / inputs) is He's constant.

    `inputs` is the product of all axes of the kernel but the last. The layer draws its kernel as
    ever, so w has a deviation near 1 whatever the layer's size. Adam moves every number by about
    its learning rate, and so all layers by the same share of their weights.

    Attributes:
        layer: with a parameter `kernel`; others, such as a bias, are as they are.
    """

    layer: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, *inputs: jax.Array) -> jax.Array:
        """Returns layer(x, *inputs); `train` is there as for `spectral.SpectralNorm`."""
        call = nn.map_variables(
            lambda layer: layer(x, *inputs),
            "params",
            trans_in_fn=lambda params: _scale(params, 1),
            trans_out_fn=lambda params: _scale(params, -1),
            init=self.is_initializing(),
        )
        return call(self.layer)


def _scale(params: PyTree, exponent: int) -> PyTree:
    """Multiplies kernels by a power of their constants."""

    def scale(path: tuple, leaf: jax.Array) -> jax.Array:
        constant = math.sqrt(2 * leaf.shape[-1] / leaf.size) if leaf.ndim > 1 else 1
        return leaf * constant**exponent if path[-1].key == "kernel" else leaf

    return jax.tree_util.tree_map_with_path(scale, params)
