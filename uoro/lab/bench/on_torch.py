"""What PyTorch adds to the benchmark: `Online`, and loops written by hand to hold it against."""

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
from uoro.lab.bench.learning import DECAY, EAGER, RATE
from uoro.lab.bench.learning import optimizer as neutral_optimizer
from uoro.lab.bench.roofline import Work
from uoro.lab.bench.torch_cells import CELLS, Item, Params, State
from uoro.learning.learner import Learner
from uoro.schedules import inverse_sqrt

WINDOW = 16


class TorchInstrument:
    """Measure PyTorch.

    Args:
        backend: On whose device.
    """

    def __init__(self, backend: TorchBackend) -> None:
        self._backend = backend
        self._cuda = backend.device.startswith("cuda")

    def set_threads(self, threads: int) -> None:
        """Keep PyTorch's own pool to it."""
        torch.set_num_threads(threads)

    def hardware(self) -> str:
        """Name an accelerator."""
        return torch.cuda.get_device_name(self._backend.device) if self._cuda else ""

    def wait(self) -> None:
        """Wait for an accelerator."""
        if self._cuda:
            torch.cuda.synchronize(self._backend.device)

    def extras(self) -> dict[str, ExtraRow]:
        """Give the loops by hand, and `Online`, each as it is and compiled."""
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
        """Know nothing: nothing is compiled as a whole."""
        return None

    def watch(self) -> Callable[[], PeakMemory | None]:
        """Ask the allocator of an accelerator; on a CPU, watch this process."""
        if not self._cuda:
            return resident_memory()
        device = self._backend.device
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        how = "most that was allocated on the device, above what it was before the row was made"
        return lambda: PeakMemory(torch.cuda.max_memory_allocated(device) - before, how, {})


def instrument(backend: TorchBackend) -> TorchInstrument:
    """Make the instrument of a backend."""
    return TorchInstrument(backend)


class Start:
    """What each loop starts from: the model by hand, numbers of its own, the learning rate.

    Args:
        backend: The backend of the tensors.
        problem: The model and its numbers.
    """

    def __init__(self, backend: TorchBackend, problem: BenchModel) -> None:
        self.model = CELLS[problem.cell]
        leaves = backend.named_leaves
        self.params: dict[str, Tensor] = {k: p.clone() for k, p in leaves(problem.params)}
        self.state: dict[str, Tensor] = dict(leaves(problem.state))
        self.rate = inverse_sqrt(RATE, DECAY)
        self.device = backend.device


class Loop:
    """Go through the same items again and again.

    Args:
        backend: The backend of the tensors.
        problem: Whose stream it is.
        learn: Learns from a window of items, given the index of the newest.
        span: Items in a window.
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
        """Go through them once."""
        for window in self._windows:
            self._newest += len(window)
            self._learn(window, self._newest)
        self._wait()


def plain(
    backend: TorchBackend, problem: BenchModel, *, span: int = 1, fused: bool = False
) -> Loop:
    """Truncate as the manual has it: backward, step, zero_grad, detach."""
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
        optimizer.param_groups[0]["lr"] = start.rate(newest)
        optimizer.step()
        optimizer.zero_grad()
        state = {name: leaf.detach() for name, leaf in state.items()}

    return Loop(backend, problem, learn, span)


def online(backend: TorchBackend, problem: BenchModel, *, fused: bool = False) -> Loop:
    """Put `Online` in the place of backward, with the same model and the same optimizer."""
    start = Start(backend, problem)
    optimizer = _adam(start.params, fused)
    estimate = Online(start.model, start.params, start.state)

    def learn(window: list[Item], newest: int) -> None:
        estimate.step(window[0])
        optimizer.param_groups[0]["lr"] = start.rate(newest)
        optimizer.step()
        optimizer.zero_grad()

    return Loop(backend, problem, learn)


def compiled(backend: TorchBackend, problem: BenchModel) -> Loop:
    """Have a `Learner` compile the whole step."""
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
    """Compile the whole truncated step, Adam included, as one function."""
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
        scales = [start.rate(newest) / (1 - 0.9**count), 1 / (1 - 0.999**count)]
        given = torch.tensor(scales, device=start.device)
        params, moments, state = compiled(params, moments, state, window[0], given)

    return Loop(backend, problem, learn)


def _adam(params: Params, fused: bool) -> torch.optim.Adam:
    """Let PyTorch's own Adam train them, as one writes it down or in its fastest form."""
    leaves = [p.requires_grad_() for p in params.values()]
    return torch.optim.Adam(leaves, lr=RATE, fused=fused or None)
