"""Trained networks in one file, and the ones that the package ships.

A file of networks is a .safetensors whose names are paths with dots: a collection, a player and
the path of the variable, such as `params.generator.dense.kernel`. Its metadata may hold a record
of the run under "gaxn", as config.json does.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from gaxn.io import files
from gaxn.types import InputError, PyTree

FOLDER = Path(__file__).parents[1] / "models" / "trained"
"""For each shipped run NAME.safetensors, and its card NAME.json."""

EXPORT_SUFFIX = ".safetensors"


def names() -> list[str]:
    """Returns the names of the runs that are shipped."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def is_shipped(workdir: Path) -> bool:
    """Returns whether a path is the name of a shipped run, and not that of a directory of a run."""
    return str(workdir) in names() and not (workdir / "config.json").exists()


def read_card(name: str) -> dict[str, Any]:
    """Returns the card of a shipped run: what config.json has, its figures, SHA-256 and license."""
    return files.read_json(FOLDER / f"{name}.json")


def read_networks(path: Path) -> dict[str, PyTree]:
    """Reads a file of networks: variables by collection, then player, as float32.

    Raises:
        InputError: there is no such file, or it is not one of networks.
    """
    try:
        arrays = safetensors.numpy.load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; name a file of networks") from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} must be a .safetensors of networks ({error})") from None
    widened = {
        name: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in arrays.items()
    }
    return unflatten_dict(widened, sep=".")


def read_export(path: Path) -> dict[str, tuple[dict[str, np.ndarray], dict[str, str]]]:
    """Reads networks that `--mode export` wrote.

    Args:
        path: PLAYER.safetensors, or a folder of such files.

    Returns:
        By player, arrays by dotted name, and the metadata of its file.

    Raises:
        InputError: there is no such file, or it is another.
    """
    paths = [path] if path.suffix == EXPORT_SUFFIX else sorted(path.glob(f"*{EXPORT_SUFFIX}"))
    networks = {}
    for file in paths:
        try:
            with safetensors.safe_open(file, "np") as content:
                metadata = content.metadata() or {}
                arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{file} cannot be read as a .safetensors ({error})") from None
        if not metadata.keys() >= {"config", "step", "weights", "transposed"}:
            raise InputError(f"{file} must be PLAYER.safetensors that --mode export wrote")
        networks[file.stem] = arrays, metadata
    return networks


def to_bytes(networks: dict[str, PyTree], record: dict[str, Any], half: bool = False) -> bytes:
    """Returns the content of a file of networks.

    Args:
        networks: variables by collection, then player.
        record: of the run, for the metadata.
        half: whether float32 is stored as float16, exact to 11 bits.
    """

    def prepare(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        return array.astype(np.float16) if half and array.dtype == np.float32 else array

    arrays = {
        name: np.asarray(prepare(leaf), order="C")
        for name, leaf in flatten_dict(networks, sep=".").items()
    }
    return safetensors.numpy.save(arrays, {"gaxn": json.dumps(record)})
