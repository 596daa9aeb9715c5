"""Whether derivatives are those of `forward`, by differences that know how sure they are."""

from __future__ import annotations

import math
from typing import Any

from uoro.backend import Backend
from uoro.derivatives.differences import Slopes, slopes
from uoro.dynamics import Dynamics, Moment
from uoro_conformance.designs import gaussian
from uoro_conformance.finding import Finding, Verdict, precision_of

TRUTH = {"float64": 1e-8, "float32": 1e-3}
"""The relative error that counts as one."""

RESOLVED = 0.1
"""A leaf is left open where the best difference is less sure than this share of its derivative."""

NEGLIGIBLE = 0.03
"""What is left open does not matter below this share of the whole derivative."""


def check_truth(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    seed: int = 0,
) -> Finding:
    """Compare the vjp with fourth-order differences of `forward`, each leaf by itself.

    An adjoint pair can be wrong together; only this sees it: a derivative that is stopped, scaled,
    or taken at another point. `uoro.derivatives.differences.slopes` says how.

    Returns:
        A finding whose gap is the largest relative error that the differences cannot explain;
        *undecided* if they resolve too little of a leaf that matters; *unverifiable* if the outcome
        is not finite.
    """
    law = "derivatives are those of forward"
    backend, dtype = dynamics.backend, precision_of(dynamics.backend, state, params)
    found = slopes(
        dynamics,
        Moment(params, state, inputs),
        cotangent=gaussian(backend, state, seed),
        directions=(gaussian(backend, params, seed + 1), gaussian(backend, state, seed + 1)),
        dtype=dtype,
        enough=TRUTH[dtype],
    )
    if not found.finite:
        return Finding(law, "unverifiable", math.nan, TRUTH[dtype], "The outcome is not finite.")
    return _judge(law, backend, found, dtype)


def _judge(law: str, backend: Backend, found: Slopes, dtype: str) -> Finding:
    """Judge the leaf with the largest gap, or else the leaf that is least resolved."""
    where = max(found.each, key=lambda name: found.each[name].gap)
    worst = found.each[where]
    openness = {
        name: slope.unsure / (found.whole[name.partition(" by ")[0]] or 1.0)
        for name, slope in found.each.items()
        if slope.unsure > RESOLVED * slope.size > 0 or math.isinf(slope.unsure)
    }
    decided: Verdict = "broken" if worst.gap > TRUTH[dtype] else "holds"
    if decided == "holds" and any(share > NEGLIGIBLE for share in openness.values()):
        where = max(openness, key=lambda name: openness[name])
        worst, decided = found.each[where], "undecided"
    off = f"{abs(worst.claimed / worst.fine - 1):.2%}" if worst.fine else "all of it"
    evidence = (
        f"{len(found.each)} derivatives. Furthest off is that of the {where}: differences give "
        f"{worst.fine:.12g} ± {worst.unsure:.2g}, vjp gives {worst.claimed:.12g}, off by {off}, "
        f"backend {backend.name}."
    )
    if decided == "broken" and worst.claimed == 0.0:
        evidence += " Is that part detached, or computed where gradients are off?"
    if openness:
        names = ", ".join(openness)
        evidence += f" Too small against rounding to be resolved: {names}."
    return Finding(law, decided, worst.gap, TRUTH[dtype], evidence)
