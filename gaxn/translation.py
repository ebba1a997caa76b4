"""From a trained state of the cycle-consistent game to what evaluators and pictures see."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from gaxn import mesh, pixels
from gaxn.data import Source, reader
from gaxn.population import Member, member_of
from gaxn.sampling import Choice, attention_weights, gammas, sown, variables_of
from gaxn.state import GanState
from gaxn.types import AttentionMaps, HostLabels, HostPixels, Subject, require

DIRECTIONS = ("a2b", "b2a")
"""From A to B, and from B to A."""

ORDER_SEED = 2020

BLOCK = 1_024
"""Queries that attention answers at a time in large pictures."""


Read = Callable[[HostLabels], HostPixels]
"""Indices -> images of one domain."""


class Translator(NamedTuple):
    """Both generators, as an evaluator may know them.

    Attributes:
        to_a: images of B, of any size that the generators take -> images of A.
        to_b: images of A -> images of B.
        subjects: by direction: its samples are the translated test images of the other domain,
            as `in_order` has them; its discriminator is the critic of what it makes.
        multiple: what the sides of images have to be multiples of.
        member: which run of a population it is of.
    """

    to_a: Callable[[HostPixels], HostPixels]
    to_b: Callable[[HostPixels], HostPixels]
    subjects: Mapping[str, Subject]
    multiple: int = 1
    member: int = 0


def in_order(domain: Source) -> Read:
    """indices, int [n] -> images of a domain, uint8, in an order that is drawn once.

    Many sources are sorted by class. Domains of one size have one order, and it begins anew
    where it ends.
    """
    order = np.random.RandomState(ORDER_SEED).permutation(len(domain))
    read = reader(domain)
    return lambda indices: jax.device_get(read(order[np.asarray(indices) % len(order)])).images


def make_translator(
    game: nn.Module, members: Sequence[Member], readers: tuple[Read, Read], choice: Choice
) -> Callable[..., Translator]:
    """A function of a host state, of the number of a member, and of why the state was chosen.

    What it compiles is shared by all its translators.

    Args:
        game: the players.
        members: the runs that the state is of.
        readers: of the test images of A and of B, `in_order`.
        choice: which weights; there are no latents to be cut off.

    Raises:
        InputError: the choice is none of those there are.
    """
    choice.check()
    game = _in_blocks(game)
    field, value = "config.evaluation.truncation", choice.truncation
    require(field, value, not value, "0 where images are translated: there are no latents")
    read = dict(zip("ab", readers, strict=True))
    translated = {name: jax.jit(_seen(game, f"to_{name}")) for name in "ab"}
    of_generator = {name: jax.jit(_left(game, f"to_{name}")) for name in "ab"}
    of_critic = {name: jax.jit(_left(game, f"judge_alone_{name}")) for name in "ab"}

    def of_state(state: GanState, member: int = 0, chosen: str = "") -> Translator:
        state = member_of(state, len(members), member)
        variables = variables_of(state, choice)
        to_a, to_b = (mesh.spread(translated[name], variables) for name in "ab")
        facts = {
            "step": int(state.step),
            "seed": members[member].seed,
            "weights": choice.weights,
            "chosen_by": chosen or "nothing",
        }

        def subject(direction: str, translate: Callable[[HostPixels], HostPixels]) -> Subject:
            inputs, end = read[direction[0]], direction[-1]

            def attention(program: Callable, player: str, images: HostPixels) -> AttentionMaps:
                found = mesh.spread(program, variables)(images)
                return attention_weights(found.get(player, {}))

            own = {
                name: value
                for name, value in gammas(variables["params"]).items()
                if name.split("/")[1] == end
            }
            return Subject(
                sample=lambda indices, labels: translate(inputs(indices)),
                generator_attention=lambda indices, labels: attention(
                    of_generator[end], "generator", inputs(indices)
                ),
                discriminator_attention=lambda images, labels: attention(
                    of_critic[end], "discriminator", images
                ),
                gammas=own,
                facts={**facts, "direction": direction},
            )

        subjects = {"a2b": subject("a2b", to_b), "b2a": subject("b2a", to_a)}
        multiple = getattr(game.generator.a, "multiple", 1)
        return Translator(to_a, to_b, subjects, multiple, member)

    return of_state


def _seen(game: nn.Module, method: str) -> Callable:
    """(variables, uint8 images) -> translated ones."""
    return lambda variables, images: pixels.encode(
        game.apply(variables, pixels.decode(images), method=method)
    )


def _left(game: nn.Module, method: str) -> Callable:
    """(variables, uint8 images) -> what the layers leave by the way."""

    def look(variables, images):
        inputs = pixels.decode(images)
        return sown(game.apply(variables, inputs, method=method, mutable=["intermediates"])[1])

    return look


def _in_blocks(game: nn.Module) -> nn.Module:
    """The same game, its generators' attention in blocks: for pictures of any size."""
    generator = game.generator
    if not hasattr(generator.a, "attention_block"):
        return game
    a, b = (own.clone(attention_block=BLOCK) for own in (generator.a, generator.b))
    return game.clone(generator=generator.clone(a=a, b=b))
