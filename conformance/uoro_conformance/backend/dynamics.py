"""What a backend makes of a transition."""

from __future__ import annotations

from typing import Any

import numpy as np

from uoro.backend import Backend
from uoro.dynamics import Checked
from uoro_conformance.backend.specimens import ROUNDING, Pair, flatten, judge, mismatch
from uoro_conformance.finding import UNIT, Finding


def check_dynamics(backend: Backend, dtype: str) -> Finding:
    """Check that dynamics accept states of any structure, and pass the third element on."""
    law, problems = "dynamics take any tree and pass the third element on", list[str]()
    array = backend.from_host(np.array([0.3, -0.2]), dtype=dtype)
    states: dict[str, Any] = {
        "an array": array,
        "a tuple": (array, array),
        "a named tuple": Pair(array, array),
        "a nested dict": {"a": {"b": array}, "c": array},
    }
    w = backend.from_host(np.array(0.7), dtype=dtype)
    for name, state in states.items():

        def transition(w: Any, state: Any, x: Any) -> Any:
            return _through(w, state), _total(w, state) + x, {"seen": x * 2.0}

        dynamics = backend.dynamics(transition, has_aux=True, check=False)
        for method, outcome in (
            ("forward", dynamics.forward(w, state, w)),
            ("vjp", dynamics.vjp(w, state, w)[0]),
        ):
            got = float(np.asarray(backend.to_host(outcome.aux)["seen"]))
            if abs(got - 1.4) > 1e-6:
                problems.append(f"{method}, state {name}: expected aux 1.4, got {got}")
            if mismatch(outcome.next_state, state):
                problems.append(f"{method}: {mismatch(outcome.next_state, state)}")
        pulled = dynamics.vjp(w, state, w)[1](state, None)[1]
        expected = backend.combine((0.7, state))
        gap = flatten(backend, pulled) - flatten(backend, expected)
        if float(np.abs(gap).max()) > ROUNDING * UNIT[dtype]:
            problems.append(f"vjp, state {name}: the pullback is off by {np.abs(gap).max():.3g}")
    evidence = "; ".join(problems) or f"States that are {', '.join(states)}."
    return judge(law, not problems, evidence)


def _through(w: Any, state: Any) -> Any:
    """Multiply every leaf by w, node by node, as a transition would: leaves may be traced."""
    if isinstance(state, dict):
        return {key: _through(w, value) for key, value in state.items()}
    if isinstance(state, Pair):
        return Pair(*(_through(w, value) for value in state))
    if isinstance(state, tuple):
        return tuple(_through(w, value) for value in state)
    return w * state


def _total(w: Any, state: Any) -> Any:
    """Compute w times the sum of all leaves."""
    if isinstance(state, dict):
        return sum((_total(w, value) for value in state.values()), 0.0)
    if isinstance(state, tuple):
        return sum((_total(w, value) for value in state), 0.0)
    return (w * state).sum()


def check_model_check(backend: Backend, dtype: str) -> Finding:
    """Check that dynamics with ``check=True`` compute what those without the model check do.

    This is the law of `Checked`, for a backend that has one: ``probe`` changes neither its
    arguments nor any result, ``describe`` names the autodiff mode afterwards, and after ``forget``
    the results are the same again.
    """
    law = "the model check changes no result"
    draw = np.random.default_rng(7).normal
    params, state, inputs, tangent = (
        backend.from_host(array, dtype=dtype)
        for array in ({"w": draw(size=(3, 3))}, draw(size=3), draw(size=3), draw(size=3))
    )

    def transition(params: Any, state: Any, x: Any) -> Any:
        state = backend.xp.tanh(params["w"] @ state + x)
        return state, (state**2).sum()

    def results(dynamics: Any) -> Any:
        outcome, pullback = dynamics.vjp(params, state, inputs)
        pushed = dynamics.jvp(params, state, inputs, tangent)
        pulled = pullback(tangent, 1.0)
        return flatten(backend, [outcome.next_state, outcome.loss, list(pushed), list(pulled)])

    plain = backend.dynamics(transition, check=False)
    checked: Any = backend.dynamics(transition, check=True)
    expected, before = results(plain), flatten(backend, [params, state, inputs])
    found, problems = {"at the first step": results(checked)}, list[str]()
    if isinstance(checked, Checked):
        if not checked.describe().strip():
            problems.append("describe() is empty after the model check")
        checked.forget()
        checked.probe(params, state, inputs)
        found["after forget() and probe()"] = results(checked)
        if not np.array_equal(flatten(backend, [params, state, inputs]), before):
            problems.append("probe() changed an argument")
    for when, got in found.items():
        gap = float(np.abs(got - expected).max())
        if not gap <= ROUNDING * UNIT[dtype]:
            problems.append(f"{when}: the results are off by {gap:.3g}")
    evidence = "; ".join(problems) or f"Compared {', '.join(found)}."
    return judge(law, not problems, evidence)
