"""The output of a step, and the gradient of any loss of it, whenever that loss is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from uoro.algebra import entry
from uoro.arguments import is_loss, mismatch, require_like, shape_of
from uoro.backend import Backend
from uoro.dynamics import Dynamics, Outcome
from uoro.errors import StructureError, spelled
from uoro.estimator import Estimate, Estimator


def require_loss(output: Any) -> Any:
    """Return an output that is a loss.

    Raises:
        StructureError: If it is another output.
    """
    if not is_loss(output):
        shape = shape_of(output)
        raise StructureError(
            mismatch(
                "transition(params, state, inputs)",
                "loss",
                "a scalar array of the framework",
                spelled(output) if shape is None else f"shape {shape}",
                "Sum or average the loss; for several streams at once, see uoro.Streams. For an "
                "output that is no loss, use advance in place of step.",
            )
        )
    return output


def require_losses(backend: Backend, outputs: Any) -> Any:
    """Return a stack of outputs that are losses, a vector with one for each stream.

    Raises:
        StructureError: If they are other outputs.
    """
    if len(shape_of(outputs) or ()) != 1:
        require_loss(entry(backend, outputs, 0))
    return outputs


class Prediction:
    """What a step returns before its loss is known.

    With the pair (s̃, θ̃) that the step arrived with, a cotangent ō of the output o is all that the
    gradient still needs: ``g̃ = <ō, ∂o/∂s · s̃> θ̃ + (∂o/∂θ)ᵀ ō``. It is taken at the params of the
    step, however late, and keeps alive what the step computed.

    Args:
        backend: The backend of all trees.
        outcome: Outcome of the step.
        pull: Returns the gradient, shaped like the params, from a cotangent of the output.

    Attributes:
        output: Output of the step; of a transition that returns a loss, the loss.
        aux: Third value that the transition returned, if any.
        pull: `gradient`, of a cotangent that is known to be shaped like the output.
    """

    def __init__(self, backend: Backend, outcome: Outcome[Any], pull: Callable[[Any], Any]) -> None:
        self.output = outcome.output
        self.aux = outcome.aux
        self.pull, self._backend = pull, backend

    def gradient(self, cotangent: Any) -> Any:
        """Estimate the gradient of a loss of the output.

        It may be asked for late, several times, or never. Cost: one VJP of the step.

        Args:
            cotangent: ∂ℓ/∂o, a tangent of the output; of a loss, a number.

        Returns:
            The gradient, shaped like the params.

        Raises:
            StructureError: If the cotangent is not shaped like the output.
        """
        if not is_loss(self.output):
            require_like(
                self._backend,
                cotangent,
                self.output,
                call="Prediction.gradient(cotangent)",
                tangent=True,
                hint="Pass the derivative of the loss by the output, leaf by leaf.",
            )
        elif shape_of(cotangent) not in (None, ()):
            call, got = "Prediction.gradient(cotangent)", f"shape {shape_of(cotangent)}"
            raise StructureError(mismatch(call, "", "a number, as the output is a loss", got))
        return self.pull(cotangent)

    def estimate(self) -> Estimate:
        """Return the output as the loss of the step, with its gradient.

        Raises:
            StructureError: If the output is no loss.
        """
        require_loss(self.output)
        return Estimate(self.output, self.pull(1.0), self.aux)


@runtime_checkable
class Predicting(Protocol):
    """An estimator that takes a step before the loss is known.

    Laws: `Estimator.step` is `advance`, with the gradient of the cotangent 1. `gradient` returns
    what the prediction's own gradient does, from the arguments of the step.
    """

    def advance(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
        signs: Any,
    ) -> tuple[Any, Any, Prediction]:
        """Advance by one step, whose output may be any tree.

        Returns:
            The next carry, the next state, and the prediction.
        """
        ...

    def gradient(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
        cotangent: Any,
    ) -> Any:
        """Estimate the gradient of a loss of a step's output, from what the step received.

        The arguments are those of `advance`, and a cotangent of the output. The step is run again.
        """
        ...


@runtime_checkable
class AdvancesStreams(Predicting, Protocol):
    """An estimator that advances several streams at once, faster than one after the other.

    Law: on stacks of B, `advance_streams` returns the carries, states and outputs of B calls of
    `Predicting.advance`, and its gradient is the sum of theirs, up to the order of sums.
    """

    def advance_streams(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
        signs: Any,
    ) -> tuple[Any, Any, Prediction]:
        """Advance B streams; all arguments but ``dynamics`` and ``params`` are stacks of B."""
        ...


@runtime_checkable
class SumsStreams(Predicting, Protocol):
    """An estimator that sums the late gradients of several streams, without forming each.

    Law: on stacks of B, `gradient_streams` returns the sum of B calls of `Predicting.gradient`, up
    to the order of sums. A subclass that has another `gradient` is asked for that of each stream.
    """

    def gradient_streams(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
        cotangent: Any,
    ) -> Any:
        """Sum the gradients of B streams; all arguments but the first two are stacks of B."""
        ...


class Stepping:
    """Base of estimators: `step` and `gradient`, from `advance` and `through`."""

    def step(
        self,
        dynamics: Dynamics[Any, Any, Any],
        params: Any,
        carry: Any,
        state: Any,
        inputs: Any,
        signs: Any,
    ) -> tuple[Any, Any, Estimate]:
        """Advance by one step, and estimate the gradient of its loss.

        Returns:
            The next carry, the next state, and loss and gradient.

        Raises:
            StructureError: If the output of the transition is no loss, or as `advance`.
        """
        estimator: Any = self
        advance = estimator.advance
        carry, state, prediction = advance(dynamics, params, carry, state, inputs, signs)
        return carry, state, prediction.estimate()

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
        estimator: Any = self
        _, pullback = dynamics.vjp(params, state, inputs)
        immediate, state_gradient = pullback(None, cotangent)
        carried = estimator.through(dynamics, params, carry, state_gradient)
        return dynamics.backend.combine((1.0, immediate), (1.0, carried))


def predicting(estimator: Estimator, call: str) -> Any:
    """Return an estimator that can take a step before its loss is known.

    Raises:
        StructureError: If it cannot.
    """
    if not isinstance(estimator, Predicting):
        expected, hint = "an estimator with advance()", "All of uoro's have it: try uoro.UORO()."
        raise StructureError(mismatch(call, "estimator", expected, spelled(estimator), hint))
    return estimator
