"""What else the players' losses hold, one regulariser a file, each with a `Regularizer`.

Unlike a penalty it may concern both players, ask for more images, and keep something from
step to step. It is a Flax module; `discriminator` and `generator` give what it adds to the loss
of either, a value an example or a pack, weights included.
"""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from gaxn.types import Images, Labels, Logits, Verdict


class View(NamedTuple):
    """What a regulariser sees of a turn.

    Attributes:
        real, fake: images as the discriminator sees them, augmented and packed.
        real_verdict, fake_verdict: what it says of them.
        labels: of the examples; None where there are none.
        judge: images as it sees them -> what it says, its statistics held still.
        inputs: what the generated images were made from, [batch, ...].
        generate: inputs -> generated images.
        show: generated images -> as the discriminator sees them, augmented as `fake` was.
    """

    real: Images
    fake: Images
    real_verdict: Verdict
    fake_verdict: Verdict
    labels: Labels | None
    judge: Callable[[Images], Verdict]
    inputs: Float[Array, "batch ..."]
    generate: Callable[[jax.Array], Images]
    show: Callable[[Images], Images]


class Base(nn.Module):
    """A regulariser that adds nothing and keeps nothing.

    Attributes:
        STILL: whether it asks the discriminator at rest, which then may not have batch statistics.
    """

    STILL: ClassVar[bool] = False

    def __call__(self, verdict: Verdict, labels: Labels | None) -> None:
        """Creates what it keeps, if anything.

        Args:
            verdict: what the discriminator says.
            labels: of its images.

        Raises:
            InputError: it cannot work with such a one.
        """

    def discriminator(self, view: View, keys: jax.Array) -> Logits | None:
        """What is added to the discriminator's loss; `keys` are one an example."""

    def generator(self, view: View, keys: jax.Array) -> Logits | None:
        """What is added to the generator's loss."""
