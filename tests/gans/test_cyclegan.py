"""The CycleGAN: its loss, its laws, and its history on disk."""

import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gaxn.data import pixels
from gaxn.distributed import sharding
from gaxn.gans.cyclegan import CycleGAN, random_crop
from gaxn.io.checkpoints import Checkpoints
from gaxn.models import cyclegan as networks
from gaxn.objectives.losses import wasserstein
from gaxn.objectives.objective import make_objective
from gaxn.objectives.regularizers import ImageFeatures, Regularizer, perceptual
from gaxn.objectives.schedules import RunLength, linear, make_schedule
from gaxn.training.state import create_state
from gaxn.training.step import PlayerUpdate, compute_loss, make_train_step, update_player
from gaxn.training.update_rules import alternating
from gaxn.types import Batch, InputError

BATCH, SIZE, STORED = 8, 16, 20
PLAYERS = "discriminator", "generator"


def _gan(generator=None, discriminator=None, regularizers=None, **options):
    # Attention in one of them is enough, and less to compile.
    generator = generator or networks.Generator(3, 4, 0, attention=False)
    discriminator = discriminator or networks.Discriminator(4, 1, dropout=0.2)
    objective = make_objective(wasserstein(), {}, regularizers or {}, ())
    options = {"conditional": False, "size": SIZE, "history": 5, **options}
    return CycleGAN(generator, discriminator, objective, **options)


def _batches(count):
    random = np.random.default_rng(0)
    shape = (count, len(PLAYERS), BATCH, 2, STORED, STORED, 3)
    return [Batch(images, None) for images in random.integers(0, 256, shape).astype(np.uint8)]


def _first_batch():
    return jax.tree.map(lambda leaf: leaf[0], _batches(1)[0])


@pytest.fixture(scope="module")
def run():
    """Returns the GAN, its updates, its train step and its first state."""
    gan, optimizers = _gan(), dict.fromkeys(PLAYERS, optax.sgd(1e-2))
    updates = [
        PlayerUpdate(player, loss, optimizers[player]) for player, loss in gan.losses().items()
    ]
    create = jax.jit(lambda key: create_state(gan, optimizers, _first_batch(), key))
    train_step = make_train_step(gan, updates, 0.9, alternating().step)
    return gan, updates, train_step, jax.device_get(create(jax.random.key(0)))


def _train(program, parallelism, start, batches):
    state = parallelism.place(start)
    for batch in batches:
        state, _ = program(state, parallelism.assemble(batch), jax.random.key(0))
    return parallelism.to_host(state)


def test_the_generators_start_apart(run):
    for player in PLAYERS:
        a, b = (jax.tree.leaves(run[3].params[player][name]) for name in "ab")
        assert any(not np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.slow
def test_an_update_leaves_the_rival_and_only_discriminators_have_a_history(run):
    gan, updates, _, start = run
    batch, key = _first_batch(), jax.random.key(1)
    update = jax.jit(
        lambda state, index: update_player(gan, updates[index], state, batch, key)[0],
        static_argnums=1,
    )
    for index, (player, rival) in enumerate((PLAYERS, PLAYERS[::-1])):
        state = jax.device_get(update(start, index))
        jax.tree.map(np.testing.assert_array_equal, state.params[rival], start.params[rival])
        spectral = [each.collections["spectral"][rival] for each in (state, start)]
        jax.tree.map(np.testing.assert_array_equal, *spectral)
        leaves = (jax.tree.leaves(each.params[player]) for each in (state, start))
        assert any(not np.array_equal(a, b) for a, b in zip(*leaves, strict=True))
        counts = [int(history["count"]) for history in state.collections["history"].values()]
        assert counts == ([5, 5] if player == "discriminator" else [0, 0])


def _generator_terms(gan, run, step=0):
    """Returns the generators' loss at a step, and its scalars."""
    _, updates, _, start = run
    loss, (scalars, _) = compute_loss(
        gan,
        updates[1],
        start.replace(step=step),
        start.params["generator"],
        _first_batch(),
        jax.random.key(1),
        jnp.arange(BATCH),
        0,
    )
    return loss, scalars


class Probe(Regularizer):
    """The mean of the generated images, and of those of equal but other inputs."""

    def generator(self, inputs, keys):
        again = inputs.generate(inputs.generator_inputs + 0)
        return (inputs.generated - again).mean(axis=(1, 2, 3))


def test_a_regularizer_gets_the_generated_images_themselves(run):
    """Counts translations: two for the losses, four for cycle and identity, two for the probe."""
    calls = []

    class Counting(networks.Generator):
        def __call__(self, images, train):
            calls.append(images)
            return super().__call__(images, train)

    def trace(regularizers):
        calls.clear()
        counting = _gan(Counting(3, 4, 0, attention=False), regularizers=regularizers)
        shapes = jax.eval_shape(lambda: _generator_terms(counting, run))
        return shapes[1], len(calls)

    plain, count = trace({})
    scalars, with_probe = trace({"probe": Probe})
    assert with_probe == count + 2 and scalars.keys() - plain.keys() == {
        "probe",
        "probe_a",
        "probe_b",
    }


@pytest.mark.slow
def test_the_generators_loss_is_the_weighted_sum_of_its_terms(run):
    gan, _, _, start = run
    loss, terms = jax.jit(lambda: _generator_terms(gan, run))()
    total = sum(
        weight * (terms[f"{name}_a"] + terms[f"{name}_b"])
        for name, weight in (("adversarial", 1), ("cycle", 10), ("identity", 5))
    )
    np.testing.assert_allclose(loss, total, rtol=1e-6)

    @partial(jax.jit, static_argnums=1)
    def apply(images, name):
        variables = {"params": start.params, **start.collections}
        return gan.apply(variables, images, method=name)

    # At a size that leaves one square, and unmirrored, the crops are the images themselves.
    uncropped = gan.clone(size=STORED, mirror=False)
    images = _first_batch().images
    a, b = (jnp.asarray(images[:, place] / 127.5 - 1, jnp.float32) for place in (0, 1))
    _, terms = jax.jit(lambda: _generator_terms(uncropped, run))()
    # Spectral norm's estimates move on a little with every pass in training.
    for name, expected in (
        ("identity_a", jnp.abs(apply(a, "to_a") - a).mean()),
        ("identity_b", jnp.abs(apply(b, "to_b") - b).mean()),
        ("cycle_a", jnp.abs(apply(apply(a, "to_b"), "to_a") - a).mean()),
        ("cycle_b", jnp.abs(apply(apply(b, "to_a"), "to_b") - b).mean()),
    ):
        np.testing.assert_allclose(terms[name], expected, rtol=0.02)


@pytest.mark.slow
def test_each_discriminator_sees_its_own_domain():
    """Compares both losses' scalars with `to_a`, `discriminate_a` and so on."""
    players = networks.Generator(3, 4, 1), networks.Discriminator(4, 2)
    gan = _gan(*players, history=0, mirror=False)
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (BATCH, 2, SIZE, SIZE, 3)).astype(np.uint8)
    # Domains that no discriminator takes for one another.
    images[:, 1] = images[:, 1] // 8
    batch = Batch(images, None)
    optimizers = dict.fromkeys(PLAYERS, optax.sgd(1.0))
    start = jax.jit(lambda key: create_state(gan, optimizers, batch, key))(jax.random.key(2))
    variables = {"params": start.params, **start.collections}

    @partial(jax.jit, static_argnums=0)
    def apply(method, *inputs):
        return gan.apply(variables, *inputs, method=method)

    real = {name: pixels.decode(images[:, place]) for place, name in enumerate("ab")}
    fake = {"a": apply("to_a", real["b"]), "b": apply("to_b", real["a"])}
    inputs = batch, jnp.arange(BATCH), jax.random.key(3), jnp.int32(0)

    @partial(jax.jit, static_argnums=0)
    def scalars_of(player):
        method, mutable = f"{player}_loss", nn.DenyList("params")
        (_, scalars), _ = gan.apply(variables, *inputs, method=method, mutable=mutable)
        return scalars

    discriminators, generators = map(scalars_of, PLAYERS)
    logits = {
        name: [apply(f"discriminate_{name}", images[name]) for images in (real, fake)]
        for name in "ab"
    }
    for name, (of_real, of_fake) in logits.items():
        np.testing.assert_allclose(discriminators[f"real_{name}"], of_real.mean(), rtol=1e-4)
        np.testing.assert_allclose(discriminators[f"fake_{name}"], of_fake.mean(), rtol=1e-4)
        adversarial = discriminators[f"adversarial_{name}"]
        expected = of_fake.mean() - of_real.mean()
        np.testing.assert_allclose(adversarial, expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(generators[f"adversarial_{name}"], -of_fake.mean(), rtol=1e-4)
    means = [float(each.mean()) for pair in logits.values() for each in pair]
    assert min(abs(x - y) for x, y in itertools.combinations(means, 2)) > 1e-3


@pytest.mark.slow
def test_a_saved_run_goes_on_bit_for_bit(run, tmp_path):
    _, _, train_step, start = run
    parallelism = sharding.jit_parallelism(jax.devices()[:1])
    program, batches = parallelism.compile_step(train_step), _batches(4)
    uninterrupted = _train(program, parallelism, start, batches)
    with Checkpoints(tmp_path, 1) as checkpoints:
        checkpoints.save(2, _train(program, parallelism, start, batches[:2]))
        checkpoints.wait()
        spec = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), start)
        resumed = _train(program, parallelism, checkpoints.restore(spec), batches[2:])
    jax.tree.map(np.testing.assert_array_equal, uninterrupted, resumed)
    assert uninterrupted.collections["history"]["discriminator_history_a"]["images"].any()


def test_a_weight_with_a_schedule_falls_in_a_line(run):
    gan = _gan(identity=make_schedule(linear(((0.5, 5.0), (1.0, 0.0))), RunLength(20, BATCH)))
    terms_at = jax.jit(lambda step: _generator_terms(gan, run, step))
    for step, identity in ((0, 5), (10, 5), (15, 2.5), (30, 0)):
        loss, terms = terms_at(step)
        sums = {
            name: terms[f"{name}_a"] + terms[f"{name}_b"]
            for name in ("adversarial", "cycle", "identity")
        }
        expected = sums["adversarial"] + 10 * sums["cycle"] + identity * sums["identity"]
        np.testing.assert_allclose(loss, expected, rtol=1e-6)


def _brightness(images):
    return images.mean(axis=(1, 2))


def _distance(a, b):
    return jnp.square(_brightness(a) - _brightness(b)).sum(axis=-1)


@pytest.mark.slow
def test_the_perceptual_term_is_a_distance_of_cycle_and_identity(run):
    """Compares it with the distances of equal pairs of images, those of the L1 terms."""
    pairs = []

    def distance(a, b):
        pairs.append((a, b))
        return _distance(a, b)

    features = ImageFeatures(_brightness, distance)
    make = perceptual(features, weight=3.0, identity=0.5)

    @jax.jit
    def terms():
        pairs.clear()
        loss, terms = _generator_terms(_gan(regularizers={"perceptual": make}), run)
        distances = [_distance(a, b).mean() for a, b in pairs]
        absolute = [jnp.abs(a - b).mean() for a, b in pairs]
        return loss, terms, distances, absolute

    loss, terms, distances, absolute = terms()
    names = ("cycle_a", "identity_a", "cycle_b", "identity_b")
    np.testing.assert_allclose(absolute, [terms[name] for name in names], rtol=1e-6)
    assert min(distances) > 0
    for domain, (cycle, identity) in zip("ab", (distances[:2], distances[2:]), strict=True):
        expected = 3 * (cycle + 0.5 * identity)
        np.testing.assert_allclose(terms[f"perceptual_{domain}"], expected, rtol=1e-5)
    total = sum(
        weight * (terms[f"{name}_a"] + terms[f"{name}_b"])
        for name, weight in (("adversarial", 1), ("cycle", 10), ("identity", 5))
    )
    np.testing.assert_allclose(loss, total, rtol=1e-6)


@pytest.mark.parametrize(("share", "count"), [(0.5, 4), (0.0, 2)])
def test_the_perceptual_term_may_take_the_place_of_l1(run, share, count):
    calls = []

    def distance(a, b):
        calls.append(a)
        return _distance(a, b)

    make = perceptual(ImageFeatures(_brightness, distance), identity=share)
    gan = _gan(regularizers={"perceptual": make}, cycle=0.0, identity=0.0)
    _, terms = jax.eval_shape(lambda: _generator_terms(gan, run))
    assert len(calls) == count and not [name for name in terms if name.startswith("identity")]


def test_an_identity_term_of_weight_0_is_not_computed(run):
    for weight, names in ((5.0, {"identity_a", "identity_b"}), (0.0, set())):
        gan = _gan(identity=weight)
        _, terms = jax.eval_shape(lambda gan=gan: _generator_terms(gan, run))
        assert {name for name in terms if name.startswith("identity")} == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cycle": -1.0}, "cycle must be a weight, 0 or more, got -1.0"),
        ({"history": -1}, r"history must be 0 \(for none\) or more, got -1"),
        (
            {"cycle": make_schedule(linear(((0.0, 1.0), (1.0, -1.0))), RunLength(20, BATCH))},
            "cycle must be a weight, 0 or more, got -1.0",
        ),
        ({"conditional": True}, "conditional must be False with a CycleGAN, got True"),
    ],
)
def test_invalid_options_are_one_line(options, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        _gan(**options)


def test_a_crop_is_a_square_of_the_image_or_its_mirror():
    image = np.arange(6 * 7, dtype=np.float32).reshape(6, 7, 1)
    keys = jax.random.split(jax.random.key(0), 400)
    crop = jax.jit(random_crop, static_argnums=(2, 3))
    crops = np.asarray(crop(jnp.stack([image] * 400), keys, 5, True))[..., 0]
    squares = {
        image[y : y + 5, x : x + 5, 0][:, ::way].tobytes()
        for y in range(2)
        for x in range(3)
        for way in (1, -1)
    }
    assert {square.tobytes() for square in crops} == squares
    unmirrored = np.asarray(crop(jnp.stack([image] * 40), keys[:40], 5, False))[..., 0]
    assert all((np.diff(square, axis=1) == 1).all() for square in unmirrored)
    square_images = jnp.stack([image[:, :6]] * 2)
    np.testing.assert_array_equal(crop(square_images, keys[:2], 6, False), square_images)
