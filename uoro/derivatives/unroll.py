"""Several steps of a model as one step: the basis of memory-T UORO and of truncated BPTT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

from uoro.arguments import leaf_name, mismatch, require_count, require_dynamics, require_length
from uoro.backend import Backend, Scalar
from uoro.dynamics import Dynamics, Each, Outcome, Params, Pullback, State, Sweep
from uoro.errors import StructureError, spelled


@dataclass(frozen=True)
class Unrolled(Generic[Params, State]):
    """T steps of a model as one `Dynamics`; build it with `unroll`.

    Its inputs are a stack of T items, its loss is the sum of the T losses, its aux their stack.
    The VJP stores T hidden states and recomputes each step on the way back, so that it needs the
    memory of T states, and one more forward pass.
    """

    dynamics: Dynamics[Params, State, Any]
    length: int

    @property
    def backend(self) -> Backend:
        """The backend of the step."""
        return self.dynamics.backend

    @property
    def span(self) -> int:
        """Number of stream items that one application consumes: T times that of the step."""
        return self.length * self.dynamics.span

    def _require_length(self, inputs: Any) -> None:
        call, count = f"unroll(dynamics, {self.length})", f"{self.length} items of the stream"
        leaves = self.backend.named_leaves(inputs)
        if not leaves:
            hint = "For a model that ignores its inputs, any array of that length will do."
            expected, got = f"a stack of {count}", "no array"
            raise StructureError(mismatch(call, "inputs", expected, got, hint))
        for name, leaf in leaves:
            place = f"{leaf_name(name)} of the inputs"
            require_length(leaf, self.length, call, place, f"Stack {count}.")

    def forward(self, params: Params, state: State, inputs: Any) -> Outcome[State]:
        """Compute T steps."""
        self._require_length(inputs)

        def body(state: State, item: Any) -> tuple[State, Any]:
            outcome = self.dynamics.forward(params, state, item)
            return outcome.next_state, (outcome.loss, outcome.aux)

        last, (losses, aux) = self.backend.scan(body, state, inputs)
        return Outcome(last, losses.sum(), aux)

    def jvp(
        self, params: Params, state: State, inputs: Any, state_tangent: State
    ) -> tuple[State, Scalar]:
        """Compute the Jacobian-vector product of T steps in the state."""
        self._require_length(inputs)

        def body(carry: tuple[State, State], item: Any) -> tuple[tuple[State, State], Scalar]:
            state, tangent = carry
            pushed, loss_tangent = self.dynamics.jvp(params, state, item, tangent)
            return (self.dynamics.forward(params, state, item).next_state, pushed), loss_tangent

        (_, tangent), loss_tangents = self.backend.scan(body, (state, state_tangent), inputs)
        return tangent, loss_tangents.sum()

    def vjp(
        self, params: Params, state: State, inputs: Any
    ) -> tuple[Outcome[State], Pullback[Params, State]]:
        """Compute T steps, and their pullback, which runs through them in reverse."""
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

    def sweep(
        self,
        params: Params,
        state: State,
        inputs: Any,
        tangent: State,
        signs: State,
        each: Each,
    ) -> Sweep[State, Params]:
        """Compute all derivatives of a UORO step in one loop forth and one back.

        The loop forth shares its forward passes with the JVPs; the loop back shares them between
        the gradient and the signs.
        """
        self._require_length(inputs)
        backend, dynamics = self.backend, self.dynamics

        def forth(carry: tuple[State, State], item: Any) -> tuple[tuple[State, State], Any]:
            state, tangent = carry
            outcome = dynamics.forward(params, state, item)
            push = each(lambda one: dynamics.jvp(params, state, item, one))
            pushed, loss_tangent = push(tangent)
            return (outcome.next_state, pushed), (state, outcome.loss, loss_tangent, outcome.aux)

        (last, pushed), (states, losses, loss_tangents, aux) = backend.scan(
            forth, (state, tangent), inputs
        )

        def back(carry: tuple[Any, Any], step: tuple[State, Any]) -> tuple[tuple[Any, Any], None]:
            (immediate, cotangent), of_signs = carry
            _, pullback = dynamics.vjp(params, *step)
            owed, cotangent = pullback(cotangent, 1.0)

            def pull(total: Params, nu: State) -> tuple[Params, State]:
                owed, nu = pullback(nu, None)
                return backend.combine((1.0, total), (1.0, owed)), nu

            return (
                (backend.combine((1.0, immediate), (1.0, owed)), cotangent),
                each(pull)(*of_signs),
            ), None

        nothing = backend.zeros(params)
        start = (nothing, backend.zeros(state)), (each(lambda _: nothing)(signs), signs)
        ((immediate, _), (pulled, _)), _ = backend.scan(back, start, (states, inputs), reverse=True)
        outcome = Outcome(last, losses.sum(), aux)
        return Sweep(outcome, immediate, pushed, loss_tangents.sum(0), lambda _, kept: kept, pulled)


def unroll(dynamics: Dynamics[Params, State, Any], length: int) -> Unrolled[Params, State]:
    """Return dynamics whose single step is ``length`` steps of a model.

    `UORO` on them is memory-T UORO (section 3.4 of the paper).

    Args:
        dynamics: The model.
        length: T, the number of steps.

    Raises:
        SettingError: If the length is not a positive integer, or ``dynamics`` is no `Dynamics`.
    """
    call = f"unroll(dynamics, {spelled(length)})"
    require_dynamics(call, dynamics)
    return Unrolled(dynamics, require_count(call, "length", length))
