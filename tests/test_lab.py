"""The attention lab: its grammar, its measurements, what it learns, and its runs."""

import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from gaxn import grammar
from gaxn.labs.attention import (
    Inflection,
    Reader,
    View,
    encode,
    examine,
    learn,
    look,
    spread,
)
from gaxn.main import main
from gaxn.types import InputError

CONFIG = Path(__file__).parents[1] / "configs" / "attention_lab.py"
WORDS = ["le", "chat", "est", "sur", "le", "tapis"]


@pytest.fixture(scope="module")
def sentences():
    return jax.device_get(grammar.draw(jax.random.key(0), jnp.arange(4_000)))


def _parsed(words):
    """The nouns of a sentence in order, each with whether it has a preposition; and the verb."""
    text = [grammar.WORDS[word] for word in words]
    text = text[: text.index("")]
    phrases = []
    rest = iter(text[:-1])
    for word in rest:
        distractor = word in grammar.PREPOSITIONS
        article = next(rest) if distractor else word
        noun = next(rest)
        singular = noun.removesuffix("s")
        (place,) = [kind.index(singular) for kind in grammar.NOUNS if singular in kind]
        assert article == ("les" if noun != singular else "la" if place >= 2 else "le")
        phrases.append((noun, distractor))
    return phrases, text[-1]


def _kind(word, kinds):
    (kind,) = [index for index, kind in enumerate(kinds) if word.removesuffix("s") in kind]
    return kind


def test_every_sentence_is_of_the_grammar(sentences):
    for words, verb, subject, answer in zip(*sentences, strict=True):
        phrases, last = _parsed(words)
        assert grammar.WORDS[words[verb]] == last and not words[verb + 1 :].any()
        kinds = [_kind(noun, grammar.NOUNS) for noun, _ in phrases]
        assert len(set(kinds)) == len(kinds) in (2, 3)
        ((bare, _),) = [phrase for phrase in phrases if not phrase[1]]
        assert grammar.WORDS[words[subject]] == bare
        suited = _kind(last, grammar.VERBS)
        if grammar.ANSWERS[answer] == "nonsense":
            assert suited not in kinds
        else:
            assert suited == _kind(bare, grammar.NOUNS)
            assert grammar.ANSWERS[answer] == ("plural" if bare.endswith("s") else "singular")


def test_sentences_are_as_frequent_as_they_should_be(sentences):
    shares = {
        "singular": (sentences.answer == 0, 3 / 8),
        "plural": (sentences.answer == 1, 3 / 8),
        "nonsense": (sentences.answer == 2, 1 / 4),
        "two phrases": (sentences.verb == 5, 1 / 2),
        "three phrases": (sentences.verb == 8, 1 / 2),
        "subject first": (sentences.subject == 1, (1 / 2 + 1 / 3) / 2),
    }
    for name, (found, share) in shares.items():
        deviation = np.sqrt(share * (1 - share) / len(found))
        assert abs(found.mean() - share) < 5 * deviation, name
    assert set(sentences.words.ravel()) == set(range(len(grammar.WORDS)))


def test_the_sentence_of_an_index_is_always_the_same(sentences):
    indices = jnp.array([[7, 3_999], [0, 7]])
    again = grammar.draw(jax.random.key(0), indices)
    for leaf, there in zip(again, sentences, strict=True):
        np.testing.assert_array_equal(leaf, there[np.asarray(indices)])


def test_no_key_is_used_twice():
    with jax.debug_key_reuse(True):
        jax.jit(lambda key: grammar.draw(key, jnp.arange(3)))(jax.random.key(0))


def test_words_are_numbered_as_they_come_and_padded():
    np.testing.assert_array_equal(
        encode((WORDS, WORDS[::-1]), 8), [[1, 2, 3, 4, 1, 5, 0, 0], [5, 1, 4, 3, 2, 1, 0, 0]]
    )


def _look(positions, rows):
    reader = Reader(vocabulary=6, width=64, heads=4, positions=positions, scale=1.0)
    return look(reader, encode(rows, 10), jax.random.key(0))


def test_the_layer_reads_and_gives_the_shape_that_it_should():
    view = _look(True, (WORDS, WORDS[::-1]))
    assert view.given.shape == view.gathered.shape == (2, 10, 64)
    assert view.weights.shape == (2, 4, 10, 10)


def test_padding_gets_no_attention():
    weights = _look(True, (WORDS, WORDS[:2])).weights
    assert (weights[0, :, :, 6:] == 0).all() and (weights[1, :, :, 2:] == 0).all()
    assert (weights[0, :, :, :6] > 0).all() and (weights[1, :, :, :2] > 0).all()
    # The rounding of 6 float32 terms.
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=6 * np.finfo(np.float32).eps)


def test_words_in_another_order_permute_the_map_unless_positions_count():
    order = [4, 2, 0, 1, 5, 3]
    rows = (WORDS, [WORDS[place] for place in order])
    first, second = _look(False, rows).weights[:, :, :6, :6]
    # Float32 products in another place of a matmul's tile.
    np.testing.assert_allclose(second, first[:, order][..., order], rtol=1e-4)
    first, second = _look(True, rows).weights[:, :, :6, :6]
    assert np.abs(second - first[:, order][..., order]).max() > 0.1


def test_range_and_entropy_are_those_of_the_words():
    odds = np.random.default_rng(0).uniform(size=(2, 3, 10, 10)).astype(np.float32)
    odds[..., 6:] = 0
    weights = odds / odds.sum(axis=-1, keepdims=True)
    found = spread(View(None, None, weights), 6)
    own = weights[0, :, :6, :6]
    entropies = scipy.stats.entropy(own.astype(np.float64), axis=-1)
    np.testing.assert_allclose(found["entropy"], entropies.mean(), rtol=1e-6)
    np.testing.assert_allclose(found["entropy_share"], entropies.mean() / np.log(6), rtol=1e-6)
    assert (found["lowest"], found["highest"]) == (own.min(), own.max())


@pytest.mark.parametrize("weights, share", [(np.eye(4), 0), (np.full((4, 4), 1 / 4), 1)])
def test_entropy_at_its_ends(weights, share):
    found = spread(View(None, None, weights[None, None]), 4)
    np.testing.assert_allclose(found["entropy"], share * np.log(4), atol=1e-12)
    np.testing.assert_allclose(found["entropy_share"], share, atol=1e-12)


def test_a_single_word_looks_at_itself():
    assert spread(View(None, None, np.ones((1, 1, 1, 1))), 1) == {
        "lowest": 1,
        "highest": 1,
        "entropy": 0,
        "entropy_share": 1,
    }


def _network(heads=1, width=64):
    return Inflection(Reader(len(grammar.WORDS), width, heads, positions=True, scale=0.1))


@pytest.fixture(scope="module")
def task(sentences):
    """A network, its first parameters, and 2,000 lessons of 32 sentences."""
    network = _network()
    lessons = grammar.draw(jax.random.key(1), jnp.arange(2_000 * 32).reshape(2_000, 32))
    params = network.init(jax.random.key(2), sentences.words[:2], sentences.verb[:2])["params"]
    return network, params, lessons


def test_it_learns_to_look_at_the_subject(task, sentences):
    network, params, lessons = task
    counts = np.ones((2_000, 32), bool)
    learnt, losses = learn(network, params, lessons, counts, 3e-3)
    before, after = (examine(network, each, sentences) for each in (params, learnt))
    assert before.accuracy < 0.5 and after.accuracy > 0.95
    assert before.on_subject < 0.2 and after.on_subject > 0.8
    assert losses[:50].mean() > 0.8 and losses[-50:].mean() < 0.2


def _some(lessons, steps, batch=32):
    return jax.tree.map(lambda leaf: leaf[:steps, :batch], lessons)


def test_uniform_attention_stays_uniform(task, sentences):
    network, params, lessons = task
    counts = np.ones((20, 32), bool)
    blind, _ = learn(network, params, _some(lessons, 20), counts, 3e-3, gate=0.0)
    exam = examine(network, blind, sentences)
    keys = (sentences.words != 0).sum(axis=-1)
    for weights, count in zip(exam.weights[:50], keys, strict=False):
        np.testing.assert_allclose(weights[0, :, :count], 1 / count, rtol=1e-6)
    changed = np.abs(
        blind["reader"]["embedding"]["embedding"] - params["reader"]["embedding"]["embedding"]
    )
    assert changed.max() > 0.01


def test_a_sentence_that_does_not_count_teaches_nothing(task):
    network, params, lessons = task
    lessons = _some(lessons, 3)
    counts = np.random.default_rng(0).uniform(size=(3, 32)) < 0.5
    other = lessons._replace(answer=jnp.where(counts, lessons.answer, 2 - lessons.answer))
    learnt, losses = learn(network, params, lessons, counts, 3e-3)
    as_learnt, as_losses = learn(network, params, other, counts, 3e-3)
    jax.tree.map(np.testing.assert_array_equal, learnt, as_learnt)
    np.testing.assert_array_equal(losses, as_losses)
    none, losses = learn(network, params, lessons, np.zeros((3, 32), bool), 3e-3)
    jax.tree.map(np.testing.assert_array_equal, none, jax.device_get(params))
    assert not losses.any()


def test_the_first_loss_is_the_cross_entropy(task):
    network, params, lessons = task
    words, verb, _, answer = (np.asarray(leaf[0]) for leaf in lessons)
    logits = np.asarray(network.apply({"params": params}, words, verb), np.float64)
    odds = np.exp(logits)
    expected = -np.log(odds[np.arange(32), answer] / odds.sum(axis=-1)).mean()
    _, losses = learn(network, params, _some(lessons, 1), np.ones((1, 32), bool), 3e-3)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_a_loss_that_is_not_finite_is_named(task):
    network, params, lessons = task
    counts = np.ones((3, 32), bool)
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step [23]; .*1e\+30"):
        learn(network, params, _some(lessons, 3), counts, 1e30)


def test_an_exam_counts_one_sentence_after_another(sentences):
    network = _network(heads=2, width=8)
    few = jax.tree.map(lambda leaf: leaf[:12], sentences)
    params = network.init(jax.random.key(0), few.words, few.verb)["params"]
    exam = examine(network, params, few)
    right, looks = 0, []
    for words, verb, subject, answer in zip(*few, strict=True):
        inputs = {"params": params}, words[None], verb[None]
        logits, sown = network.apply(*inputs, mutable=["intermediates"])
        right += int(np.argmax(logits[0]) == answer)
        if grammar.ANSWERS[answer] != "nonsense":
            (weights,) = sown["intermediates"]["reader"]["attention"]["weights"]
            looks.append(weights[0, :, verb, subject])
    assert exam.accuracy == pytest.approx(right / 12)
    np.testing.assert_allclose(exam.on_subject, np.mean(looks, axis=0), rtol=1e-5)


def _arguments(workdir, *overrides):
    flags = [f"--config.{override}" for override in overrides]
    return ["gaxn", f"--config={CONFIG}:tiny", f"--workdir={workdir}", *flags]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("lab") / "run"
    assert main(_arguments(workdir)) == 0
    return workdir


NAMES = ("heads", "sweep", "trained", "curves")


def test_a_run_leaves_what_it_promises(run):
    document = json.loads((run / "evaluation.json").read_text())
    tables, figures, protocol = (document[part] for part in ("tables", "figures", "protocol"))
    assert tables["input_shape"] == tables["output_shape"] == [2, 10, 8]
    sizes = [(row["width"], row["heads"]) for row in tables["sweep"]]
    assert sizes == list(itertools.product((8,), (1, 2)))
    for row in tables["sweep"]:
        assert 0 < row["lowest"] < row["highest"] < 1
        assert row["entropy_share"] == pytest.approx(row["entropy"] / np.log(6))
    for when in ("before", "after", "uniform"):
        assert 0 <= figures[f"accuracy/{when}"] <= 1
        assert 0 < figures[f"on_subject/{when}"] < 1
    assert protocol["steps"] == 4 and protocol["seed"] == 0
    assert protocol["batch"] == ["le chat est sur le tapis", "tapis le sur est chat le"]
    assert json.loads((run / "config.json").read_text())["config"]["lab"] == "attention"
    for name in NAMES:
        assert np.asarray(Image.open(run / f"{name}.png")).std() > 0
    assert len(list(run.iterdir())) == len(NAMES) + 2


def test_a_run_is_done_once_and_repeats_itself(run, tmp_path, capsys):
    def files(workdir):
        names = ("evaluation.json", *(f"{name}.png" for name in NAMES))
        return {name: (workdir / name).read_bytes() for name in names}

    before = files(run)
    assert main(_arguments(run)) == 0
    assert "is done" in capsys.readouterr().out
    assert files(run) == before
    # As if it had been killed: the config is there, the evaluation is not.
    (tmp_path / "config.json").write_bytes((run / "config.json").read_bytes())
    assert main(_arguments(tmp_path)) == 0
    assert files(tmp_path) == before


REFUSED = {
    # override: what the line has to say
    "sentence=": ["config.sentence is ''", "1 to 10 words"],
    "sentence=a b c d e f g h i j k": ["config.sentence is 'a b c", "1 to 10 words"],
    "sentense=a": ["config.sentense is unknown", "sentence"],
    "heads=3": ["config.heads is 3", "divisor of the width, 8"],
    "heads=0": ["config.heads is 0", "divisor of the width, 8"],
    "task_heads=5": ["config.task_heads is 5", "divisor of the width, 8"],
    "sweep_heads=(1,3)": ["config.sweep_heads is (1, 3)", "divisors of the width 8"],
    "sweep_widths=()": ["config.sweep_widths is ()", "one or more"],
    "sweep_widths=(8,'a')": ["config.sweep_widths", "tuple[int, ...]"],
    "tokens=0": ["config.tokens is 0", "1 to 40"],
    "width=0": ["config.width is 0", "1 or more"],
    "seed=-1": ["config.seed is -1", "0 to 2^32"],
    "scale=0.0": ["config.scale is 0.0", "above 0"],
    "task_learning_rate=-1.0": ["config.task_learning_rate is -1.0", "above 0"],
    "task_examples=2": ["config.task_examples is 2", "20 or more"],
    "lab=atention": ["config.lab is 'atention.Lab'", "attention"],
}


def _refused(capsys, arguments):
    """The one line with which a command is refused."""
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gaxn: ")
    return line


@pytest.mark.parametrize("override", REFUSED)
def test_mistakes_are_one_line(capsys, tmp_path, override):
    line = _refused(capsys, _arguments(tmp_path / "run", override))
    for part in REFUSED[override]:
        assert part in line
    assert not (tmp_path / "run").exists()


def test_another_config_in_the_same_directory_is_refused(capsys, run):
    assert "heads (2 there, 4 here)" in _refused(capsys, _arguments(run, "heads=4"))


@pytest.mark.parametrize("mode", ["evaluate", "sample", "classifier"])
def test_a_lab_has_no_such_mode(capsys, tmp_path, mode):
    line = _refused(capsys, [*_arguments(tmp_path / "run"), f"--mode={mode}"])
    assert f"--mode is '{mode}'" in line and "valid is train" in line
    assert not (tmp_path / "run").exists()
