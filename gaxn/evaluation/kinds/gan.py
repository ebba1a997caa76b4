"""Hooks of gans/gan.py: samples from latents."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gaxn import keys
from gaxn.data import KnownWords, Source, Unpaired, make_reader, pixels
from gaxn.data.sentences import Sentences
from gaxn.distributed import sharding
from gaxn.evaluation import diagnostics, interpolation, sampling
from gaxn.evaluation.evaluators import (
    Evaluator,
    lpips,
    path_length,
    retrieval,
    word_attention,
    words,
)
from gaxn.evaluation.kinds import Hooks, Target
from gaxn.evaluation.sampling import SamplingOptions
from gaxn.features import FeatureExtractor, word_reader
from gaxn.features.text.words import load_matcher
from gaxn.gans.gan import draw_latents
from gaxn.io import files, plots
from gaxn.io.plots import Picture
from gaxn.nn import norms
from gaxn.objectives.losses import Loss
from gaxn.training.population import Member, member_state
from gaxn.training.state import TrainState
from gaxn.types import (
    HostPixels,
    Images,
    InputError,
    Labels,
    Latents,
    Measurement,
    PRNGKey,
    PyTree,
    Sampler,
    Variables,
    check,
)

STANDING_PASSES, STANDING_BATCH = 16, 128
SCATTERED_POINTS, MAX_PANELS = 2_500, 25
FRAMES_PER_SECOND = 16
WORD_HEADLINES = (
    *("shape_accuracy", "all_accuracy", "held_out_all_accuracy"),
    retrieval.FIGURE,
)


def make_hooks(
    gan: nn.Module,
    loss: Loss,
    members: Sequence[Member],
    train: Source,
    test: Source,
    classes: int | None,
    columns: int,
) -> Hooks:
    """Returns the hooks of a GAN whose `generate` takes latents.

    Args:
        gan: with `latent_size`, and the methods of gans/gan.py besides its losses.
        loss: the adversarial loss.
        members: the runs that a state holds.
        train: the training split.
        test: the test split.
        classes: number of classes, or of different captions; None for an unconditional GAN.
        columns: images per row of the sample grid.
    """
    if isinstance(train, Unpaired):
        raise InputError("config.gan.name must be cyclegan.CycleGAN with unpaired data")
    is_points = len(train.image_shape) == 1
    sentences = test if isinstance(test, Sentences) else None

    def draw_samples(sampler: Callable[..., Sampler], state: TrainState) -> Picture:
        if is_points:
            return draw_points(sampler, state, test, members)
        return draw_grid(sampler(state), classes, columns)

    def make_evaluators(samples: int, *_) -> dict[str, Evaluator]:
        """Returns the evaluators of sentences, and of words that can be read from images."""
        evaluators = {}
        if sentences and sentences.conditioner.has_words:
            evaluators["word_attention"] = word_attention.Evaluator(sentences)
        if sentences and isinstance(sentences.source, KnownWords):
            reader = word_reader.load_or_train(train.source, sentences.source)
            measure = words.Evaluator(sentences.source, reader, samples)
            evaluators["words"] = CaptionEvaluator(measure, sentences.numbers)
        elif sentences:
            matcher = load_matcher(train.source)
            evaluators["retrieval"] = retrieval.Evaluator(sentences, matcher, samples)
        return evaluators

    def make_perceptual_evaluators(
        extractor: FeatureExtractor, samples: int, *_
    ) -> dict[str, Evaluator]:
        exact = with_float32_activations(gan)

        def generate(variables: Variables, latents: Latents, labels: Labels | None) -> Images:
            return sampling.generate(exact, variables, latents, labels, train=False)[0]

        shared = extractor, classes or 0, samples
        condition_of = sentences.condition_of if sentences else lambda labels: labels
        return {
            "lpips": lpips.Evaluator(train, *shared),
            "path_length": path_length.Evaluator(*shared, generate, condition_of),
        }

    def interpolate(sampler: Sampler, workdir: Path) -> int:
        check("--mode", "interpolate", not is_points, "another with points, which are no images")
        print(*draw_interpolation(sampler, workdir, classes or 0, columns), sep="\n")
        return 0

    return Hooks(
        make_sampler=lambda options: make_sampler(gan, members, classes, options, sentences),
        draw_samples=draw_samples,
        diagnostics=make_diagnostics(gan, loss, members, train, classes is not None),
        targets=(Target(train, test),),
        labeled=tuple(
            split.source if isinstance(split, Sentences) else split for split in (train, test)
        ),
        make_evaluators=make_evaluators,
        make_perceptual_evaluators=make_perceptual_evaluators,
        headlines=WORD_HEADLINES,
        commands={"interpolate": interpolate},
    )


@dataclasses.dataclass(frozen=True)
class CaptionEvaluator:
    """An evaluator that asks for the caption of test image i, of a sampler of caption numbers.

    Attributes:
        evaluator: the evaluator.
        numbers: the number of the caption of each test image, int [images].
    """

    evaluator: words.Evaluator
    numbers: np.ndarray

    @property
    def figures(self) -> set[str]:
        """Names of the figures, without those of errors and of real images."""
        return self.evaluator.figures

    def __call__(self, sampler: Sampler) -> Measurement:
        def sample(indices: np.ndarray, labels: np.ndarray) -> HostPixels:
            return sampler.sample(indices, self.numbers[labels])

        return self.evaluator(sampler._replace(sample=sample))


def make_sampler(
    gan: nn.Module,
    members: Sequence[Member],
    classes: int | None,
    options: SamplingOptions,
    sentences: Sentences | None = None,
) -> Callable[..., Sampler]:
    """Returns a function from (host state, member=0, chosen_by="") to a `Sampler`.

    All its samplers share what it compiles; the arguments are those of `make_hooks`, and the
    captions that labels are numbers of, if they are.
    """
    options.check()

    def condition_of(labels: Labels | None) -> Labels | None:
        is_number = isinstance(labels, np.ndarray) and labels.ndim == 1
        return sentences.condition_of(labels) if sentences and is_number else labels

    def draw(key: PRNGKey, indices: jax.Array) -> jax.Array:
        return draw_latents(key, indices, gan.latent_size, options.truncation)

    generate = functools.partial(sampling.generate, gan)

    def to_pixels(images):
        return pixels.encode(images) if images.ndim == 4 else images

    @jax.jit
    def accumulate(variables, key, indices, labels, statistics):
        variables = _with_statistics(variables, statistics)
        _, collections = generate(variables, draw(key, indices), labels, train=True)
        return collections[norms.COLLECTION]["generator"]

    @jax.jit
    def sample(fixed, indices, labels):
        variables, key = fixed
        return to_pixels(generate(variables, draw(key, indices), labels, train=False)[0])

    @jax.jit
    def latents(fixed, indices):
        return draw(fixed[1], indices)

    @jax.jit
    def render(fixed, latents, labels):
        return to_pixels(generate(fixed[0], latents, labels, train=False)[0])

    @jax.jit
    def generator_attention(fixed, indices, labels):
        variables, key = fixed
        inputs = draw(key, indices), labels, False
        return sampling.attention_by_player(gan, variables, "generate", *inputs)

    @jax.jit
    def discriminator_attention(fixed, images, labels):
        inputs = pixels.decode(images), labels
        return sampling.attention_by_player(gan, fixed[0], "discriminate_single", *inputs)

    def with_standing_statistics(variables: Variables, key: PRNGKey) -> Variables:
        if not _has_statistics(variables) or options.statistics == "running":
            return variables
        statistics = jax.tree.map(jnp.zeros_like, variables[norms.COLLECTION]["generator"])
        for index in range(STANDING_PASSES):
            indices = index * STANDING_BATCH + np.arange(STANDING_BATCH)
            labels = condition_of(sampling.balanced_labels(indices, classes or 0))
            statistics = accumulate(variables, key, indices, labels, statistics)
        weight = 1 - norms.MOMENTUM**STANDING_PASSES
        return _with_statistics(variables, jax.tree.map(lambda total: total / weight, statistics))

    def sampler_of(state: TrainState, member: int = 0, chosen_by: str = "") -> Sampler:
        seed, key = members[member]
        state = member_state(state, len(members), member)
        variables = with_standing_statistics(
            sampling.sampling_variables(state, options), keys.stream(key, "standing statistics")
        )
        sample_key = keys.stream(key, "sample")

        def spread(program: Callable) -> Callable:
            apply = sharding.data_parallel(program, (variables, sample_key))
            return lambda inputs, *labels: apply(inputs, *map(condition_of, labels))

        def attention(program: Callable, player: str, name: str = "weights") -> Callable:
            return lambda *inputs: sampling.attention_weights(
                spread(program)(*inputs).get(player, {}), name
            )

        statistics = options.statistics
        if statistics == "standing":
            statistics = f"standing, {STANDING_PASSES * STANDING_BATCH} samples"
        return Sampler(
            sample=spread(sample),
            latents=spread(latents),
            render=spread(render),
            mix=sentences.condition_of if sentences else lambda weights: weights,
            variables=variables,
            generator_attention=attention(generator_attention, "generator"),
            discriminator_attention=attention(discriminator_attention, "discriminator"),
            word_attention=attention(generator_attention, "generator", "word_weights"),
            gammas=sampling.attention_gammas(variables["params"]),
            facts={
                "step": int(state.step),
                "seed": seed,
                "weights": options.weights,
                "chosen_by": chosen_by or "nothing",
                "truncation": options.truncation or "none",
                "batch_statistics": statistics if _has_statistics(variables) else "none",
            },
        )

    return sampler_of


def _has_statistics(variables: Variables) -> bool:
    return "generator" in variables.get(norms.COLLECTION, {})


def with_float32_activations(gan: nn.Module) -> nn.Module:
    """Returns a GAN whose generator computes in the type of its parameters, whatever its dtype."""
    has_dtype = hasattr(gan.generator, "dtype")
    return gan.clone(generator=gan.generator.clone(dtype=None)) if has_dtype else gan


def _with_statistics(variables: Variables, statistics: PyTree) -> Variables:
    """Returns the variables with other batch statistics of the generator."""
    collection = {**variables[norms.COLLECTION], "generator": statistics}
    return {**variables, norms.COLLECTION: collection}


def make_diagnostics(
    gan: nn.Module, loss: Loss, members: Sequence[Member], train: Source, conditional: bool
) -> diagnostics.Diagnostics:
    """Returns the diagnostics of 60 samples and 60 training images."""
    read = make_reader(train)
    indices = np.random.RandomState(0).permutation(len(train))[: diagnostics.EXAMPLES]

    @jax.jit
    def measure_images(key, variables, real, labels, indices):
        latents = draw_latents(keys.stream(key, "watch"), indices, gan.latent_size)
        # Running statistics lag behind the weights, so this batch's own are used.
        fake, _ = sampling.generate(gan, variables, latents, labels, train=True)
        real = pixels.decode(real)
        logits = [
            gan.apply(variables, images, labels, method="discriminate") for images in (real, fake)
        ]
        return {
            diagnostics.DIVERSITY: diagnostics.diversity(fake, real),
            diagnostics.SATURATION: diagnostics.saturation(loss, *logits),
        }

    @jax.jit
    def measure_attention(key, variables, real, labels, indices):
        latents = draw_latents(keys.stream(key, "watch"), indices, gan.latent_size)
        inputs = {
            "generate": (latents, labels, False),
            "discriminate_single": (pixels.decode(real), labels),
        }
        return diagnostics.attention_figures(gan, variables, inputs)

    def measure(variables: Variables, key: PRNGKey) -> dict[str, jax.Array]:
        real, labels = read(indices)
        examples = real, labels if conditional else None, indices
        few = jax.tree.map(lambda leaf: leaf[: diagnostics.ATTENTION_EXAMPLES], examples)
        return measure_images(key, variables, *examples) | measure_attention(key, variables, *few)

    return diagnostics.make_diagnostics(measure, members)


def draw_points(
    sampler: Callable[..., Sampler], state: TrainState, test: Source, members: Sequence[Member]
) -> Picture:
    """Draws generated points over real ones, one panel per member."""
    indices = np.arange(SCATTERED_POINTS)
    generated = {
        f"seed {member.seed}": sampler(state, index).sample(indices, None)
        for index, member in enumerate(members[:MAX_PANELS])
    }
    return plots.scatter(generated, jax.device_get(make_reader(test)(indices)).images)


def draw_grid(sampler: Sampler, classes: int | None, columns: int) -> Picture:
    """Draws samples: with labels one row per class and one column per latent, else a square.

    Of many classes or captions some are drawn, see `interpolation.select_classes`.
    """
    indices = np.arange(columns)
    if classes is None:
        rows = [sampler.sample(row * columns + indices, None) for row in indices]
    else:
        labels = interpolation.select_classes(classes)
        rows = [sampler.sample(indices, np.full_like(indices, label)) for label in labels]
    return plots.grid(np.stack(rows))


def draw_interpolation(sampler: Sampler, workdir: Path, classes: int, rows: int) -> list[Path]:
    """Draws interpolation/latents.png and .gif, with labels also classes.png and .gif."""
    latents = sampler.latents(np.arange(interpolation.num_latents(rows)))

    def render(grid: interpolation.Grid) -> Picture:
        latents, weights = (
            each if each is None else each.reshape(-1, each.shape[-1]) for each in grid
        )
        images = sampler.render(latents, weights if weights is None else sampler.mix(weights))
        return plots.grid(images.reshape(*grid.latents.shape[:2], *images.shape[1:]))

    paths = []
    for name, ways in interpolation.make_interpolations(latents, classes, rows).items():
        picture, animation = (workdir / "interpolation" / f"{name}.{end}" for end in ("png", "gif"))
        files.write_png(picture, render(ways.picture))
        frames = [render(frame) for frame in ways.animation]
        files.write_gif(animation, frames, len(frames) / FRAMES_PER_SECOND, 0)
        paths += [picture, animation]
    return paths
