"""Parts of a model that the user put under `torch.compile`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor


def compiling() -> bool:
    """Return whether a part of the model may be under `torch.compile`."""
    return "torch._dynamo" in sys.modules


def uncompiled() -> AbstractContextManager[Any]:
    """Return a context in which all parts of the model run as they are."""
    stance: Any = torch.compiler.set_stance
    here = compiling() and not torch.compiler.is_compiling()
    eager: AbstractContextManager[Any] = stance("force_eager") if here else nullcontext()
    return eager


@contextmanager
def unfused() -> Iterator[None]:
    """Switch fused kernels off: recurrent ones, fused attention, and what torch.compile made."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    onednn: Any = torch.backends.mkldnn
    before = onednn.enabled
    onednn.enabled = False
    try:
        with uncompiled(), torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        onednn.enabled = before


def buffers_kept() -> AbstractContextManager[Any]:
    """Return a context in which parts are compiled that serve any number of backward passes.

    By default PyTorch compiles for a single one, which overwrites what the forward pass kept.
    """
    return _not_donated() if compiling() else nullcontext()


@contextmanager
def _not_donated() -> Iterator[None]:
    config: Any = sys.modules.get("torch._functorch.config")
    if config is None or not hasattr(config, "donated_buffer"):
        yield
        return
    before, config.donated_buffer = config.donated_buffer, False
    try:
        yield
    finally:
        config.donated_buffer = before


def gives_nothing_away(error: RuntimeError, results: Sequence[Tensor]) -> bool:
    """Return whether a backward pass, refused for what it overwrites, overwrites nothing.

    PyTorch (2.13) refuses a second pass through a part that was compiled in `buffers_kept` as well,
    until the part says that its list is empty, which is noted here.

    Args:
        error: The refusal, or another error.
        results: Tensors on the graph of the pass.
    """
    if "donated buffers" not in str(error):
        return False
    nodes, met = [result.grad_fn for result in results], set[Any]()
    parts = list[Any]()
    while nodes:
        node: Any = nodes.pop()
        if node is None or node in met:
            continue
        met.add(node)
        parts += [getattr(getattr(node, "_forward_cls", None), "metadata", None)]
        nodes += [following for following, _ in node.next_functions]
    unsaid = [part for part in parts if getattr(part, "bw_donated_idxs", ()) is None]
    for part in unsaid:
        part.bw_donated_idxs = []
    return bool(unsaid)
