"""Derivatives by central differences, with an estimate of their own error."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from uoro.algebra import differentiable, shift
from uoro.backend import Backend
from uoro.derivatives.probing import cotangent_for, scaled
from uoro.derivatives.slope import STEP, Line, Slope, slope
from uoro.dynamics import Dynamics, Holding, Moment

UNIT = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "bfloat16": 2.0**-9,
    "float16": 2.0**-12,
}
"""Unit roundoff."""

_TWINS = {"complex64": "float32", "complex128": "float64"}

OUTPUTS = ("next state", "output")
"""The differentiated outputs of a step."""


class Slopes(NamedTuple):
    """The derivatives of one step, by output and leaf.

    Attributes:
        each: One slope by a name such as ``next state by 'params/W'``.
        whole: The norm of the whole derivative of each output, each leaf in units of its scale.
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
    scales: Scales | None = None,
) -> Slopes:
    """Compare the VJP with fourth-order differences of `forward`, leaf by leaf.

    The inner product of the next state with a cotangent, and the loss, are two separate outputs;
    of an output that is no loss, its inner product with a cotangent.
    A difference is computed at several step sizes, relative to the scale of the leaf; its error is
    estimated from the difference at twice the step size, and from rounding.

    Args:
        dynamics: The model.
        point: Params, state and inputs of the step.
        cotangent: A cotangent of the next state.
        directions: A random tangent of the params and a random tangent of the state.
        dtype: ``"float32"`` or ``"float64"``, the dtype of the arithmetic.
        enough: The gap at which the search for a better step size ends.
        scales: The scales of the leaves; those at the point if not given. Slopes are in units of
            them, and the cotangent is divided by that of the next state.
    """
    backend = dynamics.backend
    tools = _tools(dynamics)
    scales = scales or scales_at(dynamics, point)
    cotangent = scaled(backend, cotangent, [1.0 / scale for scale in scales.next_state])
    found = tools.gradients(*point, cotangent)
    sizes = [abs(float(size)) for size in found.sizes]
    if not all(map(math.isfinite, sizes)):
        return Slopes({}, {}, finite=False)
    still = backend.zeros(point.params), backend.zeros(point.state)
    each, whole = dict[str, Slope](), dict[str, float]()
    with held(dynamics, point):
        for number, (output, gradient) in enumerate(zip(OUTPUTS, found.pulled, strict=True)):
            stretches = [*scales.params, *scales.state]
            whole[output] = math.hypot(
                *(
                    float(size) * stretch
                    for size, stretch in zip(found.lengths[number], stretches, strict=True)
                )
            )
            for index, part in enumerate(("params", "state")):
                names = [name for name, _ in backend.named_leaves(directions[index])]
                for leaf, name in enumerate(names):
                    stretch = scales[index][leaf]
                    mask = tuple(float(i == leaf) for i in range(len(names)))
                    direction, claimed = tools.direction(
                        gradient[index], directions[index], mask, stretch
                    )
                    moved = tuple(direction if i == index else zero for i, zero in enumerate(still))

                    def value(t: float, output: int = number, moved: Any = moved) -> float:
                        return float(tools.walk(*point, cotangent, moved, t)[output])

                    steps = {STEP[dtype], STEP[dtype] / stretch if stretch < 1.0 else STEP[dtype]}
                    line = Line(value, 4 * UNIT[dtype] * sizes[number])
                    made = slope(line, float(claimed), sorted(steps), enough)
                    each[f"{output} by '{f'{part}/{name}'.rstrip('/')}'"] = made
    return Slopes(each, whole, finite=True)


class Scales(NamedTuple):
    """How large the numbers are in each leaf that has coordinates.

    A leaf of ordinary numbers has the scale 1, as one of zeros has, so that its differences are
    those of a step that is not relative.

    Attributes:
        params: One scale for each leaf of the params.
        state: One for each leaf of the state; of a leaf of zeros that of the next state.
        next_state: One for each leaf of the next state; of a leaf of zeros that of the state.
    """

    params: list[float]
    state: list[float]
    next_state: list[float]


ORDINARY = (1e-3, 1e3)
"""Leaves whose entries are in this range on average are of scale 1."""


def scales_at(dynamics: Dynamics[Any, Any, Any], point: Moment) -> Scales:
    """Measure the scales of the leaves at a point."""
    backend = dynamics.backend
    extents = _tools(dynamics).gradients(*point, backend.zeros(point.state)).extents
    measured = backend.to_host(extents)
    params, state, next_state = ([float(each) for each in group] for group in measured)
    return Scales(
        [_scale(each) for each in params],
        [_scale(own or other) for own, other in zip(state, next_state, strict=True)],
        [_scale(other or own) for own, other in zip(state, next_state, strict=True)],
    )


def _scale(extent: float) -> float:
    usual = not math.isfinite(extent) or extent == 0 or ORDINARY[0] <= extent <= ORDINARY[1]
    return 1.0 if usual else extent


def held(dynamics: Dynamics[Any, Any, Any], point: Moment) -> AbstractContextManager[None]:
    """Return a context in which `forward` holds what its derivatives take as constant."""
    return dynamics.held(*point) if isinstance(dynamics, Holding) else nullcontext()


class Gradients(NamedTuple):
    """The VJPs at a point.

    Attributes:
        sizes: The sizes of what is added up in both outputs.
        pulled: The VJPs of both outputs, of params and state.
        lengths: For both outputs the norm of each leaf of the VJP.
        extents: The average size of an entry of each leaf of params, state and next state.
    """

    sizes: Any
    pulled: Any
    lengths: Any
    extents: Any


class _Tools(NamedTuple):
    """Compiled functions of one model.

    Attributes:
        gradients: Returns `Gradients` at a point.
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

    def size(leaf: Any) -> Any:
        return inner(leaf, leaf) ** 0.5  # Without a guard against overflow: quick to compile.

    def extent(leaf: Any) -> Any:
        return abs(leaf).mean() if math.prod(leaf.shape) else 0.0

    def summed(weights: Any, tree: Any) -> Any:
        leaves = zip(differentiable(backend, weights), differentiable(backend, tree), strict=True)
        return sum((size(one) * size(other) for one, other in leaves), 0.0)

    def gradients(params: Any, state: Any, inputs: Any, cotangent: Any) -> Any:
        outcome, pullback = dynamics.vjp(params, state, inputs)
        weights = cotangent_for(backend, outcome.output)
        sizes = summed(cotangent, outcome.next_state), summed(weights, outcome.output)
        pulled = pullback(cotangent, None), pullback(None, weights)
        lengths = [[size(leaf) for leaf in differentiable(backend, each)] for each in pulled]
        trees = params, state, outcome.next_state
        extents = [[extent(leaf) for leaf in differentiable(backend, tree)] for tree in trees]
        return Gradients(sizes, pulled, lengths, extents)

    def direction(gradient: Any, random: Any, mask: Any, stretch: Any) -> Any:
        # The sum of two unit vectors that do not cancel. One points along the claimed gradient and
        # shows a wrong size; the other is random and shows what the gradient leaves out.
        along, other = (scaled(backend, tree, mask) for tree in (gradient, random))
        sign = backend.xp.where(inner(along, other) < 0, -1.0, 1.0)
        shares = [1.0 / (length + (length == 0)) for length in (size(along), size(other))]
        terms = (stretch * shares[0], along), (stretch * sign * shares[1], other)
        made = backend.combine(*terms)
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
