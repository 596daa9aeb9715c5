"""Many streams as one model, against each stream alone."""

from __future__ import annotations

from typing import Any

from uoro.algebra import entry, mean, shift
from uoro.derivatives.sweep import mean_immediate
from uoro.dynamics import Batched, Dynamics
from uoro_conformance.designs import gaussian
from uoro_conformance.finding import UNIT, Finding, largest, precision_of, relative_gap
from uoro_conformance.laws import ADJOINT

STREAMS = 3


def check_many(
    dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any, *, seed: int = 0
) -> Finding:
    """Check the mean immediate gradient over streams, and the model of many streams if any.

    `uoro.derivatives.sweep.mean_immediate` must be the mean of ∂ℓ/∂θ over streams.
    For `Batched` dynamics, the step of ``many()`` must return the stack of the next states and the
    mean of the losses, and its pullback the sum over streams of what is pulled back to the params.

    Args:
        dynamics: Model of one stream.
        params: Parameters θ, shared by the streams.
        state: Hidden state; the streams start near it.
        inputs: One item of the stream; every stream reads the same.
        seed: Seed of the states and of the cotangents.
    """
    backend, law = dynamics.backend, "many streams are one model"
    dtype = precision_of(backend, state, params)
    noise = gaussian(backend, state, seed, 6, count=STREAMS)
    cotangents = gaussian(backend, state, seed, 7, count=STREAMS)
    states = [
        shift(backend, state, 0.1, entry(backend, noise, number)) for number in range(STREAMS)
    ]
    stack, items = backend.collect(states), backend.collect([inputs] * STREAMS)
    alone = [dynamics.vjp(params, each, inputs) for each in states]
    immediate = backend.collect([pullback(None, 1.0)[0] for _, pullback in alone])
    expected = mean(backend, immediate)
    direct = mean_immediate(dynamics, params, stack, items, immediate)
    gaps = {"mean immediate gradient": relative_gap(backend, direct, expected)}
    together = dynamics.many() if isinstance(dynamics, Batched) else None
    if together is not None:
        outcome, pullback = together.vjp(params, stack, items)
        plain = together.forward(params, stack, items)
        next_states = backend.collect([outcome.next_state for outcome, _ in alone])
        losses = backend.collect([outcome.loss for outcome, _ in alone])
        pulled = [
            pull(entry(backend, cotangents, number), None)[0]
            for number, (_, pull) in enumerate(alone)
        ]
        total = mean(backend, backend.collect(pulled))
        gaps |= {
            "next states": relative_gap(backend, outcome.next_state, next_states),
            "next states of forward": relative_gap(backend, plain.next_state, next_states),
            "mean loss": relative_gap(backend, outcome.loss, losses.mean()),
            "pulled cotangents": relative_gap(
                backend,
                backend.combine((1.0 / STREAMS, pullback(cotangents, None)[0])),
                total,
            ),
        }
    where = max(gaps, key=lambda name: largest([gaps[name]]))
    gap, allowed = largest(gaps.values()), ADJOINT * UNIT[dtype]
    evidence = (
        f"{STREAMS} streams, {len(gaps)} results; the largest gap is that of the {where}, "
        f"backend {backend.name}."
    )
    return Finding(law, "holds" if gap <= allowed else "broken", gap, allowed, evidence)
