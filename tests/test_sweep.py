"""All derivatives of a step taken together: what they are, and that a wrong one is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from systems import Changed, TwoLeaves, build, entries, make_items, relative
from torch import nn
from uoro_conformance import GALLERY, check_sweep
from uoro_torch.backend import TorchBackend
from uoro_torch.module import ModuleTransition
from uoro_torch.module_dynamics import ModuleDynamics

from uoro import Backend, load_backend, unroll
from uoro.derivatives.sweep import once, read, separately, sweep
from uoro.dynamics import Sweep

Change = Callable[[Backend, Sweep[Any, Any]], Sweep[Any, Any]]


def _outcome(swept: Sweep[Any, Any], **parts: Any) -> Sweep[Any, Any]:
    return swept._replace(outcome=swept.outcome._replace(**parts))


def _negated(backend: Backend, swept: Sweep[Any, Any], *given: Any) -> Any:
    by_params, by_state = swept.pullback(*given)
    return backend.combine((-1.0, by_params)), by_state


MISTAKES: dict[str, tuple[str, Change]] = {
    "a next state a little off": (
        "next state",
        lambda backend, s: _outcome(s, next_state=backend.combine((1.001, s.outcome.next_state))),
    ),
    "another loss": ("output", lambda backend, s: _outcome(s, output=s.outcome.loss + 0.001)),
    "a gradient of the wrong sign": (
        "immediate gradient",
        lambda backend, s: s._replace(pullback=lambda *given: _negated(backend, s, *given)),
    ),
    "a tangent that is dropped": (
        "JVP of the tangent",
        lambda backend, s: s._replace(pushed=backend.combine((0.0, s.pushed))),
    ),
    "a loss tangent that is dropped": (
        "output along the tangent",
        lambda backend, s: s._replace(output_tangent=0.0 * s.output_tangent),
    ),
    "the gradient in the place of the signs pulled back": (
        "VJP of the signs",
        lambda backend, s: s._replace(pull=lambda signs, kept: s.pullback(None, 1.0)[0]),
    ),
    "nothing kept of the signs": (
        "VJP of the signs",
        lambda backend, s: s._replace(
            pull=lambda signs, kept: s.pull(backend.combine((0.0, signs)), kept)
        ),
    ),
    "a tangent that is not a number": (
        "JVP of the tangent",
        lambda backend, s: s._replace(pushed=backend.combine((math.nan, s.pushed))),
    ),
}


def _changed(dynamics: Any, change: Change) -> Any:
    return Changed(
        dynamics, sweep=lambda *step: change(dynamics.backend, separately(dynamics, *step))
    )


@pytest.mark.parametrize("count", [None, 3])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_sweep_with_a_mistake_in_it_is_refused(mistake: str, count: int | None) -> None:
    dynamics, *point = GALLERY[0].build(load_backend("autograd")).first
    check_sweep(_changed(dynamics, lambda backend, s: s), *point, count=count).require()
    where, change = MISTAKES[mistake]
    finding = check_sweep(_changed(dynamics, change), *point, count=count)
    assert finding.verdict == "broken", finding
    assert f"the {where} is furthest off" in finding.evidence


@pytest.mark.parametrize("what", ["pushed", "output_tangent"])
def test_pairs_that_change_places_are_refused(what: str) -> None:
    dynamics, *point = GALLERY[0].build(load_backend("autograd")).first
    flip = partial(np.flip, axis=0)

    def swap(backend: Backend, swept: Sweep[Any, Any]) -> Sweep[Any, Any]:
        return swept._replace(**{what: backend.map(flip, getattr(swept, what))})

    assert check_sweep(_changed(dynamics, swap), *point, count=2).verdict == "broken"


def test_a_sweep_of_losses_that_are_not_finite_proves_nothing() -> None:
    dynamics, *point = GALLERY[0].build(load_backend("autograd")).first
    broken = _changed(dynamics, lambda backend, s: _outcome(s, output=s.outcome.loss * math.inf))
    assert check_sweep(broken, *point).verdict == "unverifiable"


@pytest.mark.parametrize("count", [None, 2])
@pytest.mark.parametrize("length", [1, 3])
def test_a_sweep_of_a_state_of_two_leaves_is_jvp_and_vjp(
    backend: Backend, length: int, count: int | None
) -> None:
    dynamics, params, state = build(backend, TwoLeaves(2))
    items = entries(backend, make_items(3), 3)
    if length == 1:
        check_sweep(dynamics, params, state, items[0], count=count).require()
    else:
        stack = backend.collect(items)
        check_sweep(unroll(dynamics, 3), params, state, stack, count=count).require()


@pytest.mark.parametrize("mapped", [False, True])
def test_a_sweep_of_a_linear_model_is_its_matrices(backend: Backend, mapped: bool) -> None:
    """One step is s' = A s + θ x, ℓ = c·s' + d·θ; two are their product, in closed form."""
    generator = np.random.default_rng(0)
    a, c, d = (generator.normal(size=shape) for shape in ((3, 3), (3,), (3,)))
    xp = backend.xp
    weights = backend.from_host((a, c, d))

    def transition(theta: Any, state: Any, x: Any) -> Any:
        following = weights[0] @ state + theta * x
        return following, xp.sum(weights[1] * following) + xp.sum(weights[2] * theta), {"x": x}

    dynamics = unroll(backend.dynamics(transition, has_aux=True), 2)
    theta, state, x = generator.normal(size=3), generator.normal(size=3), np.array([0.5, -2.0])
    tangents, signs = generator.normal(size=(2, 3)), np.array([[1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])
    given = (tangents, signs) if mapped else (tangents[0], signs[0])
    each: Any = backend.vmap if mapped else once
    at, start, stack, pushed, pulled = backend.from_host((theta, state, x, *given))
    swept = sweep(dynamics, at, start, stack, pushed, pulled, each)
    immediate, rate = read(backend, swept, pushed, 1.0, stacked=mapped)
    first = a @ state + theta * x[0]
    second = a @ first + theta * x[1]
    # ds'/dθ = x₁ A + x₂ of two steps, x₁ of the first; each loss is of its own state.
    influence = x[0] * a + x[1] * np.eye(3)
    wanted = {
        "next state": (swept.outcome.next_state, second),
        "loss": (swept.outcome.loss, c @ (first + second) + 2 * d @ theta),
        "aux": (swept.outcome.aux["x"], x),
        "direct": (immediate, x[0] * c + influence.T @ c + 2 * d),
        "pushed": (swept.pushed, given[0] @ (a @ a).T),
        "rate": (rate, given[0] @ (a + a @ a).T @ c),
        "pulled": (each(swept.pull)(pulled, swept.kept), given[1] @ influence),
    }
    for name, (got, numbers) in wanted.items():
        gap = relative(backend, got, backend.from_host(np.asarray(numbers)))
        assert gap < 1e-12, (name, gap, got, numbers)


def _torch_points() -> dict[str, tuple[Callable[..., Any], Any, Any, Any]]:
    """Models at which autograd has something missing: a gradient, a graph, or a number."""
    draw = partial(torch.randn, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w, v, s, x = draw(3, 3), draw(3), draw(3), draw(3)

    def counted(p: Any, state: Any, x: Any) -> Any:
        h = torch.tanh(p["w"] @ state["h"] + x)
        return {"clock": state["clock"] + 1, "h": h}, (p["v"] * h).sum()

    def rotated(p: Any, state: Any, x: Any) -> Any:
        z = torch.complex(p["w"], p["v"] * p["w"]) @ state + x
        return z / (1 + z.abs()), z.abs().square().sum()

    return {
        "a state that stays": (lambda p, s, x: (s, (p["w"] @ s).sum()), {"w": w}, s, x),
        "a next state that is a parameter": (
            lambda p, s, x: (p["v"], (p["v"] * s).sum()), {"v": v}, s, x,
        ),
        "a next state of the item alone": (lambda p, s, x: (x, (p["v"] * s).sum()), {"v": v}, s, x),
        "a loss of the item alone": (
            lambda p, s, x: (torch.tanh(p["w"] @ s), x.sum()), {"w": w}, s, x,
        ),
        "a parameter without use": (
            lambda p, s, x: (torch.tanh(p["w"] @ s), s.sum()), {"w": w, "v": v}, s, x,
        ),
        "a state that is linear in itself": (
            lambda p, s, x: (0.5 * s + p["v"], (s * s).sum()), {"v": v}, s, x,
        ),
        "integers in the state": (
            counted, {"w": w, "v": v}, {"clock": torch.tensor(2), "h": s}, x,
        ),
        "complex numbers": (rotated, {"w": w, "v": v}, torch.complex(s, x), x),
    }  # fmt: skip


@pytest.mark.parametrize("name", _torch_points())
@pytest.mark.parametrize("trained", [False, True])
def test_torch_sweeps_what_it_has_no_gradient_of(name: str, trained: bool) -> None:
    """Also where the params are leaves of autograd already, and taken as they are."""
    transition, params, state, item = _torch_points()[name]
    params = {key: param.clone().requires_grad_(trained) for key, param in params.items()}
    dynamics = load_backend("torch").dynamics(transition, check=False)
    check_sweep(dynamics, params, state, item).require()
    assert all(param.grad is None for param in params.values())
    swept = sweep(dynamics, params, state, item, *_pair(state), once)
    immediate, _ = swept.pullback(None, 1.0)
    leaves = [swept.outcome.loss, *immediate.values(), *swept.pull(None, swept.kept).values()]
    assert not any(leaf.requires_grad for leaf in leaves)


def _pair(state: Any) -> tuple[Any, Any]:
    backend = load_backend("torch")
    zero = backend.zeros(state)
    return backend.map(lambda leaf: leaf + 0.5, zero), backend.map(lambda leaf: leaf + 1.0, zero)


def test_torch_sweeps_a_module_and_passes_its_buffers_on() -> None:
    torch.manual_seed(0)

    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(2, 3)
            self.count: Any
            self.register_buffer("count", torch.zeros(()))

        def forward(self, input: Any, state: Any) -> Any:
            self.count += 1.0
            state = self.cell(input, state)
            return state, state

    module = Counted().double()
    loss = nn.functional.mse_loss
    dynamics = ModuleDynamics(TorchBackend(), ModuleTransition(module, loss), rows=False)
    item = torch.randn(2, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    state = torch.randn(3, dtype=torch.float64)
    params = dict(module.named_parameters())
    check_sweep(dynamics, params, state, item).require()
    swept = sweep(dynamics, params, state, item, *_pair(state), once)
    assert float(swept.outcome.aux["count"]) == 1.0
    assert float(module.count) == 0.0
