"""The page of a report in a real browser, by the effects of each of its controls."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import jinja2
import numpy as np
import page_data
import pytest

REPORT = Path(__file__).parents[3] / "gaxn" / "evaluation" / "report"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
HOSTILE = page_data.HOSTILE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or importlib.util.find_spec("playwright") is None,
        reason="needs a browser and playwright: apt-get install chromium, pip install playwright",
    ),
]

SECTIONS = [
    *("curves", "samples", "classes", "translation", "attention", "interpolations", "nearest"),
    *("singular-values", "population", "config", "protocols"),
]

CONTRASTS = """
() => {
  const number = (text) => Number(text);
  const color = (text) => {
    const values = text.match(/[-+.\\de]+/g).map(number);
    const scale = text.startsWith("color(srgb") ? 1 : 255;
    return [...values.slice(0, 3).map((value) => value / scale), values[3] ?? 1];
  };
  const light = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const background = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const value = color(getComputedStyle(each).backgroundColor);
      if (value[3] === 1) return value;
      if (value[3] > 0) throw new Error(`a half transparent background of ${each.tagName}`);
    }
    throw new Error("no background");
  };
  const rows = [];
  for (const node of document.querySelectorAll("body *")) {
    const words = [...node.childNodes].some((child) =>
      child.nodeType === Node.TEXT_NODE && child.textContent.trim());
    if (!words || !node.checkVisibility() || node.closest("script, option, :disabled")) continue;
    const style = getComputedStyle(node);
    const text = node instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [luminance(color(text)), luminance(background(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    rows.push([ratio, `${node.tagName} ${node.textContent.slice(0, 30)}`]);
  }
  return rows;
}
"""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # In a container, root has no sandbox.
        instance = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield instance
        instance.close()


@pytest.fixture
def show(browser, tmp_path):
    """A function from data to its page; at the end, no page may have used the network or failed."""
    template = jinja2.Environment(loader=jinja2.FileSystemLoader(REPORT), autoescape=True)
    files = {"css": "page.css", "script": "page.js"}
    parts = {name: (REPORT / file).read_text() for name, file in files.items()}
    path = tmp_path / "report.html"
    problems, contexts = [], []

    def open_page(data, title="attn_cgan_shapes", width=1_400, clock=False, **options):
        text = template.get_template("page.html.j2").render(title=title, data=data, **parts)
        path.write_text(text)
        options = {"color_scheme": "light", "viewport": {"width": width, "height": 900}} | options
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        if clock:
            page.clock.install()
        network = context.new_cdp_session(page)
        network.send("Network.enable")
        network.on("Network.requestWillBeSent", lambda event: check(event["request"]["url"]))
        page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri())
        return page

    def check(url):
        if not url.startswith("data:") and url.partition("#")[0] != path.as_uri():
            problems.append(f"request: {url}")

    open_page.problems = problems
    yield open_page
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture(scope="module")
def run():
    return page_data.make_run()


@pytest.fixture(scope="module")
def comparison():
    return page_data.make_comparison()


def _with(report, **parts):
    """Returns a report whose only run has some parts replaced."""
    return report | {"runs": [report["runs"][0] | parts]}


def _panel(steps, **series):
    lines = [{"name": name, "steps": steps, "values": values} for name, values in series.items()]
    return {"title": "Losses", "unit": "", "series": lines, "log": False}


def _points(path):
    """Returns the points of an SVG path, [points, 2]."""
    return np.array(re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path.get_attribute("d")), float)


def _ticks(chart):
    """Returns the texts of the x axis of a chart."""
    return chart.locator("svg text:not([text-anchor=end])").all_text_contents()


def _pixel(canvas, x, y):
    """Returns the color at a place of a canvas, given in shares of its sides."""
    script = """(node, [x, y]) => {
        const copy = new OffscreenCanvas(node.width, node.height).getContext("2d");
        copy.drawImage(node, 0, 0);
        return [...copy.getImageData(
            Math.floor(x * node.width), Math.floor(y * node.height), 1, 1).data];
    }"""
    return np.array(canvas.evaluate(script, [x, y]))


def _drag(page, locator, start, end):
    """Drags the pointer over an element, from and to shares of its width."""
    locator.scroll_into_view_if_needed()
    box = locator.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * start, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (start + end) / 2, y)
    page.mouse.move(box["x"] + box["width"] * end, y)
    page.mouse.up()


def _overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def test_every_part_of_a_run_has_its_section_and_its_link(show, run):
    page = show(run)
    assert page.locator("section").evaluate_all("nodes => nodes.map((n) => n.id)") == SECTIONS
    links = page.locator("nav a").evaluate_all("nodes => nodes.map((n) => n.hash)")
    assert links == [f"#{name}" for name in SECTIONS]
    head = page.locator("header").inner_text()
    for text in (
        *("attn_cgan_shapes", "A conditional GAN draws", "Training", "231.4 images/s"),
        *("2 min left", "step 7,000 of 8,000", "1.34 ± 0.22", "0.7535", "2026-07-24 10:11 UTC"),
        *("--config.seed=0", "f92a9c4", "Samples at step 7,000, the best of the run"),
    ):
        assert text in head
    best = run["runs"][0]["samples"]["grids"][7]["image"]["src"]
    assert page.locator(".best img").get_attribute("src") == run["images"][best[1:]]


def test_data_may_be_text_of_json(show, run):
    page = show(json.dumps(_with(run, sentence=HOSTILE)))
    assert HOSTILE.replace("\u2028", " ") in page.locator("header").inner_text().replace(
        "\u2028", " "
    )


def test_a_run_that_failed_at_once_shows_its_line_and_nothing_empty(show):
    page = show(page_data.make_empty())
    assert "config.seed must be an integer" in page.locator(".message").inner_text()
    assert page.locator(".state.failed").inner_text().startswith("Failed")
    assert page.locator("section, nav, table, img, dl, .command").count() == 0


def test_the_command_is_copied(show, run):
    page = show(run, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == run["runs"][0]["command"]


def test_hover_shows_the_values_of_all_series_at_a_step(show, run):
    page = show(run)
    chart = page.locator(".chart").first
    assert chart.locator(".tip").is_hidden()
    chart.locator("svg").first.hover()
    text = chart.locator(".tip").inner_text()
    step = int(re.match(r"step ([\d,]+)", text)[1].replace(",", ""))
    index = page_data.STEPS.index(step)
    for series in run["runs"][0]["curves"][0]["series"]:
        value = re.search(rf"{series['name']}\s+([-\d.]+)", text)[1]
        assert float(value) == pytest.approx(series["values"][index], rel=1e-3)
    # The cursor is at the same step in all charts.
    assert page.locator(".chart .cursor").count() == len(run["runs"][0]["curves"])
    page.locator("h1").hover()
    assert chart.locator(".tip").is_hidden()


def test_arrow_keys_move_the_cursor_by_a_step(show, run):
    page = show(run)
    chart = page.locator(".chart").first
    chart.locator("svg").first.focus()
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert chart.locator(".tip").inner_text().startswith("step 150\n")
    page.keyboard.press("End")
    assert chart.locator(".tip").inner_text().startswith("step 8,000\n")


def test_dragging_zooms_all_charts_and_a_double_click_shows_all(show, run):
    page = show(run)
    charts = page.locator(".chart")
    before = _ticks(charts.nth(1))
    _drag(page, charts.first.locator("svg").first, 0.4, 0.6)
    left, right = (float(page.locator(f"#zoom-{end}").input_value()) for end in ("from", "to"))
    assert 2_000 < left < 3_500 < 4_000 < right < 5_500
    assert _ticks(charts.nth(1)) != before
    assert page.locator("#zoom-reset").is_enabled()
    charts.nth(1).locator("svg").first.dblclick()
    assert _ticks(charts.nth(1)) == before
    page.locator("#zoom-from").fill("1000")
    page.locator("#zoom-from").press("Enter")
    assert _ticks(charts.nth(1)) != before
    page.locator("#zoom-reset").click()
    assert _ticks(charts.nth(1)) == before


def test_the_logarithm_makes_equal_ratios_equal_distances(show, run):
    page = show(_with(run, curves=[_panel([0, 5, 10], loss=[1, 10, 100])], warnings=[]))
    line = page.locator(".chart .line").first

    def rises():
        y = _points(line)[:, 1]
        return y[0] - y[1], y[1] - y[2]

    first, second = rises()
    assert second / first == pytest.approx(10, rel=0.05)
    page.get_by_label("Logarithmic", exact=True).check()
    first, second = rises()
    assert second / first == pytest.approx(1, rel=0.02)
    assert page.get_by_label("Logarithmic: Losses").inner_text() == "log"
    page.get_by_label("Logarithmic: Losses").click()
    assert not page.get_by_label("Logarithmic", exact=True).is_checked()


def test_values_without_a_logarithm_are_counted_or_keep_the_scale_linear(show, run):
    panels = [_panel([0, 1, 2], a=[1, -2, 3]), _panel([0, 1], a=[-1, -2]) | {"title": "Negative"}]
    page = show(_with(run, curves=panels, warnings=[]))
    page.get_by_label("Logarithmic", exact=True).check()
    charts = page.locator(".chart")
    assert "1 values of zero or less" in charts.nth(0).locator("figcaption").inner_text()
    assert "stays linear" in charts.nth(1).locator("figcaption").inner_text()
    assert len(_points(charts.nth(1).locator(".line"))) == 2


def test_smoothing_is_a_moving_average_and_keeps_the_curve_faint(show, run):
    page = show(_with(run, curves=[_panel([0, 1, 2], loss=[1, 0, None])], warnings=[]))
    assert page.locator(".chart .line.smooth").count() == 0
    page.get_by_label("Smoothed").check()
    page.get_by_label("Weight of the moving average").fill("0.5")
    raw = _points(page.locator(".chart .line.faint"))[:, 1]
    smooth = _points(page.locator(".chart .line.smooth"))[:, 1]
    # Without bias: (1, (0.25 * 1 + 0.5 * 0) / 0.75).
    expected = [raw[0], raw[1] + (raw[0] - raw[1]) / 3]
    np.testing.assert_allclose(smooth, expected, atol=0.11)


def test_long_curves_keep_their_extremes(show, run):
    values = [0.0] * 50_000
    values[31_234] = 7.0
    page = show(_with(run, curves=[_panel(list(range(50_000)), loss=values)], warnings=[]))
    points = _points(page.locator(".chart .line"))
    assert len(points) < 3_000
    assert points[:, 1].min() < 30 < 150 < points[:, 1].max()


def test_missing_values_are_gaps_and_single_ones_dots(show, run):
    page = show(_with(run, curves=[_panel([0, 1, 2, 3], loss=[1, None, 2, 3])], warnings=[]))
    path = page.locator(".chart .line").get_attribute("d")
    assert path.count("M") == 2 and path.count("L") == 1


def test_the_legend_switches_a_series(show, run):
    page = show(run)
    chart = page.locator(".chart").first
    assert chart.locator(".line").count() == 2
    chart.get_by_role("button", name="g/loss").click()
    assert chart.locator(".line").count() == 1
    assert chart.locator('.legend [aria-pressed="false"]').inner_text().startswith("g/loss")
    chart.get_by_role("button", name="g/loss").click()
    assert chart.locator(".line").count() == 2


def test_bands_enclose_their_curve(show, run):
    page = show(run)
    chart = page.locator(".chart").nth(2)
    band, line = _points(chart.locator(".band")), _points(chart.locator(".line"))
    assert len(band) == 2 * len(page_data.STEPS)
    high, low = band[: len(band) // 2], band[len(band) // 2 :][::-1]
    assert (high[:, 1] < low[:, 1]).all()
    assert high[:, 1].min() < line[:, 1].min() and low[:, 1].max() > line[:, 1].max()


def test_warnings_are_marked_in_every_chart_and_shown_on_focus(show, run):
    page = show(run)
    charts = page.locator(".chart")
    for index in range(charts.count()):
        assert charts.nth(index).locator(".mark").count() == 2
    mark = charts.first.locator(".mark").first
    mark.focus()
    assert "step 1,500: samples are almost identical" in charts.first.locator(".tip").inner_text()
    charts.nth(1).locator(".mark rect").nth(1).hover()
    assert "above 100" in charts.nth(1).locator(".tip").inner_text()
    assert page.locator(".warnings li").count() == 2


def test_the_slider_shows_the_grid_of_a_step(show, run):
    page = show(run)
    grids = run["runs"][0]["samples"]["grids"]
    image = page.locator("#samples [data-side=a] img")
    slider = page.locator("[data-slider=a]")
    assert image.get_attribute("alt") == "step 8000"
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert image.get_attribute("alt") == "step 7000"
    assert image.get_attribute("src") == run["images"][grids[7]["image"]["src"][1:]]
    assert "step 7,000 (224k images)" in page.locator("#samples output").first.inner_text()
    page.keyboard.press("Home")
    assert image.get_attribute("alt") == "step 0"
    assert page.locator("#samples").get_by_role("img", name="real images").is_visible()


def test_two_steps_stand_side_by_side_or_share_a_divider(show, run):
    page = show(run)
    sides = page.locator("#samples [data-side=b]"), page.locator("#samples .divider")
    assert [side.is_visible() for side in sides] == [False, False]
    page.get_by_label("two steps", exact=True).check()
    assert [side.is_visible() for side in sides] == [True, False]
    page.locator("[data-slider=b]").focus()
    page.keyboard.press("ArrowRight")
    assert sides[0].locator("img").get_attribute("alt") == "step 1000"

    page.get_by_label("two steps, divided").check()
    assert [side.is_visible() for side in sides] == [False, True]
    over = sides[1].locator(".over")
    assert over.locator("img").get_attribute("alt") == "step 1000"
    _drag(page, sides[1], 0.5, 0.25)
    assert page.locator("[data-slider=cut]").input_value() == "25"
    clip = over.evaluate("(node) => getComputedStyle(node).clipPath")
    assert clip == "inset(0px 0px 0px 25%)"
    page.locator("[data-slider=cut]").focus()
    page.keyboard.press("ArrowRight")
    assert "26%" in over.evaluate("(node) => getComputedStyle(node).clipPath")


def test_a_click_enlarges_a_picture_and_escape_closes(show, run):
    page = show(run)
    page.locator("#samples [data-side=a] button").click()
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    # By a whole number: pixels stay squares.
    width = dialog.locator("img").bounding_box()["width"]
    assert width % 274 == 0 and width > 2 * 274
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    page.locator("#samples [data-side=a] button").focus()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    dialog.get_by_role("button", name="Close").click()
    assert dialog.is_hidden()


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_animations_stop_by_their_button_or_where_motion_is_unwanted(show, run, motion):
    page = show(run, reduced_motion=motion)
    figure = page.locator(".animation").first
    moving, still = figure.locator("img"), figure.locator("canvas")
    assert moving.is_visible() == (motion == "no-preference")
    assert still.is_visible() == (motion == "reduce")
    if motion == "no-preference":
        figure.get_by_role("button", name="Stop").click()
    assert still.is_visible() and moving.is_hidden()
    assert _pixel(still, 0.5, 0.5).tolist() == [255, 0, 0, 255]
    figure.get_by_role("button", name="Play").click()
    assert moving.is_visible() and still.is_hidden()


def test_the_confusion_matrix_is_a_table_of_counts(show, run):
    page = show(run)
    content = run["runs"][0]["confusion"]
    matrix = page.locator("table.matrix")
    rows = matrix.locator("tbody tr")
    for index, expected in enumerate(content["matrix"]):
        assert rows.nth(index).locator("td").all_text_contents() == list(map(str, expected))
        assert rows.nth(index).locator("th").inner_text() == content["classes"][index]
    color = "(node) => getComputedStyle(node).backgroundColor"
    cells = [rows.first.locator("td").nth(column).evaluate(color) for column in range(2)]
    assert cells[0] != cells[1]
    table = page.locator("#classes table").nth(1)
    assert table.locator("tbody tr").first.inner_text().split() == [
        *("square", "0.98", str(content["matrix"][0][0] / 1_000), "0.97", "7.25")
    ]


def test_many_classes_are_folded_until_they_are_opened(show, run):
    names = [f"class {index}" for index in range(41)]
    confusion = page_data.confusion(names, np.random.default_rng(0))
    page = show(_with(run, confusion=confusion))
    assert page.locator("table.matrix").count() == 0
    page.get_by_text("Show all 41 classes").first.click()
    page.locator("table.matrix").wait_for()
    for _ in range(2):
        page.get_by_text("Show all 41 classes").first.click()
    page.locator("table.matrix").first.wait_for()
    assert page.locator("table.matrix td.diagonal").count() == 41
    assert _overflow(page) == 0


def test_a_thousand_classes_do_not_break_the_page(show, run):
    names = [f"class {index}" for index in range(1_000)]
    confusion = page_data.confusion(names, np.random.default_rng(0))
    page = show(_with(run, confusion=confusion), width=390)
    assert page.locator("#classes td").count() < 1_000
    page.get_by_text("Show all 1,000 classes").first.click()
    picture = page.locator("#classes canvas")
    box = picture.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    caption = page.locator("#classes figure:has(canvas) figcaption").inner_text()
    assert re.match(r"class \d asked for, class \d seen: \d+", caption)
    page.get_by_text("Show all 1,000 classes").last.click()
    page.locator("#classes details table").wait_for()
    assert _overflow(page) == 0
    # The largest confusion off the diagonal comes first in the table.
    matrix = np.array(confusion["matrix"]) * (1 - np.eye(1_000, dtype=int))
    first = page.locator("#classes table tbody tr").first.locator("td").nth(1).inner_text()
    assert int(first) == matrix.max()


def test_translations_stand_beside_their_sources(show, run):
    page = show(run)
    tables = page.locator("table.examples")
    heads = [tables.nth(index).locator("thead th").all_text_contents() for index in range(2)]
    assert heads[0] == ["", "Source", "Translation", "Reconstruction", "Truth"]
    # There is no truth in this direction.
    assert heads[1] == ["", "Source", "Translation", "Reconstruction"]
    alts = tables.nth(1).locator("img").evaluate_all("nodes => nodes.map((node) => node.alt)")
    assert alts[:3] == ["source, b2a", "translation, b2a", "reconstruction, b2a"]


def test_the_query_is_chosen_by_a_click_and_by_arrow_keys(show, run):
    page = show(run)
    canvas, output = page.locator("canvas.query"), page.locator("#attention [role=status]")
    page.get_by_label("Head").select_option("head 1")
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 3.5 / 16, "y": box["height"] * 5.5 / 16})
    assert output.inner_text().startswith("Query at row 6, column 4 of 16 × 16: entropy 0.000")
    # The key next to query (5, 3) of 16 x 16 is (2, 1) of 8 x 8.
    alone = page.locator("canvas.map")
    assert _pixel(alone, 1.5 / 8, 2.5 / 8)[:3].min() > 150
    assert _pixel(alone, 2.5 / 8, 2.5 / 8)[:3].max() < 30
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert output.inner_text().startswith("Query at row 5, column 5")
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert output.inner_text().startswith("Query at row 5, column 1 ")


def test_entropy_is_that_of_the_head(show, run):
    page = show(run)
    output = page.locator("#attention [role=status]")
    query = 8 * 16 + 8
    maps = page_data.attention_maps(3, 16, 8, image=0)[:, query].astype(float)
    maps /= maps.sum(-1, keepdims=True)
    rows = {"mean over heads": maps.mean(0)} | {f"head {i + 1}": maps[i] for i in range(3)}
    for name, row in rows.items():
        page.get_by_label("Head").select_option(name)
        entropy = -(row[row > 0] * np.log(row[row > 0])).sum() / np.log(64)
        assert f"entropy {entropy + 0.0:.3f}" in output.inner_text().replace("-0.", "0.")


def test_image_layer_and_network_change_the_map(show, run):
    page = show(run)
    output, canvas = page.locator("#attention [role=status]"), page.locator("canvas.query")
    picture = "(node) => node.toDataURL()"
    page.get_by_label("Head").select_option("head 3")
    before = output.inner_text(), canvas.evaluate(picture)
    page.locator("#attention .thumbnails label").nth(1).click()
    assert output.inner_text() != before[0] and canvas.evaluate(picture) != before[1]
    page.get_by_label("Layer").select_option("attention_8")
    assert "of 8 × 8" in output.inner_text() and page.get_by_label("Head").is_disabled()
    page.get_by_label("Network and images").select_option("discriminator, real images")
    assert page.locator("#attention .thumbnails label").count() == 2
    assert page.locator("canvas.map").evaluate("(node) => node.width") == 4
    assert "Gamma" not in page.locator("#attention").inner_text()


def test_without_opacity_the_picture_alone_is_left(show, run):
    page = show(run)
    canvas = page.locator("canvas.query")
    covered = _pixel(canvas, 0.02, 0.02)
    page.get_by_label("Opacity of the map").fill("1")
    map_alone = _pixel(canvas, 0.02, 0.02)
    page.get_by_label("Opacity of the map").fill("0")
    # The pictures are black in their corners, and the color of no weight is not.
    assert _pixel(canvas, 0.02, 0.02).tolist() == [0, 0, 0, 255]
    assert 0 < covered[2] < map_alone[2]


def test_singular_values_population_and_copies_are_tables(show, run):
    page = show(run)
    values = page.locator("#singular-values tbody tr").first.inner_text().split()
    assert values == ["attention_16/Dense_0", "1.02", "1", "1.0200"]
    members = page.locator("#population tbody tr").first.inner_text().split("\t")
    assert members == ["frechet_distance", "1.40 ± 0.10", "1.3", "1.5", "–"]
    assert "0.5%" in page.locator("#nearest table").inner_text()


def test_the_config_is_a_tree_that_marks_what_differs(show, run):
    page = show(run)
    tree = page.locator("#config .tree")
    marked = tree.locator("li.differs").all_inner_texts()
    assert marked == [
        "learning_rate: 0.001 (config file: 0.002)",
        'note: "a try" (not in the config file)',
    ]
    page.get_by_role("button", name="Fold all").click()
    assert tree.locator("li.differs").first.is_hidden()
    page.get_by_label("Only what differs").check()
    assert tree.locator("li.differs").first.is_visible()
    assert tree.get_by_text("batch_size").is_hidden()
    assert tree.get_by_text("optimizers", exact=True).is_visible()


def test_protocols_are_folded(show, run):
    page = show(run)
    field = page.locator("#protocols").get_by_text("shapes size=32, test split")
    assert field.is_hidden()
    page.locator("#protocols summary").click()
    assert field.is_visible()
    assert "0.8600 ± 0.0035" in page.locator("#protocols").inner_text()


def test_a_comparison_has_its_table_and_the_differences_of_the_configs(show, comparison):
    page = show(comparison, title="Comparison")
    names = page.locator("section").evaluate_all("nodes => nodes.map((node) => node.id)")
    assert names == ["table", "curves", "samples", "differences"]
    rows = page.locator("#table tbody tr").all_inner_texts()
    assert rows[0] == "classifier" and rows[1].split("\t")[1] == "1.34 ± 0.22"
    assert page.locator("#table li").count() == 1
    differences = page.locator("#differences tbody tr").all_inner_texts()
    assert differences[0].split("\t") == ["seed", "0", "1", "2"]


def test_a_run_is_switched_in_all_charts(show, comparison):
    page = show(comparison)
    charts = page.locator(".chart")
    before = [charts.nth(index).locator(".line").count() for index in range(charts.count())]
    page.locator(".runs").get_by_role("button", name="seed 1").click()
    after = [charts.nth(index).locator(".line").count() for index in range(charts.count())]
    assert after == [count * 2 // 3 for count in before]
    charts.first.locator("svg").first.hover()
    text = charts.first.locator(".tip").inner_text()
    assert "seed 0: g/loss" in text and "seed 1" not in text


def test_the_x_axis_is_steps_or_images_seen(show, comparison):
    page = show(comparison)
    assert page.locator("#zoom-to").input_value() == "8000"
    widths = [_points(line)[-1, 0] for line in page.locator(".chart").first.locator(".line").all()]
    assert max(widths) - min(widths) < 0.2
    page.get_by_label("images seen", exact=True).check()
    # Run 1 has twice the batch of the others.
    assert page.locator("#zoom-to").input_value() == str(8_000 * 64)
    ends = [_points(line)[-1, 0] for line in page.locator(".chart").first.locator(".line").all()]
    start = _points(page.locator(".chart").first.locator(".line").first)[0, 0]
    assert (ends[2] - start) / (ends[0] - start) == pytest.approx(2, rel=0.01)


def test_samples_of_a_comparison_have_seen_as_many_images(show, comparison):
    page = show(comparison)
    slider = page.locator("[data-slider=seen]")
    captions = page.locator("#samples figcaption")
    assert captions.all_inner_texts()[:2] == [
        "step 8,000, 256,000 images seen",
        "step 8,000, 512,000 images seen",
    ]
    slider.fill("2")
    assert captions.all_inner_texts() == [
        "step 2,000, 64,000 images seen",
        "step 1,000, 64,000 images seen",
        "step 2,000, 64,000 images seen",
    ]
    slider.fill("0")
    assert captions.last.inner_text() == "no samples so early"


def test_the_page_reloads_while_the_run_trains_and_stays_in_place(show, run):
    page = show(run, clock=True)
    page.evaluate("window.before = true")
    page.clock.run_for(16_000)
    assert page.evaluate("window.before")
    page.get_by_label("Reload every 15 s").check()
    page.get_by_label("Smoothed").check()
    page.locator("#zoom-from").fill("1000")
    page.locator("#zoom-from").press("Enter")
    page.evaluate("scrollTo({top: 1234, behavior: 'instant'})")
    with page.expect_event("load"):
        page.clock.run_for(16_000)
    assert page.evaluate("window.before") is None
    page.wait_for_function("scrollY === 1234")
    assert page.get_by_label("Reload every 15 s").is_checked()
    assert page.get_by_label("Smoothed").is_checked()
    assert page.locator("#zoom-from").input_value() == "1000"
    page.evaluate("window.before = true")
    page.locator(".best button").click()
    page.clock.run_for(16_000)
    assert page.evaluate("window.before")
    page.keyboard.press("Escape")
    page.get_by_label("Reload every 15 s").uncheck()
    page.clock.run_for(16_000)
    assert page.evaluate("window.before")


def test_a_run_that_is_done_has_no_switch_to_reload(show, run):
    done = {"kind": "done", "step": 8_000, "steps": 8_000, "message": ""}
    page = show(_with(run, state=done))
    assert page.get_by_label("Reload every 15 s").count() == 0
    assert "Done" in page.locator(".state").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1_400])
@pytest.mark.parametrize("make", [page_data.make_run, page_data.make_comparison])
@pytest.mark.parametrize("hostile", [False, True])
def test_pages_fit_and_can_be_read(show, make, width, scheme, hostile):
    page = show(make(hostile=hostile), width=width, color_scheme=scheme)
    page.locator("details").evaluate_all("nodes => nodes.forEach((node) => { node.open = true; })")
    page.locator(".chart svg").first.hover()
    assert _overflow(page) <= 0
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert min(contrasts)[0] >= 4.5, min(contrasts)


@pytest.mark.parametrize("make", [page_data.make_run, page_data.make_comparison])
def test_hostile_text_is_shown_as_text(show, make):
    data = make(hostile=True)
    page = show(data, title=HOSTILE)
    # The data, the script; nothing that a string of the run brought.
    assert page.locator("script").count() == 2
    # A title has its spaces collapsed.
    assert page.evaluate("document.title").split() == HOSTILE.split()
    expected = 14 if data["kind"] == "run" else 6
    places = """(text) => [...document.querySelectorAll("body *:not(script)")].filter((node) =>
        [...node.childNodes].some((child) => child.nodeType === 3
            && child.textContent.includes(text))).length"""
    assert page.evaluate(places, HOSTILE) >= expected
    page.locator(".chart .mark").first.focus()
    assert HOSTILE in page.locator(".chart .tip").first.text_content()


def test_a_damaged_part_does_not_take_the_others_with_it(show, run):
    page = show(_with(run, confusion={"classes": ["a"], "matrix": None, "per_class": []}))
    text = page.locator(".bad").inner_text()
    assert text.startswith("classes could not be drawn: ")
    assert page.locator("section").count() == len(SECTIONS)
    assert len(show.problems) == 1
    show.problems.clear()


def test_legends_leave_out_what_all_names_have_in_common(show, run):
    page = show(run)
    legend = page.locator(".chart").last.locator(".legend")
    assert legend.locator("button").first.inner_text().startswith("Dense_0")
    assert legend.locator("button").first.get_attribute("title") == "attention_16/Dense_0"


def test_pictures_from_elsewhere_are_not_loaded(show, run):
    image = {"src": "https://example.com/x.png", "width": 8, "height": 8, "alt": "elsewhere"}
    grids = [{"step": 0, "image": image}, {"step": 1, "image": image | {"src": "@unknown"}}]
    samples = {"grids": grids, "best": 0, "real": None, "animation": None, "caption": ""}
    page = show(_with(run, samples=samples))
    images = page.locator("#samples [data-side=a] img, .best img")
    assert images.evaluate_all("nodes => nodes.map((node) => node.currentSrc)") == ["", ""]


def test_names_for_those_who_cannot_see(show, run):
    page = show(run)
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    unnamed = """nodes => nodes.filter((node) => !node.labels?.length && !node.ariaLabel
        && !node.textContent.trim() && !node.querySelector("img[alt]")).map((n) => n.outerHTML)"""
    controls = page.locator("input, select, button, canvas, [tabindex]")
    assert controls.evaluate_all(unnamed) == []
    assert (
        page.locator("main table:not(.tip table)").evaluate_all(
            "nodes => nodes.filter((node) => !node.caption || !node.caption.textContent).length"
        )
        == 0
    )
    assert page.locator("main th:not([scope])").count() == 0


def test_focus_is_seen(show, run):
    page = show(run)
    style = "getComputedStyle(document.activeElement).outlineStyle"
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate(style) == "solid"


def test_print_has_no_controls_and_opens_what_is_folded(show, run):
    page = show(run, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden() and page.locator(".controls").first.is_hidden()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(255, 255, 255)"
    # Printing itself gives both events.
    page.evaluate("""addEventListener("beforeprint", () => {
        window.folded = document.querySelectorAll("details:not([open])").length; })""")
    assert page.pdf().startswith(b"%PDF")
    assert page.evaluate("folded") == 0
    assert page.locator("#protocols details").get_attribute("open") is None
