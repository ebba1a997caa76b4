"""Perceptual path length: how much images change along a path of latents (Karras et al., 2019)."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from gaxn.distributed import sharding
from gaxn.evaluation import figures, scoring
from gaxn.evaluation.interpolation import slerp
from gaxn.evaluation.sampling import balanced_labels
from gaxn.features import FeatureExtractor
from gaxn.metrics.statistics.standard_errors import trimmed_mean
from gaxn.types import HostLatents, Images, Labels, Latents, Measurement, Sampler, Variables

FIGURE = "perceptual_path_length"

EPSILON = 1e-4
"""Length of a step along the path, whose length is 1."""

SEED = 2020

TRIMMED = 0.01
"""Share of the smallest values that the mean leaves out, and of the largest."""

PROTOCOL = {
    "path": f"by slerp between two latents, at a random place, epsilon {EPSILON:g}, seed {SEED}",
    "crop": "none",
    "quantized": "no",
    "dtype": "float32 activations",
    "mean": f"without the smallest and the largest {TRIMMED:.0%}",
    "error": "over paths",
}


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """The mean of d(G(z(t)), G(z(t + epsilon))) / epsilon^2 (Karras et al., 2019, eq. 2).

    The path z(t) leads from one latent to another by spherical interpolation, and t is uniform in
    [0, 1]; d is LPIPS. As in the authors' code, the smallest and the largest hundredth of the
    values are left out, and a condition is the same at both ends. The paper crops pictures of
    faces; here an image is taken as it is.

    Attributes:
        extractor: with LPIPS as its distance.
        conditions: number of classes or captions; 0 without.
        samples: paths.
        generate: (variables, latents, conditions) -> images in [-1, 1], in eval mode; with
            float32 activations, as a difference of `EPSILON` is lost in bfloat16.
        condition_of: labels -> conditions.
    """

    extractor: FeatureExtractor
    conditions: int
    samples: int
    generate: Callable[[Variables, Latents, Labels | None], Images]
    condition_of: Callable[[Any], Any]

    figures: ClassVar[set[str]] = {FIGURE}

    def __call__(self, sampler: Sampler) -> Measurement:
        started = time.perf_counter()
        steps = sharding.data_parallel(self._program, (sampler.variables, self.extractor.params))
        places = np.random.RandomState(SEED).uniform(size=self.samples)
        parts = []
        for indices in tqdm(scoring.batches(self.samples), "paths", leave=False, disable=None):
            latents = (sampler.latents(2 * indices + place) for place in (0, 1))
            start, end = path_steps(*latents, places[indices])
            labels = self.condition_of(balanced_labels(indices, self.conditions))
            parts.append(steps(start, end, labels))
        values = np.concatenate(parts)[: self.samples].astype(np.float64) / EPSILON**2
        mean, error = trimmed_mean(values, TRIMMED)
        protocol = {
            **self.extractor.card,
            "paths": self.samples,
            "labels": "every condition equally often" if self.conditions else "none",
            **PROTOCOL,
            **sampler.facts,
        }
        seconds = {"seconds": round(time.perf_counter() - started, 2)}
        return Measurement(
            protocol, {FIGURE: mean, f"{FIGURE}{figures.ERROR}": error}, {}, {}, seconds
        )

    @functools.cached_property
    def _program(self) -> Callable:
        """The jitted function from the ends of steps to the distances of their images."""

        @jax.jit
        def program(fixed, start, end, labels):
            variables, params = fixed
            # A difference of 1e-4 is lost in products of TensorFloat-32.
            with jax.default_matmul_precision("highest"):
                a, b = (self.generate(variables, latents, labels) for latents in (start, end))
                return self.extractor.distance(params, a, b)

        return program


def path_steps(
    starts: HostLatents, ends: HostLatents, places: Float[np.ndarray, " paths"]
) -> tuple[HostLatents, HostLatents]:
    """Returns the latents of each path at its place t and at t + epsilon."""
    steps = [
        slerp(start, end, np.array([place, place + EPSILON]))
        for start, end, place in zip(starts, ends, places, strict=True)
    ]
    return tuple(np.stack(each) for each in zip(*steps, strict=True))
