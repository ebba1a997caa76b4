"""The optimizer of a player: one of optax, with transformations that GANs need besides."""

from collections.abc import Collection

import jax
import jax.numpy as jnp
import optax

from gaxn.types import PyTree, check


def with_constraints(
    optimizer: optax.GradientTransformation, clip: float | None, orthogonal: float | None
) -> optax.GradientTransformation:
    """Returns an optimizer with orthogonal regularization before it and clipped weights after.

    Args:
        optimizer: of optax.
        clip: bound of the weights' absolute values after each update, above 0; None for no bound.
        orthogonal: weight of orthogonal regularization of all kernels (Brock et al., 2019, eq. 3),
            0 or more; None for none.
    """
    transformations = [optimizer]
    if orthogonal is not None:
        check("orthogonal", orthogonal, orthogonal >= 0, "a weight, 0 or more")
        transformations.insert(0, orthogonal_regularization(orthogonal))
    if clip is not None:
        check("clip", clip, clip > 0, "above 0")
        transformations.append(clip_weights(clip))
    return optimizer if len(transformations) == 1 else optax.chain(*transformations)


def freeze(
    optimizer: optax.GradientTransformation, layers: Collection[tuple[str, ...]]
) -> optax.GradientTransformation:
    """Returns an optimizer that moves no parameter of some layers, and keeps no state for them.

    Args:
        optimizer: of the other parameters, which do not depend on the frozen ones within it.
        layers: their paths among the parameters.
    """

    def label(path: tuple, _: jax.Array) -> str:
        names = tuple(key.key for key in path)
        is_frozen = any(names[: len(layer)] == layer for layer in layers)
        return "frozen" if is_frozen else "moved"

    def labels(params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(label, params)

    parts = {"moved": optimizer, "frozen": optax.set_to_zero()}
    return optax.multi_transform(parts, labels)


def clip_weights(bound: float) -> optax.GradientTransformation:
    """Clips weights to [-bound, bound] after every update (Arjovsky et al., 2017, algorithm 1)."""

    def update(updates: PyTree, params: PyTree) -> PyTree:
        return jax.tree.map(lambda u, p: jnp.clip(p + u, -bound, bound) - p, updates, params)

    return optax.stateless(update)


def orthogonal_regularization(weight: float) -> optax.GradientTransformation:
    """Adds the gradient of weight |W'W * (1 - I)|^2 (Brock et al., 2019, eq. 3).

    W is each kernel as a matrix [inputs, outputs]; other parameters are left alone.
    """

    def add_gradient(path: tuple, update: jax.Array, param: jax.Array) -> jax.Array:
        is_kernel = getattr(path[-1], "key", None) == "kernel"
        return update + weight * jax.grad(_overlap)(param) if is_kernel else update

    def update(updates: PyTree, params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(add_gradient, updates, params)

    return optax.stateless(update)


def _overlap(kernel: jax.Array) -> jax.Array:
    """Returns the sum of the squared inner products of different columns."""
    columns = kernel.reshape(-1, kernel.shape[-1])
    products = columns.T @ columns
    return jnp.sum(jnp.square(products - jnp.diag(jnp.diag(products))))
