"""Self-attention over the positions of a feature map, after SAGAN (Zhang et al., 2019, eq. 1-3)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn.nn import spectral
from gaxn.nn.resampling import max_pool
from gaxn.types import Images, InputError


class SelfAttention(nn.Module):
    """y = gamma * o(softmax(q k^T) v) + x, with 1x1 convolutions q, k, v and o.

    The weights are sown as `intermediates/weights`, shape
    [batch, heads, height * width, keys], each row summing to 1.

    Attributes:
        heads: heads that share the channels; 1 in the paper.
        reduction: channels of all queries (and keys) are `channels // reduction`; 8 in
            the paper.
        pool: keys and values are max-pooled by this factor in both directions: 1 is the
            paper's equation, 2 is what its authors' code (and BigGAN) runs, with a
            quarter of the memory.
        spectral_norm: whether the four convolutions are spectrally normalised.
    """

    heads: int = 1
    reduction: int = 8
    pool: int = 1
    spectral_norm: bool = False

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

        # Of rank 2: XLA takes the gradient of a kernel up to twice as fast on CPU.
        rows = x.reshape(-1, channels)

        def project(features: int, name: str, pool: int = 1) -> jax.Array:
            y = self._pointwise(features, name)(rows, train)
            if pool > 1:
                y = max_pool(y.reshape(*x.shape[:-1], features), pool)
            return y.reshape(batch, -1, self.heads, features // self.heads)

        query = project(narrow, "query")
        key = project(narrow, "key", self.pool)
        value = project(channels, "value", self.pool)
        weights = jax.nn.softmax(jnp.einsum("bqhc,bkhc->bhqk", query, key), axis=-1)
        self.sow("intermediates", "weights", weights)
        attended = jnp.einsum("bhqk,bkhc->bqhc", weights, value).reshape(rows.shape)
        gamma = self.param("gamma", nn.initializers.zeros, ())
        output = self._pointwise(channels, "output")(attended, train)
        return (gamma * output + rows).reshape(x.shape)

    def _pointwise(self, features: int, name: str) -> spectral.Layer:
        layer = nn.Dense(features, use_bias=False, kernel_init=nn.initializers.orthogonal())
        return spectral.wrap(self.spectral_norm, layer, name=name)
