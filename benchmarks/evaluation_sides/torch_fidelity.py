"""torch-fidelity's side of `benchmarks.evaluation`, with the defaults of that package.

python -m benchmarks.evaluation_sides.torch_fidelity inception COUNT FOLDER
python -m benchmarks.evaluation_sides.torch_fidelity METRIC COUNT WIDTH
"""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch_fidelity import metric_fid, metric_kid, metric_prc
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.utils import get_featuresdict_from_dataset

from benchmarks import evaluation_sides
from benchmarks.evaluation_sides import Blocks, Size

OPTIONS = {**DEFAULTS, "verbose": False}

# It starts four processes that read images, on fewer cores too.
warnings.filterwarnings("ignore", "This DataLoader will create")

LARGE = 20_000
"""Features beyond which its matrices of all distances, four of them, take more than 6 GB."""


class Images(torch.utils.data.Dataset):
    """Images without labels, as torch-fidelity takes them."""

    def __init__(self, images: torch.Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


def extract_inception(images: np.ndarray, weights: Path) -> tuple[np.ndarray, float]:
    """Returns features [count, 2048] by its loop over batches of 64, on one device."""
    # Features in TF32 would not be equal.
    torch.backends.cudnn.allow_tf32 = False
    state_dict = weights.with_suffix(".pth")
    torch.save(safetensors.torch.load_file(weights), state_dict)
    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(state_dict)
    )
    cuda = torch.cuda.is_available()
    network = network.cuda() if cuda else network
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def extract(tensor: torch.Tensor) -> np.ndarray:
        features = get_featuresdict_from_dataset(
            Images(tensor),
            network,
            batch_size=OPTIONS["batch_size"],
            cuda=cuda,
            save_cpu_ram=OPTIONS["save_cpu_ram"],
            verbose=False,
        )
        return features["2048"].numpy()

    extract(tensor[: OPTIONS["batch_size"]])
    started = time.perf_counter()
    return extract(tensor), time.perf_counter() - started


def collect(blocks: Blocks) -> torch.Tensor:
    """Returns all features, concatenated as torch-fidelity does it."""
    return torch.cat([torch.from_numpy(block) for block in blocks], dim=0)


def frechet(generated: Blocks, real: Blocks, size: Size) -> dict[str, float]:
    statistics = [
        metric_fid.fid_features_to_statistics(collect(blocks)) for blocks in (generated, real)
    ]
    result = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    return {"frechet_distance": result[metric_fid.KEY_METRIC_FID]}


def kid(generated: Blocks, real: Blocks, size: Size) -> dict[str, float]:
    """Returns the mean over 100 pairs of subsets of 1,000, which are those of gaxn."""
    subset_size = min(OPTIONS["kid_subset_size"], size.count)
    result = metric_kid.kid_features_to_metric(
        *(collect(blocks) for blocks in (generated, real)),
        **{**OPTIONS, "kid_subset_size": subset_size},
    )
    return {"kid": result[metric_kid.KEY_METRIC_KID_MEAN]}


def prc(generated: Blocks, real: Blocks, size: Size) -> dict[str, float]:
    """Returns precision and recall; with the option that saves memory if there are many."""
    result = metric_prc.prc_features_to_metric(
        *(collect(blocks) for blocks in (generated, real)),
        **{**OPTIONS, "save_cpu_ram": size.count > LARGE},
    )
    return {name: result[name] for name in ("precision", "recall")}


METRICS = {"frechet": frechet, "kid": kid, "prc": prc}


if __name__ == "__main__":
    evaluation_sides.run(sys.argv, METRICS, extract_inception)
