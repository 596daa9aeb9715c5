"""Whether derivatives are those of `forward`, by differences that know how sure they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from uoro.backend import Backend
from uoro.dynamics import Dynamics
from uoro_conformance.designs import gaussian
from uoro_conformance.finding import UNIT, Finding, Verdict, largest, precision_of

STEP = {"float64": 5e-4, "float32": 1.5e-2}
"""Where the search for a step begins."""

STEPS = (1.0, 0.25, 4.0, 1 / 16, 1 / 64, 1 / 256)
"""Multiples of it, in the order in which they are tried."""

TRUTH = {"float64": 1e-8, "float32": 1e-3}
"""The relative error that counts as one."""

SURE = 3e-3
"""A difference is trusted whose own error is below this share of the derivative."""

RESOLVED = 0.1
"""A leaf is left open where the best difference is less sure than this share of its derivative."""

NEGLIGIBLE = 0.03
"""What is left open does not matter below this share of the whole derivative."""


class Slope(NamedTuple):
    """A derivative by differences, how far it may be off, and what is claimed of it."""

    fine: float
    unsure: float
    claimed: float

    @property
    def size(self) -> float:
        """What errors are relative to."""
        return abs(self.fine) + abs(self.claimed)

    @property
    def gap(self) -> float:
        """The relative error that the differences cannot explain."""
        excess = max(0.0, abs(self.fine - self.claimed) - self.unsure)
        return largest([excess / self.size]) if self.size else 0.0


def check_truth(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    seed: int = 0,
) -> Finding:
    """Compare the vjp with fourth-order differences of `forward`, each leaf by itself.

    The next state, seen along a random cotangent, and the loss are two outputs, judged apart. An
    adjoint pair can be wrong together; only this sees it: a derivative that is stopped, scaled, or
    taken at another point. Several steps are tried for a difference, which estimates its own error
    from that of twice the step, and from rounding.

    Returns:
        A finding whose gap is the largest relative error that the differences cannot explain;
        *undecided* if they resolve too little of a leaf that matters; *unverifiable* if the outcome
        is not finite.
    """
    law = "derivatives are those of forward"
    backend, dtype = dynamics.backend, precision_of(dynamics.backend, state, params)
    cotangent = gaussian(backend, state, seed)
    outcome, pullback = dynamics.vjp(params, state, inputs)
    sizes = {
        "next state": float(backend.norm(cotangent)) * float(backend.norm(outcome.next_state)),
        "loss": abs(float(outcome.loss)),
    }
    if not all(map(math.isfinite, sizes.values())):
        return Finding(law, "unverifiable", math.nan, TRUTH[dtype], f"Not finite: {sizes}.")
    pulled = {"next state": pullback(cotangent, None), "loss": pullback(None, 1.0)}
    slopes, whole = dict[str, Slope](), dict[str, float]()
    for output, (by_params, by_state) in pulled.items():
        whole[output] = float(backend.norm((by_params, by_state)))
        rounding = 4 * UNIT[dtype] * sizes[output]
        for part, point, gradient in (("params", params, by_params), ("state", state, by_state)):

            def value(moved: Any, output: str = output, part: str = part) -> float:
                at = (moved, state) if part == "params" else (params, moved)
                after = dynamics.forward(*at, inputs)
                seen: Any = after.loss
                if output == "next state":
                    seen = backend.inner(cotangent, after.next_state)
                return float(seen)

            random = gaussian(backend, point, seed + 1)
            for number, (name, _) in enumerate(backend.named_leaves(point)):
                direction = _direction(backend, gradient, random, number)

                def along(t: float, v: Any = value, p: Any = point, d: Any = direction) -> float:
                    return float(v(backend.combine((1.0, p), (t, d))))

                claimed = float(backend.inner(gradient, direction))
                leaf = f"{part}/{name}".rstrip("/")
                slopes[f"{output} by '{leaf}'"] = _slope(along, claimed, rounding, dtype)
    return _judge(law, backend, slopes, whole, dtype)


def _slope(along: Callable[[float], float], claimed: float, rounding: float, dtype: str) -> Slope:
    """Differentiate along a line, at the step that agrees with the claim and is sure, if any."""
    found, seen = list[Slope](), dict[float, float]()

    def odd(t: float) -> float:
        if t not in seen:
            seen[t] = along(t) - along(-t)
        return seen[t]

    for multiple in STEPS:
        h = multiple * STEP[dtype]
        near, mid, far = odd(h), odd(2 * h), odd(4 * h)
        fine, coarse = (8 * near - mid) / (12 * h), (8 * mid - far) / (24 * h)
        unsure = abs(fine - coarse) + rounding / h
        if not math.isfinite(unsure):
            continue
        found.append(Slope(fine, unsure, claimed))
        if unsure <= SURE * found[-1].size and found[-1].gap <= TRUTH[dtype]:
            return found[-1]
    sure = [slope for slope in found if slope.unsure <= SURE * slope.size]
    if sure:
        return min(sure, key=lambda slope: slope.gap)
    return min(found, key=lambda slope: slope.unsure, default=Slope(math.nan, math.inf, claimed))


def _judge(
    law: str, backend: Backend, slopes: dict[str, Slope], whole: dict[str, float], dtype: str
) -> Finding:
    """Pick the leaf that is furthest off, or else the one that is left most open."""
    where = max(slopes, key=lambda name: slopes[name].gap)
    worst = slopes[where]
    openness = {
        name: slope.unsure / (whole[name.partition(" by ")[0]] or 1.0)
        for name, slope in slopes.items()
        if slope.unsure > RESOLVED * slope.size > 0 or math.isinf(slope.unsure)
    }
    decided: Verdict = "broken" if worst.gap > TRUTH[dtype] else "holds"
    if decided == "holds" and any(share > NEGLIGIBLE for share in openness.values()):
        where = max(openness, key=lambda name: openness[name])
        worst, decided = slopes[where], "undecided"
    off = f"{abs(worst.claimed / worst.fine - 1):.2%}" if worst.fine else "all of it"
    evidence = (
        f"{len(slopes)} derivatives. Furthest off is that of the {where}: differences give "
        f"{worst.fine:.12g} ± {worst.unsure:.2g}, vjp gives {worst.claimed:.12g}, off by {off}, "
        f"backend {backend.name}."
    )
    if decided == "broken" and worst.claimed == 0.0:
        evidence += " Is that part detached, or computed where gradients are off?"
    if openness:
        names = ", ".join(openness)
        evidence += f" Too small against rounding to be resolved: {names}."
    return Finding(law, decided, worst.gap, TRUTH[dtype], evidence)


def _direction(backend: Backend, gradient: Any, random: Any, number: int) -> Any:
    """Make a direction in one leaf, of two parts of length one that do not cancel.

    One goes along the claimed gradient and shows a wrong size; the other is random and shows what
    the gradient leaves out.
    """
    along, other = (_only(backend, tree, number) for tree in (gradient, random))
    sign = -1.0 if float(backend.inner(along, other)) < 0 else 1.0
    return backend.combine(
        (1.0 / (float(backend.norm(along)) or 1.0), along),
        (sign / (float(backend.norm(other)) or 1.0), other),
    )


def _only(backend: Backend, tree: Any, number: int) -> Any:
    """Keep one leaf of a tree and set the others to zero."""
    numbers = iter(range(len(backend.named_leaves(tree))))
    return backend.map(lambda leaf: leaf * (1.0 if next(numbers) == number else 0.0), tree)
