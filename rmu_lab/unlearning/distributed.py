"""Several processes, a GPU each, share the data of one training.

Started by ``torchrun --nproc_per_node 2 script.py``, every process has the whole model and takes its share of the texts
of each batch. A batch's loss is a mean over its counted tokens (or texts), so each process weights the mean over its
own by its fraction of the whole. The sums of these over the processes, and of their gradients, are then what one
process would have got from the whole batch; means of means would not be, since texts differ in length. All processes
take the same optimiser step, so their matrices stay equal. Explained in docs/guide/scaling.md.
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
class BatchShare:
    """One process's share of a batch."""

    batch: TokenBatch
    rows: slice
    """Its texts among those of the whole batch."""
    batch_size: int
    """Texts of the whole batch."""
    text_fraction: float
    """Its fraction of the batch's texts."""
    token_fraction: float
    """Its fraction of the batch's counted tokens."""


@dataclass(frozen=True)
class Processes:
    """The processes that train together, seen from one of them."""

    rank: int = 0
    """Number of this process, from 0."""
    world_size: int = 1

    @property
    def main_process(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def share(self, batch: TokenBatch, counted: Tensor) -> BatchShare:
        """Return this process's texts of a batch; `counted`, (batch, tokens) bool, says which tokens enter its loss."""
        if self.rank >= len(counted):  # fewer texts than processes: it works along, but what it finds counts nothing
            return BatchShare(batch, slice(None), len(counted), text_fraction=0.0, token_fraction=0.0)
        rows = slice(self.rank, None, self.world_size)
        mine = counted[rows]
        return BatchShare(
            batch=TokenBatch(batch.input_ids[rows], batch.attention_mask[rows]),
            rows=rows,
            batch_size=len(counted),
            text_fraction=len(mine) / len(counted),
            token_fraction=mine.sum().item() / counted.sum().item(),
        )

    def all_reduce(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.world_size > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

    @contextmanager
    def main_process_first(self) -> Iterator[bool]:
        """Give True in the main process; the others wait at the end of the ``with`` block until it has left its own."""
        yield self.main_process
        self.barrier()

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            torch.distributed.barrier()


SINGLE_PROCESS = Processes()
_TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets besides ``WORLD_SIZE``."""


def launched_processes() -> Processes:
    """Return the processes that torchrun started, joined by accelerate when first asked for; without it just this one.

    Slurm and MPI set ``WORLD_SIZE`` too, in processes that have nothing to do with each other.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" or any(name not in os.environ for name in _TORCHRUN):
        return SINGLE_PROCESS
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return Processes(state.process_index, state.num_processes)
