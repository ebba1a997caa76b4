"""Images a second through the Inception network, with each preprocessing, against PyTorch.

    python benchmarks/inception.py [BATCH]

Random weights and random images of 64x64; the network of pytorch-fid is the peer, in float32.
"""

import sys
import time

import jax
import numpy as np

from gaxn import preprocessing
from gaxn.models.inception import Inception

REPEATS = 5


def ours(images: np.ndarray) -> None:
    """Prints images a second of the port."""
    params = Inception().init(jax.random.key(0), np.zeros((1, 299, 299, 3), np.float32))
    for name, resize in preprocessing.PREPROCESSINGS.items():

        @jax.jit
        def features(params, images, resize=resize):
            return Inception().apply(params, resize(images))[1]

        _report(
            f"gaxn, {name}", len(images), lambda f=features: f(params, images).block_until_ready()
        )


def theirs(images: np.ndarray) -> None:
    """Prints images a second of pytorch-fid's network, weights of its own making."""
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
    drawn = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)
    print(jax.devices())
    ours(drawn)
    theirs(drawn)
