"""French sentences of a toy grammar, in which a verb has to find its subject.

A sentence has two or three phrases and a verb to inflect: `sous les lampes le chat dormir`
asks for "dort". Each phrase holds a noun of another kind, and a verb suits one kind: animals
sleep, lights shine, plants grow, vehicles roll. So the verb says which noun is its subject.
The others, each behind a preposition, are distractors, in any order and each of a number of
its own. Every fourth sentence is nonsense, in that none of its nouns suits the verb: without
those, a reader can take every verb for a plural one that sees no noun in the singular.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from gaxn import keys
from gaxn.types import Indices, PRNGKey

PADDING = 0
"""The index of no word."""

LENGTH = 10
"""Words of a sentence, with its padding: as many as three phrases and a verb have slots."""

PREPOSITIONS = ("sous", "sur", "devant", "derrière")
ARTICLES = ("le", "la", "les")
VERBS = (
    ("dormir", "manger"),
    ("briller", "clignoter"),
    ("pousser", "fleurir"),
    ("rouler", "freiner"),
)
"""Two of each kind."""

NOUNS = (
    ("chat", "chien", "vache", "poule"),
    ("phare", "lampion", "lampe", "bougie"),
    ("rosier", "chêne", "tulipe", "fougère"),
    ("vélo", "camion", "voiture", "moto"),
)
"""Of each kind two that are masculine, then two that are feminine."""

ANSWERS = ("singular", "plural", "nonsense")
"""What the verb has to be."""

WORDS = (
    "",
    *PREPOSITIONS,
    *ARTICLES,
    *(verb for kind in VERBS for verb in kind),
    *(noun + ending for kind in NOUNS for noun in kind for ending in ("", "s")),
)
"""Every word by its index."""

_INDEX = {word: index for index, word in enumerate(WORDS)}
_PREPOSITION = np.array([_INDEX[word] for word in PREPOSITIONS])
_VERB = np.array([[_INDEX[verb] for verb in kind] for kind in VERBS])
_NOUN = np.array([[[_INDEX[noun], _INDEX[noun + "s"]] for noun in kind] for kind in NOUNS])
_ARTICLE = np.array([[_INDEX[article], _INDEX["les"]] for article in ("le", "le", "la", "la")])

_ORDERS = np.array(list(itertools.permutations(range(len(VERBS)))))


class Sentences(NamedTuple):
    """Sentences; with nothing in place of `...`, one.

    Attributes:
        words: indices in `WORDS`, padding last.
        verb: the place of the verb, the last word.
        subject: the place of the noun that the verb has to agree with; in nonsense of the
            one that has no preposition.
        answer: index in `ANSWERS`.
    """

    words: Int[Array, "... 10"]
    verb: Int[Array, "..."]
    subject: Int[Array, "..."]
    answer: Int[Array, "..."]


@jax.jit
def draw(key: PRNGKey, indices: Indices) -> Sentences:
    """The sentences of some indices, in their shape; that of an index is always the same."""
    flat = jax.vmap(_draw)(keys.per_example(key, indices.ravel()))
    return jax.tree.map(lambda leaf: leaf.reshape(*indices.shape, *leaf.shape[1:]), flat)


def _draw(key: PRNGKey) -> Sentences:
    # A number below each of these; one call compiles far faster than eight.
    below = jnp.array([2, 6, len(_ORDERS), 4, 2, *(4, 4, 4), *(2, 2, 2), *(4, 4, 4)])
    numbers = jax.random.randint(key, below.shape, 0, below)
    phrases = 2 + numbers[0]
    # Even for two phrases as for three.
    subject = numbers[1] % phrases
    kind = jnp.asarray(_ORDERS)[numbers[2]]
    nonsense = numbers[3] == 0
    noun, number, preposition = numbers[5:].reshape(3, 3)
    columns = (
        jnp.asarray(_PREPOSITION)[preposition].at[subject].set(PADDING),
        jnp.asarray(_ARTICLE)[noun, number],
        jnp.asarray(_NOUN)[kind[:3], noun, number],
    )
    slots = jnp.where(jnp.arange(3)[:, None] < phrases, jnp.stack(columns, axis=-1), PADDING)
    suited = jnp.where(nonsense, kind[3], kind[subject])
    slots = jnp.append(slots.ravel(), jnp.asarray(_VERB)[suited, numbers[4]])
    # Words move up over empty slots, and keep their order.
    order = jnp.argsort(slots == PADDING, stable=True)
    return Sentences(
        words=slots[order],
        verb=(slots != PADDING).sum() - 1,
        subject=jnp.argmax(order == 3 * subject + 2),
        answer=jnp.where(nonsense, ANSWERS.index("nonsense"), number[subject]),
    )
