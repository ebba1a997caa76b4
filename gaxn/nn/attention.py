"""Self-attention over the positions of a feature map, after SAGAN (Zhang et al., 2019, eq. 1-3)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from gaxn.nn import precision, spectral
from gaxn.nn.resampling import max_pool
from gaxn.types import Images, SentenceCondition, check

Heads = Float[Array, "batch positions heads features"]


class SelfAttention(nn.Module):
    """Self-attention y = gamma * o(softmax(q k^T) v) + x, with 1x1 convolutions q, k, v and o.

    The attention weights are sown as `intermediates/weights`, shape
    [batch, heads, height * width, keys]; each row sums to 1. With `block` they are computed all
    at once only if the collection `intermediates` is mutable.

    Attributes:
        heads: attention heads, which share the channels; 1 in the paper.
        reduction: the queries of all heads have `channels // reduction` channels together, and
            so have the keys; 8 in the paper.
        pool: factor by which keys and values are max-pooled along height and width. 1 is the
            paper's equation; 2 is what its authors' code (and BigGAN) uses, with a quarter of
            the memory.
        block: queries computed at a time, forward and backward; 0 for all. The values are the
            same. Memory grows with the block and not with the square of the positions, but the
            weights are computed twice in training.
        spectral_norm: whether the four convolutions are spectrally normalized.
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
        """Returns a map with the shape of x, [batch, height, width, channels]."""
        batch, height, width, channels = x.shape
        query_channels = max(channels // self.reduction, self.heads)
        valid = self.heads >= 1 and channels % self.heads == 0 and query_channels % self.heads == 0
        expected = f"a divisor of the {channels} channels and the {query_channels} query channels"
        check("heads", self.heads, valid, expected)
        valid = self.pool >= 1 and height % self.pool == 0 and width % self.pool == 0
        expected = f"a divisor of the map's height and width, {height} and {width}"
        check("attention_pool", self.pool, valid, expected)
        check("attention_block", self.block, self.block >= 0, "0, for all queries, or more")

        # Of rank 2: XLA takes the gradient of a kernel up to twice as fast on CPU.
        rows = x.reshape(-1, channels)

        def project(features: int, name: str, pool: int = 1) -> Heads:
            y = self._pointwise(features, name)(rows, train)
            if pool > 1:
                y = max_pool(y.reshape(*x.shape[:-1], features), pool)
            return y.reshape(batch, -1, self.heads, features // self.heads)

        query = project(query_channels, "query")
        key = project(query_channels, "key", self.pool)
        value = project(channels, "value", self.pool)
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "weights", attention_weights(query, key))
        if self.block:
            attended = attend_in_blocks(query, key, value, self.block)
        else:
            attended = attend(query, key, value)
        gamma = self.param("gamma", nn.initializers.zeros, ())
        output = self._pointwise(channels, "output")(attended.reshape(rows.shape), train)
        # In float32, since the gradient of gamma is a sum over all of x.
        return (gamma * output + rows).astype(rows.dtype).reshape(x.shape)

    def _pointwise(self, features: int, name: str) -> spectral.Layer:
        layer = nn.Dense(
            features, use_bias=False, kernel_init=nn.initializers.orthogonal(), dtype=self.dtype
        )
        return spectral.wrap(self.spectral_norm, layer, name)


class WordAttention(nn.Module):
    """Attention of the positions of a map to the words of a sentence (AttnGAN; Xu et al., 2018).

    y = gamma * o(softmax(q k^T) v) + x, with queries of the map, and keys and values of the words.
    The attention weights are sown as `intermediates/word_weights`, shape
    [batch, heads, height * width, words]; each row sums to 1.

    Attributes:
        heads: attention heads, which share the channels.
        reduction: the queries of all heads have `channels // reduction` channels together.
        spectral_norm: whether the four linear maps are spectrally normalized.
        dtype: of the products; None for that of x. The softmax is float32 or wider.
    """

    heads: int = 1
    reduction: int = 2
    spectral_norm: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Images, sentence: SentenceCondition, train: bool) -> Images:
        """Returns a map with the shape of x, [batch, height, width, channels]."""
        batch, *_, channels = x.shape
        query_channels = max(channels // self.reduction, self.heads)
        valid = self.heads >= 1 and channels % self.heads == 0 and query_channels % self.heads == 0
        expected = f"a divisor of the {channels} channels and the {query_channels} query channels"
        check("heads", self.heads, valid, expected)

        def project(rows: jax.Array, features: int, name: str) -> Heads:
            layer = nn.Dense(features, use_bias=False, dtype=self.dtype)
            y = spectral.wrap(self.spectral_norm, layer, name)(rows, train)
            return y.reshape(batch, -1, self.heads, features // self.heads)

        rows, words = (each.reshape(-1, each.shape[-1]) for each in (x, sentence.words))
        query = project(rows, query_channels, "query")
        key, value = project(words, query_channels, "key"), project(words, channels, "value")
        weights = attention_weights(query, key, sentence.mask)
        self.sow("intermediates", "word_weights", weights)
        attended = jnp.einsum("bhqk,bkhc->bqhc", weights.astype(value.dtype), value)
        gamma = self.param("gamma", nn.initializers.zeros, ())
        output = project(attended.reshape(rows.shape), channels, "output").reshape(rows.shape)
        return (gamma * output + rows).astype(rows.dtype).reshape(x.shape)


def apply_self_attention(network: nn.Module, x: Images, train: bool) -> Images:
    """Applies self-attention if `network.attention_at` has the resolution of x; else returns x.

    Called within the compact method of a network with the fields `attention_at`, `heads`,
    `attention_pool`, `attention_block`, `spectral_norm` and `dtype`.
    """
    resolution = x.shape[1]
    if resolution not in network.attention_at:
        return x
    return make_self_attention(network, f"attention_{resolution}")(x, train)


def make_self_attention(network: nn.Module, name: str) -> SelfAttention:
    """Returns the layer for a network's `heads`, `attention_pool`, `attention_block`,
    `spectral_norm` and `dtype`."""
    return SelfAttention(
        network.heads,
        pool=network.attention_pool,
        block=network.attention_block,
        spectral_norm=network.spectral_norm,
        dtype=network.dtype,
        name=name,
    )


def check_resolutions(
    attention_at: Sequence[int], resolutions: Sequence[int], field: str = "attention_at"
) -> None:
    """Raises an InputError if a resolution of a field is not one of the network's."""
    expected = f"a subset of the network's resolutions, {tuple(resolutions)}"
    check(field, attention_at, set(attention_at) <= set(resolutions), expected)


def attention_weights(
    query: Heads, key: Heads, mask: Bool[Array, "batch keys"] | None = None
) -> Float[Array, "batch heads queries keys"]:
    """Returns softmax(q k^T) over the keys, float32 or wider; 0 where a mask is false."""
    dtype = precision.wide_dtype(query.dtype)
    scores = jnp.einsum("bqhc,bkhc->bhqk", query, key, preferred_element_type=dtype)
    if mask is not None:
        scores = jnp.where(mask[:, None, None], scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1)


def attend(query: Heads, key: Heads, value: Heads) -> Heads:
    """Returns softmax(q k^T) v, [batch, queries, heads, features of a value]."""
    weights = attention_weights(query, key).astype(value.dtype)
    return jnp.einsum("bhqk,bkhc->bqhc", weights, value)


def attend_in_blocks(query: Heads, key: Heads, value: Heads, block: int) -> Heads:
    """Returns the values of `attend`, computed for `block` queries at a time.

    The weights of a block are computed again for its gradient, so memory holds those of one block
    at a time. Differentiable any number of times.
    """
    batch, count, heads, features = query.shape
    block = min(block, count)
    padded = jnp.pad(query, ((0, 0), (0, -count % block), (0, 0), (0, 0)))
    blocks = jnp.moveaxis(padded.reshape(batch, -1, block, heads, features), 1, 0)
    # Within a loop there is nothing that XLA could merge the second computation with.
    attend_block = jax.checkpoint(lambda rows: attend(rows, key, value), prevent_cse=False)
    attended = jnp.moveaxis(jax.lax.map(attend_block, blocks), 0, 1)
    return attended.reshape(batch, -1, *value.shape[2:])[:, :count]
