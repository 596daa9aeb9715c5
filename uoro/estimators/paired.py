"""What all estimators with pairs share: many streams, late gradients, and a baseline beside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

from uoro.backend import Backend
from uoro.dynamics import Dynamics, Sweep
from uoro.estimators.baseline import Beside
from uoro.estimators.gradient import (
    Late,
    advance_each,
    advance_streams,
    gradient_of_each,
    gradient_of_streams,
)
from uoro.estimators.pair import Moment, PairDtype, loaded, stored
from uoro.prediction import Prediction, Stepping


class Paired(Stepping, ABC):
    """Base of estimators that carry pairs; a subclass is a dataclass with these settings.

    Attributes:
        rank: k, the number of pairs.
        pair_dtype: Storage dtype of the pairs.
        baseline: Kind of the baseline beside the pairs, if any.
        probes: Number of probes of the baseline.
    """

    rank: int
    pair_dtype: PairDtype | None
    baseline: Any
    probes: int

    @property
    def needs_item(self) -> bool:
        """Return whether there is a baseline, which an item shapes."""
        return self.baseline is not None

    @property
    @abstractmethod
    def _averaged(self) -> int:
        """How many pairs are averaged: k, or 1 if their sum is meant."""

    @abstractmethod
    def _advance(self, now: Moment) -> tuple[Any, Sweep[Any, Any]]:
        """Do all of a step but the gradient; return the next pairs, and the sweep."""

    @property
    def _batch(self) -> tuple[int, ...]:
        return () if self.rank == 1 else (self.rank,)

    @property
    def _beside(self) -> Any:
        """Return the same estimator without a baseline, with one beside it."""
        pairs: Any = self
        return Beside(replace(pairs, baseline=None), self.probes)

    def gradient(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
        cotangent: Any,
    ) -> Any:
        """Estimate the gradient of a loss of a step's output, from what the step received."""
        now = dynamics, params, carry, state, inputs, cotangent
        return super().gradient(*now) if self.baseline is None else self._beside.gradient(*now)

    def advance_streams(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, *stacks: Any
    ) -> tuple[Any, Any, Prediction]:
        """Advance B streams; all arguments but the first two are stacks."""
        if self.baseline is not None:
            return advance_each(self._beside, dynamics, params, *stacks)
        now = Moment(dynamics, params, *stacks)
        return advance_streams(self._advance, now, rank=self.rank, averaged=self._averaged)

    def gradient_streams(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
        cotangent: Any,
    ) -> Any:
        """Return the sum of the gradients of B streams; all but the first two are stacks."""
        if self.baseline is not None:
            stacks = carry, state, inputs, cotangent
            return gradient_of_each(self._beside, dynamics, params, *stacks)
        backend = dynamics.backend
        like = backend.vmap(lambda one: backend.zeros(one, batch=self._batch))(state)
        tangent = loaded(backend, carry.tangent, like, self.pair_dtype)
        given = Late(tangent, carry.cotangent, state, inputs, cotangent)
        options = {"rank": self.rank, "averaged": self._averaged}
        return gradient_of_streams(dynamics, params, given, **options)

    def _stored(self, backend: Backend, tree: Any) -> Any:
        return stored(type(self).__name__, backend, tree, self.pair_dtype)
