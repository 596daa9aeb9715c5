"""A step that is compiled as a whole, and looked at before it is trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import optree
import torch

from uoro.differences import UNIT
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
    """

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        self._function = function
        # Of a small step on a CPU, a third is Python that allocates what the kernels fill.
        options: dict[str, Any] | None = {"cpp_wrapper": True} if device.type == "cpu" else None
        self._compiled = torch.compile(function, fullgraph=True, dynamic=False, options=options)
        self._looks = 0

    def __call__(self, *arguments: Any) -> Any:
        """Take the step.

        Raises:
            DerivativeError: If what was compiled gives other numbers.
        """
        result = self._compiled(*arguments)
        if self._looks < LOOKS:
            self._compare(result, self._function(*arguments))
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
