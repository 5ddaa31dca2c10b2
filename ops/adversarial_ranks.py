"""Several processes, one game: data-parallel training under torchrun, one process otherwise.

Each rank plays a fixed slice of every batch and the gradients are averaged, so that the players stay equal on all
ranks. Gradients travel as one flat tensor a player and step, instead of through DistributedDataParallel's hooks: those
do not survive a discriminator that is called frozen in the generator's step. Batch norm uses each rank's own slice.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Ranks:
    """This process's number among ``world`` equal ones."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each float tensor by its mean over the ranks, in place."""
        if self.world == 1:
            return
        for tensor in tensors:
            distributed.all_reduce(tensor)
            tensor.div_(self.world)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Mean of the gradients over the ranks, in place, as one message."""
        if self.world == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self.average([flat])
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view(gradient.shape))

    def agree(self, number: int, where: torch.device) -> int:
        """The first rank's ``number``, on every rank."""
        if self.world == 1:
            return number
        message = torch.tensor([number], device=where)
        distributed.broadcast(message, src=0)
        return int(message.item())

    def wait(self) -> None:
        """Return once every rank has come here."""
        if self.world > 1:
            distributed.barrier()


def rank() -> int:
    """This process's rank under torchrun, 0 without it."""
    return int(os.environ.get("RANK", "0"))


def join(where: torch.device) -> tuple[Ranks, torch.device]:
    """Join the group that torchrun describes (gloo on CPU, nccl on CUDA); alone where RANK is not set.

    Returns the ranks and the device of this one (``cuda:LOCAL_RANK`` on CUDA).
    """
    if "RANK" not in os.environ:
        return Ranks(), where
    if where.type == "cuda":
        where = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(where)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if where.type == "cuda" else "gloo")
    return Ranks(distributed.get_rank(), distributed.get_world_size()), where
