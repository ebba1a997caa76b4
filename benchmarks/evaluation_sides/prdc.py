"""The side of the package prdc, by the authors of density and coverage, in `benchmarks.evaluation`.

python -m benchmarks.evaluation_sides.prdc prdc COUNT WIDTH
"""

import contextlib
import io
import sys

import numpy as np
import prdc

from benchmarks import evaluation_sides
from benchmarks.evaluation_sides import Blocks, Size

NEIGHBORS = 5


def density_and_coverage(generated: Blocks, real: Blocks, size: Size) -> dict[str, float]:
    """Returns two of the four figures: its precision and recall are by another definition."""
    tables = [np.concatenate(list(blocks)) for blocks in (generated, real)]
    with contextlib.redirect_stdout(io.StringIO()):
        result = prdc.compute_prdc(tables[1], tables[0], nearest_k=NEIGHBORS)
    return {name: float(result[name]) for name in ("density", "coverage")}


if __name__ == "__main__":
    evaluation_sides.run(sys.argv, {"prdc": density_and_coverage})
