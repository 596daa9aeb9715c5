"""Parameters that a module also keeps in dicts, lists or objects of its own."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

DEPTH = 3
"""How deep containers within containers are searched."""

_CLOSED = (nn.Module, Tensor, type, types.ModuleType, types.FunctionType, types.MethodType)
_OWN = frozenset({"_parameters", "_modules", "_buffers"})


class Aliases:
    """Places beside ``module._parameters`` that hold parameters of a module.

    Args:
        module: Module to search.
        names: Names of the parameters to find.
    """

    def __init__(self, module: nn.Module, names: Any) -> None:
        wanted = {
            id(param): name for name, param in module.named_parameters() if name in set(names)
        }
        self._places = list[tuple[Any, Any, str]]()
        met = set[int]()
        for part in module.modules():
            for key, value in vars(part).items():
                if key not in _OWN:
                    self._search(value, wanted, met, DEPTH)

    @contextmanager
    def replaced(self, params: dict[str, Any]) -> Iterator[None]:
        """Enter a context in which the places hold other tensors.

        Args:
            params: Tensors by the names of the parameters.
        """
        kept = [(container, key, container[key]) for container, key, _ in self._places]
        try:
            for container, key, name in self._places:
                container[key] = params[name]
            yield
        finally:
            for container, key, value in kept:
                container[key] = value

    def _search(self, value: Any, wanted: dict[int, str], met: set[int], depth: int) -> None:
        if depth == 0 or id(value) in met or isinstance(value, _CLOSED):
            return
        met.add(id(value))
        if isinstance(value, tuple):
            entries = list[tuple[Any, Any]](enumerate(value))
        elif isinstance(value, list):
            entries = list(enumerate(value))
        else:
            value = value if isinstance(value, dict) else getattr(value, "__dict__", {})
            entries = list(value.items())
        for key, entry in entries:
            if id(entry) in wanted and not isinstance(value, tuple):
                self._places.append((value, key, wanted[id(entry)]))
            else:
                self._search(entry, wanted, met, depth - 1)
