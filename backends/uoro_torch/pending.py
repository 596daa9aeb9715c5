"""Steps whose loss is still to come, and what they need to be as it was."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any

import optree
import torch
from torch import Tensor

from uoro.arguments import require_flag
from uoro.errors import DerivativeError
from uoro.prediction import Prediction
from uoro_torch.fused import FusedUpdates
from uoro_torch.pullbacks import pull
from uoro_torch.remembering import Then
from uoro_torch.threads import Threads
from uoro_torch.trees import copied, detach, differentiable_leaves, requires_grad
from uoro_torch.watching import Watch


class Pending:
    """A step whose loss is still to come: the gradient at the params of the step, however late.

    Args:
        prediction: What the step returned.
        params: Parameters that the step ran on: the user's, or copies.
        state: Hidden state before the step.
        item: Item of the step, off its graph.
        then: Returns a context in which the model is as it was at the step.
        fused: Updates of the params that their versions do not show; ``None`` for copies.
    """

    def __init__(
        self,
        prediction: Prediction,
        params: dict[str, Tensor],
        state: Any,
        item: Any,
        then: Then,
        fused: FusedUpdates | None = None,
    ) -> None:
        self.prediction, self.params = prediction, params
        self._state, self._item, self._then = state, item, then
        self._read = [*params.values(), *_tensors(item), *_tensors(state)]
        self._versions = _versions(self._read)
        self._fused, self._updates = fused, 0 if fused is None else fused.count
        self._again: Callable[..., Any] | None = None
        self._marks = list[bool]()
        self._watch: Watch | None = None
        self.threads: Threads | None = None
        self._index, self._scaled, self._kept = 0, False, True

    def watched(self, watch: Watch, threads: Threads, index: int, *, kept: bool) -> None:
        """Have the gradient of this step looked at.

        Args:
            watch: Looks at it.
            threads: Sets the number of threads of the backward pass.
            index: Index of the step.
            kept: Whether the step was kept; one that was skipped has no gradient.
        """
        self._watch, self._index, self._kept, self.threads = watch, index, kept, threads
        self._scaled = torch.is_autocast_enabled(self._read[0].device.type)
        watch.waits()

    def allows(self, gradients: list[Tensor | None], cotangents: Sequence[Tensor | None]) -> bool:
        """Return whether gradients may be added to ``.grad``.

        Raises:
            NonFiniteError: If they are not finite, unless `Online` says otherwise.
        """
        if not self._kept:
            return False
        known = [each for each in cotangents if each is not None]
        watch = self._watch
        if watch is not None and self._fused is not None:  # Otherwise the params are copies.
            watch.adds(self.params, self._fused.count)
        return watch is None or watch.pulled(gradients, known, self._index, scaled=self._scaled)

    def read_again(self, transition: Callable[..., Any] | None, given: Any) -> None:
        """Keep what `pull_inputs` needs.

        Args:
            transition: Function ``(params, state, item) -> (next_state, output)``.
            given: The item, of which some tensors require gradients.
        """
        self._again = transition
        self._marks = [requires_grad(leaf) for leaf in optree.tree_leaves(given)]

    def as_it_was(self) -> AbstractContextManager[Any]:
        """Return a context in which the model is as it was at the step.

        Raises:
            DerivativeError: If params, input or state were changed in place.
        """
        self._require_unchanged()
        return self._then()

    def pull_inputs(self, cotangents: Sequence[Tensor]) -> list[Tensor]:
        """Pull cotangents of the output back to the input, within this step; it is run again."""
        assert self._again is not None
        marks = self._marks
        leaves, structure = optree.tree_flatten(self._item)
        leaves = [
            leaf.detach().requires_grad_() if mark else leaf
            for leaf, mark in zip(leaves, marks, strict=True)
        ]
        with torch.enable_grad():
            given = optree.tree_unflatten(structure, leaves)
            _, output, *_ = self._again(detach(self.params), self._state, given)
        roots = [leaf for leaf, mark in zip(leaves, marks, strict=True) if mark]
        return pull(differentiable_leaves(output), roots, cotangents)

    def _require_unchanged(self) -> None:
        now = _versions(self._read)
        fused = self._fused is not None and self._fused.count != self._updates
        if now == self._versions and not fused:
            return
        count = len(self.params)
        if fused or now[:count] != self._versions[:count]:
            changed = [
                name
                for name, old, new in zip(self.params, self._versions, now, strict=False)
                if old != new
            ]
            raise DerivativeError(
                "loss.backward(): expected the parameters that online(x) ran on, got others: "
                f"{', '.join(changed) or 'they'} changed in place in between (an optimizer's "
                "step?). Call backward() before the optimizer, or set late=True, which lets steps "
                "run on copies."
            )
        raise DerivativeError(
            "loss.backward(): expected input and state of online(x) as they were, got tensors "
            "that changed in place. Pass x.clone(), or set late=True."
        )


class PendingSteps:
    """The steps of an `Online` that wait for their loss.

    Args:
        params: The parameters, by name.
        late: Whether all steps run on copies of params and items. Otherwise those alone that are
            taken while an earlier output still waits for its backward pass.
    """

    def __init__(self, params: dict[str, Tensor], *, late: bool) -> None:
        require_flag("Online(late=...)", "late", late)
        self._late = late
        self._params, self._fused = params, FusedUpdates(params.values())
        self._steps = weakref.WeakSet[Pending]()

    def __deepcopy__(self, memo: Any) -> PendingSteps:
        """Return a copy for copies of the params, for which no output waits."""
        return PendingSteps(deepcopy(self._params, memo), late=self._late)

    @property
    def updates(self) -> int:
        """Number of updates of the params that their versions do not show."""
        return self._fused.count

    def add(
        self, prediction: Prediction, params: dict[str, Tensor], state: Any, item: Any, then: Then
    ) -> Pending:
        """Return a step, known for as long as autograd keeps it; the arguments are its own."""
        fused = self._fused if params is self._params else None
        step = Pending(prediction, params, state, item, then, fused)
        self._steps.add(step)
        return step

    def copied(self, item: Any) -> tuple[dict[str, Tensor], Any]:
        """Return params and an item that stay as they are until the loss of a step comes."""
        params = self._params
        if not (self._late or self._steps):
            return params, item
        copies = {
            name: param.detach().clone().requires_grad_(param.requires_grad)
            for name, param in params.items()
        }
        return copies, copied(item)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in optree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _versions(tensors: list[Tensor]) -> list[int]:
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:  # Inference tensors have none.
        return [0 if tensor.is_inference() else tensor._version for tensor in tensors]
