"""States with integers, which are carried along, and with complex numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from uoro.algebra import basis, coordinates, norm, size
from uoro.backend import Backend
from uoro.estimators import UORO, JointUORO
from uoro_conformance.backend.specimens import ROUNDING
from uoro_conformance.exact import check_chain, check_gradient_path
from uoro_conformance.finding import UNIT, Finding, worst
from uoro_conformance.laws import check_adjointness
from uoro_conformance.parity import check_parity
from uoro_conformance.systems import Trial
from uoro_conformance.truth import check_truth

STEPS = 2

JOINT = JointUORO(2, scaling="rows")


def check_integers(backend: Backend, dtype: str) -> Finding:
    """Check that an integer counter in the state is carried along, and has no tangent."""
    law, xp = "integers are carried along", backend.xp
    state = {"clock": np.array(0), "h": np.array([0.3, -0.2])}

    def transition(params: Any, state: Any, x: Any) -> Any:
        driven = xp.where(state["clock"] % 2 == 0, x, -x)
        h = xp.tanh(params["w"] * state["h"] + driven)
        return {"clock": state["clock"] + 1, "h": h}, ((h - 0.5) ** 2).sum()

    tree = backend.from_host(state, dtype=dtype)
    parts = [backend.parts(leaf) for _, leaf in backend.named_leaves(tree)]
    tangents = {
        "zeros": backend.zeros(tree),
        "random": backend.random(backend.key(0), tree, "signs"),
        "basis": basis(backend, tree),
    }
    wrong = [name for name, tangent in tangents.items() if tangent["clock"] is not None]
    if parts != [0, 1] or wrong:
        evidence = (
            f"parts of (integer, real): expected [0, 1], got {parts}. Tangents of the integer: "
            f"expected none, got one from {wrong}."
        )
        return Finding(law, "broken", math.nan, math.nan, evidence)
    params = {"w": np.array([0.7, -1.1])}
    trial = _trial(backend, dtype, transition, params, state, np.array([0.5, -0.4]))
    after = trial.dynamics.forward(*trial.first[1:]).next_state
    if int(after["clock"]) != 1:
        evidence = f"The counter: expected 0 + 1 = 1, got {after['clock']!r}."
        return Finding(law, "broken", math.nan, math.nan, evidence)
    return _laws(law, trial, check_parity)


def check_complex(backend: Backend, dtype: str) -> Finding:
    """Check that a complex number counts as two coordinates, the real and the imaginary part."""
    law = "a complex number is two coordinates"
    xp, rng = backend.xp, np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return rng.normal(size=shape) + 1j * rng.normal(size=shape)

    state, allowed = {"r": rng.normal(size=2), "z": draw(2)}, ROUNDING * UNIT[dtype]
    x, y = (
        backend.from_host(tree, dtype=dtype) for tree in (state, {"r": draw(2).real, "z": draw(2)})
    )
    host = [backend.to_host(tree) for tree in (x, y)]
    expected = sum(np.vdot(host[0][name], host[1][name]).real for name in state)
    length = math.sqrt(sum(float((abs(leaf) ** 2).sum()) for leaf in host[0].values()))
    signs: Any = np.asarray(backend.to_host(backend.random(backend.key(0), x, "signs"))["z"])
    units = np.asarray(backend.to_host(coordinates(backend, basis(backend, x))))
    gaps = {
        "parts": abs(size(backend, x) - 6),
        "inner": abs(float(backend.inner(x, y)) - expected) / length,
        "norm": abs(float(norm(backend, x)) - length) / length,
        "signs": float(np.abs(np.abs([signs.real, signs.imag]) - 1).max()),
        "basis": float(np.abs(units - np.eye(6)).max()) if units.shape == (6, 6) else math.inf,
    }
    for name, gap in gaps.items():
        if not gap <= allowed:
            return Finding(law, "broken", gap, allowed, f"backend.{name} is off by {gap:.3g}.")

    def transition(params: Any, state: Any, x: Any) -> Any:
        z = params["turn"] * state["z"] + params["into"] * x
        r = xp.tanh(state["r"] * params["w"] + xp.real(z * z))
        return {"r": r, "z": z}, (r**2).sum() + (xp.abs(z) ** 2).sum()

    params = {"turn": 0.6 * draw(2), "into": draw(2), "w": rng.normal(size=2)}
    trial = _trial(backend, dtype, transition, params, state, np.array([0.5, -0.4]))
    return _laws(law, trial, check_chain, check_gradient_path)


def _trial(
    backend: Backend, dtype: str, transition: Any, params: Any, state: Any, item: Any
) -> Trial:
    params, state, item = backend.from_host((params, state, item), dtype=dtype)
    dynamics = backend.dynamics(transition, check=False)
    return Trial(dynamics, [params] * STEPS, state, [item] * STEPS, f"{dtype} on {backend.name}")


def _laws(law: str, trial: Trial, *jointly: Callable[[Trial, JointUORO], Finding]) -> Finding:
    """Check the laws of the dynamics, and UORO on them; joint pairs by some of the checks."""
    checks: Sequence[Callable[[], Finding]] = (
        lambda: check_adjointness(*trial.first),
        lambda: check_truth(*trial.first),
        lambda: check_chain(trial, UORO()),
        lambda: check_gradient_path(trial, UORO()),
        lambda: check_parity(trial, UORO()),
        *(partial(check, trial, JOINT) for check in jointly),
    )
    found = worst([check() for check in checks])
    return found._replace(law=law, evidence=f"{found.law}: {found.evidence}")
