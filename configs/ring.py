"""Eight modes on a ring (Lin et al., 2018, section 4.1): which GANs cover them all, how evenly.

    python -m gaxn.main --config configs/ring.py:pacgan2 --workdir runs/ring/pacgan2

Ten seeds are trained at once. Rows are variants: gan, pacgan2, pacgan4, hinge (with R1),
wgan_gp (one discriminator step), r3gan (relativistic with R1 and R2). `+short` is 5,000 steps of
4 seeds instead of 400,000 of 10, with half of the generator's layers and 100 examples a batch in
every row: it takes minutes on a CPU, and is not a published protocol.

The published protocol: 100,000 points, 400 epochs, batch 100, Adam 1e-4 with b1 0.8, both players
at once, a generator of 400 units a layer and a discriminator of three maxout layers of 200 units
and 5 pieces; 2,500 samples, of which those within 3 deviations of a mode count for it. Details
that the text leaves open are as in the authors' code: four hidden layers in the generator, and a
batch of 100 packs, not of 100 examples.

Results with +short (seeds 0 to 3, 2 CPU cores; mean and standard error):

             modes           high quality    reverse KL     time
    gan      8.00 +- 0.00    20.1 +- 3.0 %   0.44 +- 0.09   2.4 min
    pacgan2  7.75 +- 0.25    13.7 +- 2.3 %   0.57 +- 0.13   1.8 min
    pacgan4  8.00 +- 0.00     4.2 +- 0.3 %   0.16 +- 0.01   1.5 min
    hinge    8.00 +- 0.00    28.6 +- 2.9 %   0.24 +- 0.08   2.8 min
    wgan_gp  7.25 +- 0.75    23.8 +- 7.2 %   0.57 +- 0.31   2.9 min
    r3gan    8.00 +- 0.00    23.9 +- 4.2 %   0.34 +- 0.04   12 min (one core, the other busy)

With R1 and R2 of 1 instead of 0.1, r3gan covered 7.75 +- 0.25 modes (15.8 +- 4.5 %, 0.45 +- 0.15;
3.5 min on both cores; all six rows took 15.0 min then). After 5,000 steps, samples still lie
between the modes.

Of the 400,000 steps of the protocol, one seed of one row has been run (gan, seed 0, one shared
core): 6 modes, 90.5 %, 0.32; after 200,000 steps 97.2 %, 0.33. Published (10 runs): 6.3 +- 0.5,
98.2 +- 0.2 %, 0.45 +- 0.09. With two hidden layers in the generator it was 6 modes, 78.4 %, 0.53.
"""

import math

import common
from ml_collections import ConfigDict

CENTERS = tuple(
    (round(math.cos(math.tau * k / 8), 12), round(math.sin(math.tau * k / 8), 12)) for k in range(8)
)


def get_config(variant: str = "") -> ConfigDict:
    """A row, and its length, joined by "+"; `tiny` runs in seconds and learns nothing."""
    config = common.gan(num_train_steps=400_000, batch_size=100, latent_size=2)
    config.population = 10
    config.data = {"name": "mixture", "centers": CENTERS, "deviation": 0.01, "examples": 100_000}
    config.update_rule = {"name": "simultaneous"}
    config.generator = {"name": "mlp.Generator", "widths": (400, 400, 400, 400)}
    config.discriminator = {"name": "mlp.Discriminator", "widths": (200, 200, 200), "pieces": 5}
    config.loss = {"name": "non_saturating"}
    config.objective = {"packing": 1}
    config.optimizers = common.adam(generator=1e-4, discriminator=1e-4, b1=0.8, b2=0.999)
    config.evaluation = {"samples": 2_500, "weights": "raw"}
    config.run = common.run(every=20_000, log_every=1_000)
    rows = {
        "gan": {},
        "pacgan2": {"objective": {"packing": 2}},
        "pacgan4": {"objective": {"packing": 4}},
        "hinge": {"loss": {"name": "hinge"}, "penalties": {"r1": {"weight": 1.0}}},
        "wgan_gp": {"loss": {"name": "wasserstein"}, "penalties": {"wgan_gp": {"weight": 0.1}}},
        "r3gan": {
            "loss": {"name": "relativistic"},
            "penalties": {"r1": {"weight": 0.1}, "r2": {"weight": 0.1}},
        },
    }
    short = {
        "num_train_steps": 5_000,
        "batch_size": 100,
        "population": 4,
        "generator": {"widths": (400, 400)},
        "run": {"log_every": 250, "sample_every": 500, "checkpoint_every": 1_000},
        "evaluation": {"metrics": ("modes", "frechet", "sliced_wasserstein")},
    }
    tiny = common.tiny(
        population=2,
        data={"examples": 64},
        generator={"widths": (8, 8)},
        discriminator={"widths": (4, 4)},
        evaluation={"reference_count": 200},
    )
    config = common.with_variant(config, variant, **rows, short=short, tiny=tiny)
    if not {"short", "tiny"} & set(variant.split("+")):
        config.batch_size *= config.objective.packing
    return config
