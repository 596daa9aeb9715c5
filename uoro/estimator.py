"""The protocol of an online gradient estimator, and what it returns."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, cast, get_args, runtime_checkable

from uoro.backend import Distribution, Scalar, Tree
from uoro.deprecation import renamed
from uoro.dynamics import Dynamics
from uoro.errors import SettingError, spelled

Guarantee: TypeAlias = Literal["exact", "unbiased", "biased"]
"""What an estimator guarantees of its gradient, for a given sequence of parameters: that it equals
RTRL's, that its expectation does, or neither."""


class Estimate(NamedTuple):
    """Result of one step of an estimator.

    Attributes:
        loss: Loss of this step, a scalar.
        gradient: Shaped like the params; g̃ in the paper.
        aux: Third value that the transition returned, if any.
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
        """Draw from ``distribution``; the arguments are those of `Backend.random`."""
        ...


class Estimator(Protocol):
    """A pure online estimator of the gradient of the loss with respect to the params.

    Laws: `init` and `step` are functions of their arguments, bit for bit; no argument is
    changed; the carry keeps its structure, shapes and dtypes from step to step; the estimator
    keeps its `guarantee`.

    The *carry* is what an estimator keeps from step to step. Carry and signs are trees of any
    shape.

    Attributes:
        guarantee: What holds of the gradient.
    """

    @property
    def guarantee(self) -> Guarantee: ...  # noqa: D102

    def init(
        self, dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, *, inputs: Any = None
    ) -> Any:
        """Return the carry to start from at ``state``.

        Args:
            dynamics: The model.
            params: Parameters, a tree of arrays.
            state: Hidden state before the first step, a tree of arrays.
            inputs: One item of the stream, for its shape. Only estimators that store items need
                one.
        """
        ...

    def draw(self, sampler: Sampler, state: Any) -> Any:
        """Draw the signs of one step; ``None`` for an estimator without randomness."""
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
            The next carry, the next state, and the estimate for this step.
        """
        ...


@runtime_checkable
class Windowed(Protocol):
    """An estimator whose step consumes a window, a stack of `span` items.

    Law: `Estimator.step` takes a stack of `span` items, each as the dynamics take one.

    Attributes:
        span: Number of items of a step.
    """

    @property
    def span(self) -> int: ...  # noqa: D102


@runtime_checkable
class NeedsItem(Protocol):
    """An estimator that says whether an item of the stream shapes its carry.

    Law: `Estimator.init` raises a `SettingError` without ``inputs`` where one is needed, and looks
    at none elsewhere. An estimator without this attribute needs none.

    Attributes:
        needs_item: Whether `Estimator.init` needs an item.
    """

    @property
    def needs_item(self) -> bool: ...  # noqa: D102


def needs_item(estimator: Any) -> bool:
    """Return whether the carry of an estimator is built by an item of the stream."""
    return isinstance(estimator, NeedsItem) and estimator.needs_item


@runtime_checkable
class ParallelEstimator(Estimator, Protocol):
    """An estimator that runs another on several streams at once, on one device or on many.

    Laws: `draw` and `step` draw and compute, for the streams in `rows`, what those of
    ``Streams(estimator, count)`` do; loss and gradient are the means over all `count` streams.

    Attributes:
        estimator: Estimator of each stream, or an `uoro.estimators.Auto`.
        count: Number of streams in all.
        rows: Numbers of the streams that run here. All stacks have one row for each.
    """

    @property
    def estimator(self) -> Any: ...  # noqa: D102
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


class FormerGuarantee:
    """The attribute ``estimand`` of an estimator: its `guarantee`, under the former name."""

    def __get__(self, estimator: Any, owner: type) -> Any:
        """Return the guarantee, with a warning."""
        if estimator is None:
            return self
        renamed(f"{owner.__name__}.estimand", f"{owner.__name__}.guarantee")
        return estimator.guarantee


def guarantee_of(estimator: Any) -> Guarantee:
    """Return the guarantee of an estimator, if need be from the former ``estimand``.

    Raises:
        SettingError: If the estimator has neither, or another than the three there are.
    """
    name = type(estimator).__name__
    found = getattr(estimator, "guarantee", None)
    if found is None and hasattr(estimator, "estimand"):
        renamed(f"{name}.estimand", f"{name}.guarantee")
        found = estimator.estimand
    if found not in get_args(Guarantee):
        raise SettingError(
            f"{name}.guarantee: expected one of 'exact', 'unbiased', 'biased', "
            f"got {spelled(found)}. Declare what holds of the gradient."
        )
    return cast("Guarantee", found)
