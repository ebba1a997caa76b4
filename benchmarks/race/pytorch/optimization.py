"""Adam with a schedule of its learning rate, and the moving average of a generator.

On the host both know their step as a number, which is passed to a kernel and copies nothing. In a
CUDA graph they read a counter on the device.
"""

import copy
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.optim import Adam

Points = Sequence[tuple[int, float]]


class Optimizer:
    """Fused Adam, with its learning rate in lines between points, (update, rate).

    Args:
        parameters: of one player.
        form: of the step; "graphs" captures it in a CUDA graph.
        learning_rate: the points.
        b1, b2: decays of the moments.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        form: str,
        learning_rate: Points,
        b1: float = 0.9,
        b2: float = 0.999,
    ):
        self.parameters, self.points = list(parameters), learning_rate
        in_graph = form == "graphs"
        device = self.parameters[0].device
        rate: float | Tensor = learning_rate[0][1]
        self.updates: int | Tensor = 0
        if in_graph:
            rate = torch.tensor(rate, device=device)
            self.updates = torch.zeros((), device=device)
        self.adam = Adam(self.parameters, rate, (b1, b2), fused=True, capturable=in_graph)

    def step(self) -> None:
        """Moves the parameters by their gradients, and forgets these."""
        (group,) = self.adam.param_groups
        rate = value_at(self.points, self.updates)
        if isinstance(rate, Tensor):
            group["lr"].copy_(rate)
        elif not isinstance(group["lr"], Tensor):
            group["lr"] = rate
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.updates += 1


class MovingAverage:
    """The moving average of a network's parameters, whose decay warms up as in gaxn.

    Args:
        network: the network.
        decay: of the average after the warm-up.
        form: of the step; "graphs" captures it in a CUDA graph.
    """

    def __init__(self, network: nn.Module, decay: float, form: str):
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self._means, self._values = list(self.network.parameters()), list(network.parameters())
        self.steps: int | Tensor = 0
        if form == "graphs":
            self.steps = torch.zeros((), device=self._values[0].device)

    @torch.no_grad()
    def restart(self) -> None:
        """Sets the average to the parameters."""
        torch._foreach_copy_(self._means, self._values)

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the parameters."""
        decay = (1 + self.steps) / (10 + self.steps)
        if isinstance(decay, Tensor):
            share = 1 - decay.clamp(max=self.decay)
            torch._foreach_add_(
                self._means,
                torch._foreach_mul(torch._foreach_sub(self._values, self._means), share),
            )
        else:
            torch._foreach_lerp_(self._means, self._values, 1 - min(self.decay, decay))
        self.steps += 1


def value_at(points: Points, step: int | Tensor) -> float | Tensor:
    """Returns the value of a piecewise linear function, constant outside its points."""
    value = points[0][1]
    for (start, first), (end, last) in pairwise(points):
        share = (step - start) / (end - start)
        inside = share.clamp(0, 1) if isinstance(share, Tensor) else min(max(share, 0.0), 1.0)
        value = value + (last - first) * inside
    return value
