"""Comparisons have the right costs, and never mix figures that were measured differently."""

import json
import re
import shutil

import numpy as np
import pytest

from gaxn.evaluation import comparison
from gaxn.io import files, run_directory
from gaxn.main import main
from gaxn.types import InputError

PROTOCOL = {"samples": 60, "reference": "shapes, test split", "step": 8, "seed": 0}
FIGURES = {"accuracy": 0.5, "distance": 12.25}
COST = {"parameters": {"generator": 1_234, "discriminator": 567}, "flops_a_step": 2.5e9}
HISTORY = [
    # 2 steps of 8 images: 16, 0.2, 0.4 and 0.1 seconds.
    {"step": 2, "d/adversarial": 3.0, "g/loss": 1.0, "images_per_second": 1.0},
    {"step": 4, "d/adversarial": 2.0, "g/loss": 2.0, "images_per_second": 80.0},
    {"step": 6, "d/adversarial": 1.0, "g/loss": 3.0, "images_per_second": 40.0},
    {"step": 8, "d/adversarial": 0.0, "g/loss": 4.0, "images_per_second": 160.0},
]


def _evaluation(protocol=PROTOCOL, figures=FIGURES, step=8, **parts):
    part = {"figures": figures, "tables": {}, "protocol": protocol}
    return {"name": "shapes", "step": step, "cost": COST, "classified": part, **parts}


def _write(workdir, evaluation=None, history=HISTORY, seed=0, color=100):
    """Writes the directory of a run with 8 images per batch and sample grids of one color."""
    record = {"devices": ["cpu:0", "cpu:1"]}
    with run_directory.open_run(workdir, {"seed": seed, "batch_size": 8}, set(), record):
        pass
    files.write_json(workdir / "evaluation.json", evaluation or _evaluation())
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    for step in (4, 8):
        picture = np.full((30, 40, 3), color + step, np.uint8)
        files.write_png(workdir / "samples" / f"step_{step:08d}.png", picture)
    return workdir


@pytest.fixture
def run(tmp_path):
    """A function from the arguments of `_write` to the run that is read."""

    def read(**options):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        return comparison.read_run(_write(tmp_path / "run", **options))

    return read


def test_facts_are_those_of_a_hand_computation(run, tmp_path):
    assert comparison.facts(run(seed=3)) == {
        "workdir": str(tmp_path / "run"),
        "name": "shapes",
        "seed": 3,
        "step": 8,
        "batch": 8,
        "images": 64,
        "devices": ["cpu:0", "cpu:1"],
        "parameters": {"generator": 1_234, "discriminator": 567},
        "flops_a_step": 2.5e9,
        # Of 8, 0.1, 0.2 and 0.05 seconds a step.
        "seconds_a_step": pytest.approx(0.15),
        "seconds_trained": pytest.approx(16.7),
    }


def test_training_after_the_evaluation_does_not_count(run):
    facts = comparison.facts(run(evaluation=_evaluation(step=4)))
    assert facts["images"] == 32
    assert facts["seconds_trained"] == pytest.approx(16.2)


def test_a_run_that_was_resumed_between_two_lines_counts_every_step_once(run):
    # Stopped at step 3 and resumed: the line of step 6 counts for steps 3 to 6.
    history = [HISTORY[0], HISTORY[2]]
    assert comparison.seconds_trained(history, 8) == pytest.approx([16, 16 + 4 * 8 / 40])


@pytest.mark.parametrize("history", [[], [{**HISTORY[0], "images_per_second": 0.0}]])
def test_a_log_without_speed_has_no_times(run, history):
    facts = comparison.facts(run(history=history))
    assert facts["seconds_a_step"] is None and facts["seconds_trained"] is None
    text = _text({"a": run(history=history)})
    assert _row(text, "seconds per step") == _row(text, "minutes trained") == ["-"]


def test_an_evaluation_without_costs_gives_a_warning(run):
    evaluation = {name: part for name, part in _evaluation().items() if name != "cost"}
    document = comparison.make_document({"a": run(evaluation=evaluation), "b": run()})
    assert document["runs"]["a"]["flops_a_step"] is None
    text = comparison.format_document(document)
    assert _row(text, "GFLOP per step") == ["-", "2.5"]
    assert _row(text, "parameters, generator") == ["-", "1,234"]
    (line,) = comparison.warnings(document)
    assert line.startswith("a: ") and "--mode evaluate" in line


@pytest.mark.parametrize(
    "paths, labels",
    [
        (["x/cnn", "x/transformer"], ["cnn", "transformer"]),
        (["a/run", "b/run"], ["a/run", "b/run"]),
        (["a/x/run", "b/x/run", "b/y/run"], ["a/x/run", "b/x/run", "b/y/run"]),
    ],
)
def test_labels_are_the_shortest_different_ends(tmp_path, paths, labels):
    assert comparison.make_labels([tmp_path / path for path in paths]) == labels


def test_the_same_run_by_another_name_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(InputError, match="b is given twice"):
        comparison.make_labels([tmp_path / "a", tmp_path / "b"])


def _document(run, *evaluations):
    return comparison.make_document(
        {label: run(evaluation=each) for label, each in zip("abc", evaluations, strict=False)}
    )


def _text(runs):
    return comparison.format_document(comparison.make_document(runs))


def _row(text, name):
    """Returns the cells of a row of the first table."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_figures_of_one_protocol_are_side_by_side(run):
    # The step and the seed of a run are not part of the way of measuring.
    other = _evaluation({**PROTOCOL, "step": 4, "seed": 1}, {"accuracy": 0.75})
    document = _document(run, _evaluation(), other)
    part = document["parts"]["classified"]
    assert part["comparable"] and not part["differing"]
    assert part["figures"]["accuracy"] == {"a": 0.5, "b": 0.75}
    assert part["protocols"]["b"]["seed"] == 1
    text = comparison.format_document(document)
    assert _row(text, "classified/accuracy") == ["0.5000", "0.7500"]
    assert _row(text, "classified/distance") == ["12.2500", "-"]
    assert "NOT COMPARABLE" not in text and not comparison.warnings(document)


def test_figures_of_different_protocols_are_listed_apart(run):
    more = {**PROTOCOL, "samples": 10_000, "resize": "none"}
    agreed = {"attention": {"figures": {"entropy": 1.0}, "tables": {}, "protocol": {"images": 6}}}
    document = _document(
        run, _evaluation(**agreed), _evaluation(more, **agreed), _evaluation(**agreed)
    )
    part = document["parts"]["classified"]
    assert not part["comparable"] and document["parts"]["attention"]["comparable"]
    assert part["differing"] == {
        "samples": {"a": 60, "b": 10_000, "c": 60},
        "resize": {"a": None, "b": "none", "c": None},
    }
    text = comparison.format_document(document)
    table, note = text.split("\n\n", 1)
    assert table.index("attention/entropy") < table.index("NOT COMPARABLE")
    assert table.index("NOT COMPARABLE") < table.index("classified/accuracy")
    assert _row(table, "attention/entropy") == ["1.0000"] * 3
    assert _row(table, "classified/accuracy") == ["0.5000 [A]", "0.5000 [B]", "0.5000 [A]"]
    assert "classified were measured under different protocols" in note
    assert _row(note, "samples") == ["60", "10000", "60"]
    assert _row(note, "resize") == ["-", '"none"', "-"]
    (line,) = comparison.warnings(document)
    assert "samples (60 in a, 10000 in b, 60 in c)" in line and "listed apart" in line


def test_a_part_that_one_run_lacks_is_comparable(run):
    lacking = {name: part for name, part in _evaluation().items() if name != "classified"}
    document = _document(run, lacking, _evaluation())
    assert document["parts"]["classified"]["comparable"]
    assert _row(comparison.format_document(document), "classified/accuracy") == ["-", "0.5000"]


def test_a_table_is_markdown_whose_columns_align_as_text():
    rows = {"seed": ["0", "12345"], "x|y": ["", "1.50"], "e": ["-", "1e3 [A]"]}
    text = comparison.format_table("", ["a|b", "c"], rows)
    assert text.endswith("\n")
    lines = text.splitlines()
    assert len(set(map(len, lines))) == 1
    columns = {tuple(match.start() for match in re.finditer(r"(?<!\\)\|", line)) for line in lines}
    assert len(columns) == 1 and len(columns.pop()) == 4
    cells = [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines
    ]
    assert cells[0] == ["", "a|b", "c"]
    assert all(re.fullmatch(":?-+:?", cell) for cell in cells[1])
    assert cells[2:] == [[name, *row] for name, row in rows.items()]


def _files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_command_writes_the_comparison_and_changes_no_run(tmp_path, capsys):
    workdirs = [
        _write(tmp_path / "a" / "run"),
        _write(tmp_path / "b" / "run", _evaluation({**PROTOCOL, "samples": 61}), color=200),
    ]
    before = _files(tmp_path)
    target = tmp_path / "target"
    assert main(["gaxn", "--mode=compare", *map(str, workdirs), f"--workdir={target}"]) == 0
    output, errors = capsys.readouterr()
    (line,) = errors.splitlines()
    assert line.startswith("gaxn: classified: figures of different protocols")
    assert "samples (60 in a/run, 61 in b/run)" in line
    assert output == (target / "comparison.md").read_text()
    document = files.read_json(target / "comparison.json")
    assert document == comparison.make_document(
        {"a/run": comparison.read_run(workdirs[0]), "b/run": comparison.read_run(workdirs[1])}
    )
    samples = files.read_png(target / "samples.png")
    for color in (108, 208):
        assert (samples[48:] == color).all(axis=-1).sum() == 30 * 40
    assert files.read_png(target / "curves.png").std() > 0
    assert {path.name for path in target.iterdir()} == {
        *("comparison.json", "comparison.md", "curves.png", "report.html", "samples.png")
    }
    after = _files(tmp_path)
    assert {path: after[path] for path in before} == before


def test_runs_without_curves_and_samples_are_compared(tmp_path, capsys):
    workdirs = [tmp_path / "a", tmp_path / "b"]
    for workdir in workdirs:
        _write(workdir, history=[])
        for picture in (workdir / "samples").iterdir():
            picture.unlink()
    assert comparison.compare(workdirs, tmp_path / "target") == 0
    assert not list((tmp_path / "target").glob("*.png"))


ARGUMENTS = {
    # arguments: what the message says; {a} and {b} are runs
    "": "the number of runs of --mode compare must be 2 or more",
    "{a}": "got 1",
    "{a} {b} --config=x.py": "--mode compare takes no --config",
    "{a} {b} --config.seed=1": "--mode compare takes no --config.seed",
    "{a} {a}": "is given twice",
    "{a} {b} {a}/../a": "is given twice",
    "{a} {tmp}/nothing": "nothing holds no run",
    "{a} {tmp}/young": "young is not evaluated; the command that trained it, with --mode evaluate",
    "{a} {tmp}/broken": "evaluation.json is damaged",
    "{a} {tmp}/log": "metrics.jsonl is damaged",
    "{a} {tmp}/lab": "has no batch_size",
    "{a} {tmp}/old": "old was written in format 1; this is gaxn",
    "{a} {b} --workdir={b}": "b holds a run; name another for the comparison",
    "{a} {b} --workdir={tmp}/young": "young holds a run",
    "{a} {b} --workdir={a}/config.json": "config.json",
}


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_mistakes_are_one_line_and_change_nothing(tmp_path, capsys, arguments):
    for name in ("a", "b", "young", "broken", "log", "lab", "old"):
        _write(tmp_path / name)
    (tmp_path / "young" / "evaluation.json").unlink()
    (tmp_path / "broken" / "evaluation.json").write_text('{"name": "sha')
    (tmp_path / "log" / "metrics.jsonl").write_text('{"step": 2}\n')
    files.write_json(tmp_path / "lab" / "config.json", {"format": 3, "config": {"seed": 0}})
    files.write_json(tmp_path / "old" / "config.json", {"config": {"seed": 0, "batch": 8}})
    before = _files(tmp_path)
    places = {"a": tmp_path / "a", "b": tmp_path / "b", "tmp": tmp_path}
    words = arguments.format(**places).split()
    if "--workdir" not in arguments:
        words.append(f"--workdir={tmp_path / 'target'}")
    assert main(["gaxn", "--mode", "compare", *words]) == 2
    output, errors = capsys.readouterr()
    (line,) = errors.splitlines()
    assert line.startswith("gaxn: ") and ARGUMENTS[arguments] in line
    assert not output and _files(tmp_path) == before


def test_no_other_mode_takes_directories(tmp_path, capsys):
    _write(tmp_path / "a")
    assert main(["gaxn", "--mode=train", str(tmp_path / "a")]) == 2
    assert "a' is not understood" in capsys.readouterr().err
