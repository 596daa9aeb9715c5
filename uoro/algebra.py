"""Operations on trees and stacks, derived from the methods of a `Backend`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from uoro.backend import Backend, Coarsens, Scalar, TakesProducts, Tree
from uoro.deprecation import moved_names

DTYPES = ("bfloat16", "float16", "float32", "float64")
"""Real dtypes that a tree can be cast to."""


def size(backend: Backend, tree: Any) -> int:
    """Count the coordinates of a tree."""
    return sum(
        backend.parts(leaf) * math.prod(leaf.shape) for _, leaf in backend.named_leaves(tree)
    )


def differentiable(backend: Backend, tree: Any) -> list[Any]:
    """Return the list of the leaves that have coordinates; a list is a tree too."""
    return [leaf for _, leaf in backend.named_leaves(tree) if backend.parts(leaf)]


def working_precision(backend: Backend, tree: Any) -> Literal["float32", "float64"]:
    """Return the precision of scalars that multiply a tree: double if any leaf is double."""
    return "float64" if _dtypes(backend, tree) & {"float64", "complex128"} else "float32"


def _dtypes(backend: Backend, tree: Any) -> set[str]:
    """Return the names of the dtypes of the leaves that have coordinates."""
    return {str(leaf.dtype).rpartition(".")[2] for leaf in differentiable(backend, tree)}


def entry(backend: Backend, stack: Tree, index: Any) -> Tree:
    """Return entry ``index`` of a stack."""
    return backend.map(lambda leaf: leaf[index], stack)


def push(backend: Backend, stack: Tree, newest: Tree) -> Tree:
    """Drop the first entry of a stack and append ``newest`` at its end."""
    concatenate = backend.xp.concatenate
    return backend.map(lambda old, new: concatenate([old[1:], new[None]]), stack, newest)


def norm(backend: Backend, tree: Any) -> Scalar:
    """Compute the Euclidean norm over all coordinates of a tree, as `Backend.with_norms` does."""
    return backend.with_norms(lambda: (tree,))[1][0]


def basis(backend: Backend, like: Tree) -> Tree:
    """Stack the unit tangents of ``like``, one per coordinate.

    The order is that of `Backend.named_leaves`, row by row; of a complex leaf first all real
    parts, then all imaginary parts.
    """
    zero = backend.zeros(like)
    if not backend.named_leaves(zero):
        return zero
    row = coordinates(backend, backend.zeros(like, batch=(1,)))[0]
    units: Tree = shaped(backend, backend.xp.diag(row + 1.0), zero)
    return units


def repeat(backend: Backend, tree: Tree, count: int) -> Tree:
    """Stack ``count`` copies of a tree."""
    tile = backend.xp.tile
    return backend.map(lambda leaf: tile(leaf, (count,) + (1,) * len(leaf.shape)), tree)


def shift(backend: Backend, tree: Tree, by: Any, tangent: Any) -> Tree:
    """Add ``by * tangent`` to a tree; leaves without coordinates are kept."""
    leaves = iter([leaf for _, leaf in backend.named_leaves(tangent)])

    def move(leaf: Any) -> Any:
        return leaf + by * next(leaves) if backend.parts(leaf) else leaf

    return backend.map(move, tree)


def mean(backend: Backend, stack: Tree) -> Tree:
    """Average a stack over its leading axis."""
    return backend.map(lambda leaf: leaf.mean(0), stack)


def total(backend: Backend, stack: Tree) -> Tree:
    """Add up a stack along its leading axis."""
    return backend.map(lambda leaf: leaf.sum(0), stack)


def select(backend: Backend, mask: Any, chosen: Tree, otherwise: Tree) -> Tree:
    """Select entry b of ``chosen`` where ``mask[b]`` is true, of ``otherwise`` elsewhere."""

    def pick(x: Any, y: Any) -> Any:
        return backend.xp.where(mask.reshape((-1,) + (1,) * (len(x.shape) - 1)), x, y)

    return backend.map(pick, chosen, otherwise)


def nonzero(backend: Backend, tree: Any, *, stacked: bool = True) -> Any:
    """Return whether a tree, or each entry of a stack, holds any number that is not zero.

    Returns:
        A mask for `where`; ``None`` for a tree without numbers.
    """
    found: Any = None
    for leaf in differentiable(backend, tree):
        other = leaf != 0
        here = backend.xp.any(other.reshape((leaf.shape[0], -1)), -1) if stacked else other.any()
        found = here if found is None else found | here
    return found


def in_full(backend: Backend) -> AbstractContextManager[Any]:
    """Return a context in which arrays are computed with in the dtypes that they have."""
    return backend.in_full() if isinstance(backend, Coarsens) else nullcontext()


def where(backend: Backend, mask: Any, array: Any) -> Any:
    """Return an array with zeros where the mask of its leading axes is false."""
    if mask is None or mask is True:
        return array
    if mask is False:
        return backend.xp.zeros_like(array)
    if mask.shape:
        mask = mask.reshape(mask.shape + (1,) * (len(array.shape) - len(mask.shape)))
    return backend.xp.where(mask, array, 0.0)


def coordinates(backend: Backend, stack: Any) -> Any:
    """Return a stack of tangents as a matrix: one row per entry, one column per coordinate."""
    columns: list[Any] = []
    for _, leaf in backend.named_leaves(stack):
        array: Any = leaf
        rows = array.reshape((array.shape[0], math.prod(array.shape[1:])))
        columns += [rows.real, rows.imag] if backend.parts(leaf) == 2 else [rows]
    return backend.xp.concatenate(columns, 1)


def shaped(backend: Backend, matrix: Any, like: Any) -> Any:
    """Build a stack of tangents like ``like`` from the rows of a matrix: undoes `coordinates`."""
    start = 0

    def take_columns(leaf: Any) -> Any:
        nonlocal start
        parts = []
        for _ in range(backend.parts(leaf)):
            end = start + math.prod(leaf.shape)
            parts.append(matrix[:, start:end].reshape((matrix.shape[0], *leaf.shape)))
            start = end
        return parts[0] if len(parts) == 1 else parts[0] + 1j * parts[1]

    return backend.map(take_columns, like)


def gram(backend: Backend, left: Any, right: Any) -> Any:
    """Compute the matrix of inner products of the entries of two stacks, in at least float32."""
    total: Any = 0.0
    leaves = zip(differentiable(backend, left), differentiable(backend, right), strict=True)
    for one, other in leaves:
        rows, columns = (leaf.reshape((leaf.shape[0], -1)) for leaf in (one, other))
        if backend.parts(one) == 2:
            total = total + backend.matmul(rows.imag, columns.imag.T)
            rows, columns = rows.real, columns.real
        total = total + backend.matmul(rows, columns.T)
    return total


def with_products(
    backend: Backend, carried: Tree, make: Callable[[], Tree]
) -> tuple[Any, Any, Callable[[Any, Any], Tree]]:
    """Build a stack, and compute what reducing it together with a carried stack needs.

    A backend that `TakesProducts` has its own implementation: JAX's does not materialize outer
    products.

    Args:
        backend: The backend of both stacks.
        carried: A stack of k entries.
        make: Function that builds a stack of k entries like the carried ones.

    Returns:
        The inner products of the carried with the built entries, a matrix (k, k) in at least
        float32; the inner products of the built entries with each other, (k, k); and a function
        that maps weights (m, k) of the carried and (m, k) of the built entries to the stack of m
        combinations.
    """
    if isinstance(backend, TakesProducts):
        return backend.with_products(carried, make)
    made = make()

    def mixed(of_carried: Any, of_made: Any) -> Tree:
        return backend.combine(
            (1.0, mix(backend, of_carried, carried)), (1.0, mix(backend, of_made, made))
        )

    return gram(backend, carried, made), gram(backend, made, made), mixed


def as_precision(backend: Backend, tree: Any, precision: str) -> Any:
    """Cast the leaves that have coordinates to a precision, if any leaf has another."""
    wide = {"float32": "complex64", "float64": "complex128"}[precision]
    if _dtypes(backend, tree) <= {precision, wide}:
        return tree
    return backend.from_host(tree, dtype=precision)


def mix(backend: Backend, weights: Any, stack: Tree) -> Tree:
    """Compute linear combinations of the entries of a stack.

    Args:
        backend: The backend of the stack.
        weights: A vector (k,) for one combination, or a matrix (m, k) for a stack of m.
        stack: A stack of k entries.
    """

    def combine(leaf: Any) -> Any:
        mixed = backend.matmul(weights, leaf.reshape((leaf.shape[0], -1)))
        return mixed.reshape(tuple(weights.shape[:-1]) + tuple(leaf.shape[1:]))

    return backend.map(combine, stack)


def eager_scan(
    backend: Backend,
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    items: Sequence[Any],
    *,
    reverse: bool = False,
    bounds: tuple[Any, Any] | None = None,
) -> tuple[Any, Any]:
    """Run `Backend.scan` as a Python loop, over the list of the stack's entries."""
    count = len(items)
    within = range(count) if bounds is None else range(int(bounds[0]), int(bounds[1]))
    outputs = dict[int, Any]()
    for i in reversed(within) if reverse else within:
        carry, outputs[i] = body(carry, items[i])
    if len(outputs) < count:
        nothing = backend.map(lambda leaf: leaf * 0, next(iter(outputs.values())))
        outputs = {i: outputs.get(i, nothing) for i in range(count)}
    return carry, backend.collect([outputs[i] for i in range(count)])


def flatten(backend: Backend, stack: Tree) -> Tree:
    """Flatten a stack of stacks into one stack."""
    return backend.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), stack)


if not TYPE_CHECKING:
    __getattr__ = moved_names(
        __name__, {"take": "uoro.algebra:entry", "moving": "uoro.algebra:differentiable"}
    )
