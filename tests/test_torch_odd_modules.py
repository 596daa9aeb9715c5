"""Modules that keep parameters, buffers and states in ways of their own, trained or refused."""

from __future__ import annotations

import copy
import pickle
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from real_models.torch_models import IN, OUT, UNITS, Read
from torch import Tensor, nn
from torch.nn import functional
from uoro_conformance import check_truth
from uoro_torch import Online, lift_state, module_transition

from uoro import RTRL, UORO, Streams, TruncatedBPTT
from uoro.errors import DerivativeError, SettingError, StructureError

MSE = functional.mse_loss
X, Y = torch.ones(IN), torch.ones(OUT)


class Mapped(nn.Module):
    """A cell that runs on parameters it also keeps in a container or an object."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w = nn.Parameter(torch.randn(UNITS, UNITS).double() / 2)
        self.u = nn.Parameter(torch.randn(UNITS, IN).double() / 2)
        self.register_buffer("steps", torch.zeros(()))
        self.own: Any = {"w": self.w, "u": self.u}
        if kind == "list":
            self.own = {"both": [self.w, self.u]}
        if kind == "tuple":
            self.own = {"both": (self.w, self.u)}
        if kind == "deque":
            self.own = {"both": deque([self.w, self.u])}
        if kind == "object":
            self.own = type("Holder", (), {})()
            self.own.w, self.own.u = self.w, self.u

    def forward(self, input: Tensor, state: Tensor) -> Any:
        if isinstance(self.own, dict):
            w, u = self.own.get("both") or (self.own["w"], self.own["u"])
        else:
            w, u = self.own.w, self.own.u
        state = torch.tanh(w @ state + u @ input)
        return state, state


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("kind", ["dict", "list", "tuple", "deque", "object"])
def test_parameters_kept_twice_are_trained(kind: str, check: bool) -> None:
    items = torch.randn(5, IN).double(), torch.randn(5, UNITS).double()
    reference, model = Mapped(kind), Mapped(kind)
    state, total = torch.zeros(UNITS).double(), torch.zeros(())
    online = Online.for_module(model, MSE, state, estimator=RTRL(), check=check)
    for x, y in zip(*items, strict=True):
        output, state = reference(x, state)
        total = total + MSE(output, y)
        online.step(x, y)
    total.backward()  # type: ignore[no-untyped-call]  # PyTorch's own has no types
    for mine, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, wanted.grad)
    assert isinstance(model.own, dict) is (kind != "object")


@pytest.mark.parametrize("streams", [None, 2])
def test_a_buffer_sized_by_the_first_forward_pass_is_kept(streams: int | None) -> None:
    class Sized(Read):
        def __init__(self) -> None:
            super().__init__(nn.GRUCell(IN, UNITS))
            self.core.register_buffer("seen", torch.zeros(0))

        def forward(self, input: Tensor, state: Any) -> Any:
            output, state = super().forward(input, state)
            self.core.seen = state.detach().sum(0) if state.dim() > 1 else state.detach()
            return output, state

    model, lead = Sized(), () if streams is None else (streams,)
    online = Online.for_module(
        model, MSE, torch.zeros(*lead, UNITS), streams=streams, estimator=UORO()
    )
    for _ in range(2):
        online.step(torch.randn(*lead, IN), torch.randn(*lead, OUT))
        wanted = online.state if streams is None else online.state.sum(0)
        torch.testing.assert_close(model.core.seen, wanted)


class Noted(Read):
    """A cell with a buffer that its forward pass replaces."""

    def __init__(self, made: Tensor | None) -> None:
        super().__init__(nn.GRUCell(IN, UNITS))
        self.made = made
        self.register_buffer("note", torch.zeros(()))

    def forward(self, input: Tensor, state: Any) -> Any:
        self.note = self.made
        return super().forward(input, state)


@pytest.mark.parametrize("streams", [None, 2])
@pytest.mark.parametrize("made", [torch.tensor(3), None])
def test_a_buffer_replaced_by_another_is_kept(made: Tensor | None, streams: int | None) -> None:
    model, lead = Noted(made), () if streams is None else (streams,)
    online = Online.for_module(
        model, MSE, torch.zeros(*lead, UNITS), streams=streams, estimator=UORO()
    )
    for _ in range(2):
        online.step(torch.randn(*lead, IN), torch.randn(*lead, OUT))
    note: Any = model.note
    assert note is None if made is None else torch.equal(note, made) and note.dtype is made.dtype


@pytest.mark.parametrize("of_module", [True, False])
def test_a_parameter_read_from_a_closure_is_told_from_a_stranger(of_module: bool) -> None:
    model, other = Read(nn.GRUCell(IN, UNITS)), torch.randn(OUT, UNITS, requires_grad=True)
    weight = model.readout.weight if of_module else other

    class Closed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input: Tensor, state: Tensor) -> Any:
            state = self.model.core(input, state)
            return functional.linear(state, weight), state

    said = (
        "that the model reads from elsewhere, such as a closure" if of_module else "got others of"
    )
    with pytest.raises(DerivativeError, match=said):
        Online.for_module(Closed(), MSE, torch.zeros(UNITS), estimator=UORO()).step(X, Y)


def _with(part: nn.Module) -> nn.Module:
    model = Read(nn.GRUCell(IN, UNITS))
    model.extra = part
    return model


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "lazy": (lambda: _with(nn.LazyLinear(2)), "got extra, a LazyLinear, not initialised"),
    "parallel": (
        lambda: nn.DataParallel(Read(nn.GRUCell(IN, UNITS))),
        r"got the module, a DataParallel\. Pass its \.module",
    ),
    "without numbers": (
        lambda: _with(nn.Linear(2, 2, device="meta")),
        "got extra, a Linear, on the",
    ),
    "frozen": (
        lambda: Read(nn.GRUCell(IN, UNITS)).requires_grad_(False),
        r"parameters that require gradients, got none\. Try module\.requires_grad_",
    ),
    "empty": (nn.Identity, "got one without parameters"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_that_cannot_be_run_with_other_tensors_is_refused(name: str) -> None:
    make, said = REFUSED[name]
    with pytest.raises(SettingError, match=said):
        Online.for_module(make(), MSE, torch.zeros(UNITS), estimator=UORO())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("whole", [True, False])
def test_a_scripted_module_is_refused(whole: bool) -> None:
    made: Any = torch.jit.script(nn.GRUCell(IN, UNITS) if whole else nn.Linear(2, 2))
    model = made if whole else _with(made)
    place = "the module" if whole else "extra"
    with pytest.raises(SettingError, match=f"got {place}, a RecursiveScriptModule, made by torch"):
        Online.for_module(model, MSE, torch.zeros(UNITS), estimator=UORO())
    with pytest.raises(SettingError, match=f"got {place}, a RecursiveScriptModule, made by torch"):
        module_transition(model)
    with pytest.raises(SettingError, match=f"got {place}, a RecursiveScriptModule, made by torch"):
        lift_state(model, X)


def test_a_parameter_resized_in_mid_run_is_named() -> None:
    model = Read(nn.GRUCell(IN, UNITS))
    online = Online.for_module(model, MSE, torch.zeros(UNITS), estimator=UORO())
    online.step(X, Y)
    model.readout.weight.data = torch.zeros(OUT + 1, UNITS)
    model.core.bias_hh.data = model.core.bias_hh.data.double()
    named = [
        r"got 'core\.bias_hh' of dtype torch\.float64 in place of torch\.float32, "
        rf"'readout\.weight' of shape \({OUT + 1}, {UNITS}\) in place of \({OUT}, {UNITS}\)\. Call"
    ]
    with pytest.raises(SettingError, match=named[0]):
        online.step(X, Y)
    with pytest.raises(SettingError, match=named[0]):
        online(X)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m.readout.bias.requires_grad_(False), r"'readout\.bias' without a gradient, or"),
        (
            lambda m: setattr(m, "more", nn.Linear(1, 1)),
            r"'more\.weight' besides, 'more\.bias' bes",
        ),
        (lambda m: setattr(m, "readout", nn.Linear(UNITS, OUT)), r"'readout\.weight' replaced by"),
        (lambda m: m.double(), r"float32, 2 more\."),
    ],
    ids=["frozen", "added", "replaced", "cast"],
)
def test_parameters_changed_in_mid_run_are_named(change: Any, named: str) -> None:
    model = Read(nn.GRUCell(IN, UNITS))
    online = Online.for_module(model, MSE, torch.zeros(UNITS), estimator=UORO())
    online.step(X, Y)
    change(model)
    with pytest.raises(SettingError, match=named):
        online.step(X, Y)


@pytest.mark.parametrize("streams", [False, True])
def test_an_estimator_of_chunks_is_refused(streams: bool) -> None:
    estimator: Any = Streams(TruncatedBPTT(3), 2) if streams else TruncatedBPTT(3)
    says = r"takes one item a step, got .*TruncatedBPTT\(.*3\).*, which takes 3\. Try Rolling"
    with pytest.raises(SettingError, match=says):
        Online.for_module(Read(nn.GRUCell(IN, UNITS)), MSE, torch.zeros(UNITS), estimator=estimator)
    params = {"w": torch.ones(2, requires_grad=True)}
    with pytest.raises(SettingError, match=says):
        Online(lambda p, s, x: (s, s.sum()), params, torch.zeros(2), estimator=estimator)


def test_a_deep_copy_refuses_to_step() -> None:
    online = Online.for_module(
        Read(nn.GRUCell(IN, UNITS)), MSE, torch.zeros(UNITS), estimator=UORO()
    )
    online.step(X, Y)
    copied = copy.deepcopy(online)
    with pytest.raises(SettingError, match=r"got a deep copy of it\. Call Online\.for_module"):
        copied.step(X, Y)
    online.step(X, Y)


def test_params_of_a_function_that_changed_their_form_are_named() -> None:
    params = {name: torch.ones(OUT, requires_grad=True) for name in ("a", "b")}
    online = Online(
        lambda p, s, x: (s * p["a"] + x, (p["b"] ** 2).sum()),
        params,
        torch.zeros(OUT),
        estimator=UORO(),
    )
    online.step(Y)
    params["b"].data = torch.ones(OUT + 1)
    with pytest.raises(SettingError, match=rf"'b' of shape \({OUT + 1},\) in place of \({OUT},\)"):
        online.step(Y)


def test_an_online_is_copied_and_not_pickled() -> None:
    params = {"a": torch.ones(OUT, requires_grad=True)}
    online = Online(
        lambda p, s, x: (s * p["a"] + x, s.sum()), params, torch.zeros(OUT), estimator=UORO()
    )
    for wanted in (
        online,
        Online.for_module(Read(nn.GRUCell(IN, UNITS)), MSE, torch.zeros(UNITS), estimator=UORO()),
    ):
        with pytest.raises(SettingError, match=r"got an Online\. Save online\.state_dict"):
            pickle.dumps(wanted)
    same, apart = copy.copy(online), copy.deepcopy(online)
    assert same.params is params
    for each in (online, apart):
        each.step(Y)
        each.step(Y)
    assert apart.params["a"] is not params["a"]
    torch.testing.assert_close(apart.params["a"].grad, params["a"].grad)


def test_windows_and_packed_sequences_are_named() -> None:
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(5, 1, IN), torch.tensor([5]))
    for kind in (nn.LSTM, nn.GRU, nn.RNNCell):
        online = Online.for_module(kind(IN, UNITS), MSE, estimator=UORO())
        with pytest.raises(StructureError, match=r"with 1 axis, got shape \(7, "):
            online.step(torch.randn(7, IN), torch.randn(7, UNITS))
        for item in ((packed, torch.randn(UNITS)), (torch.randn(IN), packed), ({"x": packed}, Y)):
            with pytest.raises(StructureError, match="got a PackedSequence"):
                online.step(*item)
        with pytest.raises(StructureError, match=r"expected a tensor, got \[1\.0, 2\.0\]\. Try"):
            online.step([1.0, 2.0], torch.randn(UNITS))


def test_a_state_in_pytorchs_own_order_is_named() -> None:
    state = torch.zeros(2, 5, UNITS), torch.zeros(2, 5, UNITS)
    for streams in (2, 5, None):
        with pytest.raises(
            StructureError, match=r"where PyTorch has \(layers, batch, units\), got"
        ):
            Online.for_module(nn.LSTM(IN, UNITS, 2), MSE, state, streams=streams, estimator=UORO())
    with pytest.raises(StructureError, match="got a list of"):
        Online.for_module(nn.LSTM(IN, UNITS), MSE, [torch.zeros(1, UNITS)] * 2, estimator=UORO())
    with pytest.raises(StructureError, match=r"torch\.float32, got torch\.float64\. Try"):
        Online.for_module(nn.GRU(IN, UNITS), MSE, torch.zeros(1, UNITS).double(), estimator=UORO())
    batch = torch.zeros(5, 2, UNITS), torch.zeros(5, 2, UNITS)
    online = Online.for_module(nn.LSTM(IN, UNITS, 2), MSE, batch, estimator=UORO())
    assert torch.isfinite(online.step(torch.randn(5, IN), torch.randn(5, UNITS)))


class Normed(nn.Module):
    """A recurrent matrix under a spectral norm, of old or new style, that iterates as it runs."""

    def __init__(self, norm: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into, self.back = nn.Linear(IN, UNITS), nn.Linear(UNITS, UNITS)
        norm(self.back)

    def forward(self, input: Tensor, state: Tensor) -> Any:
        state = torch.tanh(self.into(input) + self.back(state))
        return state, state


def _unsettled(part: nn.Module) -> None:
    """Register a spectral norm whose singular vectors are not those of the matrix yet."""
    made: Any = nn.utils.parametrizations.spectral_norm(part)
    norm = made.parametrizations.weight[0]
    norm._u, norm._v = (nn.functional.normalize(torch.randn(UNITS), dim=0) for _ in range(2))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, _unsettled])
def test_a_spectral_norm_is_trained_as_bptt_would(norm: Any) -> None:
    """Its derivative takes the singular vectors as constant, and so do differences of forward."""
    items = torch.randn(4, IN).double(), torch.randn(4, UNITS).double()
    reference, model = Normed(norm).double(), Normed(norm).double()
    state, total = torch.zeros(UNITS).double(), torch.zeros(())
    before = copy.deepcopy(model.state_dict())
    online = Online.for_module(model, MSE, state, estimator=RTRL())
    point = (online.params, state, (items[0][0], items[1][0]))
    check_truth(online.dynamics, *point).require()
    torch.testing.assert_close(model.state_dict(), before)
    for x, y in zip(*items, strict=True):
        output, state = reference(x, state)
        total = total + MSE(output, y)
        online.step(x, y)
    assert "Both agree with differences of forward" in online.dynamics.describe()
    total.backward()  # type: ignore[no-untyped-call]  # PyTorch's own has no types
    for mine, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, wanted.grad)
    torch.testing.assert_close(list(model.buffers()), list(reference.buffers()))
    assert all(part.training for part in model.modules())
