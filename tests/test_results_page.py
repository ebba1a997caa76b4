"""docs/results.md, and the table of results in README.md, are made from benchmarks/results."""

import copy
import functools
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

_spec = importlib.util.spec_from_file_location("write_results", ROOT / "docs" / "write_results.py")
write_results = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(write_results)

TEMPLATES = {page: (ROOT / "docs" / f"{page}.in.md").read_text() for page in write_results.PAGES}
README = (ROOT / "README.md").read_text()


def _results(records):
    return write_results.make_page("results", TEMPLATES["results"], records)


OTHER_DIGITS = str.maketrans("0123456789", "9876543210")


@pytest.fixture
def records():
    return write_results.read_records()


def _change(value):
    """Returns a record with another number in place of each, and other digits in its text."""
    if isinstance(value, dict):
        return {name: _change(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_change(item) for item in value]
    if value is None:
        return None
    return value.translate(OTHER_DIGITS) if isinstance(value, str) else 2 * value + 1


def _numbers(text):
    """Returns the numbers of all tables, but for those of heads and of the names of rows."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [line for line, after in zip(lines, [*lines[1:], ""], strict=True) if "---" not in after]
    cells = "\n".join(line.split("|", 2)[2] for line in rows)
    return re.findall(r"\d[\d,.]*", re.sub("`.+?`|F1", "", cells))


def test_page_and_readme_are_up_to_date(records):
    for page, template in TEMPLATES.items():
        text = (ROOT / "docs" / f"{page}.md").read_text()
        new = write_results.make_page(page, template, records)
        assert text == new, "run `python docs/write_results.py`"
    if write_results.START in README:
        new = write_results.insert_summary(README, records)
        assert new == README, "run `python docs/write_results.py`"


def test_every_number_of_a_table_is_from_a_record(records):
    changed = _change(records)
    makers = [functools.partial(write_results.make_page, *page) for page in TEMPLATES.items()]
    for make in (write_results.summary, *makers):
        numbers, new = _numbers(make(records)), _numbers(make(changed))
        assert len(numbers) > 20
        assert not [pair for pair in zip(numbers, new, strict=True) if pair[0] == pair[1]]
    assert not [page for page, template in TEMPLATES.items() if "|" in template]


def test_a_changed_figure_changes_the_rows_of_its_run(records):
    changed = copy.deepcopy(records)
    changed["dcgan_mnist"]["classifier"]["figures"]["frechet_distance_real"] = 98765.43
    before, after = (_results(each) for each in (records, changed))
    new = set(after.splitlines()) - set(before.splitlines())
    assert len(new) == 1 and "`dcgan_mnist.py`" in new.pop()
    assert "(98765.4)" in after
    assert "(98765.4)" in write_results.summary(changed)


@pytest.mark.parametrize(
    ("figures", "name", "text"),
    [
        (
            {"frechet_distance": 9.994, "frechet_distance_real": 10.04},
            "frechet_distance",
            "9.99 (10.0)",
        ),
        (
            {"frechet_distance": 76.45, "frechet_distance_error": 1.63},
            "frechet_distance",
            "76.5 +- 1.6",
        ),
        ({"recall": 0.5, "recall_error": 0.0126}, "recall", "0.500 +- 0.013"),
        ({"modes_quality": 0.201, "modes_quality_real": 0.986}, "modes_quality", "20.1% (98.6%)"),
        ({"mae_a2b": 0.03, "mae_a2b_mean_image": 0.1}, "mae_a2b", "0.0300 (0.1000)"),
        ({"recall_real": 0.5}, "recall", "-"),
    ],
)
def test_a_figure_stands_with_its_error_and_that_of_real_images(figures, name, text):
    assert write_results.format_figure(figures, name) == text


def test_the_summary_replaces_all_between_the_markers(records):
    readme = "a\n<!-- results -->\nold\n<!-- /results -->\nb\n"
    text = f"a\n<!-- results -->\n{write_results.summary(records)}\n<!-- /results -->\nb\n"
    assert write_results.insert_summary(readme, records) == text
    assert write_results.insert_summary(text, records) == text
    assert write_results.insert_summary("between `<!-- results -->` and it", records) is None


def test_the_command_says_that_the_markers_are_missing(tmp_path, capsys):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "results").symlink_to(ROOT / "benchmarks" / "results")
    (tmp_path / "docs").mkdir()
    for page, template in TEMPLATES.items():
        (tmp_path / "docs" / f"{page}.in.md").write_text(template)
    (tmp_path / "README.md").write_text("# gaxn\n")
    assert write_results.main(tmp_path) == 1
    assert "README.md has no lines <!-- results --> and" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "# gaxn\n"
    (tmp_path / "README.md").write_text("<!-- results -->\n<!-- /results -->\n")
    assert write_results.main(tmp_path) == 0
    assert "`dcgan_mnist.py`" in (tmp_path / "README.md").read_text()
    page = (tmp_path / "docs" / "results.md").read_text()
    assert page == (ROOT / "docs" / "results.md").read_text()


def test_no_record_has_a_name_of_version_0_1(records):
    assert not [name for name, record in records.items() if "floor" in str(record)]
    assert "kid" not in _results(records).lower()
