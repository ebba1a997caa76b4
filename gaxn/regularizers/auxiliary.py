"""AC-GAN: the discriminator names classes too, which both want right (Odena et al., 2017).

Needs a discriminator with a head of class logits, which does not see the labels.
"""

import jax
import optax

from gaxn.regularizers import Base, View
from gaxn.types import InputError, Labels, Logits, Verdict, require


class Regularizer(Base):
    """weight times the cross-entropy of the labels (eq. 3, L_C).

    The discriminator's is over real and generated images, the generator's over its own.

    Attributes:
        weight: 0 or more.
        fake: whether the discriminator learns the classes of generated images too, as in the
            paper; without, poor images cannot teach it.
    """

    weight: float = 1.0
    fake: bool = True

    def setup(self):
        field = "config.regularizers.auxiliary.weight"
        require(field, self.weight, self.weight >= 0, "0 or more")

    def __call__(self, verdict: Verdict, labels: Labels | None) -> None:
        if verdict.class_logits is None or labels is None:
            raise InputError(
                "config.regularizers.auxiliary needs config.conditional to be True and a "
                "discriminator that names classes: config.discriminator.auxiliary=True"
            )

    def discriminator(self, view: View, keys: jax.Array) -> Logits:
        entropy = self._entropy(view, view.real_verdict)
        if self.fake:
            entropy += self._entropy(view, view.fake_verdict)
        return self.weight * entropy

    def generator(self, view: View, keys: jax.Array) -> Logits:
        return self.weight * self._entropy(view, view.fake_verdict)

    def _entropy(self, view: View, verdict: Verdict) -> Logits:
        return optax.softmax_cross_entropy_with_integer_labels(verdict.class_logits, view.labels)
