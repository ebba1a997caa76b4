"""A loss of your own, scored against the usual one.

    python examples/custom_loss.py --config configs/ring.py:tiny --workdir runs/custom_loss_tiny

Both train on eight modes on a ring: `:tiny` for seconds, in which nothing is learned; `:short`, in
another directory, for ten minutes or more on 2 CPU cores.
"""

import argparse

import flax.linen as nn

import gaxn
from gaxn.objectives.losses import Loss
from gaxn.types import check


def tempered(temperature: float = 1.0) -> Loss:
    """Non-saturating loss of logits in units of a temperature t; 1 is the usual loss.

    L_D = t softplus(-D(x) / t) + t softplus(D(G(z)) / t),   L_G = t softplus(-D(G(z)) / t)
    """
    check("temperature", temperature, temperature > 0, "above 0")

    def softplus(logits):
        return temperature * nn.softplus(logits / temperature)

    return Loss(
        discriminator=lambda real, fake: softplus(-real) + softplus(fake),
        generator=lambda real, fake: softplus(-fake),
    )


LOSSES = {
    "usual": {"name": "non_saturating"},
    "tempered": {"name": "custom_loss:tempered", "temperature": 5.0},
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/ring.py:short")
    parser.add_argument("--workdir", default="runs/custom_loss")
    arguments = parser.parse_args()
    for name, loss in LOSSES.items():
        run = gaxn.train(arguments.config, workdir=f"{arguments.workdir}/{name}", loss=loss)
        figures = run.evaluate()["modes"]["figures"]
        for figure in ("modes", "modes_quality", "frechet_distance"):
            print(f"{name}: {figure} {figures[figure]:.4f} +- {figures[f'{figure}_error']:.4f}")
