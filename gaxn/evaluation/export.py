"""Export of a trained run: networks and programs that run without gaxn, and a model card."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict
from jax import export
from jaxtyping import Array, Int

from gaxn.data import Recorded, batch_spec, printable
from gaxn.data.sentences import Sentences
from gaxn.evaluation import figures as figure_texts
from gaxn.evaluation.sampling import SamplingOptions, sampling_variables
from gaxn.experiment import Experiment
from gaxn.features.text import Conditioner
from gaxn.features.text.words import WORD
from gaxn.io import files, provenance
from gaxn.nn import spectral
from gaxn.nn.resampling import TransposedConvolution
from gaxn.training.cost import parameters
from gaxn.training.population import member_state
from gaxn.training.state import TrainState
from gaxn.types import (
    Images,
    Labels,
    Latents,
    PyTree,
    Sampler,
    SentenceCondition,
    Variables,
    check,
)

PLATFORMS = ("cpu", "cuda", "tpu")

LAYOUT = (
    "kernels of dense layers are [inputs, outputs], of convolutions [height, width, inputs, "
    "outputs] (HWIO); those in `transposed` are of transposed convolutions of stride 2, also "
    "[height, width, inputs, outputs] and not flipped; a kernel with a kernel_sigma is divided by "
    "it in the network; images are [batch, height, width, channels]"
)


class Program(NamedTuple):
    """A function to export.

    Attributes:
        function: of arrays, in eval mode, with the variables inside.
        inputs: specs of its arguments by name, with a free batch size.
        outputs: what it returns, in words.
    """

    function: Callable[..., Any]
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    outputs: str


def export_run(
    experiment: Experiment,
    state: TrainState,
    output: Path,
    figures: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Writes the networks of a state, programs that run without gaxn, samples and a model card.

    The generator has the weights and statistics that `config.evaluation` names, by default the
    moving average. Of a population, the first member is written.

    Args:
        experiment: the run.
        state: on the host.
        output: the folder; a new or an empty one.
        figures: content of evaluation.json; the card has them if they are of this step.

    Returns:
        The paths of the files.

    Raises:
        InputError: the folder has files, or cannot be written.
    """
    is_free = not output.exists() or (output.is_dir() and not any(output.iterdir()))
    check("--output", str(output), is_free and output != Path(), "a new folder or an empty one")
    files.check_writable(output / "README.md", "--output")
    options, first_sampler = experiment.evaluation.sampling, experiment.evaluation.sampler(state)
    first = member_state(state, len(experiment.members), 0)
    variables = jax.device_get(sampling_variables_of(first_sampler, first, options))
    facts = {
        "config": experiment.name,
        "step": str(int(first.step)),
        "seed": str(experiment.members[0].seed),
    }
    programs = make_programs(experiment, variables)
    contents = write_networks(experiment, variables, facts, options) | {
        f"{name}.stablehlo": write_program(program) for name, program in programs.items()
    }
    if isinstance(experiment.train_source, Sentences):
        contents["text.json"] = write_text_facts(experiment.train_source.conditioner)
    counts = parameters(variables["params"])
    # Translations of data that were not read would be those of black images.
    has_picture = _has_latents(experiment.gan) or not isinstance(experiment.test_source, Recorded)
    card = write_card(experiment, facts, options, counts, programs, figures, has_picture)

    def sampler(state: TrainState, member: int = 0) -> Any:
        return experiment.evaluation.sampler(state, member) if member else first_sampler

    picture = experiment.draw_samples(sampler, state) if has_picture else None

    # Nothing is written before everything is made.
    for name, content in contents.items():
        files.write_bytes(output / name, content)
    if picture is not None:
        files.write_png(output / "samples.png", picture)
    files.write_bytes(output / "README.md", card.encode())
    names = *contents, *(["samples.png"] if has_picture else []), "README.md"
    return [output / name for name in names]


def sampling_variables_of(sampler: Any, state: TrainState, options: SamplingOptions) -> Variables:
    """Returns the variables of all networks, with which a sampler samples.

    Args:
        sampler: a `Sampler`, or a record that contains some.
        state: of the sampled member.
        options: of the sampler.
    """

    def is_sampler(node: Any) -> bool:
        return isinstance(node, Sampler)

    samplers = filter(is_sampler, jax.tree.leaves(sampler, is_leaf=is_sampler))
    variables = [each.variables for each in samplers if each.variables is not None]
    return variables[0] if variables else sampling_variables(state, options)


def make_programs(experiment: Experiment, variables: Variables) -> dict[str, Program]:
    """Returns the programs of a GAN by name.

    Args:
        experiment: the run.
        variables: of all networks, on the host.

    Returns:
        Of a GAN with latents, "generator": (latents, labels) -> images, without labels of an
        unconditional one. Of a GAN of sentences it takes their vectors in place of labels, and
        "text" makes them, if the encoder has a network of its own. Of a CycleGAN, "a2b" and "b2a":
        images -> images. Of any other GAN, nothing. Images are float32 in [-1, 1], points float32.
    """
    gan, train = experiment.gan, experiment.train_source
    (batch,) = export.symbolic_shape("b")
    mutable = nn.DenyList(("params", "intermediates"))

    def apply(method: str, *inputs: Any) -> Images:
        images, _ = gan.apply(variables, *inputs, method=method, mutable=mutable)
        return images.astype(jnp.float32)

    if _has_latents(gan):
        inputs = {"latents": jax.ShapeDtypeStruct((batch, gan.latent_size), jnp.float32)}
        if experiment.settings.conditional:
            inputs |= _condition_inputs(train.label_spec((batch,)))

        def generate(latents: Latents, *conditions: jax.Array) -> Images:
            return apply("generate", latents, _as_labels(conditions), False)

        is_points = len(experiment.test_source.image_shape) == 1
        kind = "points" if is_points else "images in [-1, 1]"
        programs = {"generator": Program(generate, inputs, kind)}
        if isinstance(train, Sentences) and train.conditioner.encoder.network:
            programs["text"] = make_text_program(train.conditioner, batch)
        return programs
    if _translates(gan):
        shape = experiment.test_source.image_shape[-3:]
        images = {"images": jax.ShapeDtypeStruct((batch, *shape), jnp.float32)}
        return {
            "a2b": Program(lambda images: apply("to_b", images), images, "images in [-1, 1]"),
            "b2a": Program(lambda images: apply("to_a", images), images, "images in [-1, 1]"),
        }
    return {}


def make_text_program(conditioner: Conditioner, batch: Any) -> Program:
    """Returns the program of a text encoder: numbers of words -> what the generator takes.

    Args:
        conditioner: its encoder has a network of its own.
        batch: the batch size, free.
    """
    network = conditioner.encoder.network

    def encode(tokens: Int[Array, "batch words"]) -> tuple[jax.Array, ...]:
        sentence, words = network.apply(tokens)
        conditions = conditioner.standardize(SentenceCondition(sentence, words, tokens > 0))
        return tuple(jax.tree.leaves(conditions))

    tokens = jax.ShapeDtypeStruct((batch, network.words), jnp.int32)
    outputs = "vectors of sentences" + ", of their words, and a mask" * conditioner.has_words
    return Program(encode, {"tokens": tokens}, outputs)


def write_text_facts(conditioner: Conditioner) -> bytes:
    """Returns the content of text.json: how captions become vectors."""
    network, facts = conditioner.encoder.network, conditioner.record
    if network:
        words = {"vocabulary": ["", "<unknown>", *network.vocabulary], "words": network.words}
        facts = {**facts, **words, "pattern": WORD}
    return (json.dumps(facts, indent=2) + "\n").encode()


def _as_labels(conditions: Sequence[jax.Array]) -> Labels | None:
    """Returns the arrays of `_condition_inputs` as a network takes them."""
    if len(conditions) > 1:
        return SentenceCondition(*conditions)
    return conditions[0] if conditions else None


def _condition_inputs(spec: PyTree) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the specs of labels, vectors or sentences by name."""
    if isinstance(spec, SentenceCondition):
        return {"sentences": spec.sentence, "words": spec.words, "mask": spec.mask}
    return {"labels" if spec.ndim == 1 else "sentences": spec}


def write_program(program: Program) -> bytes:
    """Returns a program as `jax.export` serializes it."""
    exported = export.export(jax.jit(program.function), platforms=PLATFORMS)(
        *program.inputs.values()
    )
    return bytes(exported.serialize())


def write_networks(
    experiment: Experiment,
    variables: Variables,
    facts: Mapping[str, str],
    options: SamplingOptions,
) -> dict[str, bytes]:
    """Returns the content of a .safetensors file of each player, by file name.

    Args:
        experiment: the run.
        variables: of all networks, on the host.
        facts: config, step and seed, for the metadata.
        options: which weights the generator has.
    """
    transposed = find_transposed(experiment, variables)
    contents = {}
    for player in variables["params"]:
        arrays = network_arrays(variables, player)
        metadata = {
            "format": "flax",
            **facts,
            "weights": options.weights if player == "generator" else "raw",
            "layout": LAYOUT,
            "transposed": " ".join(name for name in arrays if f"{player}.{name}" in transposed),
        }
        contents[f"{player}.safetensors"] = safetensors.numpy.save(arrays, metadata)
    return contents


def network_arrays(variables: Variables, player: str) -> dict[str, np.ndarray]:
    """Returns all arrays that a network needs to run, by dotted name.

    These are its parameters, statistics such as `mean` and `var` of BatchNorm, and
    `kernel_sigma`, the singular value by which a spectrally normalized kernel is divided.
    """
    params = variables["params"][player]
    collections = {name: tree[player] for name, tree in variables.items() if player in tree}
    vectors = collections.pop(spectral.COLLECTION, {})
    arrays = {}
    for tree in collections.values():
        arrays |= flatten_dict(tree, sep=".")
    for layer, (_, sigma) in spectral.kernels(params, vectors).items():
        arrays[f"{layer.replace('/', '.')}.kernel_sigma"] = np.float32(sigma)
    return {name: np.asarray(array, order="C") for name, array in sorted(arrays.items())}


def find_transposed(experiment: Experiment, variables: Variables) -> set[str]:
    """Returns the dotted names of the kernels of transposed convolutions, with the player's."""
    names = set()

    def record(call: Callable, inputs: tuple, options: dict, context: Any) -> Any:
        if isinstance(context.module, TransposedConvolution):
            names.add(".".join((*context.module.path, "kernel")))
        return call(*inputs, **options)

    batch = batch_spec(experiment.train_source, (experiment.settings.batch_size,))

    def run(variables: Variables, batch: Any, key: jax.Array) -> Any:
        return experiment.gan.apply(variables, batch, key, rngs={"dropout": key}, mutable=True)

    with nn.intercept_methods(record):
        jax.eval_shape(run, variables, batch, experiment.members[0].key)
    return names


def _has_latents(gan: nn.Module) -> bool:
    return hasattr(gan, "latent_size") and hasattr(gan, "generate")


def _translates(gan: nn.Module) -> bool:
    return hasattr(gan, "to_a") and hasattr(gan, "to_b")


HEAD = """\
---
license: unknown
library_name: jax
tags:
- gan
---
<!-- Replace "unknown" by the license of these weights; mind that of the data. -->
"""

NETWORKS = """
## Networks in PyTorch

The `.safetensors` files hold arrays, not code: write the network's layers, then fill them. This
gives kernels in PyTorch's order, with spectral normalization applied:

```python
from safetensors import safe_open

with safe_open("{file}", "pt") as file:
    transposed = file.metadata()["transposed"].split()
    weights = {{name: file.get_tensor(name) for name in file.keys()}}
for name, kernel in weights.items():
    if name.endswith("kernel"):
        kernel = kernel / weights.get(f"{{name}}_sigma", 1)
        if kernel.ndim == 2:
            weights[name] = kernel.T
        else:
            order = (2, 3, 0, 1) if name in transposed else (3, 2, 0, 1)
            weights[name] = kernel.permute(order)
```

A kernel in `transposed` is that of `torch.nn.ConvTranspose2d` with stride 2 and padding 1, 3x3 ones
with output padding 1. BatchNorm has `scale`, `bias`, `mean` and `var`, and an epsilon of 1e-5.
Features that become a map, or come from one, are in the order height, width, channels.
"""

GENERATOR = """
## Samples without gaxn

`pip install jax flatbuffers`, then:

```python
{imports}from pathlib import Path

import jax
import numpy as np
from jax import export

generate = export.deserialize(Path("generator.stablehlo").read_bytes()).call
latents = jax.random.{draw}
{text}images = generate({arguments})
{last}
```
"""

CAPTIONS = """\
captions = {captions}
text = json.loads(Path("text.json").read_text())
numbers = {{word: number for number, word in enumerate(text["vocabulary"])}}
tokens = np.zeros((len(captions), text["words"]), np.int32)
for row, caption in zip(tokens, captions):
    words = re.findall(text["pattern"], caption.lower())
    row[: len(words)] = [numbers.get(word, 1) for word in words]
conditions = export.deserialize(Path("text.stablehlo").read_bytes()).call(tokens)
"""

VECTORS = """\
# Float32, with the numbers in text.json: vectors of sentences by the encoder there, as
# (vector - mean) / deviation{words}.
conditions = {conditions}
"""

WORDS = "; vectors of words, divided by word_scale; and true for each word"

TRANSLATORS = """
## Translations without gaxn

`pip install jax flatbuffers pillow`, then, for images of {size} pixels a side:

```python
from pathlib import Path

import numpy as np
from jax import export
from PIL import Image

to_b = export.deserialize(Path("a2b.stablehlo").read_bytes()).call
pixels = np.asarray(Image.open("a.png").convert("{mode}").resize(({size}, {size})))
images = to_b(pixels.reshape(1, {size}, {size}, {channels}) / np.float32(127.5) - 1)
{last}
```

`b2a.stablehlo` leads from B to A. Both take any number of images. The rows of `samples.png`, if
there is one: images of A, as B, back as A, and translated into A as they are; then those of B.
"""

TO_PIXELS = """\
# Float32 {shape} in [-1, 1]; as pixels:
pixels = np.clip((np.asarray(images) + 1) * 127.5, 0, 255).round().astype(np.uint8)"""


def write_card(
    experiment: Experiment,
    facts: Mapping[str, str],
    options: SamplingOptions,
    counts: Mapping[str, int],
    programs: Mapping[str, Program],
    figures: Mapping[str, Any] | None,
    has_picture: bool = True,
) -> str:
    """Returns the text of README.md.

    Args:
        experiment: the run.
        facts: config, step and seed.
        options: which weights and statistics the generator has.
        counts: number of parameters by player.
        programs: the exported programs.
        figures: content of evaluation.json.
        has_picture: whether there is a samples.png.
    """
    data = experiment.data_record
    versions = provenance.record()
    members = len(experiment.members)
    rows = {
        "config": f"`{facts['config']}`, below",
        "data": "{}; {:,} training and {:,} test examples".format(
            printable(data["identity"]), *data["examples"]
        ),
        "shape of an example": " x ".join(map(str, data["image_shape"])),
        "classes": ", ".join(f"{i}: {printable(name)}" for i, name in enumerate(data["classes"]))
        or "none",
        "steps": f"{int(facts['step']):,}",
        "seed": facts["seed"]
        + (f", the first of a population of {members}" if members > 1 else ""),
        "weights of the generator": "moving average" if options.weights == "ema" else "as trained",
        "statistics of BatchNorm": f"{options.statistics}, if the generator has any",
        "versions": ", ".join(f"{name} {text}" for name, text in versions["versions"].items()),
        "commit of gaxn": versions["git"] or "unknown",
    }
    table = "\n".join(f"| {name} | {_cell(text)} |" for name, text in rows.items())
    networks = "\n".join(
        f"| `{player}.safetensors` | the {player}, {count:,} parameters |"
        for player, count in sorted(counts.items(), key=lambda item: item[0] != "generator")
    )
    functions = "\n".join(
        f"| `{name}.stablehlo` | {_describe_program(program)} |"
        for name, program in programs.items()
    )
    sections = [
        f"# {facts['config']}",
        "A GAN trained with gaxn." + "\n\n![samples](samples.png)" * has_picture,
        f"| | |\n|---|---|\n{table}",
        f"## Files\n\n| file | content |\n|---|---|\n{networks}"
        + f"\n{functions}" * bool(programs),
        _describe_use(experiment, options, programs),
        NETWORKS.format(file="generator.safetensors"),
        _describe_figures(figures, int(facts["step"])),
        f"## Config\n\n{_json(_without_folders(experiment.config))}",
    ]
    return "\n\n".join([HEAD, *(section.strip() for section in sections if section)]) + "\n"


def _describe_program(program: Program) -> str:
    inputs = ", ".join(f"{name} {_describe_spec(spec)}" for name, spec in program.inputs.items())
    results = jax.tree.leaves(jax.eval_shape(program.function, *program.inputs.values()))
    outputs = ", ".join(map(_describe_spec, results))
    platforms = ", ".join(PLATFORMS)
    return f"({inputs}) -> {program.outputs}, {outputs}, for any b; platforms {platforms}"


def _describe_spec(spec: jax.ShapeDtypeStruct) -> str:
    return f"{spec.dtype} [{', '.join(map(str, spec.shape))}]"


def _describe_use(
    experiment: Experiment, options: SamplingOptions, programs: Mapping[str, Program]
) -> str:
    """Returns the section about the programs; "" if there are none."""
    *_, size, _, channels = (0, 0, 0, *experiment.test_source.image_shape)
    if "generator" in programs:
        is_points = len(experiment.test_source.image_shape) == 1
        shape = f"(4, {experiment.gan.latent_size})"
        draw = f"normal(jax.random.key(0), {shape})"
        if options.truncation:
            bound = options.truncation
            draw = f"truncated_normal(jax.random.key(0), {-bound}, {bound}, {shape})"
        labels, text = "", ""
        if isinstance(experiment.train_source, Sentences):
            labels, text = (
                ", *conditions",
                _describe_captions(experiment.train_source, "text" in programs),
            )
        elif experiment.settings.conditional:
            labels = f", np.arange(4, dtype=np.int32) % {len(experiment.train_source.class_names)}"
        last = TO_PIXELS.format(shape=f"[4, {size}, {size}, {channels}]")
        if is_points:
            last = f"# Float32 [4, {channels}]: points."
        imports = "import json\nimport re\n" if "text" in programs else ""
        arguments = f"latents{labels}"
        return GENERATOR.format(
            imports=imports, draw=draw, text=text, arguments=arguments, last=last
        )
    if "a2b" in programs:
        last = TO_PIXELS.format(shape=f"[1, {size}, {size}, {channels}]")
        mode = "L" if channels == 1 else "RGB"
        return TRANSLATORS.format(size=size, channels=channels, mode=mode, last=last)
    return ""


def _describe_captions(train: Sentences, has_program: bool) -> str:
    """Returns the lines of code that make the conditions of four captions."""
    if has_program:
        captions = [train.captions[place % len(train.captions)] for place in range(4)]
        return CAPTIONS.format(captions=json.dumps(captions))
    specs = _condition_inputs(train.label_spec((4,)))
    conditions = ", ".join(f"np.ones({spec.shape}, np.{spec.dtype})" for spec in specs.values())
    words = WORDS if len(specs) > 1 else ""
    return VECTORS.format(words=words, conditions=f"[{conditions}]")


def _describe_figures(figures: Mapping[str, Any] | None, step: int) -> str:
    """Returns the section about the figures; they are left out if they are of another step."""
    if figures is None:
        return "## Figures\n\nThis run was not evaluated."
    if figures.get("step") != step:
        return f"## Figures\n\nThe last evaluation is of step {figures.get('step')}, not of {step}."
    sections = ["## Figures\n\nValue +- standard error, and the same figure of real images."]
    for part, content in figures.items():
        if isinstance(content, Mapping) and content.get("figures"):
            texts = figure_texts.format_figures(content["figures"], ".4g")
            table = "\n".join(f"| {name} | {text} |" for name, text in texts.items())
            sections.append(
                f"### {part}\n\n| figure | value |\n|---|---|\n{table}\n\n"
                f"Protocol:\n\n{_json(content['protocol'])}"
            )
    return "\n\n".join(sections)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _json(fields: Mapping[str, Any]) -> str:
    """Returns a block of JSON, one line per field."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(fields[name])}" for name in fields)
    return f"```json\n{{\n{lines}\n}}\n```"


PATH_FIELDS = ("path", "directory", "run", "inception", "lpips", "weights")
"""Fields of a config that may be paths."""


def _without_folders(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config in which only the last part of each path remains, as cards are published."""

    def shorten(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return _without_folders(value)
        is_path = name in PATH_FIELDS or str(value).startswith(("/", "~"))
        return Path(value).name if is_path and isinstance(value, str) else value

    return {name: shorten(name, value) for name, value in fields.items()}
