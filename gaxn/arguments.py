"""The command line: a config file, overrides of its fields, a directory and a mode.

One mode takes directories of runs instead of a config: COMPARE.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from gaxn import build, evaluations, parts, sinks
from gaxn.experiment import Experiment
from gaxn.fitting import FITS
from gaxn.processes import Cluster
from gaxn.schema import defaults, nearest
from gaxn.translation import DIRECTIONS
from gaxn.types import InputError

USAGE = (
    "python -m gaxn.main --config configs/NAME.py[:VARIANT] [--workdir DIR] [--mode MODE] "
    "[--config.FIELD=VALUE ...]; or python -m gaxn.main --workdir DIR --mode MODE of a run there"
)

COMPARE = "compare"

TRAIN = "train"
"""The mode that needs a config file; others can take the config of the run that is there."""

CLUSTER = (("coordinator", "coordinator"), ("processes", "count"), ("process", "index"))
"""Flags of a process among several, and the fields of `Cluster` that they are."""

OPTIONS = (
    ("input", Path),
    ("output", Path),
    ("direction", str),
    ("fit", str),
    ("cycle", bool),
)
"""Flags of some modes only, and what they are."""

COMPARE_USAGE = f"python -m gaxn.main --mode {COMPARE} RUN RUN [RUN ...] [--workdir DIR]"


HELP = """\
--config   a config file; :VARIANT is one of its smaller or larger forms, such as :tiny
--workdir  where all is written; default: runs/NAME, or runs/compare
--mode     train (the default), evaluate, sample, classifier, interpolate (from latents) or
           translate (between domains); or compare
--coordinator HOST:PORT, --processes N, --process I  this is process I of N, where no scheduler
           (Slurm, Open MPI, Kubernetes, a TPU pod) says so
--config.FIELD=VALUE  sets a field of the config; a wrong name is answered with those there are
--nocompilation_cache  compiles every program again; by default they are kept in GAXN_CACHE/xla

--mode translate takes also
--input      a picture, or a folder or a .zip of them
--output     the folder for their translations, NAME.png
--direction  a2b or b2a
--fit        whole (the default: any size, at once), tile (squares of the size that was trained,
             blended) or resize (the shorter side to that size, first)
--cycle      also NAME_cycle.png: the picture, its translation, and the way back

Images that others made: python -m gaxn.evaluate --help"""


class Arguments(NamedTuple):
    """What a command line says.

    Attributes:
        name: of the config file, without folder and ending.
        config: with its overrides; None where runs are compared.
        workdir: the directory of the run, or of the comparison.
        mode: what to do there.
        runs: the directories to compare; none in other modes.
        options: what only some modes take, if it is given.
        cluster: where this process is among others, if it is said.
        compilation_cache: whether compiled programs are kept for the next start.
    """

    name: str
    config: ConfigDict | None
    workdir: Path
    mode: str
    runs: tuple[Path, ...] = ()
    options: Mapping[str, Any] = MappingProxyType({})
    cluster: Cluster = Cluster()
    compilation_cache: bool = True


def parse(argv: Sequence[str], modes: Iterable[str]) -> Arguments:
    """Reads a command line, `argv[0]` being the program.

    Args:
        argv: the command line.
        modes: those that take a config.

    Raises:
        InputError: whatever is wrong with it.
    """
    plain = [argv[0]]
    overrides: dict[str, str] = {}
    rest = iter(argv[1:])
    for argument in rest:
        match = re.fullmatch(r"--?config\.([^=]+)(?:=(.*))?", argument, re.DOTALL)
        if match:
            value = match[2] if match[2] is not None else next(rest, "")
            overrides[match[1]] = value
        else:
            plain.append(argument)
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", help_string="Experiment.", flag_values=values, sys_argv=plain
    )
    flags.DEFINE_string("workdir", None, "Directory of the run.", flag_values=values)
    flags.DEFINE_enum("mode", TRAIN, [*modes, COMPARE], "What to do.", flag_values=values)
    flags.DEFINE_string("input", None, "Pictures to translate.", flag_values=values)
    flags.DEFINE_string("output", None, "The folder for them.", flag_values=values)
    flags.DEFINE_enum("direction", None, DIRECTIONS, "From where to where.", flag_values=values)
    flags.DEFINE_enum("fit", None, [*FITS], "For pictures of any size.", flag_values=values)
    flags.DEFINE_bool("cycle", None, "Whether the way back is drawn.", flag_values=values)
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.", flag_values=values)
    flags.DEFINE_integer("processes", None, "How many take part.", flag_values=values)
    flags.DEFINE_integer("process", None, "Which of them this is.", flag_values=values)
    flags.DEFINE_bool(
        "compilation_cache", True, "Whether compiled programs are kept.", flag_values=values
    )
    values.set_gnu_getopt(True)
    words = _words(values, plain)
    options = {name: make(values[name].value) for name, make in OPTIONS if values[name].present}
    if values.mode == COMPARE:
        return _comparison(values, words, [*options, *(f"config.{name}" for name in overrides)])
    if words:
        raise InputError(f"{words[0]!r} is not understood; usage: {USAGE}")
    if values["config"].value is None and values.mode != TRAIN and values.workdir:
        name, config = _of_run(Path(values.workdir))
    else:
        config = _load(values)
        file = values["config"].config_filename
        name = Path(re.sub(r":[^:/]*$", "", file)).stem
    # What a config leaves out can still be set here.
    if "lab" not in config:
        config = ConfigDict({**build.optional(), **config})
    constructors = (
        ("evaluation", evaluations.plan),
        ("objective", parts.make_objective),
        ("run", Experiment),
    )
    for field, make in constructors:
        if isinstance(config.get(field), ConfigDict):
            config[field] = {**defaults(make), **config[field]}
    for path, value in overrides.items():
        _override(config, path, value)
    workdir = Path(values.workdir or f"runs/{name}")
    said = {field: values[flag].value for flag, field in CLUSTER if values[flag].present}
    return Arguments(
        name,
        config,
        workdir,
        values.mode,
        (),
        options,
        Cluster(**said),
        values.compilation_cache,
    )


def _words(values: flags.FlagValues, argv: list[str]) -> list[str]:
    """Sets the flags; returns what is none."""
    try:
        return values(argv)[1:]
    except flags.Error as error:
        raise InputError(" ".join(str(error).split())) from None
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001
        raise InputError(f"--config: {type(error).__name__}: {str(error).strip()}") from None


def _comparison(values: flags.FlagValues, words: list[str], surplus: list[str]) -> Arguments:
    if values["config"].value is not None:
        surplus = [*surplus, "config"]
    if surplus:
        raise InputError(
            f"--{surplus[0]} is not understood by --mode {COMPARE}; usage: {COMPARE_USAGE}"
        )
    if len(words) < 2:
        raise InputError(
            f"--mode {COMPARE}: the number of runs is {len(words)}; valid is 2 or more; "
            f"usage: {COMPARE_USAGE}"
        )
    workdir = Path(values.workdir or f"runs/{COMPARE}")
    return Arguments(COMPARE, None, workdir, COMPARE, tuple(map(Path, words)))


def _of_run(workdir: Path) -> tuple[str, ConfigDict]:
    """The name and config of the run in a directory."""
    path = workdir / "config.json"
    try:
        record = sinks.read_json(path)
        fields = dict(record["config"])
    except FileNotFoundError:
        raise InputError(f"--workdir {workdir} holds no run; train one first") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is not a run's config; name another --workdir") from None
    return record.get("name", workdir.resolve().name), ConfigDict(_tuples(fields))


def _tuples(value: Any) -> Any:
    """With tuples where JSON has lists."""
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _load(values: flags.FlagValues) -> ConfigDict:
    if values["config"].value is None:
        raise InputError(f"--config is missing; usage: {USAGE}")
    try:
        config = values.config
        config.to_dict()
    except OSError:
        raise InputError(f"--config {values['config'].config_filename}: no such file") from None
    return config


def _override(config: ConfigDict, path: str, text: str) -> None:
    *parents, last = path.split(".")
    if len(parents) == 1 and isinstance(config.get(parents[0]), ConfigDict):
        there = build.optional_within(parents[0], config[parents[0]])
        if last in there and last not in config[parents[0]]:
            config[parents[0]] = {**config[parents[0]], last: there[last]}
    for index, name in enumerate([*parents, last]):
        if not isinstance(config, ConfigDict) or name not in config:
            known = config.keys() if isinstance(config, ConfigDict) else ()
            raise InputError(
                f"config.{path} is unknown; {'.'.join(['config', *parents[:index]])} has "
                f"{nearest(name, known)}"
            )
        if index < len(parents):
            config = config[name]
    values = flags.FlagValues()
    flag = ["gaxn", f"--value.{last}={text}"]
    config_flags.DEFINE_config_dict("value", config, flag_values=values, sys_argv=flag)
    try:
        values(flag)
    except (flags.Error, TypeError, ValueError):
        valid = type(config[last]).__name__
        raise InputError(f"config.{path} is {text!r}; valid is a value of type {valid}") from None
