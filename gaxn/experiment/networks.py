"""From a config to networks."""

import inspect
import typing
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from gaxn.config import instantiate, resolve
from gaxn.data import Source
from gaxn.data.sentences import Sentences
from gaxn.experiment.settings import DTYPES
from gaxn.nn.growing import Growth
from gaxn.types import InputError, check


def network_arguments(source: Source, conditional: bool) -> dict[str, int | None]:
    """Returns the arguments of networks that follow from the data."""
    if len(source.image_shape) == 1:
        check("config.conditional", conditional, not conditional, "False with points")
        check("config.data.flip", source.flip, not source.flip, "False with points")
        return {"features": source.image_shape[0], "classes": None}
    height, width, channels = source.image_shape[-3:]
    check("the images' height and width", (height, width), height == width, "equal")
    if isinstance(source, Sentences):
        return {"size": height, "channels": channels, "classes": source.conditioner.features}
    classes = len(source.class_names)
    if conditional and classes < 2:
        raise InputError(
            "config.conditional must be False, or the data must have 2 classes or more; "
            f"{source.identity} has {classes}"
        )
    return {"size": height, "channels": channels, "classes": classes if conditional else None}


def check_networks(gan: Mapping[str, Any], networks: Mapping[str, Any]) -> None:
    """Raises an InputError unless `config.networks` has the further networks of a GAN."""
    make = resolve("gans", gan.get("name"), "config.gan.name")
    parameters, hints = inspect.signature(make).parameters, typing.get_type_hints(make)
    known = [
        name
        for name in parameters.keys() - {"generator", "discriminator", "parent"}
        if nn.Module in (hints.get(name), *typing.get_args(hints.get(name)))
    ]
    needed = {name for name in known if parameters[name].default is inspect.Parameter.empty}
    valid = needed <= networks.keys() <= set(known)
    expected = f"{', '.join(sorted(known)) or 'none'} with the GAN {gan['name']}"
    check("the names in config.networks", sorted(networks), valid, expected)
    for name, spec in networks.items():
        check(f"config.networks.{name}", spec, isinstance(spec, Mapping), "a dict with a name")


def make_network(
    spec: Mapping[str, Any], field: str, dtype: str, shape: Mapping[str, Any]
) -> nn.Module:
    """Returns a network of gaxn/models that computes in a type, and grows if the run does."""
    network = instantiate("models", spec, field, dtype=DTYPES[dtype], **shape)
    valid = dtype == "float32" or hasattr(network, "dtype")
    check("config.dtype", dtype, valid, f"float32 with the network {spec['name']}")
    check_grows(network, spec["name"], shape["growing"])
    return network


def check_grows(module: nn.Module, name: str, growth: Growth | None) -> None:
    """Raises an InputError if a run grows, and a GAN or a network of it cannot."""
    resolutions = growth.resolutions if growth else ()
    grows = growth is None or getattr(module, "growing", None) == growth
    check("config.growing.resolutions", resolutions, grows, f"() with {name}, which cannot grow")
