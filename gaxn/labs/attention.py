"""Self-attention over words: what it is before it has learnt anything, and what after.

The layer is that of the Transformer GAN, `gaxn.nn.transformer.MultiHeadSelfAttention`.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from gaxn import grammar, keys, pictures
from gaxn.grammar import PADDING, Sentences
from gaxn.nn.transformer import MultiHeadSelfAttention, Tokens, sinusoids
from gaxn.pictures import HeatMap, Picture
from gaxn.types import InputError, PRNGKey, PyTree, Report, require

Words = Int[Array, "batch tokens"]
Weights = Float[np.ndarray, "*batch heads queries keys"]
Sizes = tuple[int, int]

LONGEST, MOST_HEADS = 40, 16
"""Tokens and heads that a picture holds."""


class Reader(nn.Module):
    """Words -> what each gathers from all: an embedding, a position, self-attention.

    Attributes:
        vocabulary: how many words there are, padding included.
        width: features of a word.
        heads: attention heads.
        positions: whether sinusoids are added to the embeddings.
        scale: standard deviation of the embeddings' entries at first.
    """

    vocabulary: int
    width: int
    heads: int
    positions: bool
    scale: float

    def setup(self):
        drawn = nn.initializers.normal(self.scale)
        self.embedding = nn.Embed(self.vocabulary, self.width, embedding_init=drawn)
        self.attention = MultiHeadSelfAttention(self.heads)

    def embed(self, words: Words) -> Tokens:
        """What the layer reads, float [batch, tokens, width]."""
        x = self.embedding(words)
        return x + sinusoids(words.shape[-1], self.width) if self.positions else x

    def __call__(self, words: Words) -> Tokens:
        """Returns float [batch, tokens, width]. Padding gets no attention."""
        return self.attention(self.embed(words), words != PADDING)


class Inflection(nn.Module):
    """A sentence and the place of its verb -> a logit for each of `grammar.ANSWERS`.

    They are a linear reading of what the verb has gathered, so that nothing but attention
    can bring the verb and its subject together.
    """

    reader: Reader

    @nn.compact
    def __call__(self, words: Words, verb: Int[Array, "batch"]) -> Float[Array, "batch answers"]:
        gathered = self.reader(words)
        at_verb = jnp.take_along_axis(gathered, verb[:, None, None], axis=1)[:, 0]
        return nn.Dense(len(grammar.ANSWERS), name="answers")(at_verb)


class View(NamedTuple):
    """What one layer does with a batch of words.

    Attributes:
        given: what goes into the layer, [batch, tokens, width].
        gathered: what comes out, of the same shape.
        weights: row = query, column = key.
    """

    given: Tokens
    gathered: Tokens
    weights: Weights


class Exam(NamedTuple):
    """How well sentences are answered, and where their verbs look.

    Attributes:
        accuracy: share of right answers.
        on_subject: the weight that a verb puts on its subject, a head; nonsense aside.
        weights: of every sentence.
    """

    accuracy: float
    on_subject: Float[np.ndarray, "heads"]
    weights: Weights


@dataclasses.dataclass(frozen=True)
class Lab:
    """A sentence under a fresh layer; a sweep; and a layer before and after it learnt a task.

    Attributes:
        seed: of all that is drawn.
        sentence: words, parted by spaces.
        tokens: how long the sentence is with its padding.
        width: features of a word.
        heads: attention heads.
        positions: whether sinusoids are added to the embeddings.
        scale: standard deviation of the embeddings' entries.
        sweep_widths, sweep_heads: each of the one is tried with each of the other.
        task_heads: attention heads of the layer that learns.
        task_scale: standard deviation of its embeddings' entries at first.
        task_steps: training steps.
        task_batch: sentences a step.
        task_learning_rate: of Adam.
        task_examples: sentences to test on; where training meets them, they teach nothing.
    """

    seed: int
    sentence: str
    tokens: int
    width: int
    heads: int
    positions: bool
    scale: float
    sweep_widths: tuple[int, ...]
    sweep_heads: tuple[int, ...]
    task_heads: int
    task_scale: float
    task_steps: int
    task_batch: int
    task_learning_rate: float
    task_examples: int

    def __post_init__(self):
        require("seed", self.seed, 0 <= self.seed < 2**32, "0 to 2^32 - 1")
        require("tokens", self.tokens, 1 <= self.tokens <= LONGEST, f"1 to {LONGEST}")
        for field in ("width", "task_steps", "task_batch"):
            value = getattr(self, field)
            require(field, value, value >= 1, "1 or more")
        require("task_examples", self.task_examples, self.task_examples >= 20, "20 or more")
        words = len(self.sentence.split())
        valid = f"1 to {self.tokens} words, as many as tokens"
        require("sentence", self.sentence, 1 <= words <= self.tokens, valid)
        for field in ("heads", "task_heads"):
            value = getattr(self, field)
            valid = f"1 to {MOST_HEADS}, a divisor of the width, {self.width}"
            require(field, value, 1 <= value <= MOST_HEADS and not self.width % value, valid)
        for field in ("scale", "task_scale", "task_learning_rate"):
            value = getattr(self, field)
            require(field, value, 0 < value < math.inf, "a number above 0")
        for field in ("sweep_widths", "sweep_heads"):
            value = getattr(self, field)
            require(field, value, bool(value) and min(value) >= 1, "one or more, each 1 or more")
        for width in self.sweep_widths:
            divide = not any(width % heads for heads in self.sweep_heads)
            require("sweep_heads", self.sweep_heads, divide, f"divisors of the width {width}")

    def __call__(self) -> Report:
        """All that is to be seen and measured: about 20 seconds of one core."""
        key = jax.random.key(self.seed)
        words = self.sentence.split()
        batch = encode((words, words[::-1]), self.tokens)
        view = self._look(batch, self.width, self.heads, keys.stream(key, "layer"))
        sweep = {
            (width, heads): self._look(batch, width, heads, keys.stream(key, f"{width}x{heads}"))
            for width in self.sweep_widths
            for heads in self.sweep_heads
        }
        spreads = {sizes: spread(found, len(words)) for sizes, found in sweep.items()}
        task = self._task(keys.stream(key, "task"))
        protocol = {
            "layer": f"{MultiHeadSelfAttention.__module__}.{MultiHeadSelfAttention.__name__}",
            "batch": [" ".join(words), " ".join(words[::-1])],
            "spread": "of the sentence's weights in the untrained layer, over all heads; entropy "
            "is the mean of the rows, in nats, and as a share of log(words)",
            **task.protocol,
            "seed": self.seed,
        }
        tables = {
            "input_shape": view.given.shape,
            "output_shape": view.gathered.shape,
            "layer": spread(view, len(words)),
            "sweep": [
                {"width": width, "heads": heads, **spreads[width, heads]} for width, heads in sweep
            ],
            **task.tables,
        }
        shown = {
            "heads": _heads_picture(words, view),
            "sweep": _sweep_picture(words, sweep, spreads, len(self.sweep_heads)),
            **task.pictures,
        }
        return Report(protocol, task.figures, tables, shown)

    def _look(self, batch: Words, width: int, heads: int, key: PRNGKey) -> View:
        reader = Reader(int(batch.max()) + 1, width, heads, self.positions, self.scale)
        return look(reader, batch, key)

    def _task(self, key: PRNGKey) -> Report:
        """The task before training, after it, and after training with uniform attention."""
        reader = Reader(
            len(grammar.WORDS), self.width, self.task_heads, self.positions, self.task_scale
        )
        network = Inflection(reader)
        test = grammar.draw(keys.stream(key, "test"), jnp.arange(self.task_examples))
        count = self.task_steps * self.task_batch
        lessons = jnp.arange(count).reshape(self.task_steps, self.task_batch)
        train = grammar.draw(keys.stream(key, "train"), lessons)
        fresh = ~np.isin(_codes(train.words), _codes(test.words))
        initialise = jax.jit(network.init)
        params = initialise(keys.stream(key, "parameters"), test.words, test.verb)["params"]
        (learnt, losses), (blind, blind_losses) = (
            learn(network, params, train, fresh, self.task_learning_rate, gate)
            for gate in (1.0, 0.0)
        )
        exams = {
            "before": examine(network, params, test),
            "after": examine(network, learnt, test),
            "uniform": examine(network, blind, test),
        }
        history = [
            {"step": step, "trained": float(loss), "trained, attention held uniform": float(flat)}
            for step, (loss, flat) in enumerate(zip(losses, blind_losses, strict=True), 1)
        ]
        panels = {"loss of the task, in nats": tuple(history[0])[1:]}
        return Report(
            protocol={
                "task": f"from what the verb gathered: {', '.join(grammar.ANSWERS)}?",
                "optimizer": f"Adam, {self.task_learning_rate}, falling to 0 as a cosine",
                "steps": self.task_steps,
                "task_batch": self.task_batch,
                "test_sentences": len(test.answer),
                "training_sentences_that_are_tested_and_teach_nothing": int((~fresh).sum()),
                "on_subject": "the weight that a verb puts on its subject, mean over heads and "
                "the sentences that are not nonsense",
                "uniform": "trained as well, but with attention held uniform",
            },
            figures={
                **{f"accuracy/{when}": exam.accuracy for when, exam in exams.items()},
                **{
                    f"on_subject/{when}": float(np.mean(exam.on_subject))
                    for when, exam in exams.items()
                },
            },
            tables={
                "on_subject_by_head": {
                    when: exam.on_subject.tolist() for when, exam in exams.items()
                }
            },
            pictures={
                "trained": _trained_picture(test, exams["before"], exams["after"]),
                "curves": pictures.curves(history, panels),
            },
        )


def encode(sentences: Sequence[Sequence[str]], tokens: int) -> Words:
    """Words as indices, from 1 in the order of their first appearance; padded to `tokens`."""
    vocabulary = dict.fromkeys(word for words in sentences for word in words)
    index = {word: place for place, word in enumerate(vocabulary, 1)}
    rows = [[index[word] for word in words] for words in sentences]
    return jnp.asarray([row + [PADDING] * (tokens - len(row)) for row in rows])


def look(reader: Reader, words: Words, key: PRNGKey) -> View:
    """What a layer that was only just initialised does with words."""

    @jax.jit
    def program(key: PRNGKey) -> View:
        variables = reader.init(key, words)
        gathered, sown = reader.apply(variables, words, mutable=["intermediates"])
        (weights,) = sown["intermediates"]["attention"]["weights"]
        return View(reader.apply(variables, words, method="embed"), gathered, weights)

    return jax.device_get(program(key))


def spread(view: View, words: int) -> dict[str, float]:
    """Range and entropy of the weights among the first sentence's words.

    Entropy is -sum(w log w), in nats, the mean over rows and heads; `entropy_share` is that of
    its largest value, log(words): 1 is uniform attention, as it is over a single word.
    """
    weights = view.weights[0, :, :words, :words].astype(np.float64)
    entropy = -(weights * np.log(np.maximum(weights, 1e-30))).sum(axis=-1).mean()
    return {
        "lowest": float(weights.min()),
        "highest": float(weights.max()),
        "entropy": float(entropy),
        "entropy_share": float(entropy / np.log(words)) if words > 1 else 1.0,
    }


def gated(params: PyTree, gate: float | jax.Array) -> PyTree:
    """The parameters, the queries' multiplied by `gate`: under 0 all attention is uniform."""
    attention = params["reader"]["attention"]
    query = jax.tree.map(lambda leaf: gate * leaf, attention["query"])
    reader = {**params["reader"], "attention": {**attention, "query": query}}
    return {**params, "reader": reader}


def learn(
    network: Inflection,
    params: PyTree,
    lessons: Sentences,
    counts: Bool[np.ndarray, "steps batch"],
    rate: float,
    gate: float = 1.0,
) -> tuple[PyTree, Float[np.ndarray, "steps"]]:
    """Adam on the cross-entropy, its rate falling to 0 as a cosine.

    Args:
        network: what learns.
        params: where it starts.
        lessons: the sentences, [steps, batch].
        counts: false for a sentence that teaches nothing.
        rate: the learning rate at first.
        gate: see `gated`; it stays what it is.

    Returns: gated parameters at the end, and the loss of every step, in nats.

    Raises:
        InputError: a loss is not finite.
    """
    learnt, losses = jax.device_get(_learn(network, params, lessons, counts, rate, gate))
    for index in np.flatnonzero(~np.isfinite(losses))[:1]:
        raise InputError(
            f"the loss is {losses[index]} at step {index + 1}; "
            f"a task_learning_rate below {rate} may help"
        )
    return learnt, losses


@functools.partial(jax.jit, static_argnums=0)
def _learn(network, params, lessons, counts, rate, gate):
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, len(counts)))

    def loss_of(params, lesson, count):
        logits = network.apply({"params": gated(params, gate)}, lesson.words, lesson.verb)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, lesson.answer)
        return (losses * count).sum() / jnp.maximum(count.sum(), 1)

    def step(carry, inputs):
        params, opt_state = carry
        loss, gradient = jax.value_and_grad(loss_of)(params, *inputs)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    start = params, optimizer.init(params)
    (params, _), losses = jax.lax.scan(step, start, (lessons, counts))
    return gated(params, gate), losses


def examine(network: Inflection, params: PyTree, sentences: Sentences) -> Exam:
    """How a network does on sentences."""
    accuracy, on_subject, weights = jax.device_get(_examine(network, params, sentences))
    return Exam(float(accuracy), on_subject, weights)


@functools.partial(jax.jit, static_argnums=0)
def _examine(network, params, sentences):
    inputs = {"params": params}, sentences.words, sentences.verb
    logits, sown = network.apply(*inputs, mutable=["intermediates"])
    (weights,) = sown["intermediates"]["reader"]["attention"]["weights"]
    index = jnp.arange(len(sentences.verb))
    on_subject = weights[index, :, sentences.verb, sentences.subject]
    makes_sense = sentences.answer != grammar.ANSWERS.index("nonsense")
    return (
        (logits.argmax(axis=-1) == sentences.answer).mean(),
        on_subject.mean(axis=0, where=makes_sense[:, None]),
        weights,
    )


def _codes(words: Int[Array, "... tokens"]) -> np.ndarray:
    """A number a sentence, another for another sentence."""
    powers = len(grammar.WORDS) ** np.arange(words.shape[-1], dtype=np.int64)
    return np.asarray(words, np.int64) @ powers


def _heads_picture(words: Sequence[str], view: View) -> Picture:
    """A row a sentence of the batch, a column a head; padding among the keys only."""
    blank = ["·"] * (view.given.shape[1] - len(words))
    maps = [
        [
            HeatMap(weights[: len(words)], read, [*read, *blank], f"head {head}")
            for head, weights in enumerate(heads, 1)
        ]
        for read, heads in zip((words, words[::-1]), view.weights, strict=True)
    ]
    title = "an untrained layer reads a sentence, and the same words backwards; · is padding"
    return pictures.heat_maps(maps, title)


def _sweep_picture(
    words: Sequence[str],
    views: Mapping[Sizes, View],
    spreads: Mapping[Sizes, Mapping[str, float]],
    columns: int,
) -> Picture:
    """A row a width, a column a number of heads."""
    maps = []
    for (width, heads), view in views.items():
        found = spreads[width, heads]
        title = (
            f"width {width}, heads {heads}\n"
            f"range {found['lowest']:.3f} to {found['highest']:.3f}\n"
            f"entropy {found['entropy']:.3f} nats, {found['entropy_share']:.0%} of log {len(words)}"
        )
        weights = view.weights[0, 0, : len(words), : len(words)]
        maps.append(HeatMap(weights, words, words, title))
    rows = [maps[start : start + columns] for start in range(0, len(maps), columns)]
    return pictures.heat_maps(
        rows, "the first head of untrained layers; range and entropy are those of all heads"
    )


def _trained_picture(test: Sentences, before: Exam, after: Exam) -> Picture:
    """A row an answer; every head before, then every head after. Subjects are framed."""
    rows = []
    for answer, name in enumerate(grammar.ANSWERS):
        (candidates,) = np.nonzero(test.answer == answer)
        if not len(candidates):
            continue
        # Long sentences, and the subject of each in another phrase.
        away = np.abs(test.subject[candidates] - (1 + 3 * answer))
        index = candidates[np.lexsort((away, -test.verb[candidates]))[0]]
        verb = int(test.verb[index])
        words = [grammar.WORDS[word] for word in test.words[index, : verb + 1]]
        subject = None if name == "nonsense" else int(test.subject[index])
        row = []
        for when, exam in (("before", before), ("after", after)):
            for head, weights in enumerate(exam.weights[index, :, : verb + 1, : verb + 1], 1):
                title = f"{when} training, head {head}: "
                if subject is None:
                    title += f"nothing here can {words[verb]}"
                    frame = None
                else:
                    title += f"{weights[verb, subject]:.2f} of {words[verb]} on {words[subject]}"
                    frame = verb, subject
                row.append(HeatMap(weights, words, words, title, frame))
        rows.append(row)
    title = "the verb, in the last row, looks for its subject, framed; no other row is read"
    return pictures.heat_maps(rows, title)
