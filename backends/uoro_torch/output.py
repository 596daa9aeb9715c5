"""The output of a step, as a tensor whose backward pass is the online gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optree
import torch
from torch import Tensor

from uoro.errors import DerivativeError, SettingError, StructureError, spelled
from uoro_torch.gradients import in_memory_of_their_own
from uoro_torch.pending import Pending
from uoro_torch.threads import widen
from uoro_torch.trees import coordinates_of, differentiable_leaves, map_leaves


def on_graph(pending: Pending, params: dict[str, Tensor], inputs: Sequence[Tensor]) -> Any:
    """Return the output of a step on an autograd graph that begins with the params.

    Args:
        pending: The step.
        params: Parameters, whose ``.grad`` a backward pass fills.
        inputs: Tensors of the input that require gradients.

    Raises:
        StructureError: If no tensor of the output can have a gradient.
        SettingError: If no param requires one.
    """
    if not any(param.requires_grad for param in params.values()):
        raise SettingError(
            "online(x): expected parameters that require gradients, got none that does. Try "
            "param.requires_grad_(), or call it under torch.no_grad()."
        )
    output = pending.prediction.output
    leaves = differentiable_leaves(output)
    if not leaves:
        raise StructureError(
            "online(x): expected an output with floating-point tensors, whose gradient can be "
            f"taken, got {spelled(output)}. Return what the loss is computed from."
        )
    made: Any = _Output
    results = iter(made.apply(pending, leaves, *params.values(), *inputs))
    if output is leaves[0]:
        return next(results)
    return map_leaves(lambda leaf: next(results) if coordinates_of(leaf) else leaf, output)


def off_graph(output: Any) -> Any:
    """Return an output without a graph, in tensors of its own."""
    return optree.tree_map(lambda leaf: leaf.detach().clone(), output)


def made_by_a_step(tensors: Sequence[Tensor]) -> bool:
    """Return whether tensors depend, on their graph, on the output of a step."""
    nodes: list[Any] = [tensor.grad_fn for tensor in tensors]
    met = set[Any]()
    while nodes:
        node = nodes.pop()
        if node is None or node in met:
            continue
        if getattr(node, "_forward_cls", None) is _Output:
            return True
        met.add(node)
        nodes += [following for following, _ in node.next_functions]
    return False


class _Output(torch.autograd.Function):
    """Params to output: forward returns what the step computed, backward the online gradient.

    The step hangs on a saved tensor, which autograd releases as it releases those of any layer.
    """

    @staticmethod
    def forward(ctx: Any, pending: Pending, leaves: list[Tensor], *roots: Tensor) -> Any:
        """Return copies, so that releasing them releases the graph of the step."""
        holder: Any = torch.empty(0)
        holder.pending = pending
        ctx.save_for_backward(holder)
        ctx.set_materialize_grads(False)
        return tuple(leaf.clone() for leaf in leaves)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        """Return the gradient of each param and of each input that requires one."""
        again = torch.is_grad_enabled()
        with torch.no_grad():
            pulled = _pulled(_pending(ctx), cotangents, ctx.needs_input_grad[2:])
        if again:  # create_graph=True.
            identity: Any = _Once
            known = [gradient for gradient in pulled if gradient is not None]
            once = iter(identity.apply(*(gradient.requires_grad_() for gradient in known)))
            pulled = [None if gradient is None else next(once) for gradient in pulled]
        return (None, None, *pulled)


def _pending(ctx: Any) -> Pending:
    try:
        holder: Any = ctx.saved_tensors[0]
    except RuntimeError as error:
        raise DerivativeError(
            "loss.backward(): expected one backward pass through an output of online(x), got a "
            "second one; the first released the step. Add the losses up, or call "
            "backward(retain_graph=True) the first time."
        ) from error
    pending: Pending = holder.pending
    return pending


def _pulled(
    pending: Pending, given: Sequence[Tensor | None], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Return a gradient for each param and input, ``None`` where none is needed."""
    output, names = pending.prediction.output, list(pending.params)
    if isinstance(output, Tensor):
        tree = given[0]
    else:
        each = iter(_filled(output, given))
        tree = map_leaves(lambda leaf: next(each) if coordinates_of(leaf) else None, output)
    pulled: list[Tensor | None] = [None] * len(names)
    threads = 0 if pending.threads is None else pending.threads.narrow()
    with pending.as_it_was(), _widened(threads):
        if any(needed[: len(names)]):
            gradient = pending.prediction.pull(tree)
            pulled[:] = in_memory_of_their_own([gradient[name] for name in names])
            if not pending.allows(pulled, given):
                pulled[:] = [None] * len(names)
        if len(needed) > len(names):
            pulled += pending.pull_inputs(_filled(output, given))
    return [one if wanted else None for one, wanted in zip(pulled, needed, strict=True)]


@contextmanager
def _widened(threads: int) -> Iterator[None]:
    try:
        yield
    finally:
        widen(threads)


def _filled(output: Any, cotangents: Sequence[Tensor | None]) -> list[Tensor]:
    """Return cotangents with zeros in the place of ``None``."""
    return [
        torch.zeros_like(leaf) if cotangent is None else cotangent
        for cotangent, leaf in zip(cotangents, differentiable_leaves(output), strict=True)
    ]


class _Once(torch.autograd.Function):
    """The identity, without a derivative."""

    @staticmethod
    def forward(ctx: Any, *gradients: Tensor) -> Any:
        """Return the gradients."""
        return tuple(gradient.view_as(gradient) for gradient in gradients)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        """Raise.

        Raises:
            DerivativeError: Always.
        """
        raise DerivativeError(
            "loss.backward(create_graph=True): expected a gradient that is differentiated no "
            "further, got a derivative of an online gradient, which has none. Leave create_graph "
            "out, or detach() the gradient."
        )
