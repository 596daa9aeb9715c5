"""Gradients into ``.grad``, as a backward pass leaves them there."""

from __future__ import annotations

import torch
from torch import Tensor


def accumulate(params: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
    """Add gradients to the params' ``.grad``, each in memory of its own, after their hooks.

    A hook of `Tensor.register_hook` is called with the gradient that is added, and may replace it;
    one of `Tensor.register_post_accumulate_grad_hook` is called once ``.grad`` is complete.
    """
    places = set[int]()
    for name, param in params.items():
        gradient = gradients[name]
        # Cloned as backward() does, where gradients share storage with each other.
        if gradient.data_ptr() in places or gradient._is_view() or not gradient.is_contiguous():
            gradient = gradient.clone(memory_format=torch.contiguous_format)
        for hook in (param._backward_hooks or {}).values():
            replaced = hook(gradient)
            gradient = gradient if replaced is None else replaced
        places.add(gradient.data_ptr())
        if param.grad is None:
            param.grad = gradient
        else:
            with torch.no_grad():
                param.grad.add_(gradient)
        for hook in (param._post_accumulate_grad_hooks or {}).values():  # type: ignore[attr-defined, unused-ignore]
            hook(param)
