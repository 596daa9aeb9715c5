"""Several steps of a model as one step: the basis of memory-T UORO and of truncated BPTT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

from uoro.arguments import (
    leaf_name,
    mismatch,
    require_count,
    require_dynamics,
    require_length,
    shape_of,
)
from uoro.backend import Backend
from uoro.derivatives.sweep import once
from uoro.dynamics import Batched, Dynamics, Each, Outcome, Params, Pullback, State, Sweep
from uoro.errors import StructureError, spelled


@dataclass(frozen=True)
class Unrolled(Generic[Params, State]):
    """T steps of a model as one `Dynamics`; build it with `unroll`.

    Its inputs are a stack of T items. Its output is the sum of T losses; if the model returns no
    loss but another output, their stack. Its aux is a stack. The VJP stores T hidden states and
    recomputes each step on the way back, so that it needs the memory of T states, and one more
    forward pass.

    Attributes:
        dynamics: One step.
        length: T.
        streams: Whether states and items are stacks of streams; time is the axis after.
    """

    dynamics: Dynamics[Params, State, Any]
    length: int
    streams: bool = False

    @property
    def backend(self) -> Backend:
        """The backend of the step."""
        return self.dynamics.backend

    @property
    def span(self) -> int:
        """Number of stream items that one application consumes: T times that of the step."""
        return self.length * self.dynamics.span

    def many(self) -> Unrolled[Params, State] | None:
        """Return T steps of many streams, or ``None`` if the model has no dynamics of many."""
        together = self.dynamics.many() if isinstance(self.dynamics, Batched) else None
        return None if together is None else Unrolled(together, self.length, streams=True)

    def forward(self, params: Params, state: State, inputs: Any) -> Outcome[State]:
        """Compute T steps."""

        def body(state: State, item: Any) -> tuple[State, Any]:
            outcome = self.dynamics.forward(params, state, item)
            return outcome.next_state, (outcome.output, outcome.aux)

        last, made = self.backend.scan(body, state, self._items(inputs))
        return self._outcome(last, *made)

    def jvp(
        self, params: Params, state: State, inputs: Any, state_tangent: State
    ) -> tuple[State, Any]:
        """Compute the Jacobian-vector product of T steps in the state."""

        def body(carry: tuple[State, State], item: Any) -> tuple[tuple[State, State], Any]:
            state, tangent = carry
            pushed, output_tangent = self.dynamics.jvp(params, state, item, tangent)
            return (self.dynamics.forward(params, state, item).next_state, pushed), output_tangent

        items = self._items(inputs)
        (_, tangent), tangents = self.backend.scan(body, (state, state_tangent), items)
        return tangent, self._collected(tangents)

    def vjp(
        self, params: Params, state: State, inputs: Any
    ) -> tuple[Outcome[State], Pullback[Params, State]]:
        """Compute T steps, and their pullback, which runs through them in reverse."""
        backend, items = self.backend, self._items(inputs)

        def record(state: State, item: Any) -> tuple[State, Any]:
            outcome = self.dynamics.forward(params, state, item)
            return outcome.next_state, (state, outcome.output, outcome.aux)

        last, (states, outputs, aux) = backend.scan(record, state, items)

        def pullback(state_cotangent: State | None, output_cotangent: Any) -> tuple[Params, State]:
            # That of a summed loss is the same at every step.
            same = output_cotangent is None or self._are_losses(outputs)
            each = () if same else self._time_first(output_cotangent)

            def body(
                carry: tuple[Params, State], step: tuple[State, Any, Any]
            ) -> tuple[tuple[Params, State], None]:
                total, cotangent = carry
                state, item, of_output = step
                _, pull = self.dynamics.vjp(params, state, item)
                pulled, cotangent = pull(cotangent, output_cotangent if same else of_output)
                return (backend.combine((1.0, total), (1.0, pulled)), cotangent), None

            start = backend.zeros(state) if state_cotangent is None else state_cotangent
            (total, cotangent), _ = backend.scan(
                body, (backend.zeros(params), start), (states, items, each), reverse=True
            )
            return total, cotangent

        return self._outcome(last, outputs, aux), pullback

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
        the signs and the gradient of a loss.
        """
        backend, dynamics, items = self.backend, self.dynamics, self._items(inputs)

        def forth(carry: tuple[State, State], item: Any) -> tuple[tuple[State, State], Any]:
            state, tangent = carry
            outcome = dynamics.forward(params, state, item)
            push = each(lambda one: dynamics.jvp(params, state, item, one))
            pushed, output_tangent = push(tangent)
            made = state, outcome.output, output_tangent, outcome.aux
            return (outcome.next_state, pushed), made

        (last, pushed), (states, outputs, tangents, aux) = backend.scan(
            forth, (state, tangent), items
        )
        losses = self._are_losses(outputs)

        def back(carry: tuple[Any, Any], step: tuple[State, Any]) -> tuple[tuple[Any, Any], None]:
            (immediate, cotangent), of_signs = carry
            _, pullback = dynamics.vjp(params, *step)
            if losses:
                owed, cotangent = pullback(cotangent, 1.0)
                immediate = backend.combine((1.0, immediate), (1.0, owed))

            def pull(total: Params, nu: State) -> tuple[Params, State]:
                owed, nu = pullback(nu, None)
                return backend.combine((1.0, total), (1.0, owed)), nu

            return ((immediate, cotangent), each(pull)(*of_signs)), None

        nothing = backend.zeros(params)
        start = (nothing, backend.zeros(state)), (each(lambda _: nothing)(signs), signs)
        (of_loss, (pulled, _)), _ = backend.scan(back, start, (states, items), reverse=True)

        def pullback(state_cotangent: State | None, output_cotangent: Any) -> tuple[Params, State]:
            if losses:
                by_params, by_state = (
                    backend.combine((output_cotangent, part)) for part in of_loss
                )
                return by_params, by_state
            return self.vjp(params, state, inputs)[1](state_cotangent, output_cotangent)

        return Sweep(
            self._outcome(last, outputs, aux),
            pushed,
            self._collected(tangents, mapped=each is not once),
            pullback,
            lambda _, kept: kept,
            pulled,
        )

    def _items(self, inputs: Any) -> Any:
        """Return the inputs with time as the first axis."""
        call, count = f"unroll(dynamics, {self.length})", f"{self.length} items of the stream"
        leaves = self.backend.named_leaves(inputs)
        if not leaves:
            hint = "For a model that ignores its inputs, any array of that length will do."
            expected, got = f"a stack of {count}", "no array"
            raise StructureError(mismatch(call, "inputs", expected, got, hint))
        for name, leaf in leaves:
            place = f"{leaf_name(name)} of the inputs"
            one: Any = leaf[0] if self.streams else leaf  # type: ignore[index]
            require_length(one, self.length, call, place, f"Stack {count}.")
        return self._time_first(inputs)

    def _time_first(self, tree: Any) -> Any:
        """Swap the axes of time and streams, if there are streams."""
        if not self.streams:
            return tree
        return self.backend.map(lambda leaf: self.backend.xp.swapaxes(leaf, 0, 1), tree)

    def _are_losses(self, outputs: Any) -> bool:
        return len(shape_of(outputs) or ()) == 1 + self.streams

    def _outcome(self, last: State, outputs: Any, aux: Any) -> Outcome[State]:
        return Outcome(last, self._collected(outputs), self._time_first(aux))

    def _collected(self, outputs: Any, *, mapped: bool = False) -> Any:
        """Return the sum over time of losses or of their tangents; of other outputs the stack.

        Args:
            outputs: A stack over time.
            mapped: Whether each entry is a stack with one for each pair.
        """
        if len(shape_of(outputs) or ()) == 1 + self.streams + mapped:
            return outputs.sum(0)
        if not mapped:
            return self._time_first(outputs)
        return self.backend.map(lambda leaf: self.backend.xp.swapaxes(leaf, 0, 1), outputs)


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
