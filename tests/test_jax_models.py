"""The estimators under JAX's own transformations, and models of its libraries."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import sharding
from real_models.jax_models import IN, OUT, UNITS, EquinoxModel, NnxModel, draw, squared
from uoro_jax import (
    Carry,
    JaxBackend,
    OptaxOptimizer,
    from_apply,
    from_module,
    online,
)

from uoro import RTRL, SGD, UORO, Learner, Streams, unroll
from uoro.errors import DerivativeError, DerivativeWarning, SettingError, StructureError

BACKEND = JaxBackend()
P: Any = sharding.PartitionSpec
STEPS = 6


def _model() -> Any:
    keys = jax.random.split(jax.random.key(0))
    readout = eqx.nn.Linear(UNITS, OUT, key=keys[1])
    cell = eqx.nn.GRUCell(IN, UNITS, key=keys[0])
    return from_module(EquinoxModel(cell, readout), squared, jnp.zeros(UNITS))


def _items(seed: int = 0) -> Any:
    return draw(seed, STEPS, IN), draw(seed + 1, STEPS, OUT)


def _run(dynamics: Any, params: Any, state: Any, items: Any, key: Any) -> Any:
    """Run UORO over a stream as a user would, in a scan."""

    def step(carried: Any, item: Any) -> Any:
        state, carry = carried
        inputs, key = item
        signs = UORO().draw(partial(BACKEND.random, key), state)
        carry, state, estimate = UORO().step(dynamics, params, carry, state, inputs, signs)
        return (state, carry), estimate.gradient

    start = state, UORO().init(dynamics, params, state)
    return jax.lax.scan(step, start, (items, jax.random.split(key, STEPS)))[1]


def _one_by_one(dynamics: Any, params: Any, state: Any, items: Any, key: Any) -> Any:
    carry, gradients = UORO().init(dynamics, params, state), []
    for number, one in enumerate(jax.random.split(key, STEPS)):
        item = jax.tree.map(lambda leaf, number=number: leaf[number], items)
        signs = UORO().draw(partial(BACKEND.random, one), state)
        carry, state, estimate = UORO().step(dynamics, params, carry, state, item, signs)
        gradients.append(estimate.gradient)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients)


def _close(one: Any, two: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


def test_under_jit_and_scan() -> None:
    made = _model()
    arguments = made.params, made.state, _items(), jax.random.key(1)
    plain = _one_by_one(BACKEND.dynamics(made.transition), *arguments)
    traced = BACKEND.dynamics(made.transition)
    _close(jax.jit(partial(_run, traced))(*arguments), plain)
    assert traced.route == "forward mode"
    assert "Checked at random numbers, while a compiler was tracing" in traced.describe()


def test_under_vmap_over_seeds_and_over_streams() -> None:
    made = _model()
    dynamics = BACKEND.dynamics(made.transition)
    keys = jax.random.split(jax.random.key(1), 3)
    items = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(_items(2 * i) for i in range(3)))
    states = jnp.stack([jnp.zeros(UNITS)] * 3)
    each = jax.jit(jax.vmap(partial(_run, dynamics), in_axes=(None, 0, 0, 0)))
    got = each(made.params, states, items, keys)
    for row in range(3):
        alone = _run(dynamics, made.params, states[row], _items(2 * row), keys[row])
        _close(jax.tree.map(lambda leaf, row=row: leaf[row], got), alone)


def test_under_shard_map() -> None:
    made = _model()
    dynamics = BACKEND.dynamics(made.transition)
    mesh = jax.make_mesh((len(jax.devices()),), ("streams",))
    keys = jax.random.split(jax.random.key(1), 2)
    items = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(_items(2 * i) for i in range(2)))
    rows = P("streams")
    items, keys = jax.device_put((items, keys), jax.NamedSharding(mesh, rows))

    def shard(params: Any, items: Any, keys: Any) -> Any:
        run = partial(_run, dynamics, params, jnp.zeros(UNITS))
        mean = jax.tree.map(lambda leaf: leaf.mean(0), jax.vmap(run)(items, keys))
        pmean: Any = jax.lax.pmean
        return pmean(mean, "streams")

    mapped = jax.jit(
        jax.shard_map(
            shard,
            mesh=mesh,
            in_specs=(P(), rows, rows),
            out_specs=P(),
            check_vma=False,
        )
    )
    got = mapped(made.params, items, keys)
    each = [
        _run(dynamics, made.params, jnp.zeros(UNITS), _items(2 * row), keys[row])
        for row in range(2)
    ]
    _close(got, jax.tree.map(lambda *leaves: sum(leaves) / 2, *each))


def test_a_model_with_custom_vjp_goes_through_jit() -> None:
    @jax.custom_vjp
    def soft(x: Any) -> Any:
        return jnp.tanh(x)

    soft.defvjp(lambda x: (jnp.tanh(x), jnp.tanh(x)), lambda y, g: (g * (1 - y**2),))
    results = []
    for function in (soft, jnp.tanh):

        def transition(weights: Any, state: Any, inputs: Any, function: Any = function) -> Any:
            state = function(weights @ state + inputs[0].sum())
            return state, squared(state[:OUT], inputs[1])

        dynamics = BACKEND.dynamics(transition)
        arguments = 0.5 * jnp.eye(UNITS), jnp.zeros(UNITS), _items(), jax.random.key(2)
        results.append(jax.jit(partial(_run, dynamics))(*arguments))
        assert dynamics.route == ("double vjp" if function is soft else "forward mode")
    _close(*results)


def test_optax_trains_an_equinox_module() -> None:
    made = _model()
    learner = Learner(
        BACKEND.dynamics(made.transition),
        UORO(),
        OptaxOptimizer(optax.adam(1e-2)),
        made.params,
        made.state,
    )
    items = [(draw(i, IN), draw(i, OUT)) for i in range(4)] * 100
    first, last = learner.run(items[:200]), learner.run(items[200:])
    assert last.mean_loss < first.mean_loss
    model = made.restore(learner.params)
    assert isinstance(model, EquinoxModel)
    output, _ = model(items[0][0], made.state)
    assert output.shape == (OUT,)


def test_an_nnx_module_comes_back_trained_with_its_random_streams_moved_on() -> None:
    module = NnxModel(nnx.GRUCell, nnx.Rngs(0), 0.5)
    made = from_module(module, squared, jnp.zeros(UNITS))
    dynamics = BACKEND.dynamics(made.transition)
    learner = Learner(dynamics, UORO(), SGD(1e-2), made.params, made.state)
    same = draw(0, IN), draw(1, OUT)
    losses = [float(learner.step(same).loss) for _ in range(4)]
    assert len(set(losses)) == 4, "each step drops other units"
    trained = made.restore(learner.params, learner.state)
    assert isinstance(trained, NnxModel)
    assert int(trained.dropout.rngs.count[...]) == 4
    assert int(module.dropout.rngs.count[...]) == 0, "the module given is left alone"


def test_a_wrong_derivative_is_told_of_under_jit_too() -> None:
    @jax.custom_vjp
    def soft(x: Any) -> Any:
        return jnp.tanh(x)

    soft.defvjp(lambda x: (jnp.tanh(x), jnp.tanh(x)), lambda y, g: (1.5 * g * (1 - y**2),))

    def transition(weights: Any, state: Any, inputs: Any) -> Any:
        state = soft(weights @ state + inputs[0].sum())
        return state, squared(state[:OUT], inputs[1])

    arguments = 0.5 * jnp.eye(UNITS), jnp.zeros(UNITS), _items(), jax.random.key(2)
    with pytest.warns(DerivativeWarning, match="a derivative given by hand is wrong"):
        jax.jit(partial(_run, BACKEND.dynamics(transition)))(*arguments)


def test_a_function_may_be_called_what_it_likes() -> None:
    @jax.jit
    def custom_linear(weights: Any, x: Any) -> Any:
        return weights @ x

    def transition(weights: Any, state: Any, inputs: Any) -> Any:
        state = jnp.tanh(custom_linear(weights, state) + inputs[0].sum())
        return state, squared(state[:OUT], inputs[1])

    dynamics = BACKEND.dynamics(transition)
    dynamics.probe(0.5 * jnp.eye(UNITS), jnp.zeros(UNITS), (draw(0, IN), draw(1, OUT)))
    assert dynamics.route == "forward mode"


def test_params_that_nothing_depends_on_are_told_of() -> None:
    weights = 0.5 * jnp.eye(UNITS)

    def transition(params: Any, state: Any, inputs: Any) -> Any:
        state = jnp.tanh(weights @ state + inputs[0].sum())
        return state, squared(state[:OUT], inputs[1])

    with pytest.warns(
        DerivativeWarning, match="depends on the params, and none of them will learn"
    ):
        BACKEND.dynamics(transition).probe(weights, jnp.zeros(UNITS), (draw(0, IN), draw(1, OUT)))


def test_a_model_that_returns_no_pair_is_named() -> None:
    made = from_apply(lambda params, given, state: state, squared, jnp.ones(2), jnp.ones(2))
    with pytest.raises(StructureError, match=r"expected a pair \(output, next_state\), got a "):
        BACKEND.dynamics(made.transition).forward(made.params, made.state, (0.0, 0.0))


def _online(gradient: Any, params: Any, state: Any, items: Any, key: Any) -> Any:
    def step(carry: Carry, item: Any) -> Any:
        carry, estimate = gradient.step(params, carry, *item)
        return carry, estimate.gradient

    start = gradient.init(params, state)
    return jax.lax.scan(step, start, (items, jax.random.split(key, STEPS)))


def _same(one: Any, two: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_online_is_the_estimator_step_by_step_to_the_bit() -> None:
    made = _model()
    arguments = made.params, made.state, _items(), jax.random.key(1)
    wanted = jax.jit(partial(_run, BACKEND.dynamics(made.transition)))(*arguments)
    gradient = online(made.transition, UORO())
    carry, got = jax.jit(partial(_online, gradient))(*arguments)
    _same(got, wanted)
    assert isinstance(carry, Carry)
    assert carry.state.shape == made.state.shape
    assert "forward mode" in gradient.dynamics.describe()  # type: ignore[attr-defined]  # Routed


def test_online_step_by_step_without_jit() -> None:
    made = _model()
    params, state, items, key = made.params, made.state, _items(), jax.random.key(1)
    gradient, got = online(made.transition, UORO()), []
    carry = gradient.init(params, state)
    for number, one in enumerate(jax.random.split(key, STEPS)):
        item = jax.tree.map(lambda leaf, number=number: leaf[number], items)
        carry, estimate = gradient.step(params, carry, item, one)
        got.append(estimate.gradient)
    dynamics = BACKEND.dynamics(made.transition)
    wanted = _one_by_one(dynamics, params, state, items, key)
    _same(jax.tree.map(lambda *leaves: jnp.stack(leaves), *got), wanted)


def test_online_under_vmap_is_each_stream_alone() -> None:
    made = _model()
    gradient = online(made.transition, UORO())
    keys = jax.random.split(jax.random.key(1), 3)
    items = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(_items(2 * i) for i in range(3)))
    states = jnp.stack([made.state] * 3)
    each = jax.jit(jax.vmap(partial(_online, gradient), in_axes=(None, 0, 0, 0)))
    carries, gradients = each(made.params, states, items, keys)
    for row in range(3):
        alone = _online(gradient, made.params, states[row], _items(2 * row), keys[row])
        _close(jax.tree.map(lambda leaf, row=row: leaf[row], (carries, gradients)), alone)


@pytest.mark.parametrize("estimator", [UORO(rank=2), Streams(UORO(), 3), RTRL()])
def test_online_runs_any_estimator(estimator: Any) -> None:
    made = _model()
    streams = isinstance(estimator, Streams)
    items = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3, 1) if streams else leaf, _items())
    state = jnp.stack([made.state] * 3) if streams else made.state
    gradient = online(made.transition, estimator)
    carry, got = jax.jit(partial(_online, gradient))(made.params, state, items, jax.random.key(1))
    assert carry.state.shape == state.shape
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(got))


def test_online_passes_aux_on_and_takes_dynamics() -> None:
    def transition(weights: Any, state: Any, inputs: Any) -> Any:
        state = jnp.tanh(weights @ state + inputs[0].sum())
        return state, squared(state[:OUT], inputs[1]), {"mean": state.mean()}

    weights, state, item = 0.5 * jnp.eye(UNITS), jnp.ones(UNITS), (draw(0, IN), draw(1, OUT))
    gradient, key = online(transition, UORO(), has_aux=True), jax.random.key(0)
    carry, estimate = gradient.step(weights, gradient.init(weights, state), item, key)
    assert float(estimate.aux["mean"]) == pytest.approx(float(carry.state.mean()))
    other = online(BACKEND.dynamics(transition, has_aux=True), UORO())
    _same(other.step(weights, other.init(weights, state), item, key)[1], estimate)
    longer = online(unroll(BACKEND.dynamics(transition, has_aux=True), 2), UORO())
    window = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), item)
    longer.step(weights, longer.init(weights, state), window, key)


def test_online_checks_the_model_at_its_first_step() -> None:
    scale = {"hidden": 1.0}

    def transition(weights: Any, state: Any, inputs: Any) -> Any:
        scale["hidden"] += 1.0
        state = jnp.tanh(scale["hidden"] * weights @ state + inputs[0].sum())
        return state, squared(state[:OUT], inputs[1])

    weights, state, item = 0.5 * jnp.eye(UNITS), jnp.ones(UNITS), (draw(0, IN), draw(1, OUT))
    gradient = online(transition, UORO())
    with pytest.raises(DerivativeError, match="two equal calls"):
        gradient.step(weights, gradient.init(weights, state), item, jax.random.key(0))
    online(transition, UORO(), check=False).step(
        weights, gradient.init(weights, state), item, jax.random.key(0)
    )


def test_online_refuses_what_is_not_a_carry_or_a_key() -> None:
    made = _model()
    gradient, item = online(made.transition, UORO()), jax.tree.map(lambda leaf: leaf[0], _items())
    carry = gradient.init(made.params, made.state)
    with pytest.raises(StructureError, match=r"OnlineGradient\.step\(carry=.*a uoro_jax\.Carry"):
        gradient.step(made.params, (*carry,), item, jax.random.key(0))  # type: ignore[arg-type]  # a tuple
    with pytest.raises(StructureError, match=r"OnlineGradient\.step\(key=.*a PRNG key"):
        gradient.step(made.params, carry, item, "a key")
    with pytest.raises(SettingError, match=r"online\(.*a uoro.Estimator"):
        online(made.transition, UORO)  # type: ignore[arg-type]  # a class
    with pytest.raises(SettingError, match=r"online\(.*a function \(params, state, item\)"):
        online(3, UORO())  # type: ignore[arg-type]  # no function
