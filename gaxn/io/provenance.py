"""The origin of a result: command, config file, versions, devices, commit."""

import ast
import datetime
import importlib.metadata
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from gaxn.io import files

PACKAGES = ("gaxn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def record() -> dict[str, Any]:
    """Returns the versions of the packages, the devices and the commit of this process."""
    return {
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "devices": [str(device) for device in jax.devices()],
        "git": commit(Path(__file__).parents[2]),
    }


def origin(
    place: str, variant: str, file: Path, before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns how a config came about, ready for JSON.

    Args:
        place: path or name of the config file, as it was given.
        variant: of the config, or "".
        file: the path at which the config file is.
        before: the fields that the file gives, as plain dicts.
        after: the fields of the run.

    Returns:
        "command", which repeats the run; "sentence", the first line of the file; "overridden", by
        field that differs from the file, its value there, or None.
    """
    if file.resolve().parent.name == "configs":
        place = f"configs/{file.name}"
    elif Path(place).is_absolute():
        # Its folders are of this machine.
        place = file.name
    differences = dict(_differences(before, after))
    flags = [
        f"--config.{field}={value if isinstance(value, str) else repr(value)}"
        for field, (_, value) in differences.items()
    ]
    command = ["gaxn", "--config", f"{place}:{variant}" if variant else place, *flags]
    return {
        "command": shlex.join(command),
        "sentence": first_line(file),
        "overridden": {field: value for field, (value, _) in differences.items()},
    }


def first_line(file: Path) -> str:
    """Returns the first line of the docstring of a Python file; "" without one."""
    docstring = ast.get_docstring(ast.parse(file.read_bytes())) or ""
    return docstring.partition("\n")[0].strip()


def started(workdir: Path) -> str:
    """Returns the time at which the run in a directory was started; of a new run, the present."""
    try:
        before = files.read_json(workdir / "config.json")["started"]
    except (OSError, ValueError, KeyError, TypeError):
        before = None
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return before if isinstance(before, str) else now


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Returns each field that differs between two configs, with its two values; None if absent."""
    for name in {**before, **after}:
        field = f"{path}.{name}" if path else name
        values = before.get(name), after.get(name)
        if all(isinstance(value, Mapping) for value in values) and not _is_replaced(*values):
            yield from _differences(*values, field)
        elif values[0] != values[1]:
            yield field, values


def _is_replaced(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Returns whether two dicts of options are of different parts: by name, or by their fields."""
    return before.get("name") != after.get("name") or before.keys() - after.keys() != set()


def commit(root: Path) -> str | None:
    """Returns the commit of a clone, with "-dirty" if files were changed; None outside a clone."""
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return result.stdout.strip() or None
