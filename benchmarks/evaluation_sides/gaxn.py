"""gaxn's side of `benchmarks.evaluation`.

python -m benchmarks.evaluation_sides.gaxn weights FILE
python -m benchmarks.evaluation_sides.gaxn inception COUNT FOLDER
python -m benchmarks.evaluation_sides.gaxn METRIC COUNT WIDTH
"""

import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.traverse_util
import jax
import numpy as np
import safetensors.numpy

from benchmarks import evaluation_sides
from benchmarks.evaluation_sides import Blocks, Size
from gaxn.distributed import sharding
from gaxn.evaluation import scoring
from gaxn.features import inception
from gaxn.io import compilation_cache
from gaxn.metrics import SetSpec, frechet, kid, precision_recall
from gaxn.metrics.statistics import gaussian, rows
from gaxn.models.inception import SIZE, Inception


def write_weights(path: Path) -> None:
    """Writes random weights of Inception under the names of its PyTorch port, as .safetensors."""
    blank = np.zeros((1, SIZE, SIZE, 3), np.float32)
    params = jax.eval_shape(Inception().init, jax.random.key(0), blank)["params"]
    random = np.random.default_rng(0)
    state = {}
    for place, spec in flax.traverse_util.flatten_dict(params).items():
        layer, name = ".".join(place[:-1]), place[-1]
        if layer == "fc":
            state[f"{layer}.weight"] = random.normal(0, 0.02, spec.shape).T
            state[f"{layer}.bias"] = np.zeros(spec.shape[1])
        elif name == "kernel":
            # Activations keep their size from layer to layer.
            deviation = np.sqrt(2 / np.prod(spec.shape[:-1]))
            kernel = random.normal(0, deviation, spec.shape)
            state[f"{layer}.conv.weight"] = kernel.transpose(3, 2, 0, 1)
        elif name == "scale":
            state[f"{layer}.bn.weight"] = random.uniform(0.7, 1.3, spec.shape)
            state[f"{layer}.bn.running_var"] = random.uniform(0.7, 1.3, spec.shape)
        else:
            state[f"{layer}.bn.bias"] = random.normal(0, 0.1, spec.shape)
            state[f"{layer}.bn.running_mean"] = random.normal(0, 0.1, spec.shape)
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in state.items()}
    safetensors.numpy.save_file(arrays, path)


def extract_inception(images: np.ndarray, weights: Path) -> tuple[np.ndarray, float]:
    """Returns features [count, 2048] as an evaluation computes them, over all devices."""
    sharding.use_cores(scoring.BATCH)
    compilation_cache.enable()
    extractor = inception.load(str(weights))

    def read(indices: np.ndarray) -> tuple[np.ndarray, None]:
        return images[indices], None

    image_set = scoring.ImageSet(len(images), images.shape[1:], 0, read)
    extract = scoring.make_extract(extractor, min(scoring.BATCH, len(images)))
    extract(images[:1])
    started = time.perf_counter()
    parts = [part for _, part in scoring.iterate_features(image_set, extract, "gaxn")]
    return np.concatenate(parts), time.perf_counter() - started


def collect(metric: ModuleType, blocks: Blocks, size: Size) -> Any:
    """Returns the state of a metric after all features."""
    state, first = metric.empty(SetSpec(size.count, size.width)), 0
    for block in blocks:
        state = metric.update(state, np.arange(first, first + len(block)), block)
        first += len(block)
    return state


def frechet_alone(generated: Blocks, real: Blocks, size: Size) -> dict[str, float]:
    fitted = [frechet.fit(collect(frechet, blocks, size)) for blocks in (generated, real)]
    return {"frechet_distance": gaussian.distance(*fitted)}


def frechet_with_error(generated: Blocks, real: Blocks, size: Size) -> dict[str, float]:
    """Returns the distance and its standard error, which takes ten more distances."""
    states = [collect(frechet, blocks, size) for blocks in (generated, real)]
    return frechet.compute(*states).figures


def kid_of_subsets(generated: Blocks, real: Blocks, size: Size) -> dict[str, float]:
    features = [rows.features(collect(kid, blocks, size)) for blocks in (generated, real)]
    return {"kid": float(kid.subset_estimates(*features).mean())}


def kid_with_all_pairs(generated: Blocks, real: Blocks, size: Size) -> dict[str, float]:
    """Returns the mean over subsets, the estimate from all pairs, and its standard error."""
    states = [collect(kid, blocks, size) for blocks in (generated, real)]
    return kid.compute(*states).figures


def prdc(generated: Blocks, real: Blocks, size: Size) -> dict[str, float]:
    """Returns precision, recall, density and coverage, and their standard errors."""
    states = [collect(precision_recall, blocks, size) for blocks in (generated, real)]
    return precision_recall.compute(*states).figures


METRICS = {
    "frechet": frechet_alone,
    "frechet_with_error": frechet_with_error,
    "kid": kid_of_subsets,
    "kid_with_all_pairs": kid_with_all_pairs,
    "prdc": prdc,
}


if __name__ == "__main__":
    if sys.argv[1] == "weights":
        write_weights(Path(sys.argv[2]))
    else:
        evaluation_sides.run(sys.argv, METRICS, extract_inception)
