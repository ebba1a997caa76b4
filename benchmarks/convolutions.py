"""Compares the convolutions of gaxn.nn.convolution with those of Flax, on the CPU.

    python -m benchmarks.convolutions [--rounds 7] [--calls 5] [--batch 64]

`double` is compared with flax.linen.ConvTranspose and `halve` with flax.linen.Conv, both 4x4 with
stride 2, and `convolve`, of stride 1, with flax.linen.Conv; without a bias, in float32. Both sides
get the same operands, and the script stops if their results differ. They alternate in one process,
`--calls` calls per round.

A row is one function at one shape, and one pass:
    forward   the result;
    gradient  the gradients with respect to the images and the kernel;
    second    the squared norm of the gradient with respect to the images, differentiated with
              respect to the kernel and the cotangent: a gradient penalty needs it of a layer.
Columns: the median milliseconds per call of gaxn and of Flax, and their ratio Flax / gaxn, above 1
where gaxn is faster.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Side, alternate
from gaxn.nn import convolution

Layer = Callable[[jax.Array, jax.Array], jax.Array]


class Map(NamedTuple):
    """A feature map of one example, square."""

    resolution: int
    channels: int

    def __str__(self) -> str:
        return f"{self.resolution}x{self.resolution}x{self.channels}"


SHAPES = (
    (Map(4, 256), Map(8, 128)),
    (Map(8, 128), Map(16, 64)),
    (Map(16, 64), Map(32, 32)),
)

PLAIN = (
    (Map(38, 16), Map(32, 3), 7, 0),
    (Map(38, 3), Map(32, 16), 7, 0),
    (Map(32, 32), Map(32, 3), 3, 1),
    (Map(8, 32), Map(7, 64), 4, 1),
    (Map(16, 64), Map(16, 64), 3, 1),
)
"""Of stride 1: maps, side of the kernel, padding. The last and the first layer of a CycleGAN, the
last of an attention cGAN, one of the CycleGAN's discriminator, and one with many channels."""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds")
    parser.add_argument("--calls", type=int, default=5, help="calls per round")
    parser.add_argument("--batch", type=int, default=64, help="images per batch")
    options = parser.parse_args(argv[1:])
    jax.config.update("jax_platforms", "cpu")
    print(f"{'layer':8} {'shape':18} {'pass':9} {'gaxn ms':>8} {'Flax ms':>8} {'ratio':>6}")
    for small, large in SHAPES:
        compare("double", convolution.double, flax_double, small, large, 4, options)
    for small, large in SHAPES:
        compare("halve", convolution.halve, flax_halve, large, small, 4, options)
    for before, after, side, padding in PLAIN:
        ours, theirs = plain_layers(padding)
        compare("convolve", ours, theirs, before, after, side, options)
    return 0


def flax_double(images: jax.Array, kernel: jax.Array) -> jax.Array:
    layer = nn.ConvTranspose(
        kernel.shape[2], (4, 4), strides=(2, 2), use_bias=False, transpose_kernel=True
    )
    return layer.apply({"params": {"kernel": kernel}}, images)


def flax_halve(images: jax.Array, kernel: jax.Array) -> jax.Array:
    layer = nn.Conv(kernel.shape[3], (4, 4), strides=(2, 2), padding=1, use_bias=False)
    return layer.apply({"params": {"kernel": kernel}}, images)


def plain_layers(padding: int) -> tuple[Layer, Layer]:
    """Returns the convolutions of stride 1 of gaxn and Flax."""

    def of_flax(images: jax.Array, kernel: jax.Array) -> jax.Array:
        layer = nn.Conv(kernel.shape[3], kernel.shape[:2], padding=padding, use_bias=False)
        return layer.apply({"params": {"kernel": kernel}}, images)

    return lambda images, kernel: convolution.convolve(images, kernel, padding), of_flax


def compare(
    name: str,
    gaxn_layer: Layer,
    flax_layer: Layer,
    before: Map,
    after: Map,
    side: int,
    options: argparse.Namespace,
) -> None:
    """Prints a row per pass."""
    operands = make_operands(before, after, side, options.batch)
    for label, derive in PASSES.items():
        programs = {"gaxn": jax.jit(derive(gaxn_layer)), "Flax": jax.jit(derive(flax_layer))}
        check_same(programs, operands)
        sides = {name: make_side(program, operands) for name, program in programs.items()}
        times = alternate(sides, options.rounds, options.calls)
        ours, theirs = (statistics.median(values) for values in times.values())
        shape = f"{before}->{after}"
        print(f"{name:8} {shape:18} {label:9} {ours:8.2f} {theirs:8.2f} {theirs / ours:6.2f}")


def make_operands(
    before: Map, after: Map, side: int, batch: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns images, a kernel whose outputs are near 1, and a cotangent."""
    random = np.random.default_rng(0)

    def images(size: Map) -> jax.Array:
        shape = (batch, size.resolution, size.resolution, size.channels)
        return jnp.asarray(random.standard_normal(shape, np.float32))

    # `double` has the kernel of `halve`, with its outputs before its inputs.
    first, last = (after, before) if after.resolution > before.resolution else (before, after)
    shape = (side, side, first.channels, last.channels)
    scale = np.float32((side**2 * before.channels / 4) ** -0.5)
    kernel = jnp.asarray(random.standard_normal(shape, np.float32) * scale)
    return images(before), kernel, images(after)


def forward(layer: Layer) -> Callable:
    return lambda images, kernel, cotangent: layer(images, kernel)


def gradient(layer: Layer) -> Callable:
    return lambda images, kernel, cotangent: jax.vjp(layer, images, kernel)[1](cotangent)


def second(layer: Layer) -> Callable:
    def square_norm(kernel, cotangent, images):
        (gradient,) = jax.vjp(lambda x: layer(x, kernel), images)[1](cotangent)
        return jnp.square(gradient).sum()

    differentiated = jax.grad(square_norm, argnums=(0, 1))
    return lambda images, kernel, cotangent: differentiated(kernel, cotangent, images)


PASSES = {"forward": forward, "gradient": gradient, "second": second}


def check_same(programs: dict[str, Callable], operands: tuple[jax.Array, ...]) -> None:
    ours, theirs = (jax.tree.leaves(program(*operands)) for program in programs.values())
    for actual, expected in zip(ours, theirs, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-5)


def make_side(program: Callable, operands: tuple[jax.Array, ...]) -> Side:
    def run(calls: int) -> None:
        for _ in range(calls):
            jax.block_until_ready(program(*operands))

    return run


if __name__ == "__main__":
    sys.exit(main(sys.argv))
