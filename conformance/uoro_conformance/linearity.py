"""Whether JVP and VJP are linear: at every size of what they are given, and in any combination."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from uoro.backend import Backend
from uoro.derivatives.probing import cotangent_for
from uoro.dynamics import Dynamics
from uoro_conformance.designs import gaussian
from uoro_conformance.finding import (
    UNIT,
    Finding,
    largest,
    length,
    length_of_sum,
    precision_of,
)
from uoro_conformance.programs import kept

ADJOINT = 1e3
"""How many units of roundoff, relative to ‖u‖ ‖J v‖, an adjoint gap may have."""

SIZES = {
    "float64": (-1.0, 1e-60, 1e-9, 1e-3, 30.0, 1e3, 1e9, 1e60),
    "float32": (-1.0, 1e-12, 1e-3, 30.0, 1e3, 1e12),
}
"""Factors of tangents and cotangents."""

LARGE = 100.0
"""Factor above which about half of the digits are enough.

Rounding is not linear: the gradient of PyTorch's matrix exponential, as orthogonal weights use it,
is right to 1e-8 for cotangents of 1e9, in float64. A bound that clips is off by far more.
"""

BLUNT = 0.45
"""The unit of roundoff to this power is what may then be left over: 7e-8, in float32 6e-4."""

APART = (1e-6, 1e6)
"""Sizes of the cotangent of the state beside one of the output of size 1."""

TERMS = ((2.0, -3.0), (0.5, -1.0, 4.0), (1.0, -0.25, 3.0, -1.0, 0.125))
"""Weights of combinations: of two terms, of three and of five."""

RATE, BOTH = "the jvp of the output", "the pullback"
ALONE, READ = "the pullback of the state", "the pullback of the output"
"""Results, by name."""

FINITE = {"float64": 1e250, "float32": 1e30}
"""Sizes at which numbers of the model's own may overflow; one over them, underflow."""


class Given(NamedTuple):
    """What derivatives are given: a tangent, and a cotangent of next state and of output."""

    tangent: Any
    cotangent: Any
    weights: Any


def check_linearity(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    seed: int = 0,
) -> Finding:
    """Check that jvp and pullback of a combination are the combination of jvps and pullbacks.

    Tried are combinations of two, three and five terms; one term times factors from 1e-60 to 1e60
    (in float32 from 1e-12 to 1e12) and -1; the cotangent of the state alone, that of the output
    alone, both, and one a million times the other. A zero cotangent and ``None`` must give the
    same, of the output and of the state. Gaps are relative to what was added up, which may all but
    cancel; where a factor is `LARGE`, about half of the digits are compared.
    """
    backend, dtype = dynamics.backend, precision_of(dynamics.backend, state, params)
    hashable: Any = dynamics
    derive = _derivatives(hashable)
    weights = cotangent_for(backend, dynamics.forward(params, state, inputs).output)
    terms = [
        Given(
            gaussian(backend, state, seed, 2 * number),
            gaussian(backend, state, seed, 2 * number + 1),
            backend.combine((0.5 + number, weights)),
        )
        for number in range(max(map(len, TERMS)))
    ]
    each = [derive(params, state, inputs, *term) for term in terms]
    sizes = [_sizes(backend, term, derived) for term, derived in zip(terms, each, strict=True)]
    gaps, combined = dict[str, float](), backend.combine
    allowed = ADJOINT * UNIT[dtype]

    def compare(what: str, name: str, got: Any, *parts: tuple[float, int, str]) -> None:
        """Compare with a sum, unless its terms are of a size at which numbers overflow."""
        scale = sum(abs(factor) * sizes[term][of] for factor, term, of in parts)
        if not math.isfinite(scale):
            gaps[f"{name} {what}"] = math.inf
        elif not scale or _within(scale, dtype):
            expected = ((-factor, each[term][of]) for factor, term, of in parts)
            gap = length_of_sum(backend, (1.0, got), *expected)
            large = any(abs(factor) > LARGE for factor, _, _ in parts)
            share = allowed / UNIT[dtype] ** BLUNT if large else 1.0
            gaps[f"{name} {what}"] = largest([share * gap / (scale or 1.0)])

    for factor in SIZES[dtype]:
        given = Given(*(combined((factor, part)) for part in terms[0]))
        for name, got in derive(params, state, inputs, *given).items():
            compare(f"times {factor:g}", name, got, (factor, 0, name))
    for factors in TERMS:
        numbered = list(enumerate(factors))
        given = Given(
            *(
                combined(*((factor, terms[n][part]) for n, factor in numbered))
                for part in range(len(Given._fields))
            )
        )
        for name, got in derive(params, state, inputs, *given).items():
            what = f"of a combination of {len(factors)} terms"
            compare(what, name, got, *((factor, n, name) for n, factor in numbered))
    zero = Given(*(combined((0.0, part)) for part in terms[0]))
    for factor in (1.0, *APART):
        given = terms[0]._replace(cotangent=combined((factor, terms[0].cotangent)))
        got = derive(params, state, inputs, *given)[BOTH]
        what = f"of the state times {factor:g} beside the output"
        compare(what, BOTH, got, (factor, 0, ALONE), (1.0, 0, READ))
    without = derive(params, state, inputs, *terms[0]._replace(weights=zero.weights))
    compare("without the output", BOTH, without[BOTH], (1.0, 0, ALONE))
    without = derive(params, state, inputs, *terms[0]._replace(cotangent=zero.cotangent))
    compare("without the state", BOTH, without[BOTH], (1.0, 0, READ))
    for name, got in derive(params, state, inputs, *zero).items():
        compare("of zero", name, got, (0.0, 0, name))
    where = max(gaps, key=lambda name: gaps[name])
    return Finding(
        "jvp and vjp are linear",
        "holds" if gaps[where] <= allowed else "broken",
        gaps[where],
        allowed,
        f"Of {len(gaps)} identities the worst is that of {where}, backend {backend.name}.",
    )


def _sizes(backend: Backend, given: Given, derived: dict[str, Any]) -> dict[str, float]:
    """Return how large each result is; the jvp of the output may be small by chance."""
    found = {name: length(backend, tree) for name, tree in derived.items()}
    found[RATE] += length(backend, derived[READ][1]) * length(backend, given.tangent)
    return found


def _within(scale: float, dtype: str) -> bool:
    return 1.0 / FINITE[dtype] < scale < FINITE[dtype]


@kept(64)
def _derivatives(dynamics: Dynamics[Any, Any, Any]) -> Callable[..., dict[str, Any]]:
    """Compile all derivatives of one tangent and one pair of cotangents, once for a model."""

    def derive(
        params: Any, state: Any, inputs: Any, tangent: Any, cotangent: Any, weights: Any
    ) -> dict[str, Any]:
        pushed, rate = dynamics.jvp(params, state, inputs, tangent)
        _, pullback = dynamics.vjp(params, state, inputs)
        return {
            "the jvp of the state": pushed,
            RATE: rate,
            BOTH: pullback(cotangent, weights),
            ALONE: pullback(cotangent, None),
            READ: pullback(None, weights),
        }

    compiled: Callable[..., dict[str, Any]] = dynamics.backend.compile(derive)
    return compiled
