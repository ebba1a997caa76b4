"""Gradient penalties of a discriminator: one function per penalty.

Its parameters are its options in a config; all have `weight`, 0 or more, and `interval`: with an
interval of n the penalty is computed at every n-th step with n times the weight (lazy
regularization; Karras et al., 2020, appendix B).

A penalty sees the discriminator as a function of images alone and knows nothing of Flax.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaxn.objectives.schedules import ScalarOrSchedule, check_values
from gaxn.types import Images, Logits, check

Discriminator = Callable[[Images], Logits]
Values = Float[Array, "batch"]


class Penalty(NamedTuple):
    """A penalty and its place in a loss.

    Attributes:
        values: (discriminator, real, fake, one key per example) -> one value per example.
        weight: factor of the penalty in the discriminator's loss, 0 or more.
        interval: steps between two computations; with n the penalty is computed at every n-th
            step, with n times the weight (lazy regularization).
        due: whether it is computed at the step that is compiled; None if the device decides.
        values_from_gradient: for a penalty at the real or at the generated images, the gradient of
            each image's logit -> one value per example. `values` are these; an objective can take
            the gradient from the pass that its loss needs anyway.
        gradient_side: the images of `values_from_gradient`, "real" or "fake"; "" without it.
    """

    values: Callable[[Discriminator, Images, Images, jax.Array], Values]
    weight: ScalarOrSchedule
    interval: int = 1
    due: bool | None = None
    values_from_gradient: Callable[[Images], Values] | None = None
    gradient_side: str = ""

    def is_due(self, step: jax.Array | int) -> jax.Array | bool:
        """Returns whether the penalty is computed at a step: a bool if the host decides."""
        if self.interval == 1:
            return True
        return step % self.interval == 0 if self.due is None else self.due


def r1(weight: ScalarOrSchedule, interval: int = 1) -> Penalty:
    """1/2 |grad D(x)|^2 at real images (Mescheder et al., 2018, eq. 9)."""

    def values(D: Discriminator, real: Images, fake: Images, keys: jax.Array) -> Values:
        return half_square_norm(input_gradient(D, real))

    penalty = _penalty(values, weight, interval)
    return penalty._replace(values_from_gradient=half_square_norm, gradient_side="real")


def r2(weight: ScalarOrSchedule, interval: int = 1) -> Penalty:
    """1/2 |grad D(G(z))|^2 at generated images (Mescheder et al., 2018, eq. 10)."""

    def values(D: Discriminator, real: Images, fake: Images, keys: jax.Array) -> Values:
        return half_square_norm(input_gradient(D, fake))

    penalty = _penalty(values, weight, interval)
    return penalty._replace(values_from_gradient=half_square_norm, gradient_side="fake")


def zero_centered(weight: ScalarOrSchedule, interval: int = 1) -> Penalty:
    """|grad D(y)|^2 between real and generated images (0-GP; Thanh-Tung et al., 2019, section 5).

    y = e x + (1 - e) G(z) of each pair, with e ~ U(0, 1).
    """

    def values(D: Discriminator, real: Images, fake: Images, keys: jax.Array) -> Values:
        return square_norm(input_gradient(D, interpolate(real, fake, keys)))

    return _penalty(values, weight, interval)


def wgan_gp(weight: ScalarOrSchedule, interval: int = 1) -> Penalty:
    """(|grad D(y)| - 1)^2 between real and generated images (Gulrajani et al., 2017, eq. 3).

    y = e x + (1 - e) G(z) of each pair, with e ~ U(0, 1).
    """

    def values(D: Discriminator, real: Images, fake: Images, keys: jax.Array) -> Values:
        return jnp.square(norm(input_gradient(D, interpolate(real, fake, keys))) - 1)

    return _penalty(values, weight, interval)


def wgan_lp(weight: ScalarOrSchedule, interval: int = 1) -> Penalty:
    """relu(|grad D(y)| - 1)^2 between real and generated images (Petzka et al., 2018).

    y = e x + (1 - e) G(z) of each pair, with e ~ U(0, 1).
    """

    def values(D: Discriminator, real: Images, fake: Images, keys: jax.Array) -> Values:
        return jnp.square(nn.relu(norm(input_gradient(D, interpolate(real, fake, keys))) - 1))

    return _penalty(values, weight, interval)


def dragan(weight: ScalarOrSchedule, interval: int = 1, deviation: float = 0.5) -> Penalty:
    """(|grad D(x + d)| - 1)^2 around real images (DRAGAN; Kodali et al., 2017, section 2.3).

    Args:
        weight, interval: as for every penalty.
        deviation: standard deviation of the noise d, 0 or more.
    """
    check("deviation", deviation, deviation >= 0, "0 or more")

    def values(D: Discriminator, real: Images, fake: Images, keys: jax.Array) -> Values:
        noise = jax.vmap(lambda key: jax.random.normal(key, real.shape[1:], real.dtype))(keys)
        return jnp.square(norm(input_gradient(D, real + deviation * noise)) - 1)

    return _penalty(values, weight, interval)


def _penalty(values: Callable, weight: ScalarOrSchedule, interval: int) -> Penalty:
    check_values("weight", weight, lambda value: value >= 0, "0 or more")
    check("interval", interval, interval >= 1, "1 step or more")
    return Penalty(values, weight, interval)


def input_gradient(discriminator: Discriminator, images: Images) -> Images:
    """Returns the gradient of each image's logit in that image, shape of `images`.

    It differentiates the sum of the logits, which is the same if no logit depends on another
    example's image; an objective with penalties refuses discriminators with batch statistics.
    Mapping the gradient of one example over the batch would need a filter gradient per example
    in the second derivative: three times slower on a CPU, and wrong in XLA's partitioner if the
    batch is sharded (jax 0.10.2).
    """
    return jax.grad(lambda x: discriminator(x).sum())(images)


def square_norm(gradient: Images) -> Values:
    """Returns the squared Euclidean norm of each example's gradient."""
    return jnp.sum(jnp.square(gradient), axis=tuple(range(1, gradient.ndim)))


def half_square_norm(gradient: Images) -> Values:
    """Returns half the squared Euclidean norm of each example's gradient."""
    return square_norm(gradient) / 2


def norm(gradient: Images) -> Values:
    """Returns the Euclidean norm of each example's gradient.

    The root has no derivative at 0: a gradient of exactly 0 counts as constant.
    """
    square = square_norm(gradient)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)


def interpolate(real: Images, fake: Images, keys: jax.Array) -> Images:
    """Returns e x + (1 - e) G(z) of each pair, with e ~ U(0, 1) drawn by the pair's key."""
    mix = jax.vmap(jax.random.uniform)(keys)
    mix = mix.reshape(-1, *[1] * (real.ndim - 1))
    return mix * real + (1 - mix) * fake
