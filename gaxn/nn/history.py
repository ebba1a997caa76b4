"""A history of generated images for the discriminator (Shrivastava et al., 2017, section 2.3)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn.distributed import axis
from gaxn.types import Images

COLLECTION = "history"


class ImageHistory(nn.Module):
    """A buffer that replaces half of the new images by older ones (CycleGAN, section 4).

    Until the buffer is full, each new image is stored and returned. After that, with probability
    1/2, a random stored image is returned instead of the new one, which takes its place in the
    buffer. Images are processed one after the other, in the order of the global batch.

    Attributes:
        size: images in the buffer; 0 to return the new images only.
    """

    size: int

    @nn.compact
    def __call__(self, images: Images, keys: jax.Array) -> Images:
        """Returns as many images as it gets (one key each), without gradient unless `size` is 0."""
        if not self.size:
            return images
        images = jax.lax.stop_gradient(images)
        buffer = self.variable(COLLECTION, "images", jnp.zeros, (self.size, *images.shape[1:]))
        count = self.variable(COLLECTION, "count", jnp.zeros, (), jnp.int32)
        if self.is_initializing():
            return images

        def insert(state, new):
            buffer, count = state
            image, key = new
            choice_key, slot_key = jax.random.split(key)
            filling = count < self.size
            swap = jax.random.bernoulli(choice_key)
            slot = jnp.where(filling, count, jax.random.randint(slot_key, (), 0, self.size))
            output = jnp.where(filling | ~swap, image, buffer[slot])
            stored = jnp.where(filling | swap, image, buffer[slot])
            return (buffer.at[slot].set(stored), jnp.minimum(count + 1, self.size)), output

        (buffer.value, count.value), outputs = jax.lax.scan(
            insert, (buffer.value, count.value), (axis.gather(images), axis.gather(keys))
        )
        return axis.local_rows(outputs, images.shape[0])
