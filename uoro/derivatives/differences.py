"""Derivatives by central differences that know how sure they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from uoro.algebra import differentiable, norm, shift
from uoro.backend import Backend
from uoro.dynamics import Dynamics, Outcome, Pullback

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

OUTPUTS = ("next state", "loss")
"""What a step gives, and is differentiated."""

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
    return max(_known(backend, *trees), key=UNIT.__getitem__, default=None)


def roundoff_of(backend: Backend, *trees: Any) -> float:
    """Give the unit roundoff of the coarsest floating dtype among the leaves; of none, 0."""
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
    backend = dynamics.backend
    tools = _tools(dynamics)
    reached, loss, *pulled, sizes_pulled = tools.gradients(params, state, inputs, cotangent)
    sizes = [float(reached), abs(float(loss))]
    if not all(map(math.isfinite, sizes)):
        return Slopes({}, {}, finite=False)
    still = backend.zeros(params), backend.zeros(state)
    each, whole = dict[str, Slope](), dict[str, float]()
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
                        float(tools.walk(params, state, inputs, cotangent, moved, end)[output])
                        for end in (t, -t)
                    ]
                    return ends[0] - ends[1]

                rounding = 4 * UNIT[dtype] * sizes[number]
                found = _slope(odd, float(claimed), rounding, STEP[dtype], enough)
                each[f"{output} by '{f'{part}/{name}'.rstrip('/')}'"] = found
    return Slopes(each, whole, finite=True)


class _Tools(NamedTuple):
    """What differences need of dynamics, compiled.

    Attributes:
        gradients: The size of the next state along the cotangent, the loss, the cotangents of
            params and state that are pulled back from the one and the other, and their sizes.
        direction: A direction in one leaf, and the derivative that is claimed along it.
        walk: The two outputs, a step of size t away.
    """

    gradients: Callable[..., Any]
    direction: Callable[..., Any]
    walk: Callable[..., Any]


def _tools(dynamics: Any) -> _Tools:
    """Compile them once for each dynamics, and keep them there."""
    kept = getattr(dynamics, "__dict__", {})  # else, compile each time
    tools: _Tools = kept.get("_tools_of_differences") or _made_tools(dynamics)
    kept["_tools_of_differences"] = tools
    return tools


def _made_tools(dynamics: Any) -> _Tools:
    backend = dynamics.backend
    inner = backend.inner

    def size(tree: Any) -> Any:
        return inner(tree, tree) ** 0.5  # As a norm that need not stand extremes, quick to compile.

    def gradients(params: Any, state: Any, inputs: Any, cotangent: Any) -> Any:
        outcome, pullback = dynamics.vjp(params, state, inputs)
        reached = size(cotangent) * size(differentiable(backend, outcome.next_state))
        pulled = pullback(cotangent, None), pullback(None, 1.0)
        return reached, outcome.loss, *pulled, tuple(map(size, pulled))

    def direction(gradient: Any, random: Any, mask: Any) -> Any:
        # Two parts of length one that do not cancel. One goes along the claimed gradient and shows
        # a wrong size; the other is random and shows what the gradient leaves out.
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
        return inner(along, differentiable(backend, outcome.next_state)), outcome.loss

    return _Tools(*map(backend.compile, (gradients, direction, walk)))


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
        if not found[-1].size:
            return found[-1]
        if found[-1].sure and found[-1].gap <= enough:
            return found[-1]
    sure = [slope for slope in found if slope.sure]
    if sure:
        return min(sure, key=lambda slope: slope.gap)
    return min(found, key=lambda slope: slope.unsure, default=Slope(math.nan, math.inf, claimed))


def _only(backend: Backend, tree: Any, mask: Any) -> Any:
    """Keep the leaf at which the mask is 1, and set the others to zero."""
    numbers = iter(range(len(mask)))
    return backend.map(lambda leaf: leaf * mask[next(numbers)], tree)


def pushed_by_differences(
    dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any, tangent: Any
) -> tuple[Any, Any]:
    """Push a tangent by a central difference whose step goes with the sizes of state and tangent.

    The last resort, biased: by 1e-4 or so of the derivative in float32.
    """
    backend = dynamics.backend
    dtype = precision_of(backend, state) or "float32"
    scale = 5e-3 if dtype != "float64" else 6e-6
    length = norm(backend, tangent)
    h = scale * (1.0 + norm(backend, differentiable(backend, state))) / (length + (length == 0))
    ends = [dynamics.forward(params, shift(backend, state, t, tangent), inputs) for t in (h, -h)]
    one, other = (differentiable(backend, end.next_state) for end in ends)
    # The difference first: of equal ends it is zero then, and not the rounding of a product.
    leaves = iter(backend.combine((0.5 / h, backend.combine((1.0, one), (-1.0, other)))))
    pushed = backend.map(lambda leaf: next(leaves), tangent)
    return pushed, (ends[0].loss - ends[1].loss) / (2.0 * h)


class Differenced:
    """Dynamics whose jvp is a central difference: the last resort.

    Args:
        dynamics: Where forward and vjp come from.
    """

    span = 1

    def __init__(self, dynamics: Dynamics[Any, Any, Any]) -> None:
        self._dynamics = dynamics
        self.backend = dynamics.backend

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Take one step."""
        return self._dynamics.forward(params, state, inputs)

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Take one step, to be pulled back."""
        return self._dynamics.vjp(params, state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Push a state tangent forward, nearly; the rate of the loss is the vjp's, and exact."""
        pushed, _ = pushed_by_differences(self._dynamics, params, state, inputs, state_tangent)
        _, pullback = self._dynamics.vjp(params, state, inputs)
        return pushed, self.backend.inner(pullback(None, 1.0)[1], state_tangent)
