"""Classes, splits and captions of images, from the folders and files that they lie in."""

import collections
import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from gaxn.data import one_line, printable
from gaxn.data.classes import number_classes, show_names
from gaxn.types import InputError, check

SPLIT_BY = ("auto", "folders", "share")
"""Values of the field `split_by`."""

SPLIT_FOLDER = re.compile(
    r"(?<![a-z])"
    r"(?:(?P<train>train(?:ing)?)|(?P<test>test(?:ing)?)|(?P<val>val(?:id(?:ation)?)?|dev))"
    r"(?:[ _-]?(?:set|data|images))?(?![a-z])",
    re.IGNORECASE,
)
"""Names of folders that may be splits: train, Training, test_set, val, valid, validation, ...

They are searched for in other names, such as train2017 and seg_test.
"""

Parts = dict[str, tuple[str, ...]]
"""By the name of an image, the parts of its path."""


class File(NamedTuple):
    """An image.

    Attributes:
        class_name: "" without classes.
        path: its path without the folder of the class.
        name: its path within the data set.
        split: "train" or "test" if folders are the splits, else "".
        caption: "" for none.
    """

    class_name: str
    path: str
    name: str
    split: str
    caption: str


class Layout(NamedTuple):
    """The images of a data set.

    Attributes:
        files: of all splits, by class and then by path.
        class_names: the classes in the order of their labels; empty without classes.
        has_splits: whether the files have splits, by their folders.
        notes: what was decided, each a part of a line.
    """

    files: list[File]
    class_names: tuple[str, ...]
    has_splits: bool
    notes: list[str]


class _Sidecars(NamedTuple):
    """Files with labels or captions of images.

    Attributes:
        places: their paths.
        labels: by the key of an image.
        captions: by the key of each image that has a row.
    """

    places: list[str]
    labels: dict[str, Any]
    captions: dict[str, list[str]]


def arrange(
    names: Collection[str],
    sidecars: Mapping[str, bytes],
    split_by: str = "auto",
    train_folder: str = "",
    test_folder: str = "",
) -> Layout:
    """Finds the class, the split and the caption of each image.

    Args:
        names: paths of the images within the data set.
        sidecars: by its path, the content of each file that may have labels.
        split_by: "folders" if folders such as train and test are the splits, "share" if they are
            classes, "auto" to find out.
        train_folder, test_folder: folders that are the splits; images then have no labels.

    Raises:
        InputError: it is not clear what the folders are, or some images have no label.
    """
    parts = _skip_common_folders({name: tuple(name.split("/")) for name in names})
    labels, notes = _read_sidecars(sidecars)
    if train_folder:
        _check_not_mixed(parts)
        folders = {train_folder: "train", test_folder: "test"}
        tops = sorted({path[0] for path in parts.values() if len(path) > 1})
        for field, name in (("train_folder", train_folder), ("test_folder", test_folder)):
            expected = f"a folder of images ({', '.join(map(printable, tops)) or 'none'})"
            check(field, name, name in tops, expected)
    else:
        folders = _find_split_folders(parts, split_by, bool(labels.places))
        notes += _describe_split_folders(parts, folders)
    if folders:
        parts = {name: path for name, path in parts.items() if path[0] in folders}
    class_by_name, class_names = {}, ()
    if labels.labels and not train_folder:
        class_by_name, class_names = _match_labels(labels, parts)
    elif not (labels.places or train_folder):
        depth = 1 if folders else 0
        _check_not_mixed({name: path[depth:] for name, path in parts.items()})
        class_of = _name_classes({path[depth] for path in parts.values() if path[depth + 1 :]})
        for name, path in parts.items():
            if path[depth + 1 :]:
                class_by_name[name] = class_of[path[depth]]
                parts[name] = path[:depth] + path[depth + 1 :]
        class_names = tuple(sorted(set(class_of.values())))
    files = [
        File(
            class_by_name.get(name, ""),
            "/".join(path),
            name,
            folders[path[0]] if folders else "",
            next(iter(labels.captions.get(_key(name), ())), ""),
        )
        for name, path in parts.items()
    ]
    notes += _describe_labels(labels, names)
    return Layout(sorted(files), class_names, bool(folders), notes)


def _skip_common_folders(parts: Parts) -> Parts:
    """Removes folders that contain all others, and those of splits that are in one another."""
    while len({path[0] for path in parts.values()}) == 1 and max(map(len, parts.values())) > 2:
        parts = {name: path[1:] for name, path in parts.items()}
    if all(path[0] in path[1:-1][:1] and SPLIT_FOLDER.search(path[0]) for path in parts.values()):
        parts = {name: path[1:] for name, path in parts.items()}
    return parts


def _check_not_mixed(parts: Parts) -> None:
    """Raises an InputError if some images are in folders and others are not."""
    loose = [name for name, path in parts.items() if len(path) == 1]
    if loose and len(loose) < len(parts):
        inside = next(name for name, path in parts.items() if len(path) > 1)
        raise InputError(
            "path must contain either one folder per class or images only, but "
            f"{printable(loose[0])} is beside folders and {printable(inside)} in one"
        )


def _name_classes(folders: Collection[str]) -> dict[str, str]:
    """Returns the name of its class by that of a folder; accents of both forms are the same.

    Raises:
        InputError: two classes look alike.
    """
    forms = {_compose(folder): folder for folder in sorted(folders)}
    try:
        names = dict(zip(forms, show_names(forms.values()), strict=True))
    except InputError as error:
        raise InputError(f"path must contain {error}") from None
    return {folder: names[_compose(folder)] for folder in folders}


def _find_split_folders(parts: Parts, split_by: str, has_sidecars: bool) -> dict[str, str]:
    """Returns the split by the name of its folder; empty if the folders are no splits.

    Raises:
        InputError: it is not clear whether they are.
    """
    contents = collections.defaultdict(set)
    for path in parts.values():
        if len(path) > 1:
            contents[path[0]].add(_compose(path[1]) if len(path) > 2 else "")
    loose = {path[0] for path in parts.values() if len(path) == 1}
    for match in (SPLIT_FOLDER.fullmatch, SPLIT_FOLDER.search):
        folders = collections.defaultdict(list)
        for folder in sorted(contents):
            if word := match(folder):
                folders[word.lastgroup].append(folder)
        trains, tests = folders["train"], folders["test"] or folders["val"]
        if trains and tests:
            break
    others = sorted({*contents, *loose} - {*trains, *folders["test"], *folders["val"]})
    is_clear = not others or all(map(SPLIT_FOLDER.fullmatch, trains + tests))
    if split_by == "auto" and not is_clear and all(contents[x] == {""} for x in trains + tests):
        # A few of many classes may have these words in their names.
        return {}
    if split_by == "share" or not (trains and tests):
        expected = "auto or share, as there are no folders such as train and test"
        check("split_by", split_by, split_by != "folders", expected)
        return {}
    train, test = trains[0], tests[0]
    only = [] if has_sidecars else sorted(contents[train] ^ contents[test])
    # Labels of both must be the same folders, at least one.
    fit = "" not in only and (not only or contents[train] & contents[test])
    reason = ""
    if len(trains + tests) > 2:
        fit, reason = False, f"there are {', '.join(trains[:2] + tests[:2])}"
    elif only and (split_by == "auto" or not fit):
        holder = train if only[0] in contents[train] else test
        reason = f"only {holder} contains {only[0] or 'images in no folder'}"
    elif others and split_by == "auto":
        reason = f"{others[0]} is beside them"
    choices = [f"folders ({train} and {test} are the splits)"] if fit else []
    if has_sidecars or not loose:
        choices.append("share (they are classes)")
    if not fit:
        fields = "" if loose else " or with train_folder and test_folder"
        choices.append(f"auto, with path {train} alone{fields}")
    check("split_by", split_by, not reason, printable(f"{' or '.join(choices)}, as {reason}"))
    return {train: "train", test: "test"}


def _describe_split_folders(parts: Parts, folders: Mapping[str, str]) -> list[str]:
    if not folders:
        return []
    counts = collections.Counter(
        path[0] if len(path) > 1 else "anything in no folder"
        for path in parts.values()
        if path[0] not in folders
    )
    return [
        f"the splits are the folders {' and '.join(map(printable, folders))}",
        *(
            f"{printable(name)} is left out ({n:,} image{'s' * (n != 1)})"
            for name, n in sorted(counts.items())
        ),
    ]


def _compose(name: str) -> str:
    """Returns a name that can be compared: macOS decomposes accents."""
    return unicodedata.normalize("NFC", name)


def _key(name: str) -> str:
    """Returns a path that can be compared."""
    return _compose(os.path.normpath(name.replace("\\", "/")))


def _read_sidecars(sidecars: Mapping[str, bytes]) -> tuple[_Sidecars, list[str]]:
    """Reads labels and captions; returns also which files have none.

    Raises:
        InputError: a file is damaged, or has two labels for an image.
    """
    result, notes = _Sidecars([], {}, {}), []
    for place, content in sorted(sidecars.items()):
        try:
            rows = _read_rows(place, content)
        except (ValueError, KeyError, TypeError, csv.Error, RecursionError) as error:
            raise InputError(f"{printable(place)} cannot be read: {one_line(error)}") from None
        if rows is None:
            notes.append(f"{printable(place)} is passed over: it names no files")
            continue
        result.places.append(place)
        for name, label, caption in rows:
            key = _key(os.path.join(os.path.dirname(place), str(name)))
            # In lists, as NaN is not equal to itself.
            if label not in (None, "") and [result.labels.setdefault(key, label)] != [label]:
                raise InputError(f"{printable(place)} has two labels for {printable(key)}")
            result.captions.setdefault(key, []).extend([str(caption)] if caption else [])
    return result, notes


def _read_rows(place: str, content: bytes) -> list[tuple[str, Any, str]] | None:
    """Returns name, label and caption of each image; None if the file names no images.

    `dataset.json` is as StyleGAN's tools write it, `metadata.jsonl` and `metadata.csv` as Hugging
    Face reads them.
    """
    text = content.decode("utf-8-sig")
    if place.endswith(".json"):
        document = json.loads(text, object_pairs_hook=_make_dict)
        if not isinstance(document, dict) or "labels" not in document:
            return None
        labels = document["labels"] or []
        pairs = labels.items() if isinstance(labels, dict) else labels
        return [(name, label, "") for name, label in pairs]
    if place.endswith(".csv"):
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows, columns = list(reader), reader.fieldnames or ()
        if any(columns.count(name) > 1 for name in ("file_name", "label", "text")):
            raise ValueError("it has two columns of one name")
    else:
        lines = [line for line in text.split("\n") if line.strip()]
        rows = [json.loads(line, object_pairs_hook=_make_dict) for line in lines]
    if not (rows and isinstance(rows[0], dict) and "file_name" in rows[0]):
        return None
    return [(row["file_name"], row.get("label"), _caption(row.get("text"))) for row in rows]


def _caption(value: Any) -> str:
    """Returns the caption in a row, the first of several; "" for none, or for what is no text."""
    first = value[0] if isinstance(value, list) and value else value
    return str(first) if isinstance(first, str | int | float) else ""


def _make_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object of JSON; one with two values of a name is an error."""
    result = dict(pairs)
    if [result[name] for name, _ in pairs] != [value for _, value in pairs]:
        raise ValueError("it has two values of one name")
    return result


def _match_labels(sidecars: _Sidecars, parts: Parts) -> tuple[dict[str, str], tuple[str, ...]]:
    """Returns the class of each image, and the classes in the order of their labels.

    Raises:
        InputError: an image has no label, or the labels are no classes.
    """
    place = printable(sidecars.places[0])
    missing = sorted(name for name in parts if _key(name) not in sidecars.labels)
    if missing:
        others = f" and {len(missing) - 1:,} more" if missing[1:] else ""
        raise InputError(
            f"{place} must have a label for each image, but has none for "
            f"{printable(missing[0])}{others}"
        )
    try:
        numbers, names = number_classes([sidecars.labels[_key(name)] for name in parts], len(parts))
    except InputError as error:
        raise InputError(f"{place} must have {error}") from None
    names = tuple(map(printable, names))
    return {name: names[number] for name, number in zip(parts, numbers, strict=True)}, names


def _describe_labels(sidecars: _Sidecars, names: Collection[str]) -> list[str]:
    if not sidecars.places:
        return []
    places = ", ".join(map(printable, sidecars.places))
    unknown = len(sidecars.captions.keys() - set(map(_key, names)))
    several = sum(len(set(texts)) > 1 for texts in sidecars.captions.values())
    return [
        f"labels of {places}" if sidecars.labels else f"no labels in {places}",
        *([f"names in {places} without an image: {unknown:,}"] if unknown else []),
        *([f"names with several captions, of which the first counts: {several:,}"] * bool(several)),
    ]
