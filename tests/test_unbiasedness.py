"""The mean over every sequence of signs is exact RTRL, on each backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from systems import TINY_MODELS, build, entries, jiggle, make_items
from uoro_conformance import check_mean_over_all_signs, sign_sequences

from uoro import UORO, Backend, unroll
from uoro.errors import SettingError
from uoro.estimators import Influence


def _system(backend: Backend, name: str, steps: int) -> tuple[Any, Any, Any, Any]:
    model = TINY_MODELS[name]
    dynamics, params, state = build(backend, model)
    host = backend.to_host(params)
    # Parameters move from step to step, on a schedule of their own.
    schedule = [
        backend.from_host(jiggle(host, np.random.default_rng(step))) for step in range(steps)
    ]
    return dynamics, schedule, state, entries(backend, make_items(steps), steps)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_mean_over_all_signs_equals_rtrl(backend: Backend, name: str) -> None:
    finding = check_mean_over_all_signs(*_system(backend, name, 4)).require()
    assert "256 sequences of 4 steps" in finding.evidence


@pytest.mark.parametrize("name", ["linear", "gru"])
def test_mean_over_all_signs_equals_rtrl_for_rank_two(backend: Backend, name: str) -> None:
    system = _system(backend, name, 2)
    check_mean_over_all_signs(*system, estimator=UORO(rank=2)).require()


def test_mean_over_all_signs_equals_rtrl_for_memory_two(backend: Backend) -> None:
    dynamics, schedule, state, _ = _system(backend, "gru", 3)
    items = make_items(6)
    windows = [
        backend.from_host({name: column[i : i + 2] for name, column in items.items()})
        for i in (0, 2, 4)
    ]
    check_mean_over_all_signs(unroll(dynamics, 2), schedule, state, windows).require()


@dataclass(frozen=True)
class OneSided(UORO):
    """Wrong on purpose: the fresh part is scaled on the tangent's side only."""

    def step(
        self, dynamics: Any, params: Any, carry: Any, state: Any, inputs: Any, signs: Any
    ) -> Any:
        pair, next_state, estimate = super().step(dynamics, params, carry, state, inputs, signs)
        tangent = dynamics.backend.combine((1.001, pair.tangent))
        return Influence(tangent, pair.cotangent), next_state, estimate


def test_an_estimator_scaled_on_one_side_is_rejected(backend: Backend) -> None:
    system = _system(backend, "gru", 3)
    finding = check_mean_over_all_signs(*system, estimator=OneSided())
    assert not finding.holds
    assert 1e-4 < finding.gap < 1e-1, finding
    with pytest.raises(AssertionError, match="biased"):
        finding.require()


def test_too_many_signs_are_refused(backend: Backend) -> None:
    with pytest.raises(SettingError, match="2\\^20 sequences"):
        sign_sequences(backend, backend.from_host(np.zeros(5)), 4)
