"""The protocol of an online gradient estimator, and what it returns."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from uoro.backend import Distribution, Scalar, Tree
from uoro.dynamics import Dynamics

Guarantee: TypeAlias = Literal["exact", "unbiased", "biased"]
"""What an estimator claims of its gradient, for parameters held at a given sequence of values:
it is that of RTRL; its expectation is that of RTRL; or neither."""


class Estimate(NamedTuple):
    """What an estimator gives at one step.

    Attributes:
        loss: The loss of this step; a scalar.
        gradient: Shaped like the params; g̃ in the paper.
        aux: What the transition returned besides, if anything.
    """

    loss: Scalar
    gradient: Any
    aux: Any = None


class Sampler(Protocol):
    """Draws one random tree; see `uoro.backend.Backend.random`."""

    def __call__(
        self,
        like: Tree,
        distribution: Distribution,
        batch: tuple[int, ...] = (),
        stacked: int = 0,
        /,
    ) -> Tree:
        """Draw from ``distribution``; `Backend.random` says what the arguments mean."""
        ...


class Estimator(Protocol):
    """A pure online estimator of the gradient of the loss with respect to the params.

    Laws: `init` and `step` are functions of their arguments, bit for bit; no argument is
    changed; the memory keeps its structure, shapes and dtypes from step to step; the estimator
    is what `estimand` declares.

    The memory and the noise are trees whose shape is the estimator's own affair.

    Attributes:
        estimand: What is claimed of the gradient.
    """

    @property
    def guarantee(self) -> Guarantee: ...  # noqa: D102

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> Any:
        """Make the memory to start from at ``state``.

        Args:
            dynamics: The model.
            params: Its parameters.
            state: The state before the first step.
            inputs: An item of the stream, for its shape; only estimators that store items
                need one.
        """
        ...

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw the noise of one step; ``None`` for an estimator without any."""
        ...

    def step(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
        signs: Any,
    ) -> tuple[Any, Any, Estimate]:
        """Advance by one step.

        Returns:
            The next memory, the next state, and the estimate for this step.
        """
        ...
