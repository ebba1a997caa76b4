"""The notebook of the examples: stored without outputs, and executed in its smallest form."""

import ast
import json
import re
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"
CELLS = json.loads(PATH.read_text())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def test_the_notebook_is_stored_without_outputs():
    assert len(CODE) > 8
    assert not [cell["id"] for cell in CODE if cell["outputs"] or cell["execution_count"]]
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)


def test_every_cell_of_code_parses():
    for cell in CODE:
        ast.parse("".join(cell["source"]), cell["id"])


def test_every_link_of_the_notebook_exists():
    text = "".join(line for cell in CELLS for line in cell["source"])
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert len(links) > 5
    assert not [link for link in links if not (PATH.parent / link).exists()]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    import nbclient
    import nbformat

    monkeypatch.setenv("GAXN_TINY", "1")
    # As in conftest.py: programs run for an instant and compile for long.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    data = [output["data"] for output in outputs if "data" in output]
    assert sum("image/png" in each for each in data) == 5
    printed = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    scores = re.findall(r"(?m)^(?:relativistic|hinge)$|^    (\w+) [\d.]+, of real", printed)
    names = ["", "conditional_accuracy", "frechet_distance", "precision", "recall"]
    assert scores == names * 2
    for loss in ("relativistic", "hinge"):
        config = json.loads((tmp_path / "runs" / loss / "config.json").read_text())["config"]
        assert config["loss"] == {"name": loss} and config["num_train_steps"] == 8
    figures = ast.literal_eval(data[-1]["text/plain"])
    assert figures["recall"] < figures["precision"]
