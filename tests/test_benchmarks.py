"""Every benchmark runs in its smallest form, and prints every row that its full form prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} | {"race"}
HELPERS = {"__init__", "memory", "record", "timing"}

NUMBER = r"\d[\d,]*(?:\.\d+)?"

SIDES = [rf"{{}} +{NUMBER} +{NUMBER}", rf"{{}} / {{}}: {NUMBER} of the medians; by round {NUMBER},"]


def _rows_of_sides(*names):
    """Returns the rows of `timing.report`: one per side, and the ratio of each to the first."""
    row, ratio = SIDES
    return [row.format(name) for name in names] + [
        ratio.format(name, names[0]) for name in names[1:]
    ]


BRIEF = ["--rounds=1", "--steps=1"]

RUNS = {
    "race": (
        ["--tiny", "--rounds=1", "--seconds=0.1", "--sides=eager", "--rows", "DCGAN, MNIST"],
        [
            "load average .*",
            *(rf"  {side} +{NUMBER} +{NUMBER} .*" for side in ("gaxn", "eager")),
            rf"eager: geometric mean {NUMBER}, least .*",
        ],
    ),
    "population": (
        ["--config=configs/ring.py:gan+tiny", *BRIEF],
        _rows_of_sides("population of 2, 2 devices", "2 runs, 2 devices", "2 runs, 1 device"),
    ),
    "attention": (
        ["--batch=2", "--channels=8", "--block=8", "--sides", "4", "8", "--rounds=1", "--calls=1"],
        [rf" +{side} {way} +.*{NUMBER}" for side in (4, 8) for way in ("forward", "gradient")],
    ),
    "convolutions": (
        ["--batch=2", "--rounds=1", "--calls=1"],
        [
            rf"{layer} +{shape} +{way}( +{NUMBER}){{3}}"
            for layer, shapes in (
                ("double", ("4x4x256->8x8x128", "8x8x128->16x16x64", "16x16x64->32x32x32")),
                ("halve", ("8x8x128->4x4x256", "16x16x64->8x8x128", "32x32x32->16x16x64")),
                ("convolve", ("38x38x16->32x32x3", "38x38x3->32x32x16", "8x8x32->7x7x64")),
            )
            for shape in shapes
            for way in ("forward", "gradient", "second")
        ],
    ),
    "evaluation": (
        ["--images=2", "--features", "60", "--width=64", "--rounds=1"],
        [
            rf"inception, 2 images: gaxn {NUMBER} images/s, .*; ratio {NUMBER}",
            *(
                rf"{metric} +60 +gaxn +{NUMBER} s .* {side} +{NUMBER} s .*ratios: time {NUMBER}"
                for metric, side in (
                    ("frechet", "torch_fidelity"),
                    ("frechet_with_error", "torch_fidelity"),
                    ("kid", "torch_fidelity"),
                    ("kid_with_all_pairs", "torch_fidelity"),
                    ("prdc", "torch_fidelity"),
                    ("prdc", "prdc"),
                )
            ),
        ],
    ),
    "evaluation_memory": (
        ["200"],
        [rf" +200 +{metrics} +{NUMBER} s .* MB" for metrics in ("all", "streaming")],
    ),
    "input": (
        [
            *("--configs", "attn_cgan_shapes:tiny", "--step_ms", "20", "--seconds=0"),
            *(
                "--kinds",
                "shapes",
                "npz_flip",
                "folder",
                "jpeg_2",
                "zip",
                "--files=30",
                "--side=40",
            ),
        ],
        [
            rf"attn_cgan_shapes:tiny {kind} +{NUMBER} +(?:{NUMBER}|-) +20.0 .* {NUMBER}%"
            for kind in ("shapes", "npz_flip", "folder", "jpeg_2", "zip")
        ],
    ),
    "scaling": (
        ["--configs=cgan_fashion_mnist", "--tiny", "--devices", "1", "2", "--parallel=auto"],
        [
            *(rf"cgan_fashion_mnist:tiny +auto +{n} +{NUMBER} .*" for n in (1, 2)),
            rf"cgan_fashion_mnist:tiny +8 accel.*: {NUMBER} ms, {NUMBER}% +256 accel.*{NUMBER}%",
        ],
    ),
    "inception": (
        ["2"],
        [
            rf"{name} +{NUMBER} images/s"
            for name in ("gaxn, tf", "gaxn, torch", "gaxn, clean", "pytorch-fid")
        ],
    ),
}


def test_every_benchmark_has_a_smallest_form():
    assert RUNS.keys() == MODULES - HELPERS


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_benchmark_prints_its_rows(name):
    arguments, rows = RUNS[name]
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=600
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    for row in rows:
        assert any(re.fullmatch(f"{row}.*", line) for line in lines), (row, process.stdout)
