"""The networks of gaxn/models/transformer_gan.py in PyTorch.

The constructors take the fields of the Flax modules, and the sizes that Flax infers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.race.pytorch.layers import (
    Dense,
    Embed,
    LayerNorm,
    Pass,
    Projection,
    add,
    append_embedding,
    attend,
    leaky_relu,
)


class Generator(nn.Module):
    """Latent [batch, latent_size] and label [batch] -> image in [-1, 1]."""

    def __init__(
        self,
        latent_size: int,
        size: int,
        channels: int,
        classes: int | None,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        ratio: int,
        embedding: int,
        modulated: bool,
    ):
        super().__init__()
        self.side, self.patch, self.width = size // patch, patch, width
        inputs = latent_size + embedding if classes else latent_size
        condition = inputs if modulated else 0
        self.Embed_0 = Embed(classes, embedding) if classes else None
        self.Dense_0 = Dense(inputs, self.side**2 * width, bias=False)
        self.positions = nn.Parameter(0.02 * torch.randn(self.side**2, width))
        self.blocks = [
            add(self, f"block_{index}", Block(width, heads, ratio, condition))
            for index in range(depth)
        ]
        self.last_norm = Norm(self, "last", width, condition)
        self.pixels = Dense(width, patch**2 * channels)

    def forward(self, latents: Tensor, labels: Tensor | None, mode: Pass) -> Tensor:
        condition = append_embedding(latents, self.Embed_0, labels, mode)
        x = self.Dense_0(condition, mode).reshape(len(latents), -1, self.width) + self.positions
        for block in self.blocks:
            x = block(x, condition, mode)
        x = self.pixels(self.last_norm(x, condition, mode), mode)
        return torch.tanh(from_patches(x, self.side, self.patch))


class Discriminator(nn.Module):
    """Image in [-1, 1] and label [batch] -> logit [batch]."""

    def __init__(
        self,
        size: int,
        channels: int,
        classes: int | None,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        ratio: int,
        hidden: int,
    ):
        super().__init__()
        self.patch, tokens = patch, (size // patch) ** 2
        self.patches = Dense(patch**2 * channels, width)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.blocks = [
            add(self, f"block_{index}", Block(width, heads, ratio, 0)) for index in range(depth)
        ]
        self.last_norm = Norm(self, "last", width, 0)
        self.hidden = Dense(tokens * width, hidden)
        self.logit = Dense(hidden, 1)
        self.Projection_0 = Projection(classes, hidden) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None, mode: Pass) -> Tensor:
        x = self.patches(to_patches(images, self.patch), mode) + self.positions
        for block in self.blocks:
            x = block(x, None, mode)
        x = self.last_norm(x, None, mode).flatten(1)
        features = leaky_relu(self.hidden(x, mode), mode)
        logits = self.logit(features, mode)[:, 0]
        if self.Projection_0 is not None:
            logits = logits + self.Projection_0(features, labels, mode)
        return logits


class Block(nn.Module):
    """A pre-norm block: x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, width: int, heads: int, ratio: int, condition: int):
        super().__init__()
        self.norm_before = Norm(self, "before", width, condition)
        self.attention = MultiHeadSelfAttention(width, heads)
        self.norm_between = Norm(self, "between", width, condition)
        self.hidden = Dense(width, ratio * width)
        self.output = Dense(ratio * width, width)

    def forward(self, x: Tensor, condition: Tensor | None, mode: Pass) -> Tensor:
        x = x + self.attention(self.norm_before(x, condition, mode), mode)
        y = self.hidden(self.norm_between(x, condition, mode), mode)
        return x + self.output(F.gelu(y, approximate="tanh"), mode)


class MultiHeadSelfAttention(nn.Module):
    """Multi-head attention, o(concat_h softmax(q_h k_h^T / sqrt(width / heads)) v_h)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.scale = heads, (width / heads) ** -0.5
        self.query, self.key = Dense(width, width), Dense(width, width)
        self.value, self.output = Dense(width, width), Dense(width, width)

    def forward(self, x: Tensor, mode: Pass) -> Tensor:
        query, key, value = (
            layer(x, mode).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attended = attend(query, key, value, mode, self.scale).transpose(1, 2)
        return self.output(attended.reshape(x.shape), mode)


class Norm:
    """Layer normalization; gain and bias are linear in the condition, if there is one.

    Adds its layers to a network, as the function `norm` of gaxn does: NAME, NAME_gain, NAME_bias.
    """

    def __init__(self, network: nn.Module, name: str, width: int, condition: int):
        self.norm = add(network, name, LayerNorm(width, affine=not condition))
        self.gain, self.bias = (
            add(network, f"{name}_{part}", Dense(condition, width)) if condition else None
            for part in ("gain", "bias")
        )

    def __call__(self, x: Tensor, condition: Tensor | None, mode: Pass) -> Tensor:
        x = self.norm(x)
        if self.gain is None:
            return x
        gain, bias = 1 + self.gain(condition, mode), self.bias(condition, mode)
        return torch.addcmul(bias[:, None], x, gain[:, None])


def to_patches(images: Tensor, patch: int) -> Tensor:
    """Splits [batch, channels, height, width] into [batch, patches, patch * patch * channels]."""
    batch, channels, height, width = images.shape
    x = images.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def from_patches(x: Tensor, side: int, patch: int) -> Tensor:
    """Inverts `to_patches` for a square image of `side` patches per side."""
    batch = len(x)
    x = x.reshape(batch, side, side, patch, patch, -1).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(batch, -1, side * patch, side * patch)
