"""The Inception network of FID, KID and IS (2015-12-05, from TensorFlow; Heusel et al., 2017)."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import flax.traverse_util
import jax
import numpy as np

from gaxn import cache, sinks, torch_weights
from gaxn.extractors import Extractor, Seen
from gaxn.models.inception import Inception, from_torch
from gaxn.preprocessing import PREPROCESSINGS
from gaxn.types import InputError, Pixels, PyTree, require

NAME = "pt_inception-2015-12-05-6726825d"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{NAME}.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
DOWNLOAD = "download"


def load(weights: str = "", preprocessing: str = "tf") -> Extractor:
    """Features are the 2,048 of the last pool; logits the 1,008 without their bias.

    Args:
        weights: "" for those kept from before; "download" to fetch them if there are none;
            or the path of the .pth file, or of a .npz that was kept from one.
        preprocessing: "tf" (as torch-fidelity), "torch" (as pytorch-fid) or "clean" (as
            clean-fid).

    Raises:
        InputError: there are no weights, or they are no such network's; no such preprocessing.
    """
    resize = _resizing(preprocessing)
    params, digest = _weights(weights)
    network = Inception()

    def apply(params: PyTree, images: jax.Array) -> Seen:
        logits, features = network.apply({"params": params}, resize(images))
        return Seen(features, logits)

    card = {
        "extractor": f"{NAME}, 2,048 features of the last pool"
        if digest == SHA256
        else "Inception with weights of one's own, 2,048 features of the last pool",
        "sha256": digest,
        "resize": f"{preprocessing}, to 299x299",
    }
    return Extractor(apply, params, card)


def _resizing(name: str) -> Callable[[Pixels], jax.Array]:
    require("preprocessing", name, name in PREPROCESSINGS, ", ".join(PREPROCESSINGS))
    return PREPROCESSINGS[name]


def _weights(weights: str) -> tuple[PyTree, str]:
    """Parameters, and the SHA-256 of the .pth file that they come from."""
    folder = cache.directory("inception")
    kept, fetched = folder / f"{NAME}.npz", folder / f"{NAME}.pth"
    if weights not in ("", DOWNLOAD):
        path = Path(weights).expanduser()
        if not path.is_file():
            raise InputError(f"the weights of Inception, {path}, are not there; {_advice(folder)}")
        return _read_kept(path) if path.suffix == ".npz" else _convert(path)
    if kept.exists():
        return _read_kept(kept)
    ours = weights == DOWNLOAD and not fetched.exists()
    if ours:
        cache.fetch([URL], fetched, _problem)
    if not fetched.exists():
        raise InputError(f"the weights of Inception are not there; {_advice(folder)}")
    params, digest = _convert(fetched)
    if digest != SHA256:
        raise InputError(f"{fetched} has another SHA-256 than {SHA256}; {_advice(folder)}")
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    stream = io.BytesIO()
    np.savez(stream, sha256=np.array(digest), **flat)
    sinks.write_bytes(kept, stream.getvalue())
    if ours:
        fetched.unlink()
    return params, digest


def _advice(folder: Path) -> str:
    return f"fetch {URL} and put it into {folder}, or say where it is; or let it be downloaded"


def _problem(path: Path) -> str | None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    return None if found == SHA256 else f"its SHA-256 is {found}, not {SHA256}"


def _convert(path: Path) -> tuple[PyTree, str]:
    content = path.read_bytes()
    try:
        return from_torch(torch_weights.read(content)), hashlib.sha256(content).hexdigest()
    except ValueError as error:
        raise InputError(f"{path} does not hold the weights of Inception: {error}") from None


def _read_kept(path: Path) -> tuple[PyTree, str]:
    try:
        with np.load(path) as stored:
            arrays = dict(stored)
            digest = str(arrays.pop("sha256"))
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no .npz of Inception's weights ({error})") from None
    return flax.traverse_util.unflatten_dict(arrays, sep="/"), digest
