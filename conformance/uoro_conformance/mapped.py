"""JVP and VJP mapped over pairs by the backend, against each pair alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from uoro.algebra import entry
from uoro.dynamics import Dynamics
from uoro_conformance.designs import gaussian
from uoro_conformance.finding import UNIT, Finding, largest, precision_of, relative_gap
from uoro_conformance.laws import ADJOINT
from uoro_conformance.programs import kept

LAW = "a map over pairs gives what each pair gives"


def check_mapped(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    seed: int = 0,
) -> Finding:
    """Compare jvp and pullback, mapped over two pairs by the backend, with each pair alone.

    `UORO` of a rank above 1, joint pairs and `RTRL` map them.
    """
    backend, dtype = dynamics.backend, precision_of(dynamics.backend, state, params)
    pairs = gaussian(backend, state, seed, 6, count=2)
    hashable: Any = dynamics
    gaps = dict[str, float]()
    for name, (mapped, alone) in _mapped_and_alone(hashable)(params, state, inputs, pairs).items():
        for index, expected in enumerate(alone):
            gap = relative_gap(backend, entry(backend, mapped, index), expected)
            gaps[f"{name} of pair {index}"] = largest([gap])
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
def _mapped_and_alone(dynamics: Dynamics[Any, Any, Any]) -> Callable[..., Any]:
    """Compile jvp and pullback of two pairs, mapped and each pair alone."""
    backend = dynamics.backend

    def both(params: Any, state: Any, inputs: Any, pairs: Any) -> Any:
        _, pullback = dynamics.vjp(params, state, inputs)
        functions: dict[str, Callable[[Any], Any]] = {
            "jvp": partial(dynamics.jvp, params, state, inputs),
            "pullback": lambda cotangent: pullback(cotangent, None),
        }
        return {
            name: (backend.vmap(each)(pairs), [each(entry(backend, pairs, i)) for i in range(2)])
            for name, each in functions.items()
        }

    return backend.compile(both)
