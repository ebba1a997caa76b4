"""What a network and its training cost, counted from shapes: nothing is compiled or run."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping

import jax

from gaxn.types import PyTree

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def parameters(params: Mapping[str, PyTree]) -> dict[str, int]:
    """How many numbers each player learns."""
    return {
        player: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(own))
        for player, own in params.items()
    }


def flops(program: Callable, *shapes: PyTree) -> float | None:
    """Floating-point operations of one call, as XLA counts them before it optimizes.

    A multiplication and an addition are two. Convolutions count the taps that meet the
    image: neither padding nor the zeros of a dilated operand. Other arithmetic counts one
    an element; exponentials and their like, comparisons and moves count nothing. What no
    output depends on is not counted, such as a pass whose logits the loss leaves out. The
    body of a `scan` counts once however often it runs, a custom kernel not at all.

    The count is that of the lowering for CPU, the same whatever the program runs on.

    Args:
        program: a function that JAX can trace.
        shapes: its arguments, as `jax.ShapeDtypeStruct`.

    Returns: the count; None where JAX was told to do without its CPU backend.
    """
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
    with jax.default_device(cpu):
        return float(jax.jit(program).lower(*shapes).cost_analysis().get("flops", 0))


def collectives(program: str) -> tuple[Counter[str], int]:
    """What the devices send one another in a compiled program, given as HLO.

    Returns: how many operations of each kind, and the bytes of their results together.
    """
    kinds: Counter[str] = Counter()
    sent = 0
    for types, kind in re.findall(rf"= (.+?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", program):
        kinds[kind] += 1
        for name, sides in re.findall(r"([a-z]+\d+)\[([\d,]*)\]", types):
            bits = int(re.sub(r"[a-z]", "", name))
            sent += bits // 8 * math.prod(int(side) for side in sides.split(",") if side)
    return kinds, sent
