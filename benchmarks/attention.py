"""Self-attention at once against self-attention in blocks of queries: memory and time.

    python benchmarks/attention.py [--batch 64] [--channels 64] [--block 128] [--sides 16 32 64]
        [--dtype float32] [--rounds 5] [--calls 3] [--limit 12]

The attention of `gaxn.nn.attention` over a map of SIDE x SIDE positions: 1/8 of the channels in
queries and keys, all of them in values, one head, nothing pooled. A row is a side and a pass:

    forward   the result;
    gradient  the gradients in queries, keys and values, as training asks for them.

Columns: the temporary memory of the compiled program in GiB, at once and in blocks, as XLA plans
it; milliseconds, medians of rounds taken in turn; and the ratio of each, at once over in blocks.
Where the memory of one is above `--limit`, in GiB, it is not run, and its time is a dash. The
script stops if the two differ by more than rounding.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from timing import Side, alternate

from gaxn.nn.attention import Heads, attend, attend_in_blocks

TOLERANCE = {"float32": 2e-3, "bfloat16": 2e-2}
"""Of sums over thousands of rounded products, whose factors a GPU cuts to TF32."""

Attention = Callable[[Heads, Heads, Heads], Heads]


def gradient(attention: Attention) -> Callable[..., tuple[Heads, Heads, Heads]]:
    """The gradients of half its square."""

    def half_square(*operands):
        return jnp.square(attention(*operands).astype(jnp.float32)).sum() / 2

    return jax.grad(half_square, argnums=(0, 1, 2))


def memory(compiled) -> float:
    """GiB."""
    return compiled.memory_analysis().temp_size_in_bytes / 2**30


def side_of(compiled, operands: Sequence[Heads]) -> Side:
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
    given = parser.parse_args(argv[1:])
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; {vars(given)}")
    print(f"{'side':>4} {'pass':8} {'GiB':>8} {'blocks':>8} {'ratio':>6}", end="")
    print(f" {'ms':>8} {'blocks':>8} {'ratio':>6}")
    forms = {"at once": attend, "blocks": partial(attend_in_blocks, block=given.block)}
    for side in given.sides:
        random = np.random.default_rng(0)
        operands = [
            jnp.asarray(random.normal(size=(given.batch, side**2, 1, features)), given.dtype)
            for features in (given.channels // 8, given.channels // 8, given.channels)
        ]
        for name, make in {"forward": lambda attention: attention, "gradient": gradient}.items():
            compiled = {
                form: jax.jit(make(attention)).lower(*operands).compile()
                for form, attention in forms.items()
            }
            needs = {form: memory(program) for form, program in compiled.items()}
            sides = {
                form: side_of(program, operands)
                for form, program in compiled.items()
                if needs[form] <= given.limit
            }
            if len(sides) == len(forms):
                check(
                    *(program(*operands) for program in compiled.values()), TOLERANCE[given.dtype]
                )
            found = alternate(sides, given.rounds, given.calls)
            times = {form: statistics.median(values) for form, values in found.items()}
            memories = list(needs.values())
            print(f"{side:4} {name:8} {memories[0]:8.3f} {memories[1]:8.3f}", end="")
            print(f" {memories[0] / max(memories[1], 1e-9):6.1f}", end="")
            shown = [f"{times[form]:8.2f}" if form in times else f"{'-':>8}" for form in forms]
            ratio = f"{times['at once'] / times['blocks']:6.2f}" if len(times) == 2 else f"{'-':>6}"
            print("", *shown, ratio, flush=True)
    return 0


def check(expected, found, tolerance: float) -> None:
    """Refuses two results that differ by more than a share of the largest value."""
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        one, other = (np.asarray(leaf, np.float32) for leaf in (one, other))
        apart = np.abs(one - other).max() / np.abs(one).max()
        if apart > tolerance:
            raise SystemExit(f"the forms differ by {apart:.1e} of the largest value")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
