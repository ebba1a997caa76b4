"""The rows of the race: an experiment each, with the images that it is timed on."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from gaxn import config as configs
from gaxn.data.shapes import CLASSES as SHAPES

CONFIGS = Path(__file__).parents[2] / "configs"

IMAGES = 4_096
"""Random images of a row whose data set is not made by gaxn itself."""


class Row(NamedTuple):
    """One experiment.

    Attributes:
        config: file in configs/, and its variant after a colon.
        devices: where the row is raced, "cpu" or "gpu".
        images: shape of the random images that take the place of the data set, (height, width,
            channels); () keeps the data set of the config.
        classes: labels of these images; 0 for none.
        domains: whether there are two sets of them, as of a CycleGAN.
        batch_on_cpu: batch size on a CPU, where that of the config takes half a minute a step; 0
            for that of the config.
    """

    config: str
    devices: tuple[str, ...] = ("cpu", "gpu")
    images: tuple[int, ...] = ()
    classes: int = 0
    domains: bool = False
    batch_on_cpu: int = 0


MNIST = {"images": (28, 28, 1), "classes": 10}

ROWS = {
    "attention cGAN, shapes": Row("attn_cgan_shapes.py", images=(32, 32, 3), classes=len(SHAPES)),
    "attention cGAN, MNIST": Row("attn_cgan_mnist.py", **MNIST),
    "DCGAN, MNIST": Row("dcgan_mnist.py", **MNIST),
    "Transformer GAN, MNIST": Row("transformer_gan_mnist.py", **MNIST),
    "cGAN, Fashion-MNIST": Row("cgan_fashion_mnist.py", **MNIST),
    "SAGAN 64": Row("sagan_folder.py", images=(64, 64, 3)),
    "SAGAN 64, residual": Row("sagan_folder.py:resnet64", images=(64, 64, 3), batch_on_cpu=8),
    "SAGAN 128, residual, bfloat16": Row(
        "sagan_folder.py:resnet128+bfloat16", ("gpu",), images=(128, 128, 3)
    ),
    "attention CycleGAN 32": Row(
        "attn_cyclegan_shapes.py", ("cpu",), images=(32, 32, 3), domains=True
    ),
    "attention CycleGAN 128": Row(
        "attn_cyclegan.py:leaves", ("gpu",), images=(128, 128, 3), domains=True
    ),
    "ring, ten seeds": Row("ring.py:gan"),
}
"""By name, in the order in which they are raced."""


def make_config(row: Row, device: str, folder: Path, tiny: bool = False) -> ConfigDict:
    """Returns the config of a row; writes its random images to `folder`.

    Args:
        row: the row.
        device: "cpu" or "gpu".
        folder: for the images; they are the same at every call.
        tiny: whether the smallest form of the experiment is wanted.
    """
    path = CONFIGS / row.config
    variant = f"{path}{'+' if ':' in row.config else ':'}tiny" if tiny else str(path)
    _, config = configs.load_config(variant)
    # So many that no race comes to the end of the run.
    config.num_train_steps = 1_000_000
    if device == "cpu" and row.batch_on_cpu and not tiny:
        config.batch_size = row.batch_on_cpu
    if row.images:
        config.data = _random_data(row, folder, config.data, tiny)
    return config


def _random_data(row: Row, folder: Path, data: ConfigDict, tiny: bool) -> dict[str, Any]:
    """Writes the images of a row; returns the fields of a config that name them."""
    size = data.get("size", row.images[0]) if tiny else row.images[0]
    shape = (size, size, row.images[2])
    random = np.random.default_rng(0)
    paths = []
    for domain in ("a", "b") if row.domains else ("images",):
        arrays = {"images": random.integers(0, 256, (IMAGES, *shape), np.uint8)}
        if row.classes:
            arrays["labels"] = np.arange(IMAGES) % row.classes
        paths.append(folder / f"{domain}.npz")
        np.savez(paths[-1], **arrays)
    sources = [{"name": "npz", "path": str(path)} for path in paths]
    if not row.domains:
        return sources[0]
    return {"name": "unpaired", "a": sources[0], "b": sources[1], "size": size, "enlarge": 1.0}
