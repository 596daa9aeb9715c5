"""Many streams as one model, against each stream alone."""

from __future__ import annotations

from typing import Any

from uoro.algebra import entry, shift, total
from uoro.derivatives.many import many
from uoro.derivatives.probing import cotangent_for
from uoro.dynamics import Dynamics
from uoro_conformance.designs import gaussian
from uoro_conformance.finding import UNIT, Finding, largest, precision_of, relative_gap
from uoro_conformance.linearity import ADJOINT

STREAMS = 3


def check_many(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    seed: int = 0,
    count: int = STREAMS,
) -> Finding:
    """Compare the model of many streams with each stream by itself.

    The step of `uoro.derivatives.many.many` must return the stacks of next states and outputs, and
    its pullback the sum over streams of what each pulls back to the params, and the stack of what
    each pulls back to its state.

    Args:
        dynamics: Model of one stream.
        params: Parameters θ, shared by the streams.
        state: Hidden state; the streams start near it.
        inputs: One item of the stream; every stream reads the same.
        seed: Seed of the states and of the cotangents.
        count: Number of streams; default 3.
    """
    backend, law = dynamics.backend, "many streams are one model"
    dtype = precision_of(backend, state, params)
    noise = gaussian(backend, state, seed, 6, count=count)
    cotangents = gaussian(backend, state, seed, 7, count=count)
    states = [shift(backend, state, 0.1, entry(backend, noise, number)) for number in range(count)]
    stack, items = backend.collect(states), backend.collect([inputs] * count)
    alone = [dynamics.vjp(params, each, inputs) for each in states]
    weights = [cotangent_for(backend, outcome.output) for outcome, _ in alone]
    together = many(dynamics)
    outcome, pullback = together.vjp(params, stack, items)
    plain = together.forward(params, stack, items)
    outcomes = backend.collect([(each.next_state, each.output) for each, _ in alone])
    gaps = {
        "outcomes": relative_gap(backend, tuple(outcome[:2]), outcomes),
        "outcomes of forward": relative_gap(backend, tuple(plain[:2]), outcomes),
    }
    by_output = backend.collect(weights)
    for name, given, each in (
        ("next states", (cotangents, None), lambda n: (entry(backend, cotangents, n), None)),
        ("outputs", (None, by_output), lambda n: (None, weights[n])),
    ):
        pulled = [pull(*each(number)) for number, (_, pull) in enumerate(alone)]
        found = pullback(*given)
        whole = total(backend, backend.collect([by_params for by_params, _ in pulled]))
        apart = backend.collect([by_state for _, by_state in pulled])
        gaps[f"params by cotangents of the {name}"] = relative_gap(backend, found[0], whole)
        gaps[f"states by cotangents of the {name}"] = relative_gap(backend, found[1], apart)
    where = max(gaps, key=lambda name: largest([gaps[name]]))
    gap, allowed = largest(gaps.values()), ADJOINT * UNIT[dtype]
    evidence = (
        f"{count} streams, {len(gaps)} results; the largest gap is that of the {where}, "
        f"backend {backend.name}."
    )
    return Finding(law, "holds" if gap <= allowed else "broken", gap, allowed, evidence)
