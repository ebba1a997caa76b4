"""Labels and splits come from folders or from a file with labels, and are never guessed wrong."""

import json
import unicodedata
import zlib

import numpy as np
import pytest
from pictures import fill, noise, save, zip_folder

from gaxn.data import describe_counts, folder, unpaired
from gaxn.types import InputError


def _source(path, split="train", **options):
    return folder.Source(split, str(path), **{"size": 12, **options})


def _line(path, **options) -> str:
    return describe_counts(*(_source(path, split, **options) for split in ("train", "test")))


def _refusal(path, **options) -> str:
    with pytest.raises(InputError) as caught:
        _source(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _labels(source) -> dict[str, str]:
    """Returns the class of each image by its name."""
    classes = [source.class_names[label] for label in source.table.labels]
    return dict(zip(source.names, classes, strict=True))


# ---------------------------------------------------------------- folders of splits

PAIRS = [
    ("train", "test"),
    ("training", "testing"),
    ("Train", "Test"),
    ("train", "val"),
    ("train", "valid"),
    ("training", "validation"),
    ("training_set", "test_set"),
    ("train_images", "test_images"),
    ("train-data", "val-data"),
    ("train", "dev"),
    ("train", "test1"),
    ("train2017", "val2017"),
    ("seg_train", "seg_test"),
]


@pytest.mark.parametrize(("train", "test"), PAIRS)
@pytest.mark.parametrize("packed", [False, True])
def test_folders_of_splits_with_the_same_classes_are_the_splits(tmp_path, train, test, packed):
    root = fill(tmp_path / "set", f"{train}/a", f"{train}/b", count=5)
    fill(root, f"{test}/a", f"{test}/b", count=3)
    path = zip_folder(root, "top/inner") if packed else root
    for split, name, count in (("train", train, 5), ("test", test, 3)):
        source = _source(path, split)
        assert source.class_names == ("a", "b")
        assert source.counts == {"a": count, "b": count}
        assert all(f"{name}/" in image for image in source.names)
        np.testing.assert_array_equal(source.table.labels, np.repeat([0, 1], count))
    assert len(_source(path, "all")) == 16
    assert _line(path) == (
        "10 images for training + 6 for tests: a 5 + 3, b 5 + 3; the splits are the folders "
        f"{train} and {test}"
    )
    assert _source(path).identity == _source(path, "test").identity


@pytest.mark.parametrize(("train", "test"), [("training_set", "test_set"), PAIRS[-1]])
def test_a_folder_of_a_split_may_be_in_one_of_its_name(tmp_path, train, test):
    root = fill(tmp_path / "set", f"{train}/{train}/a", f"{train}/{train}/b")
    fill(root, f"{test}/{test}/a", f"{test}/{test}/b", count=3)
    assert _source(root).counts == {"a": 12, "b": 12}
    assert _source(root, "test").counts == {"a": 3, "b": 3}


def test_a_third_split_is_left_out_and_named(tmp_path):
    root = fill(tmp_path / "set", "train/a", "train/b", "val/a", "val/b", "test/a", "test/b")
    assert _source(root, "test").names[0] == "test/a/000.png"
    assert _line(root).endswith("folders train and test; val is left out (24 images)")


def test_folders_of_splits_without_classes_are_splits_without_labels(tmp_path):
    root = fill(tmp_path / "set", "train", "test")
    train, test = _source(root), _source(root, "test")
    assert train.class_names == test.class_names == () and train.table.labels is None
    assert {name[:5] for name in train.names} == {"train"}
    assert {name[:5] for name in test.names} == {"test/"}


def test_a_field_says_that_the_folders_are_classes(tmp_path):
    root = fill(tmp_path / "set", "train/a", "test/a")
    source = _source(root, split_by="share")
    assert source.class_names == ("test", "train")
    assert "the splits are" not in _line(root, split_by="share")
    assert source.identity != _source(root).identity


AS_FOLDERS, AS_CLASSES = "folders (train and test are the splits)", "share (they are classes)"
ALONE = "auto, with path train alone"
FIELDS = " or with train_folder and test_folder"

UNCLEAR = {
    # folders, "" for images in none: the line
    ("train/a", "train/b", "test/a"): f"{AS_FOLDERS} or {AS_CLASSES}, as only train contains b",
    ("train/a", "test/a", "car/a"): f"{AS_FOLDERS} or {AS_CLASSES}, as car is beside them",
    ("train/a", "test/a", ""): f"{AS_FOLDERS}, as 000.png is beside them",
    ("train/a", "test"): (
        f"{AS_CLASSES} or {ALONE}{FIELDS}, as only test contains images in no folder"
    ),
    ("train/a", "test/unknown"): f"{AS_CLASSES} or {ALONE}{FIELDS}, as only train contains a",
    ("train/a", "test/unknown", ""): f"{ALONE}, as only train contains a",
    ("train/a", "training/a", "test/a"): (
        f"{AS_CLASSES} or {ALONE}{FIELDS}, as there are train, training, test"
    ),
}


@pytest.mark.parametrize("folders", UNCLEAR)
def test_unclear_folders_of_splits_are_refused_with_fields_that_decide(tmp_path, folders):
    root = fill(tmp_path / "set", *folders, count=1)
    assert _refusal(root) == f"split_by must be {UNCLEAR[folders]}, got 'auto'"
    if AS_FOLDERS in UNCLEAR[folders]:
        assert _source(root, "test", split_by="folders").names == ("test/a/000.png",)
    else:
        assert UNCLEAR[folders] in _refusal(root, split_by="folders")
    if AS_CLASSES in UNCLEAR[folders]:
        tops = tuple(sorted({name.partition("/")[0] for name in folders}))
        assert _source(root, "all", split_by="share").class_names == tops
    if ALONE in UNCLEAR[folders]:
        assert _source(root / "train").class_names == ("a",)
    if FIELDS in UNCLEAR[folders]:
        source = _source(root, "test", train_folder="train", test_folder="test")
        assert len(source) == 1 and source.class_names == ()


def test_images_beside_the_folders_of_splits_are_left_out_if_a_field_says_so(tmp_path):
    root = fill(tmp_path / "set", "train/a", "test/a", "", count=2)
    line = _line(root, split_by="folders")
    assert line.endswith("train and test; anything in no folder is left out (2 images)")


def test_a_few_of_many_classes_may_have_a_word_of_a_split_in_their_names(tmp_path):
    root = fill(tmp_path / "set", "bullet train", "test tube", "car", count=2)
    assert _source(root).class_names == ("bullet train", "car", "test tube")
    root = fill(tmp_path / "splits", "seg_train/a", "seg_test/a", "seg_pred", count=2)
    line = "split_by must be folders (seg_train and seg_test are the splits) or share (they are "
    assert _refusal(root) == f"{line}classes), as seg_pred is beside them, got 'auto'"
    assert _source(root, split_by="folders").class_names == ("a",)


# ---------------------------------------------------------------- classes


@pytest.mark.parametrize("top", ["", "top"])
@pytest.mark.parametrize("packed", [False, True])
def test_an_image_beside_class_folders_is_refused_within_a_common_folder_too(tmp_path, top, packed):
    root, prefix = tmp_path / "set", f"{top}/" if top else ""
    fill(root / top, "", "cat", "dog", count=1)
    line = _refusal(zip_folder(root) if packed else root)
    assert f"but {prefix}000.png is beside folders and {prefix}" in line
    fill(root / top, "train/a", "test/a", count=1)
    for name in ("cat", "dog"):
        (root / top / name / "000.png").unlink()
    line = _refusal(zip_folder(root) if packed else root)
    assert line == f"split_by must be {AS_FOLDERS}, as 000.png is beside them, got 'auto'"


def test_a_single_folder_of_images_is_one_class(tmp_path):
    root = fill(tmp_path / "set", "cat")
    assert _source(root).class_names == ("cat",)


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def test_accents_of_both_forms_are_one_class(tmp_path):
    root = fill(tmp_path / "classes", f"{COMPOSED}/x", f"{DECOMPOSED}/y", "tea", count=2)
    assert _source(root, "all").counts == {_source(root).class_names[0]: 4, "tea": 2}
    root = fill(tmp_path / "splits", f"train/{COMPOSED}", f"test/{DECOMPOSED}", count=2)
    assert list(_source(root).counts.values()) == list(_source(root, "test").counts.values()) == [2]


@pytest.mark.parametrize("folder", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("name", [COMPOSED, DECOMPOSED])
def test_classes_are_selected_by_accents_of_either_form(tmp_path, folder, name):
    root = fill(tmp_path / "set", folder, "tea", count=2)
    assert _source(root, classes=(name,)).class_names == (folder,)


def test_classes_that_look_alike_are_refused(tmp_path):
    root = fill(tmp_path / "set", r"\n", "\n", count=1)
    line = r"path must contain classes with different names, got two that are shown as \n"
    assert _refusal(root) == line


def test_folders_beside_those_of_the_splits_are_left_out_if_a_field_says_so(tmp_path):
    root = fill(tmp_path / "set", "train/a", "train/b", "test/a", "test/c", "car/a", count=4)
    line = _line(root, split_by="folders")
    assert line == (
        "8 images for training + 4 for tests: a 4 + 4, b 4 + 0; the splits are the folders train "
        "and test; car is left out (4 images); no image for tests of b; c is left out, without an "
        "image for training"
    )
    assert "split_by must be auto or share" in _refusal(root / "train", split_by="folders")
    assert "split_by must be auto or folders or share" in _refusal(root, split_by="name")


def test_a_class_may_have_the_name_of_a_split(tmp_path):
    root = fill(tmp_path / "set", "train", "bus", "car")
    assert _source(root).class_names == ("bus", "car", "train")


def test_a_single_folder_of_a_split_is_skipped(tmp_path):
    root = fill(tmp_path / "set", "data/train/a", "data/train/b")
    assert _source(root).class_names == ("a", "b")
    assert _source(root).identity == _source(root / "data" / "train").identity


def test_classes_of_folders_of_splits_can_be_selected(tmp_path):
    root = fill(tmp_path / "set", "train/a", "train/b", "test/a", "test/b")
    assert _source(root, "test", classes=("b",)).counts == {"b": 12}


def test_domains_can_have_folders_of_splits(tmp_path):
    fill(tmp_path / "set", "photos/train", "photos/val", "paintings", count=6)
    a, b = (
        {"name": "folder", "path": str(tmp_path / "set" / name)} for name in ("photos", "paintings")
    )
    (tmp_path / "set" / "paintings" / "x.txt").write_text("")
    train, test = (unpaired.Source(split, a, b, size=8) for split in ("train", "test"))
    assert train.sizes == (6, 5) and test.sizes == (6, 1)
    assert describe_counts(train, test).endswith(
        "; A: the splits are the folders train and val; B: 1 file passed over (.txt 1)"
    )


# ---------------------------------------------------------------- small classes


@pytest.mark.parametrize("share", [1e-9, 0.1, 0.5, 1 - 1e-9])
def test_each_class_of_two_or_more_is_in_both_splits(tmp_path, share):
    root = fill(tmp_path / "set", "b", count=9)
    for name, count in (("pair", 2), ("three", 3), ("single", 1)):
        fill(root, name, count=count)
    train, test = (_source(root, split, test_share=share) for split in ("train", "test"))
    assert len(train) + len(test) == 15
    for name in ("b", "pair", "three"):
        assert train.counts[name] >= 1 and test.counts[name] >= 1
    assert train.counts["single"] == 1 and test.counts["single"] == 0
    assert train.class_names == test.class_names
    assert describe_counts(train, test).endswith("; no image for tests of single")


def test_only_images_of_a_class_in_one_split_alone_are_moved(tmp_path):
    root = fill(tmp_path / "set", "a", "b", count=40)
    fill(root, "small", count=4)
    for name in ("a", "b", "small"):
        checksums = {index: zlib.crc32(f"{index:03d}.png".encode()) for index in range(40)}
        count = 4 if name == "small" else 40
        by_checksum = {f"{name}/{i:03d}.png" for i in range(count) if checksums[i] < 0.3 * 2**32}
        tests = _source(root, "test", test_share=0.3).names
        tests = {image for image in tests if image.startswith(f"{name}/")}
        if name != "small":
            assert tests == by_checksum
        else:
            lowest = min(range(4), key=checksums.get)
            assert by_checksum == set() and tests == {f"small/{lowest:03d}.png"}


def test_many_classes_of_one_image_are_counted(tmp_path):
    root = fill(tmp_path / "set", *(f"c{number:02d}" for number in range(14)), count=1)
    fill(root, "z", count=5)
    assert _line(root).endswith(
        "; no image for tests of " + ", ".join(f"c0{n}" for n in range(10)) + " and 4 more"
    )


# ---------------------------------------------------------------- files with labels


def _stylegan(root, labels, count=6):
    """Writes images in the shards of StyleGAN's tools; `labels` gets the index of an image."""
    names = [f"{index // 3:05d}/img{index:08d}.png" for index in range(count)]
    for index, name in enumerate(names):
        save(root / name, noise(index))
    pairs = labels and [[name, labels(index)] for index, name in enumerate(names)]
    (root / "dataset.json").write_text(json.dumps({"labels": pairs}))
    return root


@pytest.mark.parametrize("top", [None, "", "top"])
def test_the_labels_of_stylegans_tools_are_the_labels(tmp_path, top):
    root = _stylegan(tmp_path / "set", lambda index: [7, 12][index % 2])
    path = root if top is None else zip_folder(root, top)
    source = _source(path, "all")
    assert source.class_names == ("7", "12")
    order = [int(name[-7:-4]) for name in source.names]
    assert sorted(order) == list(range(6))
    assert list(_labels(source).values()) == [["7", "12"][index % 2] for index in order]
    for image, index in zip(source.table.images, order, strict=True):
        np.testing.assert_array_equal(image, noise(index))
    assert _line(path).endswith("labels of " + ("top/" if top == "top" else "") + "dataset.json")
    assert source.identity == _source(root, "all").identity


def test_stylegans_images_without_labels_have_none(tmp_path):
    root = _stylegan(tmp_path / "set", None)
    source = _source(root)
    assert source.class_names == () and source.table.labels is None
    assert _line(root).endswith("no labels in dataset.json")


def test_other_labels_are_another_identity(tmp_path):
    texts = {
        _source(_stylegan(tmp_path / "set", labels), "all").identity
        for labels in (None, lambda index: index % 2, lambda index: index % 3)
    }
    assert len(texts) == 3


def test_one_hot_labels_are_classes_and_others_are_refused(tmp_path):
    root = _stylegan(tmp_path / "set", lambda index: [float(index % 2), 0.0, float(1 - index % 2)])
    assert _source(root).class_names == ("0", "2")
    _stylegan(root, lambda index: [1, index % 2])
    assert "dataset.json must have one integer label per image" in _refusal(root)


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        ('[["0.png", 0], ["1.png", 1], ["0.png", 1]]', "dataset.json has two labels for 0.png"),
        ('[["0.png", 0], ["1.png", 1], ["./0.png", 1]]', "dataset.json has two labels for 0.png"),
        (
            '{"0.png": 0, "1.png": 1, "0.png": 1}',
            "dataset.json cannot be read: it has two values of one name",
        ),
    ],
)
def test_two_labels_of_an_image_are_refused(tmp_path, labels, line):
    for name in ("0.png", "1.png"):
        save(tmp_path / "set" / name, noise(0))
    (tmp_path / "set" / "dataset.json").write_text(f'{{"labels": {labels}}}')
    assert _refusal(tmp_path / "set") == line


def test_the_same_label_twice_is_one(tmp_path):
    for name in ("0.png", "1.png"):
        save(tmp_path / "set" / name, noise(0))
    for labels in ('{"0.png": 3, "1.png": 5, "0.png": 3}', '[["0.png", 3], ["1.png", 5]]'):
        (tmp_path / "set" / "dataset.json").write_text(f'{{"labels": {labels}}}')
        assert _source(tmp_path / "set", "all").counts == {"3": 1, "5": 1}


def _hugging_face(root, rows, ending=".jsonl"):
    """Writes six images, and the columns of each: {"file_name": ...} and those of `rows`."""
    columns = [{"file_name": f"{index}.png", **row} for index, row in enumerate(rows)]
    for index, row in enumerate(columns):
        save(root / row["file_name"], noise(index))
    text = "\n".join(map(json.dumps, columns))
    if ending == ".csv":
        lines = [columns[0], *(row.values() for row in columns)]
        text = "\n".join(",".join(f'"{cell}"' for cell in line) for line in lines)
    (root / f"metadata{ending}").write_text(text)
    return root


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
@pytest.mark.parametrize("labels", [(10, 9), ("dog", "cat")])
def test_the_labels_of_metadata_are_the_labels(tmp_path, ending, labels):
    rows = [{"label": labels[index % 2], "other": "x"} for index in range(6)]
    root = _hugging_face(tmp_path / "set", rows, ending)
    for path in (root, zip_folder(root)):
        source = _source(path, "all")
        assert source.class_names == tuple(map(str, sorted(labels)))
        assert _labels(source) == {f"{i}.png": str(labels[i % 2]) for i in range(6)}
        assert _line(path).endswith(f"labels of metadata{ending}")
        assert source.captions == ("",) * 6


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_the_texts_of_metadata_are_captions(tmp_path, ending):
    texts = [f"leaf {index}, rusty" for index in range(6)]
    root = _hugging_face(tmp_path / "set", [{"text": text} for text in texts], ending)
    train, test = _source(root, test_share=0.4), _source(root, "test", test_share=0.4)
    assert train.class_names == ()
    captions = dict(zip(train.names + test.names, train.captions + test.captions, strict=True))
    assert captions == {f"{index}.png": text for index, text in enumerate(texts)}
    assert _line(root).endswith(f"no labels in metadata{ending}")


def test_captions_and_labels_may_be_in_two_files(tmp_path):
    root = tmp_path / "set"
    _hugging_face(root, [{"text": f"leaf {index}"} for index in range(4)], ".csv")
    _hugging_face(root, [{"label": index % 2} for index in range(4)], ".jsonl")
    source = _source(root, "all")
    assert source.counts == {"0": 2, "1": 2}
    captions = dict(zip(source.names, source.captions, strict=True))
    assert captions == {f"{index}.png": f"leaf {index}" for index in range(4)}


def test_a_text_may_be_a_list_of_texts_or_a_number(tmp_path):
    texts = ["a leaf", "foliage"], [], "a tree", 7, {"en": "a leaf"}
    source = _source(_hugging_face(tmp_path / "set", [{"text": text} for text in texts]), "all")
    assert source.captions == ("a leaf", "", "a tree", "7", "")


def test_other_captions_are_another_identity(tmp_path):
    sources = [
        _source(_hugging_face(tmp_path / name, [{"text": name}, {"text": "leaf"}]), "all")
        for name in ("left", "well")
    ]
    assert len({source.identity for source in sources}) == 2


def test_the_first_of_several_captions_counts(tmp_path):
    rows = [{"text": "leaf"}, {"text": "tree"}, {"file_name": "0.png", "text": "rust"}]
    root = _hugging_face(tmp_path / "set", rows)
    assert _source(root, "all").captions == ("leaf", "tree")
    assert _line(root).endswith("; names with several captions, of which the first counts: 1")


TEXTS = [
    # labels of a .csv: classes, or the end of the line
    (("0.0", "2.0", "10.0"), ("0", "2", "10")),
    (("10", "2", "2.0"), ("2", "10")),
    (("01", "02", "10"), ("01", "02", "10")),
    (("1", "x", "0.5"), ("0.5", "1", "x")),
    (("1_0", "2_0", "10"), ("10", "1_0", "2_0")),
    (("-1", "0", "2"), "got -1, which often marks images without one"),
    (("0.5", "1", "2"), "got 0.5"),
    (("nan", "1", "2"), "got nan"),
    (("[1, 1]", "[0, 1]", "[1, 0]"), "got [0, 1]"),
    (("cat", "[0 1]", "[1 0]"), "got [0 1]"),
    (("9" * 5000, "1", "2"), "got inf"),
]


@pytest.mark.parametrize(("labels", "expected"), TEXTS)
def test_numbers_of_a_csv_are_numbers(tmp_path, labels, expected):
    root = _hugging_face(tmp_path / "set", [{"label": label} for label in labels], ".csv")
    if isinstance(expected, tuple):
        assert _source(root, "all").class_names == expected
    else:
        line = _refusal(root)
        assert line.startswith("metadata.csv must have one integer") and line.endswith(expected)


def test_whole_numbers_of_two_files_are_the_same_classes(tmp_path):
    root = tmp_path / "set"
    _hugging_face(root / "train", [{"label": 2}, {"label": 10}])
    _hugging_face(root / "test", [{"label": "10.0"}, {"label": "2.0"}], ".csv")
    assert _labels(_source(root)) == {"train/0.png": "2", "train/1.png": "10"}
    assert _labels(_source(root, "test")) == {"test/0.png": "10", "test/1.png": "2"}


def test_two_columns_of_labels_are_refused(tmp_path):
    root = fill(tmp_path / "set", "", count=1)
    (root / "metadata.csv").write_text("file_name,label,label\n000.png,0,1\n")
    assert _refusal(root) == "metadata.csv cannot be read: it has two columns of one name"


def test_each_split_may_have_its_metadata(tmp_path):
    root = tmp_path / "set"
    _hugging_face(root / "train", [{"label": "a"}, {"label": "b"}, {"label": "a"}])
    _hugging_face(root / "test", [{"label": "b"}, {"label": "a"}])
    train, test = _source(root), _source(root, "test")
    assert train.counts == {"a": 2, "b": 1} and test.counts == {"a": 1, "b": 1}
    assert _labels(test) == {"test/0.png": "b", "test/1.png": "a"}
    line = _line(root)
    assert "the splits are the folders train and test" in line
    assert line.endswith("labels of test/metadata.jsonl, train/metadata.jsonl")


def test_names_in_metadata_may_have_backslashes_and_composed_accents(tmp_path):
    root = tmp_path / "set"
    save(root / "sub" / "cafe\u0301.png", noise(0))
    save(root / "sub" / "x.png", noise(1))
    rows = [{"file_name": r"sub\café.png", "label": 1}, {"file_name": "./sub/x.png", "label": 0}]
    (root / "metadata.jsonl").write_text("\ufeff" + "\r\n".join(map(json.dumps, rows)))
    labels = _labels(_source(root, "all"))
    assert labels == {"sub/cafe\u0301.png": "1", "sub/x.png": "0"}


def test_names_without_an_image_are_counted(tmp_path):
    root = _hugging_face(tmp_path / "set", [{"label": index % 2} for index in range(6)])
    (root / "5.png").unlink()
    assert _line(root).endswith("; names in metadata.jsonl without an image: 1")


WRONG = {
    "an image without a label": (
        [{"label": 0}, {"label": None}, {"label": 1}, {}],
        "metadata.jsonl must have a label for each image, but has none for 1.png and 1 more",
    ),
    "a negative label": ([{"label": 0}, {"label": -1}], "got -1, which often marks images"),
    "a label that is no number": ([{"label": 0.5}], "got 0.5"),
    "a nested label": ([{"label": {"a": 1}}], "metadata.jsonl must have one integer label"),
    "NaN": ([{"label": float("nan")}, {"label": 1}], "got nan"),
    "numbers and texts": ([{"label": 1}, {"label": "x"}], "got numbers and texts, such as x"),
    "truth values and texts": ([{"label": True}, {"label": "x"}], "got numbers and texts"),
    "names that look alike": (
        [{"label": "a\nb"}, {"label": r"a\nb"}],
        r"metadata.jsonl must have classes with different names, got two that are shown as a\nb",
    ),
    "lists of two lengths": ([{"label": [1]}, {"label": [0, 1]}], "lists of several lengths"),
    "two labels of an image": (
        [{"label": 0}, {"label": 1, "file_name": "0.png"}],
        "metadata.jsonl has two labels for 0.png",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_labels_are_refused(tmp_path, name):
    rows, part = WRONG[name]
    assert part in _refusal(_hugging_face(tmp_path / "set", rows))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dataset.json", "{"),
        ("dataset.json", '{"labels": 3}'),
        ("dataset.json", '{"labels": [1]}'),
        ("metadata.jsonl", '{"file_name": "000.png"}\n{'),
        ("metadata.jsonl", '{"file_name": "000.png"}\n{}'),
        ("metadata.jsonl", '{"file_name": "000.png", "label": 0, "label": 1}'),
        ("metadata.csv", "\xff"),
    ],
)
def test_a_damaged_file_of_labels_is_one_line(tmp_path, name, text):
    root = fill(tmp_path / "set", "")
    (root / name).write_bytes(text.encode("latin-1"))
    assert _refusal(root).startswith(f"{name} cannot be read: ")


def test_a_file_of_labels_that_cannot_be_read_is_one_line(tmp_path):
    archive = zip_folder(_hugging_face(tmp_path / "set", [{"label": 0}, {"label": 1}]))
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b'"label": 1', b'"label": 2', 1))
    assert _refusal(archive).startswith("metadata.jsonl cannot be read: Bad CRC-32")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dataset.json", '{"name": "leaves"}'),
        ("dataset.json", "[]"),
        ("metadata.csv", "id,class\n1,2\n"),
        ("metadata.csv", ""),
        ("metadata.jsonl", "[1]\n"),
    ],
)
def test_a_file_of_another_purpose_is_passed_over(tmp_path, name, text):
    root = fill(tmp_path / "set", "a", "b")
    (root / name).write_text(text)
    assert _source(root).class_names == ("a", "b")
    assert _line(root).endswith(f"; {name} is passed over: it names no files")
