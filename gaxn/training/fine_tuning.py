"""Fine-tuning: the trained networks that a run starts from, and the layers that stay as they are.

All functions are pure. gaxn/training/restore.py reads trained networks from files.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from gaxn.nn import spectral
from gaxn.training.state import TrainState
from gaxn.types import Batch, InputError, PyTree, check

DISCRIMINATOR, GENERATOR = "discriminator", "generator"

EMA = "ema"
"""The moving average of the generator, among the collections of trained networks."""

MAX_NAMES = 3
"""Variables that a message names; others are counted."""

VariablePath = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class StartOptions:
    """The fields of `config.start`.

    Attributes:
        run: the directory of a run, the name of a shipped one, or a folder that `--mode export`
            wrote, or one PLAYER.safetensors of it; "" for none. It is read once, when the run
            begins.
        step: the checkpoint: "last", "best" or its step; of a run.
        weights: the generator's parameters: "ema", their moving average, or "raw", the trained
            ones.
        mismatch: whether networks whose variables do not all fit are refused ("refuse"), or such
            variables are new ("new"), as without `start`.
        freeze_discriminator: number of the discriminator's first layers that are not moved
            (FreezeD; Mo et al., 2020); of each of several discriminators.
    """

    run: str = ""
    step: str | int = "last"
    weights: str = "ema"
    mismatch: str = "refuse"
    freeze_discriminator: int = 0

    def __post_init__(self):
        valid = bool(self.run) or all(
            getattr(self, field.name) == field.default for field in dataclasses.fields(self)
        )
        expected = "the directory of a run or of an export, or the name of a shipped run"
        check("run", self.run, valid, expected)
        valid = str(self.step) in ("last", "best") or str(self.step).isdecimal()
        check("step", self.step, valid, "last, best or the step of a checkpoint")
        check("weights", self.weights, self.weights in (EMA, "raw"), "ema or raw")
        check("mismatch", self.mismatch, self.mismatch in ("refuse", "new"), "refuse or new")
        count = self.freeze_discriminator
        check("freeze_discriminator", count, count >= 0, "0 (for none) or more")


class Networks(NamedTuple):
    """Trained networks.

    Attributes:
        variables: by collection, then player; the collection `ema` has the generator's moving
            average.
        facts: name of the config and step.
        is_complete: whether every player must be among them; False for an export, whose absent
            players stay newly initialized.
    """

    variables: Mapping[str, Mapping[str, PyTree]]
    facts: Mapping[str, Any]
    is_complete: bool = True


class VariableMatch(NamedTuple):
    """Variables that a run takes over, and those that do not fit.

    Attributes:
        taken: arrays by path, which begins with the collection and the player.
        new: texts on variables that the run needs, but the networks lack or have in another shape.
        surplus: texts on variables that the run does not need.
        facts: of the networks.
    """

    taken: Mapping[VariablePath, np.ndarray]
    new: tuple[str, ...]
    surplus: tuple[str, ...]
    facts: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """The SHA-256 of the names, types, shapes and values of all that is taken over."""
        digest = hashlib.sha256()
        for path, array in sorted(self.taken.items()):
            digest.update(f"{'.'.join(path)} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def networks_of(state: TrainState, weights: str, facts: Mapping[str, Any]) -> Networks:
    """Returns the networks of a state.

    Args:
        state: of one member, on the host.
        weights: the generator's parameters, "ema" or "raw".
        facts: name of the config and step.
    """
    variables = network_variables(state)
    if weights == EMA:
        variables["params"] = {**state.params, GENERATOR: state.ema}
    return Networks(variables, facts)


def network_variables(state: TrainState) -> dict[str, dict[str, PyTree]]:
    """Returns the variables of a state that belong to networks, by collection, then player.

    Those of losses and of a history of images, such as LeCam's means, are not among them.
    """
    collections = {
        name: {player: tree[player] for player in state.params if player in tree}
        for name, tree in state.collections.items()
    }
    return {"params": state.params, EMA: {GENERATOR: state.ema}, **collections}


def exported_networks(
    arrays: Mapping[str, Mapping[str, np.ndarray]], facts: Mapping[str, Any], target: TrainState
) -> Networks:
    """Returns networks that `--mode export` wrote as those of a state.

    Args:
        arrays: by player, then dotted name, without their collections.
        facts: name of the config and step.
        target: the state of one member that takes them over, or its spec, for its collections.
    """
    variables: dict[str, dict[str, PyTree]] = {}
    for player, named in arrays.items():
        rest = {name: a for name, a in named.items() if not name.endswith(".kernel_sigma")}
        for collection, tree in target.collections.items():
            if collection == spectral.COLLECTION or player not in tree:
                continue
            names = [".".join(path) for path in flatten_dict(tree[player])]
            statistics = {name: rest.pop(name) for name in names if name in rest}
            variables.setdefault(collection, {})[player] = unflatten_dict(statistics, sep=".")
        variables.setdefault("params", {})[player] = unflatten_dict(rest, sep=".")
        vectors = target.collections.get(spectral.COLLECTION, {}).get(player, {})
        sigmas = spectral_variables(vectors, rest)
        variables.setdefault(spectral.COLLECTION, {})[player] = sigmas
    if GENERATOR in arrays:
        variables[EMA] = {GENERATOR: variables["params"][GENERATOR]}
    return Networks(variables, facts, is_complete=False)


def spectral_variables(vectors: PyTree, kernels: Mapping[str, np.ndarray]) -> PyTree:
    """Returns where the power iteration of spectral normalization ends, for some kernels.

    Args:
        vectors: the collection `spectral` of a player, or its spec.
        kernels: by dotted name.

    Returns:
        A tree like `vectors`, without those of unknown kernels: `u`, the right singular vector of
        the largest singular value of a kernel [inputs, outputs], and `sigma`, that value.
    """
    result = {}
    for path in flatten_dict(vectors):
        *place, name = path
        *layer, kind = name.split("/")
        # Our wrapper and Flax's are in the path of the vector, but not in that of the kernel.
        kernel = kernels.get(".".join((*place[:-2], *layer)))
        if kernel is not None:
            matrix = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
            squares, directions = np.linalg.eigh(matrix.T @ matrix)
            value = directions[None, :, -1] if kind == "u" else np.sqrt(squares[-1])
            result[path] = np.asarray(value, np.float32)
    return unflatten_dict(result)


def match_variables(networks: Networks, target: TrainState) -> VariableMatch:
    """Finds the variables that a state can take over from trained networks.

    Args:
        networks: trained ones.
        target: the state of one member, or its spec.
    """
    known = networks.variables["params"].keys()
    needed = {
        path: leaf
        for path, leaf in flatten_dict(network_variables(target)).items()
        if networks.is_complete or path[1] in known
    }
    given = flatten_dict(networks.variables)
    taken = {
        path: np.asarray(leaf, needed[path].dtype)
        for path, leaf in given.items()
        if path in needed and np.shape(leaf) == needed[path].shape
    }

    def compare(path: VariablePath) -> str:
        before, now = (
            "none" if path not in leaves else list(np.shape(leaves[path]))
            for leaves in (given, needed)
        )
        return f"{'.'.join(path)} ({before} there, {now} here)"

    # Parameters first; the moving average has their shapes.
    new, surplus = (
        sorted((path for path in paths if path[0] != EMA), key=lambda p: (p[0] != "params", p))
        for paths in (needed.keys() - taken.keys(), given.keys() - needed.keys())
    )
    return VariableMatch(
        taken, tuple(map(compare, new)), tuple(map(compare, surplus)), networks.facts
    )


def check_match(match: VariableMatch, options: StartOptions) -> None:
    """Raises an InputError if networks do not fit as `config.start.mismatch` wants it."""
    wrong = [*match.new, *match.surplus]
    if wrong and options.mismatch == "refuse":
        raise InputError(
            f"config.start.run must be of the same networks, but {options.run} differs in "
            f"{shorten(wrong)}; config.start.mismatch='new' makes these anew"
        )
    expected = "of networks that have a variable in common with those of the config"
    check("config.start.run", options.run, bool(match.taken), expected)


def shorten(texts: Iterable[str]) -> str:
    """Returns the first texts, and the number of the others."""
    texts = list(texts)
    rest = len(texts) - MAX_NAMES
    return ", ".join(texts[:MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def describe(match: VariableMatch) -> str:
    """Returns a line on what is taken over."""
    count = sum(path[0] != EMA for path in match.taken)
    line = f"{match.facts['name']} at step {match.facts['step']:,}: {count} arrays taken over"
    for word, texts in (("new", match.new), ("left out", match.surplus)):
        line += f"; {len(texts)} {word}: {shorten(texts)}" if texts else ""
    return line


def take_over(state: TrainState, match: VariableMatch) -> TrainState:
    """Returns a state at step 0 with trained variables; its optimizer states are unchanged.

    Of a population, every member gets them.

    Args:
        state: on the host.
        match: the variables.
    """

    def replace(path: tuple, leaf: np.ndarray) -> np.ndarray:
        array = match.taken.get(_names(path))
        return leaf if array is None else np.array(np.broadcast_to(array, leaf.shape))

    variables = jax.tree_util.tree_map_with_path(replace, network_variables(state))
    collections = {name: {**tree, **variables[name]} for name, tree in state.collections.items()}
    return state.replace(
        params=variables["params"], ema=variables[EMA][GENERATOR], collections=collections
    )


def list_layers(gan: nn.Module, batch: Batch, key: PyTree) -> list[list[VariablePath]]:
    """Returns the layers of each discriminator, in the order in which they run.

    A layer is a module within a discriminator, not within another of its modules, that has
    parameters. The discriminators are those of two domains or of several scales, or the only one.

    Args:
        gan: the networks and their losses.
        batch: shapes and dtypes of a batch.
        key: shape and dtype of a key.

    Returns:
        Paths among the parameters of the discriminator.
    """
    types: dict[VariablePath, type] = {}

    def record(call, inputs, options, context) -> Any:
        if context.method_name != "setup" and context.module.scope is not None:
            types.setdefault(context.module.path, type(context.module))
        return call(*inputs, **options)

    def initialize(batch: Batch, key: jax.Array) -> PyTree:
        with nn.intercept_methods(record):
            return gan.init({"params": key, "dropout": key}, batch, key)

    params = flatten_dict(jax.eval_shape(initialize, batch, key)["params"])
    calls = [path for path in types if path[:1] == (DISCRIMINATOR,)]

    def children(parents: list[VariablePath]) -> list[VariablePath]:
        return [path for path in calls if path[:-1] in parents]

    # A pair of discriminators is never called itself; one of several scales calls copies of it.
    networks = [path for path in calls if not any(path[:n] in calls for n in range(len(path)))]
    while copies := [path for path in children(networks) if types[path] is types[path[:-1]]]:
        networks = copies
    owners = {path[:length] for path in params for length in range(len(path))}
    return [[path[1:] for path in children([network]) if path in owners] for network in networks]


def frozen_layers(gan: nn.Module, batch: Batch, key: PyTree, count: int) -> frozenset[VariablePath]:
    """Returns the first `count` layers of each discriminator, as `list_layers` has them.

    Raises:
        InputError: it has fewer.
    """
    if not count:
        return frozenset()
    layers = list_layers(gan, batch, key)
    names = [path[-1] for path in layers[0]]
    expected = f"0 to {len(names)}, as the layers of the discriminator are {', '.join(names)}"
    valid = count <= min(map(len, layers))
    check("config.start.freeze_discriminator", count, valid, expected)
    return frozenset(path for network in layers for path in network[:count])


def _names(path: tuple) -> VariablePath:
    return tuple(key.key for key in path)
