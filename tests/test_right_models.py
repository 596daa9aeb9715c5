"""Right models that are hard to check are not called wrong; wrong ones at odd scales still are."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
from systems import Changed
from uoro_conformance import check_model, check_truth
from uoro_conformance.mutants.right_models import RIGHT_MODELS

from uoro import Backend, load_backend
from uoro.derivatives.slope import STEP, Line, slope


def _numbers(backend: Backend, name: str, dtype: str) -> tuple[Any, ...]:
    model = RIGHT_MODELS[name]
    params, state = (backend.from_host(x, dtype=dtype) for x in (model.params, model.state))
    items = [backend.from_host(item, dtype=dtype) for item in model.items]
    return params, state, items


@pytest.mark.parametrize("name", RIGHT_MODELS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_right_model_is_called_wrong(name: str, dtype: str) -> None:
    backend, model = load_backend("torch"), RIGHT_MODELS[name]
    with backend.precision(dtype):
        params, state, items = _numbers(backend, name, dtype)
        dynamics = backend.dynamics(partial(model.transition, backend.xp))
        dynamics.probe(params, state, items[0])  # type: ignore[attr-defined]  # warnings are errors
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, where float32 overflows
            report = check_model(dynamics, params, state, items)
    open_ones = [entry.finding for entry in report.entries if not entry.finding.holds]
    if dtype == "float64":
        assert not open_ones, open_ones
    assert report.exit_status in (0, 3), open_ones
    for finding in open_ones:
        if finding.verdict == "not checked":
            continue
        assert "not finite" in finding.evidence or "not sure" in finding.evidence, finding


@pytest.mark.parametrize(
    ("name", "leaves"),
    [("leaves from 1e-9 to 1e9", ("huge", "mid", "tiny")), ("ReLU on its kink", ("b",))],
)
def test_a_kink_and_scales_hide_no_wrong_derivative(
    backend: Backend, name: str, leaves: tuple[str, ...]
) -> None:
    params, state, items = _numbers(backend, name, "float64")
    dynamics = backend.dynamics(partial(RIGHT_MODELS[name].transition, backend.xp), check=False)
    for wrong in leaves:

        def vjp(*at: Any, wrong: str = wrong) -> Any:
            outcome, pullback = dynamics.vjp(*at)

            def pulled(*given: Any) -> Any:
                by_params, by_state = pullback(*given)
                changed = {**by_params, wrong: 1.05 * by_params[wrong]}
                return changed, by_state

            return outcome, pulled

        finding = check_truth(Changed(dynamics, vjp=vjp), params, state, items[-1])
        assert finding.verdict == "broken", (wrong, finding)
        assert f"params/{wrong}" in finding.evidence


def test_the_model_check_is_silent_at_any_scale(backend: Backend) -> None:
    """It would say that a leaf has another derivative, or that nothing learns."""
    for name in ("leaves from 1e-9 to 1e9, zero start", "state of 1e-8, zero start"):
        params, state, items = _numbers(backend, name, "float64")
        dynamics: Any = backend.dynamics(partial(RIGHT_MODELS[name].transition, backend.xp))
        dynamics.probe(params, state, items[0])
        assert "Both agree with differences of forward" in dynamics.describe(), name


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e-3, 1.0, 30.0])
def test_a_slope_is_found_at_any_scale_or_says_that_it_is_not_sure(scale: float) -> None:
    line = Line(lambda t: math.sin(t / scale), 4 * 2.0**-53)
    found = slope(line, 1.0 / scale, [STEP["float64"] * min(1.0, scale)], 1e-8)
    assert found.sure
    assert found.gap <= 1e-8
    wrong = slope(line, 1.01 / scale, [STEP["float64"] * min(1.0, scale)], 1e-8)
    assert wrong.sure
    assert wrong.gap > 1e-3
    noise = np.random.default_rng(0)
    rough = slope(Line(lambda t: float(noise.normal()), 1e-16), 1.0, [5e-4], 1e-8)
    assert not rough.sure
    kink = slope(Line(lambda t: max(t, 0.0), 1e-16), 0.0, [5e-4], 1e-8)
    assert kink.kinked
