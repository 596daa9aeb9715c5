"""What reducing joint pairs needs of a backend: inner products and combinations of two stacks."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from uoro.algebra import coordinates, with_products
from uoro.backend import Backend
from uoro_conformance.backend.specimens import compare
from uoro_conformance.finding import Finding, worst

RANKS = (1, 2, 3)


def check_products(backend: Backend, dtype: str) -> Finding:
    """Check `uoro.algebra.with_products` against NumPy, at three ranks.

    This is the law of `TakesProducts`: a backend's own implementation returns the same numbers.
    Among the built leaves are an outer product, a sum of one with another array, and arrays that
    are no outer products.
    """
    found = [_of_rank(backend, dtype, rank) for rank in RANKS]
    return worst(found)._replace(law="products and combinations of two stacks are NumPy's")


def _of_rank(backend: Backend, dtype: str, rank: int) -> Finding:
    draw = np.random.default_rng(rank).normal
    # The square leaf is an outer product in the stack that is built.
    host = {
        "array": draw(size=(rank, 3)),
        "square": draw(size=(rank, 4, 2)),
        "sum": draw(size=(rank, 2, 2)),
    }
    carried, columns, rows, plain = (
        backend.from_host(tree, dtype=dtype)
        for tree in (host, draw(size=(rank, 4)), draw(size=(rank, 2)), draw(size=(rank, 3)))
    )
    of_carried, of_made = (
        backend.from_host(draw(size=(rank + 1, rank)), dtype=dtype) for _ in range(2)
    )

    def outer(column: Any, row: Any) -> Any:
        return column[:, None] * row[None, :]

    def built(columns: Any, rows: Any, plain: Any) -> Any:
        def one(column: Any, row: Any, array: Any) -> Any:
            square = outer(column, row)
            return {"array": array, "square": square, "sum": square[:2] + 1.0}

        return backend.vmap(one)(columns, rows, plain)

    def everything(
        carried: Any, columns: Any, rows: Any, plain: Any, of_carried: Any, of_made: Any
    ) -> Any:
        across, own, mixed = with_products(backend, carried, lambda: built(columns, rows, plain))
        return across, own, mixed(of_carried, of_made)

    got = backend.compile(everything)(carried, columns, rows, plain, of_carried, of_made)
    made = backend.compile(built)(columns, rows, plain)
    left, right = (
        np.asarray(backend.to_host(coordinates(backend, stack)), np.float64)
        for stack in (carried, made)
    )
    weights = [np.asarray(backend.to_host(w), np.float64) for w in (of_carried, of_made)]
    check = partial(compare, backend=backend, dtype=dtype)
    name = f"rank {rank}"
    combined = coordinates(backend, got[2])
    return worst(
        [
            check(f"{name}: inner products across", got=got[0], expected=left @ right.T),
            check(
                f"{name}: inner products of the built stack", got=got[1], expected=right @ right.T
            ),
            check(
                f"{name}: combinations",
                got=combined,
                expected=weights[0] @ left + weights[1] @ right,
            ),
        ]
    )
