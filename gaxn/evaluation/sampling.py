"""Options of sampling, the variables that they select, and the attention weights of a network."""

from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import numpy as np

from gaxn.training.state import TrainState
from gaxn.types import HostLabels, Images, Labels, Latents, PyTree, Variables, check


class SamplingOptions(NamedTuple):
    """Which generator of a state is sampled, and how.

    Attributes:
        weights: the generator's parameters: "ema", their moving average, or "raw", the trained
            ones.
        statistics: the statistics of BatchNorm: "standing", estimated from 2,048 samples by the
            same weights (Brock et al., 2019, section 4.1), or "running", from training.
        truncation: bound of a latent's absolute values (Brock et al., 2019, section 3.1): less
            variety and better images; 0 for none.
    """

    weights: str = "ema"
    statistics: str = "standing"
    truncation: float = 0.0

    def check(self) -> None:
        """Raises an InputError if a field has no valid value."""
        for field, values in (("weights", ("ema", "raw")), ("statistics", ("standing", "running"))):
            value = getattr(self, field)
            check(f"config.evaluation.{field}", value, value in values, " or ".join(values))
        valid = self.truncation >= 0
        check("config.evaluation.truncation", self.truncation, valid, "above 0, or 0 for none")


def sampling_variables(state: TrainState, options: SamplingOptions) -> Variables:
    """Returns the variables of all networks, with the chosen parameters of the generator."""
    generator = state.ema if options.weights == "ema" else state.params["generator"]
    return {"params": {**state.params, "generator": generator}, **state.collections}


def generate(
    gan: nn.Module, variables: Variables, latents: Latents, labels: Labels | None, train: bool
) -> tuple[Images, Variables]:
    """Returns a generator's images in [-1, 1], and the collections after them.

    Args:
        gan: with a method `generate`.
        variables: of all networks.
        latents, labels: inputs of the generator.
        train: whether BatchNorm takes the statistics of this batch, and moves its running ones.
    """
    mutable = nn.DenyList("params")
    return gan.apply(variables, latents, labels, train, method="generate", mutable=mutable)


def attention_by_player(
    gan: nn.Module, variables: Variables, method: str, *inputs: Any
) -> Variables:
    """Returns the intermediates of each player in a method of a GAN; none without attention."""
    _, updates = gan.apply(variables, *inputs, method=method, mutable=["intermediates"])
    return updates.get("intermediates", {})


def attention_weights(intermediates: Variables, name: str = "weights") -> dict[str, np.ndarray]:
    """Returns the attention weights among intermediates, by the path of their layer.

    Args:
        intermediates: of a network.
        name: "weights" over places, or "word_weights" over words.
    """
    return {layer: weights for layer, (weights,) in _by_layer(intermediates, f"/{name}").items()}


def attention_gammas(params: PyTree) -> dict[str, float]:
    """Returns the learned scale of each attention layer that has one, by "player/layer"."""
    return {layer: float(gamma) for layer, gamma in _by_layer(params, "/gamma").items()}


def _by_layer(tree: PyTree, end: str) -> dict[str, Any]:
    flat = flax.traverse_util.flatten_dict(tree, sep="/")
    return {name.removesuffix(end): leaf for name, leaf in flat.items() if name.endswith(end)}


def balanced_labels(indices: np.ndarray, classes: int) -> HostLabels | None:
    """Returns the labels of samples, each class equally often; None without classes."""
    return indices % classes if classes else None
