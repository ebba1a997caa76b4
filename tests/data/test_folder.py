"""Images from folders and archives: labels, splits, preparation and refused input."""

import io
import os
import shutil
import zipfile
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from pictures import fill, noise, zip_folder
from PIL import Image

from gaxn import config
from gaxn.data import describe_counts, folder, image_preparation
from gaxn.distributed import sharding
from gaxn.experiment import make_experiment
from gaxn.experiment.settings import defaults_of
from gaxn.main import main
from gaxn.types import InputError

CONFIG = Path(__file__).parents[2] / "configs" / "dcgan_mnist.py"


def _source(path: Path, split: str = "train", **options) -> folder.Source:
    return folder.Source(split, str(path), **{"size": 12, "test_share": 0.3, **options})


# ---------------------------------------------------------------- the real archive


@pytest.fixture
def leaves():
    path = Path(os.environ.get("GAXN_DATA", "")) / "apple_leaves_128.zip"
    if not path.exists():
        pytest.skip("no apple_leaves_128.zip at GAXN_DATA")
    return path


def test_real_photos_are_counted_by_class_and_split_by_name(leaves):
    with zipfile.ZipFile(leaves) as archive:
        files = [name.split("/")[1:] for name in archive.namelist() if name.endswith(".jpg")]
    assert len(files) == 3164
    train, test = (folder.Source(split, "apple_leaves_128.zip") for split in ("train", "test"))
    assert train.class_names == ("Apple_scab", "Black_rot", "Cedar_apple_rust", "healthy")
    for name in train.class_names:
        of_class = [file for class_name, file in files if class_name == name]
        tests = sum(zlib.crc32(file.encode()) / 2**32 < 0.1 for file in of_class)
        assert train.counts[name] == len(of_class) - tests
        assert test.counts[name] == tests
        assert 0.08 < tests / len(of_class) < 0.12
    assert not set(train.names) & set(test.names)
    assert len(train) + len(test) == 3164


def test_real_photos_equal_those_that_pil_decodes(leaves):
    source = folder.Source("test", str(leaves), size=128, resident_bytes=0)
    small = folder.Source("test", str(leaves), size=48, crop=96, resident_bytes=0)
    assert source.table is None
    indices = np.array([0, 100, 200, len(source) - 1])
    batch, cropped = source.read(indices), small.read(indices)
    names = [source.names[index] for index in indices]
    with zipfile.ZipFile(leaves) as archive:
        for row, name in enumerate(names):
            image = Image.open(io.BytesIO(archive.read(name)))
            np.testing.assert_array_equal(batch.images[row], np.asarray(image))
            expected = image.crop((16, 16, 112, 112)).resize((48, 48), Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(cropped.images[row], np.asarray(expected))
            assert source.class_names[batch.labels[row]] == name.split("/")[1]


# ---------------------------------------------------------------- files, labels, splits


def test_the_tables_contain_every_image_once_with_its_label(tmp_path):
    root = fill(tmp_path / "set", "b", "a")
    identified = []
    for split in ("train", "test"):
        source = _source(root, split)
        images, labels = source.table
        assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
        assert images.shape == (len(source), *source.image_shape)
        for image, label in zip(images, labels, strict=True):
            # Class "b" was drawn first.
            number = {"b": 0, "a": 1}[source.class_names[label]]
            (index,) = [i for i in range(12) if np.array_equal(image, noise(1000 * number + i))]
            identified.append((number, index))
    assert sorted(identified) == [(number, index) for number in range(2) for index in range(12)]


def test_one_folder_around_the_classes_is_skipped(tmp_path):
    fill(tmp_path / "outer" / "inner", "a", "b")
    inner, outer = _source(tmp_path / "outer" / "inner"), _source(tmp_path / "outer")
    assert outer.class_names == ("a", "b")
    np.testing.assert_array_equal(inner.table.images, outer.table.images)


def test_images_without_class_folders_have_no_labels(tmp_path):
    source = _source(fill(tmp_path / "set", ""))
    assert source.class_names == ()
    assert source.table.labels is None
    assert source.look_up(source.table, np.array([1])).labels is None
    assert source.counts == {"images": len(source)}


def test_added_images_move_no_others_to_another_split(tmp_path):
    root = fill(tmp_path / "set", "a", "b", count=20)
    before = {split: set(_source(root, split).names) for split in ("train", "test")}
    old = _source(root).identity
    fill(root, "a", "b", "c", count=50)
    after = {split: set(_source(root, split).names) for split in ("train", "test")}
    assert before["train"] < after["train"] and before["test"] < after["test"]
    assert not after["train"] & after["test"]
    assert len(after["train"] | after["test"]) == 150
    assert _source(root).identity != old


def test_a_path_is_resolved_from_the_working_directory_then_from_gaxn_data(tmp_path, monkeypatch):
    working, data = tmp_path / "working", tmp_path / "data"
    fill(data / "set", "a", "b")
    working.mkdir()
    monkeypatch.chdir(working)
    monkeypatch.setenv("GAXN_DATA", str(data))
    assert _source(Path("set")).class_names == ("a", "b")
    fill(working / "set", "c", "d")
    assert _source(Path("set")).class_names == ("c", "d")


# ---------------------------------------------------------------- preparation


def _prepared(tmp_path: Path, image: Image.Image, **options) -> np.ndarray:
    """Returns the pixels that a source reads from the file of an image."""
    (tmp_path / "set").mkdir(exist_ok=True)
    for index in range(12):
        image.save(tmp_path / "set" / f"{index}.png", **options)
    return _source(tmp_path / "set", resident_bytes=0).read(np.array([0])).images[0]


def test_one_channel_is_luma(tmp_path):
    source = _source(fill(tmp_path / "set", ""), channels=1, test_share=0.001)
    assert source.image_shape == (12, 12, 1)
    expected = noise(0) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(source.table.images[0, ..., 0], expected, atol=1)


ORIENTATIONS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_images_are_rotated_by_their_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = _prepared(tmp_path, Image.fromarray(noise(5)), exif=exif)
    np.testing.assert_array_equal(image, ORIENTATIONS[orientation](noise(5)))


def _bicubic(x: np.ndarray) -> np.ndarray:
    """Returns Keys' cubic kernel, a = -1/2."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resizes along each axis, with a kernel that is widened when it shrinks an image."""
    scale = len(pixels) / size
    centers = (np.arange(size) + 0.5) * scale
    distance = np.arange(len(pixels)) + 0.5 - centers[:, None]
    weights = _bicubic(distance / max(scale, 1))
    weights /= weights.sum(axis=1, keepdims=True)
    columns = np.clip(np.einsum("jw,hwc->hjc", weights, pixels.astype(float)), 0, 255)
    return np.clip(np.einsum("ih,hjc->ijc", weights, columns), 0, 255)


@pytest.mark.parametrize(("crop", "size"), [(0, 12), (0, 32), (20, 8), (20, 20), (7, 3)])
def test_images_are_cropped_and_resized_like_a_plain_bicubic_filter(crop, size):
    pixels = noise(8, 24, 37)
    image = image_preparation.prepare(Image.fromarray(pixels), size, crop, 3)
    side = crop or 24
    top, left = (24 - side) // 2, (37 - side) // 2
    square = pixels[top : top + side, left : left + side]
    np.testing.assert_allclose(image, _resized(square, size), atol=1.51)


def test_the_identity_changes_with_the_pixels(tmp_path):
    root = fill(tmp_path / "set", "a", "b")
    options = [{}, {"size": 8}, {"crop": 8}, {"channels": 1}, {"test_share": 0.5}]
    identities = {_source(root, **option).identity for option in options}
    assert len(identities) == len(options)
    assert all("bicubic" in text for text in identities)
    assert _source(root, "test", workers=3, resident_bytes=1).identity in identities


def test_the_identity_does_not_depend_on_where_the_images_lie(tmp_path):
    root = fill(tmp_path / "set", "a", "b")
    shutil.copytree(root, tmp_path / "moved to" / "photos")
    archive = zip_folder(root, "inner").rename(tmp_path / "data.bin")
    places = (root, tmp_path / "moved to", tmp_path / "moved to" / "photos", archive)
    (identity,) = {_source(place).identity for place in places}
    assert "set" not in identity
    (root / "a" / "000.png").rename(root / "a" / "other.png")
    assert _source(root).identity != identity
    (root / "a" / "other.png").rename(root / "b" / "other.png")
    assert _source(root).identity != identity


# ---------------------------------------------------------------- refused input


def _refusal(path: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        _source(path, **options).table  # noqa: B018
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_paths_without_images_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GAXN_DATA", str(tmp_path / "data"))
    line = _refusal(Path("nothing"))
    assert "got 'nothing': there is no" in line and str(tmp_path / "data" / "nothing") in line
    (tmp_path / "empty").mkdir()
    assert "contains no image" in _refusal(tmp_path / "empty")
    (tmp_path / "text.txt").write_text("words")
    assert "neither a folder nor a complete .zip" in _refusal(tmp_path / "text.txt")
    archive = zip_folder(fill(tmp_path / "set", "a", "b"))
    archive.write_bytes(archive.read_bytes()[:-100])
    assert "neither a folder nor a complete .zip" in _refusal(archive)


def test_images_beside_folders_are_refused(tmp_path):
    root = fill(tmp_path / "set", "a", "")
    line = _refusal(root)
    assert "000.png is beside folders" in line and "a/000.png in one" in line


def test_a_split_without_images_is_refused(tmp_path):
    root = fill(tmp_path / "set", "a", count=1)
    assert "test_share must leave images for the test split, got 0.3 of the 1 images" in _refusal(
        root, split="test"
    )


@pytest.mark.parametrize(
    "options", [{"size": -1}, {"crop": -1}, {"channels": 4}, {"test_share": 1.0}]
)
def test_fields_out_of_range_are_refused(tmp_path, options):
    ((field, value),) = options.items()
    line = _refusal(tmp_path, **options)
    assert line.startswith(f"{field} must be ") and line.endswith(f", got {value}")


def test_an_image_smaller_than_crop_is_refused(tmp_path):
    root = fill(tmp_path / "set", "")
    line = _refusal(root, crop=13)
    assert (
        "set: 12 images cannot be used: 000.png (it has 12x12 pixels, fewer than crop, 13), "
        in (line)
    )


# ---------------------------------------------------------------- experiments


def _overrides(path: Path, **options) -> list[str]:
    data = {"name": "folder", "path": str(path), "size": 28, "test_share": 0.3, **options}
    return [f"--config={CONFIG}:tiny", f"--config.data={data}"]


def _line(capsys, *arguments: str) -> str:
    assert main(["gaxn", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_conditional_model_needs_two_classes(capsys, tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    for classes, count in (("a",), 1), (("",), 0):
        root = fill(tmp_path / f"set{count}", *classes)
        line = _line(capsys, *_overrides(root), workdir, "--config.conditional=True")
        assert "conditional must be False, or the data must have 2 classes or more" in line
        assert line.endswith(f" has {count}")
    assert not (tmp_path / "run").exists()


def _experiment(path: Path, **options):
    arguments = config.parse(["gaxn", *_overrides(path, **options)], defaults_of)
    return make_experiment(
        arguments.config, arguments.name, sharding.jit_parallelism(jax.devices()[:1])
    )


def test_an_unconditional_model_trains_on_one_class(tmp_path):
    experiment = _experiment(fill(tmp_path / "set", "a"))
    assert experiment.train_source.class_names == ("a",) and not experiment.settings.conditional
    assert experiment.batches(0).labels.max() == 0
    assert set(experiment.evaluation.evaluators()) == {"attention"}


@pytest.mark.slow
def test_an_unconditional_model_trains_without_classes(capsys, tmp_path):
    experiment = _experiment(fill(tmp_path / "set", ""), resident_bytes=0)
    assert capsys.readouterr().out.count("images for training") == 1
    parallelism = experiment.parallelism
    state = parallelism.place(jax.device_get(experiment.create_state(experiment.key)))
    state, scalars = experiment.compiled_step(state, experiment.batches(0), experiment.key)
    assert all(np.isfinite(value) for value in jax.device_get(scalars).values())
    evaluators = dict(experiment.evaluation.evaluators())
    report = evaluators.pop("attention")(experiment.sampler(parallelism.to_host(state)))
    assert report.protocol["step"] == 1 and not evaluators


def test_the_counts_of_the_classes_are_described(tmp_path):
    root = fill(tmp_path / "set", "a", "b")
    shutil.rmtree(root / "b")
    fill(root, "b", count=3)
    train, test = _source(root), _source(root, "test")
    assert describe_counts(train, test) == (
        f"{len(train)} images for training + {len(test)} for tests: "
        f"a {train.counts['a']} + {test.counts['a']}, b {train.counts['b']} + {test.counts['b']}"
    )
    assert train.counts["b"] + test.counts["b"] == 3
