"""Parallel streams: each must equal a stream alone, with a pair of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from uoro.algebra import entry, mean
from uoro.estimator import ParallelEstimator
from uoro_conformance.apparatus import apparatus, compiled_step
from uoro_conformance.finding import (
    Finding,
    Verdict,
    largest,
    relative_gap,
)
from uoro_conformance.memory import ROUNDING, UNIT, memory_precision
from uoro_conformance.systems import Trial


def check_streams(trial: Trial, streams: ParallelEstimator, *, seed: int = 0) -> Finding:
    """Run streams together and one by one, with the same noise, and compare all there is.

    The streams start from different states, read the trial's items from different places, and
    one of them is started anew at the end. If each is what it is alone, then all that is known of
    the estimator on one stream holds of each, and of the mean.

    Args:
        trial: Trial that the states and items come from.
        streams: The estimator to check, and how many streams of it; all of them run here.
        seed: Seed of the signs.
    """
    law, memory = "parallel streams are streams alone", memory_precision(trial, streams.estimator)
    dynamics, backend, count = trial.dynamics, trial.dynamics.backend, streams.count
    allowed = ROUNDING[memory] * UNIT[memory]
    lab = apparatus(dynamics, streams.estimator)
    together = compiled_step(dynamics, streams)
    states = [backend.combine((1.0 - 0.2 * b, trial.state)) for b in range(count)]
    first = [trial.items[b % len(trial.items)] for b in range(count)]
    carries = [
        streams.estimator.init(dynamics, trial.params[0], state, inputs=item)
        for state, item in zip(states, first, strict=True)
    ]
    state = backend.collect(states)
    carry = streams.init(dynamics, trial.params[0], state, inputs=backend.collect(first))
    worst_gap, evidence = 0.0, ""

    def compare(where: str, got: Any, expected: Any) -> None:
        nonlocal worst_gap, evidence
        gap = relative_gap(backend, got, expected)
        if largest([gap]) >= worst_gap:
            worst_gap, evidence = largest([gap]), f"{where}: relative gap {gap:.3g}."

    for step, params in enumerate(trial.params):
        items = [trial.items[(step + b) % len(trial.items)] for b in range(count)]
        noises = [lab.one_design(trial.state, 100 * seed + step * count + b) for b in range(count)]
        carry, state, estimate = together(
            params, carry, state, backend.collect(items), backend.collect(noises)
        )
        gradients, losses = [], []
        for b in range(count):
            carries[b], states[b], alone = lab.step(
                params, carries[b], states[b], items[b], noises[b]
            )
            gradients.append(alone.gradient)
            losses.append(alone.loss)
            compare(f"step {step}, carry of stream {b}", entry(backend, carry, b), carries[b])
            compare(f"step {step}, state of stream {b}", entry(backend, state, b), states[b])
        average = mean(backend, backend.collect(gradients))
        compare(f"step {step}, gradient", estimate.gradient, average)
        compare(f"step {step}, loss", estimate.loss, backend.collect(losses).mean())

    mask = backend.from_host(np.arange(count) == count - 1)
    fresh = backend.collect([trial.state] * count)
    anew, restarted = streams.reset(
        dynamics, trial.params[0], carry, state, mask, fresh, inputs=backend.collect(first)
    )
    for b in range(count - 1):
        compare(f"after the reset, carry of stream {b}", entry(backend, anew, b), carries[b])
        compare(f"after the reset, state of stream {b}", entry(backend, restarted, b), states[b])
    start = streams.estimator.init(dynamics, trial.params[0], trial.state, inputs=first[-1])
    compare("after the reset, carry of the last stream", entry(backend, anew, count - 1), start)
    last = entry(backend, restarted, count - 1)
    compare("after the reset, state of the last stream", last, trial.state)
    verdict: Verdict = "holds" if worst_gap <= allowed else "broken"
    return Finding(law, verdict, worst_gap, allowed, evidence, trial.line)
