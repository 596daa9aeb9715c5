"""Derivatives by central differences, with an estimate of their own error."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from uoro.algebra import differentiable, shift
from uoro.backend import Backend
from uoro.derivatives.probing import cotangent_for
from uoro.dynamics import Dynamics, Holding, Moment

UNIT = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "bfloat16": 2.0**-9,
    "float16": 2.0**-12,
}
"""Unit roundoff."""

_TWINS = {"complex64": "float32", "complex128": "float64"}

STEP = {"float64": 5e-4, "float32": 1.5e-2}
"""First step size of the search, by dtype."""

STEPS = (1.0, 0.25, 4.0, 1 / 16, 1 / 64, 1 / 256)
"""Multiples of the first step size, in the order of the search."""

OUTPUTS = ("next state", "output")
"""The differentiated outputs of a step."""

SURE = 3e-3
"""Largest relative error of a difference that is trusted."""


class Slope(NamedTuple):
    """A derivative along one direction.

    Attributes:
        fine: The derivative by differences.
        unsure: The estimated error of `fine`.
        claimed: The derivative by the VJP.
    """

    fine: float
    unsure: float
    claimed: float

    @property
    def size(self) -> float:
        """The scale of relative errors."""
        return abs(self.fine) + abs(self.claimed)

    @property
    def sure(self) -> bool:
        """Whether the differences resolve the derivative."""
        return self.unsure <= SURE * self.size

    @property
    def gap(self) -> float:
        """The relative error beyond `unsure`; infinite for NaN, zero if both are zero."""
        if not self.size:
            return 0.0
        gap = max(0.0, abs(self.fine - self.claimed) - self.unsure) / self.size
        return math.inf if math.isnan(gap) else gap


class Slopes(NamedTuple):
    """The derivatives of one step, by output and leaf.

    Attributes:
        each: One slope by a name such as ``next state by 'params/W'``.
        whole: The norm of the whole derivative of each output.
        finite: Whether state and loss are finite.
    """

    each: dict[str, Slope]
    whole: dict[str, float]
    finite: bool


def precision_of(backend: Backend, *trees: Any) -> str | None:
    """Return the coarsest floating dtype among the leaves; ``None`` if there is none."""
    return max(_known(backend, *trees), key=UNIT.__getitem__, default=None)


def roundoff_of(backend: Backend, *trees: Any) -> float:
    """Return the unit roundoff of the coarsest floating dtype among the leaves; 0 if none."""
    return max([0.0] + [UNIT[name] for name in _known(backend, *trees)])


def _known(backend: Backend, *trees: Any) -> list[str]:
    names = [
        str(leaf.dtype).rpartition(".")[2]
        for tree in trees
        for leaf in differentiable(backend, tree)
    ]
    return [name for name in (_TWINS.get(name, name) for name in names) if name in UNIT]


def slopes(
    dynamics: Dynamics[Any, Any, Any],
    point: Moment,
    *,
    cotangent: Any,
    directions: tuple[Any, Any],
    dtype: str,
    enough: float,
) -> Slopes:
    """Compare the VJP with fourth-order differences of `forward`, leaf by leaf.

    The inner product of the next state with a cotangent, and the loss, are two separate outputs;
    of an output that is no loss, its inner product with a cotangent.
    A difference is computed at several step sizes; its error is estimated from the difference at
    twice the step size, and from rounding.

    Args:
        dynamics: The model.
        point: Params, state and inputs of the step.
        cotangent: A cotangent of the next state.
        directions: A random tangent of the params and a random tangent of the state.
        dtype: ``"float32"`` or ``"float64"``, the dtype of the arithmetic.
        enough: The gap at which the search for a better step size ends.
    """
    backend = dynamics.backend
    tools = _tools(dynamics)
    *reached, of_state, of_output, sizes_pulled = tools.gradients(*point, cotangent)
    pulled = of_state, of_output
    sizes = [abs(float(size)) for size in reached]
    if not all(map(math.isfinite, sizes)):
        return Slopes({}, {}, finite=False)
    still = backend.zeros(point.params), backend.zeros(point.state)
    each, whole = dict[str, Slope](), dict[str, float]()
    with held(dynamics, point):
        for number, (output, gradient) in enumerate(zip(OUTPUTS, pulled, strict=True)):
            whole[output] = float(sizes_pulled[number])
            for index, part in enumerate(("params", "state")):
                names = [name for name, _ in backend.named_leaves(directions[index])]
                for leaf, name in enumerate(names):
                    mask = tuple(float(i == leaf) for i in range(len(names)))
                    direction, claimed = tools.direction(gradient[index], directions[index], mask)
                    moved = tuple(direction if i == index else zero for i, zero in enumerate(still))

                    def odd(t: float, output: int = number, moved: Any = moved) -> float:
                        ends = [
                            float(tools.walk(*point, cotangent, moved, end)[output])
                            for end in (t, -t)
                        ]
                        return ends[0] - ends[1]

                    rounding = 4 * UNIT[dtype] * sizes[number]
                    found = _slope(odd, float(claimed), rounding, STEP[dtype], enough)
                    each[f"{output} by '{f'{part}/{name}'.rstrip('/')}'"] = found
    return Slopes(each, whole, finite=True)


def held(dynamics: Dynamics[Any, Any, Any], point: Moment) -> AbstractContextManager[None]:
    """Return a context in which `forward` holds what its derivatives take as constant."""
    return dynamics.held(*point) if isinstance(dynamics, Holding) else nullcontext()


class _Tools(NamedTuple):
    """Compiled functions of one model.

    Attributes:
        gradients: Returns the size of both outputs, the VJPs of both outputs, and
            the norms of the VJPs.
        direction: Returns a direction in one leaf, and the derivative along it by the VJP.
        walk: Returns the two outputs at a distance t along a direction.
    """

    gradients: Callable[..., Any]
    direction: Callable[..., Any]
    walk: Callable[..., Any]


def _tools(dynamics: Any) -> _Tools:
    """Return the compiled functions of dynamics, cached in their ``__dict__`` if they have one."""
    kept = getattr(dynamics, "__dict__", {})
    tools: _Tools = kept.get("_tools_of_differences") or _compiled_tools(dynamics)
    kept["_tools_of_differences"] = tools
    return tools


def _compiled_tools(dynamics: Any) -> _Tools:
    backend = dynamics.backend
    inner = backend.inner

    def size(tree: Any) -> Any:
        return inner(tree, tree) ** 0.5  # Without a guard against overflow: quick to compile.

    def gradients(params: Any, state: Any, inputs: Any, cotangent: Any) -> Any:
        outcome, pullback = dynamics.vjp(params, state, inputs)
        reached = size(cotangent) * size(differentiable(backend, outcome.next_state))
        weights = cotangent_for(backend, outcome.output)
        read = size(weights) * size(differentiable(backend, outcome.output))
        pulled = pullback(cotangent, None), pullback(None, weights)
        return reached, read, *pulled, tuple(map(size, pulled))

    def direction(gradient: Any, random: Any, mask: Any) -> Any:
        # The sum of two unit vectors that do not cancel. One points along the claimed gradient and
        # shows a wrong size; the other is random and shows what the gradient leaves out.
        along, other = (_only(backend, tree, mask) for tree in (gradient, random))
        sign = backend.xp.where(inner(along, other) < 0, -1.0, 1.0)
        shares = [1.0 / (length + (length == 0)) for length in (size(along), size(other))]
        made = backend.combine((shares[0], along), (sign * shares[1], other))
        return made, inner(gradient, made)

    def walk(
        params: Any, state: Any, inputs: Any, cotangent: Any, moved: tuple[Any, Any], t: Any
    ) -> tuple[Any, Any]:
        outcome = dynamics.forward(
            shift(backend, params, t, moved[0]), shift(backend, state, t, moved[1]), inputs
        )
        along = [leaf for _, leaf in backend.named_leaves(cotangent)]
        weights = differentiable(backend, cotangent_for(backend, outcome.output))
        return (
            inner(along, differentiable(backend, outcome.next_state)),
            inner(weights, differentiable(backend, outcome.output)),
        )

    return _Tools(*map(backend.compile, (gradients, direction, walk)))


def _slope(
    odd: Callable[[float], float], claimed: float, rounding: float, step: float, enough: float
) -> Slope:
    """Differentiate along a line, at the most trusted step size that agrees with the claim.

    Args:
        odd: The function t ↦ ``f(t) - f(-t)``.
        claimed: The derivative by the VJP.
        rounding: The rounding error of one value of ``odd``.
        step: The first step size.
        enough: The gap at which the search ends.
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
        if not found[-1].size:
            return found[-1]
        if found[-1].sure and found[-1].gap <= enough:
            return found[-1]
    sure = [slope for slope in found if slope.sure]
    if sure:
        return min(sure, key=lambda slope: slope.gap)
    return min(found, key=lambda slope: slope.unsure, default=Slope(math.nan, math.inf, claimed))


def _only(backend: Backend, tree: Any, mask: Any) -> Any:
    """Return the tree with all leaves set to zero but the one whose mask is 1."""
    numbers = iter(range(len(mask)))
    return backend.map(lambda leaf: leaf * mask[next(numbers)], tree)
