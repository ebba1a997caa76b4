"""Networks and GANs in bfloat16: what stays float32, and how near they are to float32."""

from collections import Counter

import flax.linen as nn
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

from gaxn.gans.cyclegan import CycleGAN
from gaxn.gans.gan import GAN
from gaxn.models import attn_cgan, cyclegan, dcgan, mlp, sagan, sagan_resnet, transformer_gan
from gaxn.objectives.losses import wasserstein
from gaxn.objectives.objective import make_objective
from gaxn.objectives.penalties import r1, wgan_gp
from gaxn.types import Batch

EXAMPLES, SIZE, CLASSES = 16, 16, networks.CLASSES

PAIRS = {
    "attn_cgan": (
        attn_cgan.Generator(
            SIZE, 3, CLASSES, (16, 8), (8,), modulated=True, coordinates=True, transposed=False
        ),
        attn_cgan.Discriminator(CLASSES, (8, 16), (8,), hidden=256, projection=True),
    ),
    "dcgan": (dcgan.Generator(SIZE, 3, CLASSES, (16, 8)), dcgan.Discriminator(CLASSES, (8, 16))),
    "transformer_gan": (
        transformer_gan.Generator(SIZE, 3, CLASSES, width=16, depth=2),
        transformer_gan.Discriminator(CLASSES, width=16, depth=2, hidden=256),
    ),
    "mlp": (mlp.Generator(2, (32, 32)), mlp.Discriminator((32, 32))),
    "sagan": (
        sagan.Generator(SIZE, 3, CLASSES, 16, (16, 8), (8,)),
        sagan.Discriminator(CLASSES, (8, 16), (8,)),
    ),
    "sagan_resnet": (
        sagan_resnet.Generator(SIZE, 3, CLASSES, 16, (16, 8), (8,)),
        sagan_resnet.Discriminator(CLASSES, (8, 16), (8,), last=16),
    ),
    "cyclegan": (
        cyclegan.Generator(3, 8, 1, instance_norm=False),
        cyclegan.Discriminator(8, 2, instance_norm=False),
    ),
}
"""Generator and discriminator of each model."""

NETWORKS = {
    **{f"{name} generator": generator for name, (generator, _) in PAIRS.items()},
    **{f"{name} discriminator": discriminator for name, (_, discriminator) in PAIRS.items()},
    "attn_cgan transposed": attn_cgan.Generator(SIZE, 3, CLASSES, (16, 8), (8,), 2),
    "attn_cgan class head": attn_cgan.Discriminator(CLASSES, (8, 16), (8,), auxiliary=True),
    "dcgan class head": dcgan.Discriminator(CLASSES, (8, 16), batch_norm=True, auxiliary=True),
    "sagan scales": sagan.Discriminator(CLASSES, (8, 16), (8,), attention_block=20, scales=2),
    "cyclegan generator with instance norm": cyclegan.Generator(3, 8, 1),
    "cyclegan discriminator with instance norm": cyclegan.Discriminator(8, 2, dropout=0.2),
}

QUICK = {"dcgan", "mlp", "sagan"} | {"dcgan class head", "mlp generator", "sagan generator"}
"""Models and networks whose programs are made in less than three seconds."""

MOSTLY_SLOW = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in PAIRS]
)

UNIT = 2.0**-8
"""Largest relative error of rounding to bfloat16, whose numbers have 8 significant bits."""

FLOAT32_PRODUCTS = {
    # Those of logits; the class of an image as a one-hot row times an embedding; class logits.
    "attn_cgan discriminator": 2,
    "attn_cgan class head": 2,
    "dcgan discriminator": 1,
    "dcgan class head": 2,
    "transformer_gan discriminator": 2,
    "sagan discriminator": 2,
    "sagan scales": 4,
    "sagan_resnet discriminator": 2,
    "cyclegan discriminator": 1,
    "cyclegan discriminator with instance norm": 1,
    # The first and the last layer, which see points.
    "mlp generator": 1,
    "mlp discriminator": 2,
    # The gains and biases of modulated norms, and two maps of coordinates, in two ways each: one
    # for CPUs.
    "attn_cgan generator": 2 * 3 + 2 * 2,
    "sagan generator": 2 * 3,
    "sagan_resnet generator": 2 * 4,
    "transformer_gan generator": 2 * (2 * 2 + 1),
}
"""Products of float32 in a forward pass, without those of spectral norm."""

WIDE = {"exp", "log", "log1p", "logistic", "tanh", "erf", "rsqrt", "sqrt", "cumsum"}
"""Functions of softmax, norms, losses and a generator's last layer."""


def _inputs(network):
    """Returns the inputs of a network, without `train`."""
    random = np.random.default_rng(1)
    latents = random.normal(size=(EXAMPLES, networks.LATENT)).astype(np.float32)
    images = random.uniform(-1, 1, (EXAMPLES, SIZE, SIZE, 3)).astype(np.float32)
    if isinstance(network, cyclegan.Generator):
        return (images,)
    is_flat = hasattr(network, "size") or isinstance(network, mlp.Generator | mlp.Discriminator)
    labels = np.arange(EXAMPLES, dtype=np.int32) % CLASSES
    return latents if is_flat else images, labels if hasattr(network, "classes") else None


def _function(network, inputs):
    """Returns the function from variables to the output and the new variables."""
    rngs = {"dropout": jax.random.key(0)}
    return lambda variables: network.apply(variables, *inputs, True, mutable=True, rngs=rngs)


def _draw_variables(layer, *inputs):
    """Draws random variables: small kernels, so that no attention is one-hot, and its scale."""

    def change(path, leaf):
        return np.float32(0.5) if path[-1].key == "gamma" else leaf / (2 if leaf.ndim > 1 else 1)

    return jax.tree_util.tree_map_with_path(change, networks.draw_variables(layer, *inputs))


def _equations(jaxpr):
    """Yields the equations of a program and of all programs within it."""
    for equation in jaxpr.eqns:
        yield equation
        for parameter in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)


def _trace(function, *arguments):
    """Returns all equations of a function."""
    return list(_equations(jax.make_jaxpr(function)(*arguments).jaxpr))


def _is_narrow(variable):
    return getattr(variable.aval, "dtype", None) == jnp.bfloat16


def _check_precision(equations):
    """Checks that sums and functions are of float32, except sums over the 2x2 tiles of a pool."""
    for equation in equations:
        if any(map(_is_narrow, equation.invars)):
            name, operand = equation.primitive.name, equation.invars[0].aval
            assert name not in WIDE
            if name.startswith("reduce_") and name != "reduce_max":
                addends = operand.size // equation.outvars[0].aval.size
                assert name == "reduce_sum" and addends <= 4


def _relative_error(values, expected):
    return np.linalg.norm(values - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_only_products_and_activations_are_bfloat16(name):
    network, inputs = NETWORKS[name].clone(dtype=jnp.bfloat16), _inputs(NETWORKS[name])
    if hasattr(network, "spectral_norm"):
        # Its power iteration multiplies float32 kernels.
        network = network.clone(spectral_norm=False)
    equations = _trace(_function(network, inputs), _draw_variables(network, *inputs, True))
    products = Counter(
        tuple(map(_is_narrow, equation.invars))
        for equation in equations
        if equation.primitive.name in ("dot_general", "conv_general_dilated")
    )
    assert products.keys() <= {(True, True), (False, False)}
    assert products[False, False] == FLOAT32_PRODUCTS.get(name, 0)
    assert products[True, True] >= 1
    _check_precision(equations)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in NETWORKS],
)
def test_variables_and_outputs_are_float32_and_near(name):
    """Each of n roundings adds an independent error of at most UNIT: together UNIT sqrt(n)."""
    network, inputs = NETWORKS[name], _inputs(NETWORKS[name])
    narrow = network.clone(dtype=jnp.bfloat16)
    variables = _draw_variables(network, *inputs, True)
    initial = jax.eval_shape(lambda: narrow.init(jax.random.key(0), *inputs, True))
    assert jax.tree.structure(initial) == jax.tree.structure(variables)
    function = _function(narrow, inputs)
    output, changed = jax.jit(function)(variables)
    leaves = jax.tree.leaves((output, changed, initial))
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
    roundings = sum(
        _is_narrow(variable)
        for equation in _trace(function, variables)
        for variable in equation.outvars
    )
    expected, _ = jax.jit(_function(network, inputs))(variables)
    for values, exact in zip(jax.tree.leaves(output), jax.tree.leaves(expected), strict=True):
        # A single rounding has a mean error of more than UNIT / 8.
        assert UNIT / 8 < _relative_error(values, exact) < UNIT * np.sqrt(roundings)
        # Neither image nor logits are rounded.
        assert np.mean(values == values.astype(jnp.bfloat16)) < 0.1


def _gan(name, dtype):
    generator, discriminator = (network.clone(dtype=dtype) for network in PAIRS[name])
    if name == "cyclegan":
        objective = make_objective(wasserstein(), {"wgan_gp": wgan_gp(10.0)}, {}, ())
        return CycleGAN(generator, discriminator, objective, False, SIZE, history=0)
    objective = make_objective(wasserstein(), {"r1": r1(1.0)}, {}, ())
    return GAN(generator, discriminator, objective, networks.LATENT, name != "mlp")


def _batch(name):
    random = np.random.default_rng(3)
    if name == "mlp":
        return Batch(random.normal(size=(EXAMPLES, 2)).astype(np.float32), None)
    domains = (2,) if name == "cyclegan" else ()
    shape = EXAMPLES, *domains, SIZE, SIZE, 3
    images = random.integers(0, 256, shape, np.uint8)
    return Batch(images, np.arange(EXAMPLES, dtype=np.int32) % CLASSES)


def _gradient(name, player, dtype):
    """Returns the function from variables to the gradient of a player's loss."""
    gan, batch, key = _gan(name, dtype), _batch(name), jax.random.key(5)
    inputs = batch, jnp.arange(EXAMPLES), key, jnp.int32(0)

    def loss(params, variables):
        variables = {**variables, "params": {**variables["params"], player: params}}
        mutable = nn.DenyList("params")
        (value, _), _ = gan.apply(variables, *inputs, method=f"{player}_loss", mutable=mutable)
        return value

    return lambda variables: jax.grad(loss)(variables["params"][player], variables)


def _gan_variables(name):
    return _draw_variables(_gan(name, None), _batch(name), jax.random.key(5))


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@MOSTLY_SLOW
def test_sums_and_functions_are_float32_in_gradients_too(name, player):
    gradient = _gradient(name, player, jnp.bfloat16)
    _check_precision(_trace(gradient, _gan_variables(name)))


@pytest.mark.slow
@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize("name", PAIRS)
def test_the_gradient_of_a_loss_with_its_penalty_is_near(name, player):
    """The error is at most sqrt(12) times that of rounding the parameters.

    A product rounds two operands and a result, forward and backward, and all of them again for a
    penalty: 12 independent errors. What one of them does, that of the kernels, is measured in
    float32. With a relative error of e the cosine is sqrt(1 - e^2) or more.
    """
    variables = _gan_variables(name)
    rounded = jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16).astype(leaf.dtype), variables["params"]
    )
    function = jax.jit(_gradient(name, player, None))
    narrow = jax.jit(_gradient(name, player, jnp.bfloat16))(variables)
    exact, of_rounded, narrow = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])
        for gradient in (function(variables), function({**variables, "params": rounded}), narrow)
    )
    bound = np.sqrt(12) * _relative_error(of_rounded, exact)
    cosine = exact @ narrow / np.linalg.norm(exact) / np.linalg.norm(narrow)
    assert bound < 0.5
    assert UNIT / 8 < _relative_error(narrow, exact) < bound
    assert cosine > np.sqrt(1 - bound**2)
