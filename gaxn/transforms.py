"""Gradient transformations that optax does not have: what holds a critic's weights."""

import jax
import jax.numpy as jnp
import optax

from gaxn.types import PyTree, require


def clip_weights(bound: float) -> optax.GradientTransformation:
    """Weights in [-bound, bound] after every update; comes last (Arjovsky et al., 2017, alg. 1)."""

    def update(updates: PyTree, params: PyTree) -> PyTree:
        return jax.tree.map(lambda u, p: jnp.clip(p + u, -bound, bound) - p, updates, params)

    return optax.stateless(update)


def orthogonal(weight: float) -> optax.GradientTransformation:
    """Adds the gradient of weight |W'W * (1 - I)|^2; comes first (Brock et al., 2019, eq. 3).

    W is each kernel as a matrix [inputs, outputs]; other parameters are left alone.
    """

    def update(updates: PyTree, params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(
            lambda path, u, p: u + weight * jax.grad(_overlap)(p) if _is_kernel(path) else u,
            updates,
            params,
        )

    return optax.stateless(update)


def _overlap(kernel: jax.Array) -> jax.Array:
    """The sum of the squared inner products of different columns."""
    columns = kernel.reshape(-1, kernel.shape[-1])
    products = columns.T @ columns
    return jnp.sum(jnp.square(products - jnp.diag(jnp.diag(products))))


def _is_kernel(path: tuple) -> bool:
    return getattr(path[-1], "key", None) == "kernel"


def decayed(rate: float, *, begin: int, end: int, to: float) -> optax.Schedule:
    """`rate` until step `begin`, then a line down to `to * rate` at step `end`.

    The steps are the player's own, and absolute: a longer run has the same beginning.
    """
    require("begin", begin, begin >= 0, "0 or more")
    require("end", end, end > begin, f"above begin, {begin}")
    require("to", to, 0 <= to <= 1, "0 to 1")
    return optax.linear_schedule(rate, to * rate, end - begin, begin)
