"""A step that is compiled as a whole, and looked at before it is trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import optree
import torch

from uoro.derivatives.differences import UNIT
from uoro.errors import DerivativeError
from uoro_torch.trees import moving_leaves

LOOKS = 3
"""How many calls are made both ways: at the first, the pair that is pushed is zero."""

ALLOWED = 1e3
"""How many units of roundoff the two may differ by."""


class CompiledStep:
    """A pure function under `torch.compile`, compared with itself uncompiled at its first calls.

    What runs eagerly was found to be adjoint and true; compilers have dropped tangents without a
    word (pytorch#187284), so what was compiled has to show that it gives the same.

    Args:
        function: A pure function of trees of tensors. Keys, numbers and whatever else is no
            tensor is compiled in.
        device: Where its tensors live.
        donate: Whether the function gives a tuple that begins with a tree like its first argument,
            and this is to be written in the place of that. Memory that is asked for anew at each
            step is half of what a large one costs on a CPU. The first call is given a copy: what
            it starts from belongs to somebody else.
    """

    def __init__(
        self, function: Callable[..., Any], device: torch.device, *, donate: bool = False
    ) -> None:
        self._function = function
        self._donate = donate
        # Of a small step on a CPU, a third is Python that allocates what the kernels fill.
        options: dict[str, Any] | None = {"cpp_wrapper": True} if device.type == "cpu" else None
        compiled = _in_place(function) if donate else function
        self._compiled = torch.compile(compiled, fullgraph=True, dynamic=False, options=options)
        self._looks = 0

    def __call__(self, *arguments: Any) -> Any:
        """Take the step.

        Raises:
            DerivativeError: If what was compiled gives other numbers.
        """
        first, *rest = arguments
        looks = self._looks < LOOKS
        plain = self._function(*arguments) if looks else None
        if self._donate:
            if not self._looks:
                first = optree.tree_map(lambda leaf: leaf.detach().clone(), first)
            result = (first, *self._compiled(first, *rest))
        else:
            result = self._compiled(*arguments)
        if looks:
            self._compare(result, plain)
            self._looks += 1
        return result

    def _compare(self, compiled: Any, plain: Any) -> None:
        # Some of the eager one's are Python's own numbers.
        both: Any = [optree.tree_map(torch.as_tensor, tree) for tree in (compiled, plain)]
        pairs = list(zip(*map(moving_leaves, both), strict=True))
        pairs = [(one, other) for one, other in pairs if other.isfinite().all()]
        if not pairs:
            return
        sizes = [float(torch.linalg.vector_norm(other.detach())) for _, other in pairs]
        gaps = [0.0]
        for (one, other), size in zip(pairs, sizes, strict=True):
            unit = max(UNIT.get(str(leaf.dtype).rpartition(".")[2], 0.0) for leaf in (one, other))
            unit = unit or UNIT["float32"]
            # What is small beside the rest may be rounding and nothing else.
            scale = size + unit**0.5 * max(sizes)
            apart = float(torch.linalg.vector_norm((one - other).detach()))
            if apart:
                gaps.append(apart / (scale * unit) if scale else math.inf)
        gap = math.inf if any(map(math.isnan, gaps)) else max(gaps)
        if gap > ALLOWED:
            raise DerivativeError(
                "compile=True: the compiled step differs from the same step run eagerly, by "
                f"{gap:.2g} units of rounding where {ALLOWED:.0f} are allowed. Leave compile out, "
                "and report the model to PyTorch."
            )


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function write the first part of its result over its first argument."""

    def overwriting(first: Any, *rest: Any) -> Any:
        after, *others = function(first, *rest)
        for old, new in zip(optree.tree_leaves(first), optree.tree_leaves(after), strict=True):
            old.copy_(new)
        return tuple(others)

    return overwriting
