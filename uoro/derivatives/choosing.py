"""The model check: which of several autodiff modes differentiates a model correctly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from uoro.backend import Backend
from uoro.derivatives.differences import OUTPUTS, UNIT, precision_of, scales_at, slopes
from uoro.derivatives.probing import (
    CALL,
    Probe,
    mapped_gap,
    measured,
    probes_at,
    relative_gap,
    run_once,
)
from uoro.derivatives.slope import STEP, Slope
from uoro.dynamics import Dynamics, Moment
from uoro.errors import DerivativeError, UOROError

ADJOINT = 1e3
"""Largest adjoint gap, in units of roundoff."""

COARSEST = 0.1
"""Largest adjoint gap in the coarsest arithmetic, relative; a larger gap is no rounding."""

TRUE = 0.01
"""Largest relative error of a derivative against differences of `forward`."""


class Route(NamedTuple):
    """One autodiff mode of a model.

    Attributes:
        name: Name of the mode, such as ``"forward mode"``.
        dynamics: The model, differentiated in this mode.
        caution: The warning to issue when the mode is chosen; default none.
    """

    name: str
    dynamics: Dynamics[Any, Any, Any]
    caution: str = ""


class Seen(NamedTuple):
    """What an adapter observed while the model ran.

    Attributes:
        stopped: Places, as ``file:line``, at which the model switched gradients off.
        unit: Unit roundoff of arithmetic coarser than that of the leaves, such as autocast's.
        ignoring: A context that keeps gradients on at those places.
        hooks: Names of the hooks that may change what is pulled back.
    """

    stopped: list[str]
    unit: float = 0.0
    ignoring: Callable[[], AbstractContextManager[Any]] = nullcontext
    hooks: Sequence[str] = ()


class Choice(NamedTuple):
    """The result of a model check.

    Attributes:
        route: The mode chosen.
        story: What was found, in sentences.
        gap: The relative adjoint gap; ``None`` if it was not measured.
        warnings: What the user must be warned of.
    """

    route: Route
    story: tuple[str, ...]
    gap: float | None = None
    warnings: tuple[str, ...] = ()

    def told(self, *story: str) -> Choice:
        """Return the choice with further sentences."""
        return self._replace(story=(*self.story, *story))

    def warned(self, warning: str) -> Choice:
        """Return the choice with a further warning."""
        return self._replace(warnings=(*self.warnings, warning))

    def cautioned(self) -> Choice:
        """Return the choice with the caution of its mode as a warning, if it has one."""
        name, _, caution = self.route
        return self.warned(f"{name}. {caution} {' '.join(self.story)}") if caution else self


class Grain(NamedTuple):
    """How fine the arithmetic at a point is.

    Attributes:
        dtype: The coarsest floating dtype.
        allowed: The largest adjoint gap, relative.
        comparable: Whether differences of `forward` are precise enough to compare with.
    """

    dtype: str
    allowed: float
    comparable: bool


def choose(
    routes: Sequence[Route],
    point: Moment,
    seen: Seen,
    *,
    rehearse: Callable[..., Any] = lambda function, *arguments: function(*arguments),
) -> Choice:
    """Return the first autodiff mode whose derivatives are adjoint, with what was found.

    A mode is rejected if it raises, or if its JVP and VJP are not adjoint. The derivatives of the
    chosen mode are compared with differences of `forward`.

    Args:
        routes: The modes, from the best to the last resort.
        point: Where to look: real numbers.
        seen: What the adapter observes during the check.
        rehearse: Runs ``function(*arguments)`` for its errors alone where the backend compiles.

    Raises:
        DerivativeError: If the model is impure, no mode works, or gradients are switched off.
    """
    backend = routes[0].dynamics.backend
    rehearsed = run_once(routes[0].dynamics, point, rehearse)
    grain = _grain(backend, point, seen)
    failed = list[tuple[str, str]]()
    for route in routes:
        try:
            # Kernels that a mode switches off may draw other numbers, as cuDNN's dropout does.
            if rehearsed is not None and route is not routes[0]:
                rehearsed = route.dynamics.forward(*point)
            scales = scales_at(route.dynamics, point)
            probes = probes_at(backend, point, 2, scales)
            looks = measured(route.dynamics, point, probes[0], scales)
        except UOROError:
            raise
        except Exception as error:
            failed.append((route.name, first_words(error)))
            continue
        choice = Choice(route, _reasons(failed))
        finite = [all(map(math.isfinite, each.values())) for each in looks]
        if not any(finite):
            return choice.told("Not checked: a number at the first step is not finite.").cautioned()
        found = [each for each, fine in zip(looks, finite, strict=True) if fine]
        repeats = max(each["repeats"] for each in found)
        if rehearsed is not None and finite[0]:
            repeats = max(repeats, relative_gap(backend, rehearsed, route.dynamics.forward(*point)))
        if repeats > grain.allowed:
            raise DerivativeError(
                f"{CALL}: expected equal results of two equal calls of the model, got a relative "
                f"difference of {repeats:.2g}. There is randomness in the model, such as dropout, "
                "or state that it keeps between calls. Forward, JVP and VJP of one step must see "
                "the same: pass a key or a seed in the state or the inputs, and keep everything "
                "that changes in the state."
            )
        gap = max(each[output] for each in found for output in OUTPUTS)
        if gap > (COARSEST if route.caution else grain.allowed):
            failed.append((route.name, f"JVP and VJP differ by {gap:.2g}."))
            continue
        apart = mapped_gap(route.dynamics, point, probes[0]) if finite[1] else 0.0
        if apart > (COARSEST if route.caution else grain.allowed):
            failed.append((route.name, f"JVPs mapped over pairs are off by {apart:.2g}."))
            continue
        choice = choice._replace(gap=gap).told(
            f"JVP and VJP are adjoint: gap {gap:.1g}, allowed {grain.allowed:.1g} ({grain.dtype}). "
            "Two equal calls agree."
        )
        if not finite[0]:
            choice = choice.told("At the first state a derivative is not finite; checked nearby.")
        if not finite[1]:
            probes = [each._replace(state=point.state) for each in probes]
        return _compared(choice.cautioned(), point, probes, grain, seen)
    raise DerivativeError(
        f"{CALL}: expected a model that can be differentiated forwards and backwards, but no "
        f"autodiff mode works. {' '.join(_reasons(failed))} Replace the operation named there, or "
        "give its derivative in operations of the framework that can be differentiated again."
    )


def choose_unchecked(
    routes: Sequence[Route], rehearse: Callable[..., Any], *arguments: Any
) -> Choice:
    """Return the first autodiff mode whose JVP raises nothing; nothing else is checked."""
    failed, errors = list[tuple[str, str]](), list[Exception]()
    for route in routes:
        try:
            rehearse(route.dynamics.jvp, *arguments)
        except UOROError:
            raise
        except Exception as error:
            errors.append(error)
            failed.append((route.name, first_words(error)))
            continue
        return Choice(route, (*_reasons(failed), "Nothing was checked.")).cautioned()
    raise errors[0]


def _grain(backend: Backend, point: Moment, seen: Seen) -> Grain:
    dtype = precision_of(backend, point.params, point.state) or "float32"
    unit = max(UNIT[dtype], seen.unit)
    if not backend.device.startswith("cpu") and dtype == "float32":
        unit = max(unit, 2.0**-11)  # An accelerator may round matrix products to ten bits.
    comparable = dtype in STEP and seen.unit <= UNIT[dtype]
    return Grain(dtype, min(ADJOINT * unit, COARSEST), comparable)


def _compared(
    choice: Choice, point: Moment, probes: list[Probe], grain: Grain, seen: Seen
) -> Choice:
    """Compare the derivatives with differences of `forward`: stopped, surrogate, or wrong?"""
    if not grain.comparable:
        return choice.told(
            f"Not compared with differences of forward: {grain.dtype} is too coarse."
        )

    def wrong(probe: Probe) -> tuple[dict[str, Slope], dict[str, Slope]]:
        """Return all slopes, and those that are certainly wrong."""
        found = slopes(
            choice.route.dynamics,
            point._replace(state=probe.state),
            cotangent=probe.cotangent,
            directions=(probe.by_params, probe.by_state),
            dtype=grain.dtype,
            enough=TRUE,
        ).each
        return found, {
            name: each
            for name, each in found.items()
            if each.sure and each.gap > TRUE and not each.kinked
        }

    found, off = wrong(probes[0])
    if not any(slope.sure for slope in found.values()):
        return choice.told("Not compared with differences of forward: the model is too rough.")
    if off:
        # A kink nearby looks like an error, but not at another point as well.
        off = {name: slope for name, slope in wrong(probes[1])[1].items() if name in off}
    if not off:
        choice = choice.told("Both agree with differences of forward.")
        if all(slope.size == 0 for name, slope in found.items() if " by 'params" in name):
            return choice.warned(
                "neither loss nor next state depends on the params, and none of them will learn."
            )
        return choice
    where = max(off, key=lambda name: off[name].gap)
    still = dict[str, Slope]()
    if seen.stopped:
        with seen.ignoring():
            _, still = wrong(probes[1])
        where = next((name for name in off if name not in still), where)
    difference = (
        f"The derivative of the {where} is {off[where].claimed:.4g} along one direction, where "
        f"differences of forward give {off[where].fine:.4g}."
    )
    if seen.stopped and where not in still:
        places = ", ".join(dict.fromkeys(seen.stopped))
        raise DerivativeError(
            f"{CALL}: gradients are off inside the model, at {places}. {difference} To stop a "
            "gradient on purpose, use .detach(); otherwise remove the no_grad."
        )
    hooks = f" or a backward hook, at {', '.join(seen.hooks)}," if seen.hooks else ""
    hooked = f" There are backward hooks at {', '.join(seen.hooks)}." if seen.hooks else ""
    return choice.told(f"They differ from differences of forward. {difference}{hooked}").warned(
        f"{difference} For a stopped gradient or a surrogate on purpose, pass check=False; "
        f"otherwise a derivative given by hand{hooks} is wrong."
    )


def _reasons(failed: list[tuple[str, str]]) -> tuple[str, ...]:
    """Return why modes were rejected, one sentence per reason."""
    by_reason = dict[str, list[str]]()
    for name, reason in failed:
        by_reason.setdefault(reason, []).append(name)
    return tuple(f"Not {', '.join(names)}: {reason}" for reason, names in by_reason.items())


def first_words(error: Exception) -> str:
    """Return the first 160 characters of an error's message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."
