"""The suite on a user's own model: its derivatives, UORO on the model, and its noise."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any

from uoro.derivatives.routes import Routed
from uoro.dynamics import Dynamics
from uoro.errors import DerivativeWarning, StreamError
from uoro.estimator import Estimator
from uoro.estimators import UORO, JointUORO
from uoro.estimators.auto import require_estimator
from uoro_conformance.cases import at_every_step, guarded
from uoro_conformance.finding import Finding, not_checked, precision_of
from uoro_conformance.laws import check_purity
from uoro_conformance.mapped import LAW
from uoro_conformance.own_estimator import check_guarantee, check_pairs
from uoro_conformance.report import Entry, Report
from uoro_conformance.suite import DERIVATIVE_LAWS
from uoro_conformance.systems import Trial


def check_model(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    items: Iterable[Any],
    *,
    name: str = "model",
    steps: int = 4,
    seed: int = 0,
    surrogate: bool = False,
    estimator: Estimator | None = None,
    span: int = 1,
    progress: Callable[[Entry], None] = lambda entry: None,
) -> Report:
    """Check a user's model: its derivatives, UORO's gradient on the model, and its noise.

    Its derivatives are held to the laws of `Dynamics` at every item that is taken. If they obey,
    UORO on it, or the estimator that is given, is held to its guarantee: over the whole influence
    where that is small enough, on random projections elsewhere, exactly in both cases.

    Args:
        dynamics: The model.
        params: Its parameters, in float32 or float64.
        state: The state before the first item.
        items: The stream, or its beginning.
        name: Name of the model in the report.
        steps: Number of items to take; default 4.
        seed: Seed of every draw.
        surrogate: Whether the model's derivatives are not those of its forward pass on purpose, as
            with spikes. They are then taken as they are, and RTRL is what it is with them.
        estimator: Estimator that the model is to be trained with; `UORO` if not given. It is held
            to what its ``guarantee`` declares: a step at a time where that is possible, elsewhere
            by its gradients or by free runs.
        span: Number of items that one step of the estimator takes; default 1.
        progress: Function called with each entry when it is done.

    Raises:
        StreamError: If there are no items.
        SettingError: If params or state are neither float32 nor float64.

    Example:
        >>> import autograd.numpy as np
        >>> from uoro import load_backend
        >>> from uoro_conformance import check_model
        >>> def transition(w, state, x):
        ...     state = np.tanh(w @ state + x)
        ...     return state, np.sum(state ** 2)
        >>> dynamics = load_backend("autograd").dynamics(transition)
        >>> report = check_model(dynamics, 0.5 * np.eye(3), np.zeros(3), [1.0, -1.0, 0.5])
        >>> report.exit_status
        0
    """
    backend = dynamics.backend
    params, state = backend.from_host(params), backend.from_host(state)
    taken = [backend.from_host(item) for item in islice(items, steps)]
    if not taken:
        raise StreamError(f"check_model(items=...): expected 1 to {steps} items, got none.")
    dtype = precision_of(backend, state, params)
    report = Report(
        name, {"backend": backend.name, "dtype": dtype, "steps": len(taken), "seed": seed}
    )
    dynamics = _settled(dynamics, params, state, taken[0], report)
    trial = Trial(dynamics, [params] * len(taken), state, taken, name)

    def run(law: str, check: Callable[[], Finding]) -> Finding:
        begun = time.perf_counter()
        finding = guarded(check, law)
        report.entries.append(Entry(law, finding, time.perf_counter() - begun))
        progress(report.entries[-1])
        return finding

    if not _derivatives(run, trial, seed, surrogate):
        reason = "What UORO is on this model depends on its derivatives: see above."
        run("exact/chain", lambda: not_checked("each step's mean is RTRL's", reason))
        return report
    chosen = require_estimator("check_model", UORO() if estimator is None else estimator)
    trial = trial.unrolled(span)
    if isinstance(chosen, (UORO, JointUORO)) and chosen.baseline is None:
        check_pairs(run, report, trial, chosen, seed)
    else:
        check_guarantee(run, report, trial, chosen, seed)
    if dtype == "float32":
        report.notes.append(
            "In float32 an error below about 1e-3 of a derivative may hide; in float64 one of 1e-8 "
            "does not. If the model can be float64, check it there."
        )
    return report


def _settled(
    dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, item: Any, report: Report
) -> Dynamics[Any, Any, Any]:
    """Let the model choose its route; note what it says of itself, and go on in any case."""
    if not isinstance(dynamics, Routed):
        return dynamics
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DerivativeWarning)
        try:
            dynamics.probe(params, state, item)
        except Exception as error:
            report.notes.append(f"Its model check: {' '.join(str(error).split())}")
            return dynamics.unchecked()
    report.notes.append(dynamics.describe())
    return dynamics


def _derivatives(
    run: Callable[[str, Callable[[], Finding]], Finding],
    trial: Trial,
    seed: int,
    surrogate: bool,
) -> bool:
    """Check the laws of the dynamics; tell whether they hold."""

    def follow() -> Finding:
        params, state, item = trial.points[-1][1:]
        trial.dynamics.forward(params, state, item)
        return Finding("the model runs", "holds", math.nan, math.nan, f"{len(trial.items)} steps.")

    if not run("forward", follow).holds:
        return False
    pure = run("derivatives/pure", lambda: check_purity(*trial.first, seed=seed))
    if pure.verdict == "unverifiable" or pure.gap > 0:
        reason = "Nothing follows from calls that differ by themselves: see derivatives/pure."
        run("derivatives/others", lambda: not_checked("the other laws of dynamics", reason))
        return False
    found = []
    for name, law in DERIVATIVE_LAWS.items():
        if name == "true" and surrogate:
            reason = "They are the model's own, as was said: surrogate."
            run(
                "derivatives/true", partial(not_checked, "derivatives are those of forward", reason)
            )
        elif name != "pure":
            at_points = partial(at_every_step(law), trial, seed)
            if name == "mapped":
                at_points = partial(_if_mapped, at_points)
            found.append(run(f"derivatives/{name}", at_points))
    return pure.holds and all(each.holds or each.verdict == "not checked" for each in found)


def _if_mapped(check: Callable[[], Finding]) -> Finding:
    """Check a law of mapped derivatives, unless the backend cannot map over the model."""
    try:
        return check()
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return not_checked(LAW, f"It raises {said}")
