"""Pull cotangents back and push tangents forward: on an autograd graph, in forward mode, mapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from uoro.errors import DerivativeError
from uoro_torch.compiled_parts import buffers_kept, gives_nothing_away
from uoro_torch.probing import require_sound_graph, watch
from uoro_torch.trees import dense

Outputs: TypeAlias = Callable[..., tuple[Any, ...]]
"""Takes leaves, one argument each, and returns leaves."""

AT_ONCE = 64
"""Largest number of cotangents of one step that are pulled back together."""

Pull: TypeAlias = Callable[[list[Tensor | None]], list[Tensor]]
"""Takes a cotangent of each output, ``None`` for zero, and returns one of each leaf."""


def pull(
    results: Sequence[Tensor],
    roots: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
    *,
    batch: tuple[int, ...] = (),
    create_graph: bool = False,
) -> list[Tensor]:
    """Pull cotangents back to the roots of an autograd graph, and keep the graph.

    Args:
        results: Tensors; those off the graph count as constants.
        roots: Tensors that the graph begins with.
        cotangents: One for each result; ``None`` stands for zero.
        batch: Shape of the axis that all cotangents, and what is returned, have in front.
        create_graph: Whether to record the pass, so that it can be differentiated in its turn.

    Returns:
        A cotangent for each root, zeros where nothing depends on it.
    """
    pairs = [
        (result, cotangent)
        for result, cotangent in zip(results, cotangents, strict=True)
        if cotangent is not None and result.requires_grad
    ]
    parts: Sequence[Tensor | None] = [None] * len(roots)

    def go_back() -> Sequence[Tensor | None]:
        return torch.autograd.grad(
            [result for result, _ in pairs],
            roots,
            [cotangent for _, cotangent in pairs],
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
            is_grads_batched=bool(batch),
        )

    if pairs and roots:
        try:
            parts = go_back()
        except RuntimeError as error:
            if not gives_nothing_away(error, results):
                _explain(error)
                raise
            parts = go_back()
    return [
        root.new_zeros((*batch, *root.shape)) if part is None else dense(part)
        for part, root in zip(parts, roots, strict=True)
    ]


def _explain(error: RuntimeError) -> None:
    """Raise a DerivativeError in the place of an error of PyTorch whose way out is known."""
    expected = "backend.dynamics(transition): expected a backward pass that can be repeated"
    for words, got in (
        (
            "use_reentrant=True",
            "a checkpoint with use_reentrant=True. Pass use_reentrant=False to checkpoint().",
        ),
        (
            "donated buffers",
            "a part of the model that was compiled for a single one. Call torch.compiler.reset() "
            "before the first step of Online, or set torch._functorch.config.donated_buffer = "
            "False before the part is compiled.",
        ),
    ):
        if words in str(error):
            raise DerivativeError(f"{expected}, got {got}") from error


def pull_several(
    results: Sequence[Tensor],
    roots: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
    several: int,
) -> list[Tensor]:
    """Pull several cotangents back, in one backward pass where its operations can be mapped.

    Args:
        results: As in `pull`.
        roots: As in `pull`.
        cotangents: One stack for each result; ``None`` stands for zeros.
        several: Length of the stacks.

    Returns:
        A stack of cotangents for each root.
    """

    def pull_at(index: int | slice, batch: tuple[int, ...]) -> list[Tensor]:
        given = [None if stack is None else stack[index] for stack in cotangents]
        return pull(results, roots, given, batch=batch)

    try:
        parts = [
            pull_at(slice(i, i + AT_ONCE), (min(AT_ONCE, several - i),))
            for i in range(0, several, AT_ONCE)
        ]
    except Exception:  # Whatever an operation, or a hook, of the model cannot do under a map.
        parts = [[leaf[None] for leaf in pull_at(i, ())] for i in range(several)]
    return [torch.cat(column) for column in zip(*parts, strict=True)]


def pull_and_push(
    results: list[Tensor],
    params: list[Tensor],
    state: list[Tensor],
    signs: list[Tensor],
    tangents: list[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """Pull signs back to the params, and push a tangent of the state forward.

    The signs that were pulled back to the state, differentiated by the signs along the tangent,
    are the tangent pushed forward.

    Args:
        results: Next state, on a graph.
        params: Roots of the graph.
        state: Roots of the graph.
        signs: ν, one for each result.
        tangents: s̃, one for each leaf of the state.

    Returns:
        νᵀ ∂F/∂θ and ∂F/∂s · s̃.
    """
    weights = [leaf.detach().requires_grad_() for leaf in signs]
    pulled = pull(results, [*params, *state], weights, create_graph=True)
    pushed = _differentiate(pulled[len(params) :], weights, tangents)
    return [part.detach() for part in pulled[: len(params)]], pushed


def _differentiate(
    pulled: Sequence[Tensor],
    weights: list[Tensor],
    tangents: list[Tensor],
    several: int | None = None,
) -> list[Tensor]:
    """Differentiate pulled-back cotangents by the weights they were pulled from, along tangents.

    Args:
        pulled: Cotangents, on the graph of the pass that pulled them back.
        weights: Roots of that graph.
        tangents: One for each of ``pulled``; with ``several``, a stack.
        several: Length of the stacks.
    """
    given = [
        tangent if part.requires_grad else None
        for part, tangent in zip(pulled, tangents, strict=True)
    ]
    if several is not None:
        return pull_several(pulled, weights, given, several)
    return pull(pulled, weights, given)


def record_plainly(outputs: Outputs, leaves: list[Tensor]) -> tuple[list[Tensor], Pull]:
    """Run ``outputs`` on an autograd graph, whatever grad mode the caller is in."""
    roots = [leaf.detach().requires_grad_() for leaf in leaves]
    with torch.enable_grad():
        results = list(watch(outputs, *roots))
    require_sound_graph(results, roots)
    return [result.detach() for result in results], lambda given: pull(results, roots, given)


def record_mapped(outputs: Outputs, leaves: list[Tensor]) -> tuple[list[Tensor], Pull]:
    """Run ``outputs`` under `torch.func.vjp`, which `torch.func.vmap` and compilers see through."""
    # Detached: torch.func would otherwise record for whoever owns params that require gradients.
    recorded: Any = torch.func.vjp(outputs, *(leaf.detach() for leaf in leaves))
    results, transposed = recorded

    def pull_mapped(cotangents: list[Tensor | None]) -> list[Tensor]:
        filled = tuple(
            torch.zeros_like(result) if cotangent is None else cotangent
            for result, cotangent in zip(results, cotangents, strict=True)
        )
        return list(transposed(filled))

    return list(results), pull_mapped


def push_by_double_vjp(
    outputs: Outputs, leaves: list[Tensor], tangents: list[Tensor], several: int | None = None
) -> list[Tensor]:
    """Push tangents, or stacks of several, as the VJP, in its cotangent, of the VJP."""
    roots = [leaf.detach().requires_grad_() for leaf in leaves]
    with torch.enable_grad(), buffers_kept():
        results = outputs(*roots)
        recorded = [result for result in results if result.requires_grad]
        weights = [torch.zeros_like(result, requires_grad=True) for result in recorded]
        pulled = pull(recorded, roots, weights, create_graph=True)
    pushed = iter(_differentiate(pulled, weights, tangents, several))
    lead = () if several is None else (several,)
    return [
        next(pushed).detach() if result.requires_grad else result.new_zeros((*lead, *result.shape))
        for result in results
    ]


def push_forward(outputs: Outputs, leaves: list[Tensor], tangents: list[Tensor]) -> list[Tensor]:
    """Push tangents forward in forward mode."""
    forward_ad: Any = torch.autograd.forward_ad
    with torch.no_grad(), forward_ad.dual_level():
        duals = [
            forward_ad.make_dual(leaf.detach(), tangent)
            for leaf, tangent in zip(leaves, tangents, strict=True)
        ]
        unpacked = [forward_ad.unpack_dual(result) for result in outputs(*duals)]
        return [
            torch.zeros_like(primal) if tangent is None else tangent.to(primal.dtype)
            for primal, tangent in unpacked
        ]


def push_forward_several(
    outputs: Outputs, leaves: list[Tensor], tangents: list[Tensor], several: int
) -> list[Tensor]:
    """Push stacks of several tangents forward in forward mode, one after the other."""
    each = [push_forward(outputs, leaves, [one[i] for one in tangents]) for i in range(several)]
    return [torch.stack(column) for column in zip(*each, strict=True)]


def push_mapped(outputs: Outputs, leaves: list[Tensor], tangents: list[Tensor]) -> list[Tensor]:
    """Push tangents forward under `torch.func.jvp`, as `record_mapped` runs under its `vjp`."""
    pair: Any = torch.func.jvp(outputs, tuple(leaf.detach() for leaf in leaves), tuple(tangents))
    results, pushed = pair
    # A tangent of shape () that meets a Python number comes back from forward mode in float64.
    return [part.to(result.dtype) for part, result in zip(pushed, results, strict=True)]
