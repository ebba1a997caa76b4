"""What evaluators see of a state: samples by index, attention where there is some."""

import jax
import numpy as np
import pytest

from gaxn import mesh
from gaxn.build import build

OFF = ["generator.attention_at=()", "discriminator.attention_at=()"]


def _subject(config):
    experiment = build(config, "tiny", mesh.jitted(jax.devices()[:1]))
    return experiment.subject(jax.device_get(experiment.create(experiment.key)))


@pytest.mark.parametrize(
    "overrides, generator, discriminator",
    [([], {"attention_16"}, {"attention_8"}), (OFF, set(), set())],
)
def test_attention_is_what_the_networks_have(tiny, overrides, generator, discriminator):
    subject = _subject(tiny(*overrides))
    indices, labels = np.arange(3), np.array([0, 2, 1])
    images = subject.sample(indices, labels)
    assert set(subject.generator_attention(indices, labels)) == generator
    assert set(subject.discriminator_attention(images, labels)) == discriminator
    layers = {"generator": generator, "discriminator": discriminator}
    assert set(subject.gammas) == {
        f"{player}/{name}" for player in layers for name in layers[player]
    }


def test_a_sample_depends_on_its_index_and_label_alone(tiny):
    subject = _subject(tiny())
    labels = np.array([0, 1, 2, 0, 1, 2])
    together = subject.sample(np.arange(6), labels)
    order = np.array([4, 1, 5])
    # Another batch size may round otherwise, by one level of 255.
    difference = together[order].astype(int) - subject.sample(order, labels[order])
    assert np.abs(difference).max() <= 1
    assert (together[0] != together[3]).any()
