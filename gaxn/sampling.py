"""From a trained state to the `Subject` that evaluators and pictures see."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from gaxn import keys, mesh, pixels
from gaxn.games.image_gan import draw_latents
from gaxn.nn import norms
from gaxn.population import Member, member_of
from gaxn.state import GanState
from gaxn.types import PRNGKey, PyTree, Subject, Variables, require

STANDING_PASSES, STANDING_BATCH = 16, 128


class Choice(NamedTuple):
    """Which generator of a state is looked at.

    Attributes:
        weights: "ema", the running mean of the parameters, or "raw", as they train.
        statistics: "standing", estimated anew from 2,048 samples of those weights (Brock et
            al., 2019, section 4.1), or "running", those that training kept.
        truncation: the largest absolute value of a number of a latent (Brock et al., 2019,
            section 3.1): less variety and better images; 0 for no bound.
    """

    weights: str = "ema"
    statistics: str = "standing"
    truncation: float = 0.0

    def check(self) -> None:
        """Raises: InputError: it is none of those there are."""
        for field, valid in (("weights", ("ema", "raw")), ("statistics", ("standing", "running"))):
            value = getattr(self, field)
            require(f"config.evaluation.{field}", value, value in valid, " or ".join(valid))
        holds = self.truncation >= 0
        require("config.evaluation.truncation", self.truncation, holds, "above 0, or 0 for none")


def make_subject(
    game: nn.Module, members: Sequence[Member], classes: int | None, choice: Choice
) -> Callable[..., Subject]:
    """A function of a host state, of the number of a member, and of why the state was chosen.

    What it compiles is shared by all its subjects.

    Args:
        game: the players.
        members: the runs that the state is of.
        classes: number of labels, None for an unconditional game.
        choice: which of its weights and statistics.

    Raises:
        InputError: the choice is none of those there are.
    """
    choice.check()

    def draw(key, indices):
        return draw_latents(key, indices, game.latent, choice.truncation)

    def of_latents(variables, latents, labels, train=False):
        mutable = nn.DenyList("params")
        return game.apply(variables, latents, labels, train, method="generate", mutable=mutable)

    def generate(variables, key, indices, labels, train):
        return of_latents(variables, draw(key, indices), labels, train)

    def shown(found):
        # Points are no pixels.
        return pixels.encode(found) if found.ndim == 4 else found

    @jax.jit
    def accumulate(variables, key, indices, own):
        labels = None if classes is None else indices % classes
        variables = _with_own(variables, own)
        return generate(variables, key, indices, labels, True)[1][norms.COLLECTION]["generator"]

    @jax.jit
    def sample(fixed, indices, labels):
        return shown(generate(*fixed, indices, labels, False)[0])

    @jax.jit
    def latents(fixed, indices):
        return draw(fixed[1], indices)

    @jax.jit
    def render(fixed, latents, labels):
        return shown(of_latents(fixed[0], latents, labels)[0])

    @jax.jit
    def generator_attention(fixed, indices, labels):
        return sown(generate(*fixed, indices, labels, False)[1])

    @jax.jit
    def discriminator_attention(fixed, images, labels):
        variables, _ = fixed
        _, found = game.apply(
            variables,
            pixels.decode(images),
            labels,
            method="judge_alone",
            mutable=["intermediates"],
        )
        return sown(found)

    def with_statistics(variables: Variables, key: PRNGKey) -> Variables:
        if not _has_statistics(variables) or choice.statistics == "running":
            return variables
        own = jax.tree.map(jnp.zeros_like, variables[norms.COLLECTION]["generator"])
        for index in range(STANDING_PASSES):
            indices = index * STANDING_BATCH + jnp.arange(STANDING_BATCH)
            own = accumulate(variables, key, indices, own)
        weight = 1 - norms.MOMENTUM**STANDING_PASSES
        return _with_own(variables, jax.tree.map(lambda total: total / weight, own))

    def of_state(state: GanState, member: int = 0, chosen: str = "") -> Subject:
        seed, key = members[member]
        state = member_of(state, len(members), member)
        standing_key = keys.stream(key, "standing statistics")
        variables = with_statistics(variables_of(state, choice), standing_key)
        sample_key = keys.stream(key, "sample")

        def bound(program: Callable) -> Callable:
            return mesh.spread(program, (variables, sample_key))

        def attention(program: Callable, player: str) -> Callable:
            return lambda *inputs: attention_weights(bound(program)(*inputs).get(player, {}))

        return Subject(
            sample=bound(sample),
            latents=bound(latents),
            render=bound(render),
            generator_attention=attention(generator_attention, "generator"),
            discriminator_attention=attention(discriminator_attention, "discriminator"),
            gammas=gammas(variables["params"]),
            facts={
                "step": int(state.step),
                "seed": seed,
                "weights": choice.weights,
                "chosen_by": chosen or "nothing",
                "truncation": choice.truncation or "none",
                "batch_statistics": "none"
                if not _has_statistics(variables)
                else f"standing, {STANDING_PASSES * STANDING_BATCH} samples"
                if choice.statistics == "standing"
                else "running",
            },
        )

    return of_state


def variables_of(state: GanState, choice: Choice) -> Variables:
    """All that networks hold, the generator's parameters as chosen."""
    generator = state.ema if choice.weights == "ema" else state.params["generator"]
    return {"params": {**state.params, "generator": generator}, **state.collections}


def _has_statistics(variables: Variables) -> bool:
    """Whether the generator has batch statistics."""
    return "generator" in variables.get(norms.COLLECTION, {})


def _with_own(variables: Variables, own: PyTree) -> Variables:
    """The variables with other batch statistics of the generator."""
    statistics = {**variables[norms.COLLECTION], "generator": own}
    return {**variables, norms.COLLECTION: statistics}


def sown(found: Variables) -> Variables:
    """What the layers left by the way, by player; nothing where there is no attention."""
    return found.get("intermediates", {})


def attention_weights(left: Variables) -> dict[str, np.ndarray]:
    """The attention weights among what a player left, by the path of their layer."""
    flat = flax.traverse_util.flatten_dict(left, sep="/")
    return {
        name.removesuffix("/weights"): value
        for name, (value,) in flat.items()
        if name.endswith("/weights")
    }


def gammas(params: PyTree) -> dict[str, float]:
    """The learnt scale of each attention layer that has one, by "player/layer"."""
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    return {
        name.removesuffix("/gamma"): float(value)
        for name, value in flat.items()
        if name.endswith("/gamma")
    }
