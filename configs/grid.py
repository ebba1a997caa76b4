"""Twenty-five modes on a grid (Lin et al., 2018, section 4.1); all else as in configs/ring.py.

python -m gaxn.main --config configs/grid.py:pacgan2 --workdir runs/grid/pacgan2
"""

import itertools

import ring
from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """The variants are those of configs/ring.py."""
    config = ring.get_config(variant)
    config.data.centers = tuple(itertools.product((-4.0, -2.0, 0.0, 2.0, 4.0), repeat=2))
    config.data.deviation = 0.05
    return config
