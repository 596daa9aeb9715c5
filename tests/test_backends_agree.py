"""Same numbers, same signs, params held: three backends, one gradient, for 1,000 steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from systems import MODELS, jiggle, make_items

from uoro import RTRL, UORO, Estimator, RollingTruncated, Streams, load_backend, unroll
from uoro.estimators import Truncated
from uoro.learning.host_noise import SharedNoise, map_host
from uoro.learning.stream import BlockStream

LONG, SHORT = 1000, 100


@dataclass(frozen=True)
class Case:
    model: str
    estimator: Estimator
    span: int = 1
    streams: int | None = None


CASES = {
    "linear": Case("linear", UORO()),
    "rnn": Case("rnn", UORO()),
    "gru": Case("gru", UORO()),
    "lstm": Case("lstm", UORO()),
    "stack": Case("stack", UORO()),
    "rank 3": Case("gru", UORO(rank=3)),
    "memory 4": Case("lstm", UORO(), span=4),
    "3 streams": Case("gru", Streams(UORO(), 3), streams=3),
    "gaussian": Case("two leaves", UORO(distribution="gaussian")),
    "spherical": Case("two leaves", UORO(distribution="spherical")),
    "rtrl": Case("stack", RTRL()),
    "chunked": Case("gru", Truncated(), span=5),
    "rolling": Case("gru", RollingTruncated(3)),
}


@cache
def gradients(case_name: str, backend_name: str, steps: int) -> list[Any]:
    """Run a case and keep the gradient of every step, on the host."""
    case = CASES[case_name]
    backend = load_backend(backend_name)
    with backend.precision("float64"):
        params, state = MODELS[case.model].init(np.random.default_rng(0))
        state = jiggle(state, np.random.default_rng(1))
        lead = () if case.streams is None else (case.streams,)
        state = map_host(lambda leaf: np.broadcast_to(leaf, lead + leaf.shape), state)
        items = map_host(
            lambda leaf: leaf.reshape((steps, *lead, *((case.span,) if case.span > 1 else ()))),
            make_items(steps * case.span * (case.streams or 1)),
        )
        drawn = SharedNoise(case.estimator.draw, state, seed=4)
        assert isinstance(drawn, BlockStream)
        signs = drawn.take(steps) if drawn.used else None
        dynamics = backend.dynamics(partial(MODELS[case.model].transition, backend.xp))
        if case.span > 1:
            dynamics = unroll(dynamics, case.span)
        params, state = backend.from_host(params), backend.from_host(state)
        items = backend.from_host(items)

        def run(params: Any, carry: Any, state: Any, items: Any, signs: Any) -> Any:
            def body(carried: Any, item: Any) -> Any:
                carry, state = carried
                carry, state, estimate = case.estimator.step(dynamics, params, carry, state, *item)
                return (carry, state), estimate.gradient

            return backend.scan(body, (carry, state), (items, signs))[1]

        first = backend.map(lambda leaf: leaf[0], items)
        carry = case.estimator.init(dynamics, params, state, inputs=first)
        stacked = backend.compile(run)(params, carry, state, items, backend.from_host(signs))
        return [np.asarray(leaf) for _, leaf in backend.named_leaves(backend.to_host(stacked))]


@pytest.mark.parametrize("other", ["torch", "jax"])
@pytest.mark.parametrize(
    ("case", "steps"),
    [
        ("rnn", LONG),
        *((case, SHORT) for case in CASES if case != "rnn"),
        *(pytest.param(case, LONG, marks=pytest.mark.thorough) for case in CASES if case != "rnn"),
    ],
)
def test_gradients_agree_at_every_one_of_many_steps(case: str, steps: int, other: str) -> None:
    reference, got = (gradients(case, name, steps) for name in ("autograd", other))
    gap = sum(((a - b) ** 2).reshape(steps, -1).sum(1) for a, b in zip(got, reference, strict=True))
    size = sum((b**2).reshape(steps, -1).sum(1) for b in reference)
    relative = np.sqrt(gap / size)
    assert np.all(np.isfinite(relative))
    worst = int(np.argmax(relative))
    assert relative[worst] < 1e-9, f"{case}: relative gap {relative[worst]} at step {worst}"


@pytest.mark.parametrize("name", ["autograd", "torch", "jax"])
@pytest.mark.parametrize(
    "estimator", [UORO(), UORO(rank=2), RTRL(), Truncated(), RollingTruncated(2)]
)
def test_float32_stays_float32_and_follows_float64(name: str, estimator: Estimator) -> None:
    backend = load_backend(name)
    model = MODELS["lstm"]

    def run(dtype: str) -> Any:
        with backend.precision(dtype):
            params, state = model.init(np.random.default_rng(0))
            state = map_host(lambda leaf: leaf.astype(dtype), state)
            drawn = SharedNoise(estimator.draw, state, seed=2)
            dynamics = backend.dynamics(partial(model.transition, backend.xp))
            params, state = backend.from_host(params, dtype=dtype), backend.from_host(state)
            items = backend.from_host(make_items(10))
            carry, advance = None, backend.compile(partial(estimator.step, dynamics))
            for step in range(10):
                item = backend.map(lambda leaf, step=step: leaf[step], items)
                if carry is None:
                    carry = estimator.init(dynamics, params, state, inputs=item)
                signs = backend.from_host(next(drawn)) if drawn.used else None
                carry, state, estimate = advance(params, carry, state, item, signs)
            for path, leaf in backend.named_leaves((state, estimate.gradient)):
                assert dtype in str(leaf.dtype), f"{path} is {leaf.dtype}"
            return [
                np.asarray(x) for _, x in backend.named_leaves(backend.to_host(estimate.gradient))
            ]

    single, double = run("float32"), run("float64")
    gap = sum(float(((a - b) ** 2).sum()) for a, b in zip(single, double, strict=True))
    size = sum(float((b**2).sum()) for b in double)
    assert gap < 1e-8 * size, (gap / size) ** 0.5
