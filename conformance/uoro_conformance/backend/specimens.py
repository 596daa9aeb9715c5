"""Example trees with every kind of node, and comparisons of two results."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from uoro.backend import Backend
from uoro_conformance.finding import UNIT, Finding, largest

ROUNDING = 1e2
"""Units of roundoff, relative to the size of the result, that count as rounding."""


class Pair(NamedTuple):
    """A named tuple, which a backend must return as one."""

    left: Any
    right: Any


def example_tree(seed: int = 0) -> Any:
    """Build a NumPy tree with every kind of node: dict, list, tuple, named tuple, empty ones."""
    draw = np.random.default_rng(seed).normal
    return {
        "pair": Pair(draw(size=(2, 3)), (draw(size=3), None)),
        "list": [draw(size=()), ()],
        "array": draw(size=(4,)),
    }


def example_stack(count: int) -> Any:
    """Build a NumPy stack of ``count`` example trees."""
    trees = [example_tree(seed) for seed in range(count)]
    return {
        "pair": Pair(
            np.stack([tree["pair"].left for tree in trees]),
            (np.stack([tree["pair"].right[0] for tree in trees]), None),
        ),
        "list": [np.stack([tree["list"][0] for tree in trees]), ()],
        "array": np.stack([tree["array"] for tree in trees]),
    }


def flatten(backend: Backend, tree: Any) -> Any:
    """Return all numbers of a tree as one float64 vector on the host."""
    leaves = [np.asarray(leaf) for _, leaf in backend.named_leaves(backend.to_host(tree))]
    return np.concatenate([leaf.reshape(-1) for leaf in leaves]).astype(np.float64)


def compare(law: str, backend: Backend, dtype: str, got: Any, expected: Any) -> Finding:
    """Compare two trees, or arrays, up to rounding."""
    one, two = flatten(backend, got), flatten(backend, backend.from_host(expected))
    allowed = ROUNDING * UNIT[dtype]
    if one.shape != two.shape:
        evidence = f"Expected {two.size} coordinates, got {one.size}."
        return Finding(law, "broken", math.inf, allowed, evidence)
    gap = largest([float(np.linalg.norm(one - two) / (np.linalg.norm(two) or 1.0))])
    evidence = f"Relative gap {gap:.3g} over {two.size} coordinates."
    return Finding(law, "holds" if gap <= allowed else "broken", gap, allowed, evidence)


def judge(law: str, holds: bool, evidence: str) -> Finding:
    """Return the finding of a law that is true or false, without a measured gap."""
    return Finding(law, "holds" if holds else "broken", math.nan, math.nan, evidence)


def mismatch(got: Any, expected: Any) -> str:
    """Describe where two trees differ in their nodes; an empty string if they do not."""
    if type(got) is not type(expected) and isinstance(expected, (dict, list, tuple, type(None))):
        return f"expected a {type(expected).__name__}, got a {type(got).__name__}"
    if isinstance(expected, dict):
        if set(got) != set(expected):
            return f"expected a dict with the keys {sorted(expected)}, got {sorted(got)}"
        return next(filter(None, (mismatch(got[key], expected[key]) for key in expected)), "")
    if isinstance(expected, (list, tuple)):
        if len(got) != len(expected):
            return f"expected {len(expected)} entries, got {len(got)}"
        return next(filter(None, map(mismatch, got, expected)), "")
    return ""
