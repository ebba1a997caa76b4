"""Transformers over a sequence of tokens (Vaswani et al., 2017)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from gaxn.nn import precision
from gaxn.nn.norms import Condition
from gaxn.types import check

Tokens = Float[Array, "batch tokens width"]


class MultiHeadSelfAttention(nn.Module):
    """Multi-head attention, o(concat_h softmax(q_h k_h^T / sqrt(width / heads)) v_h).

    Vaswani et al., 2017, eq. 1. The attention weights are sown as `intermediates/weights`, shape
    [batch, heads, tokens, tokens]: rows are queries, columns keys, and each row sums to 1.

    Attributes:
        heads: attention heads, which share the width.
        dtype: of the products; None for that of x. The softmax is float32 or wider.
    """

    heads: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Tokens, mask: Bool[Array, "batch tokens"] | None = None) -> Tokens:
        """Returns tokens with the shape of x.

        Args:
            x: float [batch, tokens, width].
            mask: true for tokens that may be attended to, at least one of each example.

        Raises:
            InputError: the heads do not divide the width.
        """
        batch, tokens, width = x.shape
        valid = self.heads >= 1 and width % self.heads == 0
        check("heads", self.heads, valid, f"a divisor of the width, {width}")

        def project(name: str) -> jax.Array:
            y = jnp.asarray(_dense(x, width, name, self.dtype), self.dtype)
            return y.reshape(batch, tokens, self.heads, -1)

        query, key, value = (project(name) for name in ("query", "key", "value"))
        dtype = precision.wide_dtype(query.dtype)
        scores = jnp.einsum("bqhc,bkhc->bhqk", query, key, preferred_element_type=dtype)
        scores /= jnp.sqrt(width / self.heads)
        if mask is not None:
            scores = jnp.where(mask[:, None, None], scores, -jnp.inf)
        weights = jax.nn.softmax(scores, axis=-1)
        self.sow("intermediates", "weights", weights)
        attended = jnp.einsum("bhqk,bkhc->bqhc", weights.astype(value.dtype), value)
        return _dense(attended.reshape(x.shape), width, "output", self.dtype)


class Block(nn.Module):
    """A pre-norm block: x + attention(norm(x)), then x + MLP(norm(x)) (Xiong et al., 2020).

    The MLP has one hidden layer and GELU.

    Attributes:
        heads: attention heads.
        ratio: hidden features of the MLP, as a multiple of the width.
        dtype: of the products; None for that of x.
    """

    heads: int
    ratio: int = 4
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Tokens,
        condition: Condition | None = None,
        mask: Bool[Array, "batch tokens"] | None = None,
    ) -> Tokens:
        """Returns tokens with the shape of x. A condition modulates both norms (see `norm`).

        A mask is true for tokens that may be attended to.
        """
        width = x.shape[-1]
        attention = MultiHeadSelfAttention(self.heads, self.dtype, name="attention")
        attended = attention(norm(x, condition, "before", self.dtype), mask)
        x = jnp.asarray(x + attended, self.dtype)
        between = norm(x, condition, "between", self.dtype)
        hidden = nn.gelu(_dense(between, self.ratio * width, "hidden", self.dtype))
        return jnp.asarray(x + _dense(hidden, width, "output", self.dtype), self.dtype)


def norm(
    x: Tokens, condition: Condition | None, name: str, dtype: DTypeLike | None = None
) -> Tokens:
    """Applies layer normalization; gain and bias are linear in the condition, if there is one.

    With a condition it is the self-modulation of ViTGAN (Lee et al., 2022, eq. 10). Called
    within a compact method. The result has the type `dtype`; all before it is float32.
    """
    if condition is None:
        return nn.LayerNorm(dtype=dtype, name=name)(x)
    width = x.shape[-1]
    small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
    gain = 1 + nn.Dense(width, kernel_init=small, name=f"{name}_gain")(condition)
    bias = nn.Dense(width, kernel_init=small, name=f"{name}_bias")(condition)
    normal = nn.LayerNorm(use_bias=False, use_scale=False, name=name)(precision.widen(x))
    return jnp.asarray(normal * gain[:, None] + bias[:, None], dtype)


def sinusoids(tokens: int, width: int) -> Float[Array, "tokens width"]:
    """Returns positions as sines (even columns) and cosines (odd columns).

    Wavelengths are 2 pi to 20,000 pi (Vaswani et al., 2017, section 3.5).
    """
    position = jnp.arange(tokens)[:, None]
    column = jnp.arange(width)
    angle = position / 10_000 ** (2 * (column // 2) / width)
    return jnp.where(column % 2 == 0, jnp.sin(angle), jnp.cos(angle))


def _dense(x: jax.Array, features: int, name: str, dtype: DTypeLike | None) -> jax.Array:
    """Applies a dense layer to the last axis."""
    # Of rank 2: XLA takes the gradient of a kernel up to twice as fast on CPU.
    rows = precision.Dense(features, dtype=dtype, name=name)(x.reshape(-1, x.shape[-1]))
    return rows.reshape(*x.shape[:-1], features)
