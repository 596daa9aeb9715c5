"""`Dynamics` of a function over trees of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import optree
import torch
from torch import Tensor

from uoro.derivatives.sweep import once, separately
from uoro.derivatives.transition import checked
from uoro.dynamics import Each, Outcome, Pullback, Sweep
from uoro.errors import SettingError
from uoro_torch.observer import require_no_strangers, watched
from uoro_torch.trees import coordinates_of, detach, join, map_leaves, moving, moving_leaves

if TYPE_CHECKING:
    from uoro_torch.backend import TorchBackend


FEW = 8
"""How many pairs are gone through one by one."""


class TorchDynamics:
    """Forward, jvp and vjp in PyTorch.

    By default the jvp is the vjp of the vjp in plain reverse mode: measured at 0.4 of the time of
    forward mode and a quarter of that of `torch.func`, for a GRU of 64 units. Under
    `TorchBackend.vmap` and `torch.compile`, which plain autograd cannot see through, everything
    runs on `torch.func`.

    Args:
        backend: The backend of the tensors.
        transition: ``(params, state, inputs) -> (next_state, loss)``.
        has_aux: Whether it returns a third element.
        forward_mode: Whether the jvp is forward mode's.
        fused: Whether fused kernels may run, some of which have no second derivative.
    """

    span = 1

    def __init__(
        self,
        backend: TorchBackend,
        transition: Callable[..., Any],
        has_aux: bool,
        *,
        forward_mode: bool = False,
        fused: bool = True,
    ) -> None:
        self.backend = backend
        self._outcome = checked(transition, backend, has_aux=has_aux)
        self._forward_mode = forward_mode
        self._kernels: Callable[[], AbstractContextManager[Any]] = nullcontext if fused else unfused

    def forward(self, params: Any, state: Any, inputs: Any) -> Outcome[Any]:
        """Take one step."""
        with torch.no_grad(), self._kernels():
            return self._outcome(params, state, inputs)

    def jvp(self, params: Any, state: Any, inputs: Any, state_tangent: Any) -> tuple[Any, Any]:
        """Push a state tangent forward."""
        refuse_inference_mode()
        params = detach(params)
        leaves, structure = optree.tree_flatten(moving(state))
        tangents = optree.tree_leaves(state_tangent)

        def outputs(*leaves: Tensor) -> tuple[Any, ...]:
            outcome = self._outcome(params, join(state, leaves), inputs)
            return (*like(state, outcome.next_state), outcome.loss)

        with self._kernels():
            *pushed, loss_tangent = self._push(outputs, leaves, tangents)
        return optree.tree_unflatten(structure, pushed), loss_tangent

    def vjp(self, params: Any, state: Any, inputs: Any) -> tuple[Outcome[Any], Pullback[Any, Any]]:
        """Take one step on a graph that serves any number of pullbacks."""
        refuse_inference_mode()
        param_leaves, param_structure = optree.tree_flatten(params)
        state_leaves, state_structure = optree.tree_flatten(moving(state))
        split = len(param_leaves)
        taken: list[Outcome[Any]] = []

        def outputs(*leaves: Tensor) -> tuple[Any, ...]:
            outcome = self._outcome(
                optree.tree_unflatten(param_structure, leaves[:split]),
                join(state, leaves[split:]),
                inputs,
            )
            taken.append(outcome)
            return (*like(state, outcome.next_state), outcome.loss)

        record = record_mapped if self._mapped else record_plainly
        with self._kernels():
            (*next_leaves, loss), pull = record(outputs, [*param_leaves, *state_leaves])

        def pullback(state_cotangent: Any, loss_cotangent: Any) -> tuple[Any, Any]:
            cotangents: list[Tensor | None] = (
                [None] * len(next_leaves)
                if state_cotangent is None
                else optree.tree_leaves(state_cotangent)
            )
            if loss_cotangent is not None:
                loss_cotangent = torch.as_tensor(
                    loss_cotangent, dtype=loss.dtype, device=loss.device
                )
            pulled = pull([*cotangents, loss_cotangent])
            return (
                optree.tree_unflatten(param_structure, pulled[:split]),
                optree.tree_unflatten(state_structure, pulled[split:]),
            )

        next_state = _replace(state, taken[0].next_state, next_leaves)
        return Outcome(next_state, loss, detach(taken[0].aux)), pullback

    def sweep(
        self, params: Any, state: Any, inputs: Any, tangent: Any, signs: Any, each: Each
    ) -> Sweep[Any, Any]:
        """Take all the derivatives of a UORO step from one forward and three backward passes.

        What pulls the signs back can be differentiated by them, and that, along s̃, is the jvp.
        A few pairs are gone through one by one, which is faster than a map.
        """
        stacked = each is not once
        pairs = optree.tree_leaves(signs)[0].shape[0] if stacked else 1
        if pairs > FEW or self._forward_mode or self.backend.traced:
            return separately(self, params, state, inputs, tangent, signs, each)
        refuse_inference_mode()
        leaves, param_structure = optree.tree_flatten(params)
        # Params that are leaves of autograd already serve as they are: a module then runs as it is.
        roots = [leaf if _is_root(leaf) else leaf.detach().requires_grad_() for leaf in leaves]
        starts = [leaf.detach().requires_grad_() for leaf in moving_leaves(state)]
        with torch.enable_grad(), watched(), self._kernels():
            outcome = self._outcome(
                optree.tree_unflatten(param_structure, roots), join(state, starts), inputs
            )
            following: list[Tensor] = like(state, outcome.next_state)
            loss: Any = outcome.loss
            require_no_strangers([*following, loss], [*roots, *starts])
            self._require_sound(outcome)
            immediate, state_gradient = _pulled([loss], roots, starts, [None])
            tangents, nus = optree.tree_leaves(tangent), optree.tree_leaves(signs)
            found = [
                _pull_and_push(
                    following,
                    (roots, starts),
                    [leaf[i] for leaf in nus] if stacked else nus,
                    [leaf[i] for leaf in tangents] if stacked else tangents,
                )
                for i in range(pairs)
            ]
        pulled, pushed = (
            [torch.stack(parts) if stacked else parts[0] for parts in zip(*lists, strict=True)]
            for lists in zip(*found, strict=True)
        )
        loss_tangents = [
            self.backend.inner(
                state_gradient, [leaf[i] for leaf in tangents] if stacked else tangents
            )
            for i in range(pairs)
        ]
        return Sweep(
            Outcome(detach(outcome.next_state), loss.detach(), detach(outcome.aux)),
            optree.tree_unflatten(param_structure, immediate),
            optree.tree_unflatten(optree.tree_structure(tangent), pushed),
            torch.stack(loss_tangents) if stacked else loss_tangents[0],
            lambda _signs, kept: kept,
            optree.tree_unflatten(param_structure, pulled),
        )

    def _require_sound(self, outcome: Outcome[Any]) -> None:
        """Refuse an outcome on its graph."""

    @property
    def _mapped(self) -> bool:
        return self.backend.traced

    @property
    def _push(self) -> Callable[..., list[Tensor]]:
        if self._mapped:
            return push_mapped
        return push_forward if self._forward_mode else push_by_double_vjp


_Outputs = Callable[..., tuple[Any, ...]]
_Pull = Callable[[list[Tensor | None]], list[Tensor]]


def _is_root(leaf: Tensor) -> bool:
    return leaf.is_leaf and leaf.requires_grad


def _pull_and_push(
    following: list[Tensor],
    roots: tuple[list[Tensor], list[Tensor]],
    signs: list[Tensor],
    tangents: list[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """Pull signs back to the params, and push a tangent of the state forward."""
    weights = [leaf.detach().requires_grad_() for leaf in signs]
    pulled, back = _pulled(following, *roots, weights, create_graph=True)
    pushed = _pushed(back, weights, tangents, following)
    return [part.detach() for part in pulled], pushed


def _pulled(
    results: list[Tensor],
    params: list[Tensor],
    state: list[Tensor],
    cotangents: Sequence[Tensor | None],
    *,
    create_graph: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """Pull cotangents back to params and state, on a graph that stays."""
    roots = [*params, *state]
    pairs = [
        (result, cotangent)
        for result, cotangent in zip(results, cotangents, strict=True)
        if result.requires_grad
    ]
    parts: Sequence[Tensor | None] = [None] * len(roots)
    if pairs:
        parts = torch.autograd.grad(
            [result for result, _ in pairs],
            roots,
            [cotangent for _, cotangent in pairs],
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )
    filled = [
        torch.zeros_like(root, requires_grad=False) if part is None else part.to_dense()
        for part, root in zip(parts, roots, strict=True)
    ]
    return filled[: len(params)], filled[len(params) :]


def _pushed(
    pulled: Sequence[Tensor | None],
    weights: list[Tensor],
    tangents: list[Tensor],
    like: list[Tensor],
) -> list[Tensor]:
    """Differentiate what was pulled back by its cotangents, along tangents."""
    wanted = [
        (part, tangent)
        for part, tangent in zip(pulled, tangents, strict=True)
        if part is not None and part.requires_grad
    ]
    parts: Sequence[Tensor | None] = [None] * len(weights)
    if wanted:
        parts = torch.autograd.grad(
            [part for part, _ in wanted],
            weights,
            [tangent for _, tangent in wanted],
            allow_unused=True,
        )
    return [
        torch.zeros_like(following, requires_grad=False) if part is None else part
        for part, following in zip(parts, like, strict=True)
    ]


def record_plainly(outputs: _Outputs, leaves: list[Tensor]) -> tuple[list[Tensor], _Pull]:
    """Run ``outputs`` on an autograd graph, whatever grad mode the caller is in."""
    roots = [leaf.detach().requires_grad_() for leaf in leaves]
    with torch.enable_grad(), watched():
        results = outputs(*roots)
    require_no_strangers(results, roots)

    def pull(cotangents: list[Tensor | None]) -> list[Tensor]:
        wanted = [
            (result, cotangent)
            for result, cotangent in zip(results, cotangents, strict=True)
            if cotangent is not None and result.requires_grad
        ]
        if not wanted:
            return [torch.zeros_like(leaf) for leaf in leaves]
        return list(
            torch.autograd.grad(
                [result for result, _ in wanted],
                roots,
                [cotangent for _, cotangent in wanted],
                retain_graph=True,
                materialize_grads=True,
            )
        )

    return [result.detach() for result in results], pull


def record_mapped(outputs: _Outputs, leaves: list[Tensor]) -> tuple[list[Tensor], _Pull]:
    """Do the same under `torch.func.vmap`."""
    # Detached: torch.func would otherwise record for whoever owns params that require gradients.
    recorded: Any = torch.func.vjp(outputs, *(leaf.detach() for leaf in leaves))
    results, transposed = recorded

    def pull(cotangents: list[Tensor | None]) -> list[Tensor]:
        filled = tuple(
            torch.zeros_like(result) if cotangent is None else cotangent
            for result, cotangent in zip(results, cotangents, strict=True)
        )
        return list(transposed(filled))

    return list(results), pull


def push_by_double_vjp(
    outputs: _Outputs, leaves: list[Tensor], tangents: list[Tensor]
) -> list[Tensor]:
    """Push tangents forward as the vjp, in its cotangent, of the vjp."""
    roots = [leaf.detach().requires_grad_() for leaf in leaves]
    with torch.enable_grad():
        results = outputs(*roots)
        moved = [result for result in results if result.requires_grad]
        weights = [torch.zeros_like(result, requires_grad=True) for result in moved]
        pulled = (
            torch.autograd.grad(moved, roots, weights, create_graph=True, allow_unused=True)
            if moved
            else [None] * len(roots)
        )
    pushed = iter(_pushed(pulled, weights, tangents, moved))
    return [
        next(pushed).detach() if result.requires_grad else torch.zeros_like(result)
        for result in results
    ]


def push_forward(outputs: _Outputs, leaves: list[Tensor], tangents: list[Tensor]) -> list[Tensor]:
    """Push tangents forward by plain forward mode."""
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


def push_mapped(outputs: _Outputs, leaves: list[Tensor], tangents: list[Tensor]) -> list[Tensor]:
    """Push tangents forward under `torch.func.vmap`."""
    moved: Any = torch.func.jvp(outputs, tuple(leaf.detach() for leaf in leaves), tuple(tangents))
    results, pushed = moved
    # A tangent of shape () that meets a Python number comes back from forward mode in float64.
    return [part.to(result.dtype) for part, result in zip(pushed, results, strict=True)]


def like(state: Any, following: Any) -> list[Any]:
    """List the leaves of the next state at which the state has coordinates."""
    pairs = zip(optree.tree_leaves(state), optree.tree_leaves(following), strict=True)
    return [new for leaf, new in pairs if coordinates_of(leaf)]


def _replace(state: Any, following: Any, leaves: list[Tensor]) -> Any:
    """Put leaves off the graph into the next state."""
    moved = iter(leaves)
    return map_leaves(
        lambda leaf, new: next(moved) if coordinates_of(leaf) else detach(new), state, following
    )


@contextmanager
def unfused() -> Iterator[None]:
    """Switch fused kernels off: cuDNN's and oneDNN's recurrences, and fused attention."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    onednn: Any = torch.backends.mkldnn
    before = onednn.enabled
    onednn.enabled = False
    try:
        with torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        onednn.enabled = before


def refuse_inference_mode() -> None:
    """Refuse a mode in which every gradient would be zero."""
    if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():
        raise SettingError(
            "TorchDynamics: under torch.inference_mode() PyTorch records nothing, and every "
            "gradient would be zero. Use torch.no_grad() instead."
        )
