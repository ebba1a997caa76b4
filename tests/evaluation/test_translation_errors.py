"""Errors of translations are exact for translators whose errors are known."""

import numpy as np
import pytest

from gaxn.data import unpaired
from gaxn.evaluation.evaluators import translation_errors
from gaxn.evaluation.translation import Translator, ordered_reader
from gaxn.types import Sampler

SAMPLES = 20


def _sources(paired):
    """Returns the training and the test split of shapes in two styles."""
    a, b = ({"name": "shapes", "style": style} for style in ("warm", "cool"))
    return (
        unpaired.Source(split, a, b, size=32, enlarge=1.0, paired=paired)
        for split in ("train", "test")
    )


def _images(source, count=SAMPLES):
    """Returns the first images of A and of B, in the order of an evaluation."""
    return [ordered_reader(domain)(np.arange(count)) for domain in source.domains]


def _translator(to_a, to_b):
    facts = {"step": 0, "seed": 0, "weights": "ema", "direction": "a2b"}
    sampler = Sampler(None, None, None, {}, facts)
    return Translator(to_a, to_b, {"a2b": sampler, "b2a": sampler})


def _keep(images):
    return images


def _invert(images):
    return 255 - images


def test_a_perfect_translator_has_no_error_and_baselines_are_exact(monkeypatch):
    monkeypatch.setattr(translation_errors, "MEAN_IMAGE_COUNT", 150)
    train, test = _sources(paired=True)
    a, b = _images(test)

    def perfect(sources, targets):
        answers = {
            source.tobytes(): target for source, target in zip(sources, targets, strict=True)
        }
        # Images of the target domain stay as they are.
        return lambda images: np.stack([answers.get(image.tobytes(), image) for image in images])

    evaluator = translation_errors.Evaluator(
        train, test, SAMPLES, untrained=lambda member: _translator(_keep, _invert)
    )
    report = evaluator(_translator(perfect(b, a), perfect(a, b)))
    errors = report.figures
    assert errors.keys() >= evaluator.figures
    for name in ("mae_a2b", "mae_b2a", "cycle_mae_a", "cycle_mae_b", "identity_mae_a"):
        assert errors[name] == errors[f"{name}_error"] == 0
    a, b = (images.astype(np.float64) / 255 for images in (a, b))
    differences = np.abs(a - b).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(errors["mae_a2b_identity"], differences.mean())
    standard_error = differences.std(ddof=1) / np.sqrt(SAMPLES)
    np.testing.assert_allclose(errors["mae_a2b_identity_error"], standard_error)
    np.testing.assert_allclose(errors["mae_a2b_untrained"], np.abs(1 - a - b).mean(), atol=1e-9)
    mean = _images(train, 150)[1].astype(np.float64).mean(axis=0) / 255
    np.testing.assert_allclose(errors["mae_a2b_mean_image"], np.abs(mean - b).mean())
    assert report.protocol["samples_a"] == SAMPLES and "direction" not in report.protocol


def test_unpaired_test_images_have_only_errors_of_cycle_and_identity():
    train, test = _sources(paired=False)
    evaluator = translation_errors.Evaluator(
        train, test, SAMPLES, untrained=lambda member: pytest.fail("there is no baseline")
    )
    errors = evaluator(_translator(_keep, _invert)).figures
    assert evaluator.figures == {
        f"{kind}_mae_{domain}" for kind in ("cycle", "identity") for domain in "ab"
    }
    a, b = (images.astype(np.float64) / 255 for images in _images(test))
    np.testing.assert_allclose(errors["cycle_mae_a"], np.abs(1 - 2 * a).mean())
    np.testing.assert_allclose(errors["identity_mae_b"], np.abs(1 - 2 * b).mean())
    assert errors["identity_mae_a"] == 0
