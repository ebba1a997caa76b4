"""`python -m gaxn.evaluation` gives figures of sets from anywhere, and mistakes in one line."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from gaxn.data import make_reader, shapes
from gaxn.evaluation import scoring
from gaxn.evaluation.__main__ import main
from gaxn.metrics import ms_ssim

COUNT = 60
SHAPES = ("--features", "classifier", "--weights", "shapes")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A directory with two sets, each as class folders, flat folder and .npz; one as .zip too."""
    root = tmp_path_factory.mktemp("sets")
    for split in ("train", "test"):
        source = shapes.Source(split=split, examples=500)
        images, labels = (np.asarray(leaf) for leaf in make_reader(source)(np.arange(COUNT)))
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            for folder in (root / split / source.class_names[label], root / f"{split}_flat"):
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / f"{index:03d}.png")
        np.savez(root / f"{split}.npz", images=images, labels=labels)
    shutil.make_archive(str(root / "zipped"), "zip", root / "train_flat")
    return root


def _figures(capsys, *argv):
    assert main(["gaxn.evaluation", *map(str, argv)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines[2:] if not line.startswith(" ")]
    return {name: float(value) for name, value, *_ in rows}


def _refused(capsys, *argv):
    assert main(["gaxn.evaluation", *map(str, argv)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gaxn: ") and "Traceback" not in line
    return line


def test_the_same_pictures_give_the_same_figures_in_every_format(capsys, sets):
    metrics = "--metrics", "frechet", "sliced_wasserstein"
    # The fold of a picture, so also the error of the distance, depends on its index.
    by_folder = _figures(capsys, sets / "train", sets / "test", *SHAPES, *metrics)
    for a, b in (("train.npz", "test.npz"), ("zipped.zip", "test_flat"), ("train", "test.npz")):
        figures = _figures(capsys, sets / a, sets / b, *SHAPES, *metrics)
        for name in ("frechet_distance", "sliced_wasserstein"):
            np.testing.assert_allclose(figures[name], by_folder[name], rtol=1e-4)


def test_gray_arrays_are_compared_with_gray_pictures_of_a_folder(capsys, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 1), np.uint8)
    np.savez(tmp_path / "set.npz", arr_0=images)
    (tmp_path / "set").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(tmp_path / "set" / f"{index:02d}.png")
    pixels = "--features", "pixels", "--metrics", "frechet"
    for a, b in (("set", "set.npz"), ("set.npz", "set")):
        assert abs(_figures(capsys, tmp_path / a, tmp_path / b, *pixels)["frechet_distance"]) < 1e-6


def test_kid_is_not_computed_from_features_of_any_size(capsys, sets):
    argv = sets / "train", sets / "test", *SHAPES
    message = _refused(capsys, *argv, "--metrics", "kid")
    assert message.startswith("gaxn: metric kid takes features of the order of 1; with this")
    assert "kid" not in _figures(capsys, *argv)
    pixels = sets / "train", sets / "test", "--features", "pixels", "--metrics", "kid"
    assert _figures(capsys, *pixels).keys() == {"kid", "kid_unbiased"}


def test_a_reference_batch_with_other_statistics_counts_as_images(capsys, sets, tmp_path):
    """ADM's reference batches have `arr_0` beside `mu` and `sigma` of Inception's features."""
    with np.load(sets / "train.npz") as file:
        statistics = {"mu": np.zeros(3), "sigma": np.eye(3), "mu_s": np.zeros(2)}
        np.savez(tmp_path / "batch.npz", arr_0=file["images"], **statistics)
    figures = _figures(capsys, tmp_path / "batch.npz", tmp_path / "batch.npz", *SHAPES)
    assert figures["frechet_distance"] < 1e-9 and figures["precision"] == figures["recall"] == 1


def test_labels_are_those_of_the_extractors_classes(capsys, sets):
    argv = sets / "train", sets / "test", *SHAPES, "--metrics", "confusion"
    assert _figures(capsys, *argv)["conditional_accuracy"] > 0.95


def test_labels_without_names_are_left_out(capsys, sets):
    figures = _figures(capsys, sets / "train.npz", sets / "test", *SHAPES)
    assert "conditional_accuracy" not in figures and "frechet_distance" in figures


def test_the_protocol_is_printed_and_written(capsys, sets, tmp_path):
    out = tmp_path / "document.json"
    argv = ["gaxn.evaluation", str(sets / "train"), str(sets / "test"), *SHAPES, "--json", str(out)]
    assert main([*argv, "--samples", "40"]) == 0
    printed = capsys.readouterr().out
    document = json.loads(out.read_text())
    protocol = document["protocol"]
    assert protocol["samples"] == 40 and protocol["reference"]["count"] == 40
    assert protocol["set"]["formats"] == {".png": COUNT} and len(protocol["sha256"]) == 64
    assert f'sha256: "{protocol["sha256"]}"' in printed
    assert document["timing"]["images_per_second"] > 0


def test_what_was_decided_about_folders_is_printed_and_can_be_said_otherwise(capsys, tmp_path):
    for number, name in enumerate(("train/a", "train/b", "test/a", "test/b", "notes")):
        (tmp_path / "set" / name).mkdir(parents=True)
        shade = np.full((4, 4, 3), 40 * number, np.uint8)
        Image.fromarray(shade).save(tmp_path / "set" / name / "0.png")
    argv = ["gaxn.evaluation", str(tmp_path / "set"), "--features", "pixels"]
    written = ["--write", str(tmp_path / "set.npz"), "--metrics", "frechet"]
    line = _refused(capsys, *argv[1:], *written)
    assert "split_by must be folders" in line and "notes is beside them" in line
    assert main([*argv, *written, "--split_by", "folders"]) == 0
    first, *notes = capsys.readouterr().out.splitlines()
    assert first.endswith("set.npz: 4 images, frechet")
    assert notes == ["  the splits are the folders train and test", "  notes is left out (1 image)"]
    shutil.rmtree(tmp_path / "set" / "notes")
    out = tmp_path / "out.json"
    argv.insert(1, argv[1])
    assert main([*argv, "--metrics", "frechet", "--json", str(out)]) == 0
    facts = json.loads(out.read_text())["protocol"]["set"]
    assert facts["count"] == 4
    assert facts["notes"] == ["the splits are the folders train and test"]


def test_statistics_replace_the_set_that_they_were_written_from(capsys, sets, tmp_path):
    metrics = "--metrics", "frechet", "precision_recall"
    path = tmp_path / "reference.npz"
    direct = _figures(capsys, sets / "train", sets / "test", *SHAPES, *metrics)
    assert (
        main(["gaxn.evaluation", str(sets / "test"), "--write", str(path), *SHAPES, *metrics]) == 0
    )
    capsys.readouterr()
    for chosen in (metrics, ()):
        figures = _figures(capsys, sets / "train", path, *SHAPES, *chosen)
        assert direct.items() <= figures.items()
    line = _refused(capsys, sets / "train", path, *SHAPES, "--metrics", "ms_ssim")
    assert "metric ms_ssim needs ms_ssim of images, which the reference does not have" in line
    line = _refused(capsys, sets / "train", path, "--features", "pixels")
    assert "was measured with extractor" in line


def test_pictures_are_resized_only_by_request(capsys, sets, tmp_path):
    odd = tmp_path / "odd"
    odd.mkdir()
    for index, size in enumerate([(20, 20), (20, 20), (24, 20)]):
        Image.new("RGB", size).save(odd / f"{index}.png")
    line = _refused(capsys, odd, odd, "--features", "pixels", "--metrics", "frechet")
    assert "has 24x20 pixels, others have 20x20" in line
    argv = odd, odd, "--features", "pixels", "--metrics", "frechet", "--size", "8"
    assert "frechet_distance" in _figures(capsys, *argv)


WRONG = {
    "one set": (["{train}"], "the number of sets must be 2 without --write, got 1"),
    "no set": ([], "required: SET"),
    "a missing path": (["{train}", "{root}/nowhere", *SHAPES], "there is no"),
    "an unknown flag": (["{train}", "{test}", "--featurs=x"], "--featurs=x"),
    "unknown features": (["{train}", "{test}", "--features=vggg"], "inception"),
    "an unknown metric": (["{train}", "{test}", *SHAPES, "--metrics", "fid"], "frechet"),
    "a metric that does not apply": (
        ["{train}", "{test}", "--features=pixels", "--metrics", "inception_score"],
        "takes logits",
    ),
    "weights of pixels": (
        ["{train}", "{test}", "--features=pixels", "--weights=x"],
        "the extractor pixels takes no options",
    ),
    "a classifier without weights": (
        ["{train}", "{test}", "--features=classifier"],
        "must be fashion-mnist, mnist, shapes",
    ),
    "statistics without an ending": (
        ["{train}", "--write={root}/x", *SHAPES],
        "--write must be a path that ends in .npz, got",
    ),
    "a set as a target": (
        ["{train}.npz", "--write={train}.npz", *SHAPES],
        "another path than that of a set",
    ),
    "a set as a target through a link": (
        ["{train}.npz", "{test}", "--json={root}/link.npz", *SHAPES],
        "another path than that of a set",
    ),
    "a directory as a target": (["{train}", "{test}", "--json={root}", *SHAPES], "path of a file"),
    "no target": (
        ["{train}", "{test}", "--json=", *SHAPES],
        "--json must be the path of a file, got ''",
    ),
    "a device as a target": (["{train}", "{test}", "--json=/dev/null", *SHAPES], "path of a file"),
    "two targets": (
        ["{train}", "--write={root}/x.npz", "--json={root}/x.json", *SHAPES],
        "left out with --write",
    ),
    "pictures of another size": (
        ["{train}", "{root}/pixel.npz", "--features=pixels"],
        "equally many features per image, got 3 and 3,072",
    ),
    "pictures too small for the extractor": (
        ["{root}/pixel.npz", "{train}", *SHAPES],
        "not made for images of 1x1x3",
    ),
    "one picture": (
        ["{root}/pixel.npz", "--write={root}/x.npz", "--features=pixels", "--metrics", "frechet"],
        "metric frechet needs 2 images or more, got 1",
    ),
    "damaged statistics": (
        ["{train}", "{root}/odd.npz", *SHAPES],
        "odd.npz: not a file of statistics: mu and sigma must have the shapes (n,) and (n, n)",
    ),
    "too many samples": (
        ["{train}", "{test}", *SHAPES, "--samples=99"],
        "samples must be 60 or fewer",
    ),
    "missing weights": (
        ["{train}", "{test}", "--weights=nowhere.pth"],
        "pt_inception-2015-12-05-6726825d.pth",
    ),
    "no weights": (["{train}", "{test}"], "fetch https://github.com/mseitzer/pytorch-fid"),
    "an unknown preprocessing": (["{train}", "{test}", "--preprocessing=x"], "tf, torch, clean"),
    "an array of something else": (
        ["{root}/other.npz", "{test}", *SHAPES],
        "must contain an array images",
    ),
    "a damaged array": (["{train}", "{root}/broken.npz", *SHAPES], "must be a complete .npz"),
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


def test_real_images_of_other_classes_are_compared_without_classes(capsys, sets, tmp_path):
    other = shutil.copytree(sets / "test", tmp_path / "other")
    min(other.iterdir()).rename(other / "zebra")
    argv = [sets / "train", sets / "test", *SHAPES, "--real"]
    assert "intra_frechet_distance" in _figures(capsys, *argv, sets / "test")
    figures = _figures(capsys, *argv, other)
    assert "frechet_distance" in figures and "intra_frechet_distance" not in figures


def test_figures_of_more_real_images_are_beside_those_of_the_set(capsys, sets, tmp_path):
    metrics = "--metrics", "frechet", "precision_recall"
    out = tmp_path / "link.json"
    out.symlink_to(tmp_path / "document.json")
    argv = [sets / "train", sets / "test", *SHAPES, *metrics, "--real", sets / "test.npz"]
    assert main(["gaxn.evaluation", *map(str, argv), f"--json={out}"]) == 0
    assert re.search(r"(?m)^figure +value .* of real images$", capsys.readouterr().out)
    document = json.loads((tmp_path / "document.json").read_text())
    assert out.is_symlink()
    # The second set of real images is B itself.
    assert document["figures"]["frechet_distance_real"] < 1e-3
    assert document["protocol"]["real"]["count"] == COUNT
    assert document["measured_by"]["versions"]["numpy"] == np.__version__


def test_the_classifier_gets_gray_pictures(capsys, tmp_path):
    for index in range(8):
        shade = np.full((28, 28, 3), 30 * index, np.uint8)
        Image.fromarray(shade).save(tmp_path / f"{index}.png")
    argv = tmp_path, tmp_path, "--features", "classifier", "--weights", "mnist"
    figures = _figures(capsys, *argv, "--metrics", "frechet")
    assert figures["frechet_distance"] < 1e-6


def test_an_interruption_is_one_line(capsys, sets, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "collect", interrupted)
    argv = ["gaxn.evaluation", str(sets / "train"), str(sets / "test"), *SHAPES]
    assert main(argv) == 130
    assert capsys.readouterr().err == "gaxn: interrupted; nothing was written\n"


def test_too_little_memory_is_one_line(capsys, sets, monkeypatch):
    def full(*_):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(scoring, "collect", full)
    assert "not enough memory: Unable" in _refused(capsys, sets / "train", sets / "test", *SHAPES)


def test_the_batch_is_a_multiple_of_the_blocks_of_ms_ssim():
    assert scoring.BATCH % ms_ssim.PAIRING_BLOCK == 0
