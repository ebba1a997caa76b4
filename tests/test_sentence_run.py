"""A GAN of sentences: trained, loaded without its data, and asked for pictures of sentences."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gaxn
from gaxn import commands
from gaxn.experiment import make_experiment
from gaxn.features.text import words
from gaxn.io import files
from gaxn.main import main
from gaxn.types import InputError

CONFIGS = Path(__file__).parents[1] / "configs"
SENTENCE = "a large blue square at the top"


@pytest.fixture(scope="module")
def workdir(ring, tmp_path_factory):
    """The directory of a run of four steps, whose generator attends to words."""
    folder = tmp_path_factory.mktemp("run")
    fields = (
        *("num_train_steps=4", "run.sample_every=4", "run.checkpoint_every=4"),
        *("generator.words_at=(16,)", "evaluation.every=0", "evaluation.classifier=False"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAXN_CACHE", str(folder / "cache"))
        config = ring(*fields, variant="tiny", name="text_shapes")
        assert commands.train(make_experiment(config, "sentences"), folder / "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def run(workdir, tmp_path_factory):
    """The run, loaded where no cache has its encoder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAXN_CACHE", str(tmp_path_factory.mktemp("empty")))
        yield gaxn.load(workdir)


@pytest.mark.slow
def test_the_same_command_goes_on_where_no_cache_has_its_encoder(
    workdir, ring, tmp_path, monkeypatch, capsys
):
    """As on another machine, to which the directory of the run was copied."""
    copy = shutil.copytree(workdir, tmp_path / "copy")
    monkeypatch.setenv("GAXN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(words, "train_matcher", pytest.fail)
    saved = files.read_json(workdir / "config.json")["config"]
    fields = [f"--config.{name}={saved[name]}" for name in ("generator", "evaluation", "run")]
    command = ["gaxn", f"--config={CONFIGS / 'text_shapes.py'}:tiny", *fields, f"--workdir={copy}"]
    assert main([*command, f"--config.num_train_steps={saved['num_train_steps']}"]) == 0
    assert "is done: 4 steps, evaluated" in capsys.readouterr().out


@pytest.mark.slow
def test_a_caption_of_the_tests_has_a_number(run):
    assert len(run.class_names) > 1_000 and list(run.class_names) == sorted(run.class_names)
    by_caption = run.sample(range(3), captions=run.class_names[7])
    # A caption that is encoded alone differs by rounding from one among all captions.
    by_number = run.sample(range(3), labels=7)
    np.testing.assert_allclose(by_caption.astype(int), by_number, atol=1)
    assert by_caption.shape == (3, 32, 32, 3)
    each = run.sample(range(2), captions=[run.class_names[7], SENTENCE])
    np.testing.assert_allclose(each[0].astype(int), by_caption[0], atol=1)
    assert (each[1] != by_caption[1]).any()


@pytest.mark.slow
def test_generate_takes_conditions(run):
    conditions = run.conditions([SENTENCE] * 2)
    images = run.generate(run.params, run.latents([0, 1]), conditions)
    expected = run.sample([0, 1], captions=SENTENCE)
    np.testing.assert_allclose((np.asarray(images) + 1) * 127.5, expected, atol=1)
    assert run.interpolate(0, 1, 5, labels=[3, 8]).shape == (5, 32, 32, 3)
    assert np.isfinite(run.discriminate(expected, labels=[3, 8])).all()


@pytest.mark.slow
def test_captions_that_cannot_be_used_are_one_line(run):
    with pytest.raises(InputError, match="caption 0 must be a sentence, not empty, got ' '"):
        run.sample([0], captions=" ")
    with pytest.raises(InputError, match="the number of captions must be 1 or 3, got 2"):
        run.sample(range(3), captions=["a", "b"])
    with pytest.raises(InputError, match=r"must be a sentence of 1 to [0-9]+ words"):
        run.sample([0], captions="very " * 50 + "small")


@pytest.mark.slow
def test_files_of_sentences_have_their_captions(workdir, tmp_path, capsys):
    flags = ["--mode=generate", f"--workdir={workdir}", "--seeds=0-1"]
    captions = ["--captions", SENTENCE, "a red disc"]
    assert main(["gaxn", *flags, f"--output={tmp_path / 'a'}", *captions]) == 0
    lines = [json.loads(line) for line in (tmp_path / "a/metadata.jsonl").read_text().splitlines()]
    names = [f"00000{seed}_{label}.png" for seed in (0, 1) for label in (0, 1)]
    assert [line["file_name"] for line in lines] == names
    assert [line["text"] for line in lines] == [SENTENCE, "a red disc"] * 2
    assert main(["gaxn", *flags, f"--output={tmp_path / 'a.npz'}", *captions]) == 0
    with np.load(tmp_path / "a.npz") as arrays:
        assert list(arrays["texts"]) == [SENTENCE, "a red disc"] * 2
        for name, image in zip(names, arrays["arr_0"], strict=True):
            np.testing.assert_array_equal(files.read_png(tmp_path / "a" / name), image)
    capsys.readouterr()
    wrong = ["gaxn", *flags, f"--output={tmp_path / 'b'}", "--labels=2", *captions]
    assert main(wrong) == 2
    assert "--labels must be left out with --captions, got '2'" in capsys.readouterr().err
    wrong = ["gaxn", "--workdir=attn_cgan_mnist", *flags[::2], f"--output={tmp_path / 'b'}"]
    assert main([*wrong, *captions]) == 2
    assert "captions must be left out, as the generator takes no" in capsys.readouterr().err


@pytest.mark.slow
def test_the_evaluation_has_words_and_where_they_are_attended_to(workdir):
    document = files.read_json(workdir / "evaluation.json")
    figures = document["words"]["figures"]
    assert 0 <= figures["color_accuracy"] <= 1 and figures["color_accuracy_real"] > 0.97
    (entropy,) = document["word_attention"]["figures"].values()
    assert 0 < entropy <= 1 + 1e-6
    pictures = list((workdir / "word_attention").glob("*.png"))
    assert [path.name for path in pictures] == ["words_16.png"]
    assert files.read_png(pictures[0]).std() > 0


WRONG = {
    "not conditional": (
        "text_shapes",
        ("conditional=False",),
        "config.conditional must be True with config.text",
    ),
    "no captions": (
        "attn_cgan_shapes",
        ("text={'name': 'words'}",),
        r"config.text must be {} with these data, as shapes .* has no captions",
    ),
    "no encoder": (
        "text_shapes",
        ("text={'name': 'bert'}",),
        "config.text.name must be one of .*words.* got 'bert'",
    ),
    "no words": (
        "attn_cgan_shapes",
        ("generator.words_at=(16,)",),
        r"words_at must be \(\) without captions",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_wrong_fields_are_one_line(ring, name):
    config, fields, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        make_experiment(ring(*fields, variant="tiny", name=config), "wrong")


WITHOUT_GAXN = """
import sys
sys.modules["gaxn"] = sys.modules["flax"] = None
"""


@pytest.mark.slow
def test_captions_are_drawn_without_gaxn(run, workdir, tmp_path):
    """The code of the exported card, with other latents and captions."""
    assert main(["gaxn", f"--workdir={workdir}", "--mode=export", f"--output={tmp_path}"]) == 0
    card = (tmp_path / "README.md").read_text()
    code = re.findall(r"(?s)```python\n(.*?)```", card)[0]
    latents, captions = run.latents(range(3)), [SENTENCE, run.class_names[7], "a zebra"]
    np.save(tmp_path / "latents.npy", latents)
    code = re.sub("latents = .*", 'latents = np.load("latents.npy")', code)
    code = re.sub("captions = .*", f"captions = {captions}", code)
    script = WITHOUT_GAXN + code + 'np.save("pixels.npy", pixels)'
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=True,
        timeout=120,
    )
    expected = run.sample(range(3), captions=captions)
    differences = np.abs(np.load(tmp_path / "pixels.npy").astype(int) - expected)
    assert differences.max() <= 1
    assert "text.json" in {path.name for path in tmp_path.iterdir()}
