"""Inception network of FID, KID and IS (TensorFlow graph of 2015-12-05; Heusel et al., 2017)."""

import hashlib
import io
import zipfile
from pathlib import Path

import flax.traverse_util
import jax
import numpy as np

from gaxn.features import ExtractorOutput, FeatureExtractor, torch_weights
from gaxn.features.resizing import PREPROCESSINGS
from gaxn.io import downloads, files
from gaxn.models.inception import Inception, from_torch
from gaxn.types import InputError, PyTree, check

NAME = "pt_inception-2015-12-05-6726825d"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{NAME}.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
DOWNLOAD = "download"


def load(weights: str = "", preprocessing: str = "tf") -> FeatureExtractor:
    """Loads the Inception network.

    Features are the 2,048 activations of the last pool. There are 1,008 logits, without their bias.

    Args:
        weights: "" for the published weights in the cache; "download" for the same, downloaded if
            they are not there; or the path of a state dict of the PyTorch port, as .pth or
            .safetensors file, or of a .npz file from the cache.
        preprocessing: "tf" (as torch-fidelity), "torch" (as pytorch-fid) or "clean" (as
            clean-fid).

    Raises:
        InputError: there are no such weights, they do not fit the network, or there is no such
            preprocessing.
    """
    resize = PREPROCESSINGS.get(preprocessing)
    check("preprocessing", preprocessing, resize is not None, ", ".join(PREPROCESSINGS))
    params, digest = _weights(weights)
    network = Inception()

    def apply(params: PyTree, images: jax.Array) -> ExtractorOutput:
        logits, features = network.apply({"params": params}, resize(images))
        return ExtractorOutput(features, logits)

    name = NAME if digest == SHA256 else "Inception with custom weights"
    card = {
        "extractor": f"{name}, 2,048 features of the last pool",
        "sha256": digest,
        "resize": f"{preprocessing}, to 299x299",
    }
    return FeatureExtractor(apply, params, card)


def _weights(weights: str) -> tuple[PyTree, str]:
    """Returns the parameters and the SHA-256 of the .pth or .safetensors file they come from."""
    folder = downloads.directory("inception")
    if weights not in ("", DOWNLOAD):
        path = files.expand(weights)
        if not path.is_file():
            raise InputError(f"the weights of Inception, {path}, are not there; {_advice(folder)}")
        return _read_npz(path) if path.suffix == ".npz" else _read_state_dict(path)
    converted, original = folder / f"{NAME}.npz", folder / f"{NAME}.pth"
    if converted.exists():
        return _read_npz(converted)
    downloading = weights == DOWNLOAD and not original.exists()
    if downloading:
        downloads.fetch([URL], original, _digest_problem)
    if not original.exists():
        raise InputError(f"the weights of Inception are not there; {_advice(folder)}")
    params, digest = _read_state_dict(original)
    if digest != SHA256:
        raise InputError(
            f"the SHA-256 of {original} must be {SHA256}, got {digest}; {_advice(folder)}"
        )
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    stream = io.BytesIO()
    np.savez(stream, sha256=np.array(digest), **flat)
    files.write_bytes(converted, stream.getvalue())
    if downloading:
        original.unlink()
    return params, digest


def _advice(folder: Path) -> str:
    return f'fetch {URL} and put it into {folder}, or give the path of a file, or "{DOWNLOAD}"'


def _digest_problem(path: Path) -> str | None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return None if digest == SHA256 else f"its SHA-256 must be {SHA256}, got {digest}"


def _read_state_dict(path: Path) -> tuple[PyTree, str]:
    content = path.read_bytes()
    is_safetensors = path.suffix == ".safetensors"
    read = torch_weights.read_safetensors if is_safetensors else torch_weights.read
    try:
        return from_torch(read(content)), hashlib.sha256(content).hexdigest()
    except ValueError as error:
        raise InputError(f"{path} does not hold the weights of Inception: {error}") from None


def _read_npz(path: Path) -> tuple[PyTree, str]:
    try:
        with np.load(path) as stored:
            arrays = dict(stored)
            digest = str(arrays.pop("sha256"))
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a .npz file of Inception's weights ({error})") from None
    return flax.traverse_util.unflatten_dict(arrays, sep="/"), digest
