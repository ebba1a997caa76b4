"""Diagnostics: early signs that a run collapses, measured whenever samples are drawn.

    diagnostics/diversity            mean distance between two samples over that of two real images:
                                     1 is as diverse, 0 is collapsed
    diagnostics/saturation           share of pairs of images from which the discriminator learns
                                     nothing: its loss has a gradient below 0.01 in both logits
    diagnostics/singular_value/...   largest singular value of a spectrally normalized kernel, by
                                     an exact decomposition: 1 if the power iteration keeps up
    diagnostics/gamma/...            learned scale of an attention layer
    diagnostics/entropy/..., diagnostics/distance/...
                                     of attention weights (gaxn/metrics/statistics/attention.py)

The training step knows nothing of them: they are computed from its state. Those of a population
are arrays over its members.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gaxn.evaluation.sampling import attention_by_player, attention_gammas, attention_weights
from gaxn.metrics.statistics import attention
from gaxn.nn import spectral
from gaxn.objectives.losses import Loss
from gaxn.training.population import Member, member_state
from gaxn.training.state import TrainState
from gaxn.types import Images, Logits, PRNGKey, Variables

PREFIX = "diagnostics/"
DIVERSITY, SATURATION = f"{PREFIX}diversity", f"{PREFIX}saturation"
SINGULAR_VALUE = f"{PREFIX}singular_value/"

EXAMPLES = 60
"""Images of each kind; a multiple of every packing from 2 to 6."""
ATTENTION_EXAMPLES = 8
"""Images over which attention is averaged."""
MIN_GRADIENT = 0.01
"""Absolute gradient in a logit below which the discriminator learns nothing."""
MIN_DIVERSITY, MAX_SATURATION, MAX_SINGULAR_VALUE = 0.1, 0.99, 1.5

Diagnostics = Callable[[TrainState], dict[str, float | np.ndarray]]


def make_diagnostics(
    measure: Callable[[Variables, PRNGKey], dict[str, jax.Array]], members: Sequence[Member]
) -> Diagnostics:
    """Returns a function from a host state to its diagnostics.

    Args:
        measure: (variables, a member's key) -> diagnostics that need images.
        members: the runs that the state holds.
    """

    def diagnose_member(state: TrainState, key: PRNGKey) -> dict[str, float]:
        measured = measure({"params": state.params, **state.collections}, key)
        gammas = attention_gammas(state.params)
        return {
            **{name: float(value) for name, value in jax.device_get(measured).items()},
            **{f"{SINGULAR_VALUE}{name}": value for name, value in singular_values(state).items()},
            **{f"{PREFIX}gamma/{name}": value for name, value in gammas.items()},
        }

    def diagnose(state: TrainState) -> dict[str, float | np.ndarray]:
        by_member = [
            diagnose_member(member_state(state, len(members), index), member.key)
            for index, member in enumerate(members)
        ]
        if len(by_member) == 1:
            return by_member[0]
        return {name: np.array([each[name] for each in by_member]) for name in by_member[0]}

    return diagnose


def diversity(fake: Images, real: Images) -> jax.Array:
    """Returns the mean distance between two generated images over that of two real ones."""
    return _mean_distance(fake) / jnp.maximum(_mean_distance(real), 1e-12)


def _mean_distance(images: jax.Array) -> jax.Array:
    count = len(images)
    flat = images.reshape(count, -1)
    squared = jnp.square(flat[:, None] - flat[None]).sum(axis=-1)
    return jnp.sqrt(squared).sum() / (count * (count - 1))


def saturation(loss: Loss, real: Logits, fake: Logits) -> jax.Array:
    """Returns the share of pairs of logits from which the discriminator learns nothing."""
    gradients = jax.grad(lambda pair: loss.discriminator(*pair).sum())([real, fake])
    return (jnp.maximum(*map(jnp.abs, gradients)) < MIN_GRADIENT).mean()


def attention_figures(
    gan: nn.Module, variables: Variables, inputs: Mapping[str, tuple[Any, ...]]
) -> dict[str, jax.Array]:
    """Returns entropy and distance of each layer's attention weights in methods of a GAN.

    `inputs` has the arguments of each method by its name.
    """
    weights: dict[str, Any] = {}
    for method, arguments in inputs.items():
        weights |= attention_weights(attention_by_player(gan, variables, method, *arguments))
    measures = {"entropy": attention.entropy, "distance": attention.distance}
    return {
        f"{PREFIX}{name}/{layer}": measure(layer_weights)
        for name, measure in measures.items()
        for layer, layer_weights in weights.items()
    }


def singular_values(state: TrainState) -> dict[str, float]:
    """Returns the largest singular value of each normalized kernel, by "player/layer"."""
    vectors = state.collections.get(spectral.COLLECTION, {})
    values = {}
    for layer, (matrix, sigma) in spectral.kernels(state.params, vectors).items():
        values[layer] = float(np.linalg.norm(matrix, 2) / max(sigma, spectral.EPSILON))
    return values


def warnings(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Returns a line for each problem of the last two diagnostics but not of the one before.

    Args:
        history: diagnostics, oldest first, each with its step.
    """
    if len(history) < 2:
        return []
    *before, previous, last = map(_problems, history[-3:])
    new = last.keys() & previous.keys() - (before[0].keys() if before else set())
    return [f"step {history[-1]['step']}: {last[name]}" for name in last if name in new]


def _problems(figures: Mapping[str, float]) -> dict[str, str]:
    problems = {}
    if figures.get(DIVERSITY, 1.0) < MIN_DIVERSITY:
        problems[DIVERSITY] = (
            f"samples are almost identical ({DIVERSITY} {figures[DIVERSITY]:.3f}): the generator "
            "has collapsed; a slower discriminator, a penalty or an earlier checkpoint may help"
        )
    if figures.get(SATURATION, 0.0) >= MAX_SATURATION:
        problems[SATURATION] = (
            f"the discriminator is certain of {figures[SATURATION]:.0%} of the images "
            f"({SATURATION}): it learns nothing more, and the generator little; a slower "
            "discriminator or a penalty may help"
        )
    for name, value in figures.items():
        slack = MAX_SINGULAR_VALUE
        if name.startswith(SINGULAR_VALUE) and not 1 / slack < value < slack:
            problems[name] = (
                f"{name} is {value:.2f} but should be 1: the power iteration of spectral norm "
                "lags behind the weights; a lower learning rate may help"
            )
    return problems
