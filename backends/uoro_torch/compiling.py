"""A step that is compiled as a whole, and compared with itself before it is trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import optree
import torch
from torch import Tensor

from uoro.derivatives.choosing import first_words
from uoro.derivatives.differences import UNIT
from uoro.dynamics import Dynamics
from uoro.errors import DerivativeError, SettingError
from uoro.learning.log import say
from uoro_torch.trees import differentiable_leaves

LOOKS = 3
"""Number of calls made both ways: at the first, the tangent that is pushed forward is zero."""

ALLOWED = 1e3
"""Largest difference between the two, in units of roundoff."""


class CompiledStep:
    """A pure function under `torch.compile`, compared with itself uncompiled at its first calls.

    The model check covers the eager step; compilers have silently dropped tangents
    (pytorch#187284), so the compiled step has to return the same numbers.

    Args:
        function: Pure function of trees of tensors. Keys, numbers and all else that is no tensor
            is compiled in.
        device: Device of the tensors.
        donate: Whether the function returns a tuple whose first tree is like its first argument
            and overwrites it. Allocating memory at each step is half the cost of a large step on
            a CPU. The first call works on a copy, as its argument belongs to the caller.
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
        self._context: Callable[[], Any] = nullcontext
        self._looks = 0

    def __call__(self, *arguments: Any) -> Any:
        """Run the step.

        Raises:
            DerivativeError: If the compiled step returns other numbers.
            SettingError: If PyTorch cannot compile it as a whole.
        """
        dynamo: Any = torch._dynamo
        if not self._looks:
            say("compile=True: compiling the step, for about a minute; the next steps are fast")
        try:
            try:
                return self._run(*arguments)
            except dynamo.exc.Unsupported as error:
                if self._context is _RecurrentLayers or "RNN, GRU, or LSTM" not in str(error):
                    raise
                self._context = _RecurrentLayers
                return self._run(*arguments)
        except (dynamo.exc.Unsupported, dynamo.exc.BackendCompilerFailed) as error:
            raise SettingError(
                "compile=True: expected a step that torch.compile can take as a whole, got "
                f"{type(error).__name__}: {first_words(error)} Leave compile out. Or name "
                "UORO(): what maps no products, as it does, may be taken where others are not."
            ) from error

    def _run(self, *arguments: Any) -> Any:
        first, *rest = arguments
        looks = self._looks < LOOKS
        plain = self._function(*arguments) if looks else None
        if self._donate:
            if not self._looks:
                first = optree.tree_map(lambda leaf: leaf.detach().clone(), first)
            with self._context():
                result = (first, *self._compiled(first, *rest))
        else:
            with self._context():
                result = self._compiled(*arguments)
        if looks:
            self._compare(result, plain)
            self._looks += 1
        return result

    def _compare(self, compiled: Any, plain: Any) -> None:
        both: Any = [optree.tree_map(_as_tensor, tree) for tree in (compiled, plain)]
        pairs = list(zip(*map(differentiable_leaves, both), strict=True))
        pairs = [(one, other) for one, other in pairs if other.isfinite().all()]
        if not pairs:
            return
        sizes = [float(torch.linalg.vector_norm(other.detach())) for _, other in pairs]
        # A wide leaf, such as a norm in float64, is no finer than the leaves it is computed from.
        unit = max(_unit(leaf) for pair in pairs for leaf in pair)
        gaps = [0.0]
        for (one, other), size in zip(pairs, sizes, strict=True):
            # A leaf that is small beside the rest may be rounding and nothing else.
            scale = size + unit**0.5 * max(sizes)
            apart = float(torch.linalg.vector_norm((one - other).detach()))
            if apart:
                gaps.append(apart / (scale * unit) if scale else math.inf)
        gap = math.inf if any(map(math.isnan, gaps)) else max(gaps)
        if gap > ALLOWED:
            raise DerivativeError(
                "compile=True: expected the numbers of the same step run eagerly, within "
                f"{ALLOWED:.0f} units of roundoff, got a difference of {gap:.2g}. Leave compile "
                "out, and report the model to PyTorch."
            )


def require_no_draws(dynamics: Dynamics[Any, Any, Any], params: Any, state: Any, item: Any) -> None:
    """Raise if a model that is to be compiled draws random numbers.

    Raises:
        SettingError: If it does.
    """
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        dynamics.forward(params, state, item)
        draws = not torch.equal(before, torch.get_rng_state())
    if draws:
        raise SettingError(
            "Online(compile=True): expected a module without random draws, got one that draws "
            "random numbers, as in dropout; forward, JVP and VJP of one compiled step would not "
            "see the same. Leave compile out."
        )


class _RecurrentLayers:
    """A context in which `nn.RNN`, `nn.GRU` and `nn.LSTM` are compiled like any other layer.

    Dynamo refuses them by default, as their loops are unrolled, which for one step is what is
    wanted. The LSTM of oneDNN is opaque to it.
    """

    def __enter__(self) -> None:
        self._config, self._onednn = (
            cast(Any, torch._dynamo).config,
            cast(Any, torch.backends).mkldnn,
        )
        self._before = getattr(self._config, "allow_rnn", None), self._onednn.enabled
        if self._before[0] is not None:
            self._config.allow_rnn = True
        self._onednn.enabled = False

    def __exit__(self, *_: object) -> None:
        allowed, self._onednn.enabled = self._before
        if allowed is not None:
            self._config.allow_rnn = allowed


def _as_tensor(leaf: Any) -> Tensor:
    """Return a leaf as a tensor; a float of Python becomes float64, its own precision."""
    return torch.as_tensor(leaf, dtype=torch.float64 if isinstance(leaf, float) else None)


def _unit(leaf: Tensor) -> float:
    """Return the unit roundoff of a leaf."""
    return UNIT.get(str(leaf.dtype.to_real()).rpartition(".")[2], UNIT["float32"])


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that writes the first part of its result over its first argument."""

    def overwriting(first: Any, *rest: Any) -> Any:
        after, *others = function(first, *rest)
        for old, new in zip(optree.tree_leaves(first), optree.tree_leaves(after), strict=True):
            old.copy_(new)
        return tuple(others)

    return overwriting
