"""Names and values of a config, held against the code they are for.

A dotted name resolves by import in the folder of its kind, and constructor signatures are
the schema.
"""

import difflib
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from gaxn.types import InputError, require


def with_variant(
    config: ConfigDict, variant: str, variants: Mapping[str, Mapping[str, Any]]
) -> ConfigDict:
    """The config under `--config FILE:variant`, some of its fields set anew.

    Several variants, joined by "+", are applied in turn.

    Raises:
        InputError: no such variant.
    """
    for part in filter(None, variant.split("+")):
        if part not in variants:
            raise InputError(f"variant is {part!r}; this config has {nearest(part, variants)}")
        config.update(ConfigDict(variants[part]))
    return config


def resolve(folder: str, name: str, field: str) -> Any:
    """What `name`, "module" or "module.attribute", means in a folder of gaxn.

    Raises:
        InputError: no such module or attribute; lists what there is, the nearest first.
    """
    package = importlib.import_module(f"gaxn.{folder}")
    module_name, _, attribute = name.partition(".")
    known = [module.name for module in pkgutil.iter_modules(package.__path__)]
    if module_name not in known:
        raise InputError(f"{field} is {name!r}; gaxn/{folder} has {nearest(module_name, known)}")
    module = importlib.import_module(f"gaxn.{folder}.{module_name}")
    if not attribute:
        return module
    own = [item for item, value in vars(module).items() if _belongs(value, module.__name__)]
    if attribute not in own:
        raise InputError(
            f"{field} is {name!r}; gaxn/{folder}/{module_name}.py has {nearest(attribute, own)}"
        )
    return getattr(module, attribute)


def instance(
    folder: str, spec: Mapping[str, Any], field: str, attribute: str = "", **derived: Any
) -> Any:
    """What `spec["name"]` makes of the rest of the spec.

    Args:
        folder: where the name resolves.
        spec: a name and fields.
        field: the spec's own place in the config.
        attribute: appended to the name, where a folder's files all offer the same one.
        derived: what does not come from the config; a constructor gets what it asks for.

    Raises:
        InputError: the name or a field is wrong.
    """
    make = named(folder, attribute, spec, field)
    rest = {name: value for name, value in spec.items() if name != "name"}
    return bind(make, rest, field, **derived)


def named(folder: str, attribute: str, spec: Mapping[str, Any], field: str) -> Any:
    """The constructor that `spec["name"]` names; the arguments are those of `instance`.

    Raises:
        InputError: there is none.
    """
    name = spec.get("name")
    require(f"{field}.name", name, isinstance(name, str), f"a name in gaxn/{folder}")
    return resolve(folder, f"{name}.{attribute}" if attribute else name, f"{field}.name")


def bind(make: Callable, spec: Mapping[str, Any], field: str, **derived: Any) -> Any:
    """`make(**spec, **derived)`, after holding the spec against the signature.

    Raises:
        InputError: a field of the spec is unknown, missing or of another type.
    """
    parameters = inspect.signature(make).parameters
    derived = {name: value for name, value in derived.items() if name in parameters}
    free = {name: item for name, item in parameters.items() if name not in derived}
    hints = typing.get_type_hints(make)
    values = {name: _widened(value, hints.get(name)) for name, value in spec.items()}
    for name, value in values.items():
        if name not in free:
            raise InputError(f"{field}.{name} is unknown; {field} takes {nearest(name, free)}")
        if name in hints and not _fits(value, hints[name]):
            raise InputError(f"{field}.{name} is {value!r}; valid is {_shown(hints[name])}")
    for name, item in free.items():
        if item.default is item.empty and name not in values:
            raise InputError(f"{field}.{name} is missing; valid is {_shown(hints.get(name))}")
    try:
        return make(**values, **derived)
    except InputError as error:
        of_field = str(error).partition(" ")[0] in parameters
        raise InputError(f"{field}.{error}" if of_field else str(error)) from None


def defaults(make: Callable) -> dict[str, Any]:
    """The parameters that a spec may leave out, with what they are then."""
    parameters = inspect.signature(make).parameters.items()
    return {name: item.default for name, item in parameters if item.default is not item.empty}


def nearest(wrong: str, known: Iterable[str]) -> str:
    """All that is known, what looks most like `wrong` first."""
    close = difflib.get_close_matches(wrong, known, n=3, cutoff=0.5)
    return ", ".join([*close, *sorted(set(known) - set(close))]) or "nothing"


def _belongs(value: Any, module: str) -> bool:
    return getattr(value, "__module__", None) == module


def _fits(value: Any, hint: Any) -> bool:
    try:
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError:
        return False
    return True


def _widened(value: Any, hint: Any) -> Any:
    """Lists as tuples, and an int as a float where a float is due."""
    if isinstance(value, list):
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _shown(hint: Any) -> str:
    return hint.__name__ if inspect.isclass(hint) and not typing.get_args(hint) else str(hint)
