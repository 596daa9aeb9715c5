"""Several tangents and cotangents of one step of a module: taken in one backward pass."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from uoro_torch import Online, pullbacks
from uoro_torch.backend import TorchBackend
from uoro_torch.module import ModuleTransition
from uoro_torch.module_dynamics import ModuleDynamics

from uoro import RTRL, UORO, Streams

IN, OUT = 3, 2
MSE: Any = nn.functional.mse_loss


class Solver(nn.Module):
    """An ordinary differential equation, solved from one item to the next by Heun's method."""

    def __init__(self, units: int, steps: int = 60) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.field = nn.Linear(units + IN, units).double()
        self.readout, self.steps = nn.Linear(units, OUT).double(), steps

    def slope(self, state: Tensor, input: Tensor) -> Tensor:
        return torch.tanh(self.field(torch.cat([state, input], -1))) - state

    def forward(self, input: Tensor, state: Tensor) -> Any:
        dt = 1.0 / self.steps
        for _ in range(self.steps):
            slope = self.slope(state, input)
            state = state + dt / 2 * (slope + self.slope(state + dt * slope, input))
        return self.readout(state), state


class _Doubled(torch.autograd.Function):
    """Twice a tensor, by a backward pass that reads numbers, as no map can."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2.0 * x

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Tensor:
        return 2.0 * given[0] if float(given[0].detach().sum()) < 1e9 else given[0]


class Reading(Solver):
    """A module that cannot be mapped."""

    def slope(self, state: Tensor, input: Tensor) -> Tensor:
        apply: Any = _Doubled.apply
        return super().slope(apply(state) / 2, input)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return a list that grows by one with each backward pass."""
    seen, grad = list[None](), torch.autograd.grad

    def counted(*arguments: Any, **options: Any) -> Any:
        seen.append(None)
        return grad(*arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    return seen


@pytest.mark.parametrize("estimator", [RTRL(), UORO(), UORO(rank=12)], ids=str)
def test_a_step_takes_as_many_backward_passes_for_a_large_state(
    estimator: Any, passes: list[None]
) -> None:
    counts = list[list[int]]()
    for units in (4, 40):
        online = Online.for_module(
            Solver(units), MSE, torch.zeros(units).double(), estimator=estimator
        )
        counts.append([])
        for _ in range(2):  # The first step checks the model.
            before = len(passes)
            online.step(torch.randn(IN).double(), torch.randn(OUT).double())
            counts[-1].append(len(passes) - before)
    assert counts[0] == counts[1]
    assert counts[0][0] < 40
    assert counts[0][1] < 6


@pytest.mark.parametrize("kind", [Solver, Reading])
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("forward_mode", [False, True])
@pytest.mark.parametrize("at_once", [64, 2])
def test_a_map_over_tangents_and_cotangents_is_a_loop_over_them(
    kind: Any, rows: bool, forward_mode: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if forward_mode and kind is Reading:
        pytest.skip("It has no forward mode.")
    monkeypatch.setattr(pullbacks, "AT_ONCE", at_once)
    backend, module, pairs = TorchBackend(), kind(4, steps=2), 5
    transition = ModuleTransition(module, None, rows=rows)
    dynamics = ModuleDynamics(backend, transition, rows, forward_mode=forward_mode)
    params = dict(module.named_parameters())
    lead = (3,) if rows else ()
    state, item = (torch.randn(*lead, size).double() for size in (4, IN))
    tangents, cotangents = (torch.randn(*lead, pairs, 4).double() for _ in range(2))
    outputs = torch.randn(*lead, pairs, OUT).double()

    def look(state: Any, item: Any, tangent: Any, cotangent: Any, output: Any) -> Any:
        pushed = dynamics.jvp(params, state, (item,), tangent)
        _, pullback = dynamics.vjp(params, state, (item,))
        return pushed, pullback(cotangent, output), pullback(None, output)

    def pairs_of_one(state: Any, item: Any, *stacks: Any) -> Any:
        pushed = backend.vmap(lambda one: dynamics.jvp(params, state, (item,), one))(stacks[0])
        _, pullback = dynamics.vjp(params, state, (item,))
        both = backend.vmap(pullback)(*stacks[1:])
        return pushed, both, backend.vmap(lambda one: pullback(None, one))(stacks[2])

    whole = backend.vmap(pairs_of_one) if rows else pairs_of_one
    mapped = whole(state, item, tangents, cotangents, outputs)
    for index in range(pairs):
        for row in range(3) if rows else (...,):
            at: Any = (row, index) if rows else index
            alone = look(state[row], item[row], tangents[at], cotangents[at], outputs[at])
            found = backend.map(lambda leaf: leaf[at], mapped)  # noqa: B023  # used at once
            gap = backend.map(lambda x, y: (x - y).abs().max(), alone, found)
            assert max(map(float, backend_leaves(backend, gap))) < 1e-14


def backend_leaves(backend: Any, tree: Any) -> list[Any]:
    return [leaf for _, leaf in backend.named_leaves(tree)]


@pytest.mark.parametrize("kind", [Solver, Reading])
@pytest.mark.parametrize("streams", [None, 3])
def test_one_pass_for_several_is_used_where_it_can_be(
    kind: Any, streams: int | None, passes: list[None]
) -> None:
    lead, units = () if streams is None else (streams,), 6
    estimator: Any = RTRL() if streams is None else Streams(RTRL(), streams)
    online = Online.for_module(
        kind(units, steps=2), MSE, torch.zeros(*lead, units).double(), estimator=estimator
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            passes.clear()
            online.step(torch.randn(*lead, IN).double(), torch.randn(*lead, OUT).double())
    assert (len(passes) < 7) is (kind is Solver)
