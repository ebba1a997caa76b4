"""Pictures of a run that goes on: its curves are redrawn, and cost little however long it is."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from gaxn.data import make_reader, shapes
from gaxn.evaluation import figures, run_evaluation
from gaxn.evaluation.report.pictures import cells
from gaxn.io import files
from gaxn.types import Measurement


@pytest.fixture
def drawn(monkeypatch):
    """The histories and panels of the curves that are drawn, which are black pixels."""
    calls = []

    def curves(history, panels):
        calls.append((history, list(panels)))
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(run_evaluation.plots, "curves", curves)
    return calls


def _write(workdir, count):
    lines = [{"step": 0, "diagnostics/diversity": 0.5}]
    lines += [{"step": step, "d/real": 1.0, "g/loss": 2.0} for step in range(1, count)]
    files.write_lines(workdir / "metrics.jsonl", lines)


@pytest.mark.parametrize(
    ("count", "stride"),
    [(2, 1), (2_000, 1), (2_001, 2), (9_999, 5)],
)
def test_a_long_history_is_thinned_and_ends_with_its_last_line(tmp_path, drawn, count, stride):
    _write(tmp_path, count)
    run_evaluation.draw_curves(tmp_path)
    ((history, panels),) = drawn
    steps = [line["step"] for line in history]
    assert steps == list(range(count))[::-1][::stride][::-1]
    assert panels == ["losses", "logits"]
    assert (tmp_path / "curves.png").exists() and not (tmp_path / "samples.gif").exists()


def test_the_curves_of_a_finished_run_have_all_lines(tmp_path, drawn):
    _write(tmp_path, 2_001)
    run_evaluation.draw_training(tmp_path)
    ((history, panels),) = drawn
    assert len(history) == 2_001 and panels == ["losses", "logits"]


def test_without_curves_nothing_is_drawn(tmp_path, drawn, caplog):
    _write(tmp_path, 1)
    run_evaluation.draw_curves(tmp_path)
    assert not drawn and not caplog.messages


def test_figures_of_interim_evaluations_are_drawn_with_them(tmp_path, drawn):
    _write(tmp_path, 2)
    part = {"figures": {"mae_a2b": 0.5}, "protocol": {}}
    lines = [{"step": step, "translation": part} for step in (2, 4)]
    files.write_lines(tmp_path / "evaluations.jsonl", lines)
    run_evaluation.draw_curves(tmp_path)
    assert [panels for _, panels in drawn] == [["losses", "logits"], ["translation/mae_a2b"]]
    assert (tmp_path / "evaluations.png").exists()


def test_a_picture_that_fails_is_a_warning(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise MemoryError("of a picture")

    monkeypatch.setattr(run_evaluation.plots, "curves", fail)
    _write(tmp_path, 2)
    run_evaluation.draw_curves(tmp_path)
    assert caplog.messages == [f"warning: {tmp_path / 'curves.png'} cannot be drawn (of a picture)"]


def _experiment(test, conditional, columns=3):
    """Returns what the picture of real images needs of an experiment."""
    settings = SimpleNamespace(conditional=conditional)
    return SimpleNamespace(
        test_source=test, settings=settings, run=SimpleNamespace(sample_columns=columns)
    )


def _cells(path, rows, columns):
    return cells(files.read_png(path), rows, columns)[:, :, ::2, ::2]


def test_real_images_are_drawn_once_a_row_per_class(tmp_path):
    test = shapes.Source("test", size=32)
    run_evaluation.draw_real(_experiment(test, conditional=True), tmp_path)
    path = tmp_path / "samples" / "real.png"
    grid = _cells(path, rows=3, columns=3)
    searched = np.random.RandomState(0).permutation(len(test))[:100]
    images, labels = jax.device_get(make_reader(test)(searched))
    by_image = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    for label, row in enumerate(grid):
        pixels = [image.tobytes() for image in row]
        assert [by_image[each] for each in pixels] == [label] * 3 and len(set(pixels)) == 3
    before = path.stat().st_mtime_ns
    run_evaluation.draw_real(_experiment(test, conditional=False), tmp_path)
    assert path.stat().st_mtime_ns == before


def test_real_images_without_classes_are_a_square(tmp_path):
    test = shapes.Source("test", size=32)
    run_evaluation.draw_real(_experiment(test, conditional=False), tmp_path)
    grid = _cells(tmp_path / "samples" / "real.png", rows=3, columns=3)
    assert len({image.tobytes() for row in grid for image in row}) == 9


def test_points_have_no_picture_of_real_images(tmp_path):
    run_evaluation.draw_real(_experiment(SimpleNamespace(image_shape=(2,)), False), tmp_path)
    assert not list(tmp_path.iterdir())


def test_singular_values_stand_beside_their_estimates():
    # One power iteration from (1, 1) for a kernel with the singular values 3 and 1.
    kernel = np.diag([3.0, 1.0]).astype(np.float32)
    layer, wrapper = "generator", "SpectralNorm_0"
    params = {layer: {"Dense_0": {"kernel": kernel}}}
    vectors = {layer: {"Dense_0": {wrapper: {"Dense_0/kernel/u": np.ones((1, 2), np.float32)}}}}
    part = _spectral_part(params, vectors)
    estimate = np.linalg.norm(kernel.T @ (kernel @ [1, 1])) / np.linalg.norm(kernel @ [1, 1])
    (name,) = part["tables"]["layers"]
    assert part["tables"]["estimates"] == [pytest.approx(estimate)]
    assert part["tables"]["exact"] == [pytest.approx(3.0)] and "Dense_0" in name
    assert part["figures"]["largest_error"] == pytest.approx(3 / estimate - 1)
    assert part["protocol"]["seed"] == 5


def _spectral_part(params, vectors):
    state = SimpleNamespace(params=params, collections={"spectral": vectors}, step=np.int32(7))
    experiment = SimpleNamespace(members=[SimpleNamespace(seed=5)])
    return run_evaluation.measure_spectral_norm(experiment, state)["spectral_norm"]


def test_without_spectral_norm_an_evaluation_has_no_part_of_it():
    state = SimpleNamespace(params={}, collections={}, step=np.int32(7))
    experiment = SimpleNamespace(members=[SimpleNamespace(seed=5)])
    assert run_evaluation.measure_spectral_norm(experiment, state) == {}


def test_arrays_of_an_evaluator_are_written_beside_its_pictures(tmp_path):
    run_evaluation._write_output(tmp_path / "a" / "b.png", {"x/y": np.arange(3)})
    run_evaluation._write_output(tmp_path / "a" / "c.png", np.zeros((2, 2, 3), np.uint8))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.npz", "c.png"]
    with np.load(tmp_path / "a" / "b.npz") as arrays:
        assert arrays["x/y"].tolist() == [0, 1, 2]


def test_a_mean_over_seeds_has_figures_whose_names_end_like_errors():
    """`largest_error` is a figure; `kid_error` is the error of one."""
    named = [
        {"largest_error": 0.1, "kid": 2.0, "kid_error": 9.0},
        {"largest_error": 0.3, "kid": 4.0},
    ]
    report = run_evaluation.mean_measurement(
        [Measurement({"seed": 0}, each, {}, {}) for each in named]
    )
    assert report.figures["largest_error"] == pytest.approx(0.2)
    assert report.figures["largest_error_error"] == pytest.approx(0.1)
    assert report.figures["kid"] == 3.0 and report.figures["kid_error"] == pytest.approx(1.0)


def test_a_run_and_a_population_are_measured_alike():
    single = {"seed": 3, "samples": 100}
    population = {**single, "seed": "0 to 3", "errors": "standard errors of the mean over 4 seeds"}
    assert figures.method(single) == figures.method(population)
    assert figures.method(single) != figures.method({**population, "samples": 50})
