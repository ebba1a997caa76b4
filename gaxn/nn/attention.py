"""Self-attention over the positions of a feature map, after SAGAN (Zhang et al., 2019, eq. 1-3)."""

from collections.abc import Iterable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gaxn.nn import precision, spectral
from gaxn.nn.resampling import max_pool
from gaxn.types import Images, InputError, require

Heads = Float[Array, "batch positions heads features"]


class SelfAttention(nn.Module):
    """y = gamma * o(softmax(q k^T) v) + x, with 1x1 convolutions q, k, v and o.

    The weights are sown as `intermediates/weights`, shape
    [batch, heads, height * width, keys], each row summing to 1; they are computed whole only
    where that collection is asked for.

    Attributes:
        heads: heads that share the channels; 1 in the paper.
        reduction: channels of all queries (and keys) are `channels // reduction`; 8 in
            the paper.
        pool: keys and values are max-pooled by this factor in both directions: 1 is the
            paper's equation, 2 is what its authors' code (and BigGAN) runs, with a
            quarter of the memory.
        block: queries that are answered at a time, forwards and backwards; 0 for all. The
            values are the same; memory grows with the block and no longer with the square of
            the positions, and the weights are computed twice in training.
        spectral_norm: whether the four convolutions are spectrally normalised.
        dtype: of the products; None for that of x. The softmax is float32 or wider.
    """

    heads: int = 1
    reduction: int = 8
    pool: int = 1
    block: int = 0
    spectral_norm: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Images:
        """Args: x, float [batch, height, width, channels]. Returns the same shape."""
        batch, channels = x.shape[0], x.shape[-1]
        narrow = max(channels // self.reduction, self.heads)
        if channels % self.heads or narrow % self.heads:
            raise InputError(
                f"heads is {self.heads}; it has to divide the {channels} channels and the "
                f"{narrow} query channels of its layer"
            )

        height, width = x.shape[1:3]
        if height % self.pool or width % self.pool:
            raise InputError(
                f"attention_pool is {self.pool}; it has to divide {height} and {width}"
            )
        require("attention_block", self.block, self.block >= 0, "0, for all queries, or more")

        # Of rank 2: XLA takes the gradient of a kernel up to twice as fast on CPU.
        rows = x.reshape(-1, channels)

        def project(features: int, name: str, pool: int = 1) -> Heads:
            y = self._pointwise(features, name)(rows, train)
            if pool > 1:
                y = max_pool(y.reshape(*x.shape[:-1], features), pool)
            return y.reshape(batch, -1, self.heads, features // self.heads)

        query = project(narrow, "query")
        key = project(narrow, "key", self.pool)
        value = project(channels, "value", self.pool)
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "weights", weigh(query, key))
        if self.block:
            attended = attend_in_blocks(query, key, value, self.block)
        else:
            attended = attend(query, key, value)
        gamma = self.param("gamma", nn.initializers.zeros, ())
        output = self._pointwise(channels, "output")(attended.reshape(rows.shape), train)
        return (gamma.astype(output.dtype) * output + rows).reshape(x.shape)

    def _pointwise(self, features: int, name: str) -> spectral.Layer:
        layer = nn.Dense(
            features,
            use_bias=False,
            kernel_init=nn.initializers.orthogonal(),
            dtype=self.dtype,
        )
        return spectral.wrap(self.spectral_norm, layer, name=name)


def attend_where_asked(network: nn.Module, x: Images, train: bool) -> Images:
    """Self-attention if `network.attention_at` has the resolution of x, else x.

    To be called within the compact method of a network whose fields describe its attention:
    `attention_at`, `heads`, `attention_pool`, `attention_block`, `spectral_norm` and `dtype`.
    """
    resolution = x.shape[1]
    if resolution not in network.attention_at:
        return x
    return attend_as_told(network, f"attention_{resolution}", network.dtype)(x, train)


def attend_as_told(network: nn.Module, name: str, dtype: DTypeLike | None = None) -> SelfAttention:
    """The layer that a network's fields describe.

    They are `heads`, `attention_pool`, `attention_block` and `spectral_norm`.
    """
    return SelfAttention(
        network.heads,
        pool=network.attention_pool,
        block=network.attention_block,
        spectral_norm=network.spectral_norm,
        dtype=dtype,
        name=name,
    )


def require_resolutions(attention_at: Iterable[int], there: Iterable[int]) -> None:
    """Refuses attention where a network has no map.

    Raises:
        InputError: a resolution is not among those there are.
    """
    there = tuple(there)
    for resolution in attention_at:
        if resolution not in there:
            raise InputError(
                f"attention_at has {resolution}; resolutions of this network are {there}"
            )


def weigh(query: Heads, key: Heads) -> Float[Array, "batch heads queries keys"]:
    """softmax(q k^T) over the keys, float32 or wider."""
    wide = precision.wide(query.dtype)
    scores = jnp.einsum("bqhc,bkhc->bhqk", query, key, preferred_element_type=wide)
    return jax.nn.softmax(scores, axis=-1)


def attend(query: Heads, key: Heads, value: Heads) -> Heads:
    """softmax(q k^T) v: [batch, queries, heads, features of a value]."""
    return jnp.einsum("bhqk,bkhc->bqhc", weigh(query, key).astype(value.dtype), value)


def attend_in_blocks(query: Heads, key: Heads, value: Heads, block: int) -> Heads:
    """The same, so many queries at a time.

    A block's weights are dropped and computed again for its gradient, so that one block's are
    held at a time. Differentiable any number of times.
    """
    batch, count, heads, features = query.shape
    block = min(block, count)
    padded = jnp.pad(query, ((0, 0), (0, -count % block), (0, 0), (0, 0)))
    blocks = jnp.moveaxis(padded.reshape(batch, -1, block, heads, features), 1, 0)
    # Within a loop there is nothing that XLA could merge the second computation with.
    of_block = jax.checkpoint(lambda own: attend(own, key, value), prevent_cse=False)
    attended = jnp.moveaxis(jax.lax.map(of_block, blocks), 0, 1)
    return attended.reshape(batch, -1, *value.shape[2:])[:, :count]
