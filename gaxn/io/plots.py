"""Plots as arrays: every function is pure and returns RGB pixels, uint8 [height, width, 3]."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

if TYPE_CHECKING:
    # It takes a third of a second to import, and the first pictures of a run need none of it.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Picture = UInt8[np.ndarray, "height width 3"]

MAX_WRITTEN_CLASSES, MAX_TICKS = 20, 50
"""Classes of a confusion matrix whose cells have numbers, and names at its sides."""

MAX_LINES = 12
"""Lines of a panel that its legend names."""


def grid(images: UInt8[np.ndarray, "rows columns height width channels"], gap: int = 2) -> Picture:
    """Draws images in rows and columns on white, scaled up by an integer to at least 64 pixels."""
    images = to_rgb(images)
    scale = max(1, -(-64 // images.shape[2]))
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    images = np.pad(images, ((0, 0), (0, 0), (gap, 0), (gap, 0), (0, 0)), constant_values=255)
    rows, columns, height, width, _ = images.shape
    picture = images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    return np.pad(picture, ((0, gap), (0, gap), (0, 0)), constant_values=255)


def to_rgb(images: UInt8[np.ndarray, "*shape channels"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Returns gray images as RGB, and RGB images as they are."""
    return np.repeat(images, 3 // images.shape[-1], axis=-1)


def curves(history: Sequence[Mapping[str, float]], panels: Mapping[str, Sequence[str]]) -> Picture:
    """Plots scalars against the step.

    Args:
        history: records with a "step"; a scalar may be in some of them.
        panels: names of scalars by the title of their panel; names in no record are left out.
    """
    figure = _make_figure(figsize=(8, 2.6 * len(panels)), layout="constrained")
    for axes, (title, names) in zip(
        figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True
    ):
        for name in names:
            points = [(row["step"], row[name]) for row in history if name in row]
            if points:
                # A line needs two points.
                marker = "." if len(points) == 1 else None
                axes.plot(*zip(*points, strict=True), label=name, linewidth=1, marker=marker)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(handles=axes.lines[:MAX_LINES], loc="best", fontsize="small")
    return _render(figure)


def compare_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    names: Sequence[str],
    abscissae: Sequence[str],
) -> Picture:
    """Plots scalars of several runs: a row per scalar, a column per abscissa, a line per run.

    Args:
        histories: records by the label of the run; every record has all abscissae.
        names: of the scalars.
        abscissae: names of what they are plotted against.
    """
    figure = _make_figure((6 * len(abscissae), 2.4 * len(names) + 0.5), layout="constrained")
    panels = figure.subplots(len(names), len(abscissae), squeeze=False, sharex="col", sharey="row")
    for (row, column), axes in np.ndenumerate(panels):
        name, abscissa = names[row], abscissae[column]
        for label, history in histories.items():
            points = [(line[abscissa], line[name]) for line in history if name in line]
            axes.plot(*np.reshape(points, (-1, 2)).T, label=label, linewidth=1, alpha=0.8)
        axes.set(xlabel=abscissa, ylabel=name)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        axes.label_outer()
    lines, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=4)
    return _render(figure)


def side_by_side(pictures: Mapping[str, Picture], gap: int = 16, title_height: int = 48) -> Picture:
    """Draws pictures without scaling in a row on white, each below its title."""
    widths = [
        max(picture.shape[1], *(8 * len(line) for line in title.splitlines()))
        for title, picture in pictures.items()
    ]
    total_width = sum(widths) + gap * (len(widths) + 1)
    height = title_height + max(map(len, pictures.values())) + gap
    canvas = np.full((height, total_width, 3), 255, np.uint8)
    figure = _make_figure(figsize=(total_width / 100, title_height / 100), dpi=100)
    left = gap
    for (title, picture), width in zip(pictures.items(), widths, strict=True):
        figure.text((left + width / 2) / total_width, 0.5, title, ha="center", va="center")
        rows = slice(title_height, title_height + len(picture))
        start = left + (width - picture.shape[1]) // 2
        canvas[rows, start : start + picture.shape[1]] = picture
        left += width + gap
    titles = _render(figure)
    canvas[: len(titles), : titles.shape[1]] = titles
    return canvas


def scatter(
    sets: Mapping[str, Float[np.ndarray, "points features"]],
    real: Float[np.ndarray, "points features"],
) -> Picture:
    """Plots the first two coordinates of points, a panel per set, over real points in gray."""
    columns = min(len(sets), 5)
    rows = -(-len(sets) // columns)
    figure = _make_figure(figsize=(2.6 * columns, 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    limit = 1.25 * np.abs(real[:, :2]).max()
    for axes in panels:
        axes.set_axis_off()
    for axes, (title, points) in zip(panels, sets.items(), strict=False):
        axes.set_axis_on()
        axes.plot(*real[:, :2].T, ".", color="lightgray", markersize=6)
        axes.plot(*points[:, :2].T, ".", color="crimson", markersize=1.5)
        axes.set(title=title, xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        axes.tick_params(labelsize="x-small")
    return _render(figure)


def confusion(counts: Int[np.ndarray, "classes classes"], names: Sequence[str]) -> Picture:
    """Plots a confusion matrix: the share of each cell in its row and, of few classes, its count.

    Args:
        counts: row = requested class, column = class that the classifier predicts.
        names: of the classes.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    is_written = len(names) <= MAX_WRITTEN_CLASSES
    side = 2 + 0.9 * min(len(names), MAX_WRITTEN_CLASSES)
    figure = _make_figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="classified as", ylabel="requested")
    ticks = range(0, len(names), -(-len(names) // MAX_TICKS))
    labels = [name if len(name) <= 24 else f"{name[:23]}…" for name in (names[k] for k in ticks)]
    text = {"parse_math": False}
    axes.set_xticks(ticks, labels, rotation=45 if is_written else 90, ha="right", **text)
    axes.set_yticks(ticks, labels, **text)
    for (row, column), count in np.ndenumerate(counts) if is_written else ():
        share = shares[row, column]
        style = {"color": "white" if share > 0.5 else "black", "fontsize": "small"}
        axes.text(column, row, f"{share:.1%}\n{count:,}", ha="center", va="center", **style)
    return _render(figure)


def attention(
    images: UInt8[np.ndarray, "batch height width channels"],
    weights: Float[np.ndarray, "batch queries keys_height keys_width"],
    queries: Sequence[tuple[float, float]],
    title: str,
) -> Picture:
    """Draws images, and below them the attention weights of query points as heat.

    Args:
        images: one column each.
        weights: of the query points over the keys; each map has its own color scale.
        queries: (y, x) in [0, 1] of the query points, one row each, drawn as crosses.
        title: above the picture.
    """
    rows, columns = 1 + len(queries), len(images)
    figure = _make_figure(figsize=(1.5 * columns, 1.5 * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    pitch = 1.06
    # One pair of axes for all: separate ones take twice as long.
    axes = figure.subplots()
    axes.set_axis_off()
    for row, column in np.ndindex(rows, columns):
        image = images[column]
        left, top = pitch * column, pitch * row
        extent = (left, left + 1, top + 1, top)
        pixels = image[..., 0] if image.shape[-1] == 1 else image
        axes.imshow(pixels, cmap="gray", extent=extent, vmin=0, vmax=255)
        if row:
            y, x = queries[row - 1]
            heat = weights[column, row - 1]
            axes.imshow(heat, cmap="inferno", extent=extent, alpha=0.7, interpolation="bilinear")
            axes.plot(left + x, top + y, "+", color="cyan", markersize=10, markeredgewidth=2)
    axes.set(xlim=(0, left + 1), ylim=(top + 1, 0))
    return _render(figure)


def word_attention(
    images: UInt8[np.ndarray, "batch height width channels"],
    maps: Sequence[Float[np.ndarray, "words side side"]],
    words: Sequence[Sequence[str]],
) -> Picture:
    """Draws images, and beside each the attention weights of every word as heat, from 0 to 1.

    Args:
        images: one row each.
        maps: of the words of an image's sentence.
        words: written above the maps.
    """
    rows, columns = len(images), 1 + max(map(len, words))
    figure = _make_figure(figsize=(1.1 * columns, 1.35 * rows), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    wide, high = 1.08, 1.3
    for row, image in enumerate(images):
        pixels = image[..., 0] if image.shape[-1] == 1 else image
        top = high * row
        for column, heat in enumerate([None, *maps[row]]):
            left = wide * column
            extent = (left, left + 1, top + 1, top)
            axes.imshow(pixels, cmap="gray", extent=extent, vmin=0, vmax=255)
            if heat is not None:
                style = {"cmap": "inferno", "alpha": 0.75, "vmin": 0, "vmax": 1}
                axes.imshow(heat, extent=extent, interpolation="bilinear", **style)
                text = {"ha": "center", "va": "bottom", "fontsize": "small", "parse_math": False}
                axes.text(left + 0.5, top - 0.02, words[row][column - 1], **text)
    axes.set(xlim=(0, wide * columns), ylim=(high * rows, -0.3))
    return _render(figure)


class HeatMap(NamedTuple):
    """A matrix of attention weights between words, and how it is labeled.

    Attributes:
        weights: in [0, 1]; row = query word, column = key word.
        rows: labels of the rows.
        columns: labels of the columns.
        title: above the matrix.
        frame: row and column of a cell to frame, if any.
    """

    weights: Float[np.ndarray, "rows columns"]
    rows: Sequence[str]
    columns: Sequence[str]
    title: str
    frame: tuple[int, int] | None = None


def heat_maps(maps: Sequence[Sequence[HeatMap]], title: str) -> Picture:
    """Draws rows of heat maps with one color scale, from 0 to the largest weight of all.

    The weights are written in their cells, in hundredths.
    """
    cell, margin = 0.3, 1.4
    height = sum(cell * max(len(each.rows) for each in row) + margin for row in maps)
    width = max(sum(cell * len(each.columns) + margin for each in row) for row in maps)
    figure = _make_figure((max(width + 0.8, 8), height + 0.4), dpi=120, layout="constrained")
    figure.suptitle(title)
    highest = max(each.weights.max() for row in maps for each in row)
    panels = figure.subplots(len(maps), max(map(len, maps)), squeeze=False)
    for (row, column), axes in np.ndenumerate(panels):
        _draw_heat_map(axes, maps[row][column], highest)
        if column == 0:
            axes.set_ylabel("query word")
        if row == len(maps) - 1:
            axes.set_xlabel("key word")
    bar = figure.colorbar(panels[0, 0].images[0], ax=panels, aspect=40, pad=0.01)
    bar.set_label("attention weight, in hundredths in the cells")
    # The layout makes room for vertical labels only the second time.
    figure.draw_without_rendering()
    return _render(figure)


def _draw_heat_map(axes: "Axes", heat_map: HeatMap, highest: float) -> None:
    axes.imshow(heat_map.weights, cmap="Blues", vmin=0, vmax=highest)
    axes.set_title(heat_map.title, fontsize="small")
    # Words with "$" or "_" are not formulas.
    text = {"fontsize": "small", "parse_math": False}
    axes.set_xticks(range(len(heat_map.columns)), heat_map.columns, rotation=90, **text)
    axes.set_yticks(range(len(heat_map.rows)), heat_map.rows, **text)
    axes.tick_params(length=0)
    for (row, column), weight in np.ndenumerate(heat_map.weights):
        color = "white" if weight > 0.55 * highest else "black"
        style = {"ha": "center", "va": "center", "color": color, "fontsize": 6.5}
        axes.text(column, row, f"{100 * weight:.0f}", in_layout=False, **style)
    if heat_map.frame is not None:
        from matplotlib.patches import Rectangle

        row, column = heat_map.frame
        style = {"fill": False, "color": "crimson", "linewidth": 2, "clip_on": False}
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **style))


def _make_figure(figsize: tuple[float, float], **options: Any) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize, **options)


def _render(figure: "Figure") -> Picture:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with matplotlib.rc_context({"savefig.dpi": "figure"}):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
