"""Compares the speed of the Inception network, with each preprocessing, with PyTorch's.

    python -m benchmarks.inception [BATCH]

Random weights and random images of 64x64; the other side is the network of pytorch-fid, in float32.
Each row is a network and its images per second.
"""

import sys
import time

import jax
import numpy as np

from gaxn.features import resizing
from gaxn.models.inception import Inception

REPEATS = 5


def time_gaxn(images: np.ndarray) -> None:
    """Prints images per second of gaxn's network, for each preprocessing."""
    params = Inception().init(jax.random.key(0), np.zeros((1, 299, 299, 3), np.float32))
    for name, resize in resizing.PREPROCESSINGS.items():

        @jax.jit
        def features(params, images, resize=resize):
            return Inception().apply(params, resize(images))[1]

        _report(
            f"gaxn, {name}", len(images), lambda f=features: f(params, images).block_until_ready()
        )


def time_pytorch_fid(images: np.ndarray) -> None:
    """Prints images per second of pytorch-fid's network with random weights."""
    import torch
    from pytorch_fid import inception

    inception.load_state_dict_from_url = lambda *_, **__: None
    torch.nn.Module.load_state_dict = lambda *_, **__: None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = inception.InceptionV3([3]).eval().to(device)
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)

    def features() -> np.ndarray:
        with torch.no_grad():
            return network(batch.float() / 255)[0].cpu().numpy()

    _report("pytorch-fid", len(images), features)


def _report(name: str, count: int, run) -> None:
    run()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    print(f"{name:<14}{count / np.median(times):9.1f} images/s", flush=True)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    images = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)
    print(jax.devices())
    time_gaxn(images)
    time_pytorch_fid(images)
