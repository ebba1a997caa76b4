"""Transformers over a sequence of tokens (Vaswani et al., 2017)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gaxn.types import InputError

Tokens = Float[Array, "batch tokens width"]


class MultiHeadSelfAttention(nn.Module):
    """o(concat_h softmax(q_h k_h^T / sqrt(width / heads)) v_h) (Vaswani et al., 2017, eq. 1).

    The weights are sown as `intermediates/weights`, shape [batch, heads, tokens, tokens]:
    the row is the query, the column the key, each row sums to 1.

    Attributes:
        heads: heads that share the width.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Tokens, mask: Bool[Array, "batch tokens"] | None = None) -> Tokens:
        """Args: x, float [batch, tokens, width]; mask, true where a token may be attended to.

        Returns the shape of x. Every example needs a token that may be attended to.

        Raises:
            InputError: the heads do not divide the width.
        """
        batch, tokens, width = x.shape
        if width % self.heads:
            raise InputError(f"heads is {self.heads}; it has to divide the width, {width}")

        def project(name: str) -> jax.Array:
            return _dense(x, width, name).reshape(batch, tokens, self.heads, -1)

        query, key, value = (project(name) for name in ("query", "key", "value"))
        scores = jnp.einsum("bqhc,bkhc->bhqk", query, key) / jnp.sqrt(width / self.heads)
        if mask is not None:
            scores = jnp.where(mask[:, None, None], scores, -jnp.inf)
        weights = jax.nn.softmax(scores, axis=-1)
        self.sow("intermediates", "weights", weights)
        attended = jnp.einsum("bhqk,bkhc->bqhc", weights, value).reshape(x.shape)
        return _dense(attended, width, "output")


class Block(nn.Module):
    """x + attention(norm(x)), then the same with a GELU MLP (pre-norm; Xiong et al., 2020).

    Attributes:
        heads: attention heads.
        ratio: hidden features of the MLP, as a multiple of the width.
    """

    heads: int
    ratio: int = 4

    @nn.compact
    def __call__(
        self, x: Tokens, condition: Float[Array, "batch condition"] | None = None
    ) -> Tokens:
        """Returns the shape of x. A condition modulates both norms (see `norm`)."""
        width = x.shape[-1]
        x += MultiHeadSelfAttention(self.heads, name="attention")(norm(x, condition, "before"))
        hidden = nn.gelu(_dense(norm(x, condition, "between"), self.ratio * width, "hidden"))
        return x + _dense(hidden, width, "output")


def norm(x: Tokens, condition: Float[Array, "batch condition"] | None, name: str) -> Tokens:
    """Layer normalisation; gain and bias follow from the condition, if there is one.

    That is self-modulation, as a transformer needs it (Lee et al., 2022, eq. 10). To be
    called within a compact method.
    """
    if condition is None:
        return nn.LayerNorm(name=name)(x)
    width = x.shape[-1]
    small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
    gain = 1 + nn.Dense(width, kernel_init=small, name=f"{name}_gain")(condition)
    bias = nn.Dense(width, kernel_init=small, name=f"{name}_bias")(condition)
    normal = nn.LayerNorm(use_bias=False, use_scale=False, name=name)(x)
    return normal * gain[:, None] + bias[:, None]


def sinusoids(tokens: int, width: int) -> Float[Array, "tokens width"]:
    """Positions as sines (even columns) and cosines (odd), wavelengths 2 pi to 20,000 pi.

    Vaswani et al., 2017, section 3.5.
    """
    position = jnp.arange(tokens)[:, None]
    column = jnp.arange(width)
    angle = position / 10_000 ** (2 * (column // 2) / width)
    return jnp.where(column % 2 == 0, jnp.sin(angle), jnp.cos(angle))


def _dense(x: jax.Array, features: int, name: str) -> jax.Array:
    """A dense layer on rows of rank 2: XLA takes its gradient up to twice as fast on CPU."""
    rows = nn.Dense(features, name=name)(x.reshape(-1, x.shape[-1]))
    return rows.reshape(*x.shape[:-1], features)
