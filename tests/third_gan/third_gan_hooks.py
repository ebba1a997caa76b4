"""Hooks of third_gan.py: those of a GAN with latents, and reconstructions of images."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from gaxn.data import Source, make_reader, pixels
from gaxn.distributed import sharding
from gaxn.evaluation.kinds import Hooks
from gaxn.evaluation.kinds import gan as gan_hooks
from gaxn.evaluation.sampling import SamplingOptions
from gaxn.io import files, plots
from gaxn.metrics.statistics.standard_errors import standard_error
from gaxn.objectives.losses import Loss
from gaxn.training.population import Member, member_state
from gaxn.training.state import TrainState
from gaxn.types import HostPixels, Measurement, Sampler, check


class EncoderSampler(NamedTuple):
    """A sampler, and G(E(x)) of images x."""

    sampler: Sampler
    reconstruct: Callable[[HostPixels], HostPixels]


def make_hooks(
    gan: nn.Module,
    loss: Loss,
    members: Sequence[Member],
    train: Source,
    test: Source,
    classes: int | None,
    columns: int,
) -> Hooks:
    """Returns the hooks of an EncoderGAN; the arguments are those of kinds/gan.py."""
    hooks = gan_hooks.make_hooks(gan, loss, members, train, test, classes, columns)
    (target,) = hooks.targets

    def draw_samples(sampler: Callable, state: TrainState) -> np.ndarray:
        return hooks.draw_samples(lambda *inputs: sampler(*inputs).sampler, state)

    def make_evaluators(samples: int, *_: Callable) -> Mapping[str, Any]:
        return {"reconstruction": Evaluator(test, min(samples, len(test)))}

    def interpolate(sampler: EncoderSampler, workdir: Path) -> int:
        return hooks.commands["interpolate"](sampler.sampler, workdir)

    def reconstruct(sampler: EncoderSampler, workdir: Path, *, count: int = columns) -> int:
        check("--count", count, 1 <= count <= len(test), f"1 to {len(test)}")
        images = read_images(test, count)
        path = workdir / "reconstruction.png"
        files.write_png(path, plots.grid(np.stack([images, sampler.reconstruct(images)])))
        print(path)
        return 0

    return hooks._replace(
        make_sampler=lambda options: make_sampler(gan, members, hooks, options),
        draw_samples=draw_samples,
        targets=(target._replace(select=attrgetter("sampler")),),
        make_evaluators=make_evaluators,
        headlines=("mae",),
        commands={"interpolate": interpolate, "reconstruct": reconstruct},
    )


def make_sampler(
    gan: nn.Module, members: Sequence[Member], hooks: Hooks, options: SamplingOptions
) -> Callable[..., EncoderSampler]:
    """Returns a function from (host state, member=0, chosen_by="") to an `EncoderSampler`."""
    sampler_of = hooks.make_sampler(options)

    @jax.jit
    def encode(variables, images):
        return gan.apply(variables, pixels.decode(images), method="encode")

    def encoder_sampler_of(
        state: TrainState, member: int = 0, chosen_by: str = ""
    ) -> EncoderSampler:
        sampler = sampler_of(state, member, chosen_by)
        params = member_state(state.params, len(members), member)
        encode_all = sharding.data_parallel(encode, {"params": params})
        return EncoderSampler(sampler, lambda images: sampler.render(encode_all(images), None))

    return encoder_sampler_of


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Mean absolute difference of test images from their reconstructions, in [0, 1].

    Attributes:
        test: the test split.
        samples: images of it.
    """

    test: Source
    samples: int

    figures: ClassVar[set[str]] = {"mae"}

    def __call__(self, sampler: EncoderSampler) -> Measurement:
        images = read_images(self.test, self.samples)
        difference = np.abs(sampler.reconstruct(images) - images.astype(np.float64)) / 255
        values = difference.mean(axis=(1, 2, 3))
        figures = {"mae": float(values.mean()), "mae_error": standard_error(values)}
        protocol = {"reference": f"{self.test.identity}, test split", "samples": self.samples}
        return Measurement({**protocol, **sampler.sampler.facts}, figures, {}, {})


def read_images(source: Source, count: int) -> HostPixels:
    """Returns the first images of a split."""
    return jax.device_get(make_reader(source)(np.arange(count)).images)
