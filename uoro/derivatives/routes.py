"""Dynamics that check a model at its first step and pick the autodiff mode to use."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from uoro.algebra import entry
from uoro.arguments import leaf_name, mismatch, require_flag
from uoro.backend import Backend
from uoro.derivatives.choosing import (
    Choice,
    Route,
    Seen,
    choose,
    choose_unchecked,
    first_words,
)
from uoro.derivatives.differences import held
from uoro.derivatives.probing import CALL
from uoro.derivatives.sweep import separately, sweep_of
from uoro.derivatives.unroll import Unrolled
from uoro.dynamics import Batched, Dynamics, Each, Moment, Outcome, Pullback, Sweep
from uoro.errors import DerivativeWarning, StructureError, UOROError


@contextmanager
def unobserved() -> Iterator[Seen]:
    """Observe nothing; for adapters that cannot observe a model."""
    yield Seen([])


class Routed:
    """Dynamics that check their model at the first step and choose an autodiff mode.

    The first call with real numbers runs the *model check* at those numbers: is the model pure,
    are JVP and VJP adjoint, do they agree with differences of `forward`? The first mode that
    passes is used from then on. While a compiler traces, there are no numbers; the check then runs
    at random numbers of the same shapes if the adapter can draw them, and is left out otherwise.

    Args:
        routes: The autodiff modes, from the best to the last resort.
        check: Whether to check the model. If not, the first mode that raises nothing is used.
        concrete: Tells trees of real numbers from trees that a compiler traces.
        observe: A context that restores the user's random states and observes the model.
        rehearse: Runs ``function(*arguments)`` for its errors alone.
        imagine: A context that, while a compiler traces, yields a tree of random numbers in the
            place of a traced tree; default none.

    Raises:
        SettingError: If ``check`` is no `bool`.
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
        self._choice: Choice | None = None
        self._current = self._routes[0].dynamics
        self._sweep = sweep_of(self._current)

    @property
    def backend(self) -> Backend:
        """The backend of the model."""
        return self._current.backend

    @property
    def route(self) -> str | None:
        """The name of the autodiff mode chosen; ``None`` before the first step."""
        return None if self._choice is None else self._choice.route.name

    @property
    def checks(self) -> bool:
        """Whether the model is checked."""
        return self._check

    @property
    def gap(self) -> float | None:
        """The relative adjoint gap; ``None`` if it was not measured."""
        return None if self._choice is None else self._choice.gap

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Compute the next state and the loss."""
        return self._current.forward(params, state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Compute the Jacobian-vector product in the state."""
        self._settle(params, state, inputs)
        if self._choice is None:
            point = params, state, inputs, state_tangent
            self._adopt(choose_unchecked(self._routes, self._rehearse, *point))
        return self._current.jvp(params, state, inputs, state_tangent)

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Compute the outcome, and the pullback, which may be called any number of times."""
        self._settle(params, state, inputs)
        return self._current.vjp(params, state, inputs)

    def sweep(
        self, params: Any, state: Any, inputs: Any, tangent: Any, signs: Any, each: Each
    ) -> Sweep[Any, Any]:
        """Compute all derivatives of a UORO step."""
        self._settle(params, state, inputs)
        if self._choice is None:
            return separately(self, params, state, inputs, tangent, signs, each)
        return self._sweep(params, state, inputs, tangent, signs, each)

    def many(self) -> Dynamics[Any, Any, Any] | None:
        """Return dynamics of many streams, or ``None`` if the adapter has none."""
        return self._current.many() if isinstance(self._current, Batched) else None

    def held(self, params: Any, state: Any, inputs: Any) -> AbstractContextManager[None]:
        """Return a context in which `forward` holds what its derivatives take as constant."""
        return held(self._current, Moment(params, state, inputs))

    def forget(self) -> None:
        """Discard the choice: the next step checks the model anew."""
        self._choice = None
        self._use(self._routes[0])

    def unchecked(self) -> Routed:
        """Return the same dynamics without the model check."""
        return Routed(
            self._routes,
            check=False,
            concrete=self._concrete,
            observe=self._observe,
            rehearse=self._rehearse,
            imagine=self._imagine,
        )

    def describe(self) -> str:
        """Return which autodiff mode was chosen, and why."""
        if self._choice is None:
            names = ", ".join(route.name for route in self._routes)
            how = "" if self._check else ", the first that raises nothing (check=False)"
            return f"Autodiff mode: to be chosen at the first step from {names}{how}."
        name, where = self._choice.route.name, f"{self.backend.name} ({self.backend.device})"
        return "\n".join([f"Autodiff mode: {name}, on {where}.", *self._choice.story])

    def probe(self, params: Any, state: Any, inputs: Any) -> Routed:
        """Check the model at a point and choose the autodiff mode now.

        Neither the arguments nor any random state is changed.

        Returns:
            The dynamics themselves.

        Raises:
            DerivativeError: If the model is impure, or cannot be differentiated.
            StructureError: If a leaf of the params is not differentiable.
        """
        self._require_floating(params)
        python = random.getstate()
        try:
            with self._observe() as seen:
                point = Moment(params, state, inputs)
                choice = choose(self._routes, point, seen, rehearse=self._rehearse)
        finally:
            random.setstate(python)
        self._adopt(choice)
        return self

    def _settle(self, params: Any, state: Any, inputs: Any) -> None:
        """Choose the autodiff mode if none is chosen and the model is checked."""
        if self._choice is not None or not self._check:
            return
        point = params, state, inputs
        if self._concrete(point):
            self.probe(*point)
        elif self._imagine is not None:
            self._probe_imagined(point, self._imagine)

    def _probe_imagined(
        self, point: Any, imagine: Callable[[Any], AbstractContextManager[Any]]
    ) -> None:
        """Check the model at random numbers; if that fails, any mode that can be traced will do."""
        try:
            with imagine(point) as imagined:
                self.probe(*imagined)
        except UOROError:
            raise
        except Exception as error:
            self.forget()
            _warn(
                "the model cannot be checked while a compiler traces its first step: "
                f"{first_words(error)} Call dynamics.probe(params, state, inputs) first, or pass "
                "check=False."
            )
            return
        assert self._choice is not None
        self._choice = self._choice.told("Checked at random numbers, while a compiler was tracing.")

    def _adopt(self, choice: Choice) -> None:
        self._choice = choice
        self._use(choice.route)
        for warning in choice.warnings:
            _warn(warning)

    def _use(self, route: Route) -> None:
        self._current = route.dynamics
        self._sweep = sweep_of(route.dynamics)

    def _require_floating(self, params: Any) -> None:
        for name, leaf in self.backend.named_leaves(params):
            if not self.backend.parts(leaf):
                place = f"{leaf_name(name)} of the params"
                got = str(getattr(leaf, "dtype", type(leaf).__name__))
                hint = (
                    "Keep only floating leaves in params, and let the transition close over the "
                    "rest, or carry it in the state."
                )
                call = "dynamics.probe(params, …)"
                raise StructureError(mismatch(call, place, "a floating dtype", got, hint))


def _warn(said: str) -> None:
    warnings.warn(f"{CALL}: {said}", DerivativeWarning, stacklevel=2)


def probe(dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any) -> None:
    """Check the model of dynamics, if they can be checked and have not been.

    Args:
        dynamics: The model, unrolled or not.
        params: Parameters at the first step.
        state: Hidden state at the first step, of one stream.
        inputs: Inputs of the first step, of one stream.
    """
    if isinstance(dynamics, Unrolled):
        probe(dynamics.dynamics, params, state, entry(dynamics.backend, inputs, 0))
    elif isinstance(dynamics, Routed):
        dynamics._settle(params, state, inputs)


def _innermost(dynamics: Any) -> Any:
    """Return the dynamics that others are built on."""
    while not isinstance(dynamics, Routed) and hasattr(dynamics, "dynamics"):
        dynamics = dynamics.dynamics
    return dynamics


def is_concrete(dynamics: Dynamics[Any, Any, Any], tree: Any) -> bool:
    """Return whether a tree holds real numbers, and not what a compiler or a map traces."""
    model = _innermost(dynamics)
    return model._concrete(tree) if isinstance(model, Routed) else not model.backend.compiled


@contextmanager
def at_numbers(dynamics: Dynamics[Any, Any, Any], point: Any) -> Iterator[Any]:
    """Yield a point of real numbers: the one given or, where it is traced, one of its shapes."""
    backend, model = dynamics.backend, _innermost(dynamics)
    if is_concrete(model, point):
        yield point
    elif isinstance(model, Routed) and model._imagine is not None:
        with model._imagine(point) as imagined:
            yield imagined
    else:
        zeros = backend.xp.zeros
        yield backend.map(
            lambda leaf: backend.from_host(zeros(tuple(leaf.shape), dtype=leaf.dtype)), point
        )
