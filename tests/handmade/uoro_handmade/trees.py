"""Trees: nested dicts, lists, tuples and named tuples, with arrays at their leaves.

``None`` is a tree without leaves; anything else that is no container is a leaf.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from uoro.errors import StructureError


def branches(tree: Any) -> list[tuple[str, Any]] | None:
    """List the parts of a container by name, a dict's in the order of its keys; None for a leaf."""
    if tree is None:
        return []
    if isinstance(tree, dict):
        return [(str(key), tree[key]) for key in sorted(tree)]
    if isinstance(tree, (list, tuple)):
        return list(zip(getattr(tree, "_fields", map(str, range(len(tree)))), tree, strict=True))
    return None


def regrow(like: Any, parts: Iterable[Any]) -> Any:
    """Make a container of the kind of ``like`` with other parts, in the order of `branches`."""
    if like is None:
        return None
    if isinstance(like, dict):
        grown = copy.copy(like)
        grown.update(zip(sorted(like), parts, strict=True))
        return grown
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)


def named_leaves(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    """List the leaves from left to right, each under the names that lead to it."""
    below = branches(tree)
    if below is None:
        return [("/".join(path), tree)]
    return [found for name, part in below for found in named_leaves(part, (*path, name))]


def leaves(tree: Any) -> list[Any]:
    """List the leaves from left to right."""
    return [leaf for _, leaf in named_leaves(tree)]


def map_leaves(
    function: Callable[..., Any],
    tree: Any,
    *others: Any,
    call: str = "backend.map(function, *trees)",
) -> Any:
    """Call a function on each leaf of a tree, and those in the same place of other trees.

    Args:
        function: What to call.
        tree: Whose structure the result has.
        others: Trees of the same structure.
        call: What the user called, for the error.

    Raises:
        StructureError: If the structures differ, be it in the type of a container.
    """
    below = [branches(each) for each in (tree, *others)]
    kinds = [_kind(each, parts) for each, parts in zip((tree, *others), below, strict=True)]
    for kind in kinds[1:]:
        if kind != kinds[0]:
            raise StructureError(
                f"{call}: expected trees of one structure, got {_words(kind)} where the first tree "
                f"has {_words(kinds[0])}."
            )
    if below[0] is None:
        return function(tree, *others)
    columns = [[part for _, part in parts or ()] for parts in below]
    rows = zip(*columns, strict=True)
    return regrow(tree, [map_leaves(function, *row, call=call) for row in rows])


def _kind(tree: Any, below: list[tuple[str, Any]] | None) -> tuple[type, list[str]] | None:
    """Say what two trees must have in common down to the next level; None for a leaf."""
    return None if below is None else (type(tree), [name for name, _ in below])


def _words(kind: tuple[type, list[str]] | None) -> str:
    return "a leaf" if kind is None else f"a {kind[0].__name__} of {kind[1]}"


def fill(like: Any, values: Iterable[Any]) -> Any:
    """Put values in the place of the leaves, from left to right."""
    following = iter(values)
    return map_leaves(lambda _: next(following), like)


def stack(items: Sequence[Any], call: str) -> Any:
    """Lay trees on each other, along a new leading axis.

    Raises:
        StructureError: If there are none, or their structures differ.
    """
    if not items:
        raise StructureError(f"{call}: of no trees at all, nothing says what a stack looks like.")
    return map_leaves(lambda *each: np.stack(each), *items, call=call)


def unstack(stacked: Any, call: str) -> list[Any]:
    """Take a stack apart.

    Raises:
        StructureError: If its leaves do not have a leading axis of one length, or it has none.
    """
    lengths = {leaf.shape[:1] for leaf in leaves(stacked)}
    if len(lengths) != 1 or () in lengths:
        shapes = {name: leaf.shape for name, leaf in named_leaves(stacked)}
        raise StructureError(
            f"{call}: expected at least one leaf, and leading axes of one length, got the shapes "
            f"{shapes}."
        )
    ((count,),) = lengths
    return [map_leaves(lambda leaf, i=i: np.asarray(leaf[i]), stacked) for i in range(count)]
