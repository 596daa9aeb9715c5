"""JVP and VJP mapped over pairs by the backend, against each pair alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from uoro.algebra import entry
from uoro.dynamics import Dynamics
from uoro_conformance.designs import gaussian
from uoro_conformance.finding import UNIT, Finding, largest, precision_of, relative_gap
from uoro_conformance.linearity import ADJOINT
from uoro_conformance.programs import kept

COUNTS = (2, 7)
"""Numbers of pairs that are mapped."""

LAW = "a map over pairs gives what each pair gives"


def check_mapped(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    seed: int = 0,
) -> Finding:
    """Compare jvp and pullback, mapped over pairs by the backend, with those of each pair alone.

    `UORO` of a rank above 1, joint pairs and `RTRL` map them. Both of `COUNTS` are tried.
    """
    backend, dtype = dynamics.backend, precision_of(dynamics.backend, state, params)
    hashable: Any = dynamics
    alone, mapped = _alone_and_mapped(hashable)
    gaps = dict[str, float]()
    for count in COUNTS:
        pairs = gaussian(backend, state, seed, 6, count=count)
        together = mapped(params, state, inputs, pairs)
        for index in range(count):
            expected = alone(params, state, inputs, entry(backend, pairs, index))
            for name, got in together.items():
                gap = relative_gap(backend, entry(backend, got, index), expected[name])
                gaps[f"{name} of pair {index} of {count}"] = largest([gap])
    where = max(gaps, key=lambda name: gaps[name])
    gap, allowed = gaps[where], ADJOINT * UNIT[dtype]
    return Finding(
        LAW,
        "holds" if gap <= allowed else "broken",
        gap,
        allowed,
        f"Of {len(gaps)} the {where} is furthest off, backend {backend.name}.",
    )


@kept(64)
def _alone_and_mapped(dynamics: Dynamics[Any, Any, Any]) -> tuple[Callable[..., Any], ...]:
    """Compile jvp and pullback of one pair, and of a stack of pairs."""
    backend = dynamics.backend

    def functions(params: Any, state: Any, inputs: Any) -> dict[str, Callable[[Any], Any]]:
        _, pullback = dynamics.vjp(params, state, inputs)
        return {
            "jvp": partial(dynamics.jvp, params, state, inputs),
            "pullback": lambda cotangent: pullback(cotangent, None),
        }

    def alone(params: Any, state: Any, inputs: Any, pair: Any) -> Any:
        return {name: each(pair) for name, each in functions(params, state, inputs).items()}

    def mapped(params: Any, state: Any, inputs: Any, pairs: Any) -> Any:
        each = functions(params, state, inputs)
        return {name: backend.vmap(function)(pairs) for name, function in each.items()}

    return backend.compile(alone), backend.compile(mapped)
