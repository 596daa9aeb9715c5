"""Nothing ruins a run of `Online` without a word: NaN, divergence, misuse."""

from __future__ import annotations

import copy
import math
import re
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from uoro_torch import DistributedStreams, Online
from uoro_torch.clearing import SEEN, UNSEEN
from uoro_torch.finite import Finite, size_of
from uoro_torch.watching import PATIENCE, Watch

from uoro import (
    RTRL,
    UORO,
    DivergenceWarning,
    JointUORO,
    KroneckerSum,
    NonFiniteError,
    RollingTruncated,
    SettingError,
    StructureError,
    UOROWarning,
)
from uoro.estimators import Truncated
from uoro.learning.divergence import Alarm

MSE: Any = nn.functional.mse_loss
UNITS, NAN = 5, math.nan


class Model(nn.Module):
    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.core, self.readout = nn.GRUCell(2, UNITS), nn.Linear(UNITS, outputs)

    def forward(self, input: Any, state: Any) -> Any:
        state = self.core(input, state)
        return self.readout(state), state


def made(loss: Any = MSE, **more: Any) -> tuple[Model, Online]:
    torch.manual_seed(0)
    more.setdefault("estimator", UORO())
    model = Model()
    return model, Online.for_module(model, loss, torch.zeros(UNITS), **more)


def steps(online: Online, count: int, *item: Any) -> None:
    for _ in range(count):
        online.step(*item)


def copied(online: Online, model: nn.Module) -> Any:
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    return copy.deepcopy((online.state_dict(), grads))


def same(one: Any, other: Any) -> bool:
    pairs = zip(torch.utils._pytree.tree_leaves(one), torch.utils._pytree.tree_leaves(other),
                strict=True)  # fmt: skip
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


X, Y = torch.tensor([0.5, -1.0]), torch.tensor([0.3])
ESTIMATORS = (UORO(), JointUORO(2), KroneckerSum(2), RTRL(), RollingTruncated(3), Truncated())


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
@pytest.mark.parametrize("way", ["input", "target", "backward"])
def test_one_nan_raises_and_leaves_all_as_it_was(estimator: Any, way: str) -> None:
    model, online = made(estimator=estimator)
    back = way == "backward"
    for _ in range(3):
        MSE(online(X), Y).backward() if back else online.step(X, Y)
    before = copied(online, model)
    bad = (X, Y * NAN) if way == "target" else (X * NAN, Y)
    told = r"nan at step 3.*as they were.*input '\d' is nan"
    with pytest.raises(NonFiniteError, match=told) as caught:
        online(bad[0]) if back else online.step(*bad)
    assert caught.value.step == 3
    assert same(before, copied(online, model))


def test_a_nan_that_only_the_loss_sees_adds_nothing_to_the_gradient() -> None:
    model, online = made(None)
    MSE(online(X), Y).backward()
    before = copied(online, model)[1]
    with pytest.raises(NonFiniteError, match=r"loss.backward\(\).*step 1.*check the target"):
        MSE(online(X), Y * NAN).backward()
    assert same(before, copied(online, model)[1])


@pytest.mark.parametrize("choice", ["skip", "reset"])
def test_items_that_are_skipped_leave_weights_and_pair(choice: Any) -> None:
    """The run with bad items is the run without them, but for the index of the steps."""
    model, online = made(on_nonfinite=choice)
    other_model, other = made()
    for _ in range(3):
        online.step(X, Y), other.step(X, Y)
    with pytest.warns(UOROWarning, match=r"nan at step 3: (skipped|reset)") as caught:
        losses = [online.step(*item) for item in ((X * NAN, Y), (X, Y * NAN))]
    assert all(map(torch.isnan, losses))
    assert len(caught) == 1
    assert (online.skipped, online.resets, online.steps) == (2, 2 * (choice == "reset"), 5)
    if choice == "reset":
        other.reset(state=other.state)
    other.steps = online.steps
    for _ in range(2):
        assert torch.equal(online.step(X, Y), other.step(X, Y))
    assert same(copied(online, model), copied(other, other_model))


def test_skipped_outputs_and_losses_have_no_gradient() -> None:
    model, online = made(None, on_nonfinite="skip")
    with pytest.warns(UOROWarning, match="skipped"):
        MSE(online(X * NAN), Y).backward()
    MSE(online(X), Y * NAN).backward()
    assert online.skipped == 2
    assert all(param.grad is None for param in model.parameters())
    MSE(online(X), Y).backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_a_carry_that_is_lost_is_named_and_reset() -> None:
    """The derivative of a root at zero is infinite, where loss and state are finite."""

    def transition(params: Any, state: Any, x: Any) -> Any:
        root = torch.sqrt((params["w"] * x).sum())
        return 0.5 * state + root, (state**2).sum() + 0.0 * root

    for choice in ("raise", "reset"):
        params = {"w": torch.ones(3, requires_grad=True)}
        online = Online(transition, params, torch.ones(2), estimator=UORO(), on_nonfinite=choice)
        online.step(torch.ones(3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if choice == "raise":
                with pytest.raises(NonFiniteError, match="norm of the gradient"):
                    online.step(torch.zeros(3))
                continue
            online.step(torch.zeros(3))
            online.carry = online.carry._replace(tangent=online.carry.tangent * NAN)
            online.step(torch.ones(3))
        assert online.resets == 2
        assert bool(online.carry.tangent.isfinite().all())
        assert bool(params["w"].grad.isfinite().all())  # type: ignore[union-attr]


def test_a_hundred_skipped_in_a_row_are_an_error() -> None:
    _, online = made(on_nonfinite="skip")
    online.step(X, Y)
    with pytest.warns(UOROWarning, match="skipped"):
        steps(online, 99, X * NAN, Y)
    with pytest.raises(NonFiniteError, match="100 items in a row"):
        online.step(X * NAN, Y)


def test_a_mask_in_the_state_may_be_infinite_and_a_scaler_may_overflow() -> None:
    mask = torch.tensor([0.0, -math.inf])

    def transition(params: Any, state: Any, x: Any) -> Any:
        return {"h": torch.tanh(params["w"] * state["h"] + x), "mask": state["mask"]}, state["h"]

    params = {"w": torch.ones(2, requires_grad=True)}
    online = Online(transition, params, {"h": torch.zeros(2), "mask": mask}, estimator=RTRL())
    for _ in range(3):
        online(X).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        output = online(X)
    loss: Any = output.sum() * math.inf
    loss.backward()
    assert not bool(params["w"].grad.isfinite().all())  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex64])
def test_one_number_among_many_tensors_is_found(dtype: Any) -> None:
    finite = Finite()
    makes: list[Any] = [lambda t: t, lambda t: t.reshape(2, 3).T]
    for make in makes:
        for bad in (NAN, math.inf):
            tensors = [make(torch.ones(6, dtype=dtype)) for _ in range(3)]
            kept = [tensor.clone() for tensor in tensors]
            assert finite(tensors)
            assert same(tensors, kept)
            tensors[1][..., -1] = bad
            assert not finite(tensors)
    assert finite([])


def test_the_alarm_hears_what_stays_high_and_no_single_surprise() -> None:
    alarm = Alarm(100.0, 4)
    quiet = [alarm.add(1.0) for _ in range(40)] + [alarm.add(1e4)]
    assert quiet + [alarm.add(1.0) for _ in range(11)] == [None] * 52
    said = [alarm.add(-1e4) for _ in range(40)]
    assert said[:7] == [None] * 7
    assert said[7] == 1e4
    assert [growth for growth in said if growth] == [1e4]
    level = Alarm(10.0)
    assert not any(level.add(1.1**i) for i in range(60))


def test_a_loss_that_diverges_is_told() -> None:
    _, online = made(lambda output, target: (output - target).square().sum(), estimator=Truncated())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(online, 64 * 4, X, Y)
    with pytest.warns(DivergenceWarning, match=r"the loss of the last 64 steps.*learning rate"):
        steps(online, 128, X, Y + 100.0)
    _, online = made(None, estimator=Truncated())

    def back(count: int, target: Any) -> None:
        for _ in range(count):
            MSE(online(X), target).backward()

    back(256, Y)
    with pytest.warns(DivergenceWarning, match=r"what the losses of the last 64 steps send back"):
        back(128, Y + 1000.0)


@pytest.mark.parametrize("estimator", [UORO(), JointUORO(2), KroneckerSum(2), RTRL()], ids=str)
def test_an_influence_that_runs_away_is_told(estimator: Any) -> None:
    for grow, told in ((0.9, False), (1.08, True)):
        params = {"w": torch.ones(2, 2, dtype=torch.float64, requires_grad=True)}

        def transition(params: Any, state: Any, x: Any, grow: float = grow) -> Any:
            return grow * (state + 1e-6 * (params["w"] @ (state + x))), (1e-9 * state).sum()

        online = Online(transition, params, torch.ones(2).double(), estimator=estimator)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            steps(online, 64 * 6, torch.ones(2).double())
        found = ["norm of the influence estimate" in str(each.message) for each in caught]
        assert any(found) == told
    assert (size_of(online.carry) or 0.0) > 1e3
    assert size_of(made(estimator=RollingTruncated(2))[1].carry) == 0.0


def test_a_state_that_is_set_by_hand_beside_a_live_pair_is_told() -> None:
    _, online = made()
    online.state = online.state + 1.0  # There is no pair yet.
    online.step(X, Y)
    online.state = online.state.detach().clone()  # The same numbers.
    online.step(X, Y)
    told = r"expected the hidden state that the last step returned.*reset\(state"
    for change in (
        lambda: setattr(online, "state", torch.ones(UNITS)),
        lambda: online.state.zero_(),
    ):
        change()
        with pytest.warns(UOROWarning, match=told):
            online.step(X, Y)
    online.state = torch.ones(UNITS + 1)
    with pytest.raises(StructureError, match=r"Online.state = .*expected shape \(5,\)"):
        online.step(X, Y)
    online.reset(state=torch.ones(UNITS))
    online.step(X, Y)
    online.reset()
    online.state.add_(1.0)
    online.reset()
    assert torch.equal(online.state, torch.zeros(UNITS))


def test_a_target_that_broadcasts_is_told() -> None:
    def loss(output: Any, target: Any) -> Any:
        return (output - target).square().mean()

    def step(outputs: int, *shape: int, streams: int | None = None, of: Any = loss) -> None:
        lead = () if streams is None else (streams,)
        state = torch.zeros(*lead, UNITS)
        online = Online.for_module(Model(outputs), of, state, streams=streams)
        online.step(torch.randn(*lead, 2), torch.randn((*lead, *shape)))

    told = r"got \(.*broadcast to .*target.reshape"
    for outputs, shape, streams in ((4, (4, 1), None), (1, (4,), None), (4, (4, 1), 2)):
        with pytest.warns(UOROWarning, match=told):
            step(outputs, *shape, streams=streams)
    right: list[Any] = [(4, (4,), None), (4, (), None), (1, (1, 1), None), (4, (4,), 2), (1, (), 2)]
    for outputs, shape, streams in right:
        step(outputs, *shape, streams=streams)
    step(4, 4, 1, of=lambda output, target: (output - target.view_as(output)).square().mean())


def test_a_window_given_as_one_item_gets_a_note() -> None:
    _, online = made()
    for _ in range(2):
        with pytest.raises(RuntimeError) as caught:
            online.step(torch.randn(16, 2), torch.randn(16, 1))
        assert re.search(r"shape \(16, 2\).*one step.*streams=", caught.value.__notes__[0])
        online.step(X, Y)


def test_outputs_that_no_loss_comes_back_through_are_told() -> None:
    _, online = made(None, estimator=Truncated())
    head = nn.Linear(1, 1)

    def learn(count: int) -> None:
        for _ in range(count):
            head(online(X).detach()).sum().backward()

    learn(PATIENCE - 1)
    with pytest.warns(UOROWarning, match=f"got {PATIENCE} steps without one.*do not learn"):
        learn(1)


def test_what_cannot_be_chosen_is_named() -> None:
    with pytest.raises(SettingError, match="expected one of 'raise', 'skip', 'reset'"):
        made(on_nonfinite="stop")
    several: Any = object.__new__(DistributedStreams)
    with pytest.raises(SettingError, match="expected 'raise' with DistributedStreams"):
        Watch("skip", several, None)


def test_a_copy_goes_on_and_says_nothing() -> None:
    params = {"w": torch.ones(UNITS, requires_grad=True)}
    online = Online(
        lambda p, s, x: (torch.tanh(p["w"] * s + x), s.sum()), params, torch.ones(UNITS)
    )
    online.step(torch.ones(UNITS))
    other = copy.deepcopy(online)
    assert torch.equal(online.step(torch.ones(UNITS)), other.step(torch.ones(UNITS)))
    assert other._watch is not online._watch


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_gradients_that_are_not_cleared_or_not_used_are_told(back: bool, fused: bool) -> None:
    def run(order: str, count: int, **clear: bool) -> None:
        model, online = made(None if back else MSE, estimator=Truncated())
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, fused=fused)
        for _ in range(count):
            MSE(online(X), Y).backward() if back else online.step(X, Y)
            for letter in order:
                optimizer.step() if letter == "s" else optimizer.zero_grad(**clear)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run("sz", 30)
        run("sz", 30, set_to_none=False)
        run("zs", 30)
        run("", 30)
    with pytest.warns(UOROWarning, match="updates in a row after which they were kept"):
        run("s", SEEN + 2)
    if not back and not fused:
        with pytest.warns(UOROWarning, match="cleared while the parameters stayed"):
            run("zs", UNSEEN + 2)


def test_one_online_takes_one_step_at_a_time() -> None:
    told = list[str]()

    def transition(params: Any, state: Any, x: Any) -> Any:
        if not told:
            with pytest.raises(SettingError, match="one step at a time") as caught:
                online.step(x)
            told.append(str(caught.value))
        return params["w"] * state + x, state.sum()

    params = {"w": torch.ones(2, requires_grad=True)}
    online = Online(transition, params, torch.ones(2), estimator=Truncated())
    online.step(torch.ones(2))
    online.step(torch.ones(2))
    assert len(told) == 1
