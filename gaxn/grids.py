"""The picture of a state that is drawn through training: one function a kind of game.

Each gives a function of what makes subjects, a host state and the number of columns.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from gaxn import pictures
from gaxn.data import Source, reader
from gaxn.pictures import Picture
from gaxn.population import Member
from gaxn.state import GanState
from gaxn.translation import Read
from gaxn.types import HostPixels, Subject

SCATTERED = 2_500
"""Points that are shown."""

Grid = Callable[[Callable, GanState, int], Picture]


def of_points(test: Source, members: Sequence[Member]) -> Grid:
    """Points over those of the data, a panel a member."""

    def draw(subject: Callable[..., Subject], state: GanState, columns: int) -> Picture:
        shown = {
            f"seed {member.seed}": subject(state, index).sample(np.arange(SCATTERED), None)
            for index, member in enumerate(members)
        }
        return pictures.scatter(shown, jax.device_get(reader(test)(np.arange(SCATTERED))).images)

    return draw


def of_images(classes: int | None) -> Grid:
    """What the first member's generator makes of some latents.

    With labels a row is a class and a column a latent; without, it is a square of latents.
    """

    def draw(subject: Callable[..., Subject], state: GanState, columns: int) -> Picture:
        own, places = subject(state), np.arange(columns)
        if classes is None:
            rows = [own.sample(row * columns + places, None) for row in places]
        else:
            rows = [own.sample(places, np.full_like(places, label)) for label in range(classes)]
        return pictures.grid(np.stack(rows))

    return draw


def of_translations(readers: tuple[Read, Read]) -> Grid:
    """Test images of A, as images of B, back as images of A, and made into A as they are.

    Then the same of B: eight rows, of the first member.
    """

    a, b = readers

    def rows(read: Read, places: np.ndarray, there: Callable, back: Callable):
        real: HostPixels = read(places)
        fake = there(real)
        return [real, fake, back(fake), back(real)]

    def draw(subject: Callable, state: GanState, columns: int) -> Picture:
        own, places = subject(state), np.arange(columns)
        shown = [*rows(a, places, own.to_b, own.to_a), *rows(b, places, own.to_a, own.to_b)]
        return pictures.grid(np.stack(shown))

    return draw
