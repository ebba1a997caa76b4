"""Generated images depend on their seed and label alone, in every form of output."""

import importlib
import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gaxn
from gaxn.data import npz
from gaxn.distributed import sharding
from gaxn.evaluation import generation, image_sets
from gaxn.features import ExtractorOutput, FeatureExtractor
from gaxn.main import main
from gaxn.types import InputError, Sampler

RUN = "attn_cgan_mnist"


@pytest.fixture(scope="module")
def run():
    return gaxn.load(RUN)


@pytest.fixture(scope="module")
def nine(run):
    """Images of the seeds 0 to 8, with the label seed % 10."""
    return run.sample(range(9))


def test_an_image_depends_on_its_seed_and_label_alone(run, nine):
    assert nine.shape == (9, 28, 28, 1) and nine.dtype == np.uint8
    np.testing.assert_array_equal(run.sample([7, 3, 7]), nine[[7, 3, 7]])
    np.testing.assert_array_equal(run.sample([5], labels=5), nine[5:6])
    np.testing.assert_array_equal(run.sample([4, 2], labels=["4", "2"]), nine[[4, 2]])
    many = run.sample(range(0, 200))
    np.testing.assert_array_equal(many[:9], nine)
    assert (run.sample([5], labels=6) != nine[5]).any()
    assert len({image.tobytes() for image in many}) == 200


def _write(run, output: Path, seeds, labels=None, class_folders=False) -> None:
    requests = generation.make_requests(seeds, labels, 10)
    generation.write(output, run._sampler(), requests, run.class_names, class_folders)


def test_a_folder_a_zip_and_an_npz_have_the_same_images(run, nine, tmp_path):
    seeds = [*range(6), 7]
    for name in ("folder", "images.zip", "images.npz"):
        _write(run, tmp_path / name, seeds)
    names = [f"{seed:06d}.png" for seed in seeds]
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == names
    with (
        zipfile.ZipFile(tmp_path / "images.zip") as archive,
        np.load(tmp_path / "images.npz") as arrays,
    ):
        assert archive.namelist() == names
        assert sorted(arrays) == ["arr_0", "labels"]
        assert arrays["labels"].tolist() == seeds and arrays["arr_0"].dtype == np.uint8
        for row, (seed, name) in enumerate(zip(seeds, names, strict=True)):
            content = (tmp_path / "folder" / name).read_bytes()
            assert archive.read(name) == content
            pixels = np.asarray(Image.open(io.BytesIO(content)))
            np.testing.assert_array_equal(pixels, nine[seed, ..., 0])
            np.testing.assert_array_equal(arrays["arr_0"][row], nine[seed])
    assert not list(tmp_path.glob(".*"))


def test_every_label_is_generated_for_every_seed(run, tmp_path):
    _write(run, tmp_path / "flat", [2, 0], [3, 1])
    _write(run, tmp_path / "classes", [2, 0], [3, 1], class_folders=True)
    names = ["000000_1.png", "000000_3.png", "000002_1.png", "000002_3.png"]
    assert sorted(path.name for path in (tmp_path / "flat").iterdir()) == names
    for name in names:
        seed, label = int(name[:6]), int(name[7])
        content = (tmp_path / "flat" / name).read_bytes()
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        np.testing.assert_array_equal(pixels, run.sample([seed], labels=label)[0, ..., 0])
        assert (tmp_path / "classes" / str(label) / name).read_bytes() == content


@pytest.mark.slow
def test_the_command_line_writes_the_same(run, tmp_path, capsys):
    flags = "--seeds=0,5", "--labels=3,1", "--truncation=0.5", "--class_folders"
    output = tmp_path / "set"
    assert main(["gaxn", "--mode=generate", f"--workdir={RUN}", f"--output={output}", *flags]) == 0
    assert capsys.readouterr().out == f"{output}: 4 images\n"
    images = run.sample([0, 0, 5, 5], labels=[1, 3, 1, 3], truncation=0.5)
    for name, image in zip(
        ("1/000000_1", "3/000000_3", "1/000005_1", "3/000005_3"), images, strict=True
    ):
        pixels = np.asarray(Image.open(output / f"{name}.png"))
        np.testing.assert_array_equal(pixels, image[..., 0])


@pytest.mark.slow
def test_truncation_bounds_the_latents(run, nine):
    latents = run.latents(range(50), truncation=0.5)
    assert np.abs(latents).max() <= 0.5 < np.abs(run.latents(range(50))).max()
    assert (run.sample(range(9), truncation=0.5) != nine).any()


def test_generated_images_stand_beside_real_ones(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 5, 5, 1), np.uint8)
    np.savez(tmp_path / "set.npz", images=pixels)
    source = npz.Source("all", str(tmp_path / "set.npz"))
    generation.write_real(tmp_path / "real", source, 30)
    paths = sorted((tmp_path / "real").iterdir())
    assert [path.name for path in paths] == [f"{index:06d}.png" for index in range(30)]
    images = {np.asarray(Image.open(path)).tobytes() for path in paths}
    assert images <= {image.tobytes() for image in pixels} and len(images) == 30
    with pytest.raises(InputError, match=r"--real must be 1 to 40, as the all split"):
        generation.check_real(source, 41)


def test_an_interrupted_folder_is_removed(tmp_path):
    """A part of the images looks like all of them, and the same command was refused."""

    def sample(seeds, labels):
        if seeds[0] > 0:
            raise KeyboardInterrupt
        return np.zeros((len(seeds), 4, 4, 1), np.uint8)

    count = 2 * sharding.rows_on_devices(generation.ROWS_PER_DEVICE)
    requests = generation.make_requests(np.arange(count), None, 0)
    sampler = Sampler(sample, None, None, {}, {})
    with pytest.raises(KeyboardInterrupt):
        generation.write(tmp_path / "out", sampler, requests)
    assert not (tmp_path / "out").exists()


def test_an_interruption_among_real_images_removes_both_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "write_real", _interrupt)
    command = ["gaxn", "--mode=generate", f"--workdir={RUN}", "--count=2", "--real=3"]
    assert main([*command, f"--output={tmp_path / 'out'}"]) == 130
    assert not (tmp_path / "out").exists()


def _interrupt(*_):
    raise KeyboardInterrupt


def test_captions_are_those_of_the_files_in_folders(tmp_path):
    captions, labels = ("a red disc", "a box"), np.array([0, 1])
    requests = generation.make_requests([3], None, 0)._replace(
        seeds=np.array([3, 3]), labels=labels, names_labels=True, captions=captions
    )
    sampler = Sampler(
        lambda seeds, labels: np.zeros((len(seeds), 4, 4, 1), np.uint8), None, None, {}, {}
    )
    generation.write(tmp_path / "out", sampler, requests, captions, class_folders=True)
    lines = (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()
    for line, caption in zip(map(json.loads, lines), captions, strict=True):
        assert line["text"] == caption and (tmp_path / "out" / line["file_name"]).is_file()


def test_seeds_and_labels_of_a_command_line():
    assert generation.parse_seeds("5").tolist() == [5]
    assert generation.parse_seeds("1,4, 10-12").tolist() == [1, 4, 10, 11, 12]
    assert generation.find_labels(["b", "0", 2], ["a", "b", "c"]) == [1, 0, 2]
    assert generation.find_labels(["0-1", "c"], ["a", "b", "c"]) == [0, 1, 2]
    # A class may be named like the number of another, or like a range.
    assert generation.find_labels(["1-2"], ["a", "1-2"]) == [1]
    assert generation.find_labels(["7", "3"], ["7", "3"]) == [0, 1]
    # A number is never a name.
    assert generation.find_labels([0, np.int64(1), 2], ["1", "2", "3"]) == [0, 1, 2]
    with pytest.raises(InputError, match="--seeds must be seeds of which each is there once"):
        generation.parse_seeds("0-3,2")
    requests = generation.make_requests([4, 9], [1, 0], 3)
    assert requests.seeds.tolist() == [4, 4, 9, 9] and requests.labels.tolist() == [1, 0, 1, 0]
    assert generation.make_requests([4, 9], None, 3).labels.tolist() == [1, 0]
    assert generation.make_requests([4, 9], None, 0).labels is None


BLOCK = 7
"""Side of the blocks over which features are means, in pixels: 16 blocks of an image."""


def _mean_blocks(images):
    """Returns the features of uint8 images [n, 28, 28, channels], float [n, 16], by any library."""
    side = 28 // BLOCK
    return images.reshape(len(images), side, BLOCK, side, BLOCK, -1).mean((2, 4, 5)).reshape(-1, 16)


@pytest.mark.slow
def test_torch_fidelity_and_pytorch_fid_read_the_folder_as_it_is(run, tmp_path):
    torch_fidelity = pytest.importorskip("torch_fidelity")
    torch = pytest.importorskip("torch")
    pytorch_fid = pytest.importorskip("pytorch_fid.fid_score")
    base = importlib.import_module("torch_fidelity.feature_extractor_base")

    class Blocks(base.FeatureExtractorBase):
        def __init__(self, name, features, **_):
            super().__init__(name, features)

        @staticmethod
        def get_provided_features_list():
            return ("blocks",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return "blocks"

        @staticmethod
        def can_be_compiled():
            return False

        def forward(self, images):
            return (_mean_blocks(images.permute(0, 2, 3, 1).double() / 127.5 - 1),)

    torch_fidelity.register_feature_extractor("gaxn_blocks", Blocks)
    folders = [tmp_path / name for name in "ab"]
    for number, folder in enumerate(folders):
        _write(run, folder, np.arange(150) + 1_000 * number)
    theirs = torch_fidelity.calculate_metrics(
        input1=str(folders[0]),
        input2=str(folders[1]),
        fid=True,
        feature_extractor="gaxn_blocks",
        cuda=False,
        cache=False,
        verbose=False,
    )["frechet_inception_distance"]

    def apply(_, images):
        return ExtractorOutput(_mean_blocks(images / 127.5 - 1))

    extractor = FeatureExtractor(apply, {}, {"extractor": "means of blocks"})
    options = {"metrics": ("frechet",)}
    ours = image_sets.evaluate_sets(*map(str, folders), extractor, **options)["figures"]
    np.testing.assert_allclose(ours["frechet_distance"], theirs, rtol=1e-4)
    assert theirs > 0.01
    # pytorch-fid lists and reads the same files.
    files = sorted(
        path for end in pytorch_fid.IMAGE_EXTENSIONS for path in folders[0].glob(f"*.{end}")
    )
    dataset = pytorch_fid.ImagePathDataset(files, pytorch_fid.TF.ToTensor())
    pixels = torch.stack([dataset[row] for row in range(150)]).numpy() * 255
    expected = np.repeat(run.sample(range(150)).transpose(0, 3, 1, 2), 3, axis=1)
    np.testing.assert_array_equal(pixels.round().astype(np.uint8), expected)


WRONG = {
    "neither": ([], "--mode generate takes either --count or --seeds, got neither"),
    "both": (["--count=1", "--seeds=2"], "takes either --count or --seeds, got both"),
    "a negative count": (["--count=-1"], "--count must be 1 or more, got -1"),
    "no seeds": (["--seeds=x"], "--seeds must be whole numbers and ranges, such as 0-63"),
    "seeds that descend": (["--seeds=9-3"], "--seeds must be .* ascending .*got '9-3'"),
    "a large seed": (["--seeds=2147483648"], "--seeds must be .* at most 2147483647"),
    "a label that is no class": (["--count=1", "--labels=12"], "a label must be 0 to 9, .*'12'"),
    "a truncation": (["--count=1", "--truncation=-1"], "truncation must be above 0"),
    "an option": (["--count=1", "--size=3"], "--size is unknown; --mode generate takes --output"),
    "a full folder": (["--count=1", "--output={full}"], "--output must be a path where nothing"),
    "a file": (["--count=1", "--output={full}/a.npz"], "--output must be a path where"),
    "a picture": (["--count=1", "--output={free}/b.png"], "--output must be the path of a folder"),
    "folders in an npz": (["--count=1", "--class_folders", "--output={free}/b.npz"], "left out"),
    "real ones in a zip": (["--count=1", "--real=2", "--output={free}/b.zip"], "a folder with"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_one_line_and_write_nothing(tmp_path, capsys, name):
    flags, message = WRONG[name]
    full = tmp_path / "full"
    full.mkdir()
    (full / "a.npz").write_bytes(b"mine")
    flags = [flag.format(full=full, free=tmp_path / "free") for flag in flags]
    config = Path(__file__).parents[2] / "configs" / "attn_cgan_shapes.py"
    needs_data = any(flag.startswith("--real") for flag in flags)
    argv = [f"--config={config}:tiny" if needs_data else f"--workdir={RUN}", *flags]
    if not any(flag.startswith("--output") for flag in flags):
        argv.append(f"--output={tmp_path / 'free'}")
    assert main(["gaxn", "--mode=generate", *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gaxn: ") and re.search(message, line)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert (full / "a.npz").read_bytes() == b"mine"


def test_a_shipped_run_is_no_directory_of_a_run(capsys):
    for mode in ("sample", "evaluate", "interpolate"):
        assert main(["gaxn", f"--mode={mode}", f"--workdir={RUN}"]) == 2
        expected = f"--workdir must be the directory of a run with --mode {mode}, got '{RUN}'"
        assert expected in capsys.readouterr().err
    assert not Path(RUN).exists()
