"""Figures as arrays: every function is pure and returns RGB pixels, uint8 [height, width, 3]."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Picture = UInt8[np.ndarray, "height width 3"]


def grid(images: UInt8[np.ndarray, "rows columns height width channels"], gap: int = 2) -> Picture:
    """Images in rows and columns on white, each doubled until it is 64 pixels or more high."""
    images = np.repeat(images, 3 // images.shape[-1], axis=-1)
    scale = max(1, -(-64 // images.shape[2]))
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    edge = ((0, 0), (0, 0), (gap, 0), (gap, 0), (0, 0))
    images = np.pad(images, edge, constant_values=255)
    rows, columns, height, width, _ = images.shape
    picture = images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    return np.pad(picture, ((0, gap), (0, gap), (0, 0)), constant_values=255)


def curves(history: Sequence[Mapping[str, float]], panels: Mapping[str, Sequence[str]]) -> Picture:
    """Scalars against the step, one panel a title; scalars that were never logged are left out."""
    figure = Figure(figsize=(8, 2.6 * len(panels)), layout="constrained")
    for axes, (title, names) in zip(
        figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True
    ):
        for name in names:
            points = [(row["step"], row[name]) for row in history if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, linewidth=1)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(loc="upper right", fontsize="small")
    return _render(figure)


def confusion(counts: Int[np.ndarray, "classes classes"], names: Sequence[str]) -> Picture:
    """Row = the label asked for, column = the class seen; shares of the row, counts beneath."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2 + 0.9 * len(names)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="classified as", ylabel="asked for")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        text = f"{share:.1%}\n{count:,}"
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize="small")
    return _render(figure)


def attention(
    images: UInt8[np.ndarray, "batch height width channels"],
    weights: Float[np.ndarray, "batch queries keys_height keys_width"],
    queries: Sequence[tuple[float, float]],
    title: str,
) -> Picture:
    """Each image, then where each query point (a cross; y and x in [0, 1]) looks.

    The heat is scaled to the largest weight of its own map.
    """
    rows, columns = len(images), 1 + len(queries)
    figure = Figure(figsize=(1.5 * columns, 1.5 * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    extent = (0, 1, 1, 0)
    for row, (image, maps) in enumerate(zip(images, weights, strict=True)):
        shown = image[..., 0] if image.shape[-1] == 1 else image
        for column in range(columns):
            axes = figure.add_subplot(rows, columns, row * columns + column + 1)
            axes.imshow(shown, cmap="gray", extent=extent, vmin=0, vmax=255)
            axes.set_axis_off()
            if column:
                y, x = queries[column - 1]
                heat = maps[column - 1]
                axes.imshow(
                    heat, cmap="inferno", extent=extent, alpha=0.7, interpolation="bilinear"
                )
                axes.plot(x, y, "+", color="cyan", markersize=10, markeredgewidth=2)
                axes.set(xlim=(0, 1), ylim=(1, 0))
    return _render(figure)


def _render(figure: Figure) -> Picture:
    with matplotlib.rc_context({"savefig.dpi": "figure"}):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
