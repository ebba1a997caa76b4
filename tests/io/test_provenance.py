"""A run records how it came about: its command, its config file, and what differs from it."""

import shlex

import pytest

from gaxn.io import files, provenance

BEFORE = {
    "seed": 0,
    "generator": {"name": "dcgan.Generator", "widths": (8, 4)},
    "optimizers": {"generator": {"name": "adam", "learning_rate": 0.1}},
    "loss": {"name": "hinge", "margin": 1.0},
    "run": {"log_every": 50},
}


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "configs" / "shapes.py"
    path.parent.mkdir()
    path.write_text('"""A GAN of shapes, 32x32.\n\nMore on it.\n"""\n')
    return path


def test_fields_that_differ_are_in_the_command(config_file):
    schedule = {"name": "linear", "points": ((0.5, 0.1), (1.0, 0.0))}
    after = {
        **BEFORE,
        "seed": 1,
        "generator": {"name": "dcgan.Generator", "widths": (16, 8)},
        "optimizers": {"generator": {"name": "adam", "learning_rate": schedule}},
        "loss": {"name": "logistic"},
        "run": {"log_every": 50, "stuck_after": 60.0},
    }
    record = provenance.origin("shapes", "tiny+a", config_file, BEFORE, after)
    assert record["sentence"] == "A GAN of shapes, 32x32."
    assert record["overridden"] == {
        "seed": 0,
        "generator.widths": (8, 4),
        "optimizers.generator.learning_rate": 0.1,
        "loss": {"name": "hinge", "margin": 1.0},
        "run.stuck_after": None,
    }
    assert shlex.split(record["command"]) == [
        *("gaxn", "--config", "configs/shapes.py:tiny+a", "--config.seed=1"),
        "--config.generator.widths=(16, 8)",
        f"--config.optimizers.generator.learning_rate={schedule}",
        "--config.loss={'name': 'logistic'}",
        "--config.run.stuck_after=60.0",
    ]


def test_text_is_given_as_it_is_and_equal_configs_differ_in_nothing(config_file):
    record = provenance.origin("a", "", config_file, {"path": ""}, {"path": "a b"})
    assert record["command"] == "gaxn --config configs/shapes.py '--config.path=a b'"
    assert provenance.origin("a", "", config_file, BEFORE, BEFORE)["overridden"] == {}


@pytest.mark.parametrize(("place", "written"), [("my/a.py", "my/a.py"), ("/home/a.py", "a.py")])
def test_folders_of_this_machine_are_left_out(tmp_path, place, written):
    (tmp_path / "a.py").write_text("x = 1\n")
    record = provenance.origin(place, "", tmp_path / "a.py", {}, {})
    assert record == {"command": f"gaxn --config {written}", "sentence": "", "overridden": {}}


def test_a_resumed_run_keeps_the_time_of_its_start(tmp_path):
    first = provenance.started(tmp_path)
    assert first.endswith("+00:00")
    files.write_json(tmp_path / "config.json", {"started": "2020-01-01T00:00:00+00:00"})
    assert provenance.started(tmp_path) == "2020-01-01T00:00:00+00:00"
    (tmp_path / "config.json").write_text("damaged")
    assert provenance.started(tmp_path) >= first
