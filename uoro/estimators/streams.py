"""Parallel streams: shared params; for each stream its own hidden state and its own carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uoro.algebra import mean, select
from uoro.arguments import require_count, require_dynamics, require_stack
from uoro.backend import Backend, Distribution, Tree
from uoro.dynamics import Dynamics, Outcome
from uoro.errors import spelled
from uoro.estimator import (
    Estimate,
    Estimator,
    FormerGuarantee,
    Guarantee,
    Sampler,
    guarantee_of,
    needs_item,
)
from uoro.estimators.auto import Auto, require_estimator
from uoro.estimators.gradient import advance_each, gradient_of_each
from uoro.estimators.paired import Paired
from uoro.prediction import (
    AdvancesStreams,
    Predicting,
    Prediction,
    Stepping,
    SumsStreams,
    predicting,
    require_losses,
)

SPLIT, WHOLE = "split", "whole"
"""How a result lies: with an entry for each stream, or the same in all places."""


@dataclass(frozen=True)
class Streams:
    """Run an estimator on B streams at once, and average their gradients.

    State, inputs, carry and signs are stacks, trees with a leading axis of length B; the params are
    shared. Each stream has its own carry: with one pair for all, the relative variance would be
    about B times as large. The transition is that of one stream; the backend maps it over all.

    A subclass that places streams on several devices overrides `rows`, `_place`, `_average` and
    `_add`.

    Args:
        estimator: Estimator of each stream, or an `uoro.estimators.Auto`.
        count: Number of streams, B.

    Raises:
        SettingError: If ``count`` is not a positive integer, or ``estimator`` is not an estimator.
    """

    estimator: Estimator | Auto
    count: int

    def __post_init__(self) -> None:
        require_count(self._call, "count", self.count)
        if not isinstance(self.estimator, Auto):
            require_estimator(self._call, self.estimator)

    estimand = FormerGuarantee()

    @property
    def guarantee(self) -> Guarantee:
        """Return the guarantee of the estimator, which the average inherits."""
        return guarantee_of(self.estimator)

    @property
    def needs_item(self) -> bool:
        """Return whether the carry of a stream is built by its item."""
        return needs_item(self.estimator)

    @property
    def _each(self) -> Estimator:
        return require_estimator(self._call, self.estimator)

    @property
    def rows(self) -> range:
        """Return the numbers of the streams that run in this process."""
        return range(self.count)

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> Any:
        """Return a stack of carries to start from, one for each row.

        Args:
            dynamics: Model of one stream.
            params: Parameters, shared.
            state: A stack of states.
            inputs: A stack of items, for estimators that need one.

        Raises:
            SettingError: If ``dynamics`` is not a `Dynamics`.
            StructureError: If a stack does not have one entry for each row.
        """
        require_dynamics(f"{type(self).__name__}.init(dynamics, …)", dynamics)
        self._require_stack(dynamics.backend, state, "init(state)")
        self._require_stack(dynamics.backend, inputs, "init(inputs)")

        def start(params: Any, *stacks: Any) -> Any:
            def one(state: Any, inputs: Any = None) -> Any:
                return self._each.init(dynamics, params, state, inputs=inputs)

            return dynamics.backend.vmap(one)(*stacks)

        stacks = (state,) if inputs is None else (state, inputs)
        return self._place(start, SPLIT)(params, *stacks)

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw independent signs for each stream."""

        def per_stream(
            like: Tree, distribution: Distribution, batch: tuple[int, ...] = (), stacked: int = 0
        ) -> Tree:
            return sampler(like, distribution, batch, stacked + 1)

        return self._each.draw(per_stream, state)

    def step(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
        signs: Any,
    ) -> tuple[Any, Any, Estimate]:
        """Advance every stream.

        Returns:
            The stacks of next carries and next states, and one estimate: mean loss, mean gradient,
            and the stack of aux.

        Raises:
            StructureError: If a stack does not have one entry for each row.
        """
        self._require_stack(dynamics.backend, state, "step(state)")
        self._require_stack(dynamics.backend, inputs, "step(inputs)")

        def advance(params: Any, *stacks: Any) -> Any:
            carry, state, here = self._step_here(dynamics, params, *stacks)
            loss, gradient = self._average((here.loss, here.gradient))
            return carry, state, Estimate(loss, gradient, here.aux)

        whole: Any = WHOLE
        results = SPLIT, SPLIT, Estimate(whole, whole, SPLIT)
        stepped: tuple[Any, Any, Estimate]
        stepped = self._place(advance, results)(params, carry, state, inputs, signs)
        return stepped

    def advance(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, *stacks: Any
    ) -> tuple[Any, Any, Prediction]:
        """Advance every stream; the loss, of the stack of all outputs, may come later.

        Args:
            dynamics: Model of one stream.
            params: Parameters, shared.
            stacks: Carries, states, items and signs, as `step` takes them.

        Returns:
            The stacks of next carries and next states, and the stack of outputs with the gradient
            of any loss of it: cotangents are stacks, and gradients add up over streams.

        Raises:
            StructureError: If a stack does not have one entry for each row, or the estimator
                cannot predict.
        """
        backend = dynamics.backend
        for tree, what in zip(stacks[1:3], ("state", "inputs"), strict=True):
            self._require_stack(backend, tree, f"step({what})")
        carry, state, here = self._advance_here(dynamics, params, *stacks)
        outcome = Outcome(state, here.output, here.aux)
        prediction = Prediction(backend, outcome, lambda given: self._add(here.gradient(given)))
        return carry, state, prediction

    def gradient(self, dynamics: Dynamics[Any, Any, Any], params: Any, *stacks: Any) -> Any:
        """Estimate the gradient of a loss of all outputs, from what the step received.

        Args:
            dynamics: Model of one stream.
            params: Parameters, shared.
            stacks: Carries, states and items before the step, and the cotangents of its outputs.
        """

        def pull(params: Any, *stacks: Any) -> Any:
            return self._add(self._gradient_here(dynamics, params, *stacks))

        return self._place(pull, WHOLE)(params, *stacks)

    def reset(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        mask: Any,
        fresh: Any,
        *,
        inputs: Any = None,
    ) -> tuple[Any, Any]:
        """Restart some streams, with a new state and the initial carry.

        Args:
            dynamics: Model of one stream.
            params: Parameters, shared.
            carry: A stack of carries.
            state: A stack of states.
            mask: An array of booleans, true where a stream restarts.
            fresh: A stack of states to restart from.
            inputs: A stack of items, for estimators that need one.

        Returns:
            The carries and the states; those of the other streams are unchanged.

        Raises:
            StructureError: If a stack does not have one entry for each row.
        """
        backend = dynamics.backend
        mask = backend.from_host(mask)
        self._require_stack(backend, mask, "reset(mask)")
        self._require_stack(backend, fresh, "reset(fresh)")
        anew = self.init(dynamics, params, fresh, inputs=inputs)
        return select(backend, mask, anew, carry), select(backend, mask, fresh, state)

    def _place(self, function: Callable[..., Any], results: Any) -> Callable[..., Any]:
        """Run a function of the params and of stacks where the streams are.

        Args:
            function: Function of the rows that are in one place.
            results: Tree of `SPLIT` for a result with an entry for each row, and `WHOLE`.
        """
        return function

    def _average(self, tree: Any) -> Any:
        """Average a tree over the places."""
        return tree

    def _add(self, tree: Any) -> Any:
        """Add up a tree over the places."""
        return tree

    def _step_here(self, dynamics: Any, params: Any, *stacks: Any) -> tuple[Any, Any, Estimate]:
        """Advance the streams of one place, and average over them."""
        backend, estimator = dynamics.backend, self._each
        if isinstance(estimator, Predicting):
            carry, state, made = self._advance_here(dynamics, params, *stacks)
            losses = require_losses(backend, made.output)
            gradient = made.gradient(backend.xp.zeros_like(losses) + 1.0 / len(losses))
            return carry, state, Estimate(losses.mean(), gradient, made.aux)
        step = backend.vmap(lambda *one: estimator.step(dynamics, params, *one))
        carry, state, each = step(*stacks)
        return carry, state, Estimate(each.loss.mean(), mean(backend, each.gradient), each.aux)

    def _advance_here(
        self, dynamics: Any, params: Any, *stacks: Any
    ) -> tuple[Any, Any, Prediction]:
        """Advance the streams of one place."""
        estimator = predicting(self._each, f"{self._call}.advance")
        if isinstance(estimator, AdvancesStreams):
            return estimator.advance_streams(dynamics, params, *stacks)

        return advance_each(estimator, dynamics, params, *stacks)

    def _gradient_here(self, dynamics: Any, params: Any, *stacks: Any) -> Any:
        """Add up the gradients of the streams of one place."""
        estimator = predicting(self._each, f"{self._call}.gradient")
        own = type(estimator).gradient in (Stepping.gradient, Paired.gradient)
        if own and isinstance(estimator, SumsStreams):
            return estimator.gradient_streams(dynamics, params, *stacks)
        return gradient_of_each(estimator, dynamics, params, *stacks)

    @property
    def _call(self) -> str:
        return f"{type(self).__name__}(count={spelled(self.count)})"

    def _require_stack(self, backend: Backend, tree: Any, what: str) -> None:
        require_stack(backend, tree, len(self.rows), f"{self._call}.{what}")
