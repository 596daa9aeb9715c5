"""Compare `online(x)` with ``loss.backward()`` to `online.step(x, y)`: time, and memory over steps.

    python benchmarks/torch_loop.py [--rounds 200] [--steps 100000]

Both take turns of twenty steps on one core, on the same items. Memory is the resident set of loops
in which the loss comes sixteen steps late, with an optimizer in between, and in which it never
comes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from uoro_torch import Online

from uoro import UORO, Estimator, JointUORO, Streams
from uoro.files.resident import resident

IN, TURN, LATE = 8, 20, 16
MSE: Any = nn.functional.mse_loss


class Recurrent(nn.Module):
    """A GRU cell and a readout."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.cell, self.readout = nn.GRUCell(IN, units), nn.Linear(units, IN)

    def forward(self, input: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run one step."""
        state = self.cell(input, state)
        return self.readout(state), state


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200, help="turns of each")
    parser.add_argument("--steps", type=int, default=100_000, help="of the loops for memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'estimator':>10} {'units':>6} {'step, µs':>9} {'backward, µs':>13} {'ratio':>6}")
    kinds: list[tuple[str, Estimator, tuple[int, ...]]] = [
        ("uoro", UORO(), ()),
        ("joint:4", JointUORO(4), ()),
        ("uoro x 8", Streams(UORO(), 8), (8,)),
    ]
    for name, estimator, lead in kinds:
        for units in (32, 256):
            one, other = _times(units, estimator, lead, options.rounds)
            print(f"{name:>10} {units:>6} {one:>9.0f} {other:>13.0f} {other / one:>6.2f}")
    for late in (True, False):
        sizes = [f"{size:.0f}" for size in _memory(options.steps, late=late)]
        print(f"resident MiB, loss {'late' if late else 'never'}: {', '.join(sizes)}")


def _times(
    units: int, estimator: Estimator, lead: tuple[int, ...], rounds: int
) -> tuple[float, float]:
    """Return the median time of a step of each, in µs."""
    torch.manual_seed(0)
    x, y = torch.randn(*lead, IN), torch.randn(*lead, IN)
    loops = list[Callable[[], None]]()
    for loss in (MSE, None):
        model = Recurrent(units)
        online = Online.for_module(model, loss, torch.zeros(*lead, units), estimator=estimator)

        def loop(online: Online = online, model: nn.Module = model, sugar: Any = loss) -> None:
            if sugar is None:
                MSE(online(x), y).backward()
            else:
                online.step(x, y)
            model.zero_grad()

        loops.append(loop)
    times: list[list[float]] = [[], []]
    for turn in range(rounds):
        for run, seen in zip(loops, times, strict=True):
            begin = time.perf_counter()
            for _ in range(TURN):
                run()
            if turn:  # The first turn checks the model.
                seen.append((time.perf_counter() - begin) / TURN * 1e6)
    one, other = map(statistics.median, times)
    return one, other


def _memory(steps: int, *, late: bool) -> list[float]:
    """Return the resident set at ten times, in MiB."""
    model = Recurrent(32)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    online = Online.for_module(model, state=torch.zeros(32), estimator=UORO())
    waiting, sizes = deque[Tensor](), list[float]()
    for step in range(1, steps + 1):
        waiting.append(online(torch.randn(IN)))
        if len(waiting) > LATE:
            loss: Any = waiting.popleft().square().mean()
            if late:
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        if step % max(1, steps // 10) == 0:
            sizes.append((resident() or 0) / 2**20)
    return sizes


if __name__ == "__main__":
    main()
