"""Eligibility traces: z = Σ (γλ)^(t-k) g̃_k within an episode, and zero where one begins."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from uoro_jax import JaxBackend

from uoro import RTRL, UORO, Backend, JointUORO, Streams
from uoro.errors import SettingError, StructureError
from uoro.estimators import Traced, Traces, bptt
from uoro.tasks import TMaze

UNITS, STEPS, ENDED = 3, 7, 4
FADE = 0.9 * 0.7


def _transition(xp: Any, params: Any, state: Any, x: Any) -> Any:
    state = xp.tanh(params["W"] @ state + params["u"] * x)
    return state, {"value": params["c"] @ state, "policy": state * params["u"]}


def _cotangent(output: Any) -> Any:
    """Take the value, and a multiple of the policy that depends on the output."""
    return {"value": output["value"] * 0 + 1.0, "policy": 0.5 * output["policy"]}


def _start(backend: Backend) -> Any:
    generator = np.random.default_rng(0)
    shapes: dict[str, Any] = {"W": (UNITS, UNITS), "u": UNITS, "c": UNITS}
    params = {name: generator.normal(size=shape) for name, shape in shapes.items()}
    items = generator.normal(size=STEPS)
    return backend.from_host(params), backend.from_host(np.zeros(UNITS)), backend.from_host(items)


def _traces(backend: Backend, estimator: Any) -> list[Any]:
    """Run over two episodes; return the trace after each step."""
    traces = Traces(estimator, 0.9, 0.7)
    model = backend.dynamics(partial(_transition, backend.xp), check=False)
    params, rest, items = _start(backend)
    traced, state, seen = traces.init(model, params, rest), rest, []

    def step(traced: Any, state: Any, ended: Any, x: Any, signs: Any) -> Any:
        traced, state = traces.reset(model, params, traced, state, ended, rest)
        traced, state, _ = traces.step(model, params, traced, state, x, signs, _cotangent)
        return traced, state

    step = backend.compile(step)
    for number in range(STEPS):
        key = backend.fold(backend.key(0), number)
        signs = traces.draw(partial(backend.random, key), state)
        ended = backend.from_host(np.array(number == ENDED))
        traced, state = step(traced, state, ended, items[number], signs)
        assert isinstance(traced, Traced)
        seen.append(backend.to_host(traced.trace))
    return seen


def test_traces_of_rtrl_are_those_of_backpropagation_through_each_episode(backend: Backend) -> None:
    """The oracle is one gradient of the weighted sum of all outputs of the episode."""
    xp = backend.xp

    def weighted(params: Any, state: Any, item: Any) -> Any:
        state, output = _transition(xp, params, state, item["x"])
        along = output["value"] + 0.25 * xp.sum(output["policy"] ** 2)
        return state, item["weight"] * along

    model = backend.dynamics(weighted, check=False)
    params, rest, items = _start(backend)
    for number, trace in enumerate(_traces(backend, RTRL())):
        first = ENDED if number >= ENDED else 0
        length = number - first + 1
        weights = backend.from_host(FADE ** np.arange(length)[::-1].copy())
        episode = {"x": items[first : number + 1], "weight": weights}
        _, estimate = bptt(model, params, rest, episode)
        for name, expected in backend.to_host(estimate.gradient).items():
            np.testing.assert_allclose(trace[name], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("estimator", [UORO(2), JointUORO(2)], ids=["rank 2", "joint"])
def test_traces_add_up_what_the_estimator_returns(estimator: Any) -> None:
    backend: Any = JaxBackend()
    with backend.precision("float64"):
        model = backend.dynamics(partial(_transition, jnp), check=False)
        params, rest, items = _start(backend)
        carry, state = estimator.init(model, params, rest), rest
        total = backend.zeros(params)

        @jax.jit
        def step(carry: Any, state: Any, x: Any, signs: Any) -> Any:
            carry, state, made = estimator.advance(model, params, carry, state, x, signs)
            return carry, state, made.gradient(_cotangent(made.output))

        for number, trace in enumerate(_traces(backend, estimator)):
            if number == ENDED:
                carry, state = estimator.init(model, params, rest), rest
                total = backend.zeros(params)
            key = backend.fold(backend.key(0), number)
            signs = estimator.draw(partial(backend.random, key), state)
            carry, state, gradient = step(carry, state, items[number], signs)
            total = backend.combine((FADE, total), (1.0, gradient))
            for name, expected in total.items():
                np.testing.assert_allclose(trace[name], expected, rtol=1e-11, atol=1e-12)


def test_bad_input_is_refused() -> None:
    for discount, decay in ((1.1, 0.5), (0.5, -0.1), (float("nan"), 0.5), ("a", 0.5)):
        with pytest.raises(SettingError, match=r"Traces\(.*a number from 0 to 1"):
            Traces(RTRL(), discount, decay)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="an estimator of one stream"):
        Traces(Streams(RTRL(), 2), 0.9, 0.9)
    with pytest.raises(SettingError, match="estimator"):
        Traces(RTRL, 0.9, 0.9)  # type: ignore[arg-type]  # a class
    backend: Any = JaxBackend()
    model = backend.dynamics(partial(_transition, jnp), check=False)
    params, rest, items = _start(backend)
    traces = Traces(RTRL(), 0.9, 0.9)
    held = traces.init(model, params, rest)
    with pytest.raises(StructureError, match=r"Traces\.step\(traced=.*a Traced"):
        traces.step(model, params, held.carry, rest, items[0], None, _cotangent)
    with pytest.raises(StructureError, match="cotangent"):
        traces.step(model, params, held, rest, items[0], None, lambda output: output["value"])
    with pytest.raises(SettingError, match="cotangent: expected a function of the output"):
        traces.step(model, params, held, rest, items[0], None, 1.0)  # type: ignore[arg-type]
    with pytest.raises(StructureError, match=r"Traces\.reset\(traced=.*a Traced"):
        traces.reset(model, params, held.carry, rest, True, rest)
    with pytest.raises(
        StructureError, match=r"Traces\.reset\(ended=.*one boolean, got shape \(2,\)"
    ):
        traces.reset(model, params, held, rest, jnp.zeros(2, bool), rest)


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_the_maze_rewards_whoever_turns_as_the_cue_said(xp: Any) -> None:
    game = TMaze(3)
    for side in (0, 1):
        for action in (0, 1):
            maze, rewards = game.start(xp.asarray(side)), []
            for place in range(4):
                seen = game.observe(xp, maze, xp.asarray(1))
                cue = 2 * side - 1 if place == 0 else 0
                np.testing.assert_array_equal(seen, [cue, 1, int(place == 3)])
                maze, reward, ended = game.step(xp, maze, xp.asarray(action))
                rewards.append(int(reward))
                assert bool(ended) == (place == 3)
            assert rewards == [0, 0, 0, 1 if action == side else -1]
    with pytest.raises(SettingError, match="corridor"):
        TMaze(0)
