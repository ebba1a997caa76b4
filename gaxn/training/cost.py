"""The cost of networks and their training, counted from shapes: nothing is compiled or run."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping

import jax

from gaxn.types import PyTree

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def parameters(params: Mapping[str, PyTree]) -> dict[str, int]:
    """Returns the number of parameters of each player."""
    return {
        player: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
        for player, tree in params.items()
    }


def flops(program: Callable, *specs: PyTree) -> float | None:
    """Returns the floating-point operations of one call, as XLA counts them before it optimizes.

    A multiplication and an addition are two. Convolutions count the taps that meet the image:
    neither padding nor the zeros of a dilated operand; a transposed one to few channels counts a
    border of one pixel, which is cut off. Other arithmetic counts one per element;
    exponentials and the like, comparisons and moves count nothing. What no output depends on is
    not counted, such as a pass whose logits the loss does not use. The body of a `scan` counts
    once however often it runs, a custom kernel not at all.

    The count is that of the lowering for CPU, the same whatever the program runs on.

    Args:
        program: jitted; lowering it again costs nothing if it has run with such arguments.
        specs: its arguments, as `jax.ShapeDtypeStruct`.

    Returns:
        The count; None if JAX has no CPU backend.
    """
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
    with jax.default_device(None if jax.default_backend() == "cpu" else cpu):
        return float(program.lower(*specs).cost_analysis().get("flops", 0))


def collectives(program: str) -> tuple[Counter[str], int]:
    """Counts the communication between devices in a compiled program, given as HLO.

    Returns:
        The operations of each kind, and the bytes of all their results.
    """
    kinds: Counter[str] = Counter()
    sent = 0
    for types, kind in re.findall(rf"= (.+?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", program):
        kinds[kind] += 1
        for name, sides in re.findall(r"([a-z]+\d+)\[([\d,]*)\]", types):
            bits = int(re.sub(r"[a-z]", "", name))
            sent += bits // 8 * math.prod(int(side) for side in sides.split(",") if side)
    return kinds, sent
