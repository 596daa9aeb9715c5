"""Parallel streams: shared params; for each stream its own hidden state and its own carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from uoro.algebra import mean, select, total
from uoro.arguments import require_count, require_dynamics, require_estimator, require_stack
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
)
from uoro.prediction import (
    AdvancesStreams,
    Predicting,
    Prediction,
    predicting,
    require_losses,
)


@runtime_checkable
class ParallelEstimator(Estimator, Protocol):
    """An estimator that runs another on several streams at once, on one device or on many.

    Laws: `draw` and `step` draw and compute, for the streams in `rows`, what those of
    ``Streams(estimator, count)`` do; loss and gradient are the means over all `count` streams.

    Attributes:
        estimator: Estimator of each stream.
        count: Number of streams in all.
        rows: Numbers of the streams that run here. All stacks have one row for each.
    """

    @property
    def estimator(self) -> Estimator: ...  # noqa: D102
    @property
    def count(self) -> int: ...  # noqa: D102
    @property
    def rows(self) -> range: ...  # noqa: D102

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
        """Restart some streams; the arguments are those of `Streams.reset`."""
        ...


@dataclass(frozen=True)
class Streams:
    """Run an estimator on B streams at once, and average their gradients.

    State, inputs, carry and signs are stacks, trees with a leading axis of length B; the params are
    shared. Each stream has its own carry: with one pair for all, the relative variance would be
    about B times as large. The transition is that of one stream; the backend maps it over all.

    Args:
        estimator: Estimator of each stream.
        count: Number of streams, B.

    Raises:
        SettingError: If ``count`` is not a positive integer, or ``estimator`` is not an estimator.
    """

    estimator: Estimator
    count: int

    def __post_init__(self) -> None:
        call = f"Streams(count={spelled(self.count)})"
        require_count(call, "count", self.count)
        require_estimator(call, self.estimator)

    estimand = FormerGuarantee()

    @property
    def guarantee(self) -> Guarantee:
        """Return the guarantee of the estimator, which the average inherits."""
        return guarantee_of(self.estimator)

    @property
    def rows(self) -> range:
        """Return the numbers of all streams."""
        return range(self.count)

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> Any:
        """Return a stack of B carries to start from.

        Args:
            dynamics: Model of one stream.
            params: Parameters, shared.
            state: A stack of B states.
            inputs: A stack of B items, for estimators that need one.

        Raises:
            SettingError: If ``dynamics`` is not a `Dynamics`.
            StructureError: If a stack does not have B rows.
        """
        require_dynamics("Streams.init(dynamics, …)", dynamics)
        self._require_stack(dynamics.backend, state, "init(state)")
        if inputs is None:
            return dynamics.backend.vmap(lambda s: self.estimator.init(dynamics, params, s))(state)
        self._require_stack(dynamics.backend, inputs, "init(inputs)")
        return dynamics.backend.vmap(
            lambda s, i: self.estimator.init(dynamics, params, s, inputs=i)
        )(state, inputs)

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw independent signs for each stream."""

        def per_stream(
            like: Tree, distribution: Distribution, batch: tuple[int, ...] = (), stacked: int = 0
        ) -> Tree:
            return sampler(like, distribution, batch, stacked + 1)

        return self.estimator.draw(per_stream, state)

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
            StructureError: If a stack does not have B rows.
        """
        backend = dynamics.backend
        if not isinstance(self.estimator, Predicting):
            self._require_stacks(backend, state, inputs)

            def one(carry: Any, state: Any, inputs: Any, signs: Any) -> Any:
                return self.estimator.step(dynamics, params, carry, state, inputs, signs)

            carry, state, each = backend.vmap(one)(carry, state, inputs, signs)
            average = Estimate(each.loss.mean(), mean(backend, each.gradient), each.aux)
            return carry, state, average
        carry, state, prediction = self.advance(dynamics, params, carry, state, inputs, signs)
        losses = require_losses(backend, prediction.output)
        gradient = prediction.gradient(backend.xp.zeros_like(losses) + 1.0 / self.count)
        return carry, state, Estimate(losses.mean(), gradient, prediction.aux)

    def advance(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
        signs: Any,
    ) -> tuple[Any, Any, Prediction]:
        """Advance every stream; the loss, of the stack of all outputs, may come later.

        Returns:
            The stacks of next carries and next states, and the stack of outputs with the gradient
            of any loss of it: cotangents are stacks, and gradients add up over streams.

        Raises:
            StructureError: If a stack does not have B rows, or the estimator cannot predict.
        """
        backend = dynamics.backend
        self._require_stacks(backend, state, inputs)
        estimator = predicting(self.estimator, f"Streams(count={self.count}).advance")
        if isinstance(estimator, AdvancesStreams):
            return estimator.advance_streams(dynamics, params, carry, state, inputs, signs)

        def one(carry: Any, state: Any, inputs: Any, signs: Any) -> Any:
            *after, made = estimator.advance(dynamics, params, carry, state, inputs, signs)
            return *after, (made.output, made.aux)

        after, next_state, made = backend.vmap(one)(carry, state, inputs, signs)
        prediction = Prediction(
            backend,
            Outcome(next_state, *made),
            lambda cotangent: self.gradient(dynamics, params, carry, state, inputs, cotangent),
        )
        return after, next_state, prediction

    def gradient(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
        cotangent: Any,
    ) -> Any:
        """Estimate the gradient of a loss of all outputs, from what the step received."""
        estimator = predicting(self.estimator, f"Streams(count={self.count}).gradient")

        def one(carry: Any, state: Any, inputs: Any, cotangent: Any) -> Any:
            return estimator.gradient(dynamics, params, carry, state, inputs, cotangent)

        backend = dynamics.backend
        return total(backend, backend.vmap(one)(carry, state, inputs, cotangent))

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
            carry: A stack of B carries.
            state: A stack of B states.
            mask: An array of B booleans, true where a stream restarts.
            fresh: A stack of B states to restart from.
            inputs: A stack of B items, for estimators that need one.

        Returns:
            The carries and the states; those of the other streams are unchanged.

        Raises:
            StructureError: If a stack does not have B rows.
        """
        backend = dynamics.backend
        mask = backend.from_host(mask)
        self._require_stack(backend, mask, "reset(mask)")
        self._require_stack(backend, fresh, "reset(fresh)")
        anew = self.init(dynamics, params, fresh, inputs=inputs)
        return select(backend, mask, anew, carry), select(backend, mask, fresh, state)

    def _require_stacks(self, backend: Backend, state: Any, inputs: Any) -> None:
        self._require_stack(backend, state, "step(state)")
        self._require_stack(backend, inputs, "step(inputs)")

    def _require_stack(self, backend: Backend, tree: Any, what: str) -> None:
        require_stack(backend, tree, self.count, f"Streams(count={self.count}).{what}")
