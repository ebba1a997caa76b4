"""The README and docs name what exists, and all that a config can name."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from test_floors import FLOORS

from gaxn import commands
from gaxn.evaluation.plan import make_plan

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
    if not path.name.endswith(".in.md")
)
PICTURES = sorted({*(ROOT / "docs").rglob("*.*"), *(ROOT / "benchmarks" / "results").glob("*.*")})


def _defined_names(file: Path) -> set[str]:
    """Returns the functions, classes, fields and assigned names of a Python file."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_exists(document):
    file = ROOT / document
    text = file.read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert not [link for link in links if not (file.parent / link).exists()]
    paths = re.findall(r"(?<![\w/.])(?:gaxn|tests|docs|configs|launch|benchmarks)/[\w./]+", text)
    paths = {path.rstrip(".") for path in paths} - {"configs/NAME.py"}
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_readme_is_short_and_links_every_page():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    pages = {page for page in pages if not page.endswith(".in.md")}
    assert not [page for page in pages if f"({page})" not in text]
    commands = re.findall(r"(?m)^(?:pip|python) .*", text)
    assert commands[0].startswith("pip install -e . && python -m gaxn.main --config configs/")


def test_pictures_are_small():
    pictures = [path for path in PICTURES if path.suffix in (".png", ".gif")]
    assert len(pictures) >= 5
    assert not [path for path in pictures if path.stat().st_size >= 1_000_000]


def test_every_function_that_the_architecture_names_exists():
    text = (ROOT / "docs" / "architecture.md").read_text()
    text = re.sub(r"(?s)\n\| floor \|.*?\n\n", "\n\n", text)
    rows = re.findall(r"(?m)^\| (`gaxn/.*?) \| (.*?) \|", text)
    assert len(rows) == 16
    for files, names in rows:
        paths = [ROOT / file for file in re.findall("`(.+?)`", files)]
        assert set(re.findall(r"`(\w+)`", names)) <= set().union(*map(_defined_names, paths))
    everywhere = set().union(*map(_defined_names, (ROOT / "gaxn").rglob("*.py")))
    libraries = {"jit", "pmap", "JAX_NUM_CPU_DEVICES"}
    assert not set(re.findall(r"`([A-Za-z_]\w*)`", text)) - everywhere - libraries


def test_the_architecture_has_the_floors_of_the_imports():
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"(?m)^\| (\d+) \| (.+?) \|", text)
    floors = {int(number): set(re.findall("`(.+?)`", rooms)) for number, rooms in rows}
    assert floors == dict(enumerate(FLOORS)), "docs/architecture.png may have to be drawn again"


def test_the_picture_of_the_floors_can_be_drawn(tmp_path):
    path = tmp_path / "architecture.png"
    command = [sys.executable, ROOT / "docs" / "draw_architecture.py", path, "--dpi=20"]
    subprocess.run(command, check=True, timeout=120)
    with Image.open(path) as small, Image.open(ROOT / "docs" / "architecture.png") as picture:
        assert small.width * 5 == pytest.approx(picture.width, abs=5)
    assert (ROOT / "docs" / "architecture.png").stat().st_size < 200_000


@pytest.mark.parametrize(
    ("module", "result"),
    [
        ("objectives.losses", "Loss"),
        ("objectives.penalties", "Penalty"),
        ("objectives.regularizers", "Callable[[], Regularizer]"),
        ("objectives.augmentations", "Augmentation"),
        ("training.update_rules", "UpdateRule"),
    ],
)
def test_the_documents_name_every_part_of_a_gan(module, result):
    file = ROOT / "gaxn" / f"{module.replace('.', '/')}.py"
    parts = [
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and node.returns is not None
        and ast.unparse(node.returns) == result
    ]
    assert len(parts) >= 4
    _assert_named(parts)


@pytest.mark.parametrize("folder", ["data", "metrics"])
def test_the_documents_name_every_file_of_a_folder(folder):
    package = importlib.import_module(f"gaxn.{folder}")
    no_parts = {"classes", "decoding", "file_tree", "image_preparation", "layouts"}
    no_parts |= {"emoji_pictures", "pipeline", "pixels"}
    modules = {item.name for item in pkgutil.iter_modules(package.__path__) if not item.ispkg}
    _assert_named(modules - no_parts)


def test_configs_modes_and_fields_of_an_evaluation_are_named():
    configs = {path.name for path in (ROOT / "configs").glob("*.py")} - {"common.py"}
    text = (ROOT / "README.md").read_text()
    assert not [name for name in configs if f"`{name}`" not in text]
    parameters = inspect.signature(make_plan).parameters.values()
    fields = {item.name for item in parameters if item.kind is item.KEYWORD_ONLY}
    modes = {*commands.COMMANDS, "interpolate", "translate", "compare"}
    _assert_named(fields | modes)


def _assert_named(names):
    text = "".join((ROOT / document).read_text() for document in DOCUMENTS)
    assert not [name for name in names if f"`{name}`" not in text]
