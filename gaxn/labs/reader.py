"""A layer of self-attention over words, as it is initialized and trained to inflect verbs.

The layer is that of the Transformer GAN, `gaxn.nn.transformer.MultiHeadSelfAttention`.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from gaxn.labs import grammar
from gaxn.labs.grammar import PADDING, Sentences
from gaxn.nn.transformer import MultiHeadSelfAttention, Tokens, sinusoids
from gaxn.types import InputError, PRNGKey, PyTree

Words = Int[Array, "batch tokens"]
Weights = Float[Array | np.ndarray, "batch heads queries keys"]


class Reader(nn.Module):
    """Word indices -> contextual features: embedding, position, self-attention.

    Attributes:
        vocabulary: number of words, padding included.
        width: features of a word.
        heads: attention heads.
        positions: whether sinusoids are added to the embeddings.
        scale: initial standard deviation of the entries of the embeddings.
    """

    vocabulary: int
    width: int
    heads: int
    positions: bool
    scale: float

    def setup(self):
        embedding_init = nn.initializers.normal(self.scale)
        self.embedding = nn.Embed(self.vocabulary, self.width, embedding_init=embedding_init)
        self.attention = MultiHeadSelfAttention(self.heads)

    def embed(self, words: Words) -> Tokens:
        """Returns the input of the attention layer, float [batch, tokens, width]."""
        x = self.embedding(words)
        return x + sinusoids(words.shape[-1], self.width) if self.positions else x

    def __call__(self, words: Words) -> Tokens:
        """Returns float [batch, tokens, width]. Padding gets no attention."""
        return self.attention(self.embed(words), words != PADDING)


class Inflection(nn.Module):
    """(A sentence, the index of its verb) -> a logit for each of `grammar.ANSWERS`.

    The logits are linear in the reader's features of the verb: only attention can relate the verb
    to its subject.
    """

    reader: Reader

    @nn.compact
    def __call__(self, words: Words, verb: Int[Array, " batch"]) -> Float[Array, "batch answers"]:
        features = self.reader(words)
        of_verb = jnp.take_along_axis(features, verb[:, None, None], axis=1)[:, 0]
        return nn.Dense(len(grammar.ANSWERS), name="answers")(of_verb)


class LayerOutput(NamedTuple):
    """The attention layer on a batch of words: [batch, tokens, width] in and out, and weights."""

    inputs: Tokens
    outputs: Tokens
    weights: Weights


class Evaluation(NamedTuple):
    """The answers and attention weights of a network on sentences.

    Attributes:
        accuracy: share of correct answers.
        on_subject: mean weight of each head from the verb to its subject, without nonsense.
        weights: of every sentence.
    """

    accuracy: Float[Array, ""]
    on_subject: Float[Array, " heads"]
    weights: Weights


def encode(sentences: Sequence[Sequence[str]], tokens: int) -> Words:
    """Returns words as indices, from 1 in the order of first appearance, padded to `tokens`."""
    vocabulary = dict.fromkeys(word for words in sentences for word in words)
    index = {word: number for number, word in enumerate(vocabulary, 1)}
    rows = [[index[word] for word in words] for words in sentences]
    return jnp.asarray([row + [PADDING] * (tokens - len(row)) for row in rows])


def run_untrained(reader: Reader, words: Words, key: PRNGKey) -> LayerOutput:
    """Initializes a reader and returns what its attention layer computes."""

    @jax.jit
    def run(key: PRNGKey) -> LayerOutput:
        variables = reader.init(key, words)
        outputs, sown = reader.apply(variables, words, mutable=["intermediates"])
        (weights,) = sown["intermediates"]["attention"]["weights"]
        return LayerOutput(reader.apply(variables, words, method="embed"), outputs, weights)

    return jax.device_get(run(key))


def weight_statistics(weights: Weights, words: int) -> dict[str, float]:
    """Returns range and entropy of the weights between the words of the first sentence.

    The entropy, -sum(w log w) in nats, is the mean over rows and heads. `entropy_share` is its
    share of the maximum, log(words); 1 is uniform attention, as it always is for a single word.

    Args:
        weights: [batch, heads, queries, keys].
        words: of the sentence, without padding.
    """
    weights = weights[0, :, :words, :words].astype(np.float64)
    entropy = -(weights * np.log(np.maximum(weights, 1e-30))).sum(axis=-1).mean()
    return {
        "lowest": float(weights.min()),
        "highest": float(weights.max()),
        "entropy": float(entropy),
        "entropy_share": float(entropy / np.log(words)) if words > 1 else 1.0,
    }


def train(
    network: Inflection,
    params: PyTree,
    sentences: Sentences,
    mask: Bool[np.ndarray, "steps batch"],
    learning_rate: float,
    query_scale: float = 1.0,
) -> tuple[PyTree, Float[np.ndarray, " steps"]]:
    """Trains a network by Adam on the cross-entropy; the learning rate falls to 0 as a cosine.

    Args:
        network: to train.
        params: initial parameters.
        sentences: of every step, [steps, batch].
        mask: false for sentences that are left out of the loss.
        learning_rate: the initial one.
        query_scale: constant factor of the queries; with 0 all attention is uniform.

    Returns:
        The final parameters, with scaled queries; and the loss of each step, in nats.

    Raises:
        InputError: a loss is not finite.
    """
    inputs = params, sentences, mask, learning_rate, query_scale
    trained, losses = jax.device_get(_train(network, *inputs))
    for index in np.flatnonzero(~np.isfinite(losses))[:1]:
        raise InputError(
            f"the loss must stay finite, got {losses[index]} at step {index + 1}; "
            f"a task_learning_rate below {learning_rate} may help"
        )
    return trained, losses


@functools.partial(jax.jit, static_argnums=0)
def _train(network, params, sentences, mask, learning_rate, query_scale):
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, len(mask)))

    def loss_fn(params, batch, in_loss):
        params = _scale_queries(params, query_scale)
        logits = network.apply({"params": params}, batch.words, batch.verb)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.answer)
        return (losses * in_loss).sum() / jnp.maximum(in_loss.sum(), 1)

    def step(carry, inputs):
        params, opt_state = carry
        loss, gradient = jax.value_and_grad(loss_fn)(params, *inputs)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    start = params, optimizer.init(params)
    (params, _), losses = jax.lax.scan(step, start, (sentences, mask))
    return _scale_queries(params, query_scale), losses


def _scale_queries(params: PyTree, factor: float | jax.Array) -> PyTree:
    """Returns the parameters of an `Inflection` with the queries multiplied by a factor."""
    return flax.traverse_util.path_aware_map(
        lambda path, leaf: factor * leaf if "query" in path else leaf, params
    )


@functools.partial(jax.jit, static_argnums=0)
def evaluate(network: Inflection, params: PyTree, sentences: Sentences) -> Evaluation:
    """Evaluates a network on sentences, [batch]."""
    inputs = {"params": params}, sentences.words, sentences.verb
    logits, sown = network.apply(*inputs, mutable=["intermediates"])
    (weights,) = sown["intermediates"]["reader"]["attention"]["weights"]
    index = jnp.arange(len(sentences.verb))
    on_subject = weights[index, :, sentences.verb, sentences.subject]
    makes_sense = sentences.answer != grammar.ANSWERS.index("nonsense")
    return Evaluation(
        accuracy=(logits.argmax(axis=-1) == sentences.answer).mean(),
        on_subject=on_subject.mean(axis=0, where=makes_sense[:, None]),
        weights=weights,
    )
