"""GANs: networks and their losses.

A GAN is a Flax module whose children are its players and whose methods are their losses. How it
samples, what is drawn and evaluated of it, stands in its hooks (gaxn/evaluation/kinds).
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn


class BaseGAN(nn.Module):
    """The contract of a GAN.

    Its `__call__(batch, key)` runs every network once, so that Flax creates their variables. Its
    parameters and variables are named after the player that they belong to: `generator`, or
    `discriminator_history`.

    A constructor gets, of these arguments, those that it has: `generator` and `discriminator`;
    `objective`, a function from a discriminator to its `Objective`; `conditional`; `size`, the
    images' height and width; `growing`, the resolutions of networks that grow; and the networks of
    `config.networks` by their names, which it annotates with `nn.Module`. Its other parameters are
    the fields of `config.gan`.

    Attributes:
        HOOKS: its hooks: a module of gaxn/evaluation/kinds, or "module:" and one from elsewhere.
        history: number of generated images that its losses keep from call to call; if it is above
            0, an update rule may evaluate each loss only once a step.
        growing: the resolutions with which its generator and discriminator grow; a GAN whose
            networks can grow has a field of this name.
    """

    HOOKS: ClassVar[str] = "gan"
    history = 0
    growing = None

    def losses(self) -> Mapping[str, Callable[..., Any]]:
        """Returns the loss method of each player, in the order in which they are updated.

        A loss method takes (self, batch, examples, key, step) and returns (loss, scalars).
        `examples` are the indices of the batch's examples in the global batch, from which random
        numbers are drawn; `step` counts the training steps before this one.
        """
        raise NotImplementedError
