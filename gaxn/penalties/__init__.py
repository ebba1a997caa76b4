"""Gradient penalties, one a file: `penalty(critic, real, fake, keys)`, a value an example.

A penalty knows nothing of Flax: it sees the critic as a function of images alone. Options of
its own are keyword arguments.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaxn.types import Images, Logits

Critic = Callable[[Images], Logits]
Penalty = Callable[[Critic, Images, Images, jax.Array], Float[Array, "batch"]]


class Term(NamedTuple):
    """A penalty as it stands in a loss.

    Attributes:
        name: of its file, for the log.
        penalty: what is added.
        weight: its factor.
        every: it is computed at every so many steps, with as many times the weight (Karras et
            al., 2020, appendix B: lazy regularisation).
    """

    name: str
    penalty: Penalty
    weight: float
    every: int = 1


def input_gradient(critic: Critic, images: Images) -> Images:
    """The gradient of each image's logit in that image, shape of `images`.

    It is taken of the sum of the logits, which is the same thing as long as no logit
    depends on another example's image; the game refuses a critic with batch statistics.
    Mapping a gradient of one example over the batch would ask for a filter gradient an
    example in the second derivative: three times slower here, and wrong in XLA's
    partitioner where the batch is sharded (jax 0.10.2).
    """
    return jax.grad(lambda x: critic(x).sum())(images)


def square_norm(gradient: Images) -> Float[Array, "batch"]:
    """The squared Euclidean norm of each example's gradient."""
    return jnp.sum(jnp.square(gradient), axis=tuple(range(1, gradient.ndim)))


def norm(gradient: Images) -> Float[Array, "batch"]:
    """The Euclidean norm of each example's gradient.

    The root has no derivative at 0; a gradient of exactly 0 counts as constant there.
    """
    square = square_norm(gradient)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)


def interpolate(real: Images, fake: Images, keys: jax.Array) -> Images:
    """e x + (1 - e) G(z) of each pair, with e ~ U(0, 1) by its key."""
    mix = jax.vmap(jax.random.uniform)(keys)
    mix = mix.reshape(-1, *[1] * (real.ndim - 1))
    return mix * real + (1 - mix) * fake
