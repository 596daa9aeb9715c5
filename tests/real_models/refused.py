"""Models that cannot be differentiated as they are, each for one reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from uoro_torch import Online

from real_models.autograd_models import MATRICES
from real_models.odd_torch import Clipping, scripted
from real_models.torch_models import IN, OUT, UNITS, Read
from uoro import UORO, load_backend


class Refused(NamedTuple):
    """A model and what is said of it.

    Attributes:
        backend: The name of its backend.
        name: What is wrong with it.
        step: Takes its first step.
        said: A part of the error or the warning.
        warned: Whether it is only warned of.
    """

    backend: str
    name: str
    step: Callable[[], Any]
    said: str
    warned: bool = False


class _Stopped(Read):
    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        with torch.no_grad():
            gate = torch.sigmoid(state)
        return super().forward(input, gate * state)


class _InPlace(Read):
    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        state.mul_(0.9)
        return super().forward(input, state.clone())


class _Keeping(Read):
    def __init__(self, core: nn.Module) -> None:
        super().__init__(core)
        self.trace = torch.zeros(UNITS)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        self.trace = 0.5 * self.trace + state.detach() + 1.0
        return super().forward(input, state + self.trace)


class _OnceOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return gradient * (1 - x.tanh() ** 2)


class _OffByOnePercent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 1.05 * gradient * (1 - x.tanh() ** 2)


class _ByFunction(Read):
    def __init__(self, function: Any) -> None:
        super().__init__(nn.RNNCell(IN, UNITS))
        self.function = function

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        return super().forward(input, self.function.apply(state))


class _GatedFromZero(Read):
    """The first state is zero, where the gate's derivative does not show."""

    def __init__(self) -> None:
        super().__init__(nn.RNNCell(IN, UNITS))
        self.gate = nn.Linear(UNITS, UNITS)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        with torch.no_grad():
            gate = 2 * torch.sigmoid(3 * self.gate(state))
        return super().forward(input, gate * state)


class _InABuffer(Read):
    trace: Tensor

    def __init__(self) -> None:
        super().__init__(nn.RNNCell(IN, UNITS))
        self.register_buffer("trace", torch.zeros(UNITS))

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        state = self.core(input, state)
        self.trace = 0.9 * self.trace + 0.1 * state
        return self.readout(self.trace), state


class _Remembering(Read):
    def __init__(self) -> None:
        super().__init__(nn.RNNCell(IN, UNITS))
        self.previous: Tensor | None = None

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        change = input if self.previous is None else input - self.previous
        self.previous = input
        return super().forward(change, state)


class _RowsNormed(Read):
    def __init__(self) -> None:
        super().__init__(nn.RNNCell(IN, UNITS))
        self.norm = nn.BatchNorm1d(UNITS)

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        state = self.core(input, state)
        return self.readout(self.norm(state)), state


def _torch(
    make: Callable[[], nn.Module], streams: int | None = None, start: float = 1.0
) -> Callable[[], Any]:
    lead = () if streams is None else (streams,)

    def step() -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            state = start * torch.randn(*lead, UNITS)
            online = Online.for_module(
                make(), functional.mse_loss, state, streams=streams, estimator=UORO()
            )
            return online.step(torch.randn(*lead, IN), torch.randn(*lead, OUT))

    return step


def _readout_in_the_loss() -> Any:
    readout = nn.Linear(UNITS, OUT)

    def loss(hidden: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(readout(hidden), target)

    return Online.for_module(nn.LSTM(IN, UNITS), loss, estimator=UORO()).step(
        torch.ones(IN), torch.ones(OUT)
    )


def _torch_transition() -> Any:
    def transition(params: Any, state: Any, x: Any) -> Any:
        state = torch.tanh(params["W"] @ functional.dropout(state, 0.5) + x)
        return state, (state**2).sum()

    params = {"W": 0.5 * torch.eye(UNITS)}
    return Online(transition, params, torch.ones(UNITS), estimator=UORO()).step(torch.ones(UNITS))


def _jax(transition: Callable[..., Any], params: Any = None) -> Callable[[], Any]:
    def step() -> Any:
        dynamics: Any = load_backend("jax").dynamics(transition)
        given = 0.5 * jnp.eye(UNITS) if params is None else params
        return dynamics.probe(given, jnp.ones(UNITS), jnp.ones(UNITS))

    return step


def _looping(weights: Any, state: Any, x: Any) -> Any:
    def more(carry: Any) -> Any:
        return jnp.abs(carry).sum() > 0.5

    state = jax.lax.while_loop(more, lambda carry: 0.5 * carry, weights @ state + x)
    return state, (state**2).sum()


def _reading(tree: Any, state: Any, x: Any) -> Any:
    state = jnp.tanh(tree["W"] @ state + x)
    return state, (state[tree["unit"]] ** 2).sum()


def _drawing(weights: Any, state: Any, x: Any) -> Any:
    state = jnp.tanh(weights @ state + x + np.random.normal())
    return state, (state**2).sum()


def _autograd_drawing() -> Any:
    import autograd.numpy

    anp: Any = autograd.numpy

    def transition(params: Any, state: Any, x: Any) -> Any:
        kept = np.random.random(UNITS) < 0.5
        state = anp.tanh(params["W"] @ (kept * state) + x)
        return state, anp.sum(state**2)

    dynamics: Any = load_backend("autograd").dynamics(transition)
    return dynamics.probe(MATRICES, np.ones(UNITS), np.ones(UNITS))


CELL = nn.RNNCell

REFUSED = (
    Refused(
        "torch",
        "`no_grad` inside",
        _torch(lambda: _Stopped(CELL(IN, UNITS))),
        "gradients are off inside the model, at refused.py:",
    ),
    Refused(
        "torch",
        "`no_grad` around a gate on a state that starts at zero",
        _torch(_GatedFromZero, start=0.0),
        "gradients are off inside the model, at refused.py:",
    ),
    Refused(
        "torch",
        "a readout in the loss",
        _readout_in_the_loss,
        "got others of shapes",
    ),
    Refused(
        "torch",
        "recurrent state in a buffer",
        _torch(_InABuffer),
        "got ['trace'], which depend on the params or the state",
    ),
    Refused(
        "torch",
        "the previous input in an attribute",
        _torch(_Remembering),
        "state that it keeps between calls",
    ),
    Refused(
        "torch", "the state changed in place", _torch(lambda: _InPlace(CELL(IN, UNITS))), "in place"
    ),
    Refused(
        "torch",
        "state kept in an attribute",
        _torch(lambda: _Keeping(CELL(IN, UNITS))),
        "state that it keeps between calls",
    ),
    Refused("torch", "dropout in a plain function", _torch_transition, "randomness in the model"),
    Refused(
        "torch",
        "a backward that is off by 5 %",
        _torch(lambda: _ByFunction(_OffByOnePercent)),
        "a derivative given by hand is wrong",
        warned=True,
    ),
    Refused(
        "torch",
        "`once_differentiable`",
        _torch(lambda: _ByFunction(_OnceOnly)),
        "central differences",
        warned=True,
    ),
    Refused(
        "torch",
        "BatchNorm over the rows of streams",
        _torch(_RowsNormed, 4),
        "rows that change each other's results",
    ),
    Refused(
        "torch",
        "a bidirectional LSTM",
        lambda: Online.for_module(
            nn.LSTM(IN, UNITS, bidirectional=True), functional.mse_loss, estimator=UORO()
        ),
        "reads the future first",
    ),
    Refused(
        "torch",
        "a hook on the state that clips",
        _torch(lambda: Clipping(nn.GRUCell(IN, UNITS))),
        "got backward hooks at odd_torch.py:",
    ),
    Refused("torch", "a scripted cell", _torch(scripted), "got core, a RecursiveScriptModule"),
    Refused("jax", "`lax.while_loop`", _jax(_looping), "while_loop"),
    Refused(
        "jax",
        "an integer among the params",
        _jax(_reading, {"W": 0.5 * jnp.eye(UNITS), "unit": jnp.array(0)}),
        "expected a floating dtype, got int",
    ),
    Refused("jax", "NumPy's random numbers", _jax(_drawing), "randomness in the model"),
    Refused("autograd", "NumPy's random numbers", _autograd_drawing, "randomness in the model"),
)
