"""The self-check: what it chooses, what it leaves alone, and how it is turned off."""

from __future__ import annotations

import importlib
import random
from types import ModuleType
from typing import Any

import autograd.numpy
import numpy as np
import pytest
import torch
from uoro_torch import TorchBackend

from uoro import SGD, UORO, Backend, Learner, load_backend, unroll
from uoro.algebra import norm
from uoro.derivatives.choosing import Route, Seen, choose
from uoro.derivatives.differenced import by_differences, pushed_by_differences
from uoro.derivatives.routes import Routed
from uoro.dynamics import Batched, Checked, Moment, Sweeping
from uoro.errors import DerivativeError, DerivativeWarning

anp: Any = autograd.numpy  # it makes its functions at run time, unseen by type checkers


def _tanh(backend: Backend) -> tuple[Any, Any, Any, Any]:
    xp = backend.xp

    def transition(weights: Any, state: Any, x: Any) -> Any:
        state = xp.tanh(weights @ state + x)
        return state, (state**2).sum()

    everything: Any = backend.from_host((0.5 * np.eye(3), np.ones(3), np.ones(3)))
    return (transition, *everything)


def test_it_is_described_before_and_after(backend: Backend) -> None:
    transition, *point = _tanh(backend)
    dynamics: Any = backend.dynamics(transition)
    assert "Autodiff mode: to be chosen at the first step" in dynamics.describe()
    dynamics.vjp(*point)
    said = dynamics.describe()
    assert backend.name in said
    assert "Two equal calls agree" in said
    assert "Both agree with differences of forward" in said


def test_it_can_be_turned_off(backend: Backend) -> None:
    transition, *point = _tanh(backend)
    calls = list[int]()

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return transition(*arguments)

    dynamics: Any = backend.dynamics(counted, check=False)
    assert "check=False" in dynamics.describe()
    dynamics.forward(*point)
    assert len(calls) == 1
    dynamics.jvp(*point, point[1])
    assert "Nothing was checked." in dynamics.describe()


def test_a_learner_probes_before_its_first_step(backend: Backend) -> None:
    transition, weights, state, x = _tanh(backend)
    dynamics: Any = backend.dynamics(transition)
    stacked = backend.collect([x, x])
    learner = Learner(unroll(dynamics, 2), UORO(), SGD(0.01), weights, state)
    learner.step(stacked)
    assert dynamics.gap is not None


def test_nobodys_random_state_moves(backend: Backend) -> None:
    transition, *point = _tanh(backend)
    numpy_state: Any = np.random.get_state
    before = random.getstate(), numpy_state()[1].tolist(), torch.get_rng_state()

    def drawing(*arguments: Any) -> Any:
        random.random()
        np.random.random()
        torch.rand(1)
        return transition(*arguments)

    dynamics: Any = backend.dynamics(drawing)
    dynamics.probe(*point)
    assert random.getstate() == before[0]
    if backend.name == "autograd":
        assert numpy_state()[1].tolist() == before[1]
    if backend.name == "torch":
        assert torch.equal(torch.get_rng_state(), before[2])


def test_it_goes_on_to_the_next_route_until_one_is_adjoint() -> None:
    backend = load_backend("autograd")
    transition, *point = _tanh(backend)
    right = backend.dynamics(transition, check=False)

    class Wrong:
        span, backend = 1, right.backend
        forward, vjp = right.forward, right.vjp

        def jvp(self, *arguments: Any) -> Any:
            pushed, rate = right.jvp(*arguments)
            return 1.01 * pushed, rate

    class Raising(Wrong):
        def jvp(self, *arguments: Any) -> Any:
            raise NotImplementedError("no jvp of this")

    routes = [Route("first", Raising()), Route("second", Wrong()), Route("third", right)]
    dynamics = Routed(routes).probe(*point)
    assert dynamics.route == "third"
    assert "Not first: no jvp of this" in dynamics.describe()
    assert "Not second: JVP and VJP differ by 0.0" in dynamics.describe()
    with pytest.raises(DerivativeError, match="Not second"):
        Routed(routes[:2]).probe(*point)


def test_choosing_is_pure_and_leaves_warning_to_the_dynamics() -> None:
    """The choice carries the caution of a last resort; nothing is warned of, nothing is kept."""
    backend = load_backend("autograd")
    transition, *point = _tanh(backend)
    right = backend.dynamics(transition, check=False)
    routes = [by_differences(right)]
    choices = [choose(routes, Moment(*point), Seen([])) for _ in range(2)]
    assert choices[0] == choices[1]
    assert choices[0].route is routes[0]
    assert choices[0].gap is not None
    assert "central differences. The JVP is a difference" in choices[0].warnings[0]
    with pytest.warns(DerivativeWarning, match="central differences"):
        dynamics = Routed(routes).probe(*point)
    assert dynamics.gap == choices[0].gap


def test_unroll_is_a_function_beside_a_module_of_that_name() -> None:
    import uoro.derivatives.unroll
    from uoro.derivatives import unroll as module

    assert isinstance(module, ModuleType)
    assert uoro.unroll is module.unroll is uoro.derivatives.unroll.unroll
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("uoro.unroll")


@pytest.mark.parametrize("name", ["torch", "jax", "autograd"])
def test_dynamics_of_every_backend_name_what_they_can_do(name: str) -> None:
    backend = load_backend(name)
    transition, *point = _tanh(backend)
    dynamics = backend.dynamics(transition)
    assert isinstance(dynamics, Sweeping)
    assert isinstance(dynamics, Batched)
    assert isinstance(dynamics, Checked)
    assert isinstance(unroll(dynamics, 2), Sweeping)
    dynamics.probe(*point)
    assert (dynamics.many() is not None) == (name != "autograd")
    dynamics.forget()
    assert "to be chosen at the first step" in dynamics.describe()


def test_a_mistake_in_the_model_is_not_blamed_on_its_derivatives(backend: Backend) -> None:
    _, *point = _tanh(backend)

    def mistaken(*arguments: Any) -> Any:
        raise KeyError("no such weights")

    with pytest.raises(KeyError, match="no such weights"):
        backend.dynamics(mistaken).vjp(*point)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_difference_is_nearly_the_jvp(backend: Backend, dtype: str) -> None:
    transition, *made = _tanh(backend)
    weights, state, x = backend.from_host(made, dtype=dtype)
    dynamics = backend.dynamics(transition)
    for scale in (1e-6, 1.0, 1e6):
        tangent = backend.combine((scale, x))
        exact, rate = dynamics.jvp(weights, state, x, tangent)
        near, near_rate = pushed_by_differences(dynamics, weights, state, x, tangent)
        gap = norm(backend, backend.combine((1.0, near), (-1.0, exact)))
        allowed = 1e-3 if dtype == "float32" else 1e-9
        assert float(gap) < allowed * float(norm(backend, exact))
        assert abs(float(near_rate) - float(rate)) < allowed * abs(float(rate))
    pushed, _ = pushed_by_differences(dynamics, weights, state, x, backend.zeros(state))
    assert float(norm(backend, pushed)) == 0.0


class Fused(torch.autograd.Function):
    """What cuDNN does: no second derivative."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            return gradient * (1 - x.tanh() ** 2)


@pytest.mark.parametrize("draws", [False, True], ids=["", "with dropout that draws otherwise"])
def test_fused_kernels_without_a_second_derivative_are_switched_off(draws: bool) -> None:
    """What cuDNN does, played by an operation that looks at the flag."""
    backend = TorchBackend()

    def transition(weights: Any, state: Any, x: Any) -> Any:
        enabled: Any = torch.backends.mkldnn.enabled
        apply: Any = Fused.apply if enabled else torch.tanh
        kept = torch.tensor([1.0, 0.0, 1.0] if enabled else [0.0, 1.0, 1.0])
        state = apply(weights @ state + x) * (kept if draws else 1.0)
        return state, (state**2).sum()

    point = 0.5 * torch.eye(3), torch.ones(3), torch.ones(3)
    dynamics = backend.dynamics(transition).probe(*point)
    assert dynamics.route == "double vjp without fused kernels"
    assert torch.backends.mkldnn.enabled


def test_a_jvp_that_autograd_lacks_comes_from_the_vjp() -> None:
    from autograd.extend import defvjp, primitive

    soft: Any = primitive(np.tanh)
    defvjp(soft, lambda y, x: lambda gradient: gradient * (1 - y**2))
    backend = load_backend("autograd")

    def transition(weights: Any, state: Any, x: Any) -> Any:
        state = soft(weights @ state + x)
        return state, anp.sum(state**2)

    def plain(weights: Any, state: Any, x: Any) -> Any:
        state = anp.tanh(weights @ state + x)
        return state, anp.sum(state**2)

    rng = np.random.default_rng(0)
    point = rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=3)
    tangent = rng.normal(size=3)
    got, rate = backend.dynamics(transition, check=False).jvp(*point, tangent)
    wanted, wanted_rate = backend.dynamics(plain).jvp(*point, tangent)
    np.testing.assert_allclose(got, wanted, rtol=1e-14)
    np.testing.assert_allclose(float(rate), float(wanted_rate), rtol=1e-14)
