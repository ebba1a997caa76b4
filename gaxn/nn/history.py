"""Earlier generated images, which a discriminator sees again (Shrivastava et al., 2017, 2.3)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn import axis
from gaxn.types import Images

COLLECTION = "history"


class ImageHistory(nn.Module):
    """New images in, as many out, half of them old ones, as in the CycleGAN (section 4).

    Until there are `size`, an image is kept and shown. After that, with probability 1/2, one
    that was kept is shown in its stead, and replaced by it. Images come one after the other, in
    the order of the global batch.

    Attributes:
        size: images that are kept; 0 for none, and new ones are shown.
    """

    size: int

    @nn.compact
    def __call__(self, images: Images, keys: jax.Array) -> Images:
        """Args: images, a key each. Returns as many; where images are kept the gradient ends."""
        if not self.size:
            return images
        images = jax.lax.stop_gradient(images)
        kept = self.variable(COLLECTION, "images", jnp.zeros, (self.size, *images.shape[1:]))
        count = self.variable(COLLECTION, "count", jnp.zeros, (), jnp.int32)
        if self.is_initializing():
            return images

        def show(held, new):
            kept, count = held
            image, key = new
            choose, place = jax.random.split(key)
            fills = count < self.size
            old = jax.random.bernoulli(choose)
            slot = jnp.where(fills, count, jax.random.randint(place, (), 0, self.size))
            shown = jnp.where(fills | ~old, image, kept[slot])
            stored = jnp.where(fills | old, image, kept[slot])
            return (kept.at[slot].set(stored), jnp.minimum(count + 1, self.size)), shown

        everyone = axis.gather(images), axis.gather(keys)
        (kept.value, count.value), shown = jax.lax.scan(show, (kept.value, count.value), everyone)
        return axis.own_rows(shown, images.shape[0])
