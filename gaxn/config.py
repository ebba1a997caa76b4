"""Configs: variants, names and fields checked against the code, and the command line.

A name in a config is a name in a module, and the signature of the constructor that it names is the
schema of the fields beside it.
"""

import ast
import contextlib
import dataclasses
import difflib
import importlib
import inspect
import math
import os
import pkgutil
import re
import site
import sys
import sysconfig
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from absl import flags
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict, config_flags
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from gaxn.distributed.multihost import Cluster
from gaxn.io import files, provenance, run_directory
from gaxn.types import InputError, check

RENAMED = {
    "steps": "num_train_steps",
    "batch": "batch_size",
    "critic_turns": "discriminator_steps",
    "generator_turns": "generator_steps",
    "accumulate": "accumulation_steps",
    "updates": "update_rule",
    "game": "gan",
    "latent": "latent_size",
    "every": "interval",
    "memorisation": "memorization",
    "centres": "centers",
}
"""Fields of version 0.1 and their names since."""

COMPARE, REPORT, TRAIN = "compare", "report", "train"
"""The mode of several runs, that of the files of a run alone, and the one that needs a config."""

USAGE = (
    "python -m gaxn.main --config configs/NAME.py[:VARIANT] [--workdir DIR] [--mode MODE] "
    "[--config.FIELD=VALUE ...]; or python -m gaxn.main --workdir DIR --mode MODE for a run there"
)
LISTS = ("captions",)
"""Flags with several values, one after another."""

SEPARATOR = "\n"
"""Between the values of such a flag."""

COMPARE_USAGE = f"python -m gaxn.main --mode {COMPARE} RUN RUN [RUN ...] [--workdir DIR]"

HELP = """\
--config   a config file, or the name of one of gaxn's; :VARIANT is one of its smaller or larger
           forms, such as :tiny
--workdir  the directory of the run; default: runs/NAME, or runs/compare
--mode     train (the default), evaluate, sample, generate, export, describe, classifier,
           interpolate (from latents) or translate (between domains); or report (writes
           report.html of --workdir anew) or compare
--coordinator HOST:PORT, --processes N, --process I  this is process I of N, if no scheduler
           (Slurm, Open MPI, Kubernetes, a TPU pod) says so
--config.FIELD=VALUE  sets a field of the config
--nocompilation_cache  compiles every program again; by default they are kept in GAXN_CACHE/xla

--mode generate takes also
--count      seeds 0 to N - 1; or --seeds, such as 0-63 or 1,4,9
--labels     such as 3, or 0,1,2, or names of classes: every label for every seed
--captions   sentences, such as "a small red circle": every one for every seed
--truncation bound of a latent's absolute values, such as 0.7
--output     a folder of SEED.png or SEED_LABEL.png, or FILE.zip, or FILE.npz (arr_0, labels)
--class_folders  a folder per class
--real N     two folders, generated and real, the latter with N test images

--mode export takes also
--output     a folder for networks, a program without gaxn, a card and samples

--mode translate takes also
--input      an image, or a folder or a .zip of images
--output     the folder for their translations, NAME.png
--direction  a2b or b2a
--fit        whole (the default: any size, at once), tile (squares of the size of training,
             blended) or resize (the shorter side to that size, first)
--cycle      also NAME_cycle.png: the image, its translation, and the way back

--workdir of generate and export may be a run that is shipped, such as attn_cgan_mnist.
Images from elsewhere: gaxn evaluate --help (python -m gaxn.evaluation --help)"""

CONFIG_FOLDERS = (
    Path(__file__).parents[1] / "configs",
    Path(sysconfig.get_path("data")) / "share" / "gaxn" / "configs",
    Path(site.getuserbase()) / "share" / "gaxn" / "configs",
)
"""Where configs come with gaxn: in a clone, and in an installation."""

FLAGS = ("config", "workdir", "mode", "coordinator", "processes", "process")
SWITCHES = {"compilation_cache": True, "nocompilation_cache": False}


def with_variant(
    config: ConfigDict, variant: str, variants: Mapping[str, Mapping[str, Any]]
) -> ConfigDict:
    """Returns the config of `--config FILE:variant`: some fields are set anew.

    Several variants, joined by "+", are applied in turn.
    """
    for part in filter(None, variant.split("+")):
        check("the variant", part, part in variants, f"one of {nearest(part, variants)}")
        config.update(ConfigDict(variants[part]))
    return config


def resolve(home: str, name: Any, field: str, attribute: str = "", returns: Any = None) -> Any:
    """Returns what a name in a config means.

    Args:
        home: the module or folder of gaxn for such names, such as "models".
        name: "function" of a module; "module" or "module.attribute" of a folder; or
            "module:attribute" of a module from elsewhere, imported from the Python path or the
            working directory.
        field: the name's place in the config, for errors.
        attribute: appended to the name if every module of the folder has the same one.
        returns: the type that valid functions of a module return.

    Raises:
        InputError: there is no such thing; the message lists what there is, the nearest first.
    """
    check(field, name, isinstance(name, str), f"a name in gaxn/{home.replace('.', '/')}")
    if ":" in name:
        return _import_external(name, field)
    place = importlib.import_module(f"gaxn.{home}")
    if hasattr(place, "__path__"):
        module_name, _, rest = name.partition(".")
        attribute = rest or attribute
        known = [module.name for module in pkgutil.iter_modules(place.__path__) if not module.ispkg]
        if module_name not in known and attribute:
            modules = {name: importlib.import_module(f"{place.__name__}.{name}") for name in known}
            known = [name for name, module in modules.items() if hasattr(module, attribute)]
        expected = f"one of {nearest(module_name, known)} (or module:attribute)"
        check(field, name, module_name in known, expected)
        place = importlib.import_module(f"{place.__name__}.{module_name}")
        if not attribute:
            return place
    known = _definitions(place, returns)
    name = attribute or name
    expected = f"one of {nearest(name, known)} of {place.__name__} (or module:attribute)"
    check(field, name, name in known, expected)
    return getattr(place, name)


def _definitions(module: ModuleType, returns: Any) -> list[str]:
    """Returns the public names that a module defines: with `returns`, functions of that type."""
    names = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
    if returns is None:
        return names
    functions = [name for name in names if inspect.isfunction(getattr(module, name))]
    return [
        name
        for name in functions
        if typing.get_type_hints(getattr(module, name)).get("return") == returns
    ]


def _import_external(name: str, field: str) -> Any:
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name not in (module_name, module_name.partition(".")[0]):
            raise
        raise InputError(
            f"{field} must be module:attribute of a module on the Python path or in the working "
            f"directory, got {name!r}"
        ) from None
    known = [item for item in vars(module) if not item.startswith("_")]
    check(field, name, attribute in known, f"one of {nearest(attribute, known)} of {module_name}")
    return getattr(module, attribute)


def instantiate(
    home: str,
    spec: Mapping[str, Any],
    field: str,
    attribute: str = "",
    returns: Any = None,
    **derived: Any,
) -> Any:
    """Calls what `spec["name"]` names with the rest of the spec.

    Args:
        home, attribute, returns: as in `resolve`.
        spec: a name and fields.
        field: the spec's place in the config.
        derived: values that do not come from the config; a constructor gets those that it has
            parameters for.

    Raises:
        InputError: the name or a field is wrong.
    """
    make = resolve(home, spec.get("name"), f"{field}.name", attribute, returns)
    part = bind(make, {k: v for k, v in spec.items() if k != "name"}, field, **derived)
    return check_part(part, returns, f"{field}.name")


def check_part(part: Any, returns: Any, field: str) -> Any:
    """Returns what a constructor made, if it is of the type that the field needs."""
    valid = isinstance(part, returns) if inspect.isclass(returns) else True
    check(field, type(part).__name__, valid, f"a function that returns a {_type_name(returns)}")
    return part


def bind(make: Callable, spec: Mapping[str, Any], field: str, **derived: Any) -> Any:
    """Returns `make(**spec, **derived)`, after a check of the spec against the signature.

    Raises:
        InputError: a field of the spec is unknown, missing, of another type or out of range.
    """
    parameters = inspect.signature(make).parameters
    derived = {name: value for name, value in derived.items() if name in parameters}
    free = {
        name: item
        for name, item in parameters.items()
        if name not in derived and item.kind is not item.VAR_KEYWORD and name not in _FLAX_FIELDS
    }
    hints = _type_hints(make)
    values = {name: _widen(value, hints.get(name)) for name, value in spec.items()}
    for name, value in values.items():
        if name not in free:
            check_renamed(field, name, free)
            raise InputError(f"{field}.{name} is unknown; {field} takes {nearest(name, free)}")
        if name in hints and not _has_type(value, hints[name]):
            raise InputError(f"{field}.{name} must be {_type_name(hints[name])}, got {value!r}")
    for name, item in free.items():
        if item.default is item.empty and name not in values:
            expected = f"; it must be {_type_name(hints[name])}" if name in hints else ""
            raise InputError(f"{field}.{name} is missing{expected}")
    with error_path(field, free):
        return make(**values, **derived)


def _type_hints(make: Callable) -> dict[str, Any]:
    """Returns the types of parameters; none of a function of a library that cannot be resolved."""
    try:
        return typing.get_type_hints(make)
    except (NameError, TypeError):
        # optax imports some types for type checkers only, and has partial functions.
        return {}


def check_renamed(field: str, name: str, known: Iterable[str]) -> None:
    """Raises an InputError if a field has an old name, with the new one."""
    if RENAMED.get(name) in known:
        raise InputError(f"{field}.{name} is called {field}.{RENAMED[name]} since gaxn 0.2")


@contextlib.contextmanager
def error_path(field: str, names: Iterable[str]) -> Iterator[None]:
    """Prefixes InputErrors about some names with the field that they belong to."""
    try:
        yield
    except InputError as error:
        is_of_field = re.split("[ .]", str(error))[0] in names
        raise InputError(f"{field}.{error}" if is_of_field else str(error)) from None


_FLAX_FIELDS = ("parent", "name")


def defaults(make: Callable) -> dict[str, Any]:
    """Returns the parameters of a constructor that a config may leave out, with their defaults."""
    factories = {
        field.name: field.default_factory
        for field in (dataclasses.fields(make) if dataclasses.is_dataclass(make) else ())
        if field.default_factory is not dataclasses.MISSING
    }
    parameters = inspect.signature(make).parameters.items()
    return {
        name: factories[name]() if name in factories else item.default
        for name, item in parameters
        if item.default is not item.empty and name not in _FLAX_FIELDS
    }


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Returns all known names, those that look most like the wrong one first."""
    close = difflib.get_close_matches(wrong, known, n=3, cutoff=0.5)
    return ", ".join([*close, *sorted(set(known) - set(close))]) or "nothing"


def _has_type(value: Any, hint: Any) -> bool:
    try:
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError:
        return False
    return True


def _widen(value: Any, hint: Any) -> Any:
    """Returns lists as tuples, and an int as a float if the field is a float."""
    if isinstance(value, list):
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _type_name(hint: Any) -> str:
    return hint.__name__ if inspect.isclass(hint) and not typing.get_args(hint) else str(hint)


class Arguments(NamedTuple):
    """A parsed command line.

    Attributes:
        name: of the config file, without folder and ending.
        config: with its overrides; None if runs are compared.
        workdir: the directory of the run, or of the comparison.
        mode: the command for the run there.
        runs: the directories to compare.
        options: flags of single commands, as text.
        cluster: this process's place among others, if given.
        compilation_cache: whether compiled programs are kept for the next start.
        origin: command, first line and overridden fields of the config, see `origin_of`.
    """

    name: str
    config: ConfigDict | None
    workdir: Path
    mode: str
    runs: tuple[Path, ...] = ()
    options: Mapping[str, str] = {}
    cluster: Cluster = Cluster()
    compilation_cache: bool = True
    origin: Mapping[str, Any] = {}


DefaultsOf = Callable[[ConfigDict, Sequence[str]], Mapping[str, Any]]


def parse(argv: Sequence[str], defaults_of: DefaultsOf) -> Arguments:
    """Reads a command line, `argv[0]` being the program.

    Args:
        argv: the command line.
        defaults_of: (config, path of a field that holds fields) -> the fields that may be left
            out there, with their defaults.

    Raises:
        InputError: it cannot be understood.
    """
    given, options, words = _split(argv[1:])
    overrides = {
        k.removeprefix("config."): v for k, v in options.items() if k.startswith("config.")
    }
    options = {name: text for name, text in options.items() if not name.startswith("config.")}
    mode = given.get("mode", TRAIN)
    check("--workdir", given.get("workdir"), given.get("workdir") != "", "a directory")
    if mode == COMPARE:
        surplus = [*options, *(f"config.{name}" for name in overrides)]
        surplus += ["config"] * ("config" in given)
        if surplus:
            raise InputError(f"--mode {COMPARE} takes no --{surplus[0]}; usage: {COMPARE_USAGE}")
        expected = f"2 or more (usage: {COMPARE_USAGE})"
        check(f"the number of runs of --mode {COMPARE}", len(words), len(words) >= 2, expected)
        workdir = files.expand(given.get("workdir", f"runs/{COMPARE}"))
        return Arguments(COMPARE, None, workdir, COMPARE, tuple(map(files.expand, words)))
    if words:
        raise InputError(f"{words[0]!r} is not understood; usage: {USAGE}")
    if mode == REPORT:
        surplus = [*options, *(f"config.{name}" for name in overrides), *given.keys() & {"config"}]
        for name in surplus:
            raise InputError(f"--mode {REPORT} takes no --{name}, only --workdir")
        expected = f"the directory of a run with --mode {REPORT}"
        check("--workdir", given.get("workdir"), bool(given.get("workdir")), expected)
        return Arguments(REPORT, None, files.expand(given["workdir"]), REPORT)
    if "config" not in given and mode != TRAIN and "workdir" in given:
        name, config = read_config(files.expand(given["workdir"]))
    else:
        if not given.get("config"):
            raise InputError(f"--config is missing; usage: {USAGE}")
        name, config = load_config(given["config"])
    before = config.to_dict()
    for path, text in overrides.items():
        _override(config, path, text, defaults_of)
    origin = origin_of(given["config"], before, config) if given.get("config") else {}
    return Arguments(
        name,
        config,
        files.expand(given.get("workdir", f"runs/{name}")),
        mode,
        (),
        options,
        Cluster(
            given.get("coordinator", ""),
            _integer("processes", given.get("processes", "0")),
            _integer("process", given.get("process", "-1")),
        ),
        given.get("compilation_cache", True),
        origin,
    )


def _split(argv: Sequence[str]) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Splits a command line into its own flags, all other flags, and words."""
    given: dict[str, Any] = {}
    options: dict[str, str] = {}
    words: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        match = re.fullmatch(r"--?([A-Za-z][\w.\-]*)(?:=(.*))?", argument, re.DOTALL)
        if not match:
            words.append(argument)
            continue
        name, value = match.groups()
        if name in SWITCHES and value is None:
            given["compilation_cache"] = SWITCHES[name]
            continue
        if value is None and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        if value is None and (name in FLAGS or name.startswith("config.")):
            raise InputError(f"--{name} needs a value; usage: {USAGE}")
        if name in FLAGS:
            given[name] = value
        elif name in LISTS:
            items = [value] if value is not None else []
            while rest and not rest[0].startswith("--"):
                items.append(rest.pop(0))
            options[name] = SEPARATOR.join(
                [*options.get(name, "").split(SEPARATOR), *items]
            ).strip()
        else:
            # The last of several counts, at its place among the others.
            options.pop(name, None)
            options[name] = "true" if value is None else value
    return given, options, words


def _integer(flag: str, text: str) -> int:
    check(f"--{flag}", text, bool(re.fullmatch(r"-?\d+", text)), "an integer")
    return int(text)


def check_finite(fields: Mapping[str, Any]) -> None:
    """Raises an InputError if a field of a config is infinite or NaN, which JSON cannot hold."""

    def is_finite(value: Any) -> bool:
        if isinstance(value, Sequence) and not isinstance(value, str):
            return all(map(is_finite, value))
        return not isinstance(value, float) or math.isfinite(value)

    for path, value in flatten_dict(fields, sep=".").items():
        check(f"config.{path}", value, is_finite(value), "a finite number")


def read_config(workdir: Path) -> tuple[str, ConfigDict]:
    """Returns the name and the config of the run in a directory."""
    record = run_directory.read_run_record(workdir)
    return record.get("name", workdir.resolve().name), ConfigDict(as_tuples(record["config"]))


def as_tuples(value: Any) -> Any:
    """Returns a value from JSON or Python with tuples for lists, and text for paths."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {name: as_tuples(item) for name, item in value.items()}
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def load_config(path: str) -> tuple[str, ConfigDict]:
    """Returns the name and the config of a config file.

    Args:
        path: "FILE.py" or "NAME", a config that comes with gaxn; ":VARIANT" after it.

    Raises:
        InputError: there is no such file or variant, or the file fails.
    """
    place, variant = _split_variant(path)
    file = _find_config_file(place)
    values = flags.FlagValues()
    argv = ["gaxn", f"--config={file}:{variant}" if variant else f"--config={file}"]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    # A config file may import another beside it, or `common` of gaxn's; a later one of another
    # folder, its own.
    folder, loaded = str(file.resolve().parent), set(sys.modules)
    folders = [folder, *map(str, CONFIG_FOLDERS)]
    sys.path[:0] = folders
    try:
        values(argv)
        config = values.config
        config.to_dict()
        config.unlock()
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001
        # The message of ml_collections may be a whole traceback, which ends with the mistake.
        reason = str(error).strip().rpartition("\n")[2]
        raise InputError(f"--config {path}: {type(error).__name__}: {reason}") from None
    finally:
        del sys.path[: len(folders)]
        for name in sys.modules.keys() - loaded:
            if str(Path(getattr(sys.modules[name], "__file__", None) or "/").parent) in folders:
                del sys.modules[name]
    return file.stem, config


def origin_of(path: str, before: Mapping[str, Any], config: ConfigDict) -> dict[str, Any]:
    """Returns how a config came about from a file, see `gaxn.io.provenance.origin`.

    Args:
        path: of the file, as for `load_config`.
        before: the fields that the file gives.
        config: the config with its overrides.
    """
    place, variant = _split_variant(path)
    return provenance.origin(place, variant, _find_config_file(place), before, config.to_dict())


def _split_variant(path: str) -> tuple[str, str]:
    place, _, variant = re.fullmatch(r"(.*?)(:([^:/]*))?", path, re.DOTALL).groups(default="")
    return place, variant


def _find_config_file(place: str) -> Path:
    """Returns the path of a config file; one that comes with gaxn may be given by its name."""
    file = files.expand(place)
    if file.is_file():
        return file
    shipped = {
        path.stem: path
        for folder in CONFIG_FOLDERS
        for path in sorted(folder.glob("*.py"))
        if path.stem not in ("__init__", "common")
    }
    is_name = file.parent.name in ("", "configs") and not file.is_absolute()
    if is_name and file.name.removesuffix(".py") in shipped:
        return shipped[file.name.removesuffix(".py")]
    known = nearest(file.stem, shipped)
    expected = f"the path of a config file, or one of {known}"
    check("--config", place, False, expected)


def set_field(config: ConfigDict, path: str, value: Any, defaults_of: DefaultsOf) -> None:
    """Sets a field of a config, such as "optimizers.generator.learning_rate", to a value.

    Raises:
        InputError: there is no such field, or it has another type.
    """
    section, last = _find_section(config, path, defaults_of)
    if isinstance(value, Mapping):
        value = ConfigDict(as_tuples(dict(value)))
        with section.ignore_type():
            section[last] = value
        return
    if _changes_type(section, last, value):
        return
    try:
        section[last] = as_tuples(value)
    except TypeError:
        expected = f"a value of type {type(section[last]).__name__}"
        check(f"config.{path}", value, False, expected)


def _override(config: ConfigDict, path: str, text: str, defaults_of: DefaultsOf) -> None:
    """Sets a field to the value of a text, in the type that the field has."""
    section, last = _find_section(config, path, defaults_of)
    # A TypeError is that of a set of dicts: doubled braces.
    with contextlib.suppress(ValueError, SyntaxError, TypeError):
        value = ast.literal_eval(text)
        if _changes_type(section, last, value):
            return
    values = flags.FlagValues()
    argv = ["gaxn", f"--value.{last}={text}"]
    # Locked, the config would take no further optional field.
    config_flags.DEFINE_config_dict(
        "value", section, lock_config=False, flag_values=values, sys_argv=argv
    )
    try:
        values(argv)
    except (flags.Error, TypeError, ValueError):
        expected = f"a value of type {type(section[last]).__name__}"
        raise InputError(f"config.{path} must be {expected}, got {text!r}") from None


def _find_section(config: ConfigDict, path: str, defaults_of: DefaultsOf) -> tuple[ConfigDict, str]:
    """Returns the dict that has a field, which gets its default if absent, and its last name."""
    root = config
    *parents, last = path.split(".")
    for index, name in enumerate([*parents, last]):
        place = ".".join(["config", *parents[:index]])
        known = config.to_dict() if isinstance(config, ConfigDict) else {}
        if isinstance(config, ConfigDict) and name not in config:
            optional = defaults_of(root, parents[:index])
            known = {**optional, **known}
            if name in optional:
                config[name] = optional[name]
        if not isinstance(config, ConfigDict) or name not in config:
            check_renamed(place, name, known)
            raise InputError(f"config.{path} is unknown; {place} has {nearest(name, known)}")
        if index < len(parents):
            config = config[name]
    return config, last


def _changes_type(config: ConfigDict, name: str, value: Any) -> bool:
    """Sets a field to a value of another type that it may have; returns whether it did.

    A number takes the place of a schedule and the reverse, and a fraction that of a whole number,
    which may be the value of a float's field.
    """
    before = config[name]
    is_number, was_number = (
        isinstance(each, int | float) and not isinstance(each, bool) for each in (value, before)
    )
    to_number = is_number and isinstance(before, ConfigDict) and "points" in before
    to_fraction = isinstance(value, float) and type(before) is int
    to_schedule = was_number and isinstance(value, dict)
    changes = to_number or to_fraction or to_schedule
    if changes:
        with config.ignore_type():
            config[name] = ConfigDict(value) if to_schedule else float(value)
    return changes
