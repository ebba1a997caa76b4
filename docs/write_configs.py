"""Writes configs.md: every field that a config may have, its type, default and meaning.

    python docs/write_configs.py [FILE.md]

Names, types and defaults come from the signatures by which gaxn/config.py checks a config, and
meanings from docstrings; a field without a meaning is an error.
"""

import importlib
import inspect
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from gaxn import data, features, gans, labs, metrics, models
from gaxn.config import _FLAX_FIELDS, _definitions, defaults
from gaxn.evaluation.plan import make_plan
from gaxn.evaluation.sampling import SamplingOptions
from gaxn.experiment.settings import RunOptions, Settings
from gaxn.features import text as text_encoders
from gaxn.objectives import augmentations, losses, penalties, regularizers, schedules
from gaxn.objectives.objective import Objective, make_objective
from gaxn.training import update_rules
from gaxn.training.fine_tuning import StartOptions
from gaxn.training.growing import GrowingOptions
from gaxn.training.optimizers import with_constraints

ROOT = Path(__file__).parents[1]

DERIVED = {
    "gaxn.data": {"split"},
    "gaxn.features.text": {"train", "test", "run_folder"},
    "gaxn.gans": {"generator", "discriminator", "objective", "conditional", "size", "growing"},
    "gaxn.models": {"size", "channels", "classes", "features", "dtype", "growing"},
    "gaxn.objectives.objective": {"loss", "penalties", "regularizers", "augmentations"},
    "gaxn.evaluation.plan": {"train", "test", "conditional", "hooks", "initial_state"},
    "gaxn.training.optimizers": {"optimizer"},
}
"""Parameters, by module or folder, that follow from other fields of a config or from the data."""

TYPES = {bool: "true or false", dict: "dict", float: "number", int: "whole number", str: "text"}
TYPES |= {types.NoneType: "None", Sequence[augmentations.Augmentation]: "dict"}
TYPES |= {regularizers.ImageFeatures: "dict"}
TYPES |= {schedules.Schedule: "schedule", tuple[float, float]: "number pair"}

OPTIMIZER = [
    ("`optimizers.PLAYER.name`", "text", "*required*", "an optimizer of optax."),
    (
        "`optimizers.PLAYER.learning_rate`",
        "number or schedule",
        "*required*",
        "its learning rate, above 0; the last value of a schedule may be 0.",
    ),
]
"""Fields that `make_optimizer` in gaxn/experiment/optimizers.py takes for any optimizer."""


def make_page() -> str:
    """Returns the page: an outline, whose tables come from the code."""
    return f"""\
# Every field of a config

A config file is a Python file with a function `get_config(variant)` that returns a `ConfigDict`.
[configs/common.py](../configs/common.py) has the blocks that configs share: the start of a GAN,
Adam for both players, the intervals of a run. Variants are named after a colon, joined by "+" and
applied in turn: `--config configs/ring.py:pacgan2+short`. On the command line,
`--config.FIELD=VALUE` sets a field, also one within another (`--config.data.size=64`) and one that
the file leaves out. Tuples and dicts are in quotes: `--config.generator.widths="(128, 64)"`,
`--config.penalties="{{'r1': {{'weight': 0.5}}}}"`; a dict replaces that of the file. A dict with a
`name` stands for a part of gaxn, whose options are its other fields; a name with a colon, such as
`"my_networks:Generator"`, is "module:attribute", a part from elsewhere
([extending.md](extending.md)). A *required* field has no default. `config.json` of a run has
the fields that were given, and the defaults of `config` itself, `config.evaluation`,
`config.growing`, `config.objective`, `config.run` and `config.start`; the defaults of parts are
those of the version that it names. `python docs/write_configs.py` makes this page from signatures
and docstrings.

## `config`

Each dict has a section below. {describe(Settings, "")}
## `config.run`

{describe(RunOptions, "run")}
## `config.growing`

Progressive growing of the networks of `sagan` and `sagan_resnet` (Karras et al., 2018): they begin
at a low resolution, and the layers of each further one fade in. Samples always have the last one.
{describe(GrowingOptions, "growing")}
## `config.start`

Fine-tuning; [python.md](python.md#fine-tuning) has examples.
{describe(StartOptions, "start")}
## `config.data`

The data set; its `name` is one of these headings. [data.md](data.md) has examples.
{subsections(classes(data, "Source", "{0}"), "data")}
## `config.text`

The encoder of captions, which then take the place of labels; `{{}}` for labels. Its `name` is one
of these headings. [sentences.md](sentences.md) has examples.
{subsections(loaders(text_encoders), "text")}
## `config.gan`

The kind of GAN; its `name` is one of these headings.
{subsections(classes(gans, "GAN", "{0}.{1}"), "gan")}
## `config.generator`

The generator; its `name` is one of these headings. Height, width, channels and the number of
classes follow from the data.
{subsections(classes(models, "Generator", "{0}.{1}"), "generator")}
## `config.discriminator`

The discriminator; its `name` is one of these headings.
{subsections(classes(models, "Discriminator", "{0}.{1}"), "discriminator")}
## `config.networks`

Further networks by name, each a dict like `config.generator`, for a GAN that has more than those
two. The GANs of gaxn have no others; [extending.md](extending.md) shows one with an encoder.

## `config.loss`

The adversarial loss of both players; its `name` is one of these headings.
{subsections(functions(losses, losses.Loss), "loss")}
## `config.penalties`

Gradient penalties of the discriminator: a dict of fields by each penalty's name, such as
`{{"r1": {{"weight": 0.5}}}}`. The names are these headings.
{subsections(functions(penalties, penalties.Penalty), "penalties.{}", penalties.Penalty)}
## `config.regularizers`

Further terms of the losses: a dict of fields by each regularizer's name. The names are these
headings.
{subsections(functions(regularizers, Callable[[], regularizers.Regularizer]), "regularizers.{}")}
## Extractors

The `extractor` of the regularizer `perceptual` is a dict; its `name` is one of these headings. Of a
CycleGAN, that regularizer is a distance of images from their cycle and identity, beside the mean
absolute differences of `gan.cycle` and `gan.identity`, or in their place if these are 0; with `vgg`
it is LPIPS. Of any other GAN it compares means and variances of the features of generated and of
real images.
{subsections(loaders(features), "EXTRACTOR")}
## `config.augmentations`

Random changes of all images that the discriminator sees: a dict of fields by each one's name, in
the order in which they are applied. The names are these headings.
{subsections(functions(augmentations, augmentations.Augmentation), "augmentations.{}")}
## `config.objective`

Packing, top-k training and adaptive augmentation.
{describe(make_objective, "objective", Objective)}
## `config.update_rule`

The order of the players' updates; its `name` is one of these headings. All but `alternating` need
one update per player (`discriminator_steps` and `generator_steps` of 1). `extragradient`,
`consensus` and `unrolled` evaluate losses several times, so a CycleGAN needs `gan.history=0` there;
`unrolled` needs two players, `accumulation_steps=1`, and an `eps_root` above 0 of an Adam of the
discriminator, whose update it differentiates.
{subsections(functions(update_rules, update_rules.UpdateRule), "update_rule")}
## `config.optimizers`

A dict of fields by player: PLAYER is `generator`, `discriminator` or a further player of the GAN.
Its `name` is an optimizer of
[optax](https://optax.readthedocs.io/en/latest/api/optimizers.html), whose parameters are fields
too, such as `b1` and `b2` of `adam`; each number may be a schedule.

{format_table(OPTIMIZER + make_rows(with_constraints, "optimizers.PLAYER"))}
## Schedules

Each number of an optimizer (its learning rate, Adam's `b1`, ...), the weight of a penalty or of a
term of a CycleGAN, `ema_decay`, `ema_halflife_kimg` and `objective.augmentation_probability` may be
a dict in place of a number, such as
`{{"name": "linear", "points": ((0.25, 2e-3), (1.0, 1e-4))}}`: 0.002 for the first quarter of the
run, then a line to 0.0001 at its end. A value does not change before the first point and after the
last one. A schedule in shares of the run fixes its length: `num_train_steps` may then not be
changed when a run goes on. One in `kimg` counts real images of one player's updates, and does not.
A flag may put a number in place of a schedule, and a schedule in place of a number.
{subsections(functions(schedules, schedules.RelativeSchedule), "SCHEDULE")}
## `config.evaluation`

What is evaluated, and when.
{describe(make_plan, "evaluation", SamplingOptions)}
Metrics are {", ".join(f"`{name}`" for name in modules(metrics))};
[evaluation.md](evaluation.md) explains their figures.

## `config` of a lab

A lab is an experiment without a GAN. Its config has the field `lab`, one of these headings, and the
fields of that lab instead of those above.
{subsections(classes(labs, "Lab", "{0}"), "")}"""


def modules(folder: ModuleType) -> dict[str, ModuleType]:
    """Returns the modules of a folder by name."""
    names = [item.name for item in pkgutil.iter_modules(folder.__path__) if not item.ispkg]
    return {name: importlib.import_module(f"{folder.__name__}.{name}") for name in names}


def classes(folder: ModuleType, ending: str, name: str) -> dict[str, type]:
    """Returns the classes of a folder whose names end so, by `name.format(module, class)`."""
    return {
        name.format(module_name, class_name): getattr(module, class_name)
        for module_name, module in modules(folder).items()
        for class_name in _definitions(module, None)
        if class_name.endswith(ending)
    }


def loaders(folder: ModuleType) -> dict[str, Callable]:
    """Returns the function `load` of each module of a folder that has one."""
    parts = modules(folder).items()
    return {name: module.load for name, module in parts if hasattr(module, "load")}


def functions(module: ModuleType, returns: Any) -> dict[str, Callable]:
    """Returns the functions of a module that return a type, by name."""
    return {name: getattr(module, name) for name in _definitions(module, returns)}


def subsections(parts: Mapping[str, Callable], place: str, documented: Any = None) -> str:
    """Returns a heading and a description for each part, at `place.format(name)` in a config."""
    text = ""
    for name, make in parts.items():
        about = f"{summarize(sys.modules[make.__module__])} " if inspect.isclass(make) else ""
        text += f"\n### `{name}`\n\n{about}{describe(make, place.format(name), documented)}"
    return text


def describe(make: Callable, place: str, documented: Any = None) -> str:
    """Returns the summary of a constructor, its file, and the table of its fields."""
    path = Path(inspect.getsourcefile(make)).relative_to(ROOT)
    table = format_table(make_rows(make, place, documented))
    return f"{summarize(make)} Defined in [{path}](../{path}).\n\n{table}"


def summarize(documented: Any) -> str:
    """Returns the first line of a docstring, a sentence."""
    return inspect.cleandoc(documented.__doc__).splitlines()[0].rstrip(".") + "."


def make_rows(make: Callable, place: str, documented: Any = None) -> list[tuple[str, ...]]:
    """Returns a row for each field that a constructor takes: field, type, default and meaning.

    Args:
        make: the constructor.
        place: of the fields in a config, such as "penalties.r1"; "" for the config itself.
        documented: a class whose docstring describes some of the fields.

    Raises:
        SystemExit: no docstring describes a field.
    """
    derived = [names for home, names in DERIVED.items() if make.__module__.startswith(home)]
    hints, optional = typing.get_type_hints(make), defaults(make)
    meanings = read_meanings(make) | read_meanings(documented)
    rows = []
    for name in inspect.signature(make).parameters:
        if any(name in names for names in (_FLAX_FIELDS, *derived)):
            continue
        if name not in meanings:
            where = f"{make.__module__}.{make.__qualname__}"
            raise SystemExit(f"the docstring of {where} does not say what {name} is")
        field, kind = f"{place}.{name}".lstrip("."), describe_type(hints[name])
        # Without a default in the signature, None is what `make_optimizer` passes.
        is_required = name not in optional and not kind.endswith("None")
        value = optional.get(name)
        text = f"{value:_}" if type(value) is int else repr(value).replace("'", '"')
        default = "*required*" if is_required else f"`{text}`"
        rows.append((f"`{field}`", kind, default, meanings[name]))
    return rows


def read_meanings(documented: Any) -> dict[str, str]:
    """Returns the entries of Args and Attributes in a docstring; a class has those of its bases."""
    meanings = {}
    for item in inspect.getmro(documented)[::-1] if inspect.isclass(documented) else [documented]:
        docstring = inspect.cleandoc(item.__doc__ or "")
        for section in re.findall(r"(?m)^(?:Args|Attributes):\n((?: {4}.+\n?)+)", docstring):
            for names, text in re.findall(r"(?m)^ {4}(\w[\w, ]*): (.+(?:\n {8}.+)*)", section):
                meanings |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return meanings


def describe_type(hint: Any, plural: bool = False) -> str:
    """Returns a type in plain words."""
    if hint in TYPES:
        return TYPES[hint] + "s" * plural
    items = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and items[1:] == (...,):
        return f"tuple{'s' * plural} of {describe_type(items[0], plural=True)}"
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(map(describe_type, items))
    raise SystemExit(f"TYPES in docs/write_configs.py has no words for {hint}")


def format_table(rows: Sequence[tuple[str, ...]]) -> str:
    """Returns a table of fields in Markdown; without rows, a line that says so."""
    lines = [("field", "type", "default", "meaning"), ("---",) * 4, *rows]
    cells = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells) if rows else "No fields.\n"


if __name__ == "__main__":
    Path(*sys.argv[1:] or [ROOT / "docs" / "configs.md"]).write_text(make_page())
