"""The attention lab: self-attention over words, before and after training, in pictures."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from gaxn import keys
from gaxn.io import plots
from gaxn.io.plots import HeatMap, Picture
from gaxn.labs import grammar, reader
from gaxn.labs.grammar import Sentences
from gaxn.labs.reader import Evaluation, LayerOutput, Reader, Words
from gaxn.nn.transformer import MultiHeadSelfAttention
from gaxn.types import Measurement, PRNGKey, check

MAX_TOKENS, MAX_HEADS = 40, 16
"""The most tokens and heads for which the pictures are legible."""

Sizes = tuple[int, int]
"""A width and a number of heads."""


@dataclasses.dataclass(frozen=True)
class Lab:
    """A sentence in an untrained layer, a sweep over sizes, and a layer that is trained on a task.

    Attributes:
        seed: seed of all random numbers, 0 to 2^32 - 1.
        sentence: words, separated by spaces.
        tokens: length of the padded sentence.
        width: features of a word.
        heads: attention heads.
        positions: whether sinusoids are added to the embeddings.
        scale: standard deviation of the entries of the embeddings.
        sweep_widths: widths of the layers of the sweep, one layer for each combination with
            sweep_heads.
        sweep_heads: numbers of attention heads of the layers of the sweep.
        task_heads: attention heads of the layer that is trained.
        task_scale: initial standard deviation of the entries of that layer's embeddings.
        task_steps: training steps of that layer.
        task_batch: sentences per step.
        task_learning_rate: learning rate of Adam.
        task_examples: test sentences; they are left out of the training loss.
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
        check("seed", self.seed, 0 <= self.seed < 2**32, "from 0 to 2^32 - 1")
        check("tokens", self.tokens, 1 <= self.tokens <= MAX_TOKENS, f"from 1 to {MAX_TOKENS}")
        for name in ("width", "task_steps", "task_batch"):
            value = getattr(self, name)
            check(name, value, value >= 1, "1 or more")
        check("task_examples", self.task_examples, self.task_examples >= 20, "20 or more")
        words = len(self.sentence.split())
        expected = f"of 1 to {self.tokens} words, the number of tokens"
        check("sentence", self.sentence, 1 <= words <= self.tokens, expected)
        for name in ("heads", "task_heads"):
            value = getattr(self, name)
            valid = 1 <= value <= MAX_HEADS and self.width % value == 0
            expected = f"from 1 to {MAX_HEADS} and a divisor of the width, {self.width}"
            check(name, value, valid, expected)
        for name in ("scale", "task_scale", "task_learning_rate"):
            value = getattr(self, name)
            check(name, value, 0 < value < math.inf, "above 0 and finite")
        for name in ("sweep_widths", "sweep_heads"):
            value = getattr(self, name)
            check(name, value, bool(value) and min(value) >= 1, "one or more numbers, all above 0")
        for width in self.sweep_widths:
            valid = not any(width % heads for heads in self.sweep_heads)
            check("sweep_heads", self.sweep_heads, valid, f"divisors of the width {width}")

    def __call__(self) -> Measurement:
        """Computes everything: about 20 seconds on one core."""
        key = jax.random.key(self.seed)
        words = self.sentence.split()
        batch = reader.encode((words, words[::-1]), self.tokens)
        layer = self._run_untrained(batch, self.width, self.heads, keys.stream(key, "layer"))
        sweep = {
            (width, heads): self._run_untrained(
                batch, width, heads, keys.stream(key, f"{width}x{heads}")
            )
            for width in self.sweep_widths
            for heads in self.sweep_heads
        }
        statistics = {
            sizes: reader.weight_statistics(output.weights, len(words))
            for sizes, output in sweep.items()
        }
        task = self._run_task(keys.stream(key, "task"))
        protocol = {
            "layer": f"{MultiHeadSelfAttention.__module__}.{MultiHeadSelfAttention.__name__}",
            "batch": [" ".join(words), " ".join(words[::-1])],
            "spread": "of the sentence's weights in the untrained layer, over all heads; entropy "
            "is the mean of the rows, in nats, and as a share of log(words)",
            **task.protocol,
            "seed": self.seed,
        }
        tables = {
            "input_shape": layer.inputs.shape,
            "output_shape": layer.outputs.shape,
            "layer": reader.weight_statistics(layer.weights, len(words)),
            "sweep": [
                {"width": width, "heads": heads, **row}
                for (width, heads), row in statistics.items()
            ],
            **task.tables,
        }
        pictures = {
            "heads": partial(_draw_heads, words, layer),
            "sweep": partial(_draw_sweep, words, sweep, statistics, len(self.sweep_heads)),
            **task.pictures,
        }
        return Measurement(protocol, task.figures, tables, pictures)

    def _run_untrained(self, batch: Words, width: int, heads: int, key: PRNGKey) -> LayerOutput:
        network = Reader(int(batch.max()) + 1, width, heads, self.positions, self.scale)
        return reader.run_untrained(network, batch, key)

    def _run_task(self, key: PRNGKey) -> Measurement:
        """Evaluates the task before training, after it, and after it with uniform attention."""
        sizes = len(grammar.WORDS), self.width, self.task_heads
        network = reader.Inflection(Reader(*sizes, self.positions, self.task_scale))
        test = grammar.draw(keys.stream(key, "test"), jnp.arange(self.task_examples))
        count = self.task_steps * self.task_batch
        indices = jnp.arange(count).reshape(self.task_steps, self.task_batch)
        training = grammar.draw(keys.stream(key, "train"), indices)
        not_in_test = ~np.isin(_sentence_ids(training.words), _sentence_ids(test.words))
        init_key = keys.stream(key, "parameters")
        params = jax.jit(network.init)(init_key, test.words, test.verb)["params"]
        (trained, losses), (uniform, uniform_losses) = (
            reader.train(network, params, training, not_in_test, self.task_learning_rate, scale)
            for scale in (1.0, 0.0)
        )
        evaluations = {
            when: jax.device_get(reader.evaluate(network, variables, test))
            for when, variables in (("before", params), ("after", trained), ("uniform", uniform))
        }
        history = [
            {"step": step, "trained": float(loss), "trained, uniform attention": float(flat)}
            for step, (loss, flat) in enumerate(zip(losses, uniform_losses, strict=True), 1)
        ]
        panels = {"loss of the task, in nats": tuple(history[0])[1:]}
        return Measurement(
            protocol={
                "task": f"from the features of the verb: {', '.join(grammar.ANSWERS)}?",
                "optimizer": f"Adam, {self.task_learning_rate}, falling to 0 as a cosine",
                "steps": self.task_steps,
                "task_batch": self.task_batch,
                "test_sentences": len(test.answer),
                "training_sentences_that_are_tested_and_teach_nothing": int((~not_in_test).sum()),
                "on_subject": "the weight from a verb to its subject, mean over heads and the "
                "sentences that are not nonsense",
                "uniform": "trained in the same way, but with uniform attention",
            },
            figures={
                f"{name}/{when}": float(np.mean(getattr(each, name)))
                for name in ("accuracy", "on_subject")
                for when, each in evaluations.items()
            },
            tables={
                "on_subject_by_head": {
                    when: each.on_subject.tolist() for when, each in evaluations.items()
                }
            },
            pictures={
                "trained": partial(
                    _draw_trained, test, evaluations["before"], evaluations["after"]
                ),
                "curves": partial(plots.curves, history, panels),
            },
        )


def _sentence_ids(words: Int[Array, "... tokens"]) -> Int[np.ndarray, "..."]:
    """Returns a number for each sentence, equal only for equal sentences."""
    powers = len(grammar.WORDS) ** np.arange(words.shape[-1], dtype=np.int64)
    return np.asarray(words, np.int64) @ powers


def _draw_heads(words: Sequence[str], layer: LayerOutput) -> Picture:
    """Draws a row per sentence of the batch, a column per head; padding only among the keys."""
    padding = ["·"] * (layer.inputs.shape[1] - len(words))
    maps = [
        [
            HeatMap(weights[: len(words)], sentence, [*sentence, *padding], f"head {head}")
            for head, weights in enumerate(heads, 1)
        ]
        for sentence, heads in zip((words, words[::-1]), layer.weights, strict=True)
    ]
    title = "an untrained layer reads a sentence, and the same words backwards; · is padding"
    return plots.heat_maps(maps, title)


def _draw_sweep(
    words: Sequence[str],
    layers: Mapping[Sizes, LayerOutput],
    statistics: Mapping[Sizes, Mapping[str, float]],
    columns: int,
) -> Picture:
    """Draws a row per width, a column per number of heads."""
    maps = []
    for (width, heads), layer in layers.items():
        row = statistics[width, heads]
        title = (
            f"width {width}, heads {heads}\n"
            f"range {row['lowest']:.3f} to {row['highest']:.3f}\n"
            f"entropy {row['entropy']:.3f} nats, {row['entropy_share']:.0%} of log {len(words)}"
        )
        weights = layer.weights[0, 0, : len(words), : len(words)]
        maps.append(HeatMap(weights, words, words, title))
    rows = [maps[start : start + columns] for start in range(0, len(maps), columns)]
    return plots.heat_maps(
        rows, "the first head of untrained layers; range and entropy are those of all heads"
    )


def _draw_trained(test: Sentences, before: Evaluation, after: Evaluation) -> Picture:
    """Draws a row per answer: every head before training, then after. Subjects are framed."""
    rows = []
    for answer, name in enumerate(grammar.ANSWERS):
        (candidates,) = np.nonzero(test.answer == answer)
        if not len(candidates):
            continue
        # Long sentences, each with its subject in another phrase.
        distance = np.abs(test.subject[candidates] - (1 + 3 * answer))
        index = candidates[np.lexsort((distance, -test.verb[candidates]))[0]]
        verb, subject = int(test.verb[index]), int(test.subject[index])
        words = [grammar.WORDS[word] for word in test.words[index, : verb + 1]]
        nonsense = name == "nonsense"
        row = []
        for when, evaluation in (("before", before), ("after", after)):
            all_weights = evaluation.weights[index, :, : verb + 1, : verb + 1]
            for head, weights in enumerate(all_weights, 1):
                title = f"{when} training, head {head}: "
                if nonsense:
                    title += f"nothing here can {words[verb]}"
                else:
                    title += f"{weights[verb, subject]:.2f} of {words[verb]} on {words[subject]}"
                frame = None if nonsense else (verb, subject)
                row.append(HeatMap(weights, words, words, title, frame))
        rows.append(row)
    title = "the verb, in the last row, attends to its subject, framed; no other row is used"
    return plots.heat_maps(rows, title)
