"""Streams shared out over two processes; to be run in both of them at once.

`test_many_devices.py` does so. Every test is one that both processes go through together, and each
computes what a single process gives besides, to compare with its rows of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import optree
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from uoro_torch import DistributedStreams, Online, TorchBackend, TorchOptimizer

from uoro import RTRL, UORO, Adam, Dynamics, Estimator, Learner, RollingTruncated, Streams, unroll
from uoro.errors import SettingError, StructureError
from uoro.estimators import ParallelEstimator

RANK, PROCESSES = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
COUNT, UNITS = 6, 5
HERE = range(RANK * COUNT // PROCESSES, (RANK + 1) * COUNT // PROCESSES)
MSE = nn.functional.mse_loss

ROUNDING = 1e-13
"""Of float64: sums over streams are taken in another order, and training carries that along. The
gaps seen are about a hundred times smaller."""


@pytest.fixture(scope="module", autouse=True)
def _group() -> Iterator[None]:
    dist.init_process_group(
        "gloo",
        init_method=f"file://{os.environ['MEETING']}",
        rank=RANK,
        world_size=PROCESSES,
        timeout=timedelta(seconds=60),
    )
    yield
    dist.destroy_process_group()


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def _mine(tree: Any) -> Any:
    """Take the rows of this process."""
    return optree.tree_map(lambda leaf: leaf[HERE.start : HERE.stop], tree)


def _transition(params: Any, state: Any, item: Any) -> Any:
    """Step a network whose state holds an integer and complex numbers."""
    hidden = torch.tanh(params["recurrent"] @ state["hidden"] + params["input"] * item[0])
    turning = params["turn"] * state["turning"] + item[0]
    error = (params["readout"] * hidden).sum() + turning.real - item[1]
    following = {"hidden": hidden, "turning": turning, "seen": state["seen"] + 1}
    return following, 0.5 * error**2, hidden[:2]


def _model() -> tuple[Dynamics[Any, Any, Any], Any, Any]:
    """Make dynamics, params, and a stack of all states."""
    generator = np.random.default_rng(0)
    params = {
        "recurrent": generator.normal(size=(UNITS, UNITS)) / UNITS**0.5,
        "input": generator.normal(size=UNITS),
        "readout": 0.1 * generator.normal(size=UNITS),
        "turn": np.array(0.4 + 0.5j),
    }
    state = {
        "hidden": 0.3 * generator.normal(size=(COUNT, UNITS)),
        "turning": generator.normal(size=COUNT) + 0j,
        "seen": np.zeros(COUNT, int),
    }
    backend = TorchBackend()
    dynamics = backend.dynamics(_transition, has_aux=True)
    return dynamics, backend.from_host(params), backend.from_host(state)


def _items(steps: int) -> list[Any]:
    """Draw items of all streams, all different."""
    generator = np.random.default_rng(5)
    return [torch.tensor(generator.normal(size=(COUNT, 2))) for _ in range(steps)]


def _gap(got: Any, wanted: Any) -> float:
    """Measure the largest difference of a leaf, relative to its largest entry."""
    gaps = [0.0]
    for a, b in zip(optree.tree_leaves(got), optree.tree_leaves(wanted), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        gap = (a - b).abs().max() / b.abs().max().clamp(min=1e-300)
        gaps.append(float(gap.detach()))
    return max(gaps)


@pytest.mark.parametrize(
    ("estimator", "span"),
    [(UORO(), 1), (UORO(rank=2, distribution="spherical"), 1), (UORO(), 3), (RTRL(), 1),
     (RollingTruncated(3), 1)],
    ids=["uoro", "rank 2", "memory-3", "rtrl", "rolling"],
)  # fmt: skip
def test_training_is_that_of_one_process(estimator: Estimator, span: int) -> None:
    def train(streams: ParallelEstimator, rows: Any) -> tuple[Learner, list[float]]:
        dynamics, params, state = _model()
        if span > 1:
            dynamics = unroll(dynamics, span)
        learner = Learner(dynamics, streams, Adam(1e-3), params, rows(state), seed=3)
        losses: list[float] = []
        items = [rows(item) for item in _items(30 * span)]
        learner.run(items[: 20 * span], report=lambda metrics: losses.extend(metrics.losses))
        fresh = optree.tree_map(lambda leaf: rows(leaf.roll(1, 0)), state)
        if HERE.start == 0 or len(streams.rows) == COUNT:  # the first process alone
            learner.reset(rows(torch.arange(COUNT) == 1), fresh)
        learner.run(items[20 * span :], report=lambda metrics: losses.extend(metrics.losses))
        return learner, losses

    shared, losses = train(DistributedStreams(estimator, COUNT), _mine)
    single, wanted = train(Streams(estimator, COUNT), lambda tree: tree)
    assert _gap(shared.params, single.params) < ROUNDING
    assert _gap((shared.state, shared.carry), _mine((single.state, single.carry))) < ROUNDING
    assert losses == pytest.approx(wanted, rel=ROUNDING)
    # Bit for bit the same in both processes, though nothing but the gradient was sent.
    DistributedStreams(estimator, COUNT).require_same(shared.params, "after training", "")
    assert {leaf.shape[0] for leaf in optree.tree_leaves(shared.carry)} == {COUNT // PROCESSES}


def test_every_draw_is_the_share_of_a_draw_for_all() -> None:
    backend, (_, _, state) = TorchBackend(), _model()

    def sampler(*arguments: Any) -> Any:
        return backend.random(backend.fold(backend.key(0), 7), *arguments)

    for estimator in (
        UORO(),
        UORO(rank=3, distribution="spherical"),
        UORO(distribution="gaussian"),
    ):
        mine = DistributedStreams(estimator, COUNT).draw(sampler, _mine(state))
        everything = Streams(estimator, COUNT).draw(sampler, state)
        assert _gap(mine, _mine(everything)) == 0.0


def test_there_is_one_exchange_for_each_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Tensor] = []
    exchange = dist.all_reduce

    def counted(tensor: Tensor, **options: Any) -> Any:
        sent.append(tensor)
        return exchange(tensor, **options)

    monkeypatch.setattr(dist, "all_reduce", counted)
    params = {
        "a": torch.full((3, 2), 0.5, dtype=torch.float64),
        "b": torch.full((4,), 0.25 + 0.5j, dtype=torch.complex128),
        "c": torch.full((5,), 0.5),
        "d": torch.full((2,), 0.5, dtype=torch.bfloat16),
    }

    def transition(params: Any, state: Any, item: Any) -> Any:
        total = sum((leaf.sum().real.double() for leaf in params.values()), 0.1 * state)
        return total, 0.5 * (total - item) ** 2

    dynamics = TorchBackend().dynamics(transition)
    items = torch.arange(COUNT, dtype=torch.float64)
    state = torch.zeros(COUNT, dtype=torch.float64)

    def gradient(streams: ParallelEstimator, rows: Any) -> Any:
        carry = streams.init(dynamics, params, rows(state))
        signs = optree.tree_map(torch.ones_like, rows(state))
        return streams.step(dynamics, params, carry, rows(state), rows(items), signs)[2].gradient

    shared = gradient(DistributedStreams(UORO(), COUNT), _mine)
    assert [(tensor.dtype, len(tensor)) for tensor in sent] == [
        (torch.float64, 1 + 6 + 2 * 4),
        (torch.float32, 5 + 2),
    ]
    single = gradient(Streams(UORO(), COUNT), lambda tree: tree)
    for name, tolerance in {"a": 1e-15, "b": 1e-15, "c": 1e-6, "d": 1e-2}.items():
        assert _gap(shared[name], single[name]) < tolerance, name


class Recurrent(nn.Module):
    """A GRU cell and a readout, with dropout and a count of steps."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.cell, self.readout = nn.GRUCell(2, UNITS), nn.Linear(UNITS, 1)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, given: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.seen: Tensor = self.seen + 1
        state = self.dropout(self.cell(given, state))
        return self.readout(state), state


class Running(Recurrent):
    """One that keeps a mean of what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2, dtype=torch.float64))

    def forward(self, given: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.mean: Tensor = 0.9 * self.mean + 0.1 * given.detach().mean(0)
        return super().forward(given, state)


def _pairs(steps: int) -> list[tuple[Tensor, Tensor]]:
    drawn = torch.randn(steps, COUNT, 3, dtype=torch.float64)
    return [(item[:, :2], item[:, 2:]) for item in drawn]


def _train_module(
    module: nn.Module, estimator: ParallelEstimator, rows: Any, **options: Any
) -> tuple[Online, list[float]]:
    torch.manual_seed(1)
    zeros = torch.zeros(len(estimator.rows), UNITS, dtype=torch.float64)
    online = Online.for_module(module, MSE, zeros, estimator=estimator, seed=2, **options)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    losses = []
    for step, (given, target) in enumerate(_pairs(12)):
        losses.append(float(online.step(rows(given), rows(target))))
        optimizer.step()
        optimizer.zero_grad()
        if step % 5 == 4:
            online.reset(rows(torch.arange(COUNT) % 2 == 0))
    return online, losses


def test_a_module_is_trained_as_in_one_process() -> None:
    def train(estimator: ParallelEstimator, rows: Any, **options: Any) -> Any:
        torch.manual_seed(0)
        module = Recurrent().double()
        online, losses = _train_module(module, estimator, rows, **options)
        assert module.seen == 12
        return dict(module.named_parameters()), (online.state, online.carry), losses

    params, carried, losses = train(DistributedStreams(UORO(rank=2), COUNT), _mine, streams=COUNT)
    all_params, all_carried, all_losses = train(Streams(UORO(rank=2), COUNT), lambda tree: tree)
    assert _gap(params, all_params) < ROUNDING
    assert _gap(carried, _mine(all_carried)) < ROUNDING
    assert losses == pytest.approx(all_losses, rel=ROUNDING)


def test_a_function_is_trained_as_in_one_process() -> None:
    def train(estimator: ParallelEstimator, rows: Any) -> Any:
        _, params, state = _model()

        def transition(params: Any, state: Any, item: Any) -> Any:
            return _transition(params, state, item)[:2]

        online = Online(transition, params, rows(state), estimator=estimator)
        optimizer = torch.optim.SGD(list(params.values()), lr=1e-2)
        for item in _items(10):
            online.step(rows(item))
            optimizer.step()
            optimizer.zero_grad()
        return params, online

    params, online = train(DistributedStreams(UORO(), COUNT), _mine)
    all_params, single = train(Streams(UORO(), COUNT), lambda tree: tree)
    assert _gap(params, all_params) < ROUNDING
    assert _gap(online.carry, _mine(single.carry)) < ROUNDING


def test_optimizers_and_initial_states_of_torch_fit() -> None:
    torch.manual_seed(0)
    streams = DistributedStreams(UORO(), COUNT)
    online = Online.for_module(nn.LSTMCell(2, UNITS), MSE, estimator=streams)
    assert [leaf.shape[0] for leaf in online.state] == [COUNT // PROCESSES] * 2
    dynamics, params, state = _model()
    optimizer = TorchOptimizer(torch.optim.Adam(list(params.values()), lr=1e-3))
    learner = Learner(dynamics, streams, optimizer, params, _mine(state))
    assert learner.run([_mine(item) for item in _items(3)]).steps == 3
    said = r"streams=3.*number of streams, 6, got 3\. Leave streams out"
    with pytest.raises(SettingError, match=said):
        Online.for_module(nn.LSTMCell(2, UNITS), MSE, streams=3, estimator=streams)


def test_what_a_module_draws_differs_between_processes_and_repeats_itself() -> None:
    def states() -> Any:
        torch.manual_seed(0)
        alike = torch.ones(COUNT, UNITS, dtype=torch.float64)
        streams = DistributedStreams(UORO(), COUNT)
        module = Recurrent(dropout=0.5).double()
        online = Online.for_module(module, MSE, _mine(alike), estimator=streams)
        for _ in range(3):
            online.step(_mine(alike[:, :2]), _mine(alike[:, :1]))
        return online.state.tolist()

    mine = states()
    assert mine == states()
    everyone: list[Any] = [None] * PROCESSES
    dist.all_gather_object(everyone, mine)
    assert everyone[0] != everyone[1]


def test_buffers_of_one_process_alone_are_refused() -> None:
    streams = DistributedStreams(UORO(), COUNT)
    with pytest.raises(
        StructureError, match=r"expected the same numbers.*got others in leaf 'mean'\. A buf"
    ):
        _train_module(Running().double(), streams, _mine)


def test_params_that_differ_are_refused_by_name_in_every_process() -> None:
    dynamics, params, state = _model()
    params["input"][RANK] += 1e-12
    streams = DistributedStreams(UORO(), COUNT)
    with pytest.raises(
        StructureError,
        match=r"Streams\(count=6\).init\(params\): expected the same.*in leaf 'input'\. Start",
    ):
        streams.init(dynamics, params, _mine(state))
    if RANK == 0:
        del params["input"]
    with pytest.raises(StructureError, match="leaves of the same names"):
        streams.init(dynamics, params, _mine(state))


def test_counts_that_differ_are_refused() -> None:
    dynamics, params, state = _model()
    streams = DistributedStreams(UORO(), COUNT * (1 + RANK))
    stack = optree.tree_map(lambda leaf: leaf[: len(streams.rows)], state)
    with pytest.raises(StructureError, match=f"others than the {streams.count} streams"):
        streams.init(dynamics, params, stack)


def test_what_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(SettingError, match=r"count=5.*the number of processes, 2, got 5.*count=6"):
        DistributedStreams(UORO(), 5)
    with pytest.raises(SettingError, match="count: expected an integer >= 1"):
        DistributedStreams(UORO(), 0)
    first = dist.new_group([0])
    if RANK:
        with pytest.raises(SettingError, match="got one without it"):
            DistributedStreams(UORO(), COUNT, first)
    else:
        assert DistributedStreams(UORO(), COUNT, first).rows == range(COUNT)
    dynamics, params, state = _model()
    with pytest.raises(
        StructureError,
        match=rf"count=6\).init\(state\), of range\({HERE.start}, {HERE.stop}\): leaf 'hidden': "
        r"expected a leading axis of 3, got shape \(6, 5\)",
    ):
        DistributedStreams(UORO(), COUNT).init(dynamics, params, state)


def test_backward_passes_of_outputs_are_averaged_though_they_come_late() -> None:
    model = nn.GRUCell(3, UNITS).double()
    whole = Online.for_module(model, estimator=Streams(UORO(), COUNT))
    shared = Online.for_module(model, estimator=DistributedStreams(UORO(), COUNT))
    gradients = []
    all_rows: Any = (whole, lambda tree: tree)
    for online, rows in (all_rows, (shared, _mine)):
        torch.manual_seed(1)
        outputs = [online(rows(torch.randn(COUNT, 3).double())) for _ in range(4)]
        model.zero_grad()
        for output in reversed(outputs):
            loss: Any = output.square().sum(1).mean()
            loss.backward()
        gradients.append([param.grad for param in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert one is not None
        assert other is not None
        assert torch.allclose(one, other, rtol=ROUNDING, atol=ROUNDING)
