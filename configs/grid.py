"""Twenty-five modes on a grid (Lin et al., 2018, section 4.1); all else as in configs/ring.py.

python -m gaxn.main --config configs/grid.py:pacgan2 --workdir runs/grid/pacgan2
"""

import importlib.util
import itertools
from pathlib import Path

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """The variants are those of configs/ring.py."""
    spec = importlib.util.spec_from_file_location("ring", Path(__file__).with_name("ring.py"))
    ring = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ring)
    config = ring.get_config(variant)
    places = (-4.0, -2.0, 0.0, 2.0, 4.0)
    config.data.centres = tuple(itertools.product(places, places))
    config.data.deviation = 0.05
    return config
