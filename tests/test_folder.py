"""Pictures from folders and archives: which, as what, in which split, and what is refused."""

import io
import os
import shutil
import zipfile
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from gaxn import arguments, framing, mesh, modes
from gaxn.build import build
from gaxn.data import describe, folder
from gaxn.main import main
from gaxn.types import InputError

CONFIG = Path(__file__).parents[1] / "configs" / "dcgan_mnist.py"


def _picture(seed: int, height: int = 12, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def _fill(root: Path, *classes: str, count: int = 12) -> Path:
    """A folder of `count` random 12x12 pictures a class; the class "" is the folder itself."""
    for place, name in enumerate(classes):
        for index in range(count):
            _save(root / name / f"{index:03d}.png", _picture(1000 * place + index))
    return root


def _zipped(root: Path, top: str = "") -> Path:
    """The .zip of a folder, within another folder if `top` is given."""
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, Path(top) / file.relative_to(root))
    return path


def _source(path: Path, split: str = "train", **options) -> folder.Source:
    return folder.Source(split, str(path), **{"size": 12, "test_share": 0.3, **options})


def _names(source: folder.Source) -> list[str]:
    return [file.name for file in source._files]


# ---------------------------------------------------------------- the real archive


@pytest.fixture
def leaves():
    path = Path(os.environ.get("GAXN_DATA", "")) / "apple_leaves_128.zip"
    if not path.exists():
        pytest.skip("no apple_leaves_128.zip at GAXN_DATA")
    return path


def test_real_photos_are_counted_and_split_by_their_names(leaves):
    with zipfile.ZipFile(leaves) as archive:
        found = [name.split("/")[1:] for name in archive.namelist() if name.endswith(".jpg")]
    assert len(found) == 3164
    train, test = (folder.Source(split, "apple_leaves_128.zip") for split in ("train", "test"))
    assert train.class_names == ("Apple_scab", "Black_rot", "Cedar_apple_rust", "healthy")
    for name in train.class_names:
        own = [file for of_class, file in found if of_class == name]
        tests = sum(zlib.crc32(file.encode()) / 2**32 < 0.1 for file in own)
        assert train.counts[name] == len(own) - tests
        assert test.counts[name] == tests
        assert 0.08 < tests / len(own) < 0.12
    assert not set(_names(train)) & set(_names(test))
    assert len(train) + len(test) == 3164


def test_real_photos_are_those_that_pil_decodes(leaves):
    source = folder.Source("test", str(leaves), size=128, resident_bytes=0)
    small = folder.Source("test", str(leaves), size=48, crop=96, resident_bytes=0)
    assert source.table is None
    indices = np.array([0, 100, 200, len(source) - 1])
    batch, cropped = source.read(indices), small.read(indices)
    names = [_names(source)[index] for index in indices]
    with zipfile.ZipFile(leaves) as archive:
        for place, name in enumerate(names):
            picture = Image.open(io.BytesIO(archive.read(name)))
            np.testing.assert_array_equal(batch.images[place], np.asarray(picture))
            expected = picture.crop((16, 16, 112, 112)).resize((48, 48), Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(cropped.images[place], np.asarray(expected))
            assert source.class_names[batch.labels[place]] == name.split("/")[1]


# ---------------------------------------------------------------- which pictures


def test_the_table_holds_every_picture_once_with_its_label(tmp_path):
    root = _fill(tmp_path / "set", "b", "a")
    seen = []
    for split in ("train", "test"):
        source = _source(root, split)
        images, labels = source.table
        assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
        assert images.shape == (len(source), *source.image_shape)
        for image, label in zip(images, labels, strict=True):
            # Class "b" was drawn first.
            place = {"b": 0, "a": 1}[source.class_names[label]]
            (index,) = [i for i in range(12) if np.array_equal(image, _picture(1000 * place + i))]
            seen.append((place, index))
    assert sorted(seen) == [(place, index) for place in range(2) for index in range(12)]


@pytest.mark.parametrize("top", ["", "wrapper"])
def test_an_archive_is_its_folder(tmp_path, top):
    root = _fill(tmp_path / "set", "a", "b")
    archive = _zipped(root, top)
    for split in ("train", "test"):
        plain, packed = _source(root, split), _source(archive, split)
        assert packed.class_names == plain.class_names == ("a", "b")
        assert packed.identity == plain.identity
        for a, b in zip(plain.table, packed.table, strict=True):
            np.testing.assert_array_equal(a, b)


def test_one_folder_around_the_classes_is_passed_over(tmp_path):
    _fill(tmp_path / "outer" / "inner", "a", "b")
    inner, outer = _source(tmp_path / "outer" / "inner"), _source(tmp_path / "outer")
    assert outer.class_names == ("a", "b")
    np.testing.assert_array_equal(inner.table.images, outer.table.images)


def test_pictures_alone_have_no_labels(tmp_path):
    source = _source(_fill(tmp_path / "set", ""))
    assert source.class_names == ()
    assert source.table.labels is None
    assert source.look_up(source.table, np.array([1])).labels is None
    assert source.counts == {"images": len(source)}


def test_hidden_files_and_other_files_are_ignored(tmp_path):
    root = _fill(tmp_path / "set", "a", "b")
    expected = _source(root).identity
    for name in (".DS_Store", "a/.hidden.png", "__MACOSX/a/._000.png", "README.txt", ".git/x.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"not a picture")
    assert _source(root).identity == _source(_zipped(root)).identity == expected


def test_added_pictures_move_no_others(tmp_path):
    root = _fill(tmp_path / "set", "a", "b", count=20)
    before = {split: set(_names(_source(root, split))) for split in ("train", "test")}
    old = _source(root).identity
    _fill(root, "a", "b", "c", count=50)
    after = {split: set(_names(_source(root, split))) for split in ("train", "test")}
    assert before["train"] < after["train"] and before["test"] < after["test"]
    assert not after["train"] & after["test"]
    assert len(after["train"] | after["test"]) == 150
    assert _source(root).identity != old


def test_the_place_of_a_path(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    _fill(there / "set", "a", "b")
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("GAXN_DATA", str(there))
    assert _source(Path("set")).class_names == ("a", "b")
    _fill(here / "set", "c", "d")
    assert _source(Path("set")).class_names == ("c", "d")


# ---------------------------------------------------------------- as what pixels


def _one(tmp_path: Path, picture: Image.Image, ending: str = "png", **options) -> np.ndarray:
    """The image that a source makes of a picture."""
    (tmp_path / "set").mkdir(exist_ok=True)
    for index in range(12):
        picture.save(tmp_path / "set" / f"{index}.{ending}", **options)
    return _source(tmp_path / "set", resident_bytes=0).read(np.array([0])).images[0]


GREY = _picture(5)[..., 0]
ALPHA = _picture(6)[..., 0]


def _on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return share * pixels + (1 - share) * 255


def _with_alpha(picture: Image.Image) -> Image.Image:
    picture.putalpha(Image.fromarray(ALPHA))
    return picture


def _palette(transparent: bool) -> tuple[Image.Image, np.ndarray]:
    colours, places = _picture(7, 4, 4).reshape(16, 3), GREY // 16
    picture = Image.new("P", (12, 12))
    picture.putpalette(colours.reshape(-1).tolist())
    picture.putdata(places.reshape(-1).tolist())
    expected = colours[places].astype(float)
    if transparent:
        picture.info["transparency"] = 3
        expected[places == 3] = 255
    return picture, expected


MODES = {
    "grey": (Image.fromarray(GREY), np.repeat(GREY[..., None], 3, -1)),
    "black and white": (
        Image.fromarray(GREY > 99),
        np.repeat(np.where(GREY > 99, 255, 0)[..., None], 3, -1),
    ),
    "16 bits": (
        Image.fromarray(GREY.astype(np.uint16) * 256 + 77),
        np.repeat(GREY[..., None], 3, -1),
    ),
    "alpha": (_with_alpha(Image.fromarray(_picture(5))), _on_white(_picture(5), ALPHA)),
    "grey and alpha": (_with_alpha(Image.fromarray(GREY)), _on_white(GREY[..., None], ALPHA)),
    "palette": _palette(False),
    "palette and transparency": _palette(True),
}


@pytest.mark.parametrize("name", MODES)
def test_modes_become_rgb(tmp_path, name):
    picture, expected = MODES[name]
    image = _one(tmp_path, picture)
    np.testing.assert_allclose(image, np.broadcast_to(expected, image.shape), atol=1)


def test_channels_of_one_is_luma(tmp_path):
    source = _source(_fill(tmp_path / "set", ""), channels=1, test_share=0.001)
    assert source.image_shape == (12, 12, 1)
    expected = _picture(0) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(source.table.images[0, ..., 0], expected, atol=1)


TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_obeyed(tmp_path, orientation):
    picture = Image.fromarray(_picture(5))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = _one(tmp_path, picture, exif=exif)
    np.testing.assert_array_equal(image, TURNS[orientation](_picture(5)))


def _bicubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic kernel, a = -1/2."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """By a kernel that is widened where it shrinks, along each axis in turn."""
    scale = len(pixels) / size
    centres = (np.arange(size) + 0.5) * scale
    distance = np.arange(len(pixels)) + 0.5 - centres[:, None]
    weights = _bicubic(distance / max(scale, 1))
    weights /= weights.sum(axis=1, keepdims=True)
    columns = np.clip(np.einsum("jw,hwc->hjc", weights, pixels.astype(float)), 0, 255)
    return np.clip(np.einsum("ih,hjc->ijc", weights, columns), 0, 255)


@pytest.mark.parametrize(("crop", "size"), [(0, 12), (0, 32), (20, 8), (20, 20), (7, 3)])
def test_cropping_and_resizing(crop, size):
    pixels = _picture(8, 24, 37)
    image = framing.frame(Image.fromarray(pixels), size, crop, 3)
    side = crop or 24
    top, left = (24 - side) // 2, (37 - side) // 2
    square = pixels[top : top + side, left : left + side]
    np.testing.assert_allclose(image, _resized(square, size), atol=1.51)


def test_identity_tells_what_changes_the_pixels(tmp_path):
    root = _fill(tmp_path / "set", "a", "b")
    options = [{}, {"size": 8}, {"crop": 8}, {"channels": 1}, {"test_share": 0.5}]
    identities = {_source(root, **option).identity for option in options}
    assert len(identities) == len(options)
    assert all(text.startswith("set ") and "bicubic" in text for text in identities)
    assert _source(root, "test", workers=3, resident_bytes=1).identity in identities


# ---------------------------------------------------------------- what is refused


def _refusal(path: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        _source(path, **options).table  # noqa: B018
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_paths_that_hold_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("GAXN_DATA", str(tmp_path / "data"))
    line = _refusal(Path("nothing"))
    assert "path is 'nothing'" in line and str(tmp_path / "data" / "nothing") in line
    (tmp_path / "empty").mkdir()
    assert "holds no picture" in _refusal(tmp_path / "empty")
    (tmp_path / "text.txt").write_text("words")
    assert "neither a folder nor a whole .zip" in _refusal(tmp_path / "text.txt")
    archive = _zipped(_fill(tmp_path / "set", "a", "b"))
    archive.write_bytes(archive.read_bytes()[:-100])
    assert "neither a folder nor a whole .zip" in _refusal(archive)


def test_pictures_beside_folders(tmp_path):
    root = _fill(tmp_path / "set", "a", "")
    line = _refusal(root)
    assert "000.png lies beside folders" in line and "a/000.png in one" in line


def test_a_split_without_pictures(tmp_path):
    root = _fill(tmp_path / "set", "a", count=2)
    assert "none falls to the test split" in _refusal(root, split="test", test_share=1e-9)


@pytest.mark.parametrize(
    "options", [{"size": -1}, {"crop": -1}, {"channels": 4}, {"test_share": 1.0}]
)
def test_fields_out_of_range(tmp_path, options):
    (field,) = options
    assert f"{field} is {options[field]}; valid is" in _refusal(tmp_path, **options)


def _damaged(root: Path, change) -> tuple[str, int]:
    """Changes the bytes of one picture of the train split; its name and index."""
    source = _source(root)
    name = _names(source)[5]
    (root / name).write_bytes(change((root / name).read_bytes()))
    return name, 5


DAMAGE = {
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "another file": lambda content: b"<html>",
    "damaged header": lambda content: content[:20] + b"\xff\xff\xff\xff" + content[24:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_picture_is_named(tmp_path, damage):
    root = _fill(tmp_path / "set", "a", "b")
    name, index = _damaged(root, DAMAGE[damage])
    assert f"{root / name}, image {index} of the train split, cannot be used" in _refusal(root)
    source = _source(root, resident_bytes=0)
    with pytest.raises(InputError, match=f"image {index} of the train split"):
        source.read(np.array([4, 5, 6]))
    source.read(np.array([4, 6]))


def test_a_damaged_byte_in_an_archive_is_found(tmp_path):
    archive = _zipped(_fill(tmp_path / "set", "a", "b"))
    name = _names(_source(archive))[3]
    with zipfile.ZipFile(archive) as opened:
        place = opened.getinfo(name).header_offset + 200
    content = bytearray(archive.read_bytes())
    content[place] ^= 1
    archive.write_bytes(content)
    assert f"{archive / name}, image 3 of the train split, cannot be used" in _refusal(archive)


def test_a_picture_smaller_than_crop(tmp_path):
    root = _fill(tmp_path / "set", "")
    line = _refusal(root, crop=13)
    assert "image 0 of the train split" in line and "12x12 pixels, fewer than crop, 13" in line


# ---------------------------------------------------------------- as data of an experiment


def _overrides(path: Path, **options) -> list[str]:
    data = {"name": "folder", "path": str(path), "size": 28, "test_share": 0.3, **options}
    return [f"--config={CONFIG}:tiny", f"--config.data={data}"]


def _line(capsys, *arguments: str) -> str:
    assert main(["gaxn", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_conditional_model_needs_two_classes(capsys, tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    for classes, has in (("a",), 1), (("",), 0):
        root = _fill(tmp_path / f"set{has}", *classes)
        line = _line(capsys, *_overrides(root), workdir, "--config.conditional=True")
        assert (
            f"conditional is True; valid is False, or data with 2 classes or more: set{has}" in line
        )
        assert line.endswith(f"has {has}")
    assert not (tmp_path / "run").exists()


def _experiment(path: Path, **options):
    given = arguments.parse(["gaxn", *_overrides(path, **options)], modes.MODES)
    return build(given.config, given.name, mesh.jitted(jax.devices()[:1]))


def test_a_damaged_picture_stops_a_run_in_one_line(capsys, tmp_path):
    root = _fill(tmp_path / "set", "a", "b")
    name, index = _damaged(root, DAMAGE["cut short"])
    line = _line(capsys, *_overrides(root), f"--workdir={tmp_path / 'run'}")
    assert line.startswith(f"gaxn: {root / name}, image {index} of the train split")
    assert not (tmp_path / "run").exists()
    streamed = _experiment(root, resident_bytes=0)
    with pytest.raises(InputError, match=f"{name}, image {index} of the train split"):
        [streamed.feed(step) for step in range(2)]


def test_an_unconditional_model_trains_on_one_class(tmp_path):
    experiment = _experiment(_fill(tmp_path / "set", "a"))
    assert experiment.train.class_names == ("a",) and not experiment.conditional
    assert experiment.feed(0).labels.max() == 0
    assert set(experiment.evaluation.evaluators()) == {"attention"}


def test_an_unconditional_model_trains_without_classes(capsys, tmp_path):
    experiment = _experiment(_fill(tmp_path / "set", ""), resident_bytes=0)
    assert capsys.readouterr().out.count("images for training") == 1
    placement = experiment.placement
    state = placement.place(jax.device_get(experiment.create(experiment.key)))
    state, scalars = placement.step(experiment.step)(state, experiment.feed(0), experiment.key)
    assert all(np.isfinite(value) for value in jax.device_get(scalars).values())
    evaluators = dict(experiment.evaluation.evaluators())
    report = evaluators.pop("attention")(experiment.subject(placement.to_host(state)))
    assert report.protocol["step"] == 1 and not evaluators


def test_the_classes_are_told(tmp_path):
    root = _fill(tmp_path / "set", "a", "b")
    shutil.rmtree(root / "b")
    _fill(root, "b", count=3)
    train, test = _source(root), _source(root, "test")
    assert describe(train, test) == (
        f"{len(train)} images for training + {len(test)} for tests: "
        f"a {train.counts['a']} + {test.counts['a']}, b {train.counts['b']} + {test.counts['b']}"
    )
    assert train.counts["b"] + test.counts["b"] == 3


def test_building_reads_no_picture_of_a_streamed_source(tiny, tmp_path):
    root = _fill(tmp_path / "set", "a", "b")
    _damaged(root, DAMAGE["empty"])
    options = {"size": 16, "test_share": 0.3, "resident_bytes": 0}
    config = tiny()
    config.unlock()
    config.data = {"name": "folder", "path": str(root), **options}
    experiment = build(config, "tiny")
    assert experiment.train.table is None
    assert experiment.train.image_shape == (16, 16, 3)
