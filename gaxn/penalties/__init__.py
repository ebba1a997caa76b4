"""Gradient penalties, one a file: `penalty(critic, real, fake, keys)`, a value an example.

A penalty knows nothing of Flax: it sees the critic as a function of images alone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaxn.types import Images, Logits

Critic = Callable[[Images], Logits]
Penalty = Callable[[Critic, Images, Images, jax.Array], Float[Array, "batch"]]


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
    return jnp.sum(jnp.square(gradient), axis=(1, 2, 3))
