"""French sentences of a toy grammar, in which a verb has to find its subject.

A sentence has two or three phrases and a verb to inflect: `sous les lampes le chat dormir` needs
"dort". The nouns of a sentence are of different kinds, and a verb suits one kind: animals sleep,
lights shine, plants grow, vehicles roll. So the verb determines which noun is its subject. The
other nouns are distractors, each behind a preposition; order and numbers are random. Every fourth
sentence is nonsense: none of its nouns suits the verb. Without nonsense, a network could answer
"plural" whenever the verb attends to no singular noun.
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
"""The index of padding."""

LENGTH = 10
"""Words of a padded sentence: the slots of three phrases, three each, and the verb."""

PREPOSITIONS = ("sous", "sur", "devant", "derrière")
ARTICLES = ("le", "la", "les")
VERBS = (
    ("dormir", "manger"),
    ("briller", "clignoter"),
    ("pousser", "fleurir"),
    ("rouler", "freiner"),
)
"""Two per kind."""

NOUNS = (
    ("chat", "chien", "vache", "poule"),
    ("phare", "lampion", "lampe", "bougie"),
    ("rosier", "chêne", "tulipe", "fougère"),
    ("vélo", "camion", "voiture", "moto"),
)
"""Per kind two masculine ones, then two feminine ones."""

ANSWERS = ("singular", "plural", "nonsense")
"""The number of the verb, or that it has no subject."""

WORDS = (
    "",
    *PREPOSITIONS,
    *ARTICLES,
    *(verb for kind in VERBS for verb in kind),
    *(noun + ending for kind in NOUNS for noun in kind for ending in ("", "s")),
)
"""All words by index."""

_INDEX = {word: index for index, word in enumerate(WORDS)}
_PREPOSITION = np.array([_INDEX[word] for word in PREPOSITIONS])
_VERB = np.array([[_INDEX[verb] for verb in kind] for kind in VERBS])
_NOUN = np.array([[[_INDEX[noun], _INDEX[noun + "s"]] for noun in kind] for kind in NOUNS])
_ARTICLE = np.array([[_INDEX[article], _INDEX["les"]] for article in ("le", "le", "la", "la")])

_ORDERS = np.array(list(itertools.permutations(range(len(VERBS)))))


class Sentences(NamedTuple):
    """Sentences, or a single one.

    Attributes:
        words: indices in `WORDS`, padding last.
        verb: index of the verb, the last word, within the sentence.
        subject: index of the noun that the verb agrees with; in nonsense, of the noun without a
            preposition.
        answer: index in `ANSWERS`.
    """

    words: Int[Array, "... 10"]
    verb: Int[Array, "..."]
    subject: Int[Array, "..."]
    answer: Int[Array, "..."]


@jax.jit
def draw(key: PRNGKey, indices: Indices) -> Sentences:
    """Returns the sentences of some indices, in their shape; each depends on its index alone."""
    flat = jax.vmap(_draw)(keys.per_example(key, indices.ravel()))
    return jax.tree.map(lambda leaf: leaf.reshape(*indices.shape, *leaf.shape[1:]), flat)


def _draw(key: PRNGKey) -> Sentences:
    # Upper bounds of all random numbers: one call compiles much faster than eight.
    bounds = jnp.array([2, 6, len(_ORDERS), 4, 2, *(4, 4, 4), *(2, 2, 2), *(4, 4, 4)])
    numbers = jax.random.randint(key, bounds.shape, 0, bounds)
    phrases = 2 + numbers[0]
    # Uniform for two phrases as well as for three, since both divide 6.
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
    verb_kind = jnp.where(nonsense, kind[3], kind[subject])
    slots = jnp.append(slots.ravel(), jnp.asarray(_VERB)[verb_kind, numbers[4]])
    # Moves empty slots to the end and keeps the order of the words.
    order = jnp.argsort(slots == PADDING, stable=True)
    return Sentences(
        words=slots[order],
        verb=(slots != PADDING).sum() - 1,
        subject=jnp.argmax(order == 3 * subject + 2),
        answer=jnp.where(nonsense, ANSWERS.index("nonsense"), number[subject]),
    )
