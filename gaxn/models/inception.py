"""Inception v3 (Szegedy et al., 2016) as in TensorFlow's graph of 2015-12-05, in eval mode.

FID and related metrics are defined by this graph and not by the paper's network: it has 1,008
logits, average pools that exclude the padding, and a max pool in its last block. Layers have the
names of the published weights.
"""

from collections.abc import Callable, Mapping
from functools import partial

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gaxn.types import Images, PyTree

SIZE, FEATURES, CLASSES = 299, 2048, 1008
EPSILON = 1e-3
"""Epsilon of the batch norms, which `from_torch` folds into a scale and an offset."""

HIGHEST = jax.lax.Precision.HIGHEST


class _Unit(nn.Module):
    """A convolution without bias, a scale and an offset per channel, then ReLU."""

    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Images) -> Images:
        shape = (*self.kernel, x.shape[-1], self.width)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        scale = self.param("scale", nn.initializers.ones, (self.width,))
        offset = self.param("offset", nn.initializers.zeros, (self.width,))
        x = jax.lax.conv_general_dilated(
            x,
            kernel,
            (self.stride, self.stride),
            self.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=HIGHEST,
        )
        return nn.relu(x * scale + offset)


MakeLayer = Callable[[], _Unit]
_average_pool = partial(nn.avg_pool, window_shape=(3, 3), padding="SAME", count_include_pad=False)
_max_pool = partial(nn.max_pool, window_shape=(3, 3), padding="SAME")
_max_pool_by_2 = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2))


class _Mixed(nn.Module):
    """Parallel branches with concatenated channels.

    Attributes:
        branches: layers in series; a tuple in place of the last one splits the branch in two.
        pool: the last branch.
        pool_width: channels of a 1x1 convolution after the pool; 0 for none.
    """

    branches: tuple[tuple, ...]
    pool: Callable[[Images], Images]
    pool_width: int = 0

    @nn.compact
    def __call__(self, x: Images) -> Images:
        outputs = []
        for *layers, last in self.branches:
            y = x
            for make in layers:
                y = make()(y)
            outputs += [make()(y) for make in (last if isinstance(last, tuple) else (last,))]
        pool = self.pool(x)
        if self.pool_width:
            pool = _Unit(self.pool_width, name="branch_pool")(pool)
        return jnp.concatenate([*outputs, pool], axis=-1)


def _series(name: str, *layers: tuple) -> tuple[MakeLayer, ...]:
    """Returns layers of (width, kernel, stride, padding), named NAME_1, NAME_2, ..."""
    return tuple(partial(_Unit, *layer, name=f"{name}_{i}") for i, layer in enumerate(layers, 1))


def _block_a(pool_width: int) -> dict:
    branches = (
        (partial(_Unit, 64, name="branch1x1"),),
        _series("branch5x5", (48,), (64, (5, 5))),
        _series("branch3x3dbl", (64,), (96, (3, 3)), (96, (3, 3))),
    )
    return {"branches": branches, "pool": _average_pool, "pool_width": pool_width}


def _block_b() -> dict:
    branches = (
        (partial(_Unit, 384, (3, 3), 2, "VALID", name="branch3x3"),),
        _series("branch3x3dbl", (64,), (96, (3, 3)), (96, (3, 3), 2, "VALID")),
    )
    return {"branches": branches, "pool": _max_pool_by_2}


def _block_c(width: int) -> dict:
    row, column = (width, (1, 7)), (width, (7, 1))
    branches = (
        (partial(_Unit, 192, name="branch1x1"),),
        _series("branch7x7", (width,), row, (192, (7, 1))),
        _series("branch7x7dbl", (width,), column, row, column, (192, (1, 7))),
    )
    return {"branches": branches, "pool": _average_pool, "pool_width": 192}


def _block_d() -> dict:
    last = (3, 3), 2, "VALID"
    branches = (
        _series("branch3x3", (192,), (320, *last)),
        _series("branch7x7x3", (192,), (192, (1, 7)), (192, (7, 1)), (192, *last)),
    )
    return {"branches": branches, "pool": _max_pool_by_2}


def _block_e(pool: Callable[[Images], Images]) -> dict:
    def halves(name: str) -> tuple[MakeLayer, MakeLayer]:
        unit = partial(_Unit, 384)
        return partial(unit, (1, 3), name=f"{name}a"), partial(unit, (3, 1), name=f"{name}b")

    branches = (
        (partial(_Unit, 320, name="branch1x1"),),
        (*_series("branch3x3", (384,)), halves("branch3x3_2")),
        (*_series("branch3x3dbl", (448,), (384, (3, 3))), halves("branch3x3dbl_3")),
    )
    return {"branches": branches, "pool": pool, "pool_width": 192}


MIXED = {
    "Mixed_5b": _block_a(32),
    "Mixed_5c": _block_a(64),
    "Mixed_5d": _block_a(64),
    "Mixed_6a": _block_b(),
    "Mixed_6b": _block_c(128),
    "Mixed_6c": _block_c(160),
    "Mixed_6d": _block_c(160),
    "Mixed_6e": _block_c(192),
    "Mixed_7a": _block_d(),
    "Mixed_7b": _block_e(_average_pool),
    "Mixed_7c": _block_e(_max_pool),
}


class Inception(nn.Module):
    """The network up to its logits, in float32 at the highest precision the device has."""

    @nn.compact
    def __call__(
        self, images: Images
    ) -> tuple[Float[Array, "batch 1008"], Float[Array, "batch 2048"]]:
        """Returns logits without their bias and features of images of 299x299, about in [-1, 1].

        torch-fidelity computes the inception score without the bias too.
        """
        x = _Unit(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(images)
        x = _Unit(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(x)
        x = _max_pool_by_2(_Unit(64, (3, 3), name="Conv2d_2b_3x3")(x))
        x = _Unit(80, name="Conv2d_3b_1x1")(x)
        x = _max_pool_by_2(_Unit(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(x))
        for name, block in MIXED.items():
            x = _Mixed(**block, name=name)(x)
        features = x.mean(axis=(1, 2))
        logits = nn.Dense(CLASSES, use_bias=False, precision=HIGHEST, name="fc")(features)
        return logits, features


def from_torch(state: Mapping[str, np.ndarray]) -> PyTree:
    """Converts a state dict of the PyTorch port of this graph into parameters.

    Args:
        state: arrays by names such as "Mixed_5b.branch1x1.conv.weight".

    Raises:
        ValueError: an array is missing or of another shape.
    """
    blank = jnp.zeros((1, SIZE, SIZE, 3))
    shapes = jax.eval_shape(Inception().init, jax.random.key(0), blank)["params"]
    converted = {}
    for path, spec in flax.traverse_util.flatten_dict(shapes).items():
        array = _array(state, ".".join(path[:-1]), path[-1])
        if array.shape != spec.shape:
            name = ".".join(path)
            raise ValueError(f"{name} must have the shape {spec.shape}, got {array.shape}")
        converted[path] = array.astype(np.float32)
    return flax.traverse_util.unflatten_dict(converted)


def _array(state: Mapping[str, np.ndarray], layer: str, name: str) -> np.ndarray:
    def get(key: str) -> np.ndarray:
        if f"{layer}.{key}" not in state:
            raise ValueError(f"{layer}.{key} is missing")
        return np.asarray(state[f"{layer}.{key}"], np.float64)

    if layer == "fc":
        return get("weight").T
    if name == "kernel":
        return get("conv.weight").transpose(2, 3, 1, 0)
    scale = get("bn.weight") / np.sqrt(get("bn.running_var") + EPSILON)
    return scale if name == "scale" else get("bn.bias") - get("bn.running_mean") * scale
