"""`loss.backward()` through an output of `Online`: the online gradient, early, late and shared."""

from __future__ import annotations

import copy
from typing import Any

import optree
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from uoro_torch import Online, TorchBackend, module_transition

from uoro import RTRL, UORO, JointUORO, Streams
from uoro.estimators import Truncated

MSE: Any = functional.mse_loss
IN, UNITS, OUT = 3, 4, 2


class Read(nn.Module):
    """A core of PyTorch's own and a readout."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core, self.readout = core, nn.Linear(UNITS, OUT)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        state = self.core(input, state)
        return self.readout(state[0] if isinstance(state, tuple) else state), state


class Stack(nn.Module):
    """Two cells, the second of which reads the state of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.lower, self.upper = nn.GRUCell(IN, UNITS), nn.LSTMCell(UNITS, UNITS)
        self.readout = nn.Linear(UNITS, OUT)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        lower, upper = state
        lower = self.lower(input, lower)
        upper = self.upper(lower, upper)
        return self.readout(upper[0]), (lower, upper)


def _gru() -> tuple[nn.Module, Any]:
    return Read(nn.GRUCell(IN, UNITS)).double(), torch.zeros(UNITS).double()


def _lstm() -> tuple[nn.Module, Any]:
    zero = torch.zeros(UNITS).double()
    return Read(nn.LSTMCell(IN, UNITS)).double(), (zero, zero)


def _stack() -> tuple[nn.Module, Any]:
    zero = torch.zeros(UNITS).double()
    return Stack().double(), (zero, (zero, zero))


MODELS = {"gru": _gru, "lstm": _lstm, "stack": _stack}
ESTIMATORS = [UORO(), UORO(rank=4), JointUORO(4), RTRL(), Truncated()]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _stream(steps: int, *lead: int) -> list[tuple[Tensor, Tensor]]:
    inputs, targets = torch.randn(steps, *lead, IN), torch.randn(steps, *lead, OUT)
    return list(zip(inputs.double(), targets.double(), strict=True))


def _taken(model: nn.Module) -> list[Tensor]:
    """Return the gradients that a model has, and clear them."""
    gradients = [param.grad for param in model.parameters()]
    model.zero_grad()
    assert all(gradient is not None for gradient in gradients)
    return [gradient.clone() for gradient in gradients if gradient is not None]


def _assert_equal(got: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one, other), (one - other).abs().max()


def _far(got: list[Tensor], expected: list[Tensor]) -> float:
    pairs = zip(got, expected, strict=True)
    return max(float((one - other).abs().max()) for one, other in pairs)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
@pytest.mark.parametrize("made", MODELS.values(), ids=MODELS)
def test_backward_is_step_and_the_estimator_bit_for_bit(made: Any, estimator: Any) -> None:
    model, state = made()
    online = Online.for_module(model, state=state, estimator=estimator, seed=3)
    sugar = Online.for_module(model, MSE, state, estimator=estimator, seed=3)
    backend = TorchBackend()
    params: Any = dict(model.named_parameters())
    dynamics = backend.dynamics(module_transition(model), has_aux=True)
    carry = estimator.init(dynamics, params, state, inputs=None)
    for step, (x, y) in enumerate(_stream(4)):
        output = online(x)
        MSE(output, y).backward()
        by_backward = _taken(model)
        sugar.step(x, y)
        _assert_equal(by_backward, _taken(model))
        key = backend.fold(backend.key(3), step)
        signs = estimator.draw(lambda *given, key=key: backend.random(key, *given), state)
        carry, state, prediction = estimator.advance(dynamics, params, carry, state, (x,), signs)
        assert torch.equal(prediction.output, output)
        (cotangent,) = torch.autograd.grad(MSE(leaf := prediction.output.requires_grad_(), y), leaf)
        _assert_equal(by_backward, list(prediction.gradient(cotangent).values()))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
@pytest.mark.parametrize("made", MODELS.values(), ids=MODELS)
def test_streams_are_rows_of_the_output(made: Any, estimator: Any) -> None:
    model, state = made()
    rows: Any = optree.tree_map(lambda leaf: leaf.repeat(8, 1), state)
    streams: Any = Streams(estimator, 8)
    online = Online.for_module(model, state=rows, estimator=streams)
    sugar = Online.for_module(model, MSE, rows, estimator=streams)
    for step, (x, y) in enumerate(_stream(4, 8)):
        losses: Any = (online(x) - y).square().mean(1)
        losses.mean().backward()
        by_backward = _taken(model)
        loss = sugar.step(x, y)
        assert torch.equal(loss, losses.mean())
        _assert_equal(by_backward, _taken(model))
        if step == 1:
            for each in (online, sugar):
                each.reset([True] + [False] * 7)


def test_rtrl_summed_over_time_is_backpropagation_through_time() -> None:
    model, state = _lstm()
    online = Online.for_module(model, state=state, estimator=RTRL())
    stream = _stream(12)
    for x, y in stream:
        MSE(online(x), y).backward()
    got, total = _taken(model), torch.zeros(())
    for x, y in stream:
        output, state = model(x, state)
        total = total + MSE(output, y)
    backward: Any = total.backward
    backward()
    assert _far(got, _taken(model)) < 1e-10


def _by_hand(model: Any, past: list[Tensor], x: Tensor, loss: Any) -> list[Tensor]:
    """Return the exact gradient of the loss of the last output of a GRU, the params kept."""
    state = torch.zeros(UNITS).double()
    for each in past:
        _, state = model(each, state)
    loss(model(x, state)[0]).backward()
    return _taken(model)


def test_a_loss_five_steps_late_is_of_the_params_of_its_step() -> None:
    model, state = _gru()
    online = Online.for_module(model, state=state, estimator=UORO(), seed=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    waiting: list[Any] = []
    stream = _stream(12)
    for x, y in stream:
        before = copy.deepcopy(model)
        # By hand: the pair that the step arrived with, and the derivatives of this step alone.
        carry, at = online.carry, online.state
        waiting.append((online(x), y, before, carry, at, x))
        if len(waiting) <= 5:
            continue
        output, target, then, carry, at, given = waiting.pop(0)
        MSE(output, target).backward()
        leaf = at.clone().requires_grad_()
        MSE(then(given, leaf)[0], target).backward()
        expected = _taken(then)
        if carry is not None:
            rate = (leaf.grad * carry.tangent).sum()
            expected = [
                own + rate * carry.cotangent[name]
                for own, name in zip(expected, dict(model.named_parameters()), strict=True)
            ]
        got = [param.grad for param in model.parameters() if param.grad is not None]
        assert _far(got, expected) < 1e-14
        optimizer.step()
        optimizer.zero_grad()


def test_two_losses_on_one_output_add_up() -> None:
    model, state = _gru()
    online = Online.for_module(model, state=state, estimator=RTRL())
    (x, y), (x_2, y_2), (x_3, y_3) = _stream(3)
    online(x)
    online(x_2)
    output = online(x_3)
    MSE(output, y).backward(retain_graph=True)
    MSE(output, y_3).backward()
    got = _taken(model)
    both = _by_hand(model, [x, x_2], x_3, lambda o: MSE(o, y) + MSE(o, y_3))
    assert _far(got, both) < 1e-14
    del y_2


def test_one_loss_of_two_outputs_adds_up() -> None:
    model, state = _gru()
    online = Online.for_module(model, state=state, estimator=RTRL())
    (x, _), (x_2, _) = _stream(2)
    first, second = online(x), online(x_2)
    (first * second.exp()).sum().backward()  # Not a sum of losses of one output each.
    got = _taken(model)
    o, state = model(x, state)
    o_2, _ = model(x_2, state)
    (o * o_2.exp()).sum().backward()
    assert _far(got, _taken(model)) < 1e-14


def test_a_head_outside_the_core_gets_its_ordinary_gradient() -> None:
    model, state = _gru()
    head = nn.Sequential(nn.Linear(OUT, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    online = Online.for_module(model, state=state, estimator=RTRL())
    (x, _), (x_2, _) = _stream(2)
    online(x)
    head(online(x_2)).sum().backward()
    got, of_head = _taken(model), _taken(head)
    expected = _by_hand(model, [x], x_2, lambda o: head(o).sum())
    assert _far(got, expected) < 1e-14
    _assert_equal(of_head, _taken(head))


@pytest.mark.parametrize("streams", [None, 2])
def test_an_encoder_before_the_model_gets_the_gradient_of_this_step(streams: int | None) -> None:
    model, state = _gru()
    encoder = nn.Linear(IN, IN).double()
    lead = () if streams is None else (streams,)
    state = state.expand(*lead, UNITS)
    online = Online.for_module(model, state=state, streams=streams, estimator=UORO())
    with pytest.warns(UserWarning, match="gradient of this step alone.*part of the model"):
        online(encoder(torch.randn(*lead, IN).double())).sum().backward()
    encoder.zero_grad()
    x, before = torch.randn(*lead, IN).double(), online.state.clone()
    online(encoder(x)).square().sum().backward()  # Warned once: a second warning is an error.
    got = _taken(encoder)
    model(encoder(x), before)[0].square().sum().backward()
    assert _far(got, _taken(encoder)) < 1e-14


def test_outputs_may_be_tuples_and_dicts_of_which_some_are_not_used() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core, self.a, self.b = (
                nn.GRUCell(IN, UNITS),
                nn.Linear(UNITS, OUT),
                nn.Linear(UNITS, 1),
            )

        def forward(self, input: Tensor, state: Tensor) -> Any:
            state = self.core(input, state)
            made = {"policy": self.a(state), "both": (self.b(state), state.argmax())}
            return made, state

    model = Several().double()
    online = Online.for_module(model, state=torch.zeros(UNITS).double(), estimator=RTRL())
    (x, _), (x_2, _) = _stream(2)
    online(x)
    made = online(x_2)
    assert made["both"][1].dtype == torch.int64
    assert not made["both"][1].requires_grad
    made["policy"].sum().backward()
    got = _taken(model)
    expected = _by_hand(model, [x], x_2, lambda made: made["policy"].sum() + 0 * made["both"][0])
    assert _far(got, expected) < 1e-14


def test_a_function_returns_any_output_and_a_scalar_is_a_loss() -> None:
    params = {"w": torch.randn(UNITS, UNITS).double().requires_grad_()}

    def transition(params: Any, state: Tensor, x: Tensor) -> Any:
        state = torch.tanh(params["w"] @ state + x)
        return state, (state, state.square().sum())

    def loss(params: Any, state: Tensor, x: Tensor) -> Any:
        state, (_, second) = transition(params, state, x)
        return state, second

    state = torch.zeros(UNITS).double()
    several, one = (
        Online(each, params, state, seed=2, estimator=UORO()) for each in (transition, loss)
    )
    for x in torch.randn(3, UNITS).double():
        several(x)[1].backward()
        first, params["w"].grad = params["w"].grad, None
        one(x).backward()
        second, params["w"].grad = params["w"].grad, None
        assert first is not None
        assert second is not None
        assert torch.equal(first, second)
