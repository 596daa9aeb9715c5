"""All derivatives of a UORO step together (`Sweeping`), against JVP and VJP alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from uoro.arguments import is_loss
from uoro.derivatives.probing import cotangent_for
from uoro.derivatives.sweep import once, read, separately, sweep
from uoro.dynamics import Dynamics, Each, Sweep
from uoro_conformance.designs import gaussian
from uoro_conformance.finding import UNIT, Finding, largest, length, precision_of, relative_gap
from uoro_conformance.linearity import ADJOINT
from uoro_conformance.programs import kept


def check_sweep(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    count: int | None = None,
    seed: int = 0,
) -> Finding:
    """Compare what `uoro.derivatives.sweep.sweep` gives with what jvp and vjp give one by one.

    Of dynamics without a sweep of their own it holds by definition.

    Args:
        dynamics: The model.
        params: θ.
        state: s_t.
        inputs: One item of the stream.
        count: Number of pairs that are swept at once, under the backend's vmap; if ``None``, one
            pair, and nothing is mapped.
        seed: Determines tangents and signs.

    Returns:
        A finding whose gap is the largest of those of next state, output, aux, immediate gradient,
        JVP of the tangent, JVP of the output against a cotangent (1 for a loss), and VJP of the
        signs. All are relative; that of the output, which may be small by chance, to
        ``‖(∂o/∂s)ᵀ ō‖ ‖s̃‖``.
    """
    backend, law = dynamics.backend, "a sweep is jvp and vjp taken together"
    dtype = precision_of(backend, state, params)
    tangent, signs = (gaussian(backend, state, seed, number, count=count) for number in (4, 5))
    key: Any = (dynamics, count is not None)
    both = _both_ways(*key)
    expected, got, state_gradient = both(params, state, inputs, tangent, signs)
    outputs = [length(backend, found["output"]) for found in (expected, got)]
    if not all(map(math.isfinite, outputs)):
        evidence = f"Outputs of norms {outputs[0]!r} and {outputs[1]!r} are not finite."
        return Finding(law, "unverifiable", math.nan, math.nan, evidence)
    gaps = {name: relative_gap(backend, got[name], expected[name]) for name in expected}
    steepest = length(backend, state_gradient) * length(backend, tangent)
    apart = gaps["output along the tangent"] * (
        length(backend, expected["output along the tangent"]) or 1.0
    )
    gaps["output along the tangent"] = apart / (steepest or 1.0)
    where = max(gaps, key=lambda name: largest([gaps[name]]))
    gap, allowed = largest(gaps.values()), ADJOINT * UNIT[dtype]
    return Finding(
        law,
        "holds" if gap <= allowed else "broken",
        gap,
        allowed,
        f"Of {len(gaps)} results, for {'one pair' if count is None else f'{count} pairs'}, the "
        f"{where} is furthest off, backend {backend.name}.",
    )


@kept(64)
def _both_ways(dynamics: Dynamics[Any, Any, Any], mapped: bool) -> Callable[..., Any]:
    """Compile the sweep, what it is to give, and ∂ℓ/∂s: once for all systems of a shape."""
    each: Each = dynamics.backend.vmap if mapped else once

    def both(params: Any, state: Any, inputs: Any, tangent: Any, signs: Any) -> Any:
        # Separately first: dynamics that choose how to differentiate do so at their first jvp.
        one, two = (
            take(dynamics, params, state, inputs, tangent, signs, each)
            for take in (separately, sweep)
        )
        weights: Any = 1.0
        if not is_loss(one.outcome.output):
            weights = cotangent_for(dynamics.backend, one.outcome.output)
        _, state_gradient = dynamics.vjp(params, state, inputs)[1](None, weights)

        def named(swept: Sweep[Any, Any]) -> dict[str, Any]:
            read_so = read(dynamics.backend, swept, tangent, weights, stacked=mapped)
            return _named(each, swept, read_so, signs)

        return named(one), named(two), state_gradient

    return dynamics.backend.compile(both)


def _named(
    each: Each, swept: Sweep[Any, Any], read_so: tuple[Any, Any], signs: Any
) -> dict[str, Any]:
    found = {
        "next state": swept.outcome.next_state,
        "output": swept.outcome.output,
        "immediate gradient": read_so[0],
        "JVP of the tangent": swept.pushed,
        "output along the tangent": read_so[1],
        "VJP of the signs": each(swept.pull)(signs, swept.kept),
    }
    return found if swept.outcome.aux is None else {**found, "aux": swept.outcome.aux}
