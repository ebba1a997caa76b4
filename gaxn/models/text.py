"""A small Transformer over the words of a sentence, and a network for images to match it with."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gaxn.models.classifier import Classifier
from gaxn.nn.transformer import Block, sinusoids
from gaxn.types import Images


class TextTransformer(nn.Module):
    """Token ids -> embeddings of the sentence and of its words.

    Attributes:
        vocabulary: number of token ids, with padding (0) and unknown (1).
        width: length of the vectors.
        layers: blocks of attention and MLP.
        heads: attention heads.
    """

    vocabulary: int
    width: int = 64
    layers: int = 2
    heads: int = 4

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch words"]
    ) -> tuple[Float[Array, "batch width"], Float[Array, "batch words width"]]:
        """Returns embeddings of sentences and of words; those of padding mean nothing."""
        mask: Bool[Array, "batch words"] = tokens > 0
        x = nn.Embed(self.vocabulary, self.width)(tokens)
        x = x + sinusoids(tokens.shape[1], self.width) / jnp.sqrt(self.width)
        for layer in range(self.layers):
            x = Block(self.heads, name=f"block_{layer}")(x, mask=mask)
        words = nn.LayerNorm()(x)
        mean = (words * mask[..., None]).sum(axis=1) / mask.sum(axis=1)[:, None]
        return nn.Dense(self.width)(mean), words


class TextMatcher(nn.Module):
    """Two networks, of sentences and of images, whose vectors are close for what matches.

    Attributes:
        text: the network of sentences.
        widths: channels of the convolutions of the network of images.
    """

    text: TextTransformer
    widths: tuple[int, ...] = (32, 64, 128)

    def setup(self):
        self.image = Classifier(self.text.width, self.widths, features=256)
        self.scale = self.param("scale", nn.initializers.constant(jnp.log(1 / 0.07)), ())

    def __call__(self, images: Images, tokens: Int[Array, "batch words"]) -> jax.Array:
        """Returns the similarity of each image, a row, with each sentence: cosines times e^scale.

        Radford et al., 2021, figure 3.
        """
        image, text = (
            vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)
            for vectors in (self.image(images)[0], self.text(tokens)[0])
        )
        return jnp.exp(self.scale) * image @ text.T
