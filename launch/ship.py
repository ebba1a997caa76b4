"""Makes a trained run one that the package ships: gaxn/models/trained/NAME.safetensors and .json.

    python launch/ship.py runs/NAME [--folder DIR]

Weights are stored as float16. The card's figures are measured from the stored file, not from the
run, so they are those that a user gets; the table of docs/python.md has them too.
"""

import argparse
import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import jax

import gaxn
from gaxn import config
from gaxn.experiment import make_experiment
from gaxn.io import files, run_directory, shipped
from gaxn.training import restore

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
HEAD = "| name | images | figures of the shipped file (the same of real images) |\n|---|---|---|\n"
SHOWN = {"conditional_accuracy": "accuracy", "frechet_distance": "distance", "recall": "recall"}
"""Figures of the table, with their short names."""

FIELDS = ("format", "name", "config", "data", "versions", "devices")
"""Parts of config.json that a card has."""


def ship(workdir: Path, folder: Path) -> Path:
    """Writes both files of a run; returns the path of the networks."""
    name, fields = config.read_config(workdir)
    record = run_directory.read_run_record(workdir)
    experiment = make_experiment(fields, name, data_record=record["data"])
    state = restore.restore_state(experiment, workdir, "last")
    variables = experiment.evaluation.sampler(state).variables
    path = folder / f"{name}.safetensors"
    content = shipped.to_bytes(jax.device_get(variables), {"name": name}, half=True)
    files.write_bytes(path, content)
    card = {field: record[field] for field in FIELDS if field in record}
    card |= {
        "step": int(state.step),
        "weights": "generator: moving average; stored as float16",
        "sha256": hashlib.sha256(content).hexdigest(),
        "license": importlib.metadata.metadata("gaxn").get("License-Expression", "MIT"),
    }
    card_path = path.with_suffix(".json")
    files.write_json(card_path, card)
    if folder == shipped.FOLDER:
        document = gaxn.load(name).evaluate()
        parts = {part: each for part, each in document.items() if isinstance(each, dict)}
        card["evaluation"] = {
            part: {key: each[key] for key in ("figures", "protocol")}
            for part, each in parts.items()
            if each["figures"]
        }
        files.write_json(card_path, card)
    return path


def make_table() -> str:
    """Returns the table of all shipped runs, by their cards."""
    return HEAD + "".join(f"{_row(name)}\n" for name in shipped.names())


def _row(name: str) -> str:
    card = shipped.read_card(name)
    figures = card["evaluation"]["classifier"]["figures"]
    texts = (
        f"{label} {figures[figure]:.3f} +- {figures[f'{figure}_error']:.3f} "
        f"({figures[f'{figure}_real']:.3f})"
        for figure, label in SHOWN.items()
        if figure in figures
    )
    height, width, channels = card["data"]["image_shape"]
    classes = f", {len(card['data']['classes'])} classes" * card["config"]["conditional"]
    kind = "gray" if channels == 1 else "RGB"
    return f"| `{name}` | {height}x{width} {kind}{classes} | {'; '.join(texts)} |"


def write_table() -> None:
    """Writes the table into docs/python.md."""
    before, _, rest = PAGE.read_text().partition(HEAD)
    _, _, after = rest.partition("\n\n")
    PAGE.write_text(f"{before}{make_table()}\n{after}")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("workdir", type=files.expand)
    parser.add_argument("--folder", type=files.expand, default=shipped.FOLDER)
    options = parser.parse_args(argv)
    print(ship(options.workdir, options.folder))
    if options.folder == shipped.FOLDER:
        write_table()


if __name__ == "__main__":
    main()
