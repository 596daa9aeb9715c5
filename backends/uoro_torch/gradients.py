"""Gradients into ``.grad``, as a backward pass leaves them there."""

from __future__ import annotations

import torch
from torch import Tensor


def accumulate(params: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
    """Add gradients, each in memory of its own, to the params' ``.grad``, after their hooks.

    A hook of `Tensor.register_hook` is called with the gradient that is added, and may replace it;
    one of `Tensor.register_post_accumulate_grad_hook` is called once ``.grad`` is complete.
    """
    for name, param in params.items():
        gradient = gradients[name]
        for hook in (param._backward_hooks or {}).values():
            replaced = hook(gradient)
            gradient = gradient if replaced is None else replaced
        if param.grad is None:
            param.grad = gradient
        else:
            with torch.no_grad():
                param.grad.add_(gradient)
        for hook in (param._post_accumulate_grad_hooks or {}).values():  # type: ignore[attr-defined, unused-ignore]
            hook(param)


def in_memory_of_their_own(gradients: list[Tensor]) -> list[Tensor]:
    """Return gradients, cloned where they share storage, as backward() clones them."""
    places = set[int]()
    for i, gradient in enumerate(gradients):
        place = gradient.data_ptr()
        if place in places or gradient._is_view() or not gradient.is_contiguous():
            gradients[i] = gradient.clone(memory_format=torch.contiguous_format)
            place = gradients[i].data_ptr()
        places.add(place)
    return gradients
