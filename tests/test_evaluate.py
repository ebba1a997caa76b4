"""`python -m gaxn.evaluate`: figures of sets that anyone made, and mistakes in one line."""

import json

import numpy as np
import pytest
from PIL import Image

from gaxn import measure
from gaxn.data import npz, reader, shapes
from gaxn.evaluate import main
from gaxn.types import InputError

COUNT = 60
SHAPES = ("--extractor", "classifier", "--weights", "shapes")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A folder with classes, the same as .npz, another one, a flat folder and a zip of it."""
    import shutil

    root = tmp_path_factory.mktemp("sets")
    for split in ("train", "test"):
        source = shapes.Source(split=split, examples=500)
        images, labels = (np.asarray(leaf) for leaf in reader(source)(np.arange(COUNT)))
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            for folder in (root / split / source.class_names[label], root / f"{split}_flat"):
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / f"{index:03d}.png")
        np.savez(root / f"{split}.npz", images=images, labels=labels)
    shutil.make_archive(str(root / "zipped"), "zip", root / "train_flat")
    return root


def _figures(capsys, *argv):
    assert main(["evaluate", *map(str, argv)]) == 0
    lines = capsys.readouterr().out.splitlines()
    pairs = [line.split(": ", 1) for line in lines if not line.startswith(" ")]
    return {name: float(text.split()[0]) for name, text in pairs}


def _refused(capsys, *argv):
    assert main(["evaluate", *map(str, argv)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gaxn: ") and "Traceback" not in line
    return line


def test_folders_zips_and_arrays_of_the_same_pictures_agree(capsys, sets):
    metrics = "--metrics", "frechet", "kid"
    # Which tenth a picture falls to depends on its place; the distance does not.
    by_folder = _figures(capsys, sets / "train", sets / "test", *SHAPES, *metrics)
    for a, b in (("train.npz", "test.npz"), ("zipped.zip", "test_flat"), ("train", "test.npz")):
        found = _figures(capsys, sets / a, sets / b, *SHAPES, *metrics)
        for name in ("frechet_distance", "kid_unbiased"):
            np.testing.assert_allclose(found[name], by_folder[name], rtol=1e-4)


def test_labels_are_those_of_the_extractors_classes(capsys, sets):
    argv = sets / "train", sets / "test", *SHAPES, "--metrics", "confusion"
    assert _figures(capsys, *argv)["conditional_accuracy"] > 0.95


def test_labels_without_names_are_left_out(capsys, sets):
    figures = _figures(capsys, sets / "train.npz", sets / "test", *SHAPES)
    assert "conditional_accuracy" not in figures and "frechet_distance" in figures


def test_the_protocol_is_told_and_kept(capsys, sets, tmp_path):
    out = tmp_path / "found.json"
    argv = ["evaluate", str(sets / "train"), str(sets / "test"), *SHAPES, "--json", str(out)]
    assert main([*argv, "--samples", "40"]) == 0
    printed = capsys.readouterr().out
    document = json.loads(out.read_text())
    protocol = document["protocol"]
    assert protocol["samples"] == 40 and protocol["reference"]["count"] == 40
    assert protocol["set"]["formats"] == {".png": COUNT} and len(protocol["sha256"]) == 64
    assert f'sha256: "{protocol["sha256"]}"' in printed
    assert document["timing"]["images_per_second"] > 0


def test_statistics_stand_for_the_set_they_were_written_from(capsys, sets, tmp_path):
    metrics = "--metrics", "frechet", "manifolds"
    path = tmp_path / "reference.npz"
    direct = _figures(capsys, sets / "train", sets / "test", *SHAPES, *metrics)
    assert main(["evaluate", str(sets / "test"), "--write", str(path), *SHAPES, *metrics]) == 0
    capsys.readouterr()
    for chosen in (metrics, ()):
        found = _figures(capsys, sets / "train", path, *SHAPES, *chosen)
        assert direct.items() <= found.items()
    line = _refused(capsys, sets / "train", path, *SHAPES, "--metrics", "ms_ssim")
    assert "metric ms_ssim needs ms_ssim of images, which the reference does not have" in line
    line = _refused(capsys, sets / "train", path, "--extractor", "pixels")
    assert "was measured with extractor" in line


def test_pictures_are_resized_only_where_it_is_asked_for(capsys, sets, tmp_path):
    odd = tmp_path / "odd"
    odd.mkdir()
    for index, size in enumerate([(20, 20), (20, 20), (24, 20)]):
        Image.new("RGB", size).save(odd / f"{index}.png")
    line = _refused(capsys, odd, odd, "--extractor", "pixels", "--metrics", "frechet")
    assert "has 24x20 pixels, others have 20x20" in line
    argv = odd, odd, "--extractor", "pixels", "--metrics", "frechet", "--size", "8"
    assert "frechet_distance" in _figures(capsys, *argv)


WRONG = {
    "one set": (["{train}"], "the number of sets is 1; valid is 2 without --write"),
    "no set": ([], "required: SET"),
    "a path that is nowhere": (["{train}", "{root}/nowhere", *SHAPES], "there is no"),
    "an unknown flag": (["{train}", "{test}", "--extracter=x"], "--extracter=x"),
    "no such extractor": (["{train}", "{test}", "--extractor=vgg"], "inception"),
    "no such metric": (["{train}", "{test}", *SHAPES, "--metrics", "fid"], "frechet"),
    "a metric that does not apply": (
        ["{train}", "{test}", "--extractor=pixels", "--metrics", "inception_score"],
        "takes logits",
    ),
    "weights of pixels": (
        ["{train}", "{test}", "--extractor=pixels", "--weights=x"],
        "the extractor pixels takes no options",
    ),
    "a classifier without weights": (
        ["{train}", "{test}", "--extractor=classifier"],
        "valid are fashion-mnist, mnist, shapes",
    ),
    "statistics without an ending": (["{train}", "--write={root}/x", *SHAPES], "ends in .npz"),
    "a set as a target": (
        ["{train}.npz", "--write={train}.npz", *SHAPES],
        "another path than that of a set",
    ),
    "a set as a target through a link": (
        ["{train}.npz", "{test}", "--json={root}/link.npz", *SHAPES],
        "another path than that of a set",
    ),
    "a directory as a target": (["{train}", "{test}", "--json={root}", *SHAPES], "path of a file"),
    "no target": (["{train}", "{test}", "--json=", *SHAPES], "--json is ''"),
    "a device as a target": (["{train}", "{test}", "--json=/dev/null", *SHAPES], "path of a file"),
    "two targets": (
        ["{train}", "--write={root}/x.npz", "--json={root}/x.json", *SHAPES],
        "left out with --write",
    ),
    "pictures of another size": (
        ["{train}", "{root}/pixel.npz", "--extractor=pixels"],
        "3 and 3,072 features an image",
    ),
    "pictures too small for the extractor": (
        ["{root}/pixel.npz", "{train}", *SHAPES],
        "not made for images of 1x1x3",
    ),
    "one picture": (
        ["{root}/pixel.npz", "--write={root}/x.npz", "--extractor=pixels", "--metrics", "frechet"],
        "needs 2 images or more; a set has 1",
    ),
    "statistics that are none": (["{train}", "{root}/odd.npz", *SHAPES], "valid is (n,) and"),
    "too many samples": (["{train}", "{test}", *SHAPES, "--samples=99"], "has 60 pictures"),
    "weights that are not there": (
        ["{train}", "{test}", "--weights=nowhere.pth"],
        "pt_inception-2015-12-05-6726825d.pth",
    ),
    "no weights": (["{train}", "{test}"], "fetch https://github.com/mseitzer/pytorch-fid"),
    "no such preprocessing": (["{train}", "{test}", "--preprocessing=x"], "tf, torch, clean"),
    "an array of something else": (["{root}/other.npz", "{test}", *SHAPES], "has no pictures"),
    "a file that is no array": (["{train}", "{root}/broken.npz", *SHAPES], "no whole .npz"),
    "a picture as a set": (["{train}", "{root}/train_flat/000.png", *SHAPES], "neither a folder"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_one_line(capsys, sets, name, monkeypatch, tmp_path):
    monkeypatch.setenv("GAXN_CACHE", str(tmp_path))
    np.savez(sets / "other.npz", x=np.zeros(3))
    np.savez(sets / "pixel.npz", images=np.zeros((1, 1, 1, 3), np.uint8))
    np.savez(sets / "odd.npz", mu=np.zeros(3), sigma=np.eye(4))
    if not (sets / "link.npz").exists():
        (sets / "link.npz").symlink_to(sets / "train.npz")
    (sets / "broken.npz").write_bytes(b"PK\x03\x04 cut")
    before = {path: path.stat().st_mtime_ns for path in sets.glob("*.npz")}
    argv, part = WRONG[name]
    places = {"root": sets, "train": sets / "train", "test": sets / "test"}
    assert part in _refused(capsys, *(word.format(**places) for word in argv))
    assert before == {path: path.stat().st_mtime_ns for path in sets.glob("*.npz")}


def test_the_floor_is_that_of_more_real_images(capsys, sets, tmp_path):
    metrics = "--metrics", "frechet", "kid"
    out = tmp_path / "link.json"
    out.symlink_to(tmp_path / "found.json")
    argv = [sets / "train", sets / "test", *SHAPES, *metrics]
    assert (
        main(["evaluate", *map(str, argv), "--floor", str(sets / "test.npz"), f"--json={out}"]) == 0
    )
    assert "(floor 0" in capsys.readouterr().out
    document = json.loads((tmp_path / "found.json").read_text())
    assert out.is_symlink()
    # The floor here is of B itself.
    assert document["figures"]["frechet_distance_floor"] < 1e-3
    assert document["protocol"]["floor"]["count"] == COUNT
    assert document["measured_by"]["versions"]["numpy"] == np.__version__


def test_grey_pictures_are_read_as_the_classifier_needs_them(capsys, tmp_path):
    for index in range(8):
        shade = np.full((28, 28, 3), 30 * index, np.uint8)
        Image.fromarray(shade).save(tmp_path / f"{index}.png")
    argv = tmp_path, tmp_path, "--extractor", "classifier", "--weights", "mnist"
    figures = _figures(capsys, *argv, "--metrics", "frechet")
    assert figures["frechet_distance"] < 1e-6


def test_an_interruption_is_one_line(capsys, sets, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "observe", interrupted)
    argv = ["evaluate", str(sets / "train"), str(sets / "test"), *SHAPES]
    assert main(argv) == 130
    assert capsys.readouterr().err == "gaxn: interrupted; nothing was written\n"


def test_too_little_memory_is_one_line(capsys, sets, monkeypatch):
    def full(*_):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(measure, "observe", full)
    assert "not enough memory: Unable" in _refused(capsys, sets / "train", sets / "test", *SHAPES)


# Pictures in .npz files, as a data set too


def _npz(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_the_splits_of_an_array_share_nothing_and_make_the_whole(tmp_path):
    images = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 5, 1), np.uint8)
    path = _npz(tmp_path / "a.npz", arr_0=images, arr_1=np.eye(3)[np.arange(50) % 3])
    found = {}
    for split in npz.SPLITS:
        source = npz.Source(split, path, test_share=0.2)
        batch = reader(source)(np.arange(len(source)))
        found[split] = np.asarray(batch.images)[:, 0, 0, 0].tolist()
        np.testing.assert_array_equal(batch.labels, np.array(found[split]) % 3)
        assert source.image_shape == (4, 5, 1) and source.class_names == ("0", "1", "2")
        assert sum(source.counts.values()) == len(source)
    assert sorted(found["train"] + found["test"]) == found["all"] == list(range(50))
    assert len(found["test"]) == 10
    identities = {npz.Source(split, path).identity for split in ("train", "test")}
    assert len(identities) == 1
    assert "test_share" not in npz.Source("all", path).identity


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": np.zeros((3, 4, 4), np.uint8)},
        {"images": np.zeros((3, 4, 4, 3))},
        {"images": np.zeros((9, 4, 4, 3), np.uint8), "labels": np.zeros(8, int)},
        {"images": np.zeros((9, 4, 4, 3), np.uint8), "labels": np.full(9, -1)},
        {"images": np.zeros((9, 4, 4, 3), np.uint8), "labels": np.full(9, 0.5)},
        {"images": np.zeros((9, 4, 4, 3), np.uint8), "labels": np.full(9, 2**32)},
        {"images": np.array([object()], dtype=object)},
    ],
)
def test_arrays_that_are_no_pictures_are_refused(tmp_path, arrays):
    with pytest.raises(InputError, match=r"valid is an array|not one whole number|no whole .npz"):
        npz.Source("all", _npz(tmp_path / "a.npz", **arrays)).table  # noqa: B018


def test_the_batch_is_a_multiple_of_what_ms_ssim_pairs():
    from gaxn.metrics import ms_ssim

    assert measure.BATCH % ms_ssim.HUNDRED == 0
