"""PyTorch's part of the benchmark: `Online`, and loops by hand to compare with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from uoro_torch.backend import TorchBackend
from uoro_torch.online import Online

from uoro.estimators import UORO
from uoro.lab.bench.instrument import BenchModel, ExtraRow, PeakMemory, resident_memory
from uoro.lab.bench.learning import DECAY, EAGER, LEARNING_RATE
from uoro.lab.bench.learning import optimizer as neutral_optimizer
from uoro.lab.bench.roofline import Work
from uoro.lab.bench.torch_cells import CELLS, Item, Params, State
from uoro.learning.learner import Learner
from uoro.schedules import inverse_sqrt

WINDOW = 16


class TorchInstrument:
    """The instrument of PyTorch.

    Args:
        backend: Backend on the device.
    """

    def __init__(self, backend: TorchBackend) -> None:
        self._backend = backend
        self._cuda = backend.device.startswith("cuda")

    def set_threads(self, threads: int) -> None:
        """Limit PyTorch's thread pool."""
        torch.set_num_threads(threads)

    def hardware(self) -> str:
        """Return the name of an accelerator; empty for the CPU."""
        return torch.cuda.get_device_name(self._backend.device) if self._cuda else ""

    def wait(self) -> None:
        """Wait for an accelerator."""
        if self._cuda:
            torch.cuda.synchronize(self._backend.device)

    def extras(self) -> dict[str, ExtraRow]:
        """Return the loops by hand and `Online`, eager and compiled."""
        one, window = Work("truncated"), Work("truncated", span=WINDOW)
        uoro, backend = Work("uoro"), self._backend
        return {
            "plain-tbptt": ExtraRow(one, "plain-tbptt", partial(plain, backend)),
            f"plain-tbptt:{WINDOW}": ExtraRow(
                window, f"plain-tbptt:{WINDOW}", partial(plain, backend, span=WINDOW)
            ),
            "online": ExtraRow(uoro, "plain-tbptt", partial(online, backend)),
            "plain-tbptt-fused": ExtraRow(
                one, "plain-tbptt-fused", partial(plain, backend, fused=True)
            ),
            "online-fused": ExtraRow(
                uoro, "plain-tbptt-fused", partial(online, backend, fused=True)
            ),
            "plain-tbptt-compiled": ExtraRow(
                one, "plain-tbptt-compiled", partial(plain_compiled, backend)
            ),
            "uoro-compiled": ExtraRow(uoro, "plain-tbptt-compiled", partial(compiled, backend)),
            "uoro-compiled-to-eager": ExtraRow(uoro, "plain-tbptt", partial(compiled, backend)),
        }

    def program_memory(self, program: Callable[..., Any], *arguments: Any) -> PeakMemory | None:
        """Return ``None``: no row is compiled as a whole."""
        return None

    def watch(self) -> Callable[[], PeakMemory | None]:
        """Watch the allocator of an accelerator, or, on a CPU, this process."""
        if not self._cuda:
            return resident_memory()
        device = self._backend.device
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        how = "most that was allocated on the device, above what it was before the row was made"
        return lambda: PeakMemory(torch.cuda.max_memory_allocated(device) - before, how, {})


def instrument(backend: TorchBackend) -> TorchInstrument:
    """Build the instrument of a backend."""
    return TorchInstrument(backend)


class Start:
    """Start of each loop: the model by hand, a copy of the tensors, the learning rate.

    Args:
        backend: Backend of the tensors.
        problem: Model and stream.
    """

    def __init__(self, backend: TorchBackend, problem: BenchModel) -> None:
        self.model = CELLS[problem.cell]
        leaves = backend.named_leaves
        self.params: dict[str, Tensor] = {k: p.clone() for k, p in leaves(problem.params)}
        self.state: dict[str, Tensor] = dict(leaves(problem.state))
        self.learning_rate = inverse_sqrt(LEARNING_RATE, DECAY)
        self.device = backend.device


class Loop:
    """A loop over the same items, repeated.

    Args:
        backend: Backend of the tensors.
        problem: Model and stream.
        learn: Function of a window of items and of the index of the newest item.
        span: Number of items in a window.
    """

    def __init__(
        self,
        backend: TorchBackend,
        problem: BenchModel,
        learn: Callable[[list[Item], int], None],
        span: int = 1,
    ) -> None:
        self.items = EAGER
        stack = problem.symbols(EAGER)
        each = [{k: leaf[i].long() for k, leaf in stack.items()} for i in range(EAGER)]
        self._windows = [each[i : i + span] for i in range(0, EAGER, span)]
        self._learn = learn
        self._newest = -1
        self._wait = TorchInstrument(backend).wait

    def run(self) -> None:
        """Process the items once."""
        for window in self._windows:
            self._newest += len(window)
            self._learn(window, self._newest)
        self._wait()


def plain(
    backend: TorchBackend, problem: BenchModel, *, span: int = 1, fused: bool = False
) -> Loop:
    """Build truncated BPTT as in PyTorch's manual: backward, step, zero_grad, detach."""
    start = Start(backend, problem)
    state, params = start.state, start.params
    optimizer = _adam(params, fused)

    def learn(window: list[Item], newest: int) -> None:
        nonlocal state
        losses = []
        for item in window:
            state, loss = start.model(params, state, item)
            losses.append(loss)
        total = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        total.backward()  # type: ignore[no-untyped-call]  # PyTorch's own has no types
        optimizer.param_groups[0]["lr"] = start.learning_rate(newest)
        optimizer.step()
        optimizer.zero_grad()
        state = {name: leaf.detach() for name, leaf in state.items()}

    return Loop(backend, problem, learn, span)


def online(backend: TorchBackend, problem: BenchModel, *, fused: bool = False) -> Loop:
    """Build the same loop with `Online` in the place of backward."""
    start = Start(backend, problem)
    optimizer = _adam(start.params, fused)
    estimate = Online(start.model, start.params, start.state)

    def learn(window: list[Item], newest: int) -> None:
        estimate.step(window[0])
        optimizer.param_groups[0]["lr"] = start.learning_rate(newest)
        optimizer.step()
        optimizer.zero_grad()

    return Loop(backend, problem, learn)


def compiled(backend: TorchBackend, problem: BenchModel) -> Loop:
    """Build a `Learner` that compiles the whole step."""
    start = Start(backend, problem)
    learner = Learner(
        backend.dynamics(start.model),
        UORO(),
        neutral_optimizer(),
        start.params,
        start.state,
        donate=True,
        compile=True,
    )
    return Loop(backend, problem, lambda window, newest: _take(learner, window[0]))


def _take(learner: Learner, item: Item) -> None:
    learner.step(item)


def plain_compiled(backend: TorchBackend, problem: BenchModel) -> Loop:
    """Build a truncated step compiled as one function, Adam included."""
    start = Start(backend, problem)
    model, params, state = start.model, start.params, start.state
    moments = tuple({k: torch.zeros_like(p) for k, p in params.items()} for _ in range(2))

    def advance(
        params: Params, moments: tuple[Params, ...], state: State, item: Item, scales: Tensor
    ) -> tuple[Params, tuple[Params, ...], State]:
        def loss(params: Params) -> tuple[Tensor, State]:
            next_state, loss = model(params, state, item)
            return loss, next_state

        gradient, next_state = torch.func.grad(loss, has_aux=True)(params)
        first = {k: torch.lerp(m, gradient[k], 0.1) for k, m in moments[0].items()}
        second = {k: 0.999 * v + 0.001 * gradient[k] ** 2 for k, v in moments[1].items()}
        stepped = {
            k: p - scales[0] * first[k] / ((second[k] * scales[1]).sqrt() + 1e-8)
            for k, p in params.items()
        }
        return stepped, (first, second), next_state

    compiled = torch.compile(advance, fullgraph=True)

    def learn(window: list[Item], newest: int) -> None:
        nonlocal params, moments, state
        count = newest + 1
        scales = [start.learning_rate(newest) / (1 - 0.9**count), 1 / (1 - 0.999**count)]
        given = torch.tensor(scales, device=start.device)
        params, moments, state = compiled(params, moments, state, window[0], given)

    return Loop(backend, problem, learn)


def _adam(params: Params, fused: bool) -> torch.optim.Adam:
    """Return PyTorch's Adam, default or fused."""
    leaves = [p.requires_grad_() for p in params.values()]
    return torch.optim.Adam(leaves, lr=LEARNING_RATE, fused=fused or None)
