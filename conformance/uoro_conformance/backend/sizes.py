"""The methods of a backend at sizes beyond the smallest: many terms, leaves, trees and entries."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from uoro.algebra import basis, coordinates
from uoro.backend import Backend
from uoro_conformance.backend.specimens import compare
from uoro_conformance.finding import Finding, worst

LEAVES = (9, 40)
"""Numbers of leaves of a tree."""

TERMS = (3, 4, 9)
"""Numbers of terms of a combination."""

TREES = 5
"""Number of trees whose norms are taken together."""

ENTRIES = (9, 70)
"""Numbers of entries that are mapped over, scanned and stacked."""

SHAPES: tuple[tuple[int, ...], ...] = ((), (3,), (0,), (2, 3), (300,), (1, 1), (17, 5))
"""Shapes of leaves, in turn: scalar, empty and large ones among them."""


def large_tree(leaves: int, seed: int) -> dict[str, Any]:
    """Build a NumPy tree of some number of leaves, of all `SHAPES`."""
    draw = np.random.default_rng([leaves, seed]).normal
    return {f"{n:02d}": np.asarray(draw(size=SHAPES[n % len(SHAPES)])) for n in range(leaves)}


def check_sizes(backend: Backend, dtype: str) -> Finding:
    """Check sums, products, norms and loops against NumPy at several sizes."""
    found = [*_of_trees(backend, dtype), *_of_stacks(backend, dtype)]
    evidence = (
        f"Trees of up to {LEAVES[-1]} leaves, {TERMS[-1]} terms, {TREES} norms at once, loops over "
        f"up to {ENTRIES[-1]} entries."
    )
    finding = worst(found)
    said = finding.evidence if finding.holds else f"{finding.law}: {finding.evidence}"
    return finding._replace(law="sizes make no difference", evidence=f"{evidence} {said}")


def _flat(tree: dict[str, Any]) -> Any:
    return np.concatenate([leaf.reshape(-1) for leaf in tree.values()])


def _numbers(backend: Backend, scalars: Any) -> Any:
    return backend.from_host(np.array([float(each) for each in scalars]))


def _of_trees(backend: Backend, dtype: str) -> list[Finding]:
    agree, found = partial(compare, backend=backend, dtype=dtype), list[Finding]()
    factors = [1.0, -2.0, 0.5, 3.0, -1.0, 0.25, 1.5, -0.5, 2.0]
    trees: list[Any] = []
    for leaves in LEAVES:
        rounded = [
            {name: leaf.astype(dtype).astype(float) for name, leaf in tree.items()}
            for tree in (large_tree(leaves, number) for number in range(TERMS[-1]))
        ]
        trees = [backend.from_host(tree, dtype=dtype) for tree in rounded]
        flat = [_flat(tree) for tree in rounded]
        of = f"of {leaves} leaves"
        for count in TERMS if leaves == LEAVES[0] else TERMS[:1]:
            terms = list(zip(factors[:count], trees[:count], strict=True))
            expected = sum(f * x for f, x in zip(factors, flat[:count], strict=False))
            got = backend.combine(*terms)
            found.append(agree(f"{count} terms {of} add up", got=got, expected=expected))
        inner = float(flat[0] @ flat[1])
        scale = float(np.linalg.norm(flat[0]) * np.linalg.norm(flat[1]))
        product = _numbers(backend, [backend.inner(trees[0], trees[1]), scale])
        found.append(
            agree(f"products {of} are summed", got=product, expected=np.array([inner, scale]))
        )
        for count in (1,) if leaves == LEAVES[1] else (TREES,):
            given = tuple(trees[:count])
            made, norms = backend.with_norms(lambda given=given: given)  # type: ignore[misc]  # bound early
            lengths = np.array([np.linalg.norm(x) for x in flat[:count]])
            name = f"norms of {count} trees {of}"
            found.append(agree(name, got=_numbers(backend, norms), expected=lengths))
            found.append(agree(f"trees of {name}", got=list(made), expected=rounded[:count]))
    units = coordinates(backend, basis(backend, {"a": trees[0]["06"], "b": trees[0]["00"]}))
    found.append(agree("basis of 86 coordinates", got=units, expected=np.eye(86)))
    return found


def _of_stacks(backend: Backend, dtype: str) -> list[Finding]:
    agree, found = partial(compare, backend=backend, dtype=dtype), list[Finding]()
    draw = np.random.default_rng(11).normal

    def each(entry: Any) -> Any:
        return {"square": entry["a"] ** 2, "sum": entry["a"].sum()}

    def body(carry: Any, entry: Any) -> tuple[Any, Any]:
        carry = 0.5 * carry + entry["a"]
        return carry, carry * 2.0

    for count in ENTRIES:
        host = draw(size=(count, 3)).astype(dtype)
        stack = {"a": backend.from_host(host)}
        expected = {"square": host.astype(float) ** 2, "sum": host.astype(float).sum(1)}
        got = backend.vmap(each)(stack)
        found.append(agree(f"vmap over {count}", got=got, expected=expected))
        start = backend.from_host(np.zeros(3, dtype))
        for reverse in (False, True):
            carry, outputs = np.zeros(3), []
            for row in host[::-1] if reverse else host:
                carry = 0.5 * carry + row
                outputs.append(2.0 * carry)
            stacked = np.stack(outputs[::-1] if reverse else outputs)
            run = backend.scan(body, start, stack, reverse=reverse)
            way = "backwards" if reverse else "forwards"
            found.append(agree(f"scan {way} over {count}", got=run, expected=(carry, stacked)))
        items = [{"a": row} for row in host]
        stacked = backend.from_host(backend.collect(items))
        found.append(agree(f"collect of {count}", got=stacked, expected={"a": host}))
        left = draw(size=(count, 5)).astype(dtype)
        product = left.T.astype(float) @ host.astype(float)
        got = backend.matmul(backend.from_host(left.T.copy()), stack["a"])
        found.append(agree(f"matmul along {count}", got=got, expected=product))
    return found
