"""Several ways to differentiate one model, and the self-check that picks one."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

from uoro.algebra import entry
from uoro.arguments import leaf_name, require_flag
from uoro.backend import Backend
from uoro.derivatives.differences import (
    OUTPUTS,
    STEP,
    UNIT,
    Differenced,
    Slope,
    precision_of,
    slopes,
)
from uoro.derivatives.probing import Probe, bits, draws, look_at, relative_gap
from uoro.derivatives.sweep import Each, Sweep, separately, sweep
from uoro.derivatives.unroll import Unrolled
from uoro.dynamics import Dynamics, Outcome, Pullback
from uoro.errors import DerivativeError, DerivativeWarning, StructureError, UOROError

ADJOINT = 1e3
"""How many units of roundoff an adjoint gap may have."""

COARSEST = 0.1
"""However coarse the arithmetic, a gap beyond this is no rounding."""

TRUE = 0.01
"""A derivative that is further from differences than this is told of."""


class Route(NamedTuple):
    """One way to differentiate a model.

    Attributes:
        name: As `Routed.describe` calls it.
        dynamics: The model, differentiated that way.
        caution: What to warn of when it is chosen.
    """

    name: str
    dynamics: Dynamics[Any, Any, Any]
    caution: str = ""


class Seen(NamedTuple):
    """What an adapter saw while a model ran.

    Attributes:
        stopped: The places, as ``file:line``, at which gradients were off.
        unit: The unit roundoff of arithmetic coarser than the leaves', such as autocast's.
        ignoring: A context in which gradients are on there nevertheless.
    """

    stopped: list[str]
    unit: float = 0.0
    ignoring: Callable[[], AbstractContextManager[Any]] = nullcontext


@contextmanager
def unobserved() -> Iterator[Seen]:
    """Watch a model for nothing; what an adapter without eyes of its own uses."""
    yield Seen([])


class Routed:
    """A model that finds out, at its first step, how it can be differentiated.

    The first call with real numbers is preceded by one *probe* at those numbers: is the model
    pure, are jvp and vjp adjoint, are they the derivatives of `forward`? The first route that
    passes is taken for good. Under a tracing compiler, where there are no numbers, it is made at
    numbers of the same shapes, if the adapter can make them up, and otherwise left out.

    Args:
        routes: From the best to the last resort.
        check: Whether to probe. Without, the first route that raises nothing is taken.
        concrete: Tells trees of real numbers from those that a compiler traces.
        observe: A context that keeps the user's random state as it was, and watches the model.
        rehearse: Runs ``function(*arguments)`` for its errors, leaving no trace where one is made.
        imagine: A context that, while a compiler traces, gives a tree of numbers to probe at, in
            the place of one that has none.

    Raises:
        SettingError: If ``check`` is neither true nor false.
    """

    span = 1

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        check: bool = True,
        concrete: Callable[[Any], bool] = lambda tree: True,
        observe: Callable[[], AbstractContextManager[Seen]] = unobserved,
        rehearse: Callable[..., Any] = lambda function, *arguments: function(*arguments),
        imagine: Callable[[Any], AbstractContextManager[Any]] | None = None,
    ) -> None:
        require_flag("backend.dynamics(transition, check=...)", "check", check)
        self._routes = list(routes)
        self._check = check
        self._concrete = concrete
        self._observe = observe
        self._rehearse = rehearse
        self._imagine = imagine
        self._chosen: Route | None = None
        self._story: list[str] = []
        self._gap: float | None = None

    @property
    def backend(self) -> Backend:
        """The backend of the routes."""
        return self._routes[0].dynamics.backend

    @property
    def route(self) -> str | None:
        """The name of the route taken; ``None`` before the first step."""
        return None if self._chosen is None else self._chosen.name

    @property
    def checks(self) -> bool:
        """Whether the model is probed."""
        return self._check

    @property
    def gap(self) -> float | None:
        """The adjoint gap that the probe measured, relative; ``None`` if it did not."""
        return self._gap

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Take one step."""
        return (self._chosen or self._routes[0]).dynamics.forward(params, state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Push a state tangent forward."""
        self._settle(params, state, inputs)
        if self._chosen is None:
            return self._push_by_what_works(params, state, inputs, state_tangent)
        return self._chosen.dynamics.jvp(params, state, inputs, state_tangent)

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Take one step, to be pulled back any number of times."""
        self._settle(params, state, inputs)
        return (self._chosen or self._routes[0]).dynamics.vjp(params, state, inputs)

    def sweep(
        self, params: Any, state: Any, inputs: Any, tangent: Any, signs: Any, each: Each
    ) -> Sweep[Any, Any]:
        """Take all the derivatives of a UORO step."""
        self._settle(params, state, inputs)
        if self._chosen is None:
            return separately(self, params, state, inputs, tangent, signs, each)
        return sweep(self._chosen.dynamics, params, state, inputs, tangent, signs, each)

    @property
    def many(self) -> Callable[[], Dynamics[Any, Any, Any]]:
        """Make one dynamics of many streams, where the adapter can.

        Raises:
            AttributeError: If it cannot.
        """
        made: Any = (self._chosen or self._routes[0]).dynamics
        many: Callable[[], Dynamics[Any, Any, Any]] = made.many
        return many

    def forget(self) -> None:
        """Choose anew at the next step: the model has become another."""
        self._chosen, self._story, self._gap = None, [], None

    def unchecked(self) -> Routed:
        """Make the same without the probe."""
        return Routed(
            self._routes,
            check=False,
            concrete=self._concrete,
            observe=self._observe,
            rehearse=self._rehearse,
            imagine=self._imagine,
        )

    def describe(self) -> str:
        """Say which route was chosen, and why."""
        if self._chosen is None:
            names = ", ".join(route.name for route in self._routes)
            when = "at the first step" if self._check else "by what raises nothing: check=False"
            return f"Route: to be chosen {when}, of {names}."
        lines = [f"Route: {self._chosen.name}, on {self.backend.name} ({self.backend.device})."]
        return "\n".join(lines + self._story)

    def probe(self, params: Any, state: Any, inputs: Any) -> Routed:
        """Choose the route now, at these numbers.

        Neither the arguments nor anybody's random state is changed.

        Returns:
            The dynamics themselves.

        Raises:
            DerivativeError: If the model is impure, or no route gives derivatives to build on.
            StructureError: If a leaf of the params is not differentiable.
        """
        self._require_floating(params)
        python = random.getstate()
        try:
            with self._observe() as seen:
                self._choose(params, state, inputs, seen)
        finally:
            random.setstate(python)
        return self

    def _settle(self, params: Any, state: Any, inputs: Any) -> None:
        if self._chosen is not None or not self._check:
            return
        point = params, state, inputs
        if self._concrete(point):
            self.probe(*point)
        elif self._imagine is not None:
            self._probe_imagined(point)

    def _probe_imagined(self, point: Any) -> None:
        """Probe at numbers made up; where that cannot be done, the route is what can be traced."""
        assert self._imagine is not None
        try:
            with self._imagine(point) as imagined:
                self.probe(*imagined)
        except UOROError:
            raise
        except Exception as error:
            self._chosen = None
            self._warn(
                "it was first met while a compiler traced it, and cannot be looked at there: "
                f"{_said(error)} Call dynamics.probe(params, state, inputs) before, or pass "
                "check=False."
            )
            return
        self._story.append("All that at numbers made up, as a compiler was tracing.")

    def _push_by_what_works(self, *arguments: Any) -> tuple[Any, Any]:
        """Take the first route that raises nothing."""
        failed, errors = list[tuple[str, str]](), list[Exception]()
        for route in self._routes:
            try:
                self._rehearse(route.dynamics.jvp, *arguments)
            except UOROError:
                raise
            except Exception as error:
                errors.append(error)
                failed.append((route.name, _said(error)))
                continue
            self._take(route, [*_reasons(failed), "Nothing was checked."])
            return route.dynamics.jvp(*arguments)
        raise errors[0]

    def _take(self, route: Route, story: list[str]) -> None:
        self._chosen, self._story = route, story
        if route.caution:
            self._warn(f"{route.name}. {route.caution} {' '.join(story)}")

    def _require_floating(self, params: Any) -> None:
        for name, leaf in self.backend.named_leaves(params):
            if not self.backend.parts(leaf):
                kind = getattr(leaf, "dtype", type(leaf).__name__)
                raise StructureError(
                    f"dynamics.probe(params, …): {leaf_name(name)} of the params has dtype {kind}, "
                    "and nothing can be learned of it. Keep only floating leaves in params, and "
                    "let the transition close over the rest, or carry it in the state."
                )

    def _choose(self, params: Any, state: Any, inputs: Any, seen: Seen) -> None:
        backend = self.backend
        rehearsed = self._rehearsed(params, state, inputs)
        dtype = precision_of(backend, params, state) or "float32"
        unit = max(UNIT[dtype], seen.unit)
        if not backend.device.startswith("cpu") and dtype == "float32":
            unit = max(unit, 2.0**-11)  # Matrix products may be rounded to ten bits there.
        allowed = min(ADJOINT * unit, COARSEST)
        draw = backend.compile(partial(draws, backend))
        probes = [Probe(*draw(backend.key(number), params, state)) for number in range(2)]
        failed = list[tuple[str, str]]()
        for route in self._routes:
            look = backend.compile(partial(look_at, route.dynamics))
            looks = list[dict[str, float]]()
            try:
                # The first state is often zero, and there much vanishes that does not elsewhere.
                for at in (state, probes[0].state):
                    seen_there = look(params, at, inputs, probes[0].tangent, probes[0].cotangent)
                    looks.append({name: float(x) for name, x in seen_there.items()})
            except UOROError:
                raise
            except Exception as error:
                failed.append((route.name, _said(error)))
                continue
            story, finite = _reasons(failed), [_all_finite(each) for each in looks]
            if not any(finite):
                story.append("Not checked: at the first step something is not finite.")
                return self._take(route, story)
            found = [each for each, fine in zip(looks, finite, strict=True) if fine]
            repeats = max(each["repeats"] for each in found)
            if rehearsed is not None and finite[0]:
                first = route.dynamics.forward(params, state, inputs)
                repeats = max(repeats, relative_gap(backend, rehearsed, first))
            if repeats > allowed:
                raise DerivativeError(
                    "backend.dynamics(transition): two equal calls of the model differ by "
                    f"{repeats:.2g}, relative to the outcome. There is randomness in it, "
                    "such as dropout, or state that it keeps between calls. Forward, jvp and vjp "
                    "of one step must see the same: carry a key or a seed in the state or the "
                    "inputs, and all that changes in the state."
                )
            gap = max(each[output] for each in found for output in OUTPUTS)
            if gap > (allowed if not route.caution else COARSEST):
                failed.append((route.name, f"its jvp and the vjp differ by {gap:.2g}."))
                continue
            story.append(
                f"jvp and vjp are adjoint: gap {gap:.1g}, allowed {allowed:.1g} ({dtype}). "
                "Two equal calls agree."
            )
            self._gap = gap
            self._take(route, story)
            if not finite[1]:
                probes = [each._replace(state=state) for each in probes]
            return self._compare_with_forward(route, params, inputs, probes, dtype, seen)
        reasons = " ".join(_reasons(failed))
        raise DerivativeError(
            "backend.dynamics(transition): no way to differentiate this model both forwards and "
            f"backwards works. {reasons} Replace the operation that is named, or give its "
            "derivative by operations of the framework that can be differentiated again."
        )

    def _rehearsed(self, params: Any, state: Any, inputs: Any) -> Outcome[Any] | None:
        """Run the model once: a mistake in it speaks for itself, and one that overwrites is seen.

        Returns:
            The outcome, where there are numbers.
        """
        backend = self.backend
        forward = self._routes[0].dynamics.forward
        if backend.compiled:
            self._rehearse(forward, params, state, inputs)
            return None
        before = bits(backend, (params, state))
        copies = (backend.map(lambda leaf: leaf * 1, tree) for tree in (params, state))
        params, state = copies
        outcome = forward(params, state, inputs)
        if bits(backend, (params, state)) != before:
            raise DerivativeError(
                "backend.dynamics(transition): the model changed its params or its state in place. "
                "Every derivative would be taken at another point. Make a new array instead."
            )
        return outcome

    def _compare_with_forward(
        self, route: Route, params: Any, inputs: Any, probes: list[Probe], dtype: str, seen: Seen
    ) -> None:
        """Tell of derivatives that are not those of `forward`: stopped, surrogate, or wrong."""
        if dtype not in STEP or seen.unit > UNIT[dtype]:
            self._story.append(f"Not compared with differences of forward: too coarse in {dtype}.")
            return

        def wrong(at: Probe) -> tuple[dict[str, Slope], dict[str, Slope]]:
            found = slopes(
                route.dynamics,
                params,
                at.state,
                inputs,
                cotangent=at.cotangent,
                directions=(at.by_params, at.by_state),
                dtype=dtype,
                enough=TRUE,
            ).each
            sure = {name: slope for name, slope in found.items() if slope.sure}
            return found, {name: slope for name, slope in sure.items() if slope.gap > TRUE}

        found, off = wrong(probes[0])
        if not any(slope.sure for slope in found.values()):
            self._story.append("Not compared with differences of forward: too rough for them.")
            return
        if off:
            # A kink nearby looks alike, but not at another point as well.
            off = {name: slope for name, slope in wrong(probes[1])[1].items() if name in off}
        if not off:
            self._story.append("They are those of forward, as far as differences of it can tell.")
            if all(slope.size == 0 for name, slope in found.items() if " by 'params" in name):
                self._warn("Nothing that the model gives depends on its params: none will learn.")
            return
        where = max(off, key=lambda name: off[name].gap)
        still = dict[str, Slope]()
        if seen.stopped:
            with seen.ignoring():
                _, still = wrong(probes[1])
            where = next((name for name in off if name not in still), where)
        said = (
            f"The derivative of the {where} is {off[where].claimed:.4g} along one direction, where "
            f"differences of forward give {off[where].fine:.4g}."
        )
        if seen.stopped and where not in still:
            self._chosen = None
            places = ", ".join(dict.fromkeys(seen.stopped))
            raise DerivativeError(
                f"backend.dynamics(transition): gradients are off inside the model, at {places}. "
                f"{said} If a gradient shall stop there, say so with .detach(); otherwise take "
                "the no_grad away."
            )
        self._story.append(f"They are not those of forward. {said}")
        self._warn(
            f"{said} That is as it should be for a gradient that is stopped or a surrogate on "
            "purpose, and pass check=False then; otherwise a derivative given by hand is wrong."
        )

    def _warn(self, said: str) -> None:
        warnings.warn(f"backend.dynamics(transition): {said}", DerivativeWarning, stacklevel=2)


def probe(dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any) -> None:
    """Let dynamics that can do so choose their route, at real numbers.

    Args:
        dynamics: Unrolled or not.
        params: Of the first step.
        state: Of the first step; of one stream.
        inputs: Of the first step; of one stream.
    """
    if isinstance(dynamics, Unrolled):
        probe(dynamics.dynamics, params, state, entry(dynamics.backend, inputs, 0))
    elif isinstance(dynamics, Routed) and dynamics.route is None:
        dynamics._settle(params, state, inputs)


def _reasons(failed: list[tuple[str, str]]) -> list[str]:
    """Say why routes were not taken; those with one reason together."""
    by_reason = dict[str, list[str]]()
    for name, reason in failed:
        by_reason.setdefault(reason, []).append(name)
    return [f"Not {', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def _all_finite(numbers: dict[str, float]) -> bool:
    return all(map(math.isfinite, numbers.values()))


def _said(error: Exception) -> str:
    """Give the first sentence or so of an error."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."


def by_differences(dynamics: Dynamics[Any, Any, Any]) -> Route:
    """Make the last resort of dynamics."""
    caution = (
        "The jvp is a difference of two forward passes, so that the gradient is no longer unbiased "
        "but off by about 1e-4 of itself in float32."
    )
    return Route("central differences", Differenced(dynamics), caution)
