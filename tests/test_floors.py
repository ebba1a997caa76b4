"""Imports point strictly down, and names and docstrings stay plain."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gaxn"

FLOORS = [
    {"types"},
    {"keys", "distributed"},
    {"io"},
    {"config"},
    {"nn", "metrics", "data"},
    {"objectives", "models"},
    {"features", "gans", "labs"},
    {"training"},
    {
        "evaluation.figures",
        "evaluation.interpolation",
        "evaluation.picture_sizes",
        "evaluation.sampling",
        "evaluation.scoring",
        "evaluation.translation",
    },
    {
        "evaluation.diagnostics",
        "evaluation.evaluators",
        "evaluation.generation",
    },
    {"evaluation.kinds", "evaluation.report"},
    {"evaluation.comparison", "evaluation.plan"},
    {"evaluation.image_sets", "experiment"},
    {"evaluation.description", "evaluation.export"},
    {"evaluation.run_evaluation"},
    {"training.loop", "training.restore"},
    {"commands"},
    {"api", "evaluation.__main__"},
    {"main"},
]
"""Rooms, the lowest first: a folder, or a file where a folder has several floors."""

PRONOUNS = {
    *("own", "found", "held", "told", "there", "here", "asked", "shown", "seen", "kept", "made"),
    *("has", "fitting", "whole", "hear", "leave", "judge", "look", "looking", "heard", "tells"),
}
"""No names: a name says what a thing is."""

OPENERS = re.compile(r"(What|That|Those|These|Who|Whom|Whose|The same|The rest|Where|How|Of)\b")


def test_imports_point_strictly_down():
    floor_of = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

    def room(module: str) -> str:
        """The longest name in the table that the module is, or lies in."""
        parts = module.split(".")
        names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((name for name in names if name in floor_of), module)

    wrong = []
    for file in PACKAGE.rglob("*.py"):
        module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        if module == "__init__":
            # The public interface: it imports the top floor when a part is used.
            continue
        importer = room(module.removesuffix(".__init__"))
        for imported in map(room, _imports(file)):
            if imported != importer and floor_of[imported] >= floor_of[importer]:
                wrong.append(f"{module} imports {imported}")
    assert not wrong


def test_every_module_has_a_floor():
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    modules -= {"__init__", "__pycache__"}
    assert modules == {room.partition(".")[0] for rooms in FLOORS for room in rooms}
    assert len(modules) + 1 <= 20


def test_only_distributed_knows_of_devices():
    words = ("pmean", "axis_name=", "device_count", "process_index")
    for file in PACKAGE.rglob("*.py"):
        if file.parent.name != "distributed" and file.stem != "norms":
            text = file.read_text()
            assert not [word for word in words if word in text], file


@pytest.mark.parametrize("folder", ["gaxn", "configs", "launch", "benchmarks", "tests"])
def test_names_and_docstrings_are_plain(folder):
    wrong = []
    for file in (PACKAGE.parent / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names = [node.id]
            elif isinstance(node, ast.arg):
                names = [node.arg]
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            wrong += [f"{file}:{node.lineno} {name}" for name in names if name in PRONOUNS]
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
                docstring = ast.get_docstring(node) or ""
                if OPENERS.match(docstring):
                    wrong.append(f"{file}: {docstring.splitlines()[0]}")
    assert not wrong


def _imports(file: Path) -> set[str]:
    """Returns the modules of gaxn that a file imports, by their names within gaxn."""
    imports = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            module = name.removeprefix("gaxn.")
            path = PACKAGE.joinpath(*module.split("."))
            if not (path.is_dir() or path.with_suffix(".py").exists()):
                module = module.rpartition(".")[0]
            if name.startswith("gaxn.") and module:
                imports.add(module)
    return imports
