"""Draws architecture.png: the floors of tests/test_floors.py, and imports as arrows.

    python docs/draw_architecture.py [FILE.png] [--dpi 100]

An import that follows from others is left out: if a imports b and c, and b imports c, there is no
arrow from a to c. Rooms are placed as in Sugiyama et al. (1981): an arrow over several floors
passes an invisible room on each floor between.
"""

import argparse
import io
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path as Curve
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from test_floors import FLOORS, PACKAGE, _imports  # noqa: E402

Node = tuple[int, str]
"""A floor and a name: of a room, or of an arrow that passes."""

LETTER, GAP, FLOOR_HEIGHT = 0.105, 0.3, 0.65
"""Inches."""

PULL = 0.9
"""Below 1, so that all rooms stay near the middle."""

COLORS = {"evaluation": "#fde6cd", "training": "#d9f0d3"}
COLORS_IN_FILE = 64
FOLDER_COLOR, FILE_COLOR, ARROW_COLOR = "#dbe8f6", "#eeeeee", "#5577aa"


def find_imports() -> dict[str, set[str]]:
    """Returns the rooms that each room imports."""
    rooms = {room for floor in FLOORS for room in floor}

    def room_of(module: str) -> str:
        parts = module.split(".")
        names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((name for name in names if name in rooms), "")

    imports: dict[str, set[str]] = {room: set() for room in rooms}
    for file in PACKAGE.rglob("*.py"):
        module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        importer = room_of(module.removesuffix(".__init__"))
        if importer:
            imports[importer] |= {room_of(name) for name in _imports(file)} - {importer, ""}
    return imports


def reduce_imports(imports: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Returns the pairs (importer, imported) that do not follow from others."""
    reachable: dict[str, set[str]] = {}
    for floor in FLOORS:
        for room in floor:
            below = [reachable.get(name, set()) | {name} for name in imports[room]]
            reachable[room] = set().union(*below)
    return [
        (room, name)
        for room in sorted(imports)
        for name in sorted(imports[room])
        if not any(name in reachable.get(other, ()) for other in imports[room] - {name})
    ]


def place(chains: Sequence[Sequence[Node]], sweeps: int = 60) -> dict[Node, float]:
    """Returns the horizontal position of each node, in inches, near those that it is joined to."""
    floors: list[list[Node]] = [[(n, room) for room in sorted(f)] for n, f in enumerate(FLOORS)]
    neighbors: dict[Node, list[Node]] = {}
    for chain in chains:
        for node in chain[1:-1]:
            floors[node[0]].append(node)
        for a, b in itertools.pairwise(chain):
            neighbors.setdefault(a, []).append(b)
            neighbors.setdefault(b, []).append(a)
    x = {node: float(index) for floor in floors for index, node in enumerate(floor)}
    for sweep in range(sweeps):
        for nodes in floors if sweep % 2 else reversed(floors):
            best = {n: PULL * mean([x[m] for m in neighbors.get(n, [n])]) for n in nodes}
            nodes.sort(key=lambda node: (best[node], node))
            # Without overlap, from the left; then all by the same distance, to the right place.
            right = -1e9
            for node in nodes:
                x[node] = max(best[node], right + width(node) / 2)
                right = x[node] + width(node) / 2 + GAP
            shift = mean([best[node] - x[node] for node in nodes])
            for node in nodes:
                x[node] += shift
    return x


def width(node: Node) -> float:
    """Returns the width of a node in inches; an arrow that passes has none."""
    floor, name = node
    return LETTER * len(label(name)) + 0.2 if name in FLOORS[floor] else 0.0


def label(room: str) -> str:
    """Returns the text of a room: without its folder, which the color says."""
    return room.removeprefix("evaluation.")


def draw(dpi: int) -> Figure:
    """Returns the figure."""
    floor_of = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    chains = []
    for importer, imported in reduce_imports(find_imports()):
        name = f"{importer} -> {imported}"
        between = range(floor_of[importer] - 1, floor_of[imported], -1)
        ends = (floor_of[importer], importer), (floor_of[imported], imported)
        chains.append([ends[0], *((floor, name) for floor in between), ends[1]])
    x = place(chains)
    left = min(x[node] - width(node) / 2 for node in x)
    right = max(x[node] + width(node) / 2 for node in x)
    size = right - left + 0.8, FLOOR_HEIGHT * len(FLOORS) + 0.1
    figure = Figure(figsize=size, dpi=dpi)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(left - 0.6, right + 0.2), ylim=(0, size[1]))
    axes.axis("off")
    y = [FLOOR_HEIGHT * (number + 0.55) for number in range(len(FLOORS))]
    for chain in chains:
        draw_arrow(axes, [(x[node], y[node[0]]) for node in chain])
    for number, floor in enumerate(FLOORS):
        axes.text(left - 0.4, y[number], str(number), color="#888888", va="center", ha="center")
        for room in floor:
            draw_room(axes, room, x[number, room], y[number])
    legend = {"gaxn/evaluation": COLORS["evaluation"], "gaxn/training": COLORS["training"]}
    legend |= {"another folder": FOLDER_COLOR, "a file": FILE_COLOR}
    for number, (text, color) in enumerate(legend.items()):
        top = y[-1] - 0.25 * number
        axes.add_patch(Rectangle((left, top - 0.08), 0.25, 0.16, fc=color, ec="#666666"))
        axes.text(left + 0.35, top, text, va="center", size=9)
    return figure


def draw_room(axes: Axes, room: str, x: float, y: float) -> None:
    """Draws a box with the name of a room."""
    is_folder = (PACKAGE / room).is_dir()
    color = COLORS.get(room.partition(".")[0], FOLDER_COLOR if is_folder else FILE_COLOR)
    length = LETTER * len(label(room)) + 0.2
    style = {"boxstyle": "round,pad=0,rounding_size=0.06", "fc": color, "ec": "#666666"}
    axes.add_patch(FancyBboxPatch((x - length / 2, y - 0.15), length, 0.3, zorder=3, **style))
    text = {"ha": "center", "va": "center", "family": "monospace", "size": 10}
    axes.text(x, y - 0.01, label(room), zorder=4, **text)


def draw_arrow(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Draws an arrow down through points, as a cubic Hermite curve."""
    points = np.array([*points[:-1], (points[-1][0], points[-1][1] + 0.17)])
    # Steep, so as to pass between rooms; vertical at both ends.
    tangents = np.gradient(points, axis=0) * (0.8, 1)
    tangents[[0, -1], 0] = 0
    controls = zip(points + tangents / 3, (points - tangents / 3)[1:], points[1:], strict=False)
    vertices = [points[0], *itertools.chain.from_iterable(controls)]
    codes = [Curve.MOVETO, *[Curve.CURVE4] * (len(vertices) - 1)]
    axes.add_patch(PathPatch(Curve(vertices, codes), fc="none", ec=ARROW_COLOR, zorder=1))
    axes.plot(*points[-1], marker="v", color=ARROW_COLOR, markersize=5, zorder=2)


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", default=ROOT / "docs" / "architecture.png")
    parser.add_argument("--dpi", type=int, default=100)
    options = parser.parse_args(argv)
    content = io.BytesIO()
    draw(options.dpi).savefig(content, dpi=options.dpi)
    # Few colors make a small file; without metadata it changes only if the picture does.
    picture = Image.open(content).convert("RGB").quantize(COLORS_IN_FILE)
    picture.save(options.file, "png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
