"""Derivatives by central differences that know how sure they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from uoro.algebra import moving, shift
from uoro.backend import Backend
from uoro.dynamics import Dynamics

UNIT = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "bfloat16": 2.0**-9,
    "float16": 2.0**-12,
}
"""Unit roundoff."""

_TWINS = {"complex64": "float32", "complex128": "float64"}

STEP = {"float64": 5e-4, "float32": 1.5e-2}
"""Where the search for a step begins."""

STEPS = (1.0, 0.25, 4.0, 1 / 16, 1 / 64, 1 / 256)
"""Multiples of it, in the order in which they are tried."""

SURE = 3e-3
"""A difference is trusted whose own error is below this share of the derivative."""


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
    def sure(self) -> bool:
        """Whether the differences resolve the derivative."""
        return self.unsure <= SURE * self.size

    @property
    def gap(self) -> float:
        """The relative error that the differences cannot explain; infinite for what is no number.

        Of a derivative that is zero by both accounts it is zero.
        """
        if not self.size:
            return 0.0
        gap = max(0.0, abs(self.fine - self.claimed) - self.unsure) / self.size
        return math.inf if math.isnan(gap) else gap


class Slopes(NamedTuple):
    """The derivatives of one step, output by output and leaf by leaf.

    Attributes:
        each: By names such as ``next state by 'params/W'``.
        whole: For each output, the norm of its whole derivative.
        finite: Whether state and loss are.
    """

    each: dict[str, Slope]
    whole: dict[str, float]
    finite: bool


def precision_of(backend: Backend, *trees: Any) -> str | None:
    """Name the coarsest floating dtype among the leaves, ``None`` if there is none."""
    names = [str(leaf.dtype).rpartition(".")[2] for tree in trees for leaf in moving(backend, tree)]
    known = [_TWINS.get(name, name) for name in names]
    return max((name for name in known if name in UNIT), key=UNIT.__getitem__, default=None)


def slopes(
    dynamics: Dynamics[Any, Any, Any],
    params: Any,
    state: Any,
    inputs: Any,
    *,
    cotangent: Any,
    directions: tuple[Any, Any],
    dtype: str,
    enough: float,
) -> Slopes:
    """Compare the vjp with fourth-order differences of `forward`, each leaf by itself.

    The next state, seen along a cotangent, and the loss are two outputs, judged apart. Several
    steps are tried for a difference, which estimates its own error from that of twice the step,
    and from rounding.

    Args:
        dynamics: The model.
        params: Where.
        state: Where.
        inputs: Where.
        cotangent: What the next state is seen along.
        directions: A random tangent of the params and one of the state.
        dtype: ``"float32"`` or ``"float64"``: whose rounding to allow for.
        enough: A gap with which the search for a better step ends.
    """
    backend, norm = dynamics.backend, dynamics.backend.norm
    outcome, pullback = dynamics.vjp(params, state, inputs)
    sizes = {
        "next state": float(norm(cotangent)) * float(norm(moving(backend, outcome.next_state))),
        "loss": abs(float(outcome.loss)),
    }
    if not all(map(math.isfinite, sizes.values())):
        return Slopes({}, {}, finite=False)
    pulled = {"next state": pullback(cotangent, None), "loss": pullback(None, 1.0)}
    walk = _walk(dynamics)  # type: ignore[arg-type]  # dynamics are hashable
    still = backend.zeros(params), backend.zeros(state)
    each = dict[str, Slope]()
    for number, (output, gradient) in enumerate(pulled.items()):
        for index, part in enumerate(("params", "state")):
            for leaf, (name, _) in enumerate(backend.named_leaves(directions[index])):
                direction = _direction(backend, gradient[index], directions[index], leaf)
                claimed = float(backend.inner(gradient[index], direction))
                moved = tuple(direction if i == index else zero for i, zero in enumerate(still))

                def odd(t: float, output: int = number, moved: Any = moved) -> float:
                    ends = [
                        float(walk(params, state, inputs, cotangent, moved, end)[output])
                        for end in (t, -t)
                    ]
                    return ends[0] - ends[1]

                rounding = 4 * UNIT[dtype] * sizes[output]
                found = _slope(odd, claimed, rounding, STEP[dtype], enough)
                each[f"{output} by '{f'{part}/{name}'.rstrip('/')}'"] = found
    whole = {output: float(norm(gradient)) for output, gradient in pulled.items()}
    return Slopes(each, whole, finite=True)


@lru_cache(maxsize=256)
def _walk(dynamics: Any) -> Any:
    """Compile the two outputs, a step of size t away."""
    backend = dynamics.backend

    def walk(
        params: Any, state: Any, inputs: Any, cotangent: Any, moved: tuple[Any, Any], t: Any
    ) -> tuple[Any, Any]:
        outcome = dynamics.forward(
            shift(backend, params, t, moved[0]), shift(backend, state, t, moved[1]), inputs
        )
        along = [leaf for _, leaf in backend.named_leaves(cotangent)]
        return backend.inner(along, moving(backend, outcome.next_state)), outcome.loss

    return backend.compile(walk)


def _slope(
    odd: Callable[[float], float], claimed: float, rounding: float, step: float, enough: float
) -> Slope:
    """Differentiate along a line, at the step that agrees with the claim and is sure, if any.

    Args:
        odd: ``f(t) - f(-t)``.
        claimed: What the derivative is claimed to be.
        rounding: How far a value of it may be off.
        step: Where the search begins.
        enough: A gap with which it ends.
    """
    found, seen = list[Slope](), dict[float, float]()
    for multiple in STEPS:
        h = multiple * step
        for t in (h, 2 * h, 4 * h):
            if t not in seen:
                seen[t] = odd(t)
        fine = (8 * seen[h] - seen[2 * h]) / (12 * h)
        coarse = (8 * seen[2 * h] - seen[4 * h]) / (24 * h)
        unsure = abs(fine - coarse) + rounding / h
        if not math.isfinite(unsure):
            continue
        found.append(Slope(fine, unsure, claimed))
        if found[-1].sure and found[-1].gap <= enough:
            return found[-1]
    sure = [slope for slope in found if slope.sure]
    if sure:
        return min(sure, key=lambda slope: slope.gap)
    return min(found, key=lambda slope: slope.unsure, default=Slope(math.nan, math.inf, claimed))


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
    """Keep one leaf of a tangent and set the others to zero."""
    numbers = iter(range(len(backend.named_leaves(tree))))
    return backend.map(lambda leaf: leaf * (1.0 if next(numbers) == number else 0.0), tree)


def pushed_by_differences(
    dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any, tangent: Any
) -> tuple[Any, Any]:
    """Push a tangent by a central difference whose step goes with the sizes of state and tangent.

    The last resort, biased: by 1e-4 or so of the derivative in float32.
    """
    backend, norm = dynamics.backend, dynamics.backend.norm
    dtype = precision_of(backend, state) or "float32"
    scale = 5e-3 if dtype != "float64" else 6e-6
    length = norm(tangent)
    h = scale * (1.0 + norm(moving(backend, state))) / (length + (length == 0))
    ends = [dynamics.forward(params, shift(backend, state, t, tangent), inputs) for t in (h, -h)]
    one, other = (moving(backend, end.next_state) for end in ends)
    leaves = iter(backend.combine((0.5 / h, one), (-0.5 / h, other)))
    pushed = backend.map(lambda leaf: next(leaves), tangent)
    return pushed, (ends[0].loss - ends[1].loss) / (2.0 * h)
