"""Eight streams in two processes of PyTorch, which average their gradients.

Started by hand, here on CPUs. On GPUs it is ``torchrun --nproc-per-node N``, the group "nccl", and
a model that is moved to the process' own GPU.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn
from uoro_torch import DistributedStreams, Online

from uoro import UORO

PROCESSES, STREAMS, UNITS, STEPS = 2, 8, 16, 400


class Model(nn.Module):
    """A GRU cell and a readout, for a batch of rows."""

    def __init__(self):
        super().__init__()
        self.cell, self.readout = nn.GRUCell(1, UNITS), nn.Linear(UNITS, 1)

    def forward(self, x, state):
        state = self.cell(x, state)
        return self.readout(state), state


def train(rank, meeting):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=PROCESSES)
    torch.manual_seed(0)  # the same model in all
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    estimator = DistributedStreams(UORO(), STREAMS)
    mine = len(estimator.rows)
    online = Online.for_module(
        model, nn.functional.mse_loss, torch.zeros(mine, UNITS), estimator=estimator
    )

    # Remember the number seen one step ago; each process reads streams of its own.
    generator = torch.Generator().manual_seed(rank)
    numbers = torch.randint(0, 2, (STEPS + 1, mine, 1), generator=generator) * 2.0 - 1.0
    losses = []
    for x, y in zip(numbers[1:], numbers[:-1], strict=True):
        losses.append(online.step(x, y))
        optimizer.step()
        optimizer.zero_grad()
    if rank == 0:
        first, last = torch.stack(losses[:50]).mean(), torch.stack(losses[-50:]).mean()
        print(f"streams {estimator.rows} of {STREAMS} are run by process {rank}")
        print(f"loss: {first:.3f} at first, {last:.3f} at last")
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        torch.multiprocessing.spawn(train, (meeting,), nprocs=PROCESSES)
