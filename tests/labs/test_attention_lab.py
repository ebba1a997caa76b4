"""The attention lab: its grammar, its layers, their training, and its runs."""

import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from gaxn.labs import grammar
from gaxn.labs.reader import (
    Inflection,
    Reader,
    encode,
    evaluate,
    run_untrained,
    train,
    weight_statistics,
)
from gaxn.main import main
from gaxn.types import InputError

CONFIG = Path(__file__).parents[2] / "configs" / "attention_lab.py"
WORDS = ["le", "chat", "est", "sur", "le", "tapis"]


@pytest.fixture(scope="module")
def sentences():
    return jax.device_get(grammar.draw(jax.random.key(0), jnp.arange(4_000)))


def _parse(words):
    """Returns the nouns of a sentence, each with whether it has a preposition; and the verb."""
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


def test_every_sentence_follows_the_grammar(sentences):
    for words, verb, subject, answer in zip(*sentences, strict=True):
        phrases, last = _parse(words)
        assert grammar.WORDS[words[verb]] == last and not words[verb + 1 :].any()
        kinds = [_kind(noun, grammar.NOUNS) for noun, _ in phrases]
        assert len(set(kinds)) == len(kinds) in (2, 3)
        ((bare, _),) = [phrase for phrase in phrases if not phrase[1]]
        assert grammar.WORDS[words[subject]] == bare
        verb_kind = _kind(last, grammar.VERBS)
        if grammar.ANSWERS[answer] == "nonsense":
            assert verb_kind not in kinds
        else:
            assert verb_kind == _kind(bare, grammar.NOUNS)
            assert grammar.ANSWERS[answer] == ("plural" if bare.endswith("s") else "singular")


def test_sentences_have_the_intended_frequencies(sentences):
    shares = {
        "singular": (sentences.answer == 0, 3 / 8),
        "plural": (sentences.answer == 1, 3 / 8),
        "nonsense": (sentences.answer == 2, 1 / 4),
        "two phrases": (sentences.verb == 5, 1 / 2),
        "three phrases": (sentences.verb == 8, 1 / 2),
        "subject first": (sentences.subject == 1, (1 / 2 + 1 / 3) / 2),
    }
    for name, (is_so, share) in shares.items():
        deviation = np.sqrt(share * (1 - share) / len(is_so))
        assert abs(is_so.mean() - share) < 5 * deviation, name
    assert set(sentences.words.ravel()) == set(range(len(grammar.WORDS)))


def test_the_sentence_of_an_index_is_always_the_same(sentences):
    indices = jnp.array([[7, 3_999], [0, 7]])
    again = grammar.draw(jax.random.key(0), indices)
    for leaf, full in zip(again, sentences, strict=True):
        np.testing.assert_array_equal(leaf, full[np.asarray(indices)])


def test_no_key_is_used_twice():
    with jax.debug_key_reuse(True):
        jax.jit(lambda key: grammar.draw(key, jnp.arange(3)))(jax.random.key(0))


def test_words_are_numbered_by_first_appearance_and_padded():
    np.testing.assert_array_equal(
        encode((WORDS, WORDS[::-1]), 8), [[1, 2, 3, 4, 1, 5, 0, 0], [5, 1, 4, 3, 2, 1, 0, 0]]
    )


def _run_untrained(positions, rows):
    reader = Reader(vocabulary=6, width=64, heads=4, positions=positions, scale=1.0)
    return run_untrained(reader, encode(rows, 10), jax.random.key(0))


def test_the_layer_keeps_the_shape():
    layer = _run_untrained(True, (WORDS, WORDS[::-1]))
    assert layer.inputs.shape == layer.outputs.shape == (2, 10, 64)
    assert layer.weights.shape == (2, 4, 10, 10)


def test_padding_gets_no_attention():
    weights = _run_untrained(True, (WORDS, WORDS[:2])).weights
    assert (weights[0, :, :, 6:] == 0).all() and (weights[1, :, :, 2:] == 0).all()
    assert (weights[0, :, :, :6] > 0).all() and (weights[1, :, :, :2] > 0).all()
    # Rounding of 6 float32 terms.
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=6 * np.finfo(np.float32).eps)


def test_words_in_another_order_permute_the_weights_unless_positions_are_added():
    order = [4, 2, 0, 1, 5, 3]
    rows = (WORDS, [WORDS[place] for place in order])
    first, second = _run_untrained(False, rows).weights[:, :, :6, :6]
    # A float32 product rounds differently in another part of a matmul's tile.
    np.testing.assert_allclose(second, first[:, order][..., order], rtol=1e-4)
    first, second = _run_untrained(True, rows).weights[:, :, :6, :6]
    assert np.abs(second - first[:, order][..., order]).max() > 0.1


def test_range_and_entropy_leave_out_padding():
    odds = np.random.default_rng(0).uniform(size=(2, 3, 10, 10)).astype(np.float32)
    odds[..., 6:] = 0
    weights = odds / odds.sum(axis=-1, keepdims=True)
    statistics = weight_statistics(weights, 6)
    of_words = weights[0, :, :6, :6]
    entropy = scipy.stats.entropy(of_words.astype(np.float64), axis=-1).mean()
    np.testing.assert_allclose(statistics["entropy"], entropy, rtol=1e-6)
    np.testing.assert_allclose(statistics["entropy_share"], entropy / np.log(6), rtol=1e-6)
    assert (statistics["lowest"], statistics["highest"]) == (of_words.min(), of_words.max())


@pytest.mark.parametrize("weights, share", [(np.eye(4), 0), (np.full((4, 4), 1 / 4), 1)])
def test_entropy_at_its_extremes(weights, share):
    statistics = weight_statistics(weights[None, None], 4)
    np.testing.assert_allclose(statistics["entropy"], share * np.log(4), atol=1e-12)
    np.testing.assert_allclose(statistics["entropy_share"], share, atol=1e-12)


def test_a_single_word_attends_to_itself():
    assert weight_statistics(np.ones((1, 1, 1, 1)), 1) == {
        "lowest": 1,
        "highest": 1,
        "entropy": 0,
        "entropy_share": 1,
    }


def _network(heads=1, width=64):
    return Inflection(Reader(len(grammar.WORDS), width, heads, positions=True, scale=0.1))


@pytest.fixture(scope="module")
def task(sentences):
    """A network, its initial parameters, and 2,000 batches of 32 sentences."""
    network = _network()
    batches = grammar.draw(jax.random.key(1), jnp.arange(2_000 * 32).reshape(2_000, 32))
    params = network.init(jax.random.key(2), sentences.words[:2], sentences.verb[:2])["params"]
    return network, params, batches


@pytest.mark.slow
def test_training_makes_verbs_attend_to_their_subjects(task, sentences):
    network, params, batches = task
    mask = np.ones((2_000, 32), bool)
    trained, losses = train(network, params, batches, mask, 3e-3)
    before, after = (evaluate(network, each, sentences) for each in (params, trained))
    assert before.accuracy < 0.5 and after.accuracy > 0.95
    assert before.on_subject < 0.2 and after.on_subject > 0.8
    assert losses[:50].mean() > 0.8 and losses[-50:].mean() < 0.2


def _first(batches, steps, batch=32):
    return jax.tree.map(lambda leaf: leaf[:steps, :batch], batches)


def test_uniform_attention_stays_uniform(task, sentences):
    network, params, batches = task
    mask = np.ones((20, 32), bool)
    uniform, _ = train(network, params, _first(batches, 20), mask, 3e-3, query_scale=0.0)
    evaluation = evaluate(network, uniform, sentences)
    keys = (sentences.words != 0).sum(axis=-1)
    for weights, count in zip(evaluation.weights[:50], keys, strict=False):
        np.testing.assert_allclose(weights[0, :, :count], 1 / count, rtol=1e-6)
    changed = np.abs(
        uniform["reader"]["embedding"]["embedding"] - params["reader"]["embedding"]["embedding"]
    )
    assert changed.max() > 0.01


def test_sentences_out_of_the_mask_change_nothing(task):
    network, params, batches = task
    batches = _first(batches, 3)
    mask = np.random.default_rng(0).uniform(size=(3, 32)) < 0.5
    other = batches._replace(answer=jnp.where(mask, batches.answer, 2 - batches.answer))
    trained, losses = train(network, params, batches, mask, 3e-3)
    other_trained, other_losses = train(network, params, other, mask, 3e-3)
    jax.tree.map(np.testing.assert_array_equal, trained, other_trained)
    np.testing.assert_array_equal(losses, other_losses)
    unchanged, losses = train(network, params, batches, np.zeros((3, 32), bool), 3e-3)
    jax.tree.map(np.testing.assert_array_equal, unchanged, jax.device_get(params))
    assert not losses.any()


def test_the_first_loss_is_the_cross_entropy(task):
    network, params, batches = task
    words, verb, _, answer = (np.asarray(leaf[0]) for leaf in batches)
    logits = np.asarray(network.apply({"params": params}, words, verb), np.float64)
    odds = np.exp(logits)
    expected = -np.log(odds[np.arange(32), answer] / odds.sum(axis=-1)).mean()
    _, losses = train(network, params, _first(batches, 1), np.ones((1, 32), bool), 3e-3)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_a_loss_that_is_not_finite_is_named(task):
    network, params, batches = task
    mask = np.ones((3, 32), bool)
    with pytest.raises(
        InputError, match=r"the loss must stay finite, got (nan|inf) at step [23]; .*1e\+30"
    ):
        train(network, params, _first(batches, 3), mask, 1e30)


def test_an_evaluation_is_that_of_single_sentences(sentences):
    network = _network(heads=2, width=8)
    few = jax.tree.map(lambda leaf: leaf[:12], sentences)
    params = network.init(jax.random.key(0), few.words, few.verb)["params"]
    evaluation = evaluate(network, params, few)
    correct, on_subject = 0, []
    for words, verb, subject, answer in zip(*few, strict=True):
        inputs = {"params": params}, words[None], verb[None]
        logits, sown = network.apply(*inputs, mutable=["intermediates"])
        correct += int(np.argmax(logits[0]) == answer)
        if grammar.ANSWERS[answer] != "nonsense":
            (weights,) = sown["intermediates"]["reader"]["attention"]["weights"]
            on_subject.append(weights[0, :, verb, subject])
    assert evaluation.accuracy == pytest.approx(correct / 12)
    np.testing.assert_allclose(evaluation.on_subject, np.mean(on_subject, axis=0), rtol=1e-5)


def _arguments(workdir, *overrides):
    flags = [f"--config.{override}" for override in overrides]
    return ["gaxn", f"--config={CONFIG}:tiny", f"--workdir={workdir}", *flags]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("lab") / "run"
    assert main(_arguments(workdir)) == 0
    return workdir


NAMES = ("heads", "sweep", "trained", "curves")


@pytest.mark.slow
def test_a_run_writes_its_tables_figures_and_pictures(run):
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
    assert len([path for path in run.iterdir() if path.name != ".lock"]) == len(NAMES) + 2


@pytest.mark.slow
def test_a_finished_run_is_not_repeated_and_a_killed_one_is(run, tmp_path, capsys):
    def files(workdir):
        names = ("evaluation.json", *(f"{name}.png" for name in NAMES))
        return {name: (workdir / name).read_bytes() for name in names}

    before = files(run)
    assert main(_arguments(run)) == 0
    assert "is done" in capsys.readouterr().out
    assert files(run) == before
    # As if it was killed: there is a config, but no evaluation.
    (tmp_path / "config.json").write_bytes((run / "config.json").read_bytes())
    assert main(_arguments(tmp_path)) == 0
    assert files(tmp_path) == before


REFUSED = {
    # override: what the message says
    "sentence=": ["config.sentence must be of 1 to 10 words", "got ''"],
    "sentence=a b c d e f g h i j k": ["config.sentence must be of 1 to 10 words", "got 'a b c"],
    "sentense=a": ["config.sentense is unknown", "sentence"],
    "heads=3": ["config.heads must be", "a divisor of the width, 8, got 3"],
    "heads=0": ["config.heads must be", "a divisor of the width, 8, got 0"],
    "task_heads=5": ["config.task_heads must be", "a divisor of the width, 8, got 5"],
    "sweep_heads=(1,3)": ["config.sweep_heads must be divisors of the width 8, got (1, 3)"],
    "sweep_widths=()": ["config.sweep_widths must be one or more numbers", "got ()"],
    "sweep_widths=(8,'a')": ["config.sweep_widths", "tuple[int, ...]"],
    "tokens=0": ["config.tokens must be from 1 to 40, got 0"],
    "width=0": ["config.width must be 1 or more, got 0"],
    "seed=-1": ["config.seed must be from 0 to 2^32 - 1, got -1"],
    "scale=0.0": ["config.scale must be above 0", "got 0.0"],
    "task_learning_rate=-1.0": ["config.task_learning_rate must be above 0", "got -1.0"],
    "task_examples=2": ["config.task_examples must be 20 or more, got 2"],
    "lab=atention": ["config.lab must be", "attention", "got 'atention"],
}


def _refused(capsys, arguments):
    """Runs a command that is refused; returns its one line."""
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gaxn: ")
    return line


@pytest.mark.slow
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
    assert "--mode must be" in line and "train" in line and f"got '{mode}'" in line
    assert not (tmp_path / "run").exists()
