"""Several steps of a model as one: what memory-T and truncated BPTT are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

from uoro.algebra import leaf_name
from uoro.backend import Backend, Scalar
from uoro.dynamics import Dynamics, Outcome, Params, Pullback, State
from uoro.errors import StructureError, require_count


@dataclass(frozen=True)
class Unrolled(Generic[Params, State]):
    """T steps of ``dynamics`` as one `Dynamics`; make it with `unroll`.

    Its inputs are a stack of T items, its loss the sum of the T losses, its aux their stack.
    Reverse mode stores the T states and recomputes each step on the way back, so that memory
    is T states and not T copies of everything a step computes.
    """

    dynamics: Dynamics[Params, State, Any]
    length: int

    @property
    def backend(self) -> Backend:
        """The backend of the step."""
        return self.dynamics.backend

    @property
    def span(self) -> int:
        """T items of the stream for each that the step consumes."""
        return self.length * self.dynamics.span

    def _require_length(self, inputs: Any) -> None:
        leaves = self.backend.named_leaves(inputs)
        if not leaves:
            raise StructureError(
                f"unroll(dynamics, {self.length}): the inputs hold no array. Stack {self.length} "
                "items of the stream; if the model ignores them, any numbers will do."
            )
        for name, leaf in leaves:
            if not leaf.shape or leaf.shape[0] != self.length:
                raise StructureError(
                    f"unroll(dynamics, {self.length}): {leaf_name(name)} of the inputs has shape "
                    f"{tuple(leaf.shape)}, wanted is a leading axis of {self.length}. "
                    f"Stack {self.length} items of the stream."
                )

    def forward(self, params: Params, state: State, inputs: Any) -> Outcome[State]:
        """Take T steps."""
        self._require_length(inputs)

        def body(state: State, item: Any) -> tuple[State, Any]:
            outcome = self.dynamics.forward(params, state, item)
            return outcome.next_state, (outcome.loss, outcome.aux)

        last, (losses, aux) = self.backend.scan(body, state, inputs)
        return Outcome(last, losses.sum(), aux)

    def jvp(
        self, params: Params, state: State, inputs: Any, state_tangent: State
    ) -> tuple[State, Scalar]:
        """Push a tangent through T steps."""
        self._require_length(inputs)

        def body(carry: tuple[State, State], item: Any) -> tuple[tuple[State, State], Scalar]:
            state, tangent = carry
            pushed, rate = self.dynamics.jvp(params, state, item, tangent)
            return (self.dynamics.forward(params, state, item).next_state, pushed), rate

        (_, tangent), rates = self.backend.scan(body, (state, state_tangent), inputs)
        return tangent, rates.sum()

    def vjp(
        self, params: Params, state: State, inputs: Any
    ) -> tuple[Outcome[State], Pullback[Params, State]]:
        """Take T steps, and pull cotangents back through them in reverse."""
        self._require_length(inputs)
        backend = self.backend

        def record(state: State, item: Any) -> tuple[State, Any]:
            outcome = self.dynamics.forward(params, state, item)
            return outcome.next_state, (state, outcome.loss, outcome.aux)

        last, (states, losses, aux) = backend.scan(record, state, inputs)

        def pullback(
            state_cotangent: State | None, loss_cotangent: Scalar | float | None
        ) -> tuple[Params, State]:
            def body(
                carry: tuple[Params, State], step: tuple[State, Any]
            ) -> tuple[tuple[Params, State], None]:
                total, cotangent = carry
                _, pull = self.dynamics.vjp(params, *step)
                pulled, cotangent = pull(cotangent, loss_cotangent)
                return (backend.combine((1.0, total), (1.0, pulled)), cotangent), None

            start = backend.zeros(state) if state_cotangent is None else state_cotangent
            (total, cotangent), _ = backend.scan(
                body, (backend.zeros(params), start), (states, inputs), reverse=True
            )
            return total, cotangent

        return Outcome(last, losses.sum(), aux), pullback


def unroll(dynamics: Dynamics[Params, State, Any], length: int) -> Unrolled[Params, State]:
    """Make one `Dynamics` of ``length`` steps of another.

    With `UORO` this is memory-T (section 3.4 of the paper); with `Truncated` it is chunked
    truncated BPTT.

    Args:
        dynamics: The step.
        length: T, how many steps make one.

    Raises:
        SettingError: If the length is not a positive integer.
    """
    return Unrolled(dynamics, require_count(f"unroll(dynamics, {length!r})", "length", length))
