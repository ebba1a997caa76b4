"""docs/configs.md is made from the code, and has every field that a config may have."""

import dataclasses
import inspect
import re
import runpy
import sys
from pathlib import Path

import pytest

from gaxn import config as configs
from gaxn.data import folder, unpaired
from gaxn.evaluation.plan import make_plan
from gaxn.experiment.settings import RunOptions, Settings, defaults_of
from gaxn.gans import cyclegan
from gaxn.labs import attention
from gaxn.models import sagan_resnet
from gaxn.objectives.losses import hinge
from gaxn.objectives.objective import make_objective
from gaxn.objectives.penalties import dragan
from gaxn.objectives.regularizers import bcr
from gaxn.training.growing import GrowingOptions

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs" / "write_configs.py"
PAGE = (ROOT / "docs" / "configs.md").read_text()
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.py") if path.stem != "common")

ROW = re.compile(r"(?m)^\| `([\w.]+)` \| (.+) \| (.+) \| (.+) \|$")
FIELDS = {field for field, *_ in ROW.findall(PAGE)}

FLAX = {"parent", "name"}
NETWORK = {*FLAX, "size", "channels", "classes", "dtype", "growing"}
GAN = {*FLAX, "generator", "discriminator", "objective", "conditional", "size"}

SECTIONS = {
    "## `config`": ("", Settings, set()),
    "## `config.run`": ("run.", RunOptions, set()),
    "## `config.growing`": ("growing.", GrowingOptions, set()),
    "### `folder`": ("data.", folder.Source, {"split"}),
    "### `unpaired`": ("data.", unpaired.Source, {"split"}),
    "### `cyclegan.CycleGAN`": ("gan.", cyclegan.CycleGAN, GAN),
    "### `sagan_resnet.Generator`": ("generator.", sagan_resnet.Generator, NETWORK),
    "### `sagan_resnet.Discriminator`": ("discriminator.", sagan_resnet.Discriminator, NETWORK),
    "### `hinge`": ("loss.", hinge, set()),
    "### `dragan`": ("penalties.dragan.", dragan, set()),
    "### `bcr`": ("regularizers.bcr.", bcr, set()),
    "## `config.objective`": ("objective.", make_objective, set()),
    "## `config.evaluation`": ("evaluation.", make_plan, set()),
    "### `attention`": ("", attention.Lab, set()),
}
"""Place, constructor, and parameters that no config sets, by heading."""


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


def test_the_script_writes_the_page(tmp_path, monkeypatch):
    path = tmp_path / "configs.md"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert path.read_text() == PAGE, "run python docs/write_configs.py"


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_has_every_parameter(heading):
    place, make, derived = SECTIONS[heading]
    parameters = inspect.signature(make).parameters.values()
    # The other parameters of such a function are made from other parts of the config.
    keyword_only = [item for item in parameters if item.kind is item.KEYWORD_ONLY]
    if keyword_only and inspect.isfunction(make):
        parameters = keyword_only
    is_required = {
        f"{place}{item.name}": item.default is item.empty
        for item in parameters
        if item.name not in derived
    }
    section = PAGE.partition(f"\n{heading}\n")[2].partition("\n#")[0]
    rows = ROW.findall(section)
    assert section
    assert {field: default == "*required*" for field, _, default, _ in rows} == is_required


@pytest.mark.parametrize("file", CONFIGS, ids=lambda path: path.stem)
def test_the_page_has_every_field_of_a_config(file):
    config = configs.parse(["gaxn", f"--config={file}"], defaults_of).config.to_dict()
    for player in config.get("optimizers", {}).values():
        for parameter_of_optax in {"name", "b1", "b2"} & player.keys():
            del player[parameter_of_optax]
    names, fields = _names_and_fields(config)
    assert len(fields) >= 15
    assert not [name for name in names if f"\n### `{name}`\n" not in PAGE]
    assert not fields - FIELDS


def _names_and_fields(config, place=""):
    """Returns the names of parts in a config, and its fields, which may hold others."""
    names, fields = set(), set()
    for name, value in config.items():
        field = re.sub(r"^optimizers\.\w+", "optimizers.PLAYER", f"{place}{name}")
        if name in ("name", "lab"):
            names.add(value)
        elif isinstance(value, dict) and any(known.startswith(f"{field}.") for known in FIELDS):
            inner_names, inner_fields = _names_and_fields(value, f"{field}.")
            names |= inner_names
            fields |= inner_fields
        else:
            fields.add(field)
    return names, fields


def test_every_field_has_a_type_in_plain_words():
    kinds = {kind for _, kind, _, _ in ROW.findall(PAGE)}
    words = (
        "tuples? of|whole numbers?|number pairs|numbers?|texts?|true or false|dict|None|schedule|or"
    )
    assert "tuple of tuples of numbers" in kinds
    assert not [kind for kind in kinds if not re.fullmatch(rf"(({words})( |$))+", kind)]


def test_a_field_without_a_meaning_is_an_error(script):
    def damping(strength: float, until: int) -> None:
        """Damps.

        Args:
            strength: of the damping.
        """

    with pytest.raises(SystemExit, match=r"damping does not say what until is"):
        script["make_rows"](damping, "damping")


def test_a_type_without_words_is_an_error(script):
    def damping(strength: complex) -> None:
        """Damps.

        Args:
            strength: of the damping.
        """

    with pytest.raises(SystemExit, match=r"no words for <class 'complex'>"):
        script["make_rows"](damping, "damping")


def test_the_rows_of_a_constructor(script):
    @dataclasses.dataclass
    class Base:
        """A base.

        Attributes:
            centers: of the base.
            steps: from the base,
                or: a|b.
        """

        centers: tuple[tuple[float, ...], ...]
        steps: int = 10_000

    @dataclasses.dataclass
    class Part(Base):
        """A part.

        Attributes:
            centers, label: of the part.

        Example:
            steps: no meaning.
        """

        label: str | None = None
        options: dict = dataclasses.field(default_factory=lambda: {"name": "x"})

    class Options:
        """Attributes of others.

        Attributes:
            options: of the options.
        """

    rows = script["make_rows"](Part, "part", Options)
    assert rows == [
        ("`part.centers`", "tuple of tuples of numbers", "*required*", "of the part."),
        ("`part.steps`", "whole number", "`10_000`", "from the base, or: a|b."),
        ("`part.label`", "text or None", "`None`", "of the part."),
        ("`part.options`", "dict", '`{"name": "x"}`', "of the options."),
    ]
    assert r"| from the base, or: a\|b. |" in script["format_table"](rows)
