"""Whether derivatives are those of `forward`, by differences that know how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from uoro.algebra import shift
from uoro.backend import Backend
from uoro.derivatives.differences import Slopes, scales_at, slopes
from uoro.derivatives.probing import scaled
from uoro.dynamics import Dynamics, Moment
from uoro_conformance.designs import gaussian
from uoro_conformance.finding import Finding, Verdict, precision_of

TRUTH = {"float64": 1e-8, "float32": 1e-3}
"""The relative error that counts as one."""

RESOLVED = 0.1
"""A leaf is left open where the best difference is less sure than this share of its derivative."""

NEGLIGIBLE = 0.03
"""What is left open does not matter below this share of the whole derivative."""


BESIDE = 0.1
"""Distance at which what is on a kink is compared instead, each leaf in units of its scale."""


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
    or taken at another point. `uoro.derivatives.differences.slopes` says how. Where the point is
    on a kink, such as that of a ReLU at zero, the leaf is compared beside it.

    Returns:
        A finding whose gap is the largest relative error that the differences cannot explain;
        *undecided* if they resolve too little of a leaf that matters, or if it is on a kink beside
        the point too; *unverifiable* if the outcome is not finite.
    """
    law = "derivatives are those of forward"
    backend, dtype = dynamics.backend, precision_of(dynamics.backend, state, params)
    point = Moment(params, state, inputs)
    found = _slopes_at(dynamics, point, dtype, seed)
    if not found.finite:
        return Finding(law, "unverifiable", math.nan, TRUTH[dtype], "The outcome is not finite.")
    kinked = [name for name, slope in found.each.items() if slope.kinked]
    if kinked:
        beside = _slopes_at(dynamics, _beside(dynamics, point, seed), dtype, seed)
        found.each.update({name: beside.each[name] for name in kinked if name in beside.each})
    return _judge(law, backend, found, dtype, kinked)


def _slopes_at(dynamics: Any, point: Moment, dtype: str, seed: int) -> Slopes:
    backend = dynamics.backend
    return slopes(
        dynamics,
        point,
        cotangent=gaussian(backend, point.state, seed),
        directions=(
            gaussian(backend, point.params, seed + 1),
            gaussian(backend, point.state, seed + 1),
        ),
        dtype=dtype,
        enough=TRUTH[dtype],
    )


def _beside(dynamics: Any, point: Moment, seed: int) -> Moment:
    """Return a point at some distance, in which every leaf of params and state has moved."""
    backend, scales = dynamics.backend, scales_at(dynamics, point)
    moved = [
        shift(backend, tree, BESIDE, scaled(backend, gaussian(backend, tree, seed + 2), each))
        for tree, each in ((point.params, scales.params), (point.state, scales.state))
    ]
    return Moment(moved[0], moved[1], point.inputs)


def _judge(
    law: str, backend: Backend, found: Slopes, dtype: str, kinked: Sequence[str] = ()
) -> Finding:
    """Judge the leaf with the largest gap, or else the leaf that is least resolved.

    A derivative whose differences are not sure of themselves is left open, however far off.
    """
    allowed, share = TRUTH[dtype], dict[str, float]()
    for name, slope in found.each.items():
        vague = slope.unsure > RESOLVED * slope.size > 0 or math.isinf(slope.unsure)
        if slope.kinked or vague or (not slope.sure and slope.gap > allowed):
            missed = max(slope.unsure, slope.jump, abs(slope.fine - slope.claimed))
            whole = found.whole[name.partition(" by ")[0]] or 1.0
            share[name] = math.inf if math.isnan(missed) else missed / whole
    settled = {name: slope for name, slope in found.each.items() if name not in share}
    # Of equal gaps the first: what precedes comes closer to the cause.
    where = max(settled or found.each, key=lambda name: float(f"{found.each[name].gap:.2g}"))
    worst = found.each[where]
    decided: Verdict = "broken" if settled and worst.gap > allowed else "holds"
    if decided == "holds" and any(missed > NEGLIGIBLE for missed in share.values()):
        where = max(share, key=lambda name: share[name])
        worst, decided = found.each[where], "undecided"
    off = f"{abs(worst.claimed / worst.fine - 1):.2%}" if worst.fine else "all of it"
    evidence = (
        f"{len(found.each)} derivatives. Furthest off is that of the {where}: differences give "
        f"{worst.fine:.12g} ± {worst.unsure:.2g}, vjp gives {worst.claimed:.12g}, off by {off}, "
        f"backend {backend.name}."
    )
    if decided == "broken" and worst.claimed == 0.0:
        evidence += " Is that part detached, or computed where gradients are off?"
    still = [name for name in share if found.each[name].kinked]
    if kinked:
        evidence += (
            f" On a kink, such as a ReLU at zero, and compared beside it: {', '.join(kinked)}."
        )
    if still:
        evidence += f" On a kink there too, and left open: {', '.join(still)}."
    rough = [name for name in share if name not in still]
    if rough:
        evidence += (
            f" Left open, because differences are not sure of them: {', '.join(rough)}. Their "
            "slope is small against rounding, or changes within the smallest steps."
        )
    gap = worst.gap if decided != "undecided" else 0.0
    return Finding(law, decided, gap, allowed, evidence)
