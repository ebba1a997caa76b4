"""From a config to the terms of the losses."""

from collections.abc import Callable, Mapping
from typing import Any

from gaxn.config import bind, check_part, instantiate, resolve
from gaxn.features import FeatureExtractor
from gaxn.objectives.augmentations import Augmentation
from gaxn.objectives.regularizers import ImageFeatures, Regularizer
from gaxn.types import check


def make_parts(
    kind: str, specs: Mapping[str, Any], returns: Any, field: str = ""
) -> dict[str, Any]:
    """Returns penalties or augmentations by name: what functions of an objectives module make."""
    field, parts = field or f"config.{kind}", {}
    for name, options in specs.items():
        check(f"{field}.{name}", options, isinstance(options, Mapping), "a dict of options")
        make = resolve(f"objectives.{kind}", name, field, returns=returns)
        parts[name] = check_part(bind(make, options, f"{field}.{name}"), returns, field)
    return parts


def make_regularizers(
    specs: Mapping[str, Any], image_shape: tuple[int, ...] | None
) -> dict[str, Callable[[], Regularizer]]:
    """Returns regularizers by name, each with the parts that it has a dict of among its options.

    Args:
        specs: the options of each.
        image_shape: of the images of a feature extractor; None leaves out the regularizers that
            have one, for runs that are only sampled.
    """
    completed = {}
    for name, options in specs.items():
        field = f"config.regularizers.{name}"
        options = dict(options) if isinstance(options, Mapping) else options
        if isinstance(options, dict) and isinstance(options.get("augmentations"), Mapping):
            kind, place = "augmentations", f"{field}.augmentations"
            parts = make_parts(kind, options[kind], Augmentation, place)
            options[kind] = tuple(parts.values())
        if isinstance(options, dict) and "extractor" in options:
            if image_shape is None:
                continue
            place = f"{field}.extractor"
            options["extractor"] = make_image_features(options["extractor"], place, image_shape)
        completed[name] = options
    return make_parts("regularizers", completed, Callable[[], Regularizer])


def make_image_features(spec: Any, field: str, image_shape: tuple[int, ...]) -> ImageFeatures:
    """Returns the features of a module of gaxn/features, for losses.

    Raises:
        InputError: it cannot be loaded, or does not take images of this shape.
    """
    check(field, spec, isinstance(spec, Mapping), "a dict with a name, such as {'name': 'vgg'}")
    extractor = instantiate("features", spec, field, "load", returns=FeatureExtractor)
    expected = "left out with points, which are no images"
    check(field, dict(spec), len(image_shape) == 3, expected)
    extractor.output_spec(image_shape)
    return extractor.for_losses
