"""Parameters that a module also keeps in dicts, lists, tuples or objects of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optree
from torch import nn

from uoro_torch.places import places, restored, tensors_in


class Aliases:
    """Places beside ``module._parameters`` that hold parameters of a module.

    Args:
        module: Module to search.
        names: Names of the parameters to find.
    """

    def __init__(self, module: nn.Module, names: Any) -> None:
        self._names = {
            id(param): name for name, param in module.named_parameters() if name in set(names)
        }
        self._places = [
            place
            for place in places(module)
            if any(id(tensor) in self._names for tensor in tensors_in(place.value))
        ]

    @contextmanager
    def replaced(self, params: dict[str, Any]) -> Iterator[None]:
        """Enter a context in which the places hold other tensors.

        Args:
            params: Tensors by the names of the parameters.
        """

        def exchanged(leaf: Any) -> Any:
            return params[self._names[id(leaf)]] if id(leaf) in self._names else leaf

        with restored(self._places):
            for place in self._places:
                tree: Any = [place.value]
                place.put(optree.tree_map(exchanged, tree)[0])
            yield
