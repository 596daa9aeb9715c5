"""`Dynamics` of a module: a map over streams runs them as the rows of one batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import optree
import torch
from torch import Tensor

from uoro.backend import Backend
from uoro.dynamics import Dynamics, Outcome, Pullback
from uoro_torch.dynamics import (
    TorchDynamics,
    cotangents_of,
    refuse_inference_mode,
    results_of,
)
from uoro_torch.mirrors import Mirrors
from uoro_torch.module import ModuleTransition
from uoro_torch.opaque import Axes, call
from uoro_torch.probing import require_sound_graph, watch
from uoro_torch.pullbacks import (
    pull,
    pull_several,
    push_by_double_vjp,
    push_forward_several,
)
from uoro_torch.spectral import singular_vectors_held, spectral_parts
from uoro_torch.trees import detach, differentiable, differentiable_leaves, join


class ModuleDynamics(TorchDynamics):
    """Forward, JVP and VJP of a module, in plain autograd even where they are mapped.

    Modules are written for batches, and many of them cannot be mapped by `torch.func.vmap`. So
    several streams run as the rows of one batch; the cotangents of the params, one for each
    stream, come from one backward pass that is mapped; so do several tangents or cotangents of one
    step. Where an operation of the model cannot be mapped, they are taken one after the other, and
    so are several tangents in forward mode.

    Args:
        backend: Backend of the tensors.
        transition: Transition of the module; with ``rows``, state, inputs, next state and losses
            have a leading axis.
        rows: Whether the transition takes a batch.
        forward_mode: Whether the JVP is computed in forward mode.
        fused: Whether fused kernels may run.
    """

    def __init__(
        self,
        backend: Backend,
        transition: ModuleTransition,
        rows: bool,
        *,
        forward_mode: bool = False,
        fused: bool = True,
    ) -> None:
        single = _of_one_row(transition) if rows else transition
        super().__init__(backend, single, True, forward_mode=forward_mode, fused=fused)
        self._batch = transition
        self._mirrors = Mirrors()
        self._rows = rows

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Run one step."""
        if torch.compiler.is_compiling():
            return super().forward(params, state, inputs)

        def native(axes: Axes, params: Any, streamed: Any, extra: Any) -> Any:
            with torch.no_grad(), self._kernels():
                outcome = self._without_graph(partial(self._run, axes.rows, params, *streamed))
            return (outcome.next_state, outcome.output), outcome.aux

        returned, aux = call(native, params, (state, inputs), (), rows=self._rows)
        next_state, output = returned
        return Outcome(next_state, output, aux)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Push a state tangent forward."""
        refuse_inference_mode()
        if torch.compiler.is_compiling():
            return super().jvp(params, state, inputs, state_tangent)

        def native(axes: Axes, params: Any, streamed: Any, tangent: Any) -> Any:
            state, inputs = streamed
            leaves, structure = optree.tree_flatten(differentiable(state))
            taken = list[Outcome[Any]]()

            def outputs(*leaves: Tensor) -> tuple[Any, ...]:
                taken.append(self._run(axes.rows, params, join(state, leaves), inputs))
                return results_of(state, taken[-1])

            with self._kernels():
                pushed = self._push_all(outputs, leaves, optree.tree_leaves(tangent), axes.several)
            of_output = optree.tree_structure(differentiable(taken[-1].output))
            return (
                optree.tree_unflatten(structure, pushed[: len(leaves)]),
                optree.tree_unflatten(of_output, pushed[len(leaves) :]),
            ), ()

        (pushed, output_tangent), _ = call(
            native, detach(params), (state, inputs), state_tangent, rows=self._rows
        )
        return pushed, output_tangent

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Run one step on a graph that serves any number of pullbacks."""
        refuse_inference_mode()
        if torch.compiler.is_compiling():
            return super().vjp(params, state, inputs)
        records = list[_Record]()

        def record(axes: Axes, params: Any, streamed: Any, extra: Any) -> Any:
            (state, inputs), count = streamed, axes.rows
            roots = optree.tree_map(lambda leaf: leaf.detach().requires_grad_(), params)
            starts = [leaf.detach().requires_grad_() for leaf in differentiable_leaves(state)]
            run = partial(self._run, count, roots, join(state, starts), inputs)
            with torch.enable_grad(), self._kernels():
                outcome = watch(run)
                self._require_sound(outcome, run)
            results = list(results_of(state, outcome))
            require_sound_graph(results, [*optree.tree_leaves(roots), *starts])
            records.append(_Record(results, optree.tree_leaves(roots), starts))
            # Which record it is travels with the rows, to find it again under any map.
            ticket = torch.full(() if count is None else (count,), len(records) - 1)
            return detach((outcome.next_state, outcome.output, ticket)), detach(outcome.aux)

        (next_state, output, ticket), aux = call(
            record, params, (state, inputs), (), rows=self._rows
        )
        param_structure = optree.tree_structure(params)
        state_structure = optree.tree_structure(differentiable(state))

        def pull_native(axes: Axes, shared: Any, ticket: Tensor, cotangents: Any) -> Any:
            record = records[int(ticket.reshape(-1)[0])]
            by_params, by_state = record.pull(cotangents, axes)
            return (
                optree.tree_unflatten(param_structure, by_params),
                optree.tree_unflatten(state_structure, by_state),
            ), ()

        def pullback(state_cotangent: Any, output_cotangent: Any) -> tuple[Any, Any]:
            if output_cotangent is not None:
                leaves = differentiable_leaves(output)
                output_cotangent = cotangents_of(output_cotangent, leaves)
            cotangents = (state_cotangent, output_cotangent)
            pulled, _ = call(pull_native, (), ticket, cotangents, rows=self._rows)
            by_params, by_state = pulled
            return by_params, by_state

        return Outcome(next_state, output, aux), pullback

    def held(self, params: Any, state: Any, inputs: Any) -> AbstractContextManager[None]:
        """Return a context in which spectral norms keep the singular vectors of a step."""
        module = self._batch.module
        if not spectral_parts(module):
            return nullcontext()
        return singular_vectors_held(module, self.forward(params, state, inputs).aux)

    def _require_sound(self, outcome: Outcome[Any], again: Callable[[], Outcome[Any]]) -> None:
        self._mirrors.require(self._batch.module, outcome, again)

    @property
    def _mapped(self) -> bool:
        # Under a map too, what runs is given plain tensors.
        return torch.compiler.is_compiling()

    def _push_all(
        self, outputs: Any, leaves: list[Tensor], tangents: list[Tensor], several: int | None
    ) -> list[Tensor]:
        if several is None:
            return self._push(outputs, leaves, tangents)
        if self._forward_mode:
            return push_forward_several(outputs, leaves, tangents, several)
        return push_by_double_vjp(outputs, leaves, tangents, several)

    def _run(self, count: int | None, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        if count is None:
            return self._outcome(params, state, inputs)
        return Outcome(*self._batch(params, state, inputs))

    def many(self) -> Dynamics[Any, Any, Any] | None:
        """Build one dynamics of many streams, the rows of one batch."""
        return self._of_many(self._batch) if self._rows else None


class _Record(NamedTuple):
    """One step on a graph."""

    results: list[Tensor]
    params: list[Tensor]
    state: list[Tensor]

    def pull(self, cotangents: Any, axes: Axes) -> tuple[list[Tensor], list[Tensor]]:
        """Pull cotangents back: one or several, of one entry or of each row by itself."""
        given, several = self._listed(cotangents), axes.several
        if axes.rows is not None:
            return self._pull_rows(given, several)
        roots = [*self.params, *self.state]
        if several is None:
            pulled = pull(self.results, roots, given)
        else:
            pulled = pull_several(self.results, roots, given, several)
        return pulled[: len(self.params)], pulled[len(self.params) :]

    def _pull_rows(
        self, given: list[Tensor | None], several: int | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Pull a cotangent of each row back, to the params of each row by itself."""
        count = self.results[0].shape[0]
        lead = (count,) if several is None else (several, count)
        last = len(lead) - 1
        alone = [
            None if cotangent is None else _one_by_one(cotangent, last).flatten(0, last)
            for cotangent in given
        ]
        by_params = pull_several(self.results, self.params, alone, math.prod(lead))
        by_params = [leaf.reshape(*lead, *leaf.shape[1:]) for leaf in by_params]
        if several is None:
            return by_params, pull(self.results, self.state, given)
        return by_params, pull_several(self.results, self.state, given, several)

    def _listed(self, cotangents: Any) -> list[Tensor | None]:
        """Return a cotangent for each result, ``None`` for zero."""
        count = len(self.state)
        return [
            *cotangents_of(cotangents[0], self.results[:count]),
            *cotangents_of(cotangents[1], self.results[count:]),
        ]


def _one_by_one(cotangent: Tensor, axis: int) -> Tensor:
    """Return a cotangent for each row of a batch, zero in all other rows."""
    diagonal = torch.diag_embed(cotangent.movedim(axis, -1))
    return diagonal.movedim((-2, -1), (axis, axis + 1))


def _of_one_row(transition: Callable[..., Any]) -> Callable[..., Any]:
    """Return a transition of one entry, run as a batch of one."""

    def single(params: Any, state: Any, inputs: Any) -> Any:
        both: Any = (state, inputs)
        one: Any = optree.tree_map(lambda leaf: leaf[None], both)
        next_state, output, aux = transition(params, *one)
        both = (next_state, output)
        return *optree.tree_map(lambda leaf: leaf[0], both), aux

    return single
