"""The cycle-consistent game: its loss, its laws, its history on disk and on several devices."""

import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gaxn import parts
from gaxn.data import pixels
from gaxn.distributed import sharding
from gaxn.gans.cyclegan import CycleGAN, cyclegan, random_view
from gaxn.io.checkpoints import Checkpoints
from gaxn.models import cyclegan as networks
from gaxn.objectives.objective import Objective
from gaxn.training import state, step, turns
from gaxn.types import Batch, InputError

BATCH, SIZE, STORED = 8, 16, 20
TURNS = 2


def _objective(critic):
    return Objective(critic, parts.make_loss({"name": "wasserstein"}))


def _game(**options):
    # Attention in one of them is enough, and less to compile.
    generator = networks.Generator(3, 4, 0, attention=False)
    players = generator, networks.Discriminator(4, 1, dropout=0.2)
    return cyclegan(*players, _objective, False, SIZE, **{"history": 5, **options})


def _batches(count):
    random = np.random.default_rng(0)
    shape = (count, TURNS, BATCH, 2, STORED, STORED, 3)
    return [Batch(images, None) for images in random.integers(0, 256, shape).astype(np.uint8)]


@pytest.fixture(scope="module")
def run():
    """The game, its turns, its step and its first state."""
    game = _game()
    moves = {player: optax.sgd(1e-2) for player in parts.PLAYERS}
    each = [
        turns.PlayerUpdate(player, getattr(CycleGAN, f"{player}_loss"), moves[player])
        for player in parts.PLAYERS
    ]
    first = jax.tree.map(lambda leaf: leaf[0], _batches(1)[0])
    create = jax.jit(lambda key: state.create(game, moves, first, key))
    return game, each, step.make_step(game, each, 0.9), jax.device_get(create(jax.random.key(0)))


def _after(program, placement, start, batches):
    held = placement.place(start)
    for batch in batches:
        held, _ = program(held, placement.assemble(batch), jax.random.key(0))
    return placement.to_host(held)


def test_the_generators_start_apart(run):
    for player in parts.PLAYERS:
        a, b = (jax.tree.leaves(run[3].params[player][name]) for name in "ab")
        assert any(not np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_turn_leaves_the_rival_and_only_critics_keep_a_history(run):
    game, each, _, start = run
    batch = jax.tree.map(lambda leaf: leaf[0], _batches(1)[0])
    take = jax.jit(
        lambda held, index: turns.update_player(game, each[index], held, batch, jax.random.key(1))[0],
        static_argnums=1,
    )
    for index, (mover, rival) in enumerate((parts.PLAYERS, parts.PLAYERS[::-1])):
        moved = jax.device_get(take(start, index))
        jax.tree.map(np.testing.assert_array_equal, moved.params[rival], start.params[rival])
        spectral = [own.collections["spectral"][rival] for own in (moved, start)]
        jax.tree.map(np.testing.assert_array_equal, *spectral)
        leaves = zip(*(jax.tree.leaves(own.params[mover]) for own in (moved, start)), strict=True)
        assert any(not np.array_equal(a, b) for a, b in leaves)
        counts = [int(own["count"]) for own in moved.collections["history"].values()]
        assert counts == ([5, 5] if mover == "discriminator" else [0, 0])


def test_the_generators_loss_is_the_weighted_sum_of_its_terms(run):
    game, each, _, start = run
    batch = jax.tree.map(lambda leaf: leaf[0], _batches(1)[0])
    loss, (terms, _) = jax.jit(
        lambda own: turns.loss_of(game, each[1], start, own, batch, jax.random.key(1))
    )(start.params["generator"])
    total = sum(
        weight * (terms[f"{name}_a"] + terms[f"{name}_b"])
        for name, weight in (("adversarial", 1), ("cycle", 10), ("identity", 5))
    )
    np.testing.assert_allclose(loss, total, rtol=1e-6)

    @partial(jax.jit, static_argnums=1)
    def of(images, name):
        networks = {"params": start.params, **start.collections}
        return game.apply(networks, images, method=name)

    # At a size that leaves one square, and unmirrored, the views are the images themselves.
    whole = game.clone(size=STORED, mirror=False, weights=game.weights)
    a, b = (jnp.asarray(batch.images[:, place] / 127.5 - 1, jnp.float32) for place in (0, 1))
    _, (terms, _) = jax.jit(
        lambda own: turns.loss_of(whole, each[1], start, own, batch, jax.random.key(1))
    )(start.params["generator"])
    # Spectral norm's estimates move on a little with every pass in training.
    for name, found in (
        ("identity_a", jnp.abs(of(a, "to_a") - a).mean()),
        ("identity_b", jnp.abs(of(b, "to_b") - b).mean()),
        ("cycle_a", jnp.abs(of(of(a, "to_b"), "to_a") - a).mean()),
        ("cycle_b", jnp.abs(of(of(b, "to_a"), "to_b") - b).mean()),
    ):
        np.testing.assert_allclose(terms[name], found, rtol=0.02)


@pytest.mark.slow
def test_each_critic_judges_its_own_domain():
    """Both turns' scalars are those of to_a, discriminate_a and so on, computed outside of the losses."""
    players = networks.Generator(3, 4, 1), networks.Discriminator(4, 2)
    game = cyclegan(*players, _objective, False, SIZE, history=0, mirror=False)
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (BATCH, 2, SIZE, SIZE, 3)).astype(np.uint8)
    # Domains that no critic takes for one another.
    images[:, 1] = images[:, 1] // 8
    batch = Batch(images, None)
    moves = dict.fromkeys(parts.PLAYERS, optax.sgd(1.0))
    made = jax.jit(lambda key: state.create(game, moves, batch, key))(jax.random.key(2))
    variables = {"params": made.params, **made.collections}

    @partial(jax.jit, static_argnums=0)
    def of(method, *inputs):
        return game.apply(variables, *inputs, method=method)

    real = {name: pixels.decode(images[:, place]) for place, name in enumerate("ab")}
    fake = {"a": of("to_a", real["b"]), "b": of("to_b", real["a"])}
    turn = batch, jnp.arange(BATCH), jax.random.key(3), jnp.int32(0)
    found = {
        player: jax.jit(
            lambda method=f"{player}_loss": game.apply(
                variables, *turn, method=method, mutable=nn.DenyList("params")
            )
        )()
        for player in parts.PLAYERS
    }
    (_, critics), _ = found["discriminator"]
    (_, generators), _ = found["generator"]
    judged = {
        name: (of(f"judge_{name}", real[name]), of(f"judge_{name}", fake[name])) for name in "ab"
    }
    for name, (of_real, of_fake) in judged.items():
        np.testing.assert_allclose(critics[f"real_{name}"], of_real.mean(), rtol=1e-4)
        np.testing.assert_allclose(critics[f"fake_{name}"], of_fake.mean(), rtol=1e-4)
        expected = of_fake.mean() - of_real.mean()
        np.testing.assert_allclose(critics[f"adversarial_{name}"], expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(generators[f"adversarial_{name}"], -of_fake.mean(), rtol=1e-4)
    numbers = [float(logits.mean()) for pair in judged.values() for logits in pair]
    assert min(abs(x - y) for x, y in itertools.combinations(numbers, 2)) > 1e-3


@pytest.mark.slow
def test_a_saved_run_goes_on_bit_for_bit(run, tmp_path):
    placement = sharding.jitted(jax.devices()[:1])
    program, batches = placement.step(run[2]), _batches(4)
    whole = _after(program, placement, run[3], batches)
    with Checkpoints(tmp_path, 1) as checkpoints:
        checkpoints.save(2, _after(program, placement, run[3], batches[:2]))
        checkpoints.wait()
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), run[3])
        again = _after(program, placement, checkpoints.restore(shapes), batches[2:])
    jax.tree.map(np.testing.assert_array_equal, whole, again)
    assert whole.collections["history"]["discriminator_history_a"]["images"].any()


def test_weights_fall_as_they_are_told():
    game = _game(decays={"identity": {"begin": 10, "end": 20, "to": 0.0}})
    assert [float(game.weights["identity"](at)) for at in (0, 10, 15, 30)] == [5, 5, 2.5, 0]
    assert float(game.weights["cycle"](30)) == 10
    assert "identity" not in _game(identity=0.0).weights


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cycle": -1.0}, "cycle is -1.0"),
        ({"history": -1}, "history is -1"),
        ({"decays": {"cycl": {}}}, "decays is 'cycl'.*adversarial, cycle, identity"),
        ({"decays": {"cycle": {"begin": 0}}}, r"config.game.decays.cycle.end is missing"),
    ],
)
def test_what_cannot_be_is_one_clear_line(options, message):
    with pytest.raises(InputError, match=message):
        _game(**options)


def test_labels_are_refused():
    with pytest.raises(InputError, match=r"config.conditional is True; valid is False"):
        cyclegan(None, None, None, True, SIZE)


def test_a_view_is_a_square_of_the_image_or_its_mirror():
    image = np.arange(6 * 7, dtype=np.float32).reshape(6, 7, 1)
    keys = jax.random.split(jax.random.key(0), 400)
    view_of = jax.jit(random_view, static_argnums=(2, 3))
    views = np.asarray(view_of(jnp.stack([image] * 400), keys, 5, True))[..., 0]
    squares = {
        image[y : y + 5, x : x + 5, 0][:, ::way].tobytes()
        for y in range(2)
        for x in range(3)
        for way in (1, -1)
    }
    assert {view.tobytes() for view in views} == squares
    straight = np.asarray(view_of(jnp.stack([image] * 40), keys[:40], 5, False))[..., 0]
    assert all((np.diff(view, axis=1) == 1).all() for view in straight)
    whole = view_of(jnp.stack([image[:, :6]] * 2), keys[:2], 6, False)
    np.testing.assert_array_equal(whole, [image[:, :6]] * 2)
