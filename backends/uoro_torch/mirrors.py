"""Buffers that a module writes before it reads them, as neurons that mirror their state do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from uoro.dynamics import Outcome
from uoro.errors import DerivativeError
from uoro_torch.dependence import FILLS, filled, same
from uoro_torch.places import attributes_restored, places, restored
from uoro_torch.trees import detach


class Mirrors:
    """Buffers in which a module may leave tensors on a graph, as no later step reads them."""

    def __init__(self) -> None:
        self._known = set[str]()

    def require(
        self, module: nn.Module, outcome: Outcome[Any], again: Callable[[], Outcome[Any]]
    ) -> None:
        """Raise if a module reads, in the next step, a buffer that it leaves on a graph.

        Args:
            module: Module with the buffers.
            outcome: Outcome of a step on its graph, with the buffers after the step.
            again: Function that runs the same step again.

        Raises:
            DerivativeError: Naming the buffers.
        """
        buffers: dict[str, Tensor] = {
            name: buffer for name, buffer in outcome.aux.items() if buffer is not None
        }
        names = {name for name, buffer in buffers.items() if buffer.requires_grad}
        if names <= self._known:
            return
        results: Any = detach(tuple(outcome))
        mine = [place for place in places(module, buffers=True) if place.name in names]
        for fill in FILLS:
            with attributes_restored(module), restored(mine):
                for place in mine:
                    place.put(filled(buffers[place.name].detach(), fill))
                if not same(detach(tuple(again())), results):
                    raise DerivativeError(
                        "Online.for_module(module, …): expected buffers without a gradient, got "
                        f"{sorted(names)}, which depend on the params or the state and are read in "
                        "the next step: no gradient would go through them. Put them into the "
                        "state, as uoro_torch.lift_state does, or detach() them where they are "
                        "computed."
                    )
        self._known |= names
