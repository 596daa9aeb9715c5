"""Places in which a module keeps tensors: dicts, lists, deques, and attributes of objects."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import optree
from torch import Tensor, nn

DEPTH = 3
"""How deep containers within containers are searched."""

_CLOSED = (nn.Module, Tensor, type, types.ModuleType, types.FunctionType, types.MethodType)
_OPEN = (dict, list, deque)
_OWN = frozenset({"_parameters", "_modules", "_buffers"})


class Place(NamedTuple):
    """A key of a dict, or an index of a list or a deque.

    Attributes:
        part: Name of the module that has it, itself or in one of its attributes.
        path: Keys from the module's attributes or buffers to the place.
        container: Dict, list or deque; ``vars(object)`` for an attribute.
    """

    part: str
    path: tuple[Any, ...]
    container: Any

    @property
    def name(self) -> str:
        """Path from the outermost module, such as ``"cell.states.0"``."""
        return ".".join(map(str, (self.part, *self.path) if self.part else self.path))

    @property
    def value(self) -> Any:
        """The object there: a tensor, a tuple with tensors in it, or anything else."""
        return self.container[self.path[-1]]

    def put(self, value: Any) -> None:
        """Replace the object there."""
        self.container[self.path[-1]] = value

    def again(self, module: nn.Module) -> Place:
        """Return the same place in a module whose containers may be others now."""
        part = module.get_submodule(self.part)
        container: Any = part._buffers if self.path[0] in part._buffers else vars(part)
        for key in self.path[:-1]:
            container = _inside(container[key])
        return self._replace(container=container)


def places(module: nn.Module, *, buffers: bool = False) -> list[Place]:
    """Return the places of a module and its parts, beside those of parameters and modules.

    Args:
        module: Module to search.
        buffers: Whether to include the places of registered buffers.
    """
    return [
        Place(part, (*path, key), container)
        for part, path, container in _containers(module, buffers)
        for key in _keys(container)
    ]


@contextmanager
def restored(places: list[Place]) -> Iterator[None]:
    """Enter a context at whose end the places hold the same objects as before."""
    before = [place.value for place in places]
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.put(value)


@contextmanager
def attributes_restored(module: nn.Module) -> Iterator[None]:
    """Enter a context at whose end a module and its parts have the same attributes as before."""
    kept = [(vars(part), dict(vars(part))) for part in module.modules()]
    try:
        yield
    finally:
        for attributes, before in kept:
            attributes.clear()
            attributes.update(before)


@contextmanager
def lent(module: nn.Module) -> Iterator[None]:
    """Enter a context in which a module has copies of its tensors, and may change anything."""
    kept = [(container, container.copy()) for *_, container in _containers(module, True)]
    for place in places(module, buffers=True):
        if tensors_in(place.value):
            place.put(optree.tree_map(copied, place.value))
    try:
        yield
    finally:
        for container, before in kept:
            container.clear()
            container.update(before) if isinstance(container, dict) else container.extend(before)


def tensors_in(value: Any) -> list[Tensor]:
    """Return a tensor as a list of one, and the tensors in a tuple."""
    tree: Any = value
    leaves = optree.tree_leaves(tree) if isinstance(value, tuple) else [value]
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def copied(leaf: Any) -> Any:
    """Return a copy of a tensor; parameters, and what is no tensor, as they are."""
    copies = isinstance(leaf, Tensor) and not isinstance(leaf, nn.Parameter)
    return leaf.clone() if copies else leaf


def _containers(module: nn.Module, buffers: bool) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    """Yield the dicts and lists of a module, each with the name of its part and its path."""
    met = set[int]()
    for name, part in module.named_modules():
        attributes = vars(part)
        if buffers:
            yield name, (), part._buffers
        met.update(id(attributes[key]) for key in _OWN & attributes.keys())
        for path, container in _within(attributes, (), met):
            yield name, path, container


def _within(
    container: Any, path: tuple[Any, ...], met: set[int]
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if len(path) == DEPTH or id(container) in met:
        return
    met.add(id(container))
    yield path, container
    for key in _keys(container):
        inside = _inside(container[key])
        if inside is not None:
            yield from _within(inside, (*path, key), met)


def _inside(entry: Any) -> Any:
    """Return a dict, list or deque, or the attributes of an object; ``None`` for others."""
    if isinstance(entry, _CLOSED):
        return None
    inside = entry if isinstance(entry, _OPEN) else getattr(entry, "__dict__", None)
    return inside if isinstance(inside, _OPEN) else None


def _keys(container: Any) -> list[Any]:
    return list(container) if isinstance(container, dict) else list(range(len(container)))
