"""Several processes, a GPU each, share the data of one training.

Started by ``torchrun --nproc_per_node 2 script.py``, every process has the whole model and takes its share of the texts
of each batch. A batch's loss is a mean over its counted tokens (or texts), so each process weights the mean over its
own by its part of the whole. The sums of these over the processes, and of their gradients, are then what one process
would have got from the whole batch; means of means would not be, since texts differ in length. All processes take the
same optimiser step, so their matrices stay equal. Taught in notebook 09.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..corpora import TokenBatch


@dataclass(frozen=True)
class Team:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the one that writes files and shows progress."""
        return self.rank == 0

    def share(self, batch: TokenBatch, counted: Tensor) -> Share:
        """This process's texts of a batch; `counted`, (batch, tokens) bool, says which tokens enter its loss."""
        if self.rank >= len(counted):  # fewer texts than processes: it works along, but what it finds counts nothing
            return Share(batch, slice(None), len(counted), texts=0.0, tokens=0.0)
        rows = slice(self.rank, None, self.size)
        mine = counted[rows]
        return Share(
            batch=TokenBatch(batch.input_ids[rows], batch.attention_mask[rows]),
            rows=rows,
            of=len(counted),
            texts=len(mine) / len(counted),
            tokens=mine.sum().item() / counted.sum().item(),
        )

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

    @contextmanager
    def one_writes(self) -> Iterator[bool]:
        """True in the process that writes; the others wait at the end of the ``with`` block until it has."""
        yield self.main
        self.wait()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            torch.distributed.barrier()


@dataclass(frozen=True)
class Share:
    """One process's part of a batch."""

    batch: TokenBatch
    rows: slice  # its texts among those of the whole batch
    of: int  # how many these are
    texts: float  # its part of the batch's texts
    tokens: float  # its part of the batch's counted tokens


ALONE = Team()


def joined() -> Team:
    """The processes that torchrun started, joined by accelerate when first asked for; without torchrun just this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return Team(state.process_index, state.num_processes)
