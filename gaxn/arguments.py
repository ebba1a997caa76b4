"""The command line: a config file, overrides of its fields, a directory and a mode."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from gaxn.schema import nearest
from gaxn.types import InputError

USAGE = (
    "python -m gaxn.main --config configs/NAME.py[:VARIANT] [--workdir DIR] [--mode MODE] "
    "[--config.FIELD=VALUE ...]"
)


class Arguments(NamedTuple):
    """What a command line says.

    Attributes:
        name: of the config file, without folder and ending.
        config: with its overrides.
        workdir: the run's directory.
        mode: what to do there.
    """

    name: str
    config: ConfigDict
    workdir: Path
    mode: str


def parse(argv: Sequence[str], modes: Iterable[str]) -> Arguments:
    """Reads a command line, `argv[0]` being the program.

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
    holder = config_flags.DEFINE_config_file(
        "config", help_string="Experiment.", flag_values=values, sys_argv=plain
    )
    flags.DEFINE_string("workdir", None, "Directory of the run.", flag_values=values)
    flags.DEFINE_enum("mode", "train", list(modes), "What to do.", flag_values=values)
    config = _load(values, plain)
    file = values["config"].config_filename
    name = Path(re.sub(r":[^:/]*$", "", file)).stem
    for path, value in overrides.items():
        _override(config, path, value)
    return Arguments(name, holder.value, Path(values.workdir or f"runs/{name}"), values.mode)


def _load(values: flags.FlagValues, argv: list[str]) -> ConfigDict:
    try:
        surplus = values(argv)[1:]
    except flags.Error as error:
        raise InputError(" ".join(str(error).split())) from None
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001
        raise InputError(f"--config: {type(error).__name__}: {str(error).strip()}") from None
    if surplus:
        raise InputError(f"{surplus[0]!r} is not understood; usage: {USAGE}")
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
