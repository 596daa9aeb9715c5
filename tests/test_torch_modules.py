"""`nn.Module`s as their users write them, trained by `Online`."""

from __future__ import annotations

import gc
import io
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from real_models.refused import _RowsNormed
from real_models.torch_models import (
    IN,
    OUT,
    UNITS,
    BatchNormed,
    Counting,
    Dropped,
    Read,
    Spiking,
    _NewSpike,
)
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from uoro_torch import Online, SingleStep, TorchBackend
from uoro_torch.module import ModuleTransition
from uoro_torch.module_dynamics import ModuleDynamics

from uoro import RTRL, UORO, JointUORO, RollingTruncated, Streams
from uoro.algebra import entry
from uoro.errors import DerivativeError, DerivativeWarning, SettingError, StructureError

MSE = functional.mse_loss


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _stream(steps: int, *lead: int, out: int = UNITS, dtype: Any = torch.float64) -> Any:
    return torch.randn(steps, *lead, IN, dtype=dtype), torch.randn(steps, *lead, out, dtype=dtype)


STOCK: dict[str, Callable[[], nn.Module]] = {
    "RNNCell": lambda: nn.RNNCell(IN, UNITS),
    "GRUCell": lambda: nn.GRUCell(IN, UNITS),
    "LSTMCell": lambda: nn.LSTMCell(IN, UNITS),
    "RNN, batch first": lambda: nn.RNN(IN, UNITS, 2, batch_first=True),
    "GRU": lambda: nn.GRU(IN, UNITS, 2),
    "LSTM": lambda: nn.LSTM(IN, UNITS, 2),
}


@pytest.mark.parametrize("estimator", [UORO(), UORO(rank=2), RTRL()], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", STOCK)
def test_streams_in_one_batch_are_streams_alone(name: str, dtype: Any, estimator: Any) -> None:
    module = STOCK[name]().to(dtype)
    online = Online.for_module(module, MSE, streams=3, estimator=estimator)
    alone = Online.for_module(module, MSE, estimator=estimator)
    backend, start = online.dynamics.backend, online.state
    inputs, targets = _stream(4, 3, dtype=dtype)
    gradients = list[Any]()
    for x, y in zip(inputs, targets, strict=True):
        module.zero_grad()
        online.step(x, y)
        gradients.append({name: param.grad for name, param in online.params.items()})
    singles = []
    for row in range(3):
        carry = estimator.init(alone.dynamics, alone.params, alone.state)
        state, found = alone.state, []
        for step in range(4):
            key = backend.fold(backend.key(0), step)
            signs = online.estimator.draw(partial(backend.random, key), start)
            signs = None if signs is None else entry(backend, signs, row)
            item = inputs[step, row], targets[step, row], torch.tensor(0)
            carry, state, estimate = estimator.step(
                alone.dynamics, alone.params, carry, state, item, signs
            )
            found.append(estimate.gradient)
        singles.append(found)
        mine = entry(backend, online.carry, row)
        torch.testing.assert_close(mine, carry, rtol=1e-4, atol=1e-6)
    for step in range(4):
        for leaf, got in gradients[step].items():
            mean = torch.stack([found[step][leaf] for found in singles]).mean(0)
            torch.testing.assert_close(got, mean, rtol=1e-4, atol=1e-5)


def test_a_stock_module_is_what_it_is_over_a_sequence() -> None:
    inputs, _ = _stream(5)
    for make in (STOCK["LSTM"], STOCK["GRU"], STOCK["RNN, batch first"]):
        module = make().double()
        step = SingleStep(module)
        state, outputs = step.initial_state(), []
        for x in inputs:
            output, state = step(x, state)
            outputs.append(output)
        whole, _ = module(inputs)
        torch.testing.assert_close(torch.stack(outputs), whole)


def test_dropout_is_the_same_within_a_step_and_another_in_the_next() -> None:
    before = torch.get_rng_state()
    model = Dropped()
    online, again = (
        Online.for_module(model, MSE, torch.zeros(UNITS), estimator=UORO()) for _ in range(2)
    )
    torch.set_rng_state(before)
    losses = [float(online.step(torch.ones(IN), torch.ones(OUT))) for _ in range(6)]
    assert torch.equal(torch.get_rng_state(), before), "nobody else's draws move"
    assert len(set(losses)) == 6
    assert losses == [float(again.step(torch.ones(IN), torch.ones(OUT))) for _ in range(6)]
    gap = online.dynamics.gap
    assert gap is not None
    assert gap < 1e-6


def test_buffers_become_what_the_module_would_make_of_them() -> None:
    model, reference = BatchNormed(), BatchNormed()
    reference.load_state_dict(model.state_dict())
    online = Online.for_module(model, MSE, torch.zeros(UNITS), estimator=UORO())
    for _ in range(3):
        x = torch.randn(1, 3, 3)
        online.step(x, torch.randn(OUT))
        reference(x, torch.zeros(UNITS))
    for mine, theirs in zip(model.buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert int(model.norm.num_batches_tracked) == 3  # type: ignore[arg-type]  # a tensor


def test_batchnorm_over_a_batch_that_is_one_state_works() -> None:
    online = Online.for_module(_RowsNormed(), MSE, torch.zeros(5, UNITS), estimator=UORO())
    assert torch.isfinite(online.step(torch.randn(5, IN), torch.randn(5, OUT)))


def test_a_module_is_looked_at_again_when_its_mode_changes() -> None:
    model = _RowsNormed().eval()
    online = Online.for_module(model, MSE, torch.zeros(4, UNITS), streams=4, estimator=UORO())
    item = torch.randn(4, IN), torch.randn(4, OUT)
    online.step(*item)
    model.train()
    for _ in range(2):
        with pytest.raises(DerivativeError, match="rows that change each other's results"):
            online.step(*item)
    model.eval()
    assert torch.isfinite(online.step(*item))


def test_autocast_keeps_the_state_in_its_own_dtype() -> None:
    model = Read(nn.GRUCell(IN, UNITS))
    online = Online.for_module(model, MSE, torch.zeros(UNITS), estimator=UORO())
    optimizer = torch.optim.Adam(model.parameters())
    inputs, targets = _stream(4, out=OUT, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        for x, y in zip(inputs, targets, strict=True):
            assert torch.isfinite(online.step(x, y))
            optimizer.step()
            optimizer.zero_grad()
    assert online.state.dtype is torch.float32
    assert "too coarse" in online.dynamics.describe()


@pytest.mark.parametrize("streams", [None, 2])
@pytest.mark.parametrize("estimator", [UORO(), UORO(rank=2), RTRL()], ids=str)
def test_it_goes_on_from_a_state_dict(estimator: Any, streams: int | None) -> None:
    lead = () if streams is None else (streams,)
    inputs, targets = _stream(6, *lead, dtype=torch.float32)
    module = nn.LSTM(IN, UNITS, 2)
    make = partial(Online.for_module, module, MSE, streams=streams, estimator=estimator)
    online, other = make(seed=5), make()
    for x, y in zip(inputs[:3], targets[:3], strict=True):
        online.step(x, y)
    file = io.BytesIO()
    torch.save(online.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    for x, y in zip(inputs[3:], targets[3:], strict=True):
        assert torch.equal(online.step(x, y), other.step(x, y))
    mine, theirs = online.state_dict(), other.state_dict()
    assert mine["steps"] == theirs["steps"] == 6
    for one, two in zip(mine["carry"], theirs["carry"], strict=True):
        assert torch.equal(one, two)
    before = {"memory" if name == "carry" else name: value for name, value in mine.items()}
    other.load_state_dict(before)  # as it was saved before 0.2
    assert torch.equal(online.step(inputs[0], targets[0]), other.step(inputs[0], targets[0]))
    strange = Online.for_module(nn.LSTM(IN, UNITS, 1), MSE, estimator=UORO())
    with pytest.raises(StructureError, match="another model"):
        strange.load_state_dict(mine)


def test_a_compiled_step_gives_the_same_numbers() -> None:
    model = Read(nn.GRUCell(IN, UNITS)).double()
    zero = torch.zeros(UNITS).double()
    plain, compiled = (
        Online.for_module(model, MSE, zero, compile=compile, check=not compile, estimator=UORO())
        for compile in (False, True)
    )
    for x, y in zip(*_stream(4, out=OUT), strict=True):
        gradients = []
        for online in (plain, compiled):
            model.zero_grad()
            loss = online.step(x, y)
            gradients.append([loss, *(p.grad for p in model.parameters())])
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


class Fading(nn.Module):
    """A cell whose output depends on a buffer that changes with every step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.readout = nn.GRUCell(IN, UNITS).double(), nn.Linear(UNITS, OUT).double()
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()).double())

    def forward(self, input: Tensor, state: Tensor) -> Any:
        state = self.cell(input, state)
        self.scale = 0.5 * self.scale + state.detach().abs().mean()
        return {"output": self.readout(state) * self.scale, "state": 2.0 * state}, state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "late"),
    [
        (UORO(), 2),
        pytest.param(UORO(), 0, marks=pytest.mark.thorough),
        pytest.param(JointUORO(2), 2, marks=pytest.mark.thorough),
        pytest.param(RTRL(), 0, marks=pytest.mark.thorough),
    ],
    ids=str,
)
def test_a_compiled_step_without_a_loss_has_the_gradient_of_any(
    estimator: Any, late: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.compile

    def quickly(function: Any, **options: Any) -> Any:
        options.pop("options")
        return real(function, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", quickly)
    seen = list[Any]()
    for compile in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model, graphs = Fading(), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        online = Online.for_module(
            model, None, torch.zeros(UNITS).double(), estimator=estimator, compile=compile
        )
        waiting, gradients = list[Any](), list[Any]()
        for x, y in zip(*_stream(9, out=OUT), strict=True):
            waiting.append((online(x), y))
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
            if len(waiting) > late:
                outputs, target = waiting.pop(0)
                loss = MSE(outputs["output"], target) + outputs["state"].square().sum()
                loss.backward()
                gradients += [p.grad.clone() for p in model.parameters() if p.grad is not None]
                optimizer.step()
                optimizer.zero_grad()
        seen.append([*gradients, online.state, model.scale])
        assert graphs[-1] == graphs[late + 3], graphs
        assert (graphs[-1] > 0) is compile
    torch.testing.assert_close(*seen, rtol=1e-10, atol=1e-12)


def test_what_does_not_go_with_compiling_is_named() -> None:
    with pytest.raises(SettingError, match="Leave one out"):
        Online.for_module(nn.GRUCell(IN, UNITS), MSE, streams=2, compile=True, estimator=UORO())
    with pytest.raises(SettingError, match="Leave one out"):
        Online(
            lambda p, s, x: (p["w"] * s, x), {"w": torch.ones(())}, torch.zeros(2),
            estimator=Streams(UORO(), 2), compile=True,
        )  # fmt: skip
    online = Online.for_module(Dropped(), MSE, torch.zeros(UNITS), compile=True, estimator=UORO())
    with pytest.raises(SettingError, match="draws random numbers"):
        online.step(torch.ones(IN), torch.ones(OUT))


def test_a_reset_of_some_streams_zeroes_their_pairs() -> None:
    start = {"voltage": torch.full((3, UNITS), 0.7), "spikes": torch.zeros(3, UNITS)}
    online = Online.for_module(
        Spiking(_NewSpike), MSE, start, streams=3, check=False, estimator=UORO()
    )
    for _ in range(3):
        online.step(torch.randn(3, IN), torch.randn(3, OUT))
    kept = online.carry.tangent["voltage"][1].clone()
    online.reset([True, False, True])
    assert torch.equal(online.carry.tangent["voltage"][1], kept)
    assert not online.carry.tangent["voltage"][[0, 2]].any()
    assert not online.carry.cotangent["into.weight"][[0, 2]].any()
    assert torch.equal(online.state["voltage"][0], start["voltage"][0])
    online.reset()
    assert online.carry is None


def test_integers_are_carried_for_every_stream() -> None:
    start = {"clock": torch.tensor([0, 1]), "hidden": torch.zeros(2, UNITS)}

    class Clocked(Counting):
        def forward(self, input: Tensor, state: Any) -> Any:
            clock, hidden = state["clock"], self.core(input, state["hidden"])
            kept = torch.where((clock % 2 == 0)[:, None], hidden, state["hidden"])
            return self.readout(hidden), {"clock": clock + 1, "hidden": kept}

    online = Online.for_module(Clocked(), MSE, start, streams=2, estimator=UORO())
    for _ in range(3):
        online.step(torch.randn(2, IN), torch.randn(2, OUT))
    assert online.state["clock"].tolist() == [3, 4]
    assert online.carry.tangent["clock"] is None


def test_a_module_that_is_no_longer_the_one_given_is_refused() -> None:
    changes: list[Callable[[Any], Any]] = [
        lambda model: model.readout.requires_grad_(False),
        lambda model: model.double(),
        lambda model: setattr(model, "readout", nn.Linear(UNITS, OUT)),
        lambda model: setattr(model.readout, "weight", nn.Parameter(torch.zeros(OUT, UNITS))),
        lambda model: model.register_parameter("more", nn.Parameter(torch.ones(1))),
        lambda model: model.load_state_dict(model.state_dict(), assign=True),
    ]
    for change in changes:
        model = Read(nn.GRUCell(IN, UNITS))
        online = Online.for_module(model, MSE, torch.zeros(UNITS), estimator=UORO())
        online.step(torch.randn(IN), torch.randn(OUT))
        change(model)
        with pytest.raises(SettingError, match=r"Call Online\.for_module again"):
            online.step(torch.randn(IN), torch.randn(OUT))


def test_what_a_probe_meets_it_leaves_as_it_was() -> None:
    class Counted(Read):
        calls, seen = 0, None

        def forward(self, input: Tensor, state: Any) -> Any:
            self.calls += 1
            self.seen = input
            return super().forward(input, state)

    model = Counted(nn.GRUCell(IN, UNITS))
    online = Online.for_module(model, MSE, torch.zeros(UNITS), estimator=UORO())
    online.dynamics.probe(
        online.params, online.state, (torch.ones(IN), torch.ones(OUT), torch.tensor(0))
    )
    assert model.calls == 0
    assert model.seen is None


def test_a_straight_through_estimator_is_not_blamed_on_no_grad() -> None:
    class StraightThrough(Read):
        def forward(self, input: Tensor, state: Any) -> Any:
            state = self.core(input, state)
            with torch.no_grad():
                hard = (state > 0).to(state.dtype)
            return self.readout(hard - state.detach() + state), state

    online = Online.for_module(
        StraightThrough(nn.GRUCell(IN, UNITS)), MSE, torch.zeros(UNITS), estimator=UORO()
    )
    with pytest.warns(DerivativeWarning, match="a surrogate on purpose"):
        online.step(torch.randn(IN), torch.randn(OUT))


def test_a_probed_model_can_be_forgotten() -> None:
    model = Read(nn.GRUCell(IN, UNITS))
    online = Online.for_module(model, MSE, torch.zeros(UNITS), estimator=UORO())
    online.step(torch.randn(IN), torch.randn(OUT))
    seen = weakref.ref(model)
    del model, online
    gc.collect()
    assert seen() is None


def test_sparse_gradients_become_dense() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, IN, sparse=True)
            self.core = nn.GRUCell(IN, UNITS)

        def forward(self, input: Tensor, state: Any) -> Any:
            state = self.core(self.embedding(input), state)
            return state, state

    model = Sparse()
    online = Online.for_module(model, MSE, torch.zeros(UNITS), estimator=UORO())
    for _ in range(3):
        online.step(torch.tensor(1), torch.ones(UNITS))
    assert model.embedding.weight.grad is not None
    assert model.embedding.weight.grad[1].any()
    assert not model.embedding.weight.grad[0].any()
    with pytest.raises(SettingError, match="Use sparse=False"):
        Online.for_module(model, MSE, torch.zeros(2, UNITS), streams=2, estimator=UORO())


def test_any_estimator_takes_a_module() -> None:
    start = {"clock": torch.tensor(0), "hidden": torch.zeros(UNITS)}
    for estimator in (RTRL(), RollingTruncated(3), UORO(rank=3, distribution="gaussian")):
        online = Online.for_module(Counting(), MSE, start, estimator=estimator)
        for _ in range(4):
            assert torch.isfinite(online.step(torch.randn(IN), torch.randn(OUT)))


def test_frozen_parameters_are_not_touched_and_not_carried() -> None:
    model = Read(nn.GRUCell(IN, UNITS))
    for param in model.core.parameters():
        param.requires_grad_(False)
    online = Online.for_module(model, MSE, torch.zeros(UNITS), estimator=UORO())
    online.step(torch.randn(IN), torch.randn(OUT))
    assert set(online.carry.cotangent) == {"readout.weight", "readout.bias"}
    assert all(param.grad is None for param in model.core.parameters())


def test_misuse_is_named() -> None:
    with pytest.raises(
        SettingError, match="expected the initial state as the third argument, got none"
    ):
        Online.for_module(Read(nn.GRUCell(IN, UNITS)), MSE, estimator=UORO())
    online = Online.for_module(nn.GRUCell(IN, UNITS), MSE, estimator=UORO())
    with pytest.raises(SettingError, match=r"expected two arguments.*got 3"):
        online.step(torch.ones(IN), torch.ones(UNITS), torch.ones(UNITS))
    learned = nn.Parameter(torch.zeros(UNITS))
    with pytest.raises(SettingError, match="the initial state is not trained"):
        Online.for_module(nn.GRUCell(IN, UNITS), MSE, learned, estimator=UORO())
    with pytest.raises(StructureError, match="leaf 't': expected tensors"):
        Online.for_module(
            nn.GRUCell(IN, UNITS), MSE, {"h": torch.zeros(UNITS), "t": 0}, estimator=UORO()
        )

    class Own(nn.GRUCell):
        def forward(self, input: Tensor, state: Tensor | None = None) -> Any:
            state = super().forward(input, state)
            return 2 * state, state

    Online.for_module(Own(IN, UNITS), MSE, torch.zeros(UNITS), estimator=UORO()).step(
        torch.ones(IN), torch.ones(UNITS)
    )
    with pytest.raises(SettingError, match="expected one of RNNCell"):
        SingleStep(nn.Linear(2, 2))
    frozen = nn.GRUCell(IN, UNITS).requires_grad_(False)
    with pytest.raises(SettingError, match="parameters that require gradients, got none"):
        Online.for_module(frozen, MSE, estimator=UORO())

    class OneOutput(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(IN, UNITS)

        def forward(self, input: Tensor, state: Tensor) -> Any:
            return self.cell(input, state)

    with pytest.raises(StructureError, match=r"expected a pair \(output, next_state\), got"):
        Online.for_module(OneOutput(), MSE, torch.zeros(UNITS), estimator=UORO()).step(
            torch.zeros(IN), torch.zeros(UNITS)
        )
    same = Online.for_module(nn.GRUCell(IN, UNITS), MSE, estimator=Streams(UORO(), 2))
    assert same.state.shape == (2, UNITS)


class Checkpointed(Read):
    """A checkpointed cell, which PyTorch differentiates twice only in forward mode."""

    def forward(self, input: Tensor, state: Any) -> Any:
        state = checkpoint(self.core, input, state, use_reentrant=False)
        return self.readout(state), state


MODES: dict[str, tuple[type[Read], dict[str, bool]]] = {
    "forward mode": (Read, {"forward_mode": True}),
    "double vjp without fused kernels": (Read, {"fused": False}),
    "forward mode without fused kernels": (Read, {"forward_mode": True, "fused": False}),
    "forward mode through a checkpoint": (Checkpointed, {"forward_mode": True}),
}


@pytest.mark.parametrize("streams", [None, 3])
@pytest.mark.parametrize(
    "estimator", [UORO(), UORO(rank=2), UORO(rank=9), JointUORO(2), RTRL()], ids=str
)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_mapped_or_not_is_the_plain_one(
    mode: str, estimator: Any, streams: int | None
) -> None:
    """The oracle is the plain module with the same signs; a mapped JVP must not become zero."""
    kind, options = MODES[mode]
    plain = Read(nn.GRUCell(IN, UNITS)).double()
    other = kind(nn.GRUCell(IN, UNITS)).double()
    other.load_state_dict(plain.state_dict())
    lead = () if streams is None else (streams,)

    def carried(module: nn.Module, **options: bool) -> Any:
        rows = streams is not None
        transition = ModuleTransition(module, MSE, rows=rows)
        online = Online(
            ModuleDynamics(TorchBackend(), transition, rows, **options),
            dict[str, Tensor](module.named_parameters()),
            torch.zeros(*lead, UNITS).double(),
            estimator=estimator if streams is None else Streams(estimator, streams),
        )
        for x, y in zip(inputs, targets, strict=True):
            online.step(x, y)
        return [online.carry, [param.grad for param in module.parameters()]]

    inputs, targets = _stream(4, *lead, out=OUT)
    wanted, got = carried(plain), carried(other, **options)
    assert all(grad.any() for grad in got[1])
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("streams", [None, 3])
@pytest.mark.parametrize("estimator", [UORO(), UORO(rank=2), JointUORO(2), RTRL()], ids=str)
def test_hooks_on_parameters_see_the_final_gradient_and_nothing_else(
    estimator: Any, streams: int | None
) -> None:
    """The oracle is the module without hooks, with the same signs, and its gradients clamped."""
    lead, limit = (() if streams is None else (streams,)), 1e-2
    plain = Read(nn.GRUCell(IN, UNITS)).double()
    hooked = Read(nn.GRUCell(IN, UNITS)).double()
    hooked.load_state_dict(plain.state_dict())
    seen = list[Tensor]()

    def clamp(gradient: Tensor) -> Tensor:
        seen.append(gradient.clone())
        return gradient.clamp(-limit, limit)

    for param in hooked.parameters():
        param.register_hook(clamp)  # type: ignore[no-untyped-call]  # PyTorch's own has no types
    start = torch.zeros(*lead, UNITS).double()
    one, two = (
        Online.for_module(module, MSE, start, streams=streams, estimator=estimator)
        for module in (plain, hooked)
    )
    for x, y in zip(*_stream(4, *lead, out=OUT), strict=True):
        for online in (one, two):
            for leaf in online.params.values():
                leaf.grad = None
        seen.clear()
        one.step(x, y)
        two.step(x, y)
        exact = [param.grad for param in plain.parameters()]
        torch.testing.assert_close(seen, exact, rtol=1e-9, atol=1e-12)
        clamped = [grad.clamp(-limit, limit) for grad in exact if grad is not None]
        found = [param.grad for param in hooked.parameters()]
        torch.testing.assert_close(found, clamped, rtol=1e-9, atol=1e-12)
