"""The Dirac-GAN (Mescheder et al., 2018): which training methods converge, drawn into --output."""

import argparse

import flax.linen as nn
import jax
import matplotlib.pyplot as plt
import optax

from gaxn.gans.gan import GAN
from gaxn.objectives import losses, objective, penalties
from gaxn.training import state, step, update_rules
from gaxn.types import Batch

METHODS = {
    "simultaneous": (update_rules.simultaneous(), {}),
    "alternating": (update_rules.alternating(), {}),
    "simultaneous, R1": (update_rules.simultaneous(), {"r1": penalties.r1(weight=0.3)}),
    "consensus": (update_rules.consensus(weight=1.0), {}),
}


class Point(nn.Module):  # The generator: every sample is the point theta; the data are 0.
    @nn.compact
    def __call__(self, latents, labels, train):
        return self.param("theta", nn.initializers.ones, ()) + 0 * latents


class Slope(nn.Module):  # The discriminator: D(x) = psi x.
    @nn.compact
    def __call__(self, points, labels, train):
        return self.param("psi", nn.initializers.ones, ()) * points[:, 0]


def trajectory(rule, terms, loss=losses.minimax, rate=0.1, steps=500):
    """Returns theta and psi, each float [steps], of gradient descent from (1, 1)."""
    objectives = objective.make_objective(loss(), terms, regularizers={}, augmentations=())
    gan = GAN(Point(), Slope(), objectives, latent_size=1, conditional=False)
    sgd, batches, key = optax.sgd(rate), Batch(jax.numpy.zeros((2, 1, 1)), None), jax.random.key(0)
    updates = [step.PlayerUpdate(player, loss, sgd) for player, loss in gan.losses().items()]

    def walk(before, _):
        theta, psi = before.params["generator"]["theta"], before.params["discriminator"]["psi"]
        return rule.step(gan, updates, before, batches, key)[0], (theta, psi)

    start = state.create_state(gan, dict.fromkeys(gan.losses(), sgd), batches, key)
    return jax.lax.scan(walk, start, length=steps)[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="dirac_gan.png")
    output = parser.parse_args().output
    figure, panels = plt.subplots(1, 4, figsize=(13, 3.6), sharex=True, sharey=True)
    for axes, (name, method) in zip(panels, METHODS.items(), strict=True):
        axes.plot(*trajectory(*method), ".-", 0, 0, "k+", 1, 1, "ko", linewidth=0.5, markersize=3)
        axes.set(title=name, xlabel="theta", ylabel="psi", aspect="equal")
    figure.savefig(output, bbox_inches="tight")
    print(output)
