"""Steps that are not finite in JAX: masked, counted, and raised where that is possible."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from uoro_jax import Carry, online

from uoro import RTRL, UORO, JointUORO, KroneckerSum, NonFiniteError, SettingError
from uoro.estimators import Truncated

PARAMS = {"w": 0.3 * jnp.ones((3, 3)), "u": jnp.ones(3)}
ITEMS, TARGETS = jnp.linspace(-1.0, 1.0, 6), jnp.linspace(0.0, 1.0, 6)
KEYS = jax.random.split(jax.random.key(0), 6)


def transition(params: Any, state: Any, item: Any) -> Any:
    x, target = item
    state = jnp.tanh(params["w"] @ state + params["u"] * x)
    return state, ((state.sum() - target) ** 2)


def outputs(params: Any, state: Any, x: Any) -> Any:
    state = jnp.tanh(params["w"] @ state + params["u"] * x)
    return state, state.sum()


def scanned(core: Any, items: Any, targets: Any, *, keys: Any = KEYS) -> Any:
    """Return the last params and carry, the losses, and the gradients."""

    def step(held: Any, given: Any) -> Any:
        params, carry = held
        x, target, key = given
        carry, estimate = core.step(params, carry, (x, target), key)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, estimate.gradient)
        return (params, carry), (estimate.loss, estimate.gradient)

    start = PARAMS, core.init(PARAMS, jnp.zeros(3), item=(items[0], targets[0]))
    run = jax.jit(lambda start: jax.lax.scan(step, start, (items, targets, keys)))
    held, (losses, gradients) = run(start)
    return *held, losses, gradients


def equal(one: Any, other: Any) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other
    )


@pytest.mark.parametrize("where", ["item", "target"])
def test_a_compiled_run_shows_a_nan_for_ever_and_check_raises(where: str) -> None:
    core = online(transition, UORO())
    items = ITEMS.at[3].set(jnp.nan) if where == "item" else ITEMS
    targets = TARGETS.at[3].set(jnp.nan) if where == "target" else TARGETS
    _, carry, losses, _ = scanned(core, items, targets)
    assert np.isnan(losses).tolist() == [False] * 3 + [True] * 3
    assert carry.faults is None
    with pytest.raises(NonFiniteError, match=r"check\(carry, losses\): .*step 3.*cannot raise"):
        core.check(carry, losses)
    with pytest.raises(NonFiniteError, match=r"the (state|influence estimate) is nan\. "):
        core.check(carry)
    core.check(*scanned(core, ITEMS, TARGETS)[1:3])


@pytest.mark.parametrize("choice", ["skip", "reset"])
@pytest.mark.parametrize("where", ["item", "target"])
def test_skipped_steps_leave_weights_and_pair(choice: Any, where: str) -> None:
    core = online(transition, UORO(), on_nonfinite=choice)
    items = ITEMS.at[3].set(jnp.nan) if where == "item" else ITEMS
    targets = TARGETS.at[3].set(jnp.inf) if where == "target" else TARGETS
    params, carry, losses, _ = scanned(core, items, targets)
    assert np.isfinite(losses).tolist() == [True] * 3 + [False] + [True] * 2
    assert [int(leaf) for leaf in carry.faults] == [6, 1, 3]
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((params, carry)))
    core.check(carry)
    if choice == "skip":
        rest = [0, 1, 2, 4, 5]
        other = jnp.asarray(rest)
        before, kept, _, _ = scanned(core, ITEMS[other], TARGETS[other], keys=KEYS[other])
        pairs = zip(*map(jax.tree.leaves, ((params, carry[:2]), (before, kept[:2]))), strict=True)
        for one, two in pairs:
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    else:
        _, after, _, _ = scanned(core, items[:4], targets[:4], keys=KEYS[:4])
        equal(after.influence, core.init(PARAMS, jnp.zeros(3)).influence)


ANEW = (UORO(rank=2), JointUORO(2), KroneckerSum(2), RTRL(), Truncated())


@pytest.mark.parametrize("estimator", ANEW, ids=str)
def test_an_estimate_that_starts_anew_is_zeros(estimator: Any) -> None:
    core = online(transition, estimator)
    carry = core.init(PARAMS, jnp.ones(3), item=(ITEMS[0], TARGETS[0]))
    assert not any(bool(jnp.any(leaf)) for leaf in jax.tree.leaves(carry.influence))


def test_the_derivative_of_an_output_is_masked_too() -> None:
    core = online(outputs, UORO(), on_nonfinite="skip")

    @jax.jit
    def loss(params: Any, carry: Any, x: Any, target: Any, key: Any) -> Any:
        carry, output = core(params, carry, x, key)
        return (output - target) ** 2, carry

    derivative = jax.jit(jax.value_and_grad(loss, has_aux=True))
    carry = core.init(PARAMS, jnp.zeros(3))
    for i in range(3):
        (value, after), gradient = derivative(PARAMS, carry, ITEMS[i], jnp.nan, KEYS[i])
        assert math.isnan(value)
        assert not any(map(jnp.any, jax.tree.leaves(gradient)))
        (_, carry), gradient = derivative(PARAMS, carry, ITEMS[i], TARGETS[i], KEYS[i])
        equal(after, carry)
    assert any(map(jnp.any, jax.tree.leaves(gradient)))
    (value, broken), gradient = derivative(PARAMS, carry, jnp.nan, TARGETS[3], KEYS[3])
    assert math.isnan(value)
    assert not any(map(jnp.any, jax.tree.leaves(gradient)))
    equal(broken[:2], carry[:2])
    later, _, pullback = jax.jit(core.predict)(PARAMS, broken, ITEMS[4], KEYS[4])
    assert any(map(jnp.any, jax.tree.leaves(pullback(1.0))))
    assert not any(map(jnp.any, jax.tree.leaves(pullback(jnp.nan))))
    assert int(later.faults.skipped) == 1


def test_streams_mapped_by_vmap_stop_each_alone() -> None:
    core = online(transition, UORO(), on_nonfinite="skip")
    carry = jax.vmap(lambda _: core.init(PARAMS, jnp.zeros(3)))(jnp.arange(3))
    items, targets = ITEMS[:3].at[1].set(jnp.nan), TARGETS[:3]
    step = jax.jit(jax.vmap(core.step, (None, 0, 0, 0)))
    after, _ = step(PARAMS, carry, (items, targets), KEYS[:3])
    assert after.faults.skipped.tolist() == [0, 1, 0]
    assert bool(jnp.isfinite(after.state).all())
    core.check(after)


def test_what_is_not_compiled_raises_at_once() -> None:
    core = online(transition, UORO())
    carry = core.init(PARAMS, jnp.zeros(3))
    with pytest.raises(
        NonFiniteError, match=r"OnlineGradient.step: .*is nan\. .*carry from before"
    ):
        core.step(PARAMS, carry, (jnp.nan, 0.0), KEYS[0])
    with pytest.raises(NonFiniteError, match="Nothing was returned"):
        online(outputs, UORO())(PARAMS, carry, jnp.nan, KEYS[0])
    with pytest.raises(SettingError, match="expected one of 'raise', 'skip', 'reset'"):
        online(transition, on_nonfinite="stop")  # type: ignore[arg-type]


def test_a_carry_made_by_hand_counts_nothing_and_masks_may_be_infinite() -> None:
    def masked(params: Any, state: Any, x: Any) -> Any:
        hidden = jnp.tanh(params["w"] @ state["hidden"] + params["u"] * x)
        return {**state, "hidden": hidden}, hidden.sum()

    core = online(masked, RTRL(), on_nonfinite="skip")
    state = {"hidden": jnp.zeros(3), "mask": -jnp.inf * jnp.ones(2), "key": jax.random.key(0)}
    carry = core.init(PARAMS, state)
    step = jax.jit(core.step)
    after, _ = step(PARAMS, carry, 1.0, KEYS[0])
    assert int(after.faults.skipped) == 0
    made, _ = step(PARAMS, Carry(*carry[:2]), 1.0, KEYS[0])
    assert made.faults is None
    core.check(made)
