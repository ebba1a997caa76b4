"""Layers take a class, a vector or a sentence, and are linear in the vector."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn.models import attn_cgan
from gaxn.nn.attention import WordAttention
from gaxn.nn.conditioning import LabelMap, Projection, append_embedding
from gaxn.types import InputError, SentenceCondition

CLASSES, BATCH, WORDS = 5, 4, 6
RANDOM = np.random.default_rng(0)
LABELS = np.array([3, 0, 4, 3])
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[LABELS]
VECTORS = RANDOM.normal(size=(BATCH, CLASSES)).astype(np.float32)
IMAGES = RANDOM.normal(size=(BATCH, 4, 4, 8)).astype(np.float32)
LENGTHS = np.array([1, 6, 3, 2])
SENTENCES = SentenceCondition(
    VECTORS,
    RANDOM.normal(size=(BATCH, WORDS, 7)).astype(np.float32),
    np.arange(WORDS) < LENGTHS[:, None],
)


class Appended(nn.Module):
    @nn.compact
    def __call__(self, latents, labels):
        return append_embedding(latents, labels, CLASSES, 3)


LAYERS = {
    "append_embedding": (Appended(), (IMAGES[:, 0, 0],), ()),
    "LabelMap": (LabelMap(CLASSES), (IMAGES,), ()),
    "Projection": (Projection(CLASSES), (IMAGES[:, 0, 0],), (False,)),
    "Projection, normalized": (Projection(CLASSES, True), (IMAGES[:, 0, 0],), (False,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_class_is_a_vector_with_a_single_one(name):
    layer, before, after = LAYERS[name]
    variables = layer.init(jax.random.key(0), *before, LABELS, *after)

    def apply(labels):
        return layer.apply(variables, *before, labels, *after)

    np.testing.assert_allclose(apply(ONE_HOT), apply(LABELS), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(apply(SENTENCES), apply(VECTORS))
    # Linear: the change of half a vector is half that of the vector.
    change = [apply(share * VECTORS) - apply(0 * VECTORS) for share in (0.5, 1.0)]
    np.testing.assert_allclose(2 * change[0], change[1], rtol=1e-4, atol=1e-5)
    assert np.abs(change[1]).max() > 0.1


def _word_attention(heads, sentences, images=IMAGES):
    layer = WordAttention(heads)
    params = layer.init(jax.random.key(0), images, sentences, False)["params"]
    params = {**params, "gamma": jnp.float32(0.7)}
    output, updates = layer.apply(
        {"params": params}, images, sentences, False, mutable="intermediates"
    )
    return params, np.asarray(output), np.asarray(updates["intermediates"]["word_weights"][0])


@pytest.mark.parametrize("heads", [1, 2])
def test_word_attention_is_the_equation(heads):
    params, output, weights = _word_attention(heads, SENTENCES)
    layers = sorted(params.keys() - {"gamma"})
    kernels = {
        name: np.asarray(params[layer]["kernel"], np.float64)
        for name, layer in zip(("query", "key", "value", "output"), layers, strict=True)
    }
    rows = IMAGES.reshape(BATCH, 16, 8).astype(np.float64)
    words = SENTENCES.words.astype(np.float64)
    query, key, value = rows @ kernels["query"], words @ kernels["key"], words @ kernels["value"]
    expected = np.zeros((BATCH, 16, 8))
    for example in range(BATCH):
        count, parts = LENGTHS[example], []
        for head in range(heads):
            of_query, of_value = (
                slice(head * size // heads, (head + 1) * size // heads) for size in (4, 8)
            )
            scores = query[example][:, of_query] @ key[example][:count, of_query].T
            softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
            np.testing.assert_allclose(weights[example, head, :, :count], softmax, rtol=1e-4)
            parts.append(softmax @ value[example][:count, of_value])
        expected[example] = 0.7 * np.concatenate(parts, axis=1) @ kernels["output"] + rows[example]
    np.testing.assert_allclose(output.reshape(BATCH, 16, 8), expected, rtol=1e-4, atol=1e-5)


def test_what_fills_up_a_sentence_changes_nothing():
    filled = SENTENCES.words.copy()
    filled[~SENTENCES.mask] = 1e3
    _, output, weights = _word_attention(2, SENTENCES)
    _, same, _ = _word_attention(2, SENTENCES._replace(words=filled))
    np.testing.assert_array_equal(output, same)
    assert not weights[~np.broadcast_to(SENTENCES.mask[:, None, None], weights.shape)].any()


def test_a_generator_normalizes_its_attention_to_words_as_its_attention():
    generator = attn_cgan.Generator(
        *(16, 3, VECTORS.shape[1]),
        widths=(8, 8),
        attention_at=(8,),
        words_at=(8,),
        spectral_attention=True,
    )
    latents = jnp.ones((BATCH, 4))
    variables = generator.init(jax.random.key(0), latents, SENTENCES, False)
    layers = {"attention_8", "words_8"}
    assert variables["spectral"].keys() == layers
    for layer in layers:
        assert len(variables["spectral"][layer]) == 4


def test_heads_must_divide_the_channels():
    with pytest.raises(InputError, match="heads must be a divisor of the 8 channels"):
        _word_attention(3, SENTENCES)
