"""The estimator that fits a model, chosen when its first item is seen: ``estimator="auto"``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from uoro.algebra import entry
from uoro.dynamics import Dynamics
from uoro.errors import SettingError
from uoro.estimator import Estimator, ParallelEstimator
from uoro.estimators.auto import Auto, require_estimator
from uoro.estimators.recommending import facts_of, recommended
from uoro.estimators.spelling import parse_estimator


class Chosen(NamedTuple):
    """An estimator, and why it was chosen.

    Attributes:
        estimator: The estimator.
        spelling: The estimator, as on the command line.
        reason: Reason, in words.
    """

    estimator: Estimator
    spelling: str
    reason: str

    def describe(self) -> str:
        """Return what was chosen, why, and how to choose oneself, in one line."""
        return (
            f"{self.estimator!r}, chosen by 'auto'. {self.reason} To choose yourself, pass an "
            "estimator, such as UORO(); uoro.suggest measures them on your stream."
        )


def choose(dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any) -> Chosen:
    """Choose the estimator that fits a model, by its structure and its sizes.

    The rule is that of `uoro.estimators.recommending.recommended` without measurements. Costs a
    few JVPs and pullbacks, once for a model and its shapes; while a compiler traces, at random
    numbers of the same shapes.

    Args:
        dynamics: The model.
        params: Parameters.
        state: Hidden state of one stream.
        inputs: One item of the stream.

    Raises:
        DerivativeError: If no derivative of the model is finite.
    """
    found = recommended(facts_of(dynamics, params, state, inputs))
    assert found.spelling is not None
    return Chosen(parse_estimator(found.spelling).estimator, found.spelling, found.reason)


def is_auto(estimator: Any) -> bool:
    """Return whether an estimator, or that of each of several streams, is still to be chosen."""
    inner = estimator.estimator if isinstance(estimator, ParallelEstimator) else estimator
    return isinstance(inner, Auto)


def chosen_for(
    estimator: Any, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, inputs: Any
) -> tuple[Any, Chosen]:
    """Return the estimator in the place of an `Auto`, and why it was chosen.

    Args:
        estimator: An `Auto`, or several streams of it; then state and inputs are stacks.
        dynamics: The model.
        params: Parameters.
        state: Hidden state.
        inputs: One item of the stream.
    """
    if isinstance(estimator, ParallelEstimator):
        row = entry(dynamics.backend, (state, inputs), 0)
        chosen = choose(dynamics, params, *row)
        several: Any = estimator
        return replace(several, estimator=chosen.estimator), chosen
    chosen = choose(dynamics, params, state, inputs)
    return chosen.estimator, chosen


class Selection:
    """The estimator of a run: the one given, or the one that its first item decides, once.

    Args:
        estimator: An estimator; an `Auto`, or several streams of it.

    Attributes:
        estimator: The estimator; after `settle` the one in the place of an `Auto`.
        chosen: What was chosen, if anything was.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self.chosen: Chosen | None = None

    def settle(self, *at: Any) -> None:
        """Choose, if nothing was chosen yet; the arguments are the further ones of `chosen_for`."""
        if is_auto(self.estimator):
            self.estimator, self.chosen = chosen_for(self.estimator, *at)


def as_estimator(call: str, given: Any) -> Any:
    """Return an estimator that takes one item a step, given as such or by its name.

    Args:
        call: The call, as the user wrote it.
        given: An estimator; an `Auto`; ``"auto"``, or another name as on the command line;
            ``None`` for ``"auto"``.

    Returns:
        The estimator, or an `Auto`.

    Raises:
        UnknownNameError: If there is no estimator of that name.
        SettingError: If it is no estimator, or takes several items a step.
    """
    if given is None or isinstance(given, Auto):
        return Auto()
    if not isinstance(given, str):
        return require_estimator(call, given)
    choice = parse_estimator(given)
    if choice.span != 1:
        raise SettingError(
            f"{call}: expected an estimator that takes one item a step, got {given!r}. Try "
            "'tbptt:16,rolling', or another name without memory."
        )
    return choice.estimator


def described(dynamics: Any, estimator: Any, *chosen: Chosen | None) -> str:
    """Return how a model is differentiated, and by which estimator, chosen for what reason."""
    said = [each.describe() for each in chosen if each] or [f"{estimator!r}."]
    return "\n".join([dynamics.describe(), *(f"Estimator: {each}" for each in said)])
