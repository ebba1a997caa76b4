"""The forms in which a step of PyTorch runs: eager, compiled, captured in a CUDA graph."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3
"""Steps before the capture, which compile and allocate."""


def compile_loss(loss: Callable[..., Tensor], form: str, device: str) -> Callable[..., Tensor]:
    """Returns a loss as one program with its gradient, unless the form is "eager"."""
    if form == "eager":
        return loss
    options: dict[str, Any] = {}
    if device == "cpu":
        from benchmarks.race.pytorch.partitioner import Partitioner

        options["custom_partitioner_fn"] = Partitioner()
    return torch.compile(loss, fullgraph=True, dynamic=False, options=options)


class CapturedStep:
    """A step that is captured in a CUDA graph at its first call, and then replayed.

    The step must have no state but tensors on the device. The first call makes `WARM_UP` steps
    more than one. Every call returns the same tensor, with a new value.

    Args:
        step: (images, labels) -> loss.
    """

    def __init__(self, step: Callable[[Tensor, Tensor | None], Tensor]):
        self._step, self._graph = step, torch.cuda.CUDAGraph()
        self._inputs: tuple[Tensor, ...] = ()
        self._loss: Tensor | None = None

    def __call__(self, images: Tensor, labels: Tensor | None) -> Tensor:
        inputs = (images,) if labels is None else (images, labels)
        if self._loss is None:
            self._inputs = tuple(each.clone() for each in inputs)
            self._capture(self._inputs[0], None if labels is None else self._inputs[1])
        for buffer, new in zip(self._inputs, inputs, strict=True):
            buffer.copy_(new)
        self._graph.replay()
        return self._loss

    def _capture(self, images: Tensor, labels: Tensor | None) -> None:
        # Outside the default stream, as a capture needs it.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._step(images, labels)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(self._graph):
            self._loss = self._step(images, labels)
