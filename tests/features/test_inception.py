"""The Inception port against pytorch-fid and torch-fidelity with the same random weights."""

import hashlib
import io
import itertools
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from gaxn.features import inception, resizing, torch_weights
from gaxn.io import downloads
from gaxn.models.inception import Inception, from_torch
from gaxn.types import InputError

torch = pytest.importorskip("torch")
pytest.importorskip("torch_fidelity")
pytest.importorskip("pytorch_fid")

TOLERANCE = 1e-4
SIZES = [(32, 32, 3), (28, 28, 1), (64, 48, 3), (320, 310, 3), (299, 299, 3)]


@pytest.fixture(scope="module")
def state():
    """Random weights that keep the activations of a deep network in range."""
    from pytorch_fid.inception import fid_inception_v3

    with pytest.MonkeyPatch.context() as patch:
        blank = _blank_network(patch, fid_inception_v3)
    random = np.random.default_rng(0)
    tensors = {}
    for name, tensor in blank.state_dict().items():
        shape = tuple(tensor.shape)
        if name.endswith(("conv.weight", "fc.weight")):
            values = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif name.endswith(("bn.weight", "running_var")):
            values = random.uniform(0.7, 1.3, shape)
        elif name.endswith("num_batches_tracked"):
            continue
        else:
            values = random.normal(0, 0.1, shape)
        tensors[name] = torch.from_numpy(np.asarray(values, np.float32))
    return tensors


def _blank_network(patch, make):
    """Calls a constructor of pytorch-fid, which would download weights, without a download."""
    import pytorch_fid.inception as module

    patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: None)
    patch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
    return make()


@pytest.fixture(scope="module")
def params(state):
    stream = io.BytesIO()
    torch.save(state, stream)
    return from_torch(torch_weights.read(stream.getvalue()))


@pytest.fixture(scope="module")
def port(params):
    return jax.jit(lambda images: Inception().apply({"params": params}, images))


@pytest.fixture(scope="module")
def pytorch_fid(state):
    from pytorch_fid import inception as module

    with pytest.MonkeyPatch.context() as patch:
        network = _blank_network(patch, lambda: module.InceptionV3([3]))
    return _filled(network, state)


def _filled(network, state):
    """Fills the layers of their wrapper from the plain network, where layers have names."""
    from pytorch_fid import inception as module

    with pytest.MonkeyPatch.context() as patch:
        plain = _blank_network(patch, module.fid_inception_v3)
    missing = plain.load_state_dict(state, strict=False).missing_keys
    assert all("num_batches_tracked" in name for name in missing)
    stages = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"], ["Conv2d_3b_1x1", "Conv2d_4a_3x3"]
    mixed = [name for name, _ in plain.named_children() if name.startswith("Mixed")]
    for block, names in zip(network.blocks, [*stages, mixed[:8], mixed[8:]], strict=True):
        for index, name in enumerate(names):
            block[index] = getattr(plain, name)
    return network.eval()


@pytest.fixture(scope="module")
def torch_fidelity(state, tmp_path_factory):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    return FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
    )


def _images(shape, count=2):
    smooth = np.random.default_rng(1).integers(0, 256, (count, 7, 5, shape[2]), np.uint8)
    images = [
        np.asarray(Image.fromarray(image.squeeze()).resize(shape[1::-1], Image.Resampling.BICUBIC))
        for image in smooth
    ]
    noisy = np.stack(images).reshape(count, *shape) + np.random.default_rng(2).normal(
        0, 20, (count, *shape)
    )
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _to_torch(images):
    """Converts images to tensors with three channels first."""
    return torch.from_numpy(np.repeat(images, 3 // images.shape[-1], axis=-1)).permute(0, 3, 1, 2)


def _assert_close(actual, expected):
    expected = np.asarray(expected)
    scale = np.sqrt(np.mean(np.square(expected)))
    assert scale > 0.01
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE * scale)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(32, 32, 3), (320, 310, 3)])
def test_features_by_tf_are_those_of_torch_fidelity(port, torch_fidelity, shape):
    images = _images(shape)
    logits, features = port(resizing.tf(images))
    with torch.no_grad():
        expected, unbiased = torch_fidelity(_to_torch(images))
    _assert_close(features, expected)
    _assert_close(logits, unbiased)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(28, 28, 1), (320, 310, 3)])
def test_features_by_torch_are_those_of_pytorch_fid(port, pytorch_fid, shape):
    images = _images(shape)
    _, features = port(resizing.torch(images))
    with torch.no_grad():
        expected = pytorch_fid(_to_torch(images).float() / 255)[0].squeeze()
    _assert_close(features, expected)


@pytest.mark.parametrize("shape", SIZES)
def test_tf_resizes_like_torch_fidelity(shape):
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )

    images = _images(shape)
    expected = interpolate_bilinear_2d_like_tensorflow1x(
        _to_torch(images).float(), size=(299, 299), align_corners=False
    )
    resized = 128 * np.asarray(resizing.tf(images)) + 128
    np.testing.assert_allclose(resized, expected.permute(0, 2, 3, 1), atol=255 * 1e-6)


@pytest.mark.parametrize("shape", SIZES)
def test_torch_resizes_like_torch(shape):
    images = _images(shape)
    expected = torch.nn.functional.interpolate(
        _to_torch(images).float(), size=(299, 299), mode="bilinear", align_corners=False
    )
    resized = (np.asarray(resizing.torch(images)) + 1) / 2 * 255
    np.testing.assert_allclose(resized, expected.permute(0, 2, 3, 1), atol=255 * 1e-6)


@pytest.mark.parametrize("shape", SIZES)
def test_clean_resizes_like_clean_fid_and_pil(shape):
    resize = pytest.importorskip("cleanfid.resize").make_resizer(
        "PIL", quantize_after=False, filter="bicubic", output_size=(299, 299)
    )
    images = _images(shape)
    resized = 128 * np.asarray(resizing.clean(images)) + 128
    for image, actual in zip(images, resized, strict=True):
        np.testing.assert_allclose(
            actual, resize(np.repeat(image, 3 // shape[2], axis=-1)), atol=255 * 1e-5
        )
        by_pil = Image.fromarray(image[..., 0].astype(np.float32)).resize(
            (299, 299), Image.Resampling.BICUBIC
        )
        np.testing.assert_allclose(
            actual[..., 0], np.clip(np.asarray(by_pil), 0, 255), atol=255 * 1e-5
        )


@pytest.mark.parametrize("resize", resizing.PREPROCESSINGS.values())
def test_float_images_are_resized_like_the_pixels_that_they_stand_for(resize):
    pixels = _images((28, 28, 1))
    images = np.float32(pixels / 127.5 - 1)
    np.testing.assert_allclose(resize(images), resize(pixels), atol=1e-5)


def test_the_three_ways_to_resize_differ():
    images = _images((320, 310, 3))
    resized = [np.asarray(resize(images)) for resize in resizing.PREPROCESSINGS.values()]
    for first, second in itertools.combinations(resized, 2):
        assert np.abs(first - second).max() > 0.02


def test_missing_arrays_and_wrong_shapes_are_named(state):
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    incomplete = {
        name: array for name, array in arrays.items() if name != "Mixed_6c.branch1x1.bn.bias"
    }
    with pytest.raises(ValueError, match=r"Mixed_6c.branch1x1.bn.bias is missing"):
        from_torch(incomplete)
    with pytest.raises(ValueError, match=r"fc.kernel must have the shape .*, got \(2048, 1000\)"):
        from_torch({**arrays, "fc.weight": arrays["fc.weight"][:1000]})


@pytest.mark.slow
def test_custom_weights_are_named_in_the_card(state, port, tmp_path):
    path = tmp_path / "mine.pth"
    torch.save(state, path)
    extractor = inception.load(str(path), "torch")
    assert extractor.card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert extractor.card["extractor"].startswith("Inception with custom weights")
    assert extractor.card["resize"] == "torch, to 299x299"
    images = _images((28, 28, 1))
    output = jax.jit(extractor.apply)(extractor.params, images)
    logits, features = port(resizing.torch(images))
    _assert_close(output.features, features)
    _assert_close(output.logits, logits)


@pytest.mark.slow
def test_the_published_weights_are_checked_and_cached(state, tmp_path, monkeypatch):
    monkeypatch.setenv("GAXN_CACHE", str(tmp_path))
    folder = tmp_path / "inception"
    with pytest.raises(InputError, match="are not there; fetch https"):
        inception.load()
    original, converted = (folder / f"{inception.NAME}.{end}" for end in ("pth", "npz"))
    folder.mkdir()
    torch.save(state, original)
    with pytest.raises(InputError, match=r"must be 6726825d.*, got [^;]*; fetch https"):
        inception.load()
    assert inception._digest_problem(original).startswith("its SHA-256 must be ")
    digest = hashlib.sha256(original.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "SHA256", digest)
    assert inception._digest_problem(original) is None
    first = inception.load()
    # A file that gaxn did not download is not deleted.
    assert converted.exists() and original.exists()
    converted.unlink()
    content = original.read_bytes()
    original.unlink()
    monkeypatch.setattr(downloads, "fetch", lambda urls, path, verify: path.write_bytes(content))
    assert inception.load(inception.DOWNLOAD).card == first.card
    assert converted.exists() and not original.exists()
    assert first.card["extractor"].startswith(inception.NAME)
    again = inception.load(inception.DOWNLOAD)
    by_path = inception.load(str(converted))
    for extractor in (again, by_path):
        assert extractor.card == first.card
        jax.tree.map(np.testing.assert_array_equal, extractor.params, first.params)


def test_safetensors_give_the_same_parameters_as_the_state_dict(state, params, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file({name: tensor.numpy() for name, tensor in state.items()}, path)
    extractor = inception.load(str(path))
    jax.tree.map(np.testing.assert_array_equal, extractor.params, params)
    assert extractor.card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"does not hold the weights of Inception: damaged[^\n]*$"):
        inception.load(str(path))


def test_files_without_the_weights_of_inception_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match=r"does not hold the weights of Inception: .* is missing"):
        inception.load(str(path))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(InputError, match=r"not a .npz file of Inception's weights"):
        inception.load(str(tmp_path / "other.npz"))


@pytest.mark.slow
def test_scores_of_two_folders_are_those_of_torch_fidelity(state, tmp_path, monkeypatch):
    import torch_fidelity as theirs
    from torch_fidelity import metric_kid

    from gaxn.evaluation.__main__ import main

    # Its KID is a difference of sums of about 50 in float32, so it depends on the order of the set,
    # with a standard deviation of 8e-6, a thousandth of its value. This test gives it doubles.
    kid = metric_kid.kid_features_to_metric
    monkeypatch.setattr(
        metric_kid, "kid_features_to_metric", lambda a, b, **o: kid(a.double(), b.double(), **o)
    )
    weights = tmp_path / "mine.pth"
    torch.save(state, weights)
    for name, shift in (("a", 0), ("b", 30)):
        (tmp_path / name).mkdir()
        for index, image in enumerate(_images((32, 32, 3), 20)):
            shifted = np.clip(image.astype(int) + shift, 0, 255).astype(np.uint8)
            Image.fromarray(shifted).save(tmp_path / name / f"{index:02d}.png")
    expected = theirs.calculate_metrics(
        input1=str(tmp_path / "a"),
        input2=str(tmp_path / "b"),
        fid=True,
        kid=True,
        isc=True,
        kid_subset_size=20,
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(weights),
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    out = tmp_path / "scores.json"
    argv = ["evaluate", str(tmp_path / "a"), str(tmp_path / "b"), f"--weights={weights}"]
    metrics = ["frechet", "kid", "inception_score"]
    assert main([*argv, f"--json={out}", "--metrics", *metrics]) == 0
    figures = json.loads(out.read_text())["figures"]
    for name, theirs_name, tolerance in (
        ("frechet_distance", "frechet_inception_distance", 1e-4),
        ("kid", "kernel_inception_distance_mean", 1e-4),
        ("inception_score", "inception_score_mean", 1e-5),
    ):
        np.testing.assert_allclose(figures[name], expected[theirs_name], rtol=tolerance)


@pytest.mark.soak
def test_a_run_is_evaluated_with_inception(params, tiny, tmp_path):
    import flax.traverse_util

    from gaxn.experiment import make_experiment

    weights = tmp_path / "weights.npz"
    np.savez(weights, sha256=np.array("0" * 64), **flax.traverse_util.flatten_dict(params, sep="/"))
    np.savez(tmp_path / "set.npz", images=_images((32, 32, 3), 60))
    # Small sets, because the batch of the extractor is as large as the largest set.
    counts = ("evaluation.samples=10", "evaluation.reference_count=24")
    config = tiny("conditional=False", *counts, f"evaluation.inception={weights}")
    config.unlock()
    config.data = {"name": "npz", "path": str(tmp_path / "set.npz"), "test_share": 0.4}
    config.evaluation.preprocessing = "clean"
    experiment = make_experiment(config, "tiny")
    evaluators = experiment.evaluation.evaluators()
    assert set(evaluators) == {"inception", "attention"}
    state = jax.device_get(experiment.create_state(experiment.key))
    report = evaluators["inception"](experiment.evaluation.sampler(state))
    assert report.protocol["resize"] == "clean, to 299x299"
    assert report.protocol["reference_count"] == 24 and report.protocol["real_count"] == 10
    names = {"frechet_distance", "kid", "inception_score", "precision", "coverage"}
    assert names <= report.figures.keys() and "modes" not in report.figures
    assert report.figures["frechet_distance"] > report.figures["frechet_distance_real"] > 0
    assert set(report.pictures) == {"nearest_inception"}
