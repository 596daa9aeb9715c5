"""Optimizers: closed forms, other libraries' steps, gradient clipping, and those of the user's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optax
import pytest
import torch
from systems import MODELS, TINY_MODELS, build, entries, make_items
from uoro_jax import OptaxOptimizer
from uoro_torch import TorchOptimizer

from uoro import SGD, UORO, Adam, Backend, Clipped, Learner, load_backend
from uoro.errors import NonFiniteError, SettingError, StructureError
from uoro.schedules import constant, inverse, inverse_sqrt


def _items(count: int) -> list[Any]:
    stack = make_items(count)
    return [{name: leaf[i] for name, leaf in stack.items()} for i in range(count)]


def _quadratic(backend: Backend) -> tuple[Any, Any]:
    return {
        "a": backend.from_host(np.array([1.0, -2.0])),
        "b": backend.from_host(np.array(3.0)),
    }, ()


def _descend(backend: Backend, optimizer: Any, params: Any, steps: int = 20) -> Any:
    carry = optimizer.init(backend, params)
    for time in range(steps):
        gradient = backend.map(lambda leaf: 2.0 * leaf + 0.1, params)
        params, carry = optimizer.update(backend, gradient, carry, params, time)
    return backend.to_host(params)


def test_adam_takes_the_steps_of_torch_and_optax(backend: Backend) -> None:
    params, _ = _quadratic(backend)
    got = _descend(backend, Adam(1e-2), params)
    theirs = {
        name: torch.tensor(np.asarray(leaf)) for name, leaf in backend.to_host(params).items()
    }
    for leaf in theirs.values():
        leaf.requires_grad_()
    reference = TorchOptimizer(torch.optim.Adam(list(theirs.values()), lr=1e-2))
    wanted = _descend(load_backend("torch"), reference, theirs)
    jax_backend = load_backend("jax")
    with jax_backend.precision("float64"):
        host = jax_backend.from_host(backend.to_host(params))
        also = _descend(jax_backend, OptaxOptimizer(optax.adam(1e-2)), host)
    for name in ("a", "b"):
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-12)
        np.testing.assert_allclose(got[name], also[name], rtol=1e-6)


def test_schedules_have_their_closed_forms() -> None:
    assert inverse_sqrt(0.3)(4) == pytest.approx(0.1)
    assert inverse_sqrt(1e-3, 0.03)(10_000) == pytest.approx(2.5e-4)
    assert inverse(1e-4, 3e-3)(1000) == pytest.approx(2.5e-5)
    assert constant(0.7)(12) == 0.7


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_learning_rates_must_be_positive(rate: float) -> None:
    for make in (SGD, Adam, constant, inverse_sqrt, lambda r: inverse(r, 0.1)):
        with pytest.raises(SettingError, match="expected a positive, finite number"):
            make(rate)


def test_other_settings_out_of_range_are_refused() -> None:
    for make in (
        lambda: Adam(1e-3, b1=1.0),
        lambda: Adam(1e-3, b2=-0.1),
        lambda: Adam(1e-3, eps=0.0),
        lambda: inverse(1e-3, -1.0),
        lambda: inverse_sqrt(1e-3, math.nan),
    ):
        with pytest.raises(SettingError):
            make()


def test_any_torch_optimizer_steps_the_learner_in_place() -> None:
    backend = load_backend("torch")
    dynamics, params, state = build(backend, MODELS["gru"])
    leaves: list[Any] = [leaf for _, leaf in backend.named_leaves(params)]
    for leaf in leaves:
        leaf.requires_grad_()
    before = [leaf.detach().clone() for leaf in leaves]
    optimizer = torch.optim.RMSprop(leaves, lr=1e-3)
    learner = Learner(dynamics, UORO(), TorchOptimizer(optimizer), params, state)
    learner.run(_items(5))
    moved = [bool((a != b).any()) for a, b in zip(leaves, before, strict=True)]
    assert all(moved)
    with pytest.raises(StructureError, match="does not hold the params"):
        Learner(
            dynamics, UORO(), TorchOptimizer(optimizer), backend.map(torch.clone, params), state
        ).run(_items(1))


def test_any_optax_transformation_drives_the_learner() -> None:
    backend = load_backend("jax")
    with backend.precision("float64"):
        dynamics, params, state = build(backend, MODELS["gru"])
        transformation = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
        learner = Learner(dynamics, UORO(), OptaxOptimizer(transformation), params, state)
        assert learner.run(_items(20), chunk=7).steps == 20
        assert backend.to_host(learner.params)["readout"]["bias"].dtype == np.float64


# Clipping.


def _gradient(backend: Backend, *numbers: float) -> Any:
    first, *others = numbers
    return backend.from_host({"a": np.array(first), "b": np.array(others)})


def _step(backend: Backend, gradient: Any, max_norm: float) -> Any:
    """Return what `Clipped` hands on: the step of SGD from zero at the rate 1, turned round."""
    zero = backend.zeros(gradient)
    after, _ = Clipped(SGD(1.0), max_norm).update(backend, gradient, (), zero, 0)
    return backend.to_host(backend.map(lambda leaf: -leaf, after))


def test_a_gradient_beyond_the_norm_keeps_its_direction(backend: Backend) -> None:
    got = _step(backend, _gradient(backend, 2.0, -3.0, 6.0), 3.5)
    np.testing.assert_allclose(got["a"], 1.0, rtol=1e-12)
    np.testing.assert_allclose(got["b"], [-1.5, 3.0], rtol=1e-12)


@pytest.mark.parametrize("numbers", [(2.0, -3.0, 6.0), (0.0, 0.0, 0.0), (0.1, 1e-200, -0.3)])
def test_a_gradient_within_the_norm_stays_bit_for_bit(
    backend: Backend, numbers: tuple[float, ...]
) -> None:
    got = _step(backend, _gradient(backend, *numbers), 7.0)
    np.testing.assert_array_equal(got["a"], numbers[0])
    np.testing.assert_array_equal(got["b"], numbers[1:])


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_gradient_that_is_not_finite_never_becomes_finite(backend: Backend, wrong: float) -> None:
    got = _step(backend, _gradient(backend, 1.0, wrong, 2.0), 1.0)
    assert not np.isfinite(got["b"][0])


@pytest.mark.parametrize("large", [1e200, 1e-200])
def test_the_norm_of_a_huge_gradient_neither_overflows_nor_underflows(
    backend: Backend, large: float
) -> None:
    got = _step(backend, _gradient(backend, 0.0, 3 * large, -4 * large), 0.5 * large)
    np.testing.assert_allclose(got["b"], [0.3 * large, -0.4 * large], rtol=1e-12)


def test_clipping_takes_the_steps_of_optax(backend: Backend) -> None:
    params, _ = _quadratic(backend)
    got = _descend(backend, Clipped(Adam(1e-2), 1.5), params)
    jax_backend = load_backend("jax")
    with jax_backend.precision("float64"):
        host = jax_backend.from_host(backend.to_host(params))
        chain = optax.chain(optax.clip_by_global_norm(1.5), optax.adam(1e-2))
        also = _descend(jax_backend, OptaxOptimizer(chain), host)
    for name in ("a", "b"):
        np.testing.assert_allclose(got[name], also[name], rtol=1e-6)


def test_the_mean_of_clipped_gradients_is_not_the_clipped_mean(backend: Backend) -> None:
    each = [_step(backend, _gradient(backend, x, 0.0), 1.0)["a"] for x in (1.0, -5.0)]
    assert float(np.mean(each)) == 0.0
    assert float(_step(backend, _gradient(backend, -2.0, 0.0), 1.0)["a"]) == -1.0


def _clipped_learner(backend: Backend, **options: Any) -> Learner:
    dynamics, params, state = build(backend, TINY_MODELS["rnn"])
    return Learner(dynamics, UORO(), Clipped(Adam(1e-2), 1e-3), params, state, **options)


def test_a_learner_clips_in_one_loop_as_step_by_step(backend: Backend) -> None:
    stepped, ran = _clipped_learner(backend), _clipped_learner(backend)
    items = list(entries(backend, make_items(9), 9))
    for item in items:
        stepped.step(item)
    ran.run(items, chunk=4)
    for one, other in zip(
        backend.named_leaves(stepped.params), backend.named_leaves(ran.params), strict=True
    ):
        np.testing.assert_allclose(
            backend.to_host(one[1]), backend.to_host(other[1]), rtol=1e-12, atol=1e-15
        )


@pytest.mark.thorough
def test_torch_compiles_a_step_that_clips() -> None:
    backend = load_backend("torch")
    with backend.precision("float64"):
        plain, compiled = _clipped_learner(backend), _clipped_learner(backend, compile=True)
        for item in entries(backend, make_items(4), 4):
            plain.step(item)
            compiled.step(item)
        for one, other in zip(
            backend.named_leaves(plain.params), backend.named_leaves(compiled.params), strict=True
        ):
            torch.testing.assert_close(one[1], other[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("chunk", [1, 8])
def test_clipping_hides_no_fault_from_the_learner(backend: Backend, chunk: int) -> None:
    def transition(theta: Any, state: Any, x: Any) -> Any:
        next_state = 0.5 * state + theta * x
        return next_state, (next_state**2).sum()

    start = backend.from_host((np.array(1.0), np.ones(2)))
    learner = Learner(backend.dynamics(transition), UORO(), Clipped(SGD(0.1), 1e-3), *start)
    with pytest.raises(NonFiniteError) as caught:
        learner.run([np.array(x) for x in (1.0, 0.5, 2.0, math.nan, 1.0)], chunk=chunk)
    assert caught.value.step == 3
    assert learner.steps == 3
    assert math.isfinite(float(learner.params))


def test_a_clipped_torch_optimizer_is_saved_and_loaded() -> None:
    backend = load_backend("torch")

    def made() -> Learner:
        dynamics, params, state = build(backend, MODELS["gru"])
        leaves: list[Any] = [leaf for _, leaf in backend.named_leaves(params)]
        inner = TorchOptimizer(torch.optim.Adam(leaves, lr=1e-2))
        return Learner(dynamics, UORO(), Clipped(inner, 0.1), params, state)

    one, other = made(), made()
    one.run(_items(5))
    other.restore(one.export())
    mine, theirs = one.run(_items(5)), other.run(_items(5))
    assert mine == theirs


@pytest.mark.parametrize("max_norm", [0.0, -1.0, math.nan, math.inf, "1"])
def test_a_largest_norm_must_be_positive(max_norm: Any) -> None:
    with pytest.raises(SettingError, match=r"Clipped\(max_norm=.*positive"):
        Clipped(SGD(0.1), max_norm)
    with pytest.raises(SettingError, match="optimizer"):
        Clipped(object(), 1.0)  # type: ignore[arg-type]  # what it must refuse
