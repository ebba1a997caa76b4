"""Hooks of gans/cyclegan.py: images translated between two domains."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gaxn.data import Source, Unpaired, make_reader, pixels
from gaxn.data.folder import is_image_name, list_images, read_image
from gaxn.distributed import sharding
from gaxn.evaluation import diagnostics, sampling
from gaxn.evaluation.evaluators import Evaluator, lpips, translation_errors
from gaxn.evaluation.evaluators.translation_errors import MAE, ImageDistance
from gaxn.evaluation.kinds import Hooks, Target
from gaxn.evaluation.picture_sizes import FITS, Fit
from gaxn.evaluation.sampling import SamplingOptions
from gaxn.evaluation.translation import DIRECTIONS, Read, Translator, ordered_reader
from gaxn.features import FeatureExtractor
from gaxn.io import files, plots
from gaxn.io.plots import Picture
from gaxn.objectives.losses import Loss
from gaxn.training.population import Member, member_state
from gaxn.training.state import TrainState
from gaxn.types import (
    AttentionMaps,
    HostPixels,
    Images,
    InputError,
    Pixels,
    PRNGKey,
    Sampler,
    Variables,
    check,
)

ATTENTION_BLOCK = 1_024
"""Queries that attention answers at a time in large images."""


def make_hooks(
    gan: nn.Module,
    loss: Loss,
    members: Sequence[Member],
    train: Source,
    test: Source,
    classes: int | None,
    columns: int,
) -> Hooks:
    """Returns the hooks of a CycleGAN; the arguments are those of kinds/gan.py."""
    if not (isinstance(train, Unpaired) and isinstance(test, Unpaired)):
        raise InputError("config.data.name must be unpaired with a CycleGAN")
    readers = tuple(map(ordered_reader, test.domains))
    # Images of a domain are compared with the translations that lead to it.
    domains = zip(train.at_test_size.domains, test.domains, strict=True)
    targets = tuple(
        Target(*domain, direction, count, _select(direction))
        for domain, count, direction in zip(
            domains, reversed(test.sizes), reversed(DIRECTIONS), strict=True
        )
    )

    def make_evaluator(
        measure: ImageDistance, samples: int, sampler: Callable, initial_state: Callable
    ) -> translation_errors.Evaluator:
        def untrained(member: int) -> Translator:
            return sampler(initial_state(), member)

        return translation_errors.Evaluator(train.at_test_size, test, samples, untrained, measure)

    def make_evaluators(*inputs: Any) -> Mapping[str, Evaluator]:
        return {"translation": make_evaluator(MAE, *inputs)}

    def make_perceptual_evaluators(
        extractor: FeatureExtractor, *inputs: Any
    ) -> Mapping[str, Evaluator]:
        return {"lpips": make_evaluator(lpips.make_measure(extractor), *inputs)}

    def translate(
        translator: Translator,
        workdir: Path,
        *,
        input: Path,
        output: Path,
        direction: Literal["a2b", "b2a"],
        fit: Literal["whole", "tile", "resize"] = "whole",
        cycle: bool = False,
    ) -> int:
        _, size, _, channels = test.image_shape
        translate_files(translator, input, output, direction, FITS[fit], cycle, size, channels)
        return 0

    return Hooks(
        make_sampler=lambda options: make_translator(gan, members, readers, options),
        draw_samples=lambda sampler, state: draw_translations(sampler(state), readers, columns),
        diagnostics=make_diagnostics(gan, loss, members, test),
        targets=targets,
        labeled=(train.labeled, test.labeled),
        has_modes=False,
        make_evaluators=make_evaluators,
        make_perceptual_evaluators=make_perceptual_evaluators,
        headlines=(
            *("mae_a2b", "mae_b2a", "mae_a2b_mean_image", "mae_b2a_mean_image"),
            *("cycle_mae_a", "cycle_mae_b", "lpips_a2b", "lpips_b2a"),
        ),
        commands={"translate": translate},
    )


def _select(direction: str) -> Callable[[Translator], Sampler]:
    return lambda translator: translator.samplers[direction]


def make_translator(
    gan: nn.Module,
    members: Sequence[Member],
    readers: tuple[Read, Read],
    options: SamplingOptions,
) -> Callable[..., Translator]:
    """Returns a function from (host state, member=0, chosen_by="") to a `Translator`.

    All its translators share what it compiles.

    Args:
        gan: the CycleGAN.
        members: the runs that a state holds.
        readers: of the test images of A and of B, `ordered_reader`.
        options: which weights; truncation must be 0.
    """
    options.check()
    gan = _with_attention_in_blocks(gan)
    field, value = "config.evaluation.truncation", options.truncation
    check(field, value, not value, "0 with a CycleGAN, which has no latents")
    readers_by_domain = dict(zip("ab", readers, strict=True))

    def translate(domain: str) -> Callable:
        method = f"to_{domain}"
        return lambda variables, images: pixels.encode(
            gan.apply(variables, pixels.decode(images), method=method)
        )

    def attention(method: str) -> Callable:
        return lambda variables, images: sampling.attention_by_player(
            gan, variables, method, pixels.decode(images)
        )

    translations = {domain: jax.jit(translate(domain)) for domain in "ab"}
    generator_attention = {domain: jax.jit(attention(f"to_{domain}")) for domain in "ab"}
    discriminator_attention = {
        domain: jax.jit(attention(f"discriminate_single_{domain}")) for domain in "ab"
    }

    def translator_of(state: TrainState, member: int = 0, chosen_by: str = "") -> Translator:
        state = member_state(state, len(members), member)
        variables = sampling.sampling_variables(state, options)
        to_a, to_b = (sharding.data_parallel(translations[domain], variables) for domain in "ab")
        gammas = sampling.attention_gammas(variables["params"])
        facts = {
            "step": int(state.step),
            "seed": members[member].seed,
            "weights": options.weights,
            "chosen_by": chosen_by or "nothing",
        }

        def sampler(direction: str, translate: Callable[[HostPixels], HostPixels]) -> Sampler:
            read, target = readers_by_domain[direction[0]], direction[-1]

            def maps(program: Callable, player: str, images: HostPixels) -> AttentionMaps:
                intermediates = sharding.data_parallel(program, variables)(images)
                return sampling.attention_weights(intermediates.get(player, {}))

            return Sampler(
                sample=lambda indices, labels: translate(read(indices)),
                generator_attention=lambda indices, labels: maps(
                    generator_attention[target], "generator", read(indices)
                ),
                discriminator_attention=lambda images, labels: maps(
                    discriminator_attention[target], "discriminator", images
                ),
                gammas={
                    name: value for name, value in gammas.items() if name.split("/")[1] == target
                },
                facts={**facts, "direction": direction},
                variables=variables,
            )

        samplers = {"a2b": sampler("a2b", to_b), "b2a": sampler("b2a", to_a)}
        multiple = getattr(gan.generator.a, "multiple", 1)
        return Translator(to_a, to_b, samplers, multiple, member)

    return translator_of


def _with_attention_in_blocks(gan: nn.Module) -> nn.Module:
    """Returns the GAN with its generators' attention in blocks, for images of any size."""
    generator = gan.generator
    if not hasattr(generator.a, "attention_block"):
        return gan
    a, b = (net.clone(attention_block=ATTENTION_BLOCK) for net in (generator.a, generator.b))
    return gan.clone(generator=generator.clone(a=a, b=b))


def make_diagnostics(
    gan: nn.Module, loss: Loss, members: Sequence[Member], test: Unpaired
) -> diagnostics.Diagnostics:
    """Returns the diagnostics of up to 60 test images of each domain.

    Diversity compares translations with images of the domain that they lead to; saturation is of
    pairs of places in the discriminators' maps. Of both directions, the worse is taken.
    """
    readers = [make_reader(domain) for domain in test.domains]
    count = min(diagnostics.EXAMPLES, *test.sizes)
    indices = [np.random.RandomState(0).permutation(size)[:count] for size in test.sizes]

    @jax.jit
    def measure_images(variables: Variables, a: Pixels, b: Pixels) -> dict[str, jax.Array]:
        def measure(domain: str, real: Images, source: Images) -> tuple[jax.Array, jax.Array]:
            fake = gan.apply(variables, source, method=f"to_{domain}")
            method = f"discriminate_{domain}"
            logits = [gan.apply(variables, images, method=method) for images in (real, fake)]
            return diagnostics.diversity(fake, real), diagnostics.saturation(loss, *logits)

        a, b = pixels.decode(a), pixels.decode(b)
        diversity, saturation = zip(measure("a", a, b), measure("b", b, a), strict=True)
        return {
            diagnostics.DIVERSITY: jnp.minimum(*diversity),
            diagnostics.SATURATION: jnp.maximum(*saturation),
        }

    @jax.jit
    def measure_attention(variables: Variables, a: Pixels, b: Pixels) -> dict[str, jax.Array]:
        images = {"to_a": b, "to_b": a, "discriminate_single_a": a, "discriminate_single_b": b}
        inputs = {method: (pixels.decode(each),) for method, each in images.items()}
        return diagnostics.attention_figures(gan, variables, inputs)

    def measure(variables: Variables, key: PRNGKey) -> dict[str, jax.Array]:
        a, b = (read(chosen).images for read, chosen in zip(readers, indices, strict=True))
        few = a[: diagnostics.ATTENTION_EXAMPLES], b[: diagnostics.ATTENTION_EXAMPLES]
        return measure_images(variables, a, b) | measure_attention(variables, *few)

    return diagnostics.make_diagnostics(measure, members)


def draw_translations(translator: Translator, readers: tuple[Read, Read], columns: int) -> Picture:
    """Draws test images of A, as B, back as A, and translated into A as they are; then of B."""
    indices = np.arange(columns)

    def rows(read: Read, forth: Callable, back: Callable) -> list[HostPixels]:
        real = read(indices)
        fake = forth(real)
        return [real, fake, back(fake), back(real)]

    a, b = readers
    to_a, to_b = translator.to_a, translator.to_b
    return plots.grid(np.stack([*rows(a, to_b, to_a), *rows(b, to_a, to_b)]))


def find_files(
    input: Path, output: Path, cycle: bool
) -> tuple[Path, dict[str, tuple[Path, Path | None]]]:
    """Finds the images to translate, before any work; the arguments are `translate_files`'s.

    Returns:
        The folder or .zip of the images; and by the name of each image, the path of its
        translation, and that of NAME_cycle.png or None.

    Raises:
        InputError: there is no image, or two translations would have one path, or one would be
            written over an image.
    """
    if not input.exists():
        raise InputError(f"--input must be an image, a folder or a .zip, got {str(input)!r}")
    is_single = input.is_file() and is_image_name(input.name)
    root, names = (input.parent, [input.name]) if is_single else (input, sorted(list_images(input)))
    protected = {os.path.realpath(root / name) for name in names}
    paths, taken = {}, {}
    for name in names:
        path = output / PurePosixPath(name).with_suffix(".png")
        cycle_path = path.with_name(f"{path.stem}_cycle.png") if cycle else None
        for target in filter(None, (path, cycle_path)):
            if target in taken:
                raise InputError(
                    f"--input has {taken[target]} and {name}, both for {target}; rename one"
                )
            taken[target] = name
            free = os.path.realpath(target) not in protected
            expected = "another folder, or an image would be written over"
            check("--output", str(output), free, expected)
            files.check_writable(target, "--output")
        paths[name] = path, cycle_path
    return root, paths


def translate_files(
    translator: Translator,
    input: Path,
    output: Path,
    direction: str,
    fit: Fit,
    cycle: bool,
    size: int,
    channels: int,
) -> None:
    """Translates images of any size, and prints the paths.

    Args:
        translator: of the generators.
        input: an image, or a folder or a .zip of images.
        output: the folder of NAME.png of each; made if it does not exist.
        direction: "a2b" or "b2a".
        fit: how images of any size go through the generators.
        cycle: whether NAME_cycle.png is drawn: image, translation, and the way back.
        size, channels: of the images in training.

    Raises:
        InputError: an image cannot be read; the translations of those before it remain.
    """
    root, paths = find_files(input, output, cycle)
    forth, back = translator.to_b, translator.to_a
    if direction == "b2a":
        forth, back = back, forth
    for name, (path, cycle_path) in paths.items():
        try:
            image = fit.prepare(read_image(root, name, 0, 0, channels), size)
        except InputError as error:
            raise InputError(f"{root / name} cannot be used: {error}") from None
        translated = fit.apply(forth, image, size, translator.multiple)
        if cycle_path is not None:
            restored = fit.apply(back, translated, size, translator.multiple)
            files.write_png(cycle_path, plots.grid(np.stack([image, translated, restored])[None]))
        files.write_png(path, plots.to_rgb(translated))
        print(path, flush=True)
