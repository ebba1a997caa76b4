"""Imports point strictly down."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "gaxn"

FLOORS = [
    {"types"},
    {"framing", "processes"},
    {
        "axis",
        "cache",
        "cost",
        "figures",
        "fitting",
        "interpolation",
        "keys",
        "liveness",
        "pixels",
        "pictures",
        "population",
        "preprocessing",
        "provenance",
        "schema",
        "sinks",
        "statistics",
        "torch_weights",
    },
    {"compilation_cache"},
    {"losses", "penalties", "augmentations", "nn", "metrics", "grammar", "markdown", "transforms"},
    {"regularizers"},
    {"objective"},
    {"models", "games", "data", "parts", "labs"},
    {"state", "mesh", "extractors"},
    {"turns", "feed", "checkpoint", "measure", "sampling"},
    {"updates", "translation", "sentinels"},
    {"evaluators", "grids"},
    {"step", "evaluations"},
    {"experiment"},
    {"build", "comparison", "outputs"},
    {"loop", "arguments"},
    {"modes"},
    {"main", "evaluate"},
]


def test_imports_point_strictly_down():
    floor_of = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        importer = file.relative_to(PACKAGE).with_suffix("").parts[0]
        if importer == "__init__":
            continue
        for imported in _imports(file):
            inside = imported == importer and file.name != "__init__.py"
            if not inside and floor_of[imported] >= floor_of[importer]:
                wrong.append(f"{file.relative_to(PACKAGE)} imports {imported}")
    assert not wrong


def test_every_module_has_a_floor():
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    there -= {"__init__", "__pycache__", "weights"}
    assert there == set().union(*FLOORS)


def test_only_axis_and_mesh_know_of_devices():
    words = ("pmean", "axis_name=", "device_count", "process_index")
    for file in PACKAGE.rglob("*.py"):
        if file.stem not in ("axis", "mesh", "norms", "processes"):
            text = file.read_text()
            assert not [word for word in words if word in text], file


def _imports(file: Path) -> set[str]:
    """The modules of gaxn, by their first name, that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        parts = [name.split(".") for name in names if name.startswith("gaxn.")]
        found |= {part[1] for part in parts}
    return found - {"__init__"}
