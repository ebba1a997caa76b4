"""The partition of a compiled loss; a module of its own, as not every version of PyTorch has it."""

from collections.abc import Sequence
from typing import Any

from torch._functorch.partitioners import default_partition
from torch._inductor.custom_graph_pass import CustomPartitionerFn
from torch.fx import GraphModule


class Partitioner(CustomPartitionerFn):
    """Gives the backward pass what autograd would keep for it.

    The compiler's choice is to keep masks of the activations as bool, because they are smaller; to
    write these takes its code for CPUs longer than all that it saves.
    """

    def __call__(
        self, joint: GraphModule, inputs: Sequence[object], **options: Any
    ) -> tuple[GraphModule, GraphModule]:
        options.pop("compiler", None)
        return default_partition(joint, inputs, **options)

    def uuid(self) -> str:
        return "default_partition"
