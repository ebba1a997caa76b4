"""Gradient penalties, one a file: `penalty(critic, real, fake, key)` of one example, a scalar.

A penalty sees a critic of one image, so examples cannot mix, and knows nothing of Flax;
the game maps it over the batch.
"""

from collections.abc import Callable

import jax

from gaxn.types import Image, PRNGKey

Critic = Callable[[Image], jax.Array]
Penalty = Callable[[Critic, Image, Image, PRNGKey], jax.Array]
