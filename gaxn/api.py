"""The Python interface: train a run, load one, generate from it, and score sets of images."""

import functools
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from gaxn import commands
from gaxn import config as configs
from gaxn.data import Unpaired, pixels
from gaxn.data.sentences import Sentences
from gaxn.distributed import sharding
from gaxn.evaluation import generation, image_sets, interpolation, run_evaluation, sampling
from gaxn.evaluation.plan import BEST, LAST
from gaxn.experiment import Experiment, make_experiment, make_run
from gaxn.experiment.settings import defaults_of
from gaxn.io import compilation_cache, files, run_directory
from gaxn.labs import LabRun
from gaxn.training import restore
from gaxn.training.state import TrainState, steps_done
from gaxn.types import (
    AttentionMaps,
    HostLatents,
    HostPixels,
    Images,
    InputError,
    Labels,
    Latents,
    PyTree,
    Sampler,
    SentenceCondition,
    Variables,
    check,
)

__all__ = ["InputError", "Run", "evaluate", "load", "train"]

Classes = int | str | Sequence[int | str] | np.ndarray
"""One class for all images or one for each, by number or name."""


def train(config: str | Path | ConfigDict, workdir: str | Path = "", **fields: Any) -> "Run":
    """Trains a run, or goes on where it stopped; evaluates it and draws.

    >>> run = train("ring:gan+tiny", folder / "ring", seed=1)
    step 2/8  d/loss ...
    >>> run.step
    8

    Args:
        config: the path of a config file or the name of one of gaxn's, with ":VARIANT" after it if
            wanted; or a config.
        workdir: the directory of the run; by default runs/NAME.
        fields: values of fields of the config. One within another is given as
            `**{"optimizers.generator.learning_rate": 1e-4}`.

    Returns:
        The run, with its last checkpoint.

    Raises:
        InputError: a field is wrong, or the directory holds another run.
        KeyboardInterrupt: Ctrl-C; the run is saved, and the same call goes on.
    """
    given, (name, config) = config, _read_config(config)
    before = config.to_dict()
    for path, value in fields.items():
        configs.set_field(config, path, value, defaults_of)
    compilation_cache.enable()
    sharding.use_cores_for(config.to_dict())
    origin = {} if isinstance(given, ConfigDict) else configs.origin_of(str(given), before, config)
    workdir = files.expand(workdir or f"runs/{name}")
    text_record = restore.read_text_record(workdir)
    devices = sharding.cpu_devices_for(config.to_dict())
    experiment = make_run(config, name, origin=origin, text_record=text_record, devices=devices)
    expected = "of a GAN; a lab runs by `gaxn --config` alone"
    check("config", name, not isinstance(experiment, LabRun), expected)
    status = commands.train(experiment, workdir)
    if status == commands.STATUS[signal.SIGINT]:
        raise KeyboardInterrupt(f"{workdir} is saved; the same call goes on")
    if status:
        raise SystemExit(status)
    return load(workdir)


def load(
    run: str | Path,
    step: int | Literal["last", "best"] = LAST,
    weights: Literal["", "ema", "raw"] = "",
    member: int = 0,
) -> "Run":
    """Loads a trained run. It needs neither the data set nor the devices of its training.

    >>> run = load("attn_cgan_mnist")
    >>> run.sample(seeds=range(4), labels=7).shape
    (4, 28, 28, 1)

    Args:
        run: the directory of a run, or the name of one that is shipped.
        step: of the checkpoint; or "last", or "best" by `config.evaluation.best`.
        weights: the generator's parameters: "ema", their moving average, or "raw"; "" for those
            that `config.evaluation` names.
        member: of a population, the one of seed + member.

    Raises:
        InputError: there is no such run or checkpoint, or it is of another version.
    """
    workdir = files.expand(run)
    compilation_cache.enable()
    name, config = configs.read_config(workdir)
    record = restore.read_data_record(workdir)
    if weights:
        config.evaluation.weights = weights
    valid = step in (LAST, BEST) or (isinstance(step, int | np.integer) and step >= 0)
    check("step", step, valid, f"{LAST!r}, {BEST!r} or the step of a checkpoint")
    one_device = sharding.jit_parallelism(jax.local_devices()[:1])
    experiment = make_experiment(config, name, one_device, record)
    members = len(experiment.members)
    check("member", member, 0 <= member < members, f"0 to {members - 1}")
    return Run(experiment, restore.restore_state(experiment, workdir, str(step)), workdir, member)


def evaluate(
    images: str | Path | HostPixels,
    reference: str | Path | HostPixels,
    features: str = "inception",
    weights: str = "",
    preprocessing: str = "",
    **options: Any,
) -> dict[str, Any]:
    """Computes the figures of a set of images, compared with a reference set.

    >>> random = np.random.default_rng(0)
    >>> a, b = random.integers(0, 256, (2, 50, 8, 8, 3), np.uint8)
    >>> document = evaluate(a, b, features="pixels", metrics=["frechet"])
    >>> sorted(document["figures"])
    ['frechet_distance', 'frechet_distance_error']

    Args:
        images: the set: uint8 [n, height, width, 1 or 3], or the path of a folder, a .zip or a
            .npz.
        reference: the set that it is compared with, or the path of a file of its statistics.
        features: a module of gaxn/features.
        weights, preprocessing: of the features; "" for the defaults.
        options: as for `gaxn.evaluation.image_sets.evaluate_sets`: metrics (names), samples, size,
            real and split_by.

    Returns:
        "figures", "tables", "protocol", "timing" and "measured_by", ready for JSON.

    Raises:
        InputError: a set cannot be read, or a metric cannot be computed.
    """
    compilation_cache.enable()
    known = configs.defaults(image_sets.evaluate_sets)
    for name in options:
        check("an option", name, name in known, f"one of {', '.join(known)}")
    extractor = image_sets.load_extractor(features, weights, preprocessing)
    if isinstance(options.get("metrics"), str):
        options["metrics"] = (options["metrics"],)
    sets = (each if isinstance(each, np.ndarray) else str(each) for each in (images, reference))
    return image_sets.evaluate_sets(*sets, extractor, **options)


class Run:
    """A trained run. `load` and `train` return it.

    Attributes:
        name: of the config.
        workdir: its directory, or the name of a shipped run.
        step: training steps of its checkpoint.
    """

    def __init__(self, experiment: Experiment, state: TrainState, workdir: Path, member: int = 0):
        self.name, self.workdir, self.step = experiment.name, workdir, steps_done(state)
        self._experiment, self._state, self._member = experiment, state, member
        # What they make is used again, as it is compiled once.
        self._make_sampler = functools.cache(self._make_sampler)
        self._compile_method = functools.cache(self._compile_method)

    def __repr__(self) -> str:
        return f"Run({str(self.workdir)!r}, {self.name}, step {self.step})"

    @property
    def config(self) -> dict[str, Any]:
        """The complete config, as plain dicts."""
        return dict(self._experiment.config)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes by label; () of an unconditional generator."""
        return commands.class_names_of(self._experiment)

    @property
    def params(self) -> dict[str, PyTree]:
        """The parameters by player, the generator's with the weights that `load` chose."""
        return self._variables["params"]

    @property
    def history(self) -> dict[str, np.ndarray]:
        """The scalars of training by name, and their "step"; NaN where one was not measured."""
        lines = files.read_lines(self.workdir / "metrics.jsonl")
        known = dict.fromkeys(name for line in lines for name in line)
        return {
            name: np.array([np.nan if line.get(name) is None else line[name] for line in lines])
            for name in known
        }

    def sample(
        self,
        seeds: Iterable[int],
        labels: Classes | None = None,
        truncation: float = 0.0,
        captions: str | Sequence[str] | None = None,
    ) -> HostPixels:
        """Generates one image of each seed: uint8 [n, height, width, channels].

        A seed and a label always give the same image. Of points, float32 [n, features].

        Args:
            seeds: whole numbers, 0 to 2^31 - 1.
            labels: one class for all, or one for each; None for seed % classes.
            truncation: bound of a latent's absolute values: less variety and better images; 0 for
                that of `config.evaluation`.
            captions: in place of labels, of a GAN that takes sentences: one for all, or one for
                each.
        """
        sampler = self._sampler(truncation)
        check("labels", labels, labels is None or captions is None, "None with captions")
        seeds, labels = self._requests(seeds, labels)
        requests = generation.Requests(seeds, labels)
        if captions is not None:
            requests = self._caption_requests(seeds, captions)
        return np.concatenate(list(generation.generate(sampler, requests)))

    def latents(self, seeds: Iterable[int], truncation: float = 0.0) -> HostLatents:
        """Returns the latents of seeds, float32 [n, latent_size]."""
        sampler = self._sampler(truncation)
        seeds, _ = self._requests(seeds, None)
        return sampler.latents(seeds)

    def generate(
        self, params: Mapping[str, PyTree], latents: Latents, labels: Labels | None = None
    ) -> Images:
        """Generates images in [-1, 1]: a pure function, for `jax.jit`, `jax.grad` and `jax.vmap`.

        Args:
            params: such as `run.params`; only "generator" is used.
            latents: float [n, latent_size].
            labels: one class for all, or one for each; or class weights, float [n, classes]; of
                sentences, `run.conditions`; None of an unconditional one.
        """
        self._sampler()
        labels = self._conditions(labels, len(latents))
        variables = {**self._variables, "params": {**self.params, **params}}
        gan = self._experiment.gan
        return sampling.generate(gan, variables, latents, labels, train=False)[0]

    def conditions(self, captions: str | Sequence[str]) -> Labels:
        """Returns what `generate` takes for sentences, in place of labels.

        Args:
            captions: one for each image.

        Raises:
            InputError: the generator takes no sentences.
        """
        captions = [captions] if isinstance(captions, str) else list(captions)
        return generation.request_captions([0], captions, self._experiment.test_source).conditions

    def discriminate(
        self, images: HostPixels, labels: Classes | None = None, domain: str = ""
    ) -> Float[jax.Array, "n ..."]:
        """Returns the discriminator's logits of images; above 0 the more it takes for real.

        `jax.grad` and `jax.vmap` may go through it, by images as floats.

        Args:
            images: [n, height, width, channels], uint8 or float in [-1, 1]; of points, float
                [n, features].
            labels: one class for all, or one for each, for a conditional discriminator.
            domain: of a CycleGAN, whose discriminator: "a" or "b".
        """
        self._check_shape(images)
        inputs, method = [pixels.decode(jnp.asarray(images))], "discriminate_single"
        if self._is_cyclegan:
            check("domain", domain, domain in ("a", "b"), "a or b")
            method += f"_{domain}"
        else:
            check("domain", domain, not domain, '"" without a CycleGAN')
            inputs.append(self._conditions(labels, len(images)))
        return self._compile_method(method)(self._variables, *inputs)

    def attention(
        self,
        seeds: Iterable[int] | None = None,
        labels: Classes | None = None,
        images: HostPixels | None = None,
    ) -> AttentionMaps:
        """Returns attention weights by layer, float [n, heads, queries, keys].

        Queries and keys are places of the layer's image, row by row.

        Args:
            seeds: of images that the generator makes; or
            images: uint8, that the discriminator looks at.
            labels: as in `sample`.
        """
        check(
            "seeds and images", "both or none", (seeds is None) != (images is None), "one of both"
        )
        sampler = self._sampler()
        if images is not None:
            self._check_shape(images)
            return sampler.discriminator_attention(images, self._labels(labels, len(images)))
        return sampler.generator_attention(*self._requests(seeds, labels))

    def interpolate(
        self, start: int, end: int, frames: int = 9, labels: Classes | None = None
    ) -> HostPixels:
        """Generates images along the arc between the latents of two seeds.

        Args:
            start, end: seeds.
            frames: images, the first and last of which are those of the seeds.
            labels: one class for all, or the classes at the start and at the end; None for that
                of the first seed.
        """
        sampler = self._sampler()
        check("frames", frames, frames >= 2, "2 or more")
        seeds, _ = self._requests([start, end], None)
        fractions = np.linspace(0, 1, frames)
        latents = interpolation.slerp(*sampler.latents(seeds), fractions)
        classes = len(self.class_names)
        if not classes:
            check("labels", labels, labels is None, "None, as the generator takes none")
            return sampler.render(latents, None)
        ends = self._labels(start % classes if labels is None else labels, 2)
        weights = np.eye(classes, dtype=np.float32)[ends]
        return sampler.render(latents, sampler.mix(interpolation.lerp(*weights, fractions)))

    def translate(self, images: HostPixels, direction: Literal["a2b", "b2a"]) -> HostPixels:
        """Translates images of one domain into the other, by a CycleGAN.

        Args:
            images: uint8 [n, height, width, channels]; sides must suit the generators.
            direction: "a2b" or "b2a".
        """
        check("the run", self.name, self._is_cyclegan, "that of a CycleGAN, to translate")
        check("direction", direction, direction in ("a2b", "b2a"), "a2b or b2a")
        translator, images = self._make_sampler(0.0), np.asarray(images)
        valid = images.ndim == 4 and images.dtype == np.uint8
        check(
            "images", f"{images.dtype} {images.shape}", valid, "uint8 (n, height, width, channels)"
        )
        multiple, sides = translator.multiple, images.shape[1:3]
        valid = not any(side % multiple for side in sides)
        check("the sides of images", sides, valid, f"multiples of {multiple}")
        return (translator.to_b if direction == "a2b" else translator.to_a)(images)

    def evaluate(self, **fields: Any) -> dict[str, Any]:
        """Computes the figures of the run; it reads the data set, and writes nothing.

        Args:
            fields: of `config.evaluation`, such as samples=1_000 or metrics=("frechet",).

        Returns:
            By part of the evaluation, "figures", "tables" and "protocol", ready for JSON.
        """
        config = ConfigDict(configs.as_tuples(self.config))
        for name, value in fields.items():
            configs.set_field(config, f"evaluation.{name}", value, defaults_of)
        text_record = restore.read_text_record(self.workdir)
        parallelism = self._experiment.parallelism
        experiment = make_experiment(config, self.name, parallelism, text_record=text_record)
        accepts_new_data = experiment.run.accept_new_data
        run_directory.check_same_data(self.workdir, experiment.data_record, accepts_new_data)
        document, _ = run_evaluation.measure(
            experiment, experiment.evaluation.evaluators(), self._state
        )
        return document

    def _check_shape(self, images: HostPixels) -> None:
        """Raises an InputError unless a discriminator takes images of this shape."""
        expected, shape = tuple(self._experiment.test_source.image_shape[-3:]), jnp.shape(images)
        # The discriminators of a CycleGAN take images of any size.
        valid = len(shape) == 4 if self._is_cyclegan else shape[1:] == expected
        check("the shape of images", shape, valid, f"(n, {str(expected)[1:-1]})")

    @property
    def _is_cyclegan(self) -> bool:
        return isinstance(self._experiment.train_source, Unpaired)

    @property
    def _variables(self) -> Variables:
        sampler = self._make_sampler(0.0)
        return (sampler.samplers["a2b"] if self._is_cyclegan else sampler).variables

    def _sampler(self, truncation: float = 0.0) -> Sampler:
        """Returns the sampler of a GAN with latents.

        Raises:
            InputError: the run is of a CycleGAN.
        """
        expected = "one with latents; a CycleGAN has `translate`"
        check("the run", self.name, not self._is_cyclegan, expected)
        return self._make_sampler(truncation)

    def _make_sampler(self, truncation: float) -> Any:
        # Its arrays are used again, so a trace that asks for the first sampler must not have them.
        with jax.ensure_compile_time_eval():
            return commands.make_sampler(self._experiment, self._state, truncation, self._member)

    def _compile_method(self, method: str) -> Callable[..., jax.Array]:
        return jax.jit(functools.partial(self._experiment.gan.apply, method=method))

    def _requests(
        self, seeds: Iterable[int], labels: Classes | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns seeds and their labels, one of each."""
        classes = len(self.class_names)
        check("seeds", seeds, not _is_single(seeds), "a list or range of whole numbers")
        seeds = np.asarray(list(seeds))
        requests = generation.make_requests(seeds, None, classes)
        if labels is None:
            return requests.seeds, requests.labels
        return requests.seeds, self._labels(labels, len(seeds))

    def _caption_requests(
        self, seeds: np.ndarray, captions: str | Sequence[str]
    ) -> generation.Requests:
        """Returns requests of one caption for all seeds, or of one for each."""
        captions = [captions] if isinstance(captions, str) else list(captions)
        valid = len(captions) in (1, len(seeds))
        check("the number of captions", len(captions), valid, f"1 or {len(seeds)}")
        requests = generation.request_captions(seeds[:1], captions, self._experiment.test_source)
        return requests._replace(seeds=seeds, labels=np.resize(requests.labels, len(seeds)))

    def _conditions(self, labels: Any, count: int) -> Labels | None:
        """Returns `count` conditions of any of the forms that `generate` takes."""
        is_array = isinstance(labels, np.ndarray | jax.Array)
        if isinstance(labels, SentenceCondition) or (is_array and labels.ndim > 1):
            return labels
        if isinstance(labels, jax.core.Tracer):
            # Its values are not known, so that only the number of labels can be checked.
            check("labels", "an array", bool(self.class_names), "None, as the networks take none")
            valid = labels.ndim == 0 or len(labels) == count
            check("the number of labels", labels.shape, valid, f"1 or {count}")
            numbers = jnp.broadcast_to(labels, (count,))
        else:
            numbers = self._labels(labels, count)
        test_source = self._experiment.test_source
        is_text = isinstance(test_source, Sentences)
        return test_source.condition_of(numbers) if is_text else numbers

    def _labels(self, labels: Classes | None, count: int) -> np.ndarray | None:
        """Returns `count` labels as numbers; None of an unconditional GAN."""
        if labels is None:
            check("labels", labels, not self.class_names, "classes, as the GAN is conditional")
            return None
        if isinstance(labels, jax.Array):
            # In a trace its elements would be traced, though their values are known.
            labels = np.asarray(labels)
        single = _is_single(labels)
        listed = [labels] if single else list(labels)
        for each in listed:
            valid = isinstance(each, str) or np.size(each) == 1
            check("labels", "lists of numbers", valid, "one class for all, or one for each")
        # A label may be a NumPy or JAX integer.
        listed = [each if isinstance(each, str) else np.asarray(each).item() for each in listed]
        numbers = generation.find_labels(listed, self.class_names)
        check("labels", numbers, single or len(numbers) == count, f"one, or {count}")
        return np.resize(numbers, count)


def _is_single(values: Any) -> bool:
    """Returns whether this is one label or seed, not several."""
    is_array = isinstance(values, np.ndarray | jax.Array)
    is_single_array = is_array and values.ndim == 0
    return isinstance(values, str) or is_single_array or not isinstance(values, Iterable)


def _read_config(config: str | Path | ConfigDict) -> tuple[str, ConfigDict]:
    """Returns the name of a config, and a copy of it without a lock."""
    if not isinstance(config, ConfigDict):
        return configs.load_config(str(config))
    return "run", ConfigDict(config.to_dict())
