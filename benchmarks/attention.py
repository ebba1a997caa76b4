"""Compares self-attention at once with self-attention in blocks of queries: memory and time.

    python -m benchmarks.attention [--batch 64] [--channels 64] [--block 128] [--sides 16 32 64]
        [--dtype float32] [--rounds 5] [--calls 3] [--limit 12]

The attention of `gaxn.nn.attention` over a map of SIDE x SIDE positions: queries and keys have 1/8
of the channels, values all of them; one head, nothing pooled. Each row is a side and a pass:

    forward   the result;
    gradient  the gradients with respect to queries, keys and values, as in training.

Columns: the temporary memory of the compiled program in GiB, at once and in blocks, as XLA plans
it; milliseconds, medians of alternating rounds; and the ratio of each, at once over in blocks.
A program that needs more than `--limit` GiB is not run, and its time is a dash. The script stops if
the two results differ by more than rounding.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Side, alternate
from gaxn.nn.attention import Heads, attend, attend_in_blocks

TOLERANCE = {"float32": 2e-3, "bfloat16": 2e-2}
"""Largest difference of sums over thousands of products, whose factors a GPU rounds to TF32."""

Attention = Callable[[Heads, Heads, Heads], Heads]


def gradient(attention: Attention) -> Callable[..., tuple[Heads, Heads, Heads]]:
    """Returns the function (queries, keys, values) -> gradients of half the squared result."""

    def half_square(*operands):
        return jnp.square(attention(*operands).astype(jnp.float32)).sum() / 2

    return jax.grad(half_square, argnums=(0, 1, 2))


def memory(compiled) -> float:
    """Returns the temporary memory of a compiled program in GiB."""
    return compiled.memory_analysis().temp_size_in_bytes / 2**30


def make_side(compiled, operands: Sequence[Heads]) -> Side:
    def run(calls: int) -> None:
        for _ in range(calls):
            result = compiled(*operands)
        jax.block_until_ready(result)

    return run


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--block", type=int, default=128)
    parser.add_argument("--sides", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--limit", type=float, default=12.0)
    options = parser.parse_args(argv[1:])
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; {vars(options)}")
    print(f"{'side':>4} {'pass':8} {'GiB':>8} {'blocks':>8} {'ratio':>6}", end="")
    print(f" {'ms':>8} {'blocks':>8} {'ratio':>6}")
    forms = {"at once": attend, "blocks": partial(attend_in_blocks, block=options.block)}
    for side in options.sides:
        random = np.random.default_rng(0)
        operands = [
            jnp.asarray(random.normal(size=(options.batch, side**2, 1, features)), options.dtype)
            for features in (options.channels // 8, options.channels // 8, options.channels)
        ]
        for name, make in {"forward": lambda attention: attention, "gradient": gradient}.items():
            compiled = {
                form: jax.jit(make(attention)).lower(*operands).compile()
                for form, attention in forms.items()
            }
            memories = {form: memory(program) for form, program in compiled.items()}
            sides = {
                form: make_side(program, operands)
                for form, program in compiled.items()
                if memories[form] <= options.limit
            }
            if len(sides) == len(forms):
                results = [program(*operands) for program in compiled.values()]
                check_same(*results, TOLERANCE[options.dtype])
            rounds = alternate(sides, options.rounds, options.calls)
            times = {form: statistics.median(values) for form, values in rounds.items()}
            at_once, in_blocks = memories.values()
            print(f"{side:4} {name:8} {at_once:8.3f} {in_blocks:8.3f}", end="")
            print(f" {at_once / max(in_blocks, 1e-9):6.1f}", end="")
            cells = [f"{times[form]:8.2f}" if form in times else f"{'-':>8}" for form in forms]
            ratio = f"{times['at once'] / times['blocks']:6.2f}" if len(times) == 2 else f"{'-':>6}"
            print("", *cells, ratio, flush=True)
    return 0


def check_same(expected, actual, tolerance: float) -> None:
    """Ends the script if two results differ by more than a share of the largest value."""
    for left, right in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
        left, right = (np.asarray(leaf, np.float32) for leaf in (left, right))
        difference = np.abs(left - right).max() / np.abs(left).max()
        if difference > tolerance:
            raise SystemExit(f"the forms differ by {difference:.1e} of the largest value")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
