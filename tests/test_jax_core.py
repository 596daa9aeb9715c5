"""`uoro_jax.online` as a function to differentiate: losses at once, late, and of whole scans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from real_models.jax_models import IN, OUT, UNITS, EquinoxModel, NnxModel, draw
from uoro_jax import JaxBackend, OnlineGradient, Pullback, from_module, online

from uoro import (
    RTRL,
    UORO,
    JointUORO,
    RollingTruncated,
    Streams,
    TruncatedBPTT,
    load_backend,
)
from uoro.errors import DerivativeError, StructureError
from uoro.estimators import Truncated, bptt

STEPS = 5
STREAMS = 3


@pytest.fixture(autouse=True)
def doubles() -> Iterator[None]:
    with JaxBackend().precision("float64"):
        yield


def predict(params: Any, state: Any, x: Any) -> Any:
    """Take a step of a gated cell with outputs of two leaves, a dictionary."""
    hidden = state["h"]
    gate = jax.nn.sigmoid(params["G"] @ hidden + params["V"] @ x)
    hidden = gate * hidden + (1 - gate) * jnp.tanh(params["W"] @ hidden + params["U"] @ x)
    state = {"h": hidden, "seen": state["seen"] + 1}
    return state, {"policy": params["P"] @ hidden, "value": params["c"] @ hidden + x[0]}


def lossy(params: Any, state: Any, item: Any) -> Any:
    """Take the same step, and return its loss."""
    x, target = item
    state, output = predict(params, state, x)
    return state, loss_of(output, target)


def loss_of(output: Any, target: Any) -> Any:
    return (output["value"] - target) ** 2 - jax.nn.log_softmax(output["policy"])[0] * target


def _params() -> Any:
    shapes = {
        "G": (UNITS, UNITS),
        "W": (UNITS, UNITS),
        "U": (UNITS, IN),
        "V": (UNITS, IN),
        "P": (OUT, UNITS),
        "c": (UNITS,),
    }
    return {name: 0.7 * draw(i, *shape) for i, (name, shape) in enumerate(shapes.items())}


def _state(*batch: int) -> Any:
    return {"h": jnp.zeros((*batch, UNITS)), "seen": jnp.zeros(batch, int)}


def _items(*batch: int) -> Any:
    return draw(20, STEPS, *batch, IN), draw(21, STEPS, *batch)


def _keys() -> Any:
    return jax.random.split(jax.random.key(3), STEPS)


def _scan(core: OnlineGradient, step: Callable[..., Any], *batch: int, item: Any = None) -> Any:
    """Run a step, ``(carry, (x, target), key) -> (carry, result)``, over all items, compiled."""

    @jax.jit
    def run(params: Any, items: Any, keys: Any) -> Any:
        start = core.init(params, _state(*batch), item=item)
        return jax.lax.scan(lambda carry, now: step(params, carry, *now), start, (items, keys))[1]

    return run(_params(), _items(*batch), _keys())


def _through_grad(core: OnlineGradient, loss: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def objective(params: Any, carry: Any, item: Any, key: Any) -> Any:
        x, target = item
        carry, output = core(params, carry, x, key)
        return loss(output, target), carry

    def step(params: Any, carry: Any, item: Any, key: Any) -> Any:
        (_, carry), gradient = jax.value_and_grad(objective, has_aux=True)(params, carry, item, key)
        return carry, gradient

    return step


def _by_step(core: OnlineGradient) -> Callable[..., Any]:
    def step(params: Any, carry: Any, item: Any, key: Any) -> Any:
        carry, estimate = core.step(params, carry, item, key)
        return carry, estimate.gradient

    return step


def _late(core: OnlineGradient, loss: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def step(params: Any, carry: Any, item: Any, key: Any) -> Any:
        x, target = item
        carry, output, pullback = core.predict(params, carry, x, key)
        return carry, pullback(jax.grad(loss)(output, target))

    return step


def _close(one: Any, two: Any, tolerance: float = 1e-13) -> None:
    forms: list[Any] = [jax.tree.structure(tree) for tree in (one, two)]
    assert forms[0] == forms[1]
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


ESTIMATORS: dict[str, Any] = {
    "UORO": UORO(),
    "rank 4": UORO(4),
    "joint": JointUORO(4),
    "RTRL": RTRL(),
    "truncated": Truncated(),
    "rolling": RollingTruncated(3),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_derivative_of_a_loss_is_the_gradient_of_a_transition_with_this_loss(name: str) -> None:
    estimator, (x, target) = ESTIMATORS[name], _items()
    whole = online(lossy, estimator)
    expected = _scan(whole, _by_step(whole), item=(x[0], target[0]))
    core = online(predict, estimator)
    _close(_scan(core, _through_grad(core, loss_of), item=x[0]), expected)
    _close(_scan(core, _late(core, loss_of), item=x[0]), expected)


def _lstm(params: Any, state: Any, x: Any) -> Any:
    h, c = state
    i, f, o, g = jnp.split(params["x"] @ x + params["h"] @ h + params["b"], 4)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def _readout(params: Any, state: Any, x: Any) -> Any:
    state, h = _lstm(params["first"], state, x)
    return state, params["out"] @ h


def _stack(params: Any, state: Any, x: Any) -> Any:
    first, h = _lstm(params["first"], state[0], x)
    second, h = _lstm(params["second"], state[1], h)
    return (first, second), params["out"] @ h


def _lstm_params(first: int, inputs: int) -> Any:
    shapes = {"x": (4 * UNITS, inputs), "h": (4 * UNITS, UNITS), "b": (4 * UNITS,)}
    return {name: 0.7 * draw(first + i, *shape) for i, (name, shape) in enumerate(shapes.items())}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("LSTM", "rank 4"), ("LSTM", "RTRL"), ("stack", "joint")),
        *(
            pytest.param(kind, name, marks=pytest.mark.thorough)
            for kind, name in (
                ("LSTM", "UORO"),
                ("LSTM", "joint"),
                ("stack", "UORO"),
                ("stack", "rank 4"),
                ("stack", "RTRL"),
            )
        ),
    ],
)
def test_the_derivative_of_a_loss_is_that_of_a_step_for_an_lstm_and_a_stack(
    kind: str, name: str
) -> None:
    """Relative to the norm, 1e-13 in float64: XLA fuses the two programs differently.

    The estimator's own steps, not the core's, are what is compared with.
    """
    params = {"first": _lstm_params(30, IN), "out": draw(40, OUT, UNITS)}
    one = jnp.zeros(UNITS), jnp.zeros(UNITS)
    model, state = (_readout, one) if kind == "LSTM" else (_stack, (one, one))
    if kind == "stack":
        params["second"] = _lstm_params(50, UNITS)
    estimator, (xs, targets), keys = ESTIMATORS[name], _items(), _keys()

    def square(output: Any, target: Any) -> Any:
        return ((output - target) ** 2).sum()

    def whole(params: Any, state: Any, item: Any) -> Any:
        state, output = model(params, state, item[0])
        return state, square(output, item[1])

    core, backend = online(model, estimator), load_backend("jax")
    dynamics = backend.dynamics(whole)
    objective = _through_grad(core, square)

    @jax.jit
    def both(params: Any) -> Any:
        def body(carried: Any, now: Any) -> Any:
            mine, (carry, state) = carried
            item, key = now
            signs = estimator.draw(partial(backend.random, key), state)
            mine, gradient = objective(params, mine, item, key)
            carry, state, made = estimator.step(dynamics, params, carry, state, item, signs)
            return (mine, (carry, state)), (gradient, made.gradient)

        start = core.init(params, state), (estimator.init(dynamics, params, state), state)
        return jax.lax.scan(body, start, ((xs, targets), keys))[1]

    for leaf, expected in zip(*map(jax.tree.leaves, both(params)), strict=True):
        assert jnp.linalg.norm(leaf - expected) <= 1e-13 * jnp.linalg.norm(expected)
        assert jnp.linalg.norm(expected) > 1e-3


@pytest.mark.parametrize("name", ["UORO", "joint", "RTRL", "truncated"])
def test_streams_in_the_estimator_and_by_vmap(name: str) -> None:
    estimator = ESTIMATORS[name]
    whole = online(lossy, Streams(estimator, STREAMS))
    expected = _scan(whole, _by_step(whole), STREAMS)

    def mean_loss(output: Any, target: Any) -> Any:
        return jax.vmap(loss_of)(output, target).mean()

    core = online(predict, Streams(estimator, STREAMS))
    _close(_scan(core, _through_grad(core, mean_loss), STREAMS), expected)
    _close(_scan(core, _late(core, mean_loss), STREAMS), expected)


def test_vmap_over_streams_adds_up_what_each_stream_contributes() -> None:
    core, params, (xs, targets) = online(predict, UORO()), _params(), _items(STREAMS)
    keys = jax.random.split(jax.random.key(5), STREAMS)
    carry = jax.vmap(core.init, (None, 0))(params, _state(STREAMS))

    def total(params: Any, carry: Any, x: Any, target: Any, keys: Any) -> Any:
        carry, outputs = jax.vmap(core, (None, 0, 0, 0))(params, carry, x, keys)
        return jax.vmap(loss_of)(outputs, target).sum(), carry

    def one(params: Any, carry: Any, x: Any, target: Any, key: Any) -> Any:
        carry, output = core(params, carry, x, key)
        return loss_of(output, target), carry

    together = jax.jit(jax.grad(total, has_aux=True))
    alone = jax.jit(jax.vmap(jax.grad(one, has_aux=True), (None, 0, 0, 0, 0)))
    for x, target in zip(xs, targets, strict=True):
        gradient, after = together(params, carry, x, target, keys)
        each, _ = alone(params, carry, x, target, keys)
        _close(gradient, jax.tree.map(lambda leaf: leaf.sum(0), each))
        carry = after


def test_rtrl_through_a_whole_scan_is_backpropagation_through_time() -> None:
    core = online(predict, RTRL())

    @jax.jit
    @jax.grad
    def gradient(params: Any, items: Any) -> Any:
        def step(carry: Any, item: Any) -> Any:
            carry, output = core(params, carry, item[0], None)
            return carry, loss_of(output, item[1])

        return jax.lax.scan(step, core.init(params, _state()), items)[1].sum()

    @jax.jit
    @jax.grad
    def backpropagated(params: Any, items: Any) -> Any:
        return jax.lax.scan(partial(lossy, params), _state(), items)[1].sum()

    expected = backpropagated(_params(), _items())
    _close(gradient(_params(), _items()), expected, 1e-10)
    whole = JaxBackend().dynamics(lossy)
    _, estimate = bptt(whole, _params(), _state(), _items())
    _close(estimate.gradient, expected, 1e-10)


@pytest.mark.parametrize("name", ["UORO", "truncated"])
def test_the_derivative_of_a_whole_scan_is_the_sum_over_its_steps(name: str) -> None:
    core = online(predict, ESTIMATORS[name])
    each = _scan(core, _through_grad(core, loss_of))

    @jax.jit
    @jax.grad
    def gradient(params: Any, items: Any, keys: Any) -> Any:
        def step(carry: Any, now: Any) -> Any:
            (x, target), key = now
            carry, output = core(params, carry, x, key)
            return carry, loss_of(output, target)

        return jax.lax.scan(step, core.init(params, _state()), (items, keys))[1].sum()

    _close(gradient(_params(), _items(), _keys()), jax.tree.map(lambda leaf: leaf.sum(0), each))


def test_derivatives_by_carry_item_and_key_are_zero_and_so_is_that_of_the_next_carry() -> None:
    core, params = online(predict, UORO()), _params()
    carry = core.init(params, _state())
    carry = jax.tree.map(lambda leaf: leaf + 1, carry)
    x, key = draw(9, IN), jax.random.key(0)

    def of_output(params: Any, carry: Any, x: Any, key: Any) -> Any:
        return core(params, carry, x, key)[1]["value"]

    def of_carry(params: Any) -> Any:
        after, _ = core(params, carry, x, key)
        return after.state["h"].sum() + after.influence.cotangent["W"].sum()

    gradient: Any = jax.jit(jax.grad(of_output, (0, 1, 2, 3), allow_int=True))(
        params, carry, x, key
    )
    by_params, others = gradient[0], gradient[1:]
    assert any(np.any(leaf) for leaf in jax.tree.leaves(by_params))
    for leaf in jax.tree.leaves(others):
        assert leaf.dtype == jax.dtypes.float0 or not np.any(leaf)
    for leaf in jax.tree.leaves(jax.jit(jax.grad(of_carry))(params)):
        assert not np.any(leaf)


def test_a_head_outside_the_core_gets_its_ordinary_gradient() -> None:
    core, params, (xs, targets) = online(predict, UORO()), _params(), _items()
    head = draw(30, OUT)

    def objective(everything: Any, carry: Any, x: Any, target: Any, key: Any) -> Any:
        params, head = everything
        carry, output = core(params, carry, x, key)
        return (head @ jnp.tanh(output["policy"]) - target) ** 2, (carry, output)

    def inside(params: Any, state: Any, item: Any) -> Any:
        state, output = predict(params, state, item[0])
        return state, (head @ jnp.tanh(output["policy"]) - item[1]) ** 2

    step = jax.jit(jax.grad(objective, has_aux=True))
    whole, keys = online(inside, UORO()), _keys()
    expected = _scan(whole, _by_step(whole))
    carry = core.init(params, _state())
    for number in range(STEPS):
        x, target = xs[number], targets[number]
        now = carry, x, target, keys[number]
        (of_core, of_head), (carry, output) = step((params, head), *now)
        mixed = jnp.tanh(output["policy"])
        _close(of_head, 2 * (head @ mixed - target) * mixed)
        _close(of_core, jax.tree.map(lambda leaf, number=number: leaf[number], expected))


DELAY = 2


def test_a_loss_two_steps_late_in_the_carry_of_a_scan_is_taken_at_the_params_of_its_step() -> None:
    core, (xs, targets), keys = online(predict, UORO()), _items(), _keys()

    @jax.jit
    def run(params: Any) -> Any:
        carry = core.init(params, _state())
        shape = jax.eval_shape(core.predict, params, carry, xs[0], keys[0])[1:]
        blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)

        def step(carried: Any, now: Any) -> Any:
            params, carry, waiting = carried
            x, late, key = now
            carry, output, pullback = core.predict(params, carry, x, key)
            (old, pull), others = waiting[0], (*waiting[1:], (output, pullback))
            gradient = pull(jax.grad(loss_of)(old, late))
            moved = jax.tree.map(lambda leaf: leaf * 1.1, params)
            return (moved, carry, others), gradient

        late = jnp.concatenate([jnp.zeros(DELAY), targets[:-DELAY]])
        start = params, carry, (blank,) * DELAY
        return jax.lax.scan(step, start, (xs, late, keys))[1]

    got = run(_params())
    whole = online(lossy, UORO())
    step = jax.jit(whole.step)
    params = _params()
    carry = whole.init(params, _state())
    for number in range(STEPS - DELAY):
        carry, estimate = step(params, carry, (xs[number], targets[number]), keys[number])
        at = number + DELAY
        _close(jax.tree.map(lambda leaf, at=at: leaf[at], got), estimate.gradient)
        params = jax.tree.map(lambda leaf: leaf * 1.1, params)


def test_a_pullback_is_a_pytree_and_answers_more_than_once() -> None:
    core, params = online(predict, UORO(2)), _params()
    predicting = jax.jit(core.predict)
    carry, _, _ = predicting(params, core.init(params, _state()), draw(1, IN), jax.random.key(0))
    _, output, pullback = predicting(params, carry, draw(2, IN), jax.random.key(1))
    assert isinstance(pullback, Pullback)
    leaves, structure = jax.tree.flatten(pullback)
    again = jax.tree.unflatten(structure, leaves)
    pull = jax.jit(lambda pullback, cotangent: pullback(cotangent))
    one = {"policy": jnp.array([1.0, 0.0]), "value": jnp.array(0.0)}
    two = {"policy": jnp.array([0.0, 3.0]), "value": jnp.array(-1.0)}
    both = jax.tree.map(jnp.add, one, two)
    parts = pull(again, one), pull(again, two)
    _close(pull(pullback, both), jax.tree.map(jnp.add, *parts))
    with pytest.raises(StructureError, match=r"Pullback\(cotangent\).*structure of the output"):
        pullback(jnp.ones(2))
    with pytest.raises(StructureError, match=r"a leaf of shape \(2,\), got shape \(3,\)"):
        pullback({"policy": jnp.ones(3), "value": output["value"]})


def test_complex_params_follow_the_convention_of_jax_grad() -> None:
    def cell(params: Any, state: Any, x: Any) -> Any:
        state = jnp.tanh(params["a"] * state + x)
        return state, {"z": params["b"] * state, "count": jnp.array(1)}

    def loss(output: Any) -> Any:
        return (jnp.abs(output["z"] - (1 + 2j)) ** 2).sum()

    params = {"a": jnp.array([0.3 + 0.2j, -0.1j]), "b": jnp.array([1j, 0.5])}
    core = online(cell, Truncated())
    carry = core.init(params, jnp.array([0.3 - 0.1j, 0.2]))

    def objective(params: Any, x: Any) -> Any:
        return loss(core(params, carry, x, None)[1])

    def plain(params: Any, x: Any) -> Any:
        return loss(cell(params, carry.state, x)[1])

    got = jax.jit(jax.grad(objective))(params, 0.5)
    _close(got, jax.jit(jax.grad(plain))(params, 0.5))
    _, output, pullback = core.predict(params, carry, 0.5, None)
    cotangent = jax.grad(loss, allow_int=True)(output)
    _close(pullback(cotangent), got)


def test_aux_comes_beside_the_output() -> None:
    def transition(params: Any, state: Any, x: Any) -> Any:
        state = jnp.tanh(params * state + x)
        return state, state * params, {"norm": (state**2).sum()}

    core = online(transition, UORO(), has_aux=True)
    params, state = jnp.array(0.5), jnp.zeros(2)
    carry = core.init(params, state)
    _, (output, aux) = jax.jit(core)(params, carry, 1.0, jax.random.key(0))
    _, both, pullback = jax.jit(core.predict)(params, carry, 1.0, jax.random.key(0))
    _close(both, (output, aux))
    _close(aux["norm"], 2 * np.tanh(1.0) ** 2)
    _close(pullback(jnp.ones(2)), jnp.array(2 * np.tanh(1.0)))


def test_equinox_filter_grad_of_a_module_and_a_head() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    network = EquinoxModel(
        eqx.nn.GRUCell(IN, UNITS, key=keys[0]), eqx.nn.Linear(UNITS, OUT, key=keys[1])
    )
    head = eqx.nn.MLP(OUT, "scalar", 4, 1, key=keys[2])
    model = from_module(network, None, jnp.zeros(UNITS))
    core = online(model.transition, RTRL())

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(both: Any, xs: Any) -> Any:
        params, head = both

        def step(carry: Any, x: Any) -> Any:
            carry, output = core(params, carry, x, None)
            return carry, head(output) ** 2

        return jax.lax.scan(step, core.init(params, model.state), xs)[1].sum()

    @eqx.filter_jit
    @eqx.filter_grad
    def backpropagated(both: Any, xs: Any) -> Any:
        network, head = both

        def step(state: Any, x: Any) -> Any:
            output, state = network(x, state)
            return state, head(output) ** 2

        return jax.lax.scan(step, model.state, xs)[1].sum()

    xs = _items()[0]
    of_core, of_head = gradient((model.params, head), xs)
    of_network, expected = backpropagated((network, head), xs)
    for got, true in ((of_core, of_network), (of_head, expected)):
        got, true = (
            jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array)) for tree in (got, true)
        )
        _close(got, true, 1e-10)


def test_flax_nnx_params() -> None:
    model = from_module(NnxModel(nnx.GRUCell, nnx.Rngs(0)), None, jnp.zeros(UNITS))
    core = online(model.transition, RTRL())

    def total(step: Callable[..., Any], start: Any, xs: Any) -> Any:
        return jax.lax.scan(step, start, xs)[1].sum()

    def ours(params: Any, xs: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            carry, output = core(params, carry, x, None)
            return carry, (output**2).sum()

        return total(step, core.init(params, model.state), xs)

    def true(params: Any, xs: Any) -> Any:
        def step(state: Any, x: Any) -> Any:
            state, output = model.transition(params, state, x)
            return state, (output**2).sum()

        return total(step, model.state, xs)

    xs = _items()[0]
    got, expected = (jax.jit(jax.grad(each))(model.params, xs) for each in (ours, true))
    _close(got, expected, 1e-10)


def test_a_chunk_of_truncated_bptt_returns_a_stack_of_outputs() -> None:
    core, params, (xs, targets) = online(predict, TruncatedBPTT(STEPS)), _params(), _items()
    carry = core.init(params, _state())

    def objective(params: Any) -> Any:
        _, outputs = core(params, carry, xs, None)
        return jax.vmap(loss_of)(outputs, targets).sum()

    def true(params: Any) -> Any:
        return jax.lax.scan(partial(lossy, params), _state(), (xs, targets))[1].sum()

    _close(jax.jit(jax.grad(objective))(params), jax.jit(jax.grad(true))(params), 1e-12)


def test_forward_mode_is_refused_by_jax() -> None:
    core, params = online(predict, UORO()), _params()
    carry = core.init(params, _state())
    step = jax.jit(lambda params: core(params, carry, draw(0, IN), jax.random.key(0))[1])
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(step, (params,), (params,))


class Lossy:
    """An estimator that needs the loss within its step."""

    guarantee = "biased"

    def init(self, dynamics: Any, params: Any, state: Any, *, inputs: Any = None) -> Any:
        return ()

    def draw(self, sampler: Any, state: Any) -> Any:
        return None

    def step(self, *arguments: Any) -> Any:
        return Truncated().step(*arguments)


def test_bad_input_is_refused() -> None:
    core, params = online(predict, UORO()), _params()
    carry, x, key = core.init(params, _state()), draw(0, IN), jax.random.key(0)
    calls: dict[str, Any] = {"__call__": core, "predict": core.predict}
    for method, call in calls.items():
        with pytest.raises(StructureError, match=rf"OnlineGradient\.{method}\(carry=.*Carry"):
            call(params, tuple(carry), x, key)
        with pytest.raises(StructureError, match=r"key=.*a PRNG key"):
            call(params, carry, x, "a key")
    with pytest.raises(StructureError, match="a scalar array of the framework"):
        core.step(params, carry, x, key)
    lossy: Any = Lossy()
    stubborn = online(predict, lossy)
    with pytest.raises(StructureError, match=r"an estimator with advance\(\)"):
        stubborn(params, stubborn.init(params, _state()), x, None)


@pytest.mark.parametrize("estimator", [UORO(), RTRL()], ids=["uoro", "rtrl"])
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "jit"])
def test_what_is_not_differentiated_online_is_not_differentiated_at_all(
    estimator: Any, compiled: bool
) -> None:
    """It would be the gradient of one step, without a word; a head after it is differentiated."""

    def transition(params: Any, state: Any, x: Any) -> Any:
        state = jnp.tanh(params @ state + x)
        return state, jnp.sum(state**2)

    core, params, x, key = online(transition, estimator), jnp.eye(2), jnp.ones(2), jax.random.key(0)
    carry = core.init(params, jnp.zeros(2))
    for name, read in (("predict", lambda out: out[1]), ("step", lambda out: out[1].loss)):
        take = getattr(core, name)
        take = jax.jit(take) if compiled else take
        with pytest.raises(DerivativeError, match=rf"OnlineGradient\.{name}\(params"):
            jax.grad(lambda params, take=take, read=read: read(take(params, carry, x, key)))(params)
        head = jax.grad(lambda h, take=take, read=read: h * read(take(params, carry, x, key)))
        assert jnp.isfinite(head(2.0))
